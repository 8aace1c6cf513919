"""The long text of ``-v``: what the judged measures mean, which sysctls bear on them, and how they were read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from exporter.health import keepalive
from exporter.health.measures import BY_NAME, Measure
from exporter.health.sysctls.verdicts import Expectations, verdicts
from exporter.health.thresholds import Result
from exporter.kernel.derivation import FEW
from exporter.record import TYPE_CHECKING
from exporter.snapshot import Snapshot
from exporter.tcpstate import BY_LABEL, TcpState

if TYPE_CHECKING:
    from exporter.snapshot import SysctlValue


def explain(results: Sequence[Result], snapshot: Snapshot, expected: Expectations, release: str) -> Iterator[str]:
    """Two lines for each measure of *results*; a sysctl with what it should be."""
    should_be = {
        verdict.name: f"{'expected' if verdict.expected else 'recommended'} {verdict.accepted}"
        for verdict in verdicts(snapshot.sysctls, expected, release)
        if verdict.deviates
    }
    for result in results:
        if result.measure not in BY_NAME:  # sysctl: its lines say it all
            continue
        measure = BY_NAME[result.measure]
        title = f"{measure.name} ({measure.title})" if measure.name in BY_LABEL else measure.name
        yield f"{title}: {measure.definition}"
        values = [
            _assignment(snapshot.sysctls[name]) + (f" ({should_be[name]})" if name in should_be else "")
            for name in measure.sysctls
            if name in snapshot.sysctls
        ]
        if values:
            yield f"sysctls of {result.measure}: {', '.join(values)}"
        if result.measure == TcpState.ESTABLISHED.label and (clause := keepalive.unprotected(snapshot)):
            yield clause
        yield from _where(measure, snapshot)


def _where(measure: Measure, snapshot: Snapshot) -> Iterator[str]:
    """Where a ratio is highest: the fullest listener, the busiest destination."""
    reading = measure.read(snapshot)
    if reading is not None and reading.place:
        of = "" if reading.limit is None else f" of {reading.limit}"
        yield f"{measure.title} of {reading.place}: {reading.used}{of}"


def provenance(snapshot: Snapshot) -> Iterator[str]:
    """How the sample was read, and what could not be."""
    if snapshot.connections is not None:
        how = (
            f"TIME-WAIT, and ESTABLISHED above {FEW:,} while few change, from the kernel's counters"
            if snapshot.connections.derived
            else "every socket of every process counted"
            if snapshot.connections.unlisted
            else "every socket counted"
        )
        yield f"read by {snapshot.connections.reader}: {how}"
        if snapshot.connections.unlisted:
            yield f"not counted: {snapshot.connections.why_unlisted(*snapshot.connections.unlisted)}"
    yield from snapshot.problems


def _assignment(value: SysctlValue) -> str:
    return f"{value.name}={value.shown}"
