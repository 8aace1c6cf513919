"""Connection tracking near its limit. Source: net/netfilter/nf_conntrack_core.c, __nf_conntrack_alloc and confirm."""

from __future__ import annotations

from exporter.details import Conntrack
from exporter.health import measures
from exporter.health.finding import Finding, Limit, Rule
from exporter.health.findings.shared import NEAR
from exporter.health.thresholds import Status
from exporter.health.window import NEEDS_TWO, CannotTell, NotHere, Window
from exporter.tcpstate import TcpState

_FULL = Limit(0.95, "share of nf_conntrack_max", "the next burst of connections does not fit")
_LOST = Limit(10, "drops, or entries that could not be added", "two packets of one new connection may race")


def _judge(window: Window) -> Finding | None:
    tracked = window.now.conntrack
    if tracked is None:
        problem = window.now.sources.get("conntrack")
        raise CannotTell(problem) if problem is not None else NotHere("this host tracks no connections")
    reading = measures.BY_NAME["conntrack_ratio"].read(window.now)
    share = 0.0 if reading is None or reading.share is None else reading.share
    drops, failed = _rise(window, "drops"), _rise(window, "insert_failed")
    near, losing = share >= NEAR.value, (drops or 0) + (failed or 0) >= _LOST.value
    if not (near or losing):
        if not window.seconds and {tracked.drops, tracked.insert_failed} != {None}:
            raise CannotTell(NEEDS_TWO)
        return None
    evidence = [f"{tracked.entries:,} connections are tracked, of nf_conntrack_max = {tracked.limit:,}: {share:.0%}."]
    if drops:
        evidence.append(f"{drops:,} packets were dropped {window.during} because they could not be tracked.")
    if failed:
        evidence.append(f"{failed:,} connections could not be added {window.during}.")
    evidence += _timeouts(window, tracked)
    return Finding(
        name=NEAR_LIMIT.name,
        severity=Status.CRITICAL if share >= _FULL.value or losing else Status.WARNING,
        what="Connection tracking loses new connections" if losing else "Connection tracking is near its limit",
        evidence=tuple(evidence),
        why="The first packet of a connection that cannot be tracked is dropped: clients send SYNs again and time out, "
        "while established connections go on.",
        remedy=_remedy(near=near),
        command=f"sysctl -w net.netfilter.nf_conntrack_max={2 * tracked.limit}" if near else "conntrack -S",
        risk=f"About 320 bytes for each entry: {2 * tracked.limit * 320 / 2**20:.0f} MiB when full; raise "
        "nf_conntrack_buckets with it, or look-ups get slower. A shorter timeout forgets connections that are idle "
        "for longer than their keepalive."
        if near
        else "None: the command only reads.",
        states=(TcpState.SYN_SENT, TcpState.SYN_RECV, TcpState.TIME_WAIT),
    )


def _rise(window: Window, field: str) -> int | None:
    """By how much a counter of the table rose; None where that is not known."""
    if not window.past:
        return None
    before, after = window.past[0].conntrack, window.now.conntrack
    values = [None if it is None else it._asdict()[field] for it in (before, after)]
    if values[0] is None or values[1] is None or values[1] < values[0]:
        return None
    return int(values[1] - values[0])


def _timeouts(window: Window, tracked: Conntrack) -> list[str]:
    """How long an idle connection is tracked, beside when keepalive would show that it is alive."""
    idle, keepalive = tracked.established_timeout, window.sysctl("tcp_keepalive_time")
    if idle is None:
        return []
    sentence = f"An idle connection stays tracked for {idle:,} s (nf_conntrack_tcp_timeout_established)"
    if keepalive is None:
        return [f"{sentence}."]
    if keepalive >= idle:
        return [f"{sentence}, and the first keepalive probe comes after {keepalive:,} s: too late, the entry is gone."]
    return [f"{sentence}, although keepalive shows after {keepalive:,} s whether it is alive (tcp_keepalive_time)."]


def _remedy(*, near: bool) -> str:
    if not near:
        return (
            "The table has room, so look for what else loses entries: ports that NAT has run out of towards one "
            "destination, or packets of one connection that race each other."
        )
    return (
        "Raise nf_conntrack_max, and let entries go sooner: nf_conntrack_tcp_timeout_established may be a little more "
        "than tcp_keepalive_time, for connections that use keepalive. Exempt traffic that needs neither NAT nor state "
        "by a notrack rule."
    )


NEAR_LIMIT = Rule(
    name="conntrack_near_limit",
    subject="connection tracking",
    definition="The table of tracked connections is near nf_conntrack_max, or loses new ones.",
    limits=(NEAR, _FULL, _LOST),
    judge=_judge,
    measure="conntrack_ratio",
)
