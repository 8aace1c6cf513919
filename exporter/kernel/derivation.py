"""The walk without counting: ESTABLISHED and TIME_WAIT from the kernel's own counters.

The kernel keeps three sums that must agree with any listing of its sockets (net/ipv4/tcp.c, net/ipv4/proc.c)::

    inuse + inuse6  = every full socket: all states but TIME_WAIT, request sockets and FIN_WAIT2 mini-sockets
    tw              = TIME_WAIT + FIN_WAIT2 mini-sockets
    CurrEstab       = ESTABLISHED + CLOSE_WAIT, or ESTABLISHED alone

So a dump of the other nine states and the first two sums give ESTABLISHED and TIME_WAIT, and CurrEstab is the check.
Its meaning changed in Linux 6.10 ("tcp: count CLOSE-WAIT sockets for TCP_MIB_CURRESTAB"), a change that distributions
took into kernels as old as 5.10, so no release number tells the meaning: it is learned where only one of the two fits.
The sums are of another moment than the dump: where connections come and go by thousands a second, ESTABLISHED is off by
what was in CLOSE_WAIT meanwhile. So it is derived only where it is large and little happened, or very large.
``count`` decides which of the two every walk does, by dumps and readings that it is given; ``derive`` computes one
result, ``carried`` brings it up to date between two walks, ``compare`` holds a full dump against the sums, and ``Bias``
watches for drift.
"""

from __future__ import annotations

from exporter.kernel.inetdiag import COPIED_STATES, Tally, full_syn_recv, mini_fin_wait2, state_counts
from exporter.members import IntEnum
from exporter.record import TYPE_CHECKING, NamedTuple
from exporter.tcpstate import StateCounts, TcpState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Protocol, TypeVar

    class HasSockets(Protocol):
        """A dump that was taken."""

        @property
        def sockets(self) -> Tally:
            """Its tally."""

    class HasSums(Protocol):
        """A reading of the files that carry the sums."""

        @property
        def sums(self) -> Sums | None:
            """The sums; None where one of the files is missing or broken."""

    D = TypeVar("D", bound=HasSockets)
    R = TypeVar("R", bound=HasSums)

_TRIES = 2  # a socket that opens between two files of one reading looks like a contradiction: look again
_DRIFT_SAMPLES = 30  # that err to one side: churn alone would do so once in a billion

FEW = 1000
"""ESTABLISHED sockets that are always listed: that costs half a millisecond more than to derive them, and is exact."""

MANY = 10_000
"""ESTABLISHED sockets that are listed where the derived count is not ``close_enough``: about 10 ms."""

_TOLERATED, _TOLERATED_RATIO = 20, 0.01  # whichever is more

FULL_STATES = (
    TcpState.LISTEN,
    TcpState.SYN_SENT,
    TcpState.FIN_WAIT1,
    TcpState.FIN_WAIT2,
    TcpState.CLOSE_WAIT,
    TcpState.LAST_ACK,
    TcpState.CLOSING,
)
"""The states, beside ESTABLISHED and some of SYN_RECV, whose sockets are full ones and count in ``inuse``."""


class Meaning(IntEnum):
    """What CurrEstab counts: how many times the CLOSE_WAIT sockets are in it beside the ESTABLISHED ones."""

    ESTABLISHED = 0
    ESTABLISHED_AND_CLOSE_WAIT = 1


class Sums(NamedTuple):
    """The kernel's sums at one moment, and how much has happened so far."""

    established: int  # Tcp.CurrEstab
    inuse: int  # sockstat TCP inuse + sockstat6 TCP6 inuse
    tw: int  # sockstat TCP tw
    events: int  # connections opened so far, by either side, and attempts that failed

    def churn_since(self, before: Sums) -> int:
        """At most how many sockets changed a sum between two moments: opened, closed, or gone to TIME_WAIT."""
        opened = self.events - before.events
        closed = abs(opened - (self.established - before.established))
        return opened + closed + abs(self.inuse - before.inuse) + abs(self.tw - before.tw)

    def closed_since(self, before: Sums) -> int:
        """How many sockets CurrEstab has lost since, but for connections that were on their way at either moment."""
        return max(0, self.events - before.events - (self.established - before.established))


_EVENTS = ("Tcp.ActiveOpens", "Tcp.PassiveOpens", "Tcp.AttemptFails")


