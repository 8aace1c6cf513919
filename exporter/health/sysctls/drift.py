"""``-s sysctl``: the sysctls that are not what the configuration expects, as a number to judge and lines to read."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.errors import UsageError
from exporter.health.sysctls.verdicts import Expectations, verdicts
from exporter.record import NamedTuple
from exporter.snapshot import Snapshot


class Drift(NamedTuple):
    """By sysctl what is not as expected; ``problem`` says why it is not known of all that could be read."""

    lines: Mapping[str, str]
    problem: str | None = None

    @property
    def value(self) -> int | None:
        """How many sysctls differ; None where one that could not be read may."""
        return len(self.lines) if self.problem is None else None


def drift_of(snapshot: Snapshot, expected: Expectations) -> Drift:
    """Hold the sysctls of *snapshot* against what is *expected*; one that does not exist here cannot differ."""
    if not expected:
        raise UsageError("-s sysctl: expected --config FILE with values in its sysctl.expected")
    found = [it for it in verdicts(snapshot.sysctls, expected, "") if it.expected and it.deviates]
    lines: dict[str, str] = {}
    for it in found:
        line = line_of(it.title, it.live, it.accepted)
        lines[it.name] = f"{lines[it.name]}; {line}" if it.name in lines else line
    missing = expected.keys() - snapshot.sysctls.keys()
    return Drift(lines, snapshot.sources.get("sysctl") if missing else None)


def line_of(title: str, live: int | str, accepted: str) -> str:
    """One difference, for a person."""
    return f"{title} is {live}, expected {accepted}"
