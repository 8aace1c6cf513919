"""Measures: the named numbers of a snapshot that a threshold can be set on.

``thresholds`` knows what a range is, this module knows which number a name means; the plugin, ``tcp_threshold`` and
``tcp_status`` share both.
"""

from __future__ import annotations

from collections.abc import Iterable

from exporter.snapshot import Snapshot
from exporter.tcpstate import BY_LABEL

STATES = tuple(BY_LABEL)
"""The measures that are states, in the kernel's order."""

RATIOS = (
    "time_wait_ratio", "orphans_ratio", "memory_ratio",
    "accept_queue_ratio", "syn_queue_ratio", "ephemeral_ports_ratio",
)  # fmt: skip
"""The measures that are saturations: 0 to 1, and in bad moments a little more."""

MEASURES = (*STATES, "total", *RATIOS)
"""Every measure, in the order in which they are shown."""


def read(snapshot: Snapshot, measures: Iterable[str]) -> dict[str, float | None]:
    """The values of *measures*; None for one that this host, at this moment, cannot tell."""
    return {measure: value(snapshot, measure) for measure in measures}


def value(snapshot: Snapshot, measure: str) -> float | None:
    """The value of one measure, or None where it is not known. Raises ``KeyError`` for a name that is no measure."""
    if measure in BY_LABEL:
        return None if snapshot.connections is None else snapshot.connections.counts[BY_LABEL[measure]]
    if measure == "total":
        return None if snapshot.connections is None else sum(snapshot.connections.counts)
    return _RATIOS[measure](snapshot)


def _time_wait(snapshot: Snapshot) -> float | None:
    """Mini-sockets against tcp_max_tw_buckets, as the kernel itself compares them (net/ipv4/inet_timewait_sock.c)."""
    return _ratio(snapshot.sockstat and snapshot.sockstat.tw, _scalar(snapshot, "tcp_max_tw_buckets"))


def _orphans(snapshot: Snapshot) -> float | None:
    """Orphans against tcp_max_orphans, both host-wide (net/ipv4/tcp.c: tcp_too_many_orphans)."""
    return _ratio(snapshot.sockstat and snapshot.sockstat.orphan, _scalar(snapshot, "tcp_max_orphans"))


def _memory(snapshot: Snapshot) -> float | None:
    """TCP buffer memory against the last field of tcp_mem, both host-wide, in bytes."""
    limits = snapshot.memory_limits
    used = None if snapshot.sockstat is None else snapshot.sockstat.mem * snapshot.page_size
    return _ratio(used, None if limits is None else limits.get("max"))


def _accept_queue(snapshot: Snapshot) -> float | None:
    """The fullest accept queue against its limit + 1, at which the kernel drops; 0 where nobody listens."""
    if snapshot.listeners is None:
        return None
    return max((listener.fullest for listener in snapshot.listeners), default=0.0)


def _syn_queue(snapshot: Snapshot) -> float | None:
    """The most half-open connections of a listener against its backlog + 1; of several sockets, against their sum."""
    if snapshot.listeners is None:
        return None
    return max((it.syn_recv / (it.accept_limit + it.sockets) for it in snapshot.listeners), default=0.0)


def _ephemeral_ports(snapshot: Snapshot) -> float | None:
    """Local ports taken towards the busiest destination against those that connect() may pick from."""
    detail = snapshot.detail
    return None if detail is None else _ratio(detail.ephemeral_used, detail.ephemeral_available)


_RATIOS = {
    "time_wait_ratio": _time_wait,
    "orphans_ratio": _orphans,
    "memory_ratio": _memory,
    "accept_queue_ratio": _accept_queue,
    "syn_queue_ratio": _syn_queue,
    "ephemeral_ports_ratio": _ephemeral_ports,
}


def _scalar(snapshot: Snapshot, sysctl: str) -> int | None:
    found = snapshot.sysctls.get(sysctl)
    return None if found is None else dict(found.fields).get("")


def _ratio(used: int | None, limit: int | None) -> float | None:
    """A limit of 0 or less means none or nothing at all (the kernel takes -1): no ratio can be told."""
    return None if used is None or limit is None or limit <= 0 else used / limit
