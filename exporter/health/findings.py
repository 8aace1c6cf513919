"""Findings: what is wrong with this host at this moment, why, and what a person does about it.

Pure: from a snapshot, and older ones where a rate is needed, to ``Finding``s, the worst first. What is not known raises
no finding, and there is none without evidence in numbers. ``web``, ``cli`` and the loop show them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from exporter.health import measures
from exporter.health.thresholds import Status
from exporter.kernel import READERS
from exporter.record import TYPE_CHECKING, NamedTuple
from exporter.tcpstate import TcpState

if TYPE_CHECKING:
    from exporter.snapshot import Listener, Snapshot, StateCounts

NORMAL_HALF_OPEN = 15
"""Half-open connections that a busy server has anyway: 300 a second with a round trip of 50 ms."""

_MANY_HALF_OPEN = 100
_SLOW_HANDSHAKE = 1.0  # seconds: no round trip takes as long, so handshakes do not come to their end
_NEAR = 0.8
_NEAR_END = 0.95
_ORPHANS_NEAR = 0.25  # the kernel counts a suspicious orphan up to four times (net/ipv4/tcp.c: tcp_too_many_orphans)
_LEAKED = 20
_LEAKED_MORE = 10
_LEAKED_MANY = 100
_BACK = 0.5  # of the cookies that are sent: attackers return none
_SHOWN = 3  # listeners that one finding names
_LARGEST_RANGE = 60000  # local ports: there is hardly more to be had

_NOBODYS = ("other", "none", "root", "gone", "outside")  # labels of ports and units that name nobody


class Finding(NamedTuple):
    """One thing that is wrong. Texts are sentences for a person; what is from the host in them is not escaped."""

    name: str  # stable, snake_case: "accept_queue_full"
    severity: Status  # WARNING or CRITICAL
    what: str  # one line
    evidence: tuple[str, ...]  # sentences with the numbers that it was concluded from, never none
    why: str  # why it matters
    remedy: str  # what to do
    command: str | None  # the command that does it, or that shows who can; None where there is none
    risk: str  # what the remedy could break
    states: tuple[TcpState, ...]  # the states that it bears on, the most telling first


class _View(NamedTuple):
    """A snapshot with those before it, the oldest first."""

    now: Snapshot
    past: Sequence[Snapshot]
    seconds: float  # since the oldest; 0.0: there is nothing to compare with

    def rise(self, counter: str) -> int | None:
        """By how much the counter rose; None where that is not known, as after the counters began anew."""
        if not self.seconds:
            return None
        after, before = self.now.counters.get(counter), self.past[0].counters.get(counter)
        return after - before if after is not None and before is not None and after >= before else None

    def rose(self, counter: str) -> int:
        """By how much it rose as far as that is known."""
        return self.rise(counter) or 0

    def sysctl(self, name: str) -> int | None:
        """The one number of a sysctl; None where it does not exist."""
        value = self.now.sysctls.get(name)
        return None if value is None else dict(value.fields).get("")

    def during(self) -> str:
        """The time between the counts, for a sentence."""
        return f"in the last {self.seconds:.3g} s"


def findings(snapshot: Snapshot, past: Sequence[Snapshot] = ()) -> tuple[Finding, ...]:
    """What is wrong in *snapshot*; *past* are older ones, the oldest first, for what only a change can tell."""
    seconds = max(0.0, snapshot.taken_at - past[0].taken_at) if past else 0.0
    view = _View(snapshot, past, seconds)
    found = [finding for look in _LOOKS for finding in look(view)]
    return tuple(sorted(found, key=lambda finding: finding.severity is not Status.CRITICAL))


def unseen(snapshot: Snapshot) -> tuple[str, ...]:
    """What could not be looked at, so that no finding is made of it, for a person."""
    problems = [problem for problem in snapshot.sources.values() if problem is not None]
    if snapshot.connections is not None and snapshot.listeners is None:
        problems.append("queues of listeners: only netlink tells their lengths, so only what they dropped is noticed")
    return tuple(problems)


def is_blind(snapshot: Snapshot) -> bool:
    """Whether a finding may be missing since a source failed: any but a reader whose place another one took."""
    failed = {source for source, problem in snapshot.sources.items() if problem is not None}
    return snapshot.connections is None or not failed.issubset(READERS)


# -- connections that come in ------------------------------------------------------------------------------------------


def _accept_queue(view: _View) -> Iterator[Finding]:
    """The application does not call accept() in time: verdict 9 of the kernel's code (tcp_v4_syn_recv_sock)."""
    overflows = view.rose("TcpExt.ListenOverflows")
    full = _full(view.now)
    if not full and not overflows:
        return
    evidence = [_queue_of(listener) for listener in full[:_SHOWN]]
    if len(full) > _SHOWN:
        evidence.append(f"{len(full) - _SHOWN} more listeners are as full.")
    if overflows:
        evidence.append(f"{overflows} SYNs and final ACKs were dropped at full accept queues {view.during()}.")
    half_open = _half_open(view.now)
    if half_open > NORMAL_HALF_OPEN:
        evidence.append(f"{half_open} connections are half open: behind a full accept queue they cannot be finished.")
    what = f"The accept queue of {_place(full[0])} is full" if full else "An accept queue was full for a moment"
    somaxconn = view.sysctl("net.core.somaxconn")
    command, limit = None, ""
    if full:
        command = f"ss -ltnp 'sport = :{full[0].port}'"
        if somaxconn is not None and full[0].accept_limit >= somaxconn * full[0].sockets:
            evidence.append(f"Its limit is net.core.somaxconn, {somaxconn}: the application asked for that or more.")
            limit = " Then raise net.core.somaxconn, and restart the application: the limit is taken at listen()."
            command = f"sysctl -w net.core.somaxconn={2 * somaxconn}"
        elif somaxconn is not None:
            evidence.append(f"net.core.somaxconn is {somaxconn}, so the application itself asked for so little.")
            limit = f" Then let the application ask listen() for a longer queue; up to {somaxconn} are allowed."
    yield Finding(
        name="accept_queue_full",
        # A queue that was full and is not any more is on the mend; where queues are not seen, drops are all there is.
        severity=Status.CRITICAL if overflows and (full or view.now.listeners is None) else Status.WARNING,
        what=f"{what}: the application is too slow in accepting connections",
        evidence=tuple(evidence),
        why="The kernel drops what does not fit, so clients wait for seconds, or give up.",
        remedy="First find out why the application does not call accept(): no free worker, a lock, garbage collection, "
        "a slow dependency." + limit,
        command=command,
        risk="A longer queue helps with bursts only: where the application is too slow all the time, clients wait "
        "longer for the same refusal. Raising somaxconn itself breaks nothing.",
        states=(TcpState.LISTEN, TcpState.SYN_RECV, TcpState.ESTABLISHED),
    )


