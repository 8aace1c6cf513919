"""``show --watch``: the polling loop's samples on a terminal, drawn again with each, or a line of JSON for each.

A rim module: it has the terminal, its signals and the clock. ``frame`` decides what is drawn; the loop is the daemon's.
The loop's threads read the kernel, so a read that hangs stops neither the screen nor Ctrl-C.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NoReturn

from exporter.document import write as api
from exporter.errors import ExporterError
from exporter.sampling.loop import Loop
from exporter.sampling.sample import Sample
from exporter.terminal.frame import FrameContext, RecentCounts, Screen, frame, width
from exporter.terminal.table import Line, paint

_LOOK_SECONDS = 0.1  # at most, between two checks for a new sample
_AGAIN_SECONDS = 1.0  # between two frames without a new sample: its age is shown
_FIRST_SECONDS = 10.0  # for the first sample; its absence is reported after that
_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J"  # the other screen, no cursor, nothing wraps
_LEAVE = b"\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _TO_END_OF_LINE, _TO_END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_SIZE = (80, 24)  # of a terminal that does not know its own
_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_SIGNALS = {*_ENDING, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT}


class NullLog:
    """The loop's log here: the screen shows everything but bugs, and only those are kept."""

    def __init__(self) -> None:
        self.bug: str | None = None

    def info(self, event: str, **fields: object) -> None:
        """Nothing."""

    warning = error = info

    def exception(self, event: str, **_: object) -> None:
        """Keep the exception that is being handled."""
        error = sys.exception()
        self.bug = f"{event}: {type(error).__name__}: {error}"


def draw(loop: Loop, log: NullLog, host: str, *, color: bool) -> int:
    """Draw on the terminal at standard output until a key or a signal ends it; restore it and return 0.

    As with watch(1) and top(1), being ended is not a failure.
    """
    shown: Sample | None = None
    lately, drawn_at = RecentCounts(), 0.0
    with _Terminal(color=color) as terminal:
        loop.start()
        while True:
            sample, now = _latest(loop), time.monotonic()
            if sample is not None and _is_new(sample, shown):
                connections = sample.snapshot.connections
                lately.add(sample.counted_at, connections and connections.counts, _interval(sample))
            if (sample is not shown or now - drawn_at >= _AGAIN_SECONDS) and terminal.is_ready():
                when = "" if sample is None else _local(sample.snapshot.taken_at)
                moment = FrameContext(host, when, now, loop.asking, log.bug)
                screen = terminal.size()
                terminal.show(frame(sample, moment, lately.counts, screen), screen.columns)
                drawn_at = now
            shown = sample
            signals = terminal.wait(_look(sample))
            if signals & _ENDING:
                return 0
            if signal.SIGTSTP in signals:
                terminal.stop()
            elif signal.SIGCONT in signals:  # after a SIGSTOP, which cannot be caught
                terminal.enter()
            if signals:
                drawn_at = 0.0


def stream(
    loop: Loop,
    log: NullLog,
    write: Callable[[bytes], object],
    say: Callable[[str], object],
) -> NoReturn:
    """Write every sample as one line of JSON until a signal ends it, or the reader does (``BrokenPipeError``).

    Without a new sample, the last one is written again at its interval, as stale. A missing first sample and a bug are
    reported once each.
    """
    shown: Sample | None = None
    started = written_at = time.monotonic()
    said: str | None = None
    loop.start()
    while True:
        sample, now = _latest(loop), time.monotonic()
        if log.bug not in {None, said}:
            said = log.bug
            say(f"a bug of this program: {said}")
        elif sample is None and said is None and now - started >= _FIRST_SECONDS:
            said = f"no sample within {_FIRST_SECONDS:g} s, waiting for {loop.asking or 'the kernel'}"
            say(said)
        if sample is not None and (
            _is_new(sample, shown) or (sample.is_stale(now) and now - written_at >= _interval(sample))
        ):
            shown, written_at = sample, now
            write(api.encode_compact(api.sampled(sample, now)))
        time.sleep(_look(sample))


def _latest(loop: Loop) -> Sample | None:
    if not loop.is_alive:
        raise ExporterError("the polling loop has died: this is a bug")
    return loop.sample


