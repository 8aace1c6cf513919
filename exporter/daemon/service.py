"""When the daemon notifies systemd that it is ready, reloads, is alive or stops, and of its status line.

Pure: ``daemon`` brings the clock and the samples, ``systemd`` sends the messages of sd_notify(3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from exporter.sampling.sample import Sample
from exporter.tcpstate import TcpState

FIRST_SECONDS = 10.0
"""For the first count; its absence is logged after that."""

_STATUS_SECONDS = 60.0  # between two status lines that differ only in their numbers


class ServiceNotifier:
    """The service as systemd sees it. *send* takes the lines of a message and returns whether they arrived.

    *started* is in monotonic seconds, as every time here. *watched*: the unit has a watchdog.
    """

    def __init__(self, send: Callable[..., bool], started: float, *, watched: bool) -> None:
        self._send = send
        self._started = started
        self._watched = watched
        self._was_ready = self._owes_ready = False
        self._sent_status = ""
        self._sent_subject = ""
        self._sent_at = 0.0
        self._seen = ("", "")  # by the latest look: the subject of the status line, and its numbers
        self._rejected = ""  # its end while the configuration on the disk is not in force

    def observe(self, sample: Sample | None, now: float, asking: str | None) -> None:
        """Send what has changed, and a sign of life. *asking* is the source that the loop waits for.

        The loop is alive while samples arrive, whatever is in them: where the kernel refuses to count, a restart does
        not help. Staleness follows the interval in force, so an interval that the CPU share stretches is not a failure.
        Neither is a detail pass that hangs, because the counts are still true.
        """
        lines = []
        is_alive = sample is not None and not sample.is_stale(now)
        if sample is not None and is_alive and not self._was_ready:
            # Where no reader can count, a restart does not help, and the daemon serves everything else and reports what
            # is wrong: so it is ready after FIRST_SECONDS. Without any sample a read hangs: then TimeoutStartSec ends
            # it, as the watchdog would later.
            self._was_ready = sample.snapshot.connections is not None or now - self._started > FIRST_SECONDS
            self._owes_ready = self._was_ready
        if self._owes_ready:
            lines.append("READY=1")
        if self._watched and self._was_ready and is_alive:
            lines.append("WATCHDOG=1")
        self._seen = _status(sample, asking, is_alive=is_alive)
        subject, status = self._line()
        if subject != self._sent_subject or (status != self._sent_status and now - self._sent_at >= _STATUS_SECONDS):
            lines.append(f"STATUS={status}")
        if lines and self._send(*lines):
            self._owes_ready = False
            if lines[-1].startswith("STATUS="):
                self._sent_subject, self._sent_status, self._sent_at = subject, status, now

    def _line(self) -> tuple[str, str]:
        """What a new status line is due for at once, and the line."""
        of, numbers = self._seen
        return of + self._rejected, of + numbers + self._rejected

    def reloading(self, now: float) -> None:
        """Announce a reload; ``reloaded`` must follow, whether it succeeds or not."""
        if self._was_ready:
            self._send("RELOADING=1", f"MONOTONIC_USEC={int(now * 1e6)}")

    def reloaded(self, mistakes: Sequence[str] = ()) -> None:
        """Announce that the reload has ended, with the new configuration or, where it has *mistakes*, the previous one.

        They stay in the status line until a reload succeeds.
        """
        others = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
        self._rejected = f"; configuration rejected: {mistakes[0]}{others}" if mistakes else ""
        if not self._was_ready:
            return
        subject, status = self._line()
        lines = ("READY=1",) if subject == self._sent_subject else ("READY=1", f"STATUS={status}")
        if self._send(*lines):
            self._owes_ready, self._sent_subject = False, subject
        else:
            self._owes_ready = True

    def stopping(self) -> None:
        """Announce that the process ends."""
        self._send("STOPPING=1", "STATUS=stopping")


def _status(sample: Sample | None, asking: str | None, *, is_alive: bool) -> tuple[str, str]:
    """The line for ``systemctl status`` in two parts: its subject, and its numbers."""
    waiting = f", waiting for {asking}" if asking else ""
    if sample is None:
        return f"no sample yet{waiting}", ""
    if not is_alive:
        return f"no sample in time{waiting}", ""
    connections = sample.snapshot.connections
    if connections is None:
        return "no reader can count the sockets", ""
    return f"counting by {connections.reader}", f", {connections.counts[TcpState.ESTABLISHED]} established"
