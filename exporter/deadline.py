"""A deadline for a whole command: the plugin's ``-t``, and the end of a command whose kernel hangs. A rim module."""

from __future__ import annotations

import os
import signal

from exporter.record import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


def arm(seconds: float, *, descriptor: int, text: str, code: int) -> None:
    """End the process with *code* and *text* to *descriptor* after *seconds*, whatever it is doing by then.

    From the signal handler itself: an exception raised there could be caught, or delayed by whatever is being read.
    """

    def expire(_signal: int, _frame: FrameType | None) -> None:
        finish(descriptor, text, code)

    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def disarm() -> None:
    """Lift the deadline."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def finish(descriptor: int, text: str, code: int) -> None:
    """Write *text* and end at once, with exit code 3 where nobody can have read it and *code* said something better."""
    try:
        os.write(descriptor, text.encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        code = max(code, 3)
    os._exit(code)