def _syn_queue(view: _View) -> Iterator[Finding]:
    """Half-open connections that are not the application's fault: verdicts 7 and 8 (tcp_conn_request)."""
    overflows = view.rose("TcpExt.ListenOverflows")
    # A cookie is counted as decided on before a full accept queue may drop its SYN; and 2 sends them without need.
    cookies = min(view.rose("TcpExt.SyncookiesSent"), view.rose("TcpExt.TCPReqQFullDoCookies"))
    drops = 0 if overflows else view.rose("TcpExt.TCPReqQFullDrop")
    full = [
        listener
        for listener in view.now.listeners or ()
        if listener.syn_recv > NORMAL_HALF_OPEN
        and listener.syn_recv >= listener.accept_limit
        and listener.fullest < 1
        and not overflows
    ]
    if cookies or drops or full:
        yield _syn_flood(view, cookies, drops, full)
    elif not overflows and not _full(view.now):
        yield from _handshakes(view)


def _syn_flood(view: _View, cookies: int, drops: int, full: list[Listener]) -> Finding:
    full.sort(key=lambda listener: -listener.syn_recv)
    where = f" of {_place(full[0])}" if full else ""
    evidence = [
        f"{it.syn_recv} connections to {_place(it)} are half open, of at most {it.accept_limit + it.sockets}; "
        f"about {NORMAL_HALF_OPEN} are normal."
        for it in full[:_SHOWN]
    ]
    if cookies:
        evidence.append(f"{cookies} SYN cookies were sent {view.during()} since a SYN queue was full.")
    if drops:
        evidence.append(f"{drops} SYNs were dropped {view.during()} since a SYN queue was full and cookies are off.")
    opened, received = view.rise("Tcp.PassiveOpens"), view.rise("TcpExt.SyncookiesRecv")
    if cookies and received is not None and received >= cookies * _BACK:
        evidence.append(f"{received} cookies came back, so these are clients and no attack.")
        return Finding(
            name="syn_queue_too_small",
            severity=Status.WARNING,
            what=f"The SYN queue{where} is too small for its clients",
            evidence=tuple(evidence),
            why="A connection made by cookie lacks window scaling and SACK unless both sides use timestamps.",
            remedy="Let the application ask listen() for a longer backlog, raise net.core.somaxconn to it, and restart "
            "the application. tcp_max_syn_backlog has no effect while cookies are on.",
            command=_raise_somaxconn(view, full),
            risk="A longer queue costs memory while it is full: 320 bytes for each half-open connection.",
            states=(TcpState.SYN_RECV, TcpState.LISTEN),
        )
    if opened is not None:
        evidence.append(f"{opened} handshakes were finished {view.during()}.")
    if cookies and received is not None:
        evidence.append(f"{received} of the cookies came back.")
    cookies_on = view.sysctl("tcp_syncookies")
    off = cookies_on == 0 or bool(drops)
    return Finding(
        name="syn_flood",
        severity=Status.CRITICAL if off else Status.WARNING,
        what=f"SYN flood: the SYN queue{where} is full, and most handshakes do not come to their end",
        evidence=tuple(evidence),
        why="Cookies are off, so the SYNs of clients are dropped with those of the attacker."
        if off
        else "SYN cookies keep the service up, at the price of CPU time and of options of the clients' connections.",
        remedy=("Switch SYN cookies on. " if off else "Keep tcp_syncookies at 1. ")
        + "Then filter the sources before they reach this host, or limit their rate in a firewall. Neither "
        "tcp_max_syn_backlog nor tcp_fin_timeout helps.",
        command="sysctl -w net.ipv4.tcp_syncookies=1" if off else "tcp-exporter who syn_recv --by remote",
        risk="A limit by source hits clients behind one NAT together, and spoofed sources are not who they say.",
        states=(TcpState.SYN_RECV, TcpState.LISTEN),
    )