def _is_new(sample: Sample, shown: Sample | None) -> bool:
    """Whether it was counted anew: after a failed pass the loop publishes the previous snapshot again."""
    return shown is None or shown.snapshot is not sample.snapshot


def _interval(sample: Sample) -> float:
    return sample.passes["light"].interval


def _look(sample: Sample | None) -> float:
    return _LOOK_SECONDS if sample is None else min(_LOOK_SECONDS, _interval(sample) / 4)


def _local(taken_at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(taken_at))


class _Terminal:
    """The terminal on standard output, and its keyboard where that is standard input; as it was after the ``with``.

    Signals are handled in ``wait`` only, so that no frame is ever half drawn.
    """

    def __init__(self, *, color: bool) -> None:
        self._color = color
        self._encoding = sys.stdout.encoding or "ascii"
        self._screen = sys.stdout.fileno()
        self._keyboard = 0 if os.isatty(0) else None
        self._modes = None if self._keyboard is None else termios.tcgetattr(self._keyboard)
        self._signals, self._signalled = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> _Terminal:
        signal.set_wakeup_fd(self._signalled, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, _nothing)
        self.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def enter(self) -> None:
        """Switch to the alternate screen, without cursor and without echo."""
        if self._keyboard is not None and self._modes is not None:
            modes = [*self._modes]
            modes[0] &= ~termios.IXON  # Ctrl-S would hold a frame back, and a signal would wait for it
            modes[3] &= ~(termios.ECHO | termios.ICANON)
            modes[6] = [*modes[6]]
            modes[6][termios.VMIN] = 0  # a read waits for nothing: Ctrl-C takes away what had been typed before it
            termios.tcsetattr(self._keyboard, termios.TCSANOW, modes)
        self._write(_ENTER)

    def _leave(self) -> None:
        with suppress(OSError, termios.error):  # the terminal may be gone, and then nothing can be restored
            self._write(_LEAVE)
            if self._keyboard is not None and self._modes is not None:
                termios.tcsetattr(self._keyboard, termios.TCSAFLUSH, self._modes)  # and discard what was typed

    def stop(self) -> None:
        """Restore the screen and stop, for Ctrl-Z; take the screen again when continued."""
        self._leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, _nothing)
        self.enter()

    def size(self) -> Screen:
        """The size and encoding of the terminal now."""
        columns, rows = os.get_terminal_size(self._screen)
        return Screen(columns or _SIZE[0], rows or _SIZE[1], self._encoding)

    def is_ready(self) -> bool:
        """Whether it accepts output: not while a reader has stopped reading."""
        return bool(select.select([], [self._screen], [], 0)[1])

    def show(self, lines: Sequence[Line], columns: int) -> None:
        """Draw over the last frame line by line, so that nothing flickers; then clear the rest."""
        drawn = "\r\n".join(self._over(line, columns) for line in lines)
        self._write(f"{_HOME}{drawn}{_TO_END_OF_SCREEN}".encode(self._encoding))

    def _over(self, line: Line, columns: int) -> str:
        """*line* over what stands there. Behind one as wide as the screen the cursor is still on its last column."""
        text = paint(line.text, line.status, color=self._color)
        return f"{_TO_END_OF_LINE}{text}" if width(line.text) >= columns else f"{text}{_TO_END_OF_LINE}"

    def wait(self, seconds: float) -> set[int]:
        """The signals that arrived within *seconds*; the key q counts as SIGINT."""
        sources = [self._signals] if self._keyboard is None else [self._signals, self._keyboard]
        ready = select.select(sources, [], [], seconds)[0]
        signals = set(os.read(self._signals, 4096)) if self._signals in ready else set()
        if self._keyboard in ready:
            keys = os.read(0, 4096)
            # Readable without data: the terminal is gone.
            gone = not keys and self._keyboard in select.select([self._keyboard], [], [], 0)[0]
            if gone or b"q" in keys:
                signals.add(signal.SIGINT)
        return signals

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._screen, data) :]


def _nothing(*_: object) -> None:
    """Handle a signal that ``wait`` reads from the pipe."""
