"""What the daemon tells systemd of itself, and when: that it is ready, reloads, lives or stops, and a line for people.

Pure: ``daemon`` brings the clock and the samples, ``systemd`` sends the messages of sd_notify(3).
"""

from __future__ import annotations

from collections.abc import Callable

from exporter.sampling.sample import Sample
from exporter.tcpstate import TcpState

FIRST_SECONDS = 10.0
"""For the first count, after which its absence is worth a line."""

_STATUS_SECONDS = 60.0  # between two lines that differ in the numbers only


class ServiceNotifier:
    """The service as systemd sees it. *send* takes the lines of a message, and tells whether they arrived.

    *started* is monotonic seconds, as every time here. *watched*: systemd waits for signs of life.
    """

    def __init__(self, send: Callable[..., bool], started: float, *, watched: bool) -> None:
        self._send = send
        self._started = started
        self._watched = watched
        self._was_ready = self._owes_ready = False
        self._told = ""
        self._told_of = ""
        self._told_at = 0.0

    def look(self, sample: Sample | None, now: float, asking: str | None) -> None:
        """Tell what has changed, and that all is alive where it is. *asking* is what the counting pass waits for.

        Alive is a loop whose samples come, whatever is in them: where the kernel refuses to be counted, a restart
        mends nothing. Their age is measured by the interval in force, so a pass or a pause that the CPU share
        stretches is no reason to stop. A detail pass that hangs is none either: the counts are still true.
        """
        lines = []
        is_alive = sample is not None and not sample.is_stale(now)
        if sample is not None and is_alive and not self._was_ready:
            # Where no reader can count, that is so after a restart too, and the daemon serves everything else and says
            # what is wrong: it is not to be killed each TimeoutStartSec for that. Without any sample a read hangs:
            # then it is, just as the watchdog would do it later.
            self._was_ready = sample.snapshot.connections is not None or now - self._started > FIRST_SECONDS
            self._owes_ready = self._was_ready
        if self._owes_ready:
            lines.append("READY=1")
        if self._watched and self._was_ready and is_alive:
            lines.append("WATCHDOG=1")
        of, numbers = _status(sample, asking, is_alive=is_alive)
        status = of + numbers
        if of != self._told_of or (status != self._told and now - self._told_at >= _STATUS_SECONDS):
            lines.append(f"STATUS={status}")
        if lines and self._send(*lines):
            self._owes_ready = False
            if lines[-1].startswith("STATUS="):
                self._told_of, self._told, self._told_at = of, status, now

    def reloading(self, now: float) -> None:
        """The configuration is being read again; ``reloaded`` must follow, however that ends."""
        if self._was_ready:
            self._send("RELOADING=1", f"MONOTONIC_USEC={int(now * 1e6)}")

    def reloaded(self) -> None:
        """A configuration is in force, the new one or the one before it."""
        if self._was_ready:
            self._owes_ready = not self._send("READY=1")

    def stopping(self) -> None:
        """The process is about to end."""
        self._send("STOPPING=1", "STATUS=stopping")


def _status(sample: Sample | None, asking: str | None, *, is_alive: bool) -> tuple[str, str]:
    """A line for ``systemctl status``: what it is about, and the numbers in it."""
    waiting = f", waiting for {asking}" if asking else ""
    if sample is None:
        return f"no sample yet{waiting}", ""
    if not is_alive:
        return f"no sample in time{waiting}", ""
    connections = sample.snapshot.connections
    if connections is None:
        return "no reader can count the sockets", ""
    return f"counting by {connections.reader}", f", {connections.counts[TcpState.ESTABLISHED]} established"