def _handshakes(view: _View) -> Iterator[Finding]:
    """Many half-open connections in queues that are not full, and more than the rate of handshakes explains."""
    half_open, opened = _half_open(view.now), view.rise("Tcp.PassiveOpens")
    if half_open < _MANY_HALF_OPEN or opened is None or half_open <= opened / view.seconds * _SLOW_HANDSHAKE:
        return
    evidence = [
        f"{half_open} connections are half open; about {NORMAL_HALF_OPEN} are normal.",
        f"{opened} handshakes were finished {view.during()}.",
    ]
    listener = max(view.now.listeners or (), key=lambda it: it.syn_recv, default=None)
    if listener is not None and listener.syn_recv:
        evidence.append(f"{listener.syn_recv} of them are to {_place(listener)}, whose accept queue is not full.")
    yield Finding(
        name="half_open_connections",
        severity=Status.WARNING,
        what="Many half-open connections: handshakes do not come to their end",
        evidence=tuple(evidence),
        why="It is how a SYN flood begins, or a sign of a path on which the answers of this host are lost.",
        remedy="See whose they are. Many sources that were never clients: a SYN flood, which SYN cookies answer when "
        "the queue is full. A few networks of clients: look for a route or a firewall that loses the SYN-ACKs.",
        command="tcp-exporter who syn_recv --by remote",
        risk="None: it only looks.",
        states=(TcpState.SYN_RECV, TcpState.LISTEN),
    )


# -- limits ------------------------------------------------------------------------------------------------------------


