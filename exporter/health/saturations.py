"""The saturations in words: what is used of which limit, and where. ``table`` and the status page show them.

The shares are those of ``measures``, on which thresholds are set; here are the two numbers behind each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from exporter.health import measures
from exporter.snapshot import Listener, Snapshot

_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class Saturation(NamedTuple):
    """One limit. ``limit`` and ``share`` are None where it cannot be told what the limit is."""

    measure: str
    title: str
    used: int
    limit: int | None
    share: float | None
    unit: str = ""  # "bytes", or "" for things that are counted
    place: str = ""  # the listener or the destination that it is about

    @property
    def used_text(self) -> str:
        """``used`` for a person."""
        return count_text(self.used, self.unit)

    @property
    def limit_text(self) -> str | None:
        """``limit`` for a person."""
        return None if self.limit is None else count_text(self.limit, self.unit)


def saturations(snapshot: Snapshot) -> Iterator[Saturation]:
    """The limits of which it is known how much is used, in the order of ``measures.RATIOS``."""

    def made(measure: str, title: str, used: int, limit: int | None, unit: str = "", place: str = "") -> Saturation:
        return Saturation(measure, title, used, limit, measures.value(snapshot, measure), unit, place)

    sockstat, listeners, detail = snapshot.sockstat, snapshot.listeners, snapshot.detail
    if sockstat is not None:
        memory = snapshot.memory_limits
        most = None if memory is None else memory.get("max")
        yield made("time_wait_ratio", "time-wait sockets", sockstat.tw, _scalar(snapshot, "tcp_max_tw_buckets"))
        yield made("orphans_ratio", "orphans (host)", sockstat.orphan, _scalar(snapshot, "tcp_max_orphans"))
        yield made("memory_ratio", "buffer memory (host)", sockstat.mem * snapshot.page_size, most, "bytes")
    if listeners:
        it = max(listeners, key=lambda it: it.fullest)
        yield made("accept_queue_ratio", "accept queue", it.accept_queue, it.accept_limit, place=name_of(it))
        it = max(listeners, key=lambda it: it.syn_recv / (it.accept_limit + it.sockets))
        yield made("syn_queue_ratio", "SYN queue", it.syn_recv, it.accept_limit + it.sockets, place=name_of(it))
    if detail is not None and detail.ephemeral_used is not None:
        used, available = detail.ephemeral_used, detail.ephemeral_available
        yield made("ephemeral_ports_ratio", "ephemeral ports", used, available, place=detail.ephemeral_towards)


def name_of(listener: Listener) -> str:
    """Address and port as people write them."""
    address = f"[{listener.address}]" if ":" in listener.address else listener.address
    return f"{address}:{listener.port}"


def count_text(number: int, unit: str = "") -> str:
    """A number for a person, bytes in the largest unit that leaves something before the point.

    >>> count_text(708608, "bytes"), count_text(12, "bytes"), count_text(708608)
    ('692.0 KiB', '12 B', '708608')
    """
    if unit != "bytes":
        return str(number)
    for size, name in _UNITS:
        if number >= size:
            return f"{number / size:.1f} {name}"
    return f"{number} B"


def _scalar(snapshot: Snapshot, sysctl: str) -> int | None:
    value = snapshot.sysctls.get(sysctl)
    return None if value is None else dict(value.fields).get("")
