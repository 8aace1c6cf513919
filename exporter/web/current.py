"""What is true at the moment of a request: the daemon makes it, the endpoints and the page read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from exporter.advice.findings import Finding
from exporter.prometheus.families import View
from exporter.sampling.history import Points
from exporter.snapshot import Sample


class Advised(NamedTuple):
    """What the profile says of one sysctl, for a person."""

    recommended: str  # a value or a range; "" where any will do
    says: str  # what the live value comes to
    deviates: bool


class Current(NamedTuple):
    """What is true at the moment of a request."""

    sample: Sample | None
    view: View
    now: float  # monotonic seconds, the clock of ``Sample.counted_at``
    telemetry_path: str
    host: str = ""
    points: Points | None = None  # None: no point of the history is complete yet
    findings: Sequence[Finding] = ()  # the worst first
    advised: Mapping[str, Advised] = {}  # by sysctl