def sums(counters: Mapping[str, int], inuse: int, tw: int) -> Sums | None:
    """The sums from /proc/net/snmp and sockstat; CurrEstab is unsigned there and may be caught just below zero."""
    if not counters.keys() >= {"Tcp.CurrEstab", *_EVENTS}:
        return None
    established = counters["Tcp.CurrEstab"]
    events = sum(counters[name] for name in _EVENTS)
    return Sums(established - (1 << 64) if established >> 63 == 1 else established, inuse, tw, events)


class Bias:
    """Tells drift from churn: what churn makes the two sides differ by changes its sign, what drift does stays.

    A kernel whose counter has drifted by less than the churn of a busy host would never be caught by one sample.
    """

    def __init__(self, samples: int) -> None:
        self._enough = samples
        self._side = 0  # to which the last sample erred: -1, 1, or 0 for neither
        self._in_a_row = 0  # samples that erred to it

    def add(self, difference: int) -> None:
        """Take the signed difference of one sample."""
        side = (difference > 0) - (difference < 0)
        self._in_a_row = self._in_a_row + 1 if side == self._side else 1
        self._side = side

    @property
    def persists(self) -> bool:
        """Whether every one of the last samples erred to the same side."""
        return self._side != 0 and self._in_a_row >= self._enough


def states_to_dump(established: int) -> int:
    """The mask of the states to dump where about so many sockets are ESTABLISHED."""
    return COPIED_STATES | (established <= FEW) << TcpState.ESTABLISHED


class Derived(NamedTuple):
    """Counts by state, and how far CurrEstab is above what the dump, or ``inuse``, says of ESTABLISHED."""

    counts: StateCounts
    difference: int
    listed: bool = False  # whether ESTABLISHED was counted in the dump
    meaning: Meaning | None = None  # of CurrEstab, where only one fits


def derive(sockets: Tally, states: int, before: Sums, after: Sums, meaning: Meaning | None = None) -> Derived | None:
    """Counts by state from a dump of ``states_to_dump`` taken between two readings of the sums.

    *meaning* is what is known of CurrEstab. None where the sums contradict each other by more than what happened
    meanwhile explains: the kernel's counters cannot be trusted, and sockets must be counted.
    """
    counts = list(state_counts(sockets)[0])
    established, slack = counts[TcpState.ESTABLISHED], after.churn_since(before)
    listed = bool(states >> TcpState.ESTABLISHED & 1)
    if not listed:
        established = after.inuse - sum(counts[state] for state in FULL_STATES)
        established += mini_fin_wait2(sockets) - full_syn_recv(sockets)
    time_wait = after.tw - mini_fin_wait2(sockets)
    differences = _differences(after, established, counts[TcpState.CLOSE_WAIT])
    fitting = {
        one: difference
        for one, difference in differences.items()
        if meaning in {None, one} and abs(difference) <= slack
    }
    if not fitting or min(established, time_wait) < -slack:
        return None
    # Sockets that moved into one of the two states while the dump ran are in the sums already.
    counts[TcpState.ESTABLISHED] = max(established, 0)
    counts[TcpState.TIME_WAIT] = max(time_wait, 0)
    return Derived(tuple(counts), min(fitting.values(), key=abs), listed, _only(fitting))


def _differences(at: Sums, established: int, close_wait: int) -> dict[Meaning, int]:
    """How far CurrEstab is above the sockets, by what it means."""
    return {meaning: at.established - established - meaning * close_wait for meaning in Meaning}


def _only(fitting: Collection[Meaning]) -> Meaning | None:
    return next(iter(fitting)) if len(fitting) == 1 else None


class Carried(NamedTuple):
    """The counts of a walk at a later moment, and the states whose counts are of that moment."""

    counts: StateCounts
    fresh: tuple[TcpState, ...]


def carried(counts: StateCounts, at: Sums, now: Sums, meaning: Meaning | None) -> Carried:
    """The counts of a walk at whose end the sums were *at*, brought up to the moment of the sums *now*.

    ESTABLISHED moves with CurrEstab and TIME_WAIT with ``tw``, which is off by FIN_WAIT2 mini-sockets; the other states
    stay. ESTABLISHED stays too where CurrEstab may have CLOSE_WAIT in it, and more of those may have ended since than
    ``close_enough`` allows it to be off.
    """
    moved, fresh = list(counts), [TcpState.TIME_WAIT]
    moved[TcpState.TIME_WAIT] = max(0, moved[TcpState.TIME_WAIT] + now.tw - at.tw)
    established, ended = counts[TcpState.ESTABLISHED], min(counts[TcpState.CLOSE_WAIT], now.closed_since(at))
    if meaning is Meaning.ESTABLISHED or close_enough(established, ended):
        moved[TcpState.ESTABLISHED] = max(0, established + now.established - at.established)
        fresh.insert(0, TcpState.ESTABLISHED)
    return Carried(tuple(moved), tuple(fresh))


