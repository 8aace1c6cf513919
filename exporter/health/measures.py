"""Measures: the named numbers of a snapshot on which a threshold can be set, one record each.

A record has everything that is known of its measure; HELP, the plugin, the page, the terminal and the documents take it
from here. ``thresholds`` knows what a range is; this module knows which number a name stands for.
"""

from __future__ import annotations

from exporter.health.forecast import HORIZON, LEAST_MINUTES
from exporter.record import TYPE_CHECKING, NamedTuple
from exporter.snapshot import Listener, Snapshot
from exporter.tcpstate import KNOWN_STATES, TcpState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeAlias

LISTENERS, DETAIL, SYSCTLS, CONNTRACK = "listeners", "detail", "sysctls", "conntrack"
RATES, PROCESSES, HOUR = "rates", "processes", "hour"
"""What a measure may need of a snapshot beside the counts: RATES an earlier snapshot, PROCESSES the stateless sockets,
HOUR the daemon's last hour.
"""

SECONDS_TO_FULL = "seconds_to_full"
"""The measure of all limits together; where it is read, its place is the resource that is full first."""


class Reading(NamedTuple):
    """A measure at one moment: what is used, of which limit, and where."""

    used: float  # whole, but for a rate
    limit: int | None = None  # None: there is no limit, or it is not known; never 0 or less
    place: str = ""  # the listener or the destination that the numbers belong to

    @property
    def share(self) -> float | None:
        """The used part of the limit: 1 is full. None without a limit."""
        return None if self.limit is None else self.used / self.limit


_BESIDE = frozenset({"detail", "memory", "quality", "closes"})  # sources that no count comes from


def _unread(snapshot: Snapshot) -> str:
    problems = (it for source, it in snapshot.sources.items() if it is not None and source not in _BESIDE)
    return "; ".join(problems) or "not visible from this network namespace, or to this reader"


class Measure(NamedTuple):
    """One measure. Its value is ``used``, or for a ratio the share of the limit."""

    name: str  # "accept_queue_ratio": in options, configuration, metrics and performance data
    title: str  # "accept queue": in tables and on the page
    definition: str  # the whole meaning in one line: HELP, -v, documents
    sysctls: tuple[str, ...]  # that bear on it, the most telling first
    needs: frozenset[str]  # of LISTENERS, DETAIL, SYSCTLS, CONNTRACK, RATES, PROCESSES, HOUR
    unit: str  # "bytes", "seconds", "per second", or "" for things that are counted
    read: Callable[[Snapshot], Reading | None]  # None: this host cannot tell at this moment
    unknown: Callable[[Snapshot], str] = _unread  # why there is no value, of a snapshot where there is none
    of_port: Callable[[Snapshot, int], Reading | None] | None = None  # the same of one local port; None: it has none

    @property
    def is_ratio(self) -> bool:
        """Whether the value is a share of a limit, from 0 to 1 and in bad moments a little more."""
        return self.name.endswith("_ratio")

    @property
    def resource(self) -> str:
        """What a ratio is the share of, as metrics and documents name it."""
        return self.name.removesuffix("_ratio")

    def value_of(self, reading: Reading | None) -> float | None:
        """The number that a threshold judges; None where it is not known."""
        if reading is None:
            return None
        return reading.share if self.is_ratio else reading.used


# -- states ------------------------------------------------------------------------------------------------------------


def _of_state(state: TcpState) -> Measure:
    """The number of sockets in one state."""

    def read(snapshot: Snapshot) -> Reading | None:
        count = None if snapshot.connections is None else snapshot.connections.of(state)
        return None if count is None else Reading(count)

    def unknown(snapshot: Snapshot) -> str:
        connections = snapshot.connections
        if connections is None or connections.of(state) is not None:
            return _unread(snapshot)
        return connections.why_unlisted(state)

    return Measure(state.label, state.rfc9293, state.meaning, state.sysctls, frozenset(), "", read, unknown)


def _total(snapshot: Snapshot) -> Reading | None:
    connections = snapshot.connections
    return None if connections is None or connections.unlisted else Reading(sum(connections.counts))


