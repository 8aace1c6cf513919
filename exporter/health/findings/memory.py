"""TCP's buffer memory against tcp_mem, of the whole host. Source: net/core/sock.c, __sk_mem_raise_allocated."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.details import Detail
from exporter.health.finding import Finding, Limit, Rule
from exporter.health.thresholds import Status
from exporter.health.window import CannotTell, NotHere, Window
from exporter.kernel.cgroup import GONE, NO_UNIT, OUTSIDE
from exporter.tcpstate import TcpState

_NOBODY = {"other", NO_UNIT, GONE, OUTSIDE}

_NEARLY_FULL = Limit(0.95, "share of the max of tcp_mem", "at the max the kernel refuses memory to sockets")


def _judge(window: Window) -> Finding | None:
    limits, sockstat = window.now.memory_limits, window.now.sockstat
    entered = window.rose("TcpExt.TCPMemoryPressures")
    if limits is None and not entered:
        problem = window.now.sources.get("sysctl")
        raise CannotTell(problem) if problem else NotHere("tcp_mem is not visible from this network namespace")
    if sockstat is None and not entered:
        raise CannotTell(window.now.sources.get("sockstat") or "sockstat was not read")
    evidence = []
    above = full = False
    if limits is not None and sockstat is not None and {"pressure", "max"} <= limits.keys():
        used = sockstat.mem * window.now.page_size
        above, full = used >= limits["pressure"] > 0, used >= limits["max"] * _NEARLY_FULL.value > 0
        if above or entered:
            sizes = (used / 2**20, limits["pressure"] / 2**20, limits["max"] / 2**20)
            text = "Buffers take {:,.0f} MiB; pressure begins at {:,.0f} MiB, and the maximum is {:,.0f} MiB."
            evidence.append(text.format(*sizes))
    holder = _holder(window.now.detail)
    if holder is not None and (above or entered):
        evidence.append(holder)
    if entered:
        evidence.append(f"TCP came under memory pressure {entered:,} times {window.during}.")
    if not above and not entered:
        return None
    return Finding(
        name=PRESSURE.name,
        severity=Status.CRITICAL if full else Status.WARNING,
        what="TCP is out of buffer memory" if full else "TCP is under memory pressure",
        evidence=tuple(evidence),
        why="Under pressure every window shrinks; at the maximum, segments are dropped and orphans are killed.",
        remedy="Find whose buffers they are: queues that nobody reads, or many connections with large buffers. Only "
        "where memory is to spare raise the limits in tcp_mem, which are pages.",
        command="tcp-exporter who --by-memory",
        risk="Memory that TCP takes is not available to applications, and cannot be swapped out.",
        states=(TcpState.ESTABLISHED, TcpState.CLOSE_WAIT),
    )


def _holder(detail: Detail | None) -> str | None:
    """The unit and the port that hold most of the sockets' memory; None where that is not known, or nobody has any."""
    memory = None if detail is None else detail.memory
    total = 0 if memory is None else sum(memory.ports.values())
    if memory is None or not total:
        return None
    most = filter(None, (_most(memory.units or {}, total, ""), _most(memory.ports, total, "port ")))
    held = " and ".join(most)
    return f"Sockets of this network namespace hold {total / 2**20:,.0f} MiB" + (f": {held}." if held else ".")


def _most(sizes: Mapping[str, int], total: int, what: str) -> str | None:
    """The largest of *sizes* that is somebody's, and its share."""
    named = {name: size for name, size in sizes.items() if size and name not in _NOBODY}
    if not named:
        return None
    name = max(named, key=lambda name: (named[name], name))
    return f"{named[name] / total * 100:.0f} % of it by {what}{name}"


PRESSURE = Rule(
    name="memory_pressure",
    subject="buffer memory",
    definition="TCP's buffers take more memory than the pressure mark of tcp_mem.",
    limits=(_NEARLY_FULL,),
    judge=_judge,
    measure="memory_ratio",
)
