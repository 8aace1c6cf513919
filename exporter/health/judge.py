"""The advisor: findings and verdicts of one snapshot together, as the loop publishes them and a command prints them."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.health.findings import findings
from exporter.health.sysctls.verdicts import Verdict, verdicts
from exporter.record import TYPE_CHECKING
from exporter.snapshot import Advice, Snapshot

if TYPE_CHECKING:
    from exporter.health.sysctls.verdicts import Expectations


class Advisor:
    """Knows the kernel's *release*, and keeps its verdicts as long as neither sysctls nor expectations change."""

    def __init__(self, release: str) -> None:
        self._release = release
        self._judged: tuple[object, object] = (None, None)
        self._verdicts: tuple[Verdict, ...] = ()

    def advise(self, snapshot: Snapshot, past: Sequence[Snapshot], expected: Expectations) -> Advice:
        """What is to be said of *snapshot*; *past* are older ones, the oldest first."""
        sysctls, last = snapshot.sysctls, self._judged
        if last[0] is not sysctls or last[1] is not expected:
            self._judged = (sysctls, expected)
            self._verdicts = verdicts(sysctls, expected, self._release)
        return Advice(findings(snapshot, past), self._verdicts)