def _no_total(snapshot: Snapshot) -> str:
    connections = snapshot.connections
    if connections is None or not connections.unlisted:
        return _unread(snapshot)
    return connections.why_unlisted(*connections.unlisted)


# -- ratios ------------------------------------------------------------------------------------------------------------


def _time_wait(snapshot: Snapshot) -> Reading | None:
    """Source: net/ipv4/inet_timewait_sock.c, inet_twsk_alloc. The kernel compares unsigned: -1 is no limit."""
    return None if snapshot.sockstat is None else _of(snapshot.sockstat.tw, snapshot.scalar("tcp_max_tw_buckets"))


def _orphans(snapshot: Snapshot) -> Reading | None:
    """Source: net/ipv4/tcp.c, tcp_too_many_orphans; both numbers are the host's."""
    return None if snapshot.sockstat is None else _of(snapshot.sockstat.orphan, snapshot.scalar("tcp_max_orphans"))


def _memory(snapshot: Snapshot) -> Reading | None:
    """Source: net/core/sock.c, __sk_mem_raise_allocated; both numbers are the host's, in bytes here."""
    limits = snapshot.memory_limits
    if snapshot.sockstat is None:
        return None
    return _of(snapshot.sockstat.mem * snapshot.page_size, None if limits is None else limits.get("max"))


def _accept_queue(snapshot: Snapshot) -> Reading | None:
    """Source: include/net/sock.h, sk_acceptq_is_full: a queue holds one more than its limit."""
    if snapshot.listeners is None:
        return None
    fullest = max(snapshot.listeners, key=lambda it: it.fullest, default=None)
    if fullest is None:
        return Reading(0, 1)  # without a listener no queue is full
    return Reading(fullest.fullest_queue, fullest.fullest_limit + 1, fullest.place)


def _syn_queue(snapshot: Snapshot) -> Reading | None:
    """The listener whose SYN queue is fullest. Unknown while the fullest queue cannot be told.

    Half-open connections that match no listener are in the queue of some listener; those of a SO_REUSEPORT group may
    all be in the queue of one of its sockets. Only a queue that is full anyway is known to be the fullest.
    """
    if snapshot.listeners is None:
        return None
    queues = [(it, syn_queue_limit(snapshot, it)) for it in snapshot.listeners]
    fullest, limit = max(queues, key=lambda it: it[0].syn_recv / it[1], default=(None, 1))
    used = 0 if fullest is None else fullest.syn_recv
    if used < limit and (snapshot.unmatched_half_open or _skewed_group(snapshot) is not None):
        return None
    return Reading(used, limit, "" if fullest is None else fullest.place)


def _skewed_group(snapshot: Snapshot) -> Listener | None:
    """A SO_REUSEPORT group whose half-open connections would fill the queue of one of its sockets."""
    groups = (it for it in snapshot.listeners or () if it.sockets > 1)
    return next(
        (
            it
            for it in groups
            if it.syn_recv * it.sockets >= max(1, min(it.accept_limit, syn_queue_limit(snapshot, it)))
        ),
        None,
    )


def syn_queue_limit(snapshot: Snapshot, listener: Listener) -> int:
    """How many half-open connections the kernel holds for a listener before it drops SYNs or answers with cookies.

    That is one more than its backlog. Kernels before 5.10.234, 6.1.125 and 6.14 hold only the backlog, and a release
    number cannot tell which others have that change, so a queue with exactly its backlog counts as full. With cookies
    off the kernel drops sooner, once less than a quarter of tcp_max_syn_backlog is left. Source: net/ipv4/tcp_input.c,
    tcp_conn_request; include/net/inet_connection_sock.h, inet_csk_reqsk_queue_is_full.
    """
    limit = listener.accept_limit + listener.sockets
    if listener.accept_limit <= listener.syn_recv:
        limit = min(limit, listener.syn_recv)
    most = snapshot.scalar("tcp_max_syn_backlog")
    if snapshot.scalar("tcp_syncookies") == 0 and most is not None:
        limit = min(limit, (most - (most >> 2) + 1) * listener.sockets)
    return max(limit, 1)


