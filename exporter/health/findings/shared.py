"""What several findings share: the numbers that they judge by, and who holds the sockets of a state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from exporter.health.finding import Limit
from exporter.health.window import Window
from exporter.snapshot import Snapshot, StateCounts
from exporter.tcpstate import TcpState

NORMAL_HALF_OPEN = Limit(
    15,
    "half-open connections of a listener",
    "a busy server has as many anyway: 300 handshakes a second with a round trip of 50 ms",
)

NEAR = Limit(0.8, "share of a limit", "a fifth of it is left: time to act before connections fail")

NAMELESS = frozenset({"other", "none", "root", "gone", "outside"})
"""Labels of ports and units that name nobody."""


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