def _time_wait(view: _View) -> Iterator[Finding]:
    ratio = measures.value(view.now, "time_wait_ratio")
    overflows = view.rose("TcpExt.TCPTimeWaitOverflow")
    limit, sockstat = view.sysctl("tcp_max_tw_buckets"), view.now.sockstat
    if ratio is None or limit is None or sockstat is None or (ratio < _NEAR and not overflows):
        return
    buckets = view.sysctl("tcp_ehash_entries")
    higher = max(2 * limit, 0 if buckets is None else abs(buckets) // 2)
    evidence = [f"{sockstat.tw} sockets wait, of tcp_max_tw_buckets = {limit}: {ratio:.0%}."]
    if overflows:
        evidence.append(f"{overflows} connections skipped TIME-WAIT {view.during()} since the limit was reached.")
    yield Finding(
        name="time_wait_near_limit",
        severity=Status.CRITICAL if overflows else Status.WARNING,
        what="TIME-WAIT is at its limit: connections skip it" if overflows else "TIME-WAIT is near its limit",
        evidence=tuple(evidence),
        why="A connection that skips TIME-WAIT leaves its late segments to the next one with the same ports, and "
        "answers a late FIN with a reset.",
        remedy="Raise the limit; it was made against denial of service and not to save memory. Then let the "
        "connections live longer, by HTTP keep-alive or a pool, or let the peer close first.",
        command=f"sysctl -w net.ipv4.tcp_max_tw_buckets={higher}",
        risk=f"256 bytes for each: {higher * 256 / 2**20:.0f} MiB when full.",
        states=(TcpState.TIME_WAIT, TcpState.FIN_WAIT2),
    )


def _ephemeral_ports(view: _View) -> Iterator[Finding]:
    detail = view.now.detail
    ratio = measures.value(view.now, "ephemeral_ports_ratio")
    if detail is None or ratio is None or ratio < _NEAR:
        return
    waiting = view.now.connections.counts[TcpState.TIME_WAIT] if view.now.connections is not None else 0
    taken = f"{detail.ephemeral_used} of {detail.ephemeral_available} local ports are taken"
    evidence = [f"{taken} towards one destination: {detail.ephemeral_towards}."]
    if waiting:
        evidence.append(f"{waiting} sockets of this host are in TIME-WAIT and hold their port for 60 s.")
    span = view.now.sysctls.get("net.ipv4.ip_local_port_range")
    ports = {} if span is None else dict(span.fields)
    low, high = ports.get("low"), ports.get("high")
    wide = low is None or high is None or high - low + 1 >= _LARGEST_RANGE
    if low is not None and high is not None:
        evidence.append(f"net.ipv4.ip_local_port_range is {low} to {high}.")
    reuse = view.sysctl("tcp_tw_reuse")
    reusable = wide and reuse is not None and reuse != 1 and waiting * 2 > (detail.ephemeral_used or 0)
    if not wide:
        command = 'sysctl -w net.ipv4.ip_local_port_range="1024 65535"'
        risk = "Services that listen above 1024 may find their port taken: reserve it in ip_local_reserved_ports."
    elif reusable:
        command = "sysctl -w net.ipv4.tcp_tw_reuse=1"
        risk = "The kernel's document wants tcp_tw_reuse changed on the advice of experts only; it needs timestamps."
    else:
        command, risk = None, "A second address doubles the ports, and has to be allowed where the first one is."
    yield Finding(
        name="ephemeral_ports_near_limit",
        severity=Status.CRITICAL if ratio >= _NEAR_END else Status.WARNING,
        what="Local ports towards one destination are nearly gone",
        evidence=tuple(evidence),
        why="When they are gone, connect() to it fails with EADDRNOTAVAIL; other destinations are not concerned.",
        remedy="Keep connections and use them again, by a pool or HTTP keep-alive: that mends the cause. For now widen "
        "the range, or let the client use several source addresses, or the service several addresses or ports.",
        command=command,
        risk=risk,
        states=(TcpState.SYN_SENT, TcpState.TIME_WAIT, TcpState.ESTABLISHED),
    )


def _orphans(view: _View) -> Iterator[Finding]:
    ratio = measures.value(view.now, "orphans_ratio")
    limit, sockstat = view.sysctl("tcp_max_orphans"), view.now.sockstat
    if ratio is None or limit is None or sockstat is None or ratio < _ORPHANS_NEAR:
        return
    killed = view.rose("TcpExt.TCPAbortOnMemory")
    evidence = [f"{sockstat.orphan} sockets of the host have no process, of tcp_max_orphans = {limit}: {ratio:.0%}."]
    if killed:
        evidence.append(f"{killed} orphans were killed {view.during()}.")
    yield Finding(
        name="orphans_near_limit",
        severity=Status.CRITICAL if killed or ratio >= 2 * _ORPHANS_NEAR else Status.WARNING,
        what="Sockets without a process are near their limit",
        evidence=tuple(evidence),
        why="The kernel counts a suspicious orphan up to four times, and resets it above the limit: the peer loses the "
        "end of what was sent to it.",
        remedy="Find who closes connections whose peers no longer answer. Then raise the limit, or let orphans end "
        "sooner with a lower tcp_orphan_retries.",
        command=f"sysctl -w net.ipv4.tcp_max_orphans={2 * limit}",
        risk=f"Each may hold 64 KiB that cannot be swapped out: {2 * limit >> 14} GiB when full.",
        states=(TcpState.FIN_WAIT1, TcpState.LAST_ACK, TcpState.CLOSING),
    )


def _memory(view: _View) -> Iterator[Finding]:
    limits, sockstat = view.now.memory_limits, view.now.sockstat
    entered = view.rose("TcpExt.TCPMemoryPressures")
    evidence = []
    above = full = False
    if limits is not None and sockstat is not None and {"pressure", "max"} <= limits.keys():
        used = sockstat.mem * view.now.page_size
        above, full = used >= limits["pressure"] > 0, used >= limits["max"] * _NEAR_END > 0
        if above or entered:
            sizes = (used / 2**20, limits["pressure"] / 2**20, limits["max"] / 2**20)
            evidence.append("Buffers take {:.0f} MiB; pressure begins at {:.0f}, the end is {:.0f}.".format(*sizes))
    if entered:
        evidence.append(f"TCP came under memory pressure {entered} times {view.during()}.")
    if not above and not entered:
        return
    yield Finding(
        name="memory_pressure",
        severity=Status.CRITICAL if full else Status.WARNING,
        what="TCP is out of buffer memory" if full else "TCP is under memory pressure",
        evidence=tuple(evidence),
        why="Under pressure every window shrinks, and at the end segments are dropped and orphans killed.",
        remedy="Find whose buffers they are: queues that nobody reads, or many connections with large buffers. Only "
        "where memory is to spare raise the limits in tcp_mem, which are pages.",
        command="ss -tmn | sort -k2,2nr | head",
        risk="Memory that TCP takes is not there for applications, and cannot be swapped out.",
        states=(TcpState.ESTABLISHED, TcpState.CLOSE_WAIT),
    )


# -- the application ---------------------------------------------------------------------------------------------------


def _close_wait(view: _View) -> Iterator[Finding]:
    """Connections that the peer has closed and the application forgets: a count that grows and never falls."""
    if view.now.connections is None:
        return
    counts = view.now.connections.counts
    number, established = counts[TcpState.CLOSE_WAIT], counts[TcpState.ESTABLISHED]
    if number < _LEAKED:
        return
    course = [it.connections.counts[TcpState.CLOSE_WAIT] for it in view.past if it.connections is not None] + [number]
    grows = len(course) > 1 and course == sorted(course) and number - course[0] >= _LEAKED_MORE
    evidence = [f"{number} connections were closed by their peers and not by the application."]
    if grows:
        evidence.append(f"They were {course[0]} {view.seconds:.3g} s ago, and at no count in between became fewer.")
    elif number >= _LEAKED_MANY and number > established:
        evidence.append(f"That is more than the {established} that are established.")
    else:
        return
    owner = ""
    if view.now.detail is not None:
        for kind, groups in (("unit", view.now.detail.units), ("local port", view.now.detail.ports)):
            name, held = _most(groups or {}, TcpState.CLOSE_WAIT)
            if held:
                evidence.append(f"{held} of them are of {kind} {name}, at the last look at each socket.")
                owner = owner or f" of {kind} {name}"
    yield Finding(
        name="close_wait_leak",
        severity=Status.WARNING,
        what=f"The application{owner} does not close connections that its peers have closed",
        evidence=tuple(evidence),
        why="Each holds a file descriptor for ever: at its limit the application can accept and open nothing more.",
        remedy="It is a bug of the application, and no sysctl ends it: keepalive does not, for the peer has said "
        "all it had to say. Find the process, restart it for now, and have it close the socket when read() returns 0.",
        command="tcp-exporter who close_wait",
        risk="A restart ends the application's other connections too.",
        states=(TcpState.CLOSE_WAIT,),
    )


_LOOKS: tuple[Callable[[_View], Iterator[Finding]], ...] = (
    _accept_queue,
    _syn_queue,
    _memory,
    _orphans,
    _ephemeral_ports,
    _time_wait,
    _close_wait,
)
"""Where to look, in the order of what hurts users first."""


def _full(snapshot: Snapshot) -> list[Listener]:
    """The listeners with a full accept queue, the one with most that wait first."""
    full = [listener for listener in snapshot.listeners or () if listener.fullest >= 1]
    return sorted(full, key=lambda listener: -listener.accept_queue)


def _half_open(snapshot: Snapshot) -> int:
    return 0 if snapshot.connections is None else snapshot.connections.counts[TcpState.SYN_RECV]


def _queue_of(listener: Listener) -> str:
    shared = f" of {listener.sockets} sockets together" if listener.sockets > 1 else ""
    return (
        f"{listener.accept_queue} connections wait in the accept queue of {_place(listener)}, "
        f"whose limit{shared} is {listener.accept_limit}."
    )


def _raise_somaxconn(view: _View, full: list[Listener]) -> str | None:
    somaxconn = view.sysctl("net.core.somaxconn")
    if somaxconn is None or not any(it.accept_limit >= somaxconn * it.sockets for it in full):
        return None
    return f"sysctl -w net.core.somaxconn={2 * somaxconn}"


def _most(groups: Mapping[str, StateCounts], state: TcpState) -> tuple[str, int]:
    """The name with the most sockets in the state, and how many; of names that are no one's, none."""
    named = {name: counts[state] for name, counts in groups.items() if name not in _NOBODYS}
    name = max(named, key=lambda it: named[it], default="")
    return name, named.get(name, 0)


def _place(listener: Listener) -> str:
    address = f"[{listener.address}]" if ":" in listener.address else listener.address
    return f"{address}:{listener.port}"
