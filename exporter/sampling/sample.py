"""What the polling loop publishes: a snapshot with its health, and the loop's observations of itself.

Every way out takes a ``Sample``; the commands that sample once make one with ``Sample.single``.
"""

from __future__ import annotations

from collections.abc import Mapping

from exporter.health.judge import Health
from exporter.record import NamedTuple
from exporter.snapshot import Snapshot
from exporter.tcpstate import StateCounts


class Pass(NamedTuple):
    """What one kind of pass has cost: ``light``, ``walk`` or ``detail``."""

    duration: float  # seconds of wall time, the last one
    cpu: float  # seconds of CPU time, the last one
    interval: float  # seconds to the next: the configured interval, or longer where the CPU share asks for it
    total: int  # how many there have been
    configured: float  # seconds, the configured interval


class Sample(NamedTuple):
    """A snapshot, what it means, and what the loop knows of its age and cost."""

    snapshot: Snapshot
    health: Health
    peaks: StateCounts | None  # the highest of the peak window, by state; None while no reader can count
    counted_at: float  # monotonic seconds, of the light pass: what is older has its own age in the snapshot
    stale_after: float  # seconds after which the numbers are too old to be shown
    passes: Mapping[str, Pass]
    source_errors: Mapping[str, int]  # by source: samples that had to do without it
    overruns: int  # samples that ended after the next one was due

    @classmethod
    def single(cls, snapshot: Snapshot, health: Health) -> Sample:
        """A snapshot that no loop took: without peaks, and with nothing known of passes."""
        return cls(snapshot, health, None, 0.0, float("inf"), {}, {}, 0)

    def is_stale(self, now: float) -> bool:
        """Whether the numbers are too old at monotonic time *now* to be shown as current."""
        return now - self.counted_at > self.stale_after
