"""What a snapshot has beside its counts: the values of detail passes, of close events and of connection tracking.

As in ``snapshot``, a field that is None was not readable or does not exist here. A module of its own, because the
plugin starts without it.
"""

from __future__ import annotations

from exporter.record import TYPE_CHECKING, NamedTuple
from exporter.tcpstate import StateCounts

if TYPE_CHECKING:
    from collections.abc import Mapping

CLOSED_RTT_BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Upper bounds in seconds of the round-trip times of closed connections, a true histogram; one bucket is beyond."""

RTT_BOUNDS = (0.001, 0.005, 0.02, 0.1, 0.25, 1.0)
"""Likewise of open connections: fewer, because each port has a gauge for each bucket; one bucket is beyond."""

IDLE_BOUNDS = (1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0)
"""Likewise of the time since a socket last sent or received data."""


class Drops(NamedTuple):
    """Segments that listeners dropped per second (TcpExt: ListenDrops; by port inet_diag: SK_MEMINFO_DROPS)."""

    seconds: float  # that the rates span
    total: float  # of this network namespace
    ports: Mapping[int, float]  # by local port, of listeners that were there before; at most the host's


class Peers(NamedTuple):
    """Sockets with one trouble, and where most of them lead."""

    sockets: int
    most: int  # of them, those at the place that has the most
    place: str  # that place, for a person: "198.51.100.7:5432", an address, or a local port as "port 443"


class CloseWait(NamedTuple):
    """The CLOSE_WAIT sockets that a process has, by how long ago the peer was last heard (tcpi_last_ack_recv)."""

    sockets: int
    over_5_seconds: int
    served_over_10_seconds: int  # those on the port of a listener: the application serves them, no pool keeps them
    over_60_seconds: int
    served: int  # those on the port of a listener, which a server here has accepted


class Memory(NamedTuple):
    """Buffer memory of the sockets in bytes, which not every detail pass reads (INET_DIAG_SKMEMINFO)."""

    taken_at: float  # Unix time in seconds
    ports: Mapping[str, int]  # by local port, told apart as ``Detail.ports``; "other" is the rest
    units: Mapping[str, int] | None  # by systemd unit or container, "other" is the rest; None without cgroup v2
    folded: Mapping[str, int]  # by metric: how many label values are in "other"


class PortQuality(NamedTuple):
    """The sampled ESTABLISHED sockets of a local port, by their tcp_info."""

    sockets: int
    rtt: tuple[int, ...]  # sockets by the buckets of RTT_BOUNDS, not cumulative; without those not measured yet
    idle: tuple[int, ...]  # likewise of IDLE_BOUNDS, by the last data sent or received
    retransmitting: int  # sockets that have segments in flight which were sent again
    busy: int | None = None  # microseconds with data in flight, since they were connected; None before Linux 4.10
    peer_window: int | None = None  # of these, waiting for the peer's window
    send_buffer: int | None = None  # of these, with an application that waits for room in the send buffer

    def limited(self) -> Mapping[str, float]:
        """Shares of the busy time by what limited the sockets; empty where there was none or it is not known."""
        if not self.busy or self.peer_window is None or self.send_buffer is None:
            return {}
        window, buffer = min(1.0, self.peer_window / self.busy), min(1.0, self.send_buffer / self.busy)
        return {"peer_window": window, "send_buffer": buffer, "path": max(0.0, 1 - window - buffer)}


class Transfers(NamedTuple):
    """Sampled sockets that send much over a long path and have one limit, told by the largest of them."""

    sockets: int
    rate: int  # bytes a second (tcpi_delivery_rate)
    share: float  # of its busy time for which it was limited so
    rtt: float  # seconds
    least_rtt: float  # seconds, the shortest that was measured
    send_buffer: int | None  # bytes (SK_MEMINFO_SNDBUF)
    window: int | None  # the peer's, bytes (tcpi_snd_wnd); None before Linux 5.4
    place: str  # the address that it sends to


class Quality(NamedTuple):
    """What tcp_info tells of a sample of the ESTABLISHED sockets."""

    sockets: int  # whose tcp_info was read in this pass
    sampled: float | None  # share of ESTABLISHED that these are; None where there are none
    ports: Mapping[str, PortQuality]  # by local port as ``Detail.ports``, those with a sampled socket
    transfers: Mapping[str, Transfers] = {}  # by what limits them: names of ``kernel.quality``
    problem: str | None = None  # why there is none


class Detail(NamedTuple):
    """What a dump of every socket tells beyond the states. Counts are by state, as ``StateCounts``."""

    taken_at: float  # Unix time in seconds
    families: Mapping[str, StateCounts]  # "ipv4", "ipv6": the socket's, so a mapped address is ipv6
    ports: Mapping[str, StateCounts]  # by local port, those with a listener or configured; "other" is the rest
    remote_ports: Mapping[str, StateCounts]  # configured ones only
    units: Mapping[str, StateCounts] | None  # by systemd unit or container; None without cgroup v2
    receive_queue: int  # bytes, of sockets that are not listeners
    send_queue: int
    ephemeral_used: int | None  # local ports taken where fewest are left; None: the range is not known
    ephemeral_available: int | None  # the range less the reserved, the listeners' and the bound
    ephemeral_towards: str  # where that is: "source -> destination:port"; "" where nobody is connected
    folded: Mapping[str, int]  # by metric: how many label values are in "other"
    ephemeral_waiting: int = 0  # of those used: in TIME_WAIT
    ephemeral_reusable: int = 0  # beside them: TIME_WAIT towards it that connect() may take over (tcp_tw_reuse)
    ephemeral_destinations: int = 0  # that those used are spread over: several where bind() picked them
    ephemeral_listening: int = 0  # ports of the range that connect() does not pick: they have a listener
    ephemeral_reserved: str | None = None  # ip_local_reserved_ports as the kernel prints it; None: not known, or long
    ephemeral_bound: int = 0  # likewise: bound by sockets that are neither connected nor listening
    close_wait: CloseWait | None = None  # None: not listed, because there are few or the reader cannot
    # TCP sockets of the host in no state, without those of this namespace that are bound and not connected. None where
    # not every process is seen.
    stateless: int | None = None
    troubles: Mapping[str, Peers] = {}  # by the names of ``kernel.troubles``; a trouble that nobody has is not there
    # Of ESTABLISHED sockets; None: a daemon from before this was told.
    timers: Mapping[str, int] | None = None  # by the timer that runs: "none", "keepalive", "retransmit", "probe"
    unanswered: Mapping[str, Mapping[int, int]] | None = None  # by kind, then by at least so many tries (1, 2, 3, 5, 8)
    accept_pending: int | None = None  # without an inode: accept() has not taken them yet
    problem: str | None = None  # what of the detail could not be read, while the rest could
    memory: Memory | None = None  # None: not asked for, not told by the reader, or too old
    memory_problem: str | None = None  # why the last reading of it failed
    quality: Quality | None = None  # None: not asked for, or the reader has no tcp_info


class Conntrack(NamedTuple):
    """The connection tracking of this network namespace (net/netfilter/nf_conntrack_core.c)."""

    entries: int
    limit: int  # the host's, and each namespace may have as many; 0 is no limit
    insert_failed: int | None = None  # entries that could not be added; None where the kernel does not tell
    drops: int | None = None  # packets dropped because the table was full; None as insert_failed
    established_timeout: int | None = None  # seconds after which an idle connection is forgotten


class PortCloses(NamedTuple):
    """The connections of a local port that were seen to end since the daemon was started, and what they did.

    Bytes are payload; of those received, each FIN counts as one. Source: the tcp_info that the kernel multicasts when
    it destroys a socket (net/core/sock_diag.c, sock_diag_broadcast_destroy).
    """

    connections: int
    received: int  # bytes
    sent: int | None  # bytes, each once; None where tcp_info has no tcpi_bytes_sent (Linux before 4.19)
    retransmitted: int  # segments
    rtt: tuple[
        int, ...
    ]  # connections by smoothed round-trip time at their end: CLOSED_RTT_BOUNDS and one bucket beyond
    rtt_sum: float  # seconds, of those in ``rtt``


class Closes(NamedTuple):
    """How connections ended, from the kernel's close events. Counters never fall while the daemon lives."""

    ports: Mapping[str, PortCloses]  # as ``Detail.ports``, but a port that was told apart stays; "other" is the rest
    ratio: float  # share of the last period's close events that were received: time joined, less what was lost
    lost: int  # events that the receive buffer had no room for, since the daemon was started
    folded: int  # ports in "other" because there are as many as there may be
