"""What is true at the moment of a request: the daemon makes it, the endpoints and the page read it."""

from __future__ import annotations

from typing import NamedTuple

from exporter.prometheus.families import View
from exporter.sampling.history import Points
from exporter.sampling.sample import Sample


class Current(NamedTuple):
    """What is true at the moment of a request."""

    sample: Sample | None
    view: View
    now: float  # monotonic seconds, the clock of ``Sample.counted_at``
    telemetry_path: str
    host: str = ""
    points: Points | None = None  # None: no point of the history is complete yet
