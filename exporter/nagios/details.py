"""The long text of ``-v``: what the judged measures mean, which sysctls bear on them, and how they were read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from exporter.health.sysctls.verdicts import Expectations, verdicts
from exporter.health.thresholds import Result, Status
from exporter.record import TYPE_CHECKING
from exporter.snapshot import Listener, Snapshot
from exporter.tcpstate import BY_LABEL

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
    "accept_queue_ratio": (
        "the fullest accept queue against its limit: at 1 the application is too slow and the kernel drops",
        ("net.core.somaxconn", "tcp_abort_on_overflow"),
    ),
    "syn_queue_ratio": (
        "half-open connections of a listener against its backlog: at 1 SYN cookies are sent, or SYNs dropped",
        ("tcp_syncookies", "net.core.somaxconn", "tcp_synack_retries", "tcp_max_syn_backlog"),
    ),
    "ephemeral_ports_ratio": (
        "local ports taken towards one destination against those there are: at 1 connect() fails",
        ("net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports", "tcp_tw_reuse"),
    ),
    "sysctl": ("sysctls that are not what sysctl.expected of the configuration says", ()),
    "memory_ratio": ("buffer memory against the last field of tcp_mem: at 1 sending fails", ("tcp_mem",)),
}


def explain(results: Sequence[Result], snapshot: Snapshot, expected: Expectations, release: str) -> Iterator[str]:
    """Two lines for each measure that alerts, or for all of them where none does; a sysctl with what it should be."""
    should_be = {
        verdict.name: f"{'expected' if verdict.expected else 'recommended'} {verdict.accepted}"
        for verdict in verdicts(snapshot.sysctls, expected, release)
        if verdict.deviates
    }
    alerting = [result for result in results if result.status in {Status.WARNING, Status.CRITICAL}]
    for result in alerting or results:
        state = BY_LABEL.get(result.measure)
        meaning, names = (state.meaning, state.sysctls) if state else _MEANINGS[result.measure]
        title = f"{result.measure} ({state.rfc9293})" if state else result.measure
        yield f"{title}: {meaning}"
        values = [
            _assignment(snapshot.sysctls[name]) + (f" ({should_be[name]})" if name in should_be else "")
            for name in names
            if name in snapshot.sysctls
        ]
        if values:
            yield f"sysctls of {result.measure}: {', '.join(values)}"
        yield from _culprit(result.measure, snapshot)


def _culprit(measure: str, snapshot: Snapshot) -> Iterator[str]:
    """Where a saturation is: the fullest listener, the busiest destination."""
    listeners = snapshot.listeners or ()
    if measure == "accept_queue_ratio" and listeners:
        fullest = max(listeners, key=lambda it: it.fullest)
        yield f"fullest: {_place(fullest)}, {fullest.accept_queue} waiting, limit {fullest.accept_limit}"
    elif measure == "syn_queue_ratio" and listeners:
        fullest = max(listeners, key=lambda it: it.syn_recv / (it.accept_limit + it.sockets))
        yield f"fullest: {_place(fullest)}, {fullest.syn_recv} half open, backlog {fullest.accept_limit}"
    elif measure == "ephemeral_ports_ratio" and snapshot.detail is not None and snapshot.detail.ephemeral_towards:
        detail = snapshot.detail
        yield f"busiest: {detail.ephemeral_towards}, {detail.ephemeral_used} of {detail.ephemeral_available} ports"


def _place(listener: Listener) -> str:
    address = f"[{listener.address}]" if ":" in listener.address else listener.address
    shared = f" ({listener.sockets} sockets)" if listener.sockets > 1 else ""
    return f"{address}:{listener.port}{shared}"


def provenance(snapshot: Snapshot) -> Iterator[str]:
    """How the sample was read, and what could not be."""
    if snapshot.connections is not None:
        how = (
            "TIME-WAIT, and ESTABLISHED above 1,000, from the kernel's counters"
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
