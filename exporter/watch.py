"""``show --watch``: the polling loop's samples on a terminal, drawn again with each, or a line of JSON for each.

A rim module: it has the terminal, its signals and the clock. What is drawn is ``table``'s; the loop is the daemon's.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import NoReturn

from exporter import table
from exporter.errors import UsageError
from exporter.sampling.loop import Loop
from exporter.snapshot import Advice, Sample, StateCounts
from exporter.thresholds import Threshold
from exporter.web import api

_LOOK_SECONDS = 0.1  # between two looks for a new sample
_STALE_LOOK_SECONDS = 1.0  # between two frames when no sample comes: its age is shown
_STOP_SECONDS = 2.0  # for the sample in progress at the end
_KEPT = 240  # samples for the sparklines: wider than they are drawn
_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J"  # the other screen, no cursor, nothing wraps
_LEAVE = b"\x1b[?7h\x1b[?25h\x1b[?1049l"
_COLORED = re.compile(r"(\x1b\[[0-9;]+m)(.*)(\x1b\[0m)")
_SIGNALS = {signal.SIGWINCH, signal.SIGTSTP}  # waited for; the others end the process as they do anywhere


class SilentLog:
    """What the loop would log stands on the screen."""

    def info(self, event: str, **fields: object) -> None:
        """Nothing."""

    warning = exception = info


def draw(loop: Loop, thresholds: Mapping[str, Threshold], host: str, *, color: bool) -> NoReturn:
    """Draw until a signal ends it, and leave the terminal as it was. Raises ``UsageError`` where there is none."""
    if not sys.stdout.isatty():
        raise UsageError("show --watch: standard output is no terminal; with --json it is a line for each sample")
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    screen, past = sys.stdout.fileno(), deque[StateCounts | None](maxlen=_KEPT)
    loop.start()
    try:
        _write(screen, _ENTER)
        shown, drawn_at = None, 0.0
        while True:
            sample, now = loop.sample, time.monotonic()
            if sample is not None and sample is not shown:
                connections = sample.snapshot.connections
                if shown is None or shown.snapshot is not sample.snapshot:
                    past.append(None if connections is None else connections.counts)
            if sample is not shown or now - drawn_at >= _STALE_LOOK_SECONDS:
                if sample is shown and sample is not None and sample.is_stale(now):
                    past.append(None)
                shown, drawn_at = sample, now
                _write(screen, _frame(_lines(loop, sample, thresholds, host, past, now, color=color)))
            received = signal.sigtimedwait(_SIGNALS, _LOOK_SECONDS)
            if received is not None:
                drawn_at = 0.0
                if received.si_signo == signal.SIGTSTP:
                    _write(screen, _LEAVE)
                    os.kill(os.getpid(), signal.SIGSTOP)  # and on from here when it is continued
                    _write(screen, _ENTER)
    finally:
        _write(screen, _LEAVE)
        loop.stop(_STOP_SECONDS)


def stream(loop: Loop, thresholds: Mapping[str, Threshold], write: Callable[[bytes], object]) -> NoReturn:
    """Write every sample as one line of JSON until a signal ends it, or the reader does (``BrokenPipeError``)."""
    loop.start()
    try:
        shown = None
        while True:
            sample = loop.sample
            if sample is not None and (shown is None or shown.snapshot is not sample.snapshot):
                shown = sample
                write(api.encode_compact(api.sampled(sample, thresholds, time.monotonic())))
            time.sleep(_LOOK_SECONDS)
    finally:
        loop.stop(_STOP_SECONDS)


def _lines(
    loop: Loop,
    sample: Sample | None,
    thresholds: Mapping[str, Threshold],
    host: str,
    past: deque[StateCounts | None],
    now: float,
    *,
    color: bool,
) -> Iterator[str]:
    """The table cut to the terminal; of a sample that is too old only that."""
    columns, rows = os.get_terminal_size(sys.stdout.fileno())
    if sample is None or sample.is_stale(now):
        age = "There is no sample yet" if sample is None else f"The last sample is {now - sample.counted_at:.0f} s old"
        waiting = f", waiting for {loop.asking}" if loop.asking else ""
        lines = [f"TCP on {host}", "", f"{age}{waiting}."]
    else:
        when = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(sample.snapshot.taken_at))
        trend = table.Trend(tuple(past), max(10, min(_KEPT, columns - table.WIDTH)))
        advice = sample.advice or Advice((), ())
        text = table.render(sample.snapshot, thresholds, advice, host, when, color=color, trend=trend)
        lines = text.splitlines()
    if len(lines) > rows:
        lines = [*lines[: rows - 1], f"... {len(lines) - rows + 1} more lines, for a higher terminal"]
    return (_cut(line, columns) for line in lines)


def _cut(line: str, columns: int) -> str:
    r"""A line that fits; a colour around it is no part of its width.

    >>> _cut("\x1b[33mESTABLISHED\x1b[0m", 4), _cut("LISTEN", 40)
    ('\x1b[33mESTA\x1b[0m', 'LISTEN')
    """
    found = _COLORED.fullmatch(line)
    return f"{found[1]}{found[2][:columns]}{found[3]}" if found else line[:columns]


def _frame(lines: Iterator[str]) -> bytes:
    """Over what is there, line by line, so that nothing flickers; then the rest of the screen is cleared."""
    encoding = sys.stdout.encoding or "ascii"
    return b"\x1b[H" + b"\x1b[K\r\n".join(line.encode(encoding, "replace") for line in lines) + b"\x1b[K\x1b[J"


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _end(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