def _ephemeral_ports(snapshot: Snapshot) -> Reading | None:
    """What is taken of the range, or cannot be picked. Source: net/ipv4/inet_hashtables.c, __inet_hash_connect.

    Ports with a listener or a bound socket are taken from every destination; TIME-WAIT that tcp_tw_reuse lets connect()
    take over takes none.
    """
    detail = snapshot.detail
    if detail is None or detail.ephemeral_used is None or detail.ephemeral_available is None:
        return None
    others = detail.ephemeral_listening + detail.ephemeral_bound
    return _of(detail.ephemeral_used + others, detail.ephemeral_available + others, detail.ephemeral_towards)


def _conntrack(snapshot: Snapshot) -> Reading | None:
    """Source: net/netfilter/nf_conntrack_core.c, __nf_conntrack_alloc; a limit of 0 is none."""
    return None if snapshot.conntrack is None else _of(snapshot.conntrack.entries, snapshot.conntrack.limit)


def _listen_drops(snapshot: Snapshot) -> Reading | None:
    """Source: include/net/tcp.h, tcp_listendrop, which raises the host's counter and the listener's."""
    if snapshot.drops is None:
        return None
    most, port = max(((rate, port) for port, rate in snapshot.drops.ports.items()), default=(0.0, 0))
    return Reading(snapshot.drops.total, None, f"port {port}" if most else "")


def _listen_drops_of(snapshot: Snapshot, port: int) -> Reading | None:
    """The rate of the listeners on *port*; None also where nothing listens there."""
    rate = None if snapshot.drops is None else snapshot.drops.ports.get(port)
    return None if rate is None else Reading(rate, None, f"port {port}")


def _leaked_descriptors(snapshot: Snapshot) -> Reading | None:
    """Source: net/ipv4/proc.c, sockstat_seq_show: alloc less inuse, as ``kernel.stateless`` compares them."""
    if snapshot.detail is None or snapshot.detail.stateless is None:
        return None
    return Reading(snapshot.detail.stateless)


def _to_full(snapshot: Snapshot) -> Reading | None:
    """The limit that is full first; source: as that of its ratio."""
    if not snapshot.to_full:
        return None
    seconds, resource = min((seconds, resource) for resource, seconds in snapshot.to_full.items())
    return Reading(seconds, None, resource if seconds < HORIZON else "")


def _of(used: int, limit: int | None, place: str = "") -> Reading:
    """Of a limit of 0 or less, which is none for the kernel (-1) or allows nothing (0), no share can be told."""
    return Reading(used, limit if limit is not None and limit > 0 else None, place)


# -- why there is no value -------------------------------------------------------------------------------------------


def _no_share_of(sysctl: str) -> Callable[[Snapshot], str]:
    """Of a limit in a sysctl that has one number, or of ``tcp_mem``."""

    def unknown(snapshot: Snapshot) -> str:
        if snapshot.sockstat is None:
            return _problem_of("sockstat", snapshot, "the host does not report what is used")
        limit = snapshot.scalar(sysctl)
        if limit is not None:
            return f"{sysctl} is {limit}, {'which is no limit' if limit < 0 else 'and no share of that can be told'}"
        return _problem_of("sysctl", snapshot, f"{sysctl} is not visible from this network namespace")

    return unknown


def _no_queues(snapshot: Snapshot) -> str:
    if snapshot.listeners is None:
        return _problem_of("netlink", snapshot, "only netlink knows the queues, and it was not read")
    if snapshot.unmatched_half_open:
        return f"{snapshot.unmatched_half_open} half-open connections match no listener"
    group = _skewed_group(snapshot)
    if group is None:
        return ""
    return f"{group.syn_recv} half-open connections to {group.place} may all be in one of its {group.sockets} sockets"


def _no_ports(snapshot: Snapshot) -> str:
    if snapshot.detail is None:
        return _problem_of("detail", snapshot, "there is no detail pass, which lists every socket")
    if snapshot.detail.ephemeral_used is None:
        return _problem_of("sysctl", snapshot, "net.ipv4.ip_local_port_range is not visible")
    if snapshot.detail.problem is not None:
        return snapshot.detail.problem
    return "net.ipv4.ip_local_port_range less net.ipv4.ip_local_reserved_ports leaves no port"


