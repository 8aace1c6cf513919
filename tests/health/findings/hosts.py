"""Snapshots of hosts as the findings see them, written down: what a test does not name is a host at rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate

from exporter.health.finding import Rule
from exporter.health.judge import judge_findings
from exporter.health.thresholds import Status
from exporter.health.window import Window
from exporter.kernel.sysctl import parse
from exporter.snapshot import Connections, Listener, Snapshot
from exporter.tcpstate import TcpState

SYSCTLS = {
    "tcp_syncookies": "1",
    "tcp_max_syn_backlog": "2048",
    "tcp_abort_on_overflow": "0",
    "net.core.somaxconn": "4096",
}

AT_REST = {
    "Tcp.PassiveOpens": 0,
    "TcpExt.ListenDrops": 0,
    "TcpExt.ListenOverflows": 0,
    "TcpExt.SyncookiesSent": 0,
    "TcpExt.SyncookiesRecv": 0,
    "TcpExt.TCPDeferAcceptDrop": 0,
    "TcpExt.TCPSynRetrans": 0,
}


def listener(port: int, **numbers: int | str) -> Listener:
    """A listener of one socket with backlog 64 whose queues are empty."""
    at_rest = Listener("192.0.2.1", port, sockets=1, accept_queue=0, accept_limit=64, syn_recv=0,
                       fullest_queue=0, fullest_limit=64)  # fmt: skip
    return at_rest._replace(**numbers)  # type: ignore[arg-type]  # the fields by name


def waiting(port: int, queue: int, limit: int = 64, **numbers: int | str) -> Listener:
    """A listener of one socket with so many connections in its accept queue."""
    return listener(
        port, accept_queue=queue, fullest_queue=queue, accept_limit=limit, fullest_limit=limit, **numbers
    )  # fmt: skip


def snapshot(
    at: float,
    counters: Mapping[str, int],
    listeners: Sequence[Listener] | None = (),
    sysctls: Mapping[str, str] | None = None,
    syn_recv: int = 0,
    unmatched: int = 0,
) -> Snapshot:
    """One sample at a moment; the counters that are not named stand at 0."""
    return Snapshot(
        taken_at=at,
        connections=Connections(
            tuple(syn_recv if state is TcpState.SYN_RECV else 0 for state in TcpState), "netlink", derived=False
        ),
        counters={**AT_REST, **counters},
        sockstat=None,
        sysctls={name: parse(name, text) for name, text in {**SYSCTLS, **(sysctls or {})}.items()},
        page_size=4096,
        sources={"snmp": None, "netstat": None, "sysctl": None},
        listeners=None if listeners is None else tuple(listeners),
        unmatched_half_open=unmatched,
    )


def two_looks(now: Snapshot, seconds: float = 2.0) -> Window:
    """What ``advise`` sees: before *now* one sample, of a host whose counters stood at 0, without listeners."""
    before = snapshot(now.taken_at - seconds, {})
    return Window(now, (before._replace(listeners=None, sysctls={}),))


def a_minute(now: Snapshot, steps: Sequence[Mapping[str, int]]) -> Window:
    """What the daemon sees: a sample every 10 s, between which the counters rose by *steps*; *now* has the sums."""
    sums: list[Mapping[str, int]] = list(accumulate(steps, lambda so_far, step: Counter(so_far) + Counter(step)))
    times = [now.taken_at - 10.0 * (len(steps) - number) for number in range(len(steps))]
    past = [snapshot(at, counters) for at, counters in zip(times, [{}, *sums[:-1]], strict=True)]
    return Window(now._replace(counters={**now.counters, **sums[-1]}), tuple(past))


def status(rule: Rule, window: Window) -> Status:
    """What the rule concludes."""
    judgements, _ = judge_findings(window, [rule])
    return judgements[0].status
