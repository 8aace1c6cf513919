"""The long text of ``-v``: what the judged measures mean, which sysctls bear on them, and how they were read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from exporter.record import TYPE_CHECKING
from exporter.snapshot import Snapshot
from exporter.tcpstate import BY_LABEL
from exporter.thresholds import Result, Status

if TYPE_CHECKING:
    from exporter.kernel.sysctl import Value

_MEANINGS = {
    "total": ("all sockets, whatever their state", ()),
    "time_wait_ratio": (
        "mini-sockets against tcp_max_tw_buckets: at 1 connections skip TIME-WAIT",
        ("tcp_max_tw_buckets",),
    ),
    "orphans_ratio": (
        "sockets without a process against tcp_max_orphans: near 1 they are killed",
        ("tcp_max_orphans",),
    ),
    "memory_ratio": ("buffer memory against the last field of tcp_mem: at 1 sending fails", ("tcp_mem",)),
}


def explain(results: Sequence[Result], snapshot: Snapshot) -> Iterator[str]:
    """Two lines for each measure that alerts, or for all of them where none does."""
    alerting = [result for result in results if result.status in {Status.WARNING, Status.CRITICAL}]
    for result in alerting or results:
        state = BY_LABEL.get(result.measure)
        meaning, names = (state.meaning, state.sysctls) if state else _MEANINGS[result.measure]
        title = f"{result.measure} ({state.rfc9293})" if state else result.measure
        yield f"{title}: {meaning}"
        values = [_assignment(snapshot.sysctls[name]) for name in names if name in snapshot.sysctls]
        if values:
            yield f"sysctls of {result.measure}: {', '.join(values)}"


def provenance(snapshot: Snapshot) -> Iterator[str]:
    """How the sample was read, and what could not be."""
    if snapshot.connections is not None:
        how = (
            "ESTABLISHED and TIME-WAIT from the kernel's counters"
            if snapshot.connections.derived
            else "every socket counted"
        )
        yield f"read by {snapshot.connections.reader}: {how}"
    yield from problems(snapshot)


def problems(snapshot: Snapshot) -> Iterable[str]:
    """What could not be read, in the words of whoever failed."""
    return [problem for problem in snapshot.sources.values() if problem is not None]


def _assignment(value: Value) -> str:
    if value.text is not None:
        return f"{value.name}={value.text}"
    return f"{value.name}={' '.join(str(number) for _, number in value.fields)}"
