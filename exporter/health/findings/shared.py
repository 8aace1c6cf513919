"""What several findings share: the numbers that they judge by, and who holds the sockets of a state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from exporter.health.finding import Limit
from exporter.health.sysctls.arithmetic import RTO_MAX
from exporter.health.window import Window
from exporter.snapshot import Listener, Snapshot
from exporter.tcpstate import StateCounts, TcpState

NORMAL_HALF_OPEN = Limit(
    15,
    "half-open connections of a listener",
    "a busy server has as many anyway: 300 handshakes a second with a round trip of 50 ms",
)

NEAR = Limit(0.8, "share of a limit", "a fifth of it is left: time to act before connections fail")

EVENTS = Limit(
    15,
    "SYNs that were dropped, or cookies that went out, between the oldest and the newest sample",
    "a queue's worth: fewer are stray SYNs, a port scan, or one client that was unlucky",
)
STEPS = Limit(3, "of the last minute's steps of 10 s that had drops", "a burst falls into one step or two")
FILLED = Limit(0.5, "share of a queue", "half of it is filled at the moment of the sample, so the trouble is not over")
_LATELY_SECONDS = 20.0  # two steps of the past that the daemon keeps: one of them has ended

NAMELESS = frozenset({"other", "none", "root", "gone", "outside"})
"""Labels of ports and units that name nobody."""


def rto_max(window: Window) -> float:
    """The longest retransmission timeout in seconds, which tcp_rto_max_ms sets since Linux 6.15."""
    milliseconds = window.sysctl("tcp_rto_max_ms")
    return RTO_MAX if milliseconds is None or milliseconds < 1000 else milliseconds / 1000


def lasting(window: Window, state: TcpState, least: int) -> str:
    """For how long at least *least* sockets have been in *state*, to be appended; nothing where it is not known."""
    seconds = window.held(state, least)
    return f", {least} or more for at least {seconds:.3g} s" if seconds else ""


def holders(snapshot: Snapshot, state: TcpState) -> Iterator[tuple[str, str, int]]:
    """The unit and the local port with the most sockets in *state*: kind, name and number, where there is any."""
    if snapshot.detail is None:
        return
    for kind, groups in (("unit", snapshot.detail.units), ("local port", snapshot.detail.ports)):
        name, number = most(groups or {}, state)
        if number:
            yield kind, name, number


def most(groups: Mapping[str, StateCounts], state: TcpState) -> tuple[str, int]:
    """The name with the most sockets in the state, and how many; ("", 0) where only nameless ones have any."""
    named = {name: counts[state] for name, counts in groups.items() if name not in NAMELESS}
    name = max(named, key=lambda it: named[it], default="")
    return name, named.get(name, 0)


def overflows(window: Window) -> int:
    """SYNs and final ACKs that were dropped because an accept queue was full; 0 where that is not known."""
    return window.rose("TcpExt.ListenOverflows")


def goes_on(window: Window, dropped: Callable[[Window], int], *, still: bool) -> bool:
    """Whether drops go on rather than being one burst: in several steps of the last minute, and lately.

    Where fewer steps are known they go on if all of them had drops and a queue is *still* filled: a command that ends
    knows one.
    """
    with_drops = sum(1 for it in window.stretches() if dropped(it))
    if len(window.past) < STEPS.value:
        return still and with_drops == len(window.past) > 0
    return with_drops >= STEPS.value and dropped(window.recent(_LATELY_SECONDS)) > 0


def dropped_segments(window: Window, drops: Mapping[str, int], listeners: Iterable[Listener]) -> Iterator[str]:
    """A sentence for each listener that is known to have dropped something; *drops* are those of the window."""
    for it in listeners:
        if number := drops.get(it.place):
            yield f"{it.place} itself dropped {number:,} segments {window.during}."


def slow_listeners(window: Window) -> tuple[Listener, ...]:
    """The listeners whose application does not accept in time, the fullest first.

    Those whose accept queue is full; while queues overflow, those too whose queue is filled at this moment.
    """
    least = FILLED.value if overflows(window) else 1.0
    slow = [it for it in window.listeners if it.fullest >= least]
    return tuple(sorted(slow, key=lambda it: (-it.fullest, -it.accept_queue)))