def _no_conntrack(snapshot: Snapshot) -> str:
    if snapshot.conntrack is None:
        return _problem_of("conntrack", snapshot, "there is no connection tracking here")
    return f"nf_conntrack_max is {snapshot.conntrack.limit}, and no share of that can be told"


def _no_drops(snapshot: Snapshot) -> str:
    if "TcpExt.ListenDrops" not in snapshot.counters:
        return _problem_of("netstat", snapshot, "this kernel does not report TcpExt.ListenDrops")
    return "a rate needs a second sample"


def no_drops_of(snapshot: Snapshot, port: int) -> str:
    """Why it is not known how much the listeners on *port* drop."""
    if snapshot.listeners is None:
        return _no_queues(snapshot)
    here = [it for it in snapshot.listeners if it.port == port]
    if not here:
        return f"nothing listens on port {port}"
    if all(it.dropped is None for it in here):
        return "this kernel does not report the drops of a listener"
    return _no_drops(snapshot) if snapshot.drops is None else f"the listener on port {port} is too new"


def _no_stateless(snapshot: Snapshot) -> str:
    if snapshot.detail is None:
        return _no_ports(snapshot)
    return "it needs to see every process of the host, and the kernel's list of bound sockets"


def _no_hour(snapshot: Snapshot) -> str:
    if snapshot.to_full is None:
        return "only a daemon that has watched for a while can tell: ask it with --url"
    return f"less than {LEAST_MINUTES} minutes of the last hour are known"


def _problem_of(source: str, snapshot: Snapshot, otherwise: str) -> str:
    return snapshot.sources.get(source) or otherwise


# -- the registry ------------------------------------------------------------------------------------------------------

