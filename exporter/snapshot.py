"""The immutable sample: what ``sampling`` publishes and what ``prometheus``, ``nagios`` and ``web`` render.

A field that is None was not readable or does not exist here; it is never 0 for want of a better answer. The field's
comment says where the number comes from and when it is absent.
"""

from __future__ import annotations

from collections.abc import Mapping

from exporter.record import TYPE_CHECKING, NamedTuple
from exporter.tcpstate import KNOWN_STATES, TcpState

if TYPE_CHECKING:
    from exporter.health.findings import Finding
    from exporter.health.sysctls.verdicts import Verdict
    from exporter.kernel.sysctl import Value

StateCounts = tuple[int, ...]
"""Sockets by ``TcpState``: twelve numbers, indexed by the state, ``UNKNOWN`` first."""

NO_SOCKETS: StateCounts = (0,) * len(TcpState)


class Connections(NamedTuple):
    """The sockets of this network namespace, IPv4 and IPv6 together."""

    counts: StateCounts
    reader: str  # "netlink", "procfs" or "psutil": who counted
    derived: bool  # what is large of ESTABLISHED, and TIME_WAIT, are from the kernel's own counters
    unknown_states: tuple[str, ...] = ()  # the numbers or names behind counts[UNKNOWN], as the kernel wrote them


class Sockstat(NamedTuple):
    """The lines ``TCP:`` and ``TCP6:`` of /proc/net/sockstat and sockstat6 (net/ipv4/proc.c)."""

    inuse: int  # hashed full IPv4 sockets of this namespace: neither request sockets nor mini-sockets
    orphan: int  # host-wide: sockets that no process holds any more
    tw: int  # TIME_WAIT and FIN_WAIT2 mini-sockets of this namespace, IPv4 and IPv6
    alloc: int  # host-wide
    mem: int  # host-wide, pages
    inuse6: int | None = None  # as inuse, IPv6; None where the kernel has no IPv6


class Listener(NamedTuple):
    """The listening sockets that share one address and port: one, or several by SO_REUSEPORT, summed."""

    address: str  # "192.0.2.1", "0.0.0.0", "::"
    port: int
    sockets: int
    accept_queue: int  # connections that wait for accept(2) (inet_diag: idiag_rqueue)
    accept_limit: int  # listen(2)'s backlog as the kernel capped it (inet_diag: idiag_wqueue)
    syn_recv: int  # half-open connections to it
    fullest: float  # accept queue against limit + 1, of the fullest of the sockets: at 1 the kernel drops


class Detail(NamedTuple):
    """What a dump of every socket tells beyond the states. Counts are by state, as ``StateCounts``."""

    taken_at: float  # Unix time in seconds
    families: Mapping[str, StateCounts]  # "ipv4", "ipv6": the socket's, so a mapped address is ipv6
    ports: Mapping[str, StateCounts]  # by local port, those with a listener or configured; "other" is the rest
    remote_ports: Mapping[str, StateCounts]  # configured ones only
    units: Mapping[str, StateCounts] | None  # by systemd unit or container; None without cgroup v2
    receive_queue: int  # bytes, of sockets that are not listeners
    send_queue: int
    ephemeral_used: int | None  # local ports towards the busiest (source, destination, port); None: range not known
    ephemeral_available: int | None  # the range less the reserved
    ephemeral_towards: str  # that destination, for a person; "" where nobody is connected
    folded: Mapping[str, int]  # by metric: how many label values are in "other"


class Snapshot(NamedTuple):
    """One sample of the host's TCP."""

    taken_at: float  # Unix time in seconds
    connections: Connections | None  # None: no reader could count
    counters: Mapping[str, int]  # "Tcp.CurrEstab", "TcpExt.ListenDrops": those that could be read
    sockstat: Sockstat | None  # None: /proc/net/sockstat not readable
    sysctls: Mapping[str, Value]  # by name; those that exist and could be read
    page_size: int  # bytes
    sources: Mapping[str, str | None]  # every source that was asked: None when read, else what went wrong
    listeners: tuple[Listener, ...] | None = None  # None: only netlink knows the limits
    detail: Detail | None = None  # None: no detail pass, or its last one is too old
    namespaces: Mapping[str, tuple[int | None, ...]] | None = None  # by name, as StateCounts; None: not asked for

    @property
    def memory_limits(self) -> Mapping[str, int] | None:
        """``tcp_mem`` in bytes by level; None in a child network namespace, which has no such file."""
        value = self.sysctls.get("tcp_mem")
        return None if value is None else {field: pages * self.page_size for field, pages in value.fields}


class Advice(NamedTuple):
    """What is concluded from a snapshot and those before it."""

    findings: tuple[Finding, ...]  # what is wrong now, the worst first
    verdicts: tuple[Verdict, ...]  # the sysctls against the profile and the configuration; most deviate in nothing


class Pass(NamedTuple):
    """What one kind of pass, ``counting`` or ``detail``, has cost."""

    duration: float  # seconds of wall time, the last one
    cpu: float  # seconds of CPU time, the last one
    interval: float  # seconds to the next: the configured interval, or longer where the CPU share asks for it
    total: int  # how many there have been
    configured: float  # seconds, the configured interval


class Sample(NamedTuple):
    """What the polling loop publishes: a snapshot, and the loop's observations of itself."""

    snapshot: Snapshot
    peaks: StateCounts | None  # the highest of the peak window, by state; None while no reader can count
    counted_at: float  # monotonic seconds
    stale_after: float  # seconds after which the counting pass's numbers are too old to be shown
    passes: Mapping[str, Pass]
    source_errors: Mapping[str, int]  # by source: samples that had to do without it
    overruns: int  # samples that ended after the next one was due
    advice: Advice | None = None  # None: nobody was asked

    @classmethod
    def single(cls, snapshot: Snapshot, advice: Advice | None = None) -> Sample:
        """A snapshot that no loop took: without peaks, and nothing to say of passes."""
        return cls(snapshot, None, 0.0, float("inf"), {}, {}, 0, advice)

    def is_stale(self, now: float) -> bool:
        """Whether the numbers are too old at monotonic time *now* to be passed for current."""
        return now - self.counted_at > self.stale_after


def by_label(counts: StateCounts) -> dict[str, int]:
    """Counts under their labels: the eleven states always, ``unknown`` only where there is one."""
    labelled = {state.label: counts[state] for state in KNOWN_STATES}
    if counts[TcpState.UNKNOWN]:
        labelled[TcpState.UNKNOWN.label] = counts[TcpState.UNKNOWN]
    return labelled
