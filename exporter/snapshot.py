"""The immutable snapshot: what ``kernel`` and ``sampling`` bring, ``health`` judges, and every way out renders.

A field that is None was not readable or does not exist here; an unknown value is never reported as 0. The field's
comment says where the number comes from and when it is absent.
"""

from __future__ import annotations

from exporter.record import TYPE_CHECKING, NamedTuple
from exporter.tcpstate import KNOWN_STATES, StateCounts, TcpState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from exporter.details import Closes, Conntrack, Detail, Drops


class Connections(NamedTuple):
    """The sockets of this network namespace, IPv4 and IPv6 together."""

    counts: StateCounts
    reader: str  # "netlink", "procfs" or "psutil": who counted
    derived: bool  # what is large of ESTABLISHED, and TIME_WAIT, are from the kernel's own counters
    unknown_states: tuple[str, ...] = ()  # the numbers or names behind counts[UNKNOWN], as the kernel wrote them
    unlisted: tuple[TcpState, ...] = ()  # the states that the reader cannot count here: their counts mean nothing
    # How many seconds before the snapshot the table was walked, 0 where that was one pass. The counts are as old,
    # without those that ``fresh`` names.
    walk_age: float = 0.0
    fresh: tuple[TcpState, ...] = ()  # states that a light pass has brought up to date since the walk
    queued: int | None = None  # in all accept queues when the table was walked; None: as ``Snapshot.listeners`` has it

    def of(self, state: TcpState) -> int | None:
        """The sockets in one state; None where the reader cannot count them."""
        return None if state in self.unlisted else self.counts[state]

    @property
    def older(self) -> str:
        """Which states are older than the snapshot and by how much, for a person; nothing where it was one pass.

        >>> from exporter.tcpstate import NO_SOCKETS
        >>> Connections(NO_SOCKETS, "netlink", derived=True, walk_age=8.2, fresh=(TcpState.LISTEN,)).older
        'all states but LISTEN 8 s before'
        """
        if not self.walk_age:
            return ""
        fresh = ", ".join(state.rfc9293 for state in self.fresh)
        return f"all states{f' but {fresh}' if fresh else ''} {self.walk_age:.0f} s before"

    def why_unlisted(self, *states: TcpState) -> str:
        """Why there is no count of these unlisted states."""
        named = ", ".join(state.rfc9293 for state in states)
        return f"{self.reader} lists sockets by process here, and not every one in {named} belongs to one"


class SysctlValue(NamedTuple):
    """A sysctl's value: numbers by field (``""`` for a scalar), or words. One of the two is empty or None.

    In words every character that cannot be printed is a question mark: they go into logs and onto terminals.
    """

    name: str
    fields: tuple[tuple[str, int], ...]
    text: str | None
    unit: str

    @property
    def shown(self) -> str:
        """The value as sysctl(8) prints it, for a person."""
        return self.text if self.text is not None else " ".join(str(number) for _, number in self.fields)


class Sockstat(NamedTuple):
    """The lines ``TCP:`` and ``TCP6:`` of /proc/net/sockstat and sockstat6 (net/ipv4/proc.c)."""

    inuse: int  # hashed full IPv4 sockets of this namespace: neither request sockets nor mini-sockets
    orphan: int  # host-wide: sockets that no process holds any more
    tw: int  # TIME_WAIT and FIN_WAIT2 mini-sockets of this namespace, IPv4 and IPv6
    alloc: int  # host-wide
    mem: int  # host-wide, pages
    inuse6: int | None = None  # as inuse, IPv6; None where the kernel has no IPv6


class Listener(NamedTuple):
    """The listening sockets that share one address, port and device: one, or several by SO_REUSEPORT, summed."""

    address: str  # "192.0.2.1", "0.0.0.0", "::"
    port: int
    sockets: int
    accept_queue: int  # connections that wait for accept(2) (inet_diag: idiag_rqueue)
    accept_limit: int  # listen(2)'s backlog as the kernel capped it (inet_diag: idiag_wqueue)
    syn_recv: int  # half-open connections to it
    fullest_queue: int  # accept queue of the socket that is fullest: the kernel drops by socket
    fullest_limit: int  # backlog of that socket
    device: str = ""  # the interface it is bound to (SO_BINDTODEVICE); "" for any
    # Segments that it dropped so far, stray ones too (inet_diag: SK_MEMINFO_DROPS); falls when it listens anew. None:
    # the kernel does not tell.
    dropped: int | None = None

    @property
    def fullest(self) -> float:
        """How full the fullest of the sockets is: a queue holds its limit and one more, and at 1 the kernel drops."""
        return self.fullest_queue / (self.fullest_limit + 1)

    @property
    def place(self) -> str:
        """Address, port and device as people write them."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}" + (f" on {self.device}" if self.device else "")


class Snapshot(NamedTuple):
    """One sample of the host's TCP."""

    taken_at: float  # Unix time in seconds, of the light pass: counters, sockstat, queues and drops of listeners
    connections: Connections | None  # None: no reader could count, or the last walk is too old
    counters: Mapping[str, int]  # "Tcp.CurrEstab", "TcpExt.ListenDrops": those that could be read
    sockstat: Sockstat | None  # None: /proc/net/sockstat not readable
    sysctls: Mapping[str, SysctlValue]  # by name; those that exist and could be read
    page_size: int  # bytes
    sources: Mapping[str, str | None]  # every source that was asked: None when read, else what went wrong
    listeners: tuple[Listener, ...] | None = None  # None: only netlink knows the limits
    detail: Detail | None = None  # None: no detail pass, or its last one is too old
    namespaces: Mapping[str, tuple[int | None, ...]] | None = None  # by name, as StateCounts; None: not asked for
    unmatched_half_open: int = 0  # half-open connections that match no listener (TPROXY, sk_lookup, one just closed)
    conntrack: Conntrack | None = None  # None: the host tracks no connections, it could not be read, or was not asked
    closes: Closes | None = None  # None: not asked for, or nothing was listened to yet
    drops: Drops | None = None  # None: there is no earlier sample to compare with, or the kernel does not count
    to_full: Mapping[str, int] | None = None
    """The seconds until each limit is full at the rate of the last hour, by resource ("conntrack"), where that is
    known; ``forecast.HORIZON`` where it does not rise. None: the sampler has no hour.
    """

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read, in the words of the source that failed."""
        return tuple(problem for problem in self.sources.values() if problem is not None)

    def scalar(self, sysctl: str) -> int | None:
        """The one number of a sysctl; None where it does not exist, could not be read, or has several."""
        value = self.sysctls.get(sysctl)
        return None if value is None else dict(value.fields).get("")

    @property
    def memory_limits(self) -> Mapping[str, int] | None:
        """``tcp_mem`` in bytes by level; None in a child network namespace, which has no such file."""
        value = self.sysctls.get("tcp_mem")
        return None if value is None else {field: pages * self.page_size for field, pages in value.fields}


def by_label(counts: StateCounts, unlisted: Collection[TcpState] = ()) -> dict[str, int]:
    """Counts under their labels: the eleven states but for the *unlisted*, ``unknown`` only where there is one."""
    labelled = {state.label: counts[state] for state in KNOWN_STATES if state not in unlisted}
    if counts[TcpState.UNKNOWN]:
        labelled[TcpState.UNKNOWN.label] = counts[TcpState.UNKNOWN]
    return labelled