def close_enough(established: int, slack: int) -> bool:
    """Whether a derived count is off by 20 or 1 % at most where *slack* sockets may have changed meanwhile."""
    return slack <= max(_TOLERATED, established * _TOLERATED_RATIO)


def count(
    dump: Callable[[int], D],
    read: Callable[[], R],
    before: R,
    expected: int,
    meaning: Meaning | None = None,
    *,
    just_read: bool = True,
    most_listed: int = MANY,
) -> tuple[tuple[Derived, D] | None, R]:
    """Count by dumps of the states in a mask, each held against the sums that *read* returns before and after it.

    ESTABLISHED is listed where *expected* says that there are ``FEW``, and in a second dump where the first one cannot
    exclude it: what was expected may be a sum that has the CLOSE_WAIT sockets in it. It is also listed where a derived
    count is not ``close_enough`` and there may be *most_listed* or fewer. *meaning* is as for ``derive``. Where
    *before* was not *just_read*, too much may have happened since then, and the dump is taken again.

    Return the counts and their dump, None where the sums have to be distrusted, and the last reading.
    """
    states = states_to_dump(expected)
    tries = _TRIES
    while tries and before.sums is not None:
        taken, after = dump(states), read()
        derived = after.sums and derive(taken.sockets, states, before.sums, after.sums, meaning)
        if not (derived and after.sums):
            tries -= 1
        elif derived.listed:
            return (derived, taken), after
        else:
            established, slack = derived.counts[TcpState.ESTABLISHED], after.sums.churn_since(before.sums)
            close = close_enough(established, slack)
            if just_read or close:
                if established - slack > (FEW if close else most_listed):
                    return (derived, taken), after
                states = states_to_dump(FEW)
        before, just_read = after, True
    return None, before


class Comparison(NamedTuple):
    """The sums against a full dump: how far they are above it, and by how much churn explains."""

    established: int
    tw: int
    slack: int
    meaning: Meaning | None = None  # as in ``Derived``

    @property
    def agrees(self) -> bool:
        """Whether what happened meanwhile explains the differences."""
        return max(abs(self.established), abs(self.tw)) <= self.slack


def compare(sockets: Tally, before: Sums, after: Sums) -> Comparison:
    """Compare a dump of all states, taken between two readings of the sums, with what the sums say."""
    counts, slack = state_counts(sockets)[0], after.churn_since(before)
    differences = _differences(after, counts[TcpState.ESTABLISHED], counts[TcpState.CLOSE_WAIT])
    fitting = [one for one, difference in differences.items() if abs(difference) <= slack]
    tw = counts[TcpState.TIME_WAIT] + mini_fin_wait2(sockets)
    return Comparison(min(differences.values(), key=abs), after.tw - tw, slack, _only(fitting))


class Trust:
    """Whether the kernel's sums are derived from: what counting passes and verifications have seen of them.

    The counting pass asks and tells what it saw, the detail pass verifies; each of them writes fields of its own, and
    both write what they learned of CurrEstab.
    """

    def __init__(self, kernel_release: str) -> None:
        self._derivable = has_netns_tw(kernel_release)
        self._disproved = False  # a full dump contradicted the sums by more than churn explains
        self._drift = Bias(_DRIFT_SAMPLES)
        self.meaning: Meaning | None = None
        """What CurrEstab counts on this kernel; None until a sample could tell."""

    @property
    def holds(self) -> bool:
        """Whether to derive."""
        return self._derivable and not (self._disproved or self._drift.persists)

    def seen(self, difference: int, meaning: Meaning | None) -> None:
        """A counting pass: by how much CurrEstab was above the sockets, or ``inuse``, and by which of its meanings."""
        self._drift.add(difference)
        self._learn(meaning)

    def verified(self, comparison: Comparison) -> None:
        """A verification: the last word until the next one."""
        self._disproved = not comparison.agrees
        self._learn(comparison.meaning)

    def _learn(self, meaning: Meaning | None) -> None:
        if meaning is not None:
            self.meaning = meaning


def has_netns_tw(release: str) -> bool:
    """Whether sockstat's ``tw`` is that of the namespace: since Linux 4.11; before, it is the host's."""
    major, _, rest = release.partition(".")
    minor = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return bool(minor) and major.isascii() and major.isdigit() and (int(major), int(minor)) >= (4, 11)
