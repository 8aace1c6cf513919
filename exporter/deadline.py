"""A deadline for a whole command: the plugin's ``-t``, and the end of a command whose kernel hangs. A rim module."""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # signal turns each of its constants into an enum's member
import os

from exporter import system
from exporter.record import TYPE_CHECKING

if TYPE_CHECKING:
    from threading import Timer
    from types import FrameType

_timers: list[Timer] = []  # of Windows, which has no alarm; one at most


def arm(seconds: float, *, descriptor: int, text: str, code: int) -> None:
    """End the process with *code* and *text* to *descriptor* after *seconds*, whatever it is doing by then.

    From the signal handler itself: an exception raised there could be caught, or delayed by whatever is being read.
    Windows has no alarm, so a thread ends the process there.
    """
    if system.WINDOWS:
        from threading import Timer  # noqa: PLC0415 - the plugin does without where there is an alarm

        disarm()
        timer = Timer(seconds, finish, (descriptor, text, code))
        timer.daemon = True
        timer.start()
        _timers.append(timer)
        return

    def expire(_number: int, _frame: FrameType | None) -> None:
        finish(descriptor, text, code)

    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def disarm() -> None:
    """Lift the deadline."""
    if system.WINDOWS:
        while _timers:
            _timers.pop().cancel()
        return
    signal.setitimer(signal.ITIMER_REAL, 0)


def finish(descriptor: int, text: str, code: int) -> None:
    """Write *text* and end at once, with exit code 3 where nobody can have read it and *code* said something better."""
    try:
        os.write(descriptor, text.encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        code = max(code, 3)
    os._exit(code)