MEASURES: tuple[Measure, ...] = (
    *map(_of_state, KNOWN_STATES),
    Measure(
        name="total",
        title="total",
        definition="all sockets, whatever their state",
        sysctls=(),
        needs=frozenset(),
        unit="",
        read=_total,
        unknown=_no_total,
    ),
    Measure(
        name="time_wait_ratio",
        title="time-wait sockets",
        definition="mini-sockets against tcp_max_tw_buckets: at 1 connections skip TIME-WAIT",
        sysctls=("tcp_max_tw_buckets",),
        needs=frozenset({SYSCTLS}),
        unit="",
        read=_time_wait,
        unknown=_no_share_of("tcp_max_tw_buckets"),
    ),
    Measure(
        name="orphans_ratio",
        title="orphans (host)",
        definition="sockets of the host without a process against tcp_max_orphans: from 0.25 on some may be killed",
        sysctls=("tcp_max_orphans",),
        needs=frozenset({SYSCTLS}),
        unit="",
        read=_orphans,
        unknown=_no_share_of("tcp_max_orphans"),
    ),
    Measure(
        name="memory_ratio",
        title="buffer memory (host)",
        definition="buffer memory of the host against the max of tcp_mem: at 1 sending fails",
        sysctls=("tcp_mem",),
        needs=frozenset({SYSCTLS}),
        unit="bytes",
        read=_memory,
        unknown=_no_share_of("tcp_mem"),
    ),
    Measure(
        name="accept_queue_ratio",
        title="accept queue",
        definition="the fullest accept queue against what it holds: at 1 the kernel drops, because the application is "
        "too slow",
        sysctls=("net.core.somaxconn", "tcp_abort_on_overflow"),
        needs=frozenset({LISTENERS}),
        unit="",
        read=_accept_queue,
        unknown=_no_queues,
    ),
    Measure(
        name="syn_queue_ratio",
        title="SYN queue",
        definition="half-open connections of a listener against its backlog or, with cookies off, three quarters of "
        "tcp_max_syn_backlog where that is less: at 1 SYN cookies are sent, or SYNs dropped",
        sysctls=("tcp_syncookies", "net.core.somaxconn", "tcp_synack_retries", "tcp_max_syn_backlog"),
        needs=frozenset({LISTENERS, SYSCTLS}),
        unit="",
        read=_syn_queue,
        unknown=_no_queues,
    ),
    Measure(
        name="ephemeral_ports_ratio",
        title="ephemeral ports",
        definition="local ports that are taken towards one destination, or that connect() cannot pick, against the "
        "range: at 1 connect() fails",
        sysctls=("net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports", "tcp_tw_reuse"),
        needs=frozenset({DETAIL, SYSCTLS}),
        unit="",
        read=_ephemeral_ports,
        unknown=_no_ports,
    ),
    Measure(
        name="conntrack_ratio",
        title="conntrack",
        definition="tracked connections against nf_conntrack_max: at 1 new connections are dropped",
        sysctls=(),
        needs=frozenset({CONNTRACK}),
        unit="",
        read=_conntrack,
        unknown=_no_conntrack,
    ),
    Measure(
        name="listen_drops",
        title="drops of listeners",
        definition="SYNs and final ACKs that listeners drop per second, with -p those of one port: over the daemon's "
        "last minute, else over a second",
        sysctls=("net.core.somaxconn", "tcp_abort_on_overflow", "tcp_syncookies", "tcp_max_syn_backlog"),
        needs=frozenset({LISTENERS, RATES}),
        unit="per second",
        read=_listen_drops,
        unknown=_no_drops,
        of_port=_listen_drops_of,
    ),
    Measure(
        name="leaked_descriptors",
        title="sockets in no state",
        definition="TCP sockets of the host that a descriptor holds and that are in no state: their connections have "
        "ended, or they were never connected; 0 where they are fewer than 100",
        sysctls=(),
        needs=frozenset({DETAIL, PROCESSES}),
        unit="",
        read=_leaked_descriptors,
        unknown=_no_stateless,
    ),
    Measure(
        name=SECONDS_TO_FULL,
        title="full in",
        definition="seconds until the first of the limits is full at the rate of the last hour, of which the daemon "
        f"has to know {LEAST_MINUTES} minutes: {HORIZON} (30 days) where none rises; "
        "alerts below, as -w 86400: -c 14400:",
        sysctls=(),
        needs=frozenset({HOUR}),
        unit="seconds",
        read=_to_full,
        unknown=_no_hour,
    ),
)
"""Every measure, in the order in which they are shown: the states, ``total``, the ratios, the rest."""

BY_NAME: Mapping[str, Measure] = {measure.name: measure for measure in MEASURES}
RATIOS: tuple[Measure, ...] = tuple(measure for measure in MEASURES if measure.is_ratio)

Readings: TypeAlias = "Mapping[str, Reading | None]"
"""By the measure's name; None for one that this host, at this moment, cannot tell."""


def readings(snapshot: Snapshot, names: Iterable[str] = BY_NAME) -> dict[str, Reading | None]:
    """The readings of the measures *names*. Raises ``KeyError`` for a name that is not a measure."""
    return {name: BY_NAME[name].read(snapshot) for name in names}


def values(of: Readings) -> dict[str, float | None]:
    """The values of readings, as thresholds judge them."""
    return {name: BY_NAME[name].value_of(reading) for name, reading in of.items()}


def duration(seconds: float) -> str:
    """A time ahead for a person, in one unit: who looks ahead by a line does not know more.

    >>> duration(40), duration(5400), duration(10800), duration(200000)
    ('1 min', '90 min', '3 h', '2 days')
    """
    if seconds < 7200:
        return f"{max(1, round(seconds / 60))} min"
    return f"{round(seconds / 3600)} h" if seconds < 172800 else f"{round(seconds / 86400)} days"


_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def amount(number: float, unit: str = "") -> str:
    """A number for a person, bytes in the largest unit that leaves something before the point.

    >>> amount(708608, "bytes"), amount(12, "bytes"), amount(708608)
    ('692.0 KiB', '12 B', '708608')
    """
    if unit != "bytes":
        return str(number)
    for size, name in _UNITS:
        if number >= size:
            return f"{number / size:.1f} {name}"
    return f"{number} B"
