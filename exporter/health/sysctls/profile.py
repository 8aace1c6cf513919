"""The profile: what each sysctl should be, as data, with the reason, the cost and the source of every entry.

``verdicts`` holds a host against it; ``docs/sysctls.md`` is generated from it. The kernel's own defaults of today are
fine unless an entry says why not, so a host that nobody has touched deviates in nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from exporter.health.sysctls import arithmetic
from exporter.health.sysctls.arithmetic import Live
from exporter.record import NamedTuple


class Recommendation(NamedTuple):
    """One number of one sysctl. Without ``low`` and ``high`` nothing deviates: the entry explains."""

    sysctl: str
    reason: str  # why it should be so, or what it is for
    risk: str  # what setting it could break, or costs, in either direction; "" where each has its own
    source: str  # the kernel's file or document, the RFC, the measurement
    low: int | None = None  # the least that is right; None: any
    high: int | None = None  # the most that is right; None: any
    field: str = ""  # of a vector
    since: str = ""  # the first kernel release that it is true of; "" for all
    until: str = ""  # the first kernel release that it is not true of any more; "" for all
    elsewhere: str = ""  # what pages on the web say instead, and why that is dated or wrong
    say: Callable[[int, Live], str] | None = None  # what a value comes to
    least: Callable[[Live], int | None] | None = None  # instead of ``low`` where the host tells it; None: it does not
    untold: str = ""  # a sentence for where it does not, without a full stop
    raising: str = ""  # what a higher value could break, or costs
    lowering: str = ""  # what a lower value could break
    unsigned: bool = False  # the kernel compares it so: a value below 0 is above every other

    @property
    def risks(self) -> str:
        """What setting it could break, whatever the direction."""
        return " ".join(filter(None, (self.risk, self.lowering, self.raising)))

    def risk_of(self, before: int, after: int) -> str:
        """What this change could break."""
        if before == after:
            return self.risks
        return (self.raising if after > before else self.lowering) or self.risk

    def lowest(self, live: Live) -> int | None:
        """The least that is right on the host whose numbers are *live*."""
        told = None if self.least is None else self.least(live)
        return self.low if told is None else told


def _half_of_the_hash_table(live: Live) -> int | None:
    """The kernel's own default for TIME-WAIT sockets and orphans; the table's size is negative where it is shared."""
    buckets = live.get(("tcp_ehash_entries", ""))
    return None if not buckets else abs(buckets) // 2


def _default_of_time_wait(live: Live) -> int | None:
    """The same before 6.1, which does not tell the table's size: tcp_max_orphans has the same default (tcp_init).

    Somebody may have raised that one alone. A power of two is what the kernel computes, and is taken for its default.
    """
    told = _half_of_the_hash_table(live)
    if told is not None:
        return told
    orphans, limit = live.get(("tcp_max_orphans", "")), live.get(("tcp_max_tw_buckets", ""), 0)
    if orphans is None or orphans <= 0:
        return None
    return limit if limit > 0 and limit & (limit - 1) == 0 else orphans


def _enough_for_the_longest_backlog(live: Live) -> int | None:
    """Three quarters of it hold what somaxconn lets a listener ask for; while cookies are on nothing depends on it."""
    somaxconn = live.get(("net.core.somaxconn", ""))
    if live.get(("tcp_syncookies", "")) != 0 or somaxconn is None:
        return None
    return somaxconn * 4 // 3


_SYSCTL_DOC = "Documentation/networking/ip-sysctl.rst"

PROFILE: tuple[Recommendation, ...] = (
    # SYN-SENT
    Recommendation(
        "tcp_syn_retries",
        "How long connect() waits for an answer. Inside a data centre 2 or 3 is enough; a lossy or mobile path needs "
        "the default. The better place for a short timeout is the application: its connect timeout, TCP_SYNCNT or "
        "TCP_USER_TIMEOUT.",
        "",
        f"{_SYSCTL_DOC}; net/ipv4/tcp_timer.c: tcp_write_timeout; RFC 9293 3.8.3 (MUST-23) asks for three minutes, "
        "which even the default of 6 does not reach",
        low=2,
        high=8,
        raising="A higher value lets applications hang for longer on a host that does not answer.",
        lowering="A lower value makes connections fail on paths that lose packets.",
        elsewhere="SAP asks for 8 for some releases of HANA (note 2382421). Pages that set 2 speak of a default of 5 "
        "and 180 s: that was an initial timeout of 3 s, before "
        "Linux 3.1. The default is 6 since 3.7, which is 127 s, and 131 s since 6.5 with tcp_syn_linear_timeouts.",
        say=arithmetic.say_syn_retries,
    ),
    Recommendation(
        "net.ipv4.ip_local_port_range",
        "Local ports for connect(): each connection to one address and port needs its own. A narrower range than the "
        "default is right while it suffices; the finding ephemeral_ports_near_limit reports when it does not.",
        "",
        f"{_SYSCTL_DOC}: ip_local_port_range, default 32768 60999",
        field="low",
        raising="Fewer ports for connections to one address and port.",
        lowering="Services that start later on one of the new ports may find it taken: reserve it in "
        "ip_local_reserved_ports.",
        elsewhere="SUSE recommends a narrow range on hosts of SAP, such as 21214 to 29999 (article 000020801), and "
        "SAP's host agent sets 9000 to 65499 and reserves its ports (note 2382421). Pages that set 1024 to 65535 leave "
        "out the reservation.",
        say=arithmetic.say_low_port,
    ),
    Recommendation(
        "net.ipv4.ip_local_port_range",
        "Local ports for connect(): each connection to one address and port needs its own. A narrower range than the "
        "default is right while it suffices; the finding ephemeral_ports_near_limit reports when it does not.",
        "",
        f"{_SYSCTL_DOC}: ip_local_port_range, default 32768 60999",
        field="high",
        raising="Services that start later on one of the new ports may find it taken: reserve it in "
        "ip_local_reserved_ports.",
        lowering="Fewer ports for connections to one address and port.",
        say=arithmetic.say_high_port,
    ),
    # SYN-RECEIVED
    Recommendation(
        "tcp_syncookies",
        "1 answers with a cookie when a listener's SYN queue is full, and keeps nothing of the connection until the "
        "cookie comes back; 0 drops the SYN, of an attacker and of a client alike; 2 answers every SYN with a cookie, "
        "counts each in TCPReqQFullDoCookies although no queue is full, and is for tests.",
        "With a cookie, window scaling and SACK survive only if both sides use timestamps.",
        f"{_SYSCTL_DOC}: tcp_syncookies; net/ipv4/syncookies.c",
        low=1,
        high=1,
        elsewhere="Pages that have half-open connections swapped out for a while are wrong: nothing is stored, "
        "because the state is in the cookie. Where cookies go out and come back without an attack, the backlog is too "
        "small.",
    ),
    Recommendation(
        "tcp_max_syn_backlog",
        "Since Linux 4.4 it counts only where tcp_syncookies is 0. There the kernel drops SYNs once three quarters of "
        "it are half open, however long the listener's backlog is, so it has to be a third more than "
        "net.core.somaxconn. While cookies are on, only the listener's backlog limits half-open connections.",
        "While cookies are on, raising it does nothing. While they are off, a flood fills it all the same, with 320 "
        "bytes for each half-open connection.",
        "net/ipv4/tcp_input.c: tcp_conn_request; measured on 6.18: with 64, 49 half-open connections where cookies are "
        "off, and 200 where they are on",
        least=_enough_for_the_longest_backlog,
        say=arithmetic.say_max_syn_backlog,
        elsewhere="Pages that set 4096 against SYN floods are right for Linux 3 and older, and where cookies are off; "
        "switching cookies on is the better answer. The default is the size of the hash table / 128, at least 128.",
    ),
    Recommendation(
        "tcp_synack_retries",
        "How long a half-open connection is kept. The kernel goes down to 2 retries by itself when a listener's queue "
        "is more than half full.",
        "",
        f"{_SYSCTL_DOC}: tcp_synack_retries; net/ipv4/inet_connection_sock.c: reqsk_timer_handler",
        low=2,
        high=5,
        raising="A higher value keeps what never answers for longer, and reflects more.",
        lowering="A lower value loses clients whose path loses packets for a few seconds.",
        elsewhere="Pages that set 2 speak of 180 s for the default of 5: with an initial timeout of 1 s, since Linux "
        "3.1, it is 63 s.",
        say=arithmetic.say_synack_retries,
    ),
    Recommendation(
        "net.core.somaxconn",
        "Caps the backlog of every listen(): an application that asks for more gets this, for its accept queue and its "
        "SYN queue. A listener takes it at listen(): restart it after a change, or its limit stays the old one.",
        "A longer queue hides a slow application for longer, and costs memory only while it is full.",
        "net/socket.c: __sys_listen; include/linux/socket.h: SOMAXCONN, 4096 since 5.4",
        low=4096,
        since="5.4",
        say=arithmetic.say_somaxconn,
        elsewhere="Pages that raise it from 128 speak of kernels before 5.4.",
    ),
    Recommendation(
        "net.core.somaxconn",
        "Caps the backlog of every listen(): an application that asks for more gets this, for its accept queue and its "
        "SYN queue. A listener takes it at listen(): restart it after a change, or its limit stays the old one.",
        "A longer queue hides a slow application for longer, and costs memory only while it is full.",
        "net/socket.c: __sys_listen; include/linux/socket.h: SOMAXCONN, 128 before 5.4",
        low=128,
        until="5.4",
        say=arithmetic.say_somaxconn,
    ),
    Recommendation(
        "tcp_abort_on_overflow",
        "1 resets a client whose connection found the accept queue full; 0 lets it try again, so that a burst costs it "
        "a second and not the connection.",
        "With 0 a client notices an overload later.",
        f"{_SYSCTL_DOC}: tcp_abort_on_overflow, only where the application certainly cannot be tuned",
        low=0,
        high=0,
    ),
    # ESTABLISHED
    Recommendation(
        "tcp_keepalive_time",
        "Idle time before the first probe, of sockets with SO_KEEPALIVE only. It should be less than the idle timeout "
        "of every NAT, load balancer and firewall on the path, often a few minutes: 300 to 600 is usual, best set by "
        "the application with TCP_KEEPIDLE.",
        "",
        f"{_SYSCTL_DOC}: tcp_keepalive_time; RFC 9293 3.8.4 (MUST-28): no less than two hours by default",
        low=1,
        high=7200,
        raising="A longer time finds dead peers later, and lets NAT and load balancers forget idle connections.",
        lowering="A shorter time is traffic on every idle connection, and ends connections over outages that they "
        "would survive.",
        elsewhere="Pages that set 1200 are right about the 11 minutes of probes after it, 9 * 75 = 675 s. TCP "
        "keepalive does not save handshakes: that is HTTP's keep-alive. It ends CLOSE-WAIT once the peer's side is "
        "gone, and not the leak: the descriptor stays.",
        say=arithmetic.say_keepalive,
    ),
    Recommendation(
        "tcp_keepalive_intvl",
        "Time between two probes.",
        "A short time mistakes a brief outage for a dead peer.",
        f"{_SYSCTL_DOC}: tcp_keepalive_intvl",
        say=arithmetic.say_keepalive_interval,
    ),
    Recommendation(
        "tcp_keepalive_probes",
        "Probes that may go unanswered. One lost packet must not end a connection.",
        "Many probes find a dead peer later.",
        f"{_SYSCTL_DOC}: tcp_keepalive_probes; RFC 9293 3.8.4 (MUST-29): one unanswered probe is no dead connection",
        low=2,
        say=arithmetic.say_keepalive_probes,
    ),
    Recommendation(
        "tcp_retries2",
        "How long unacknowledged data is sent again. Shorter is right only where something else takes over at once, "
        "and then better with TCP_USER_TIMEOUT for that application.",
        "",
        f"{_SYSCTL_DOC}: tcp_retries2; RFC 1122 4.2.3.5: at least 100 s, which is 8",
        low=5,
        high=15,
        raising="A higher value lets an application wait for longer for a dead peer: 15 is a quarter of an hour.",
        lowering="A lower value ends connections over outages that they would survive.",
        elsewhere="Elasticsearch asks for 5, and so does SAP for the failover of HANA (note 2696099): right there, "
        "because the application itself connects to another node.",
        say=arithmetic.say_retries2,
    ),
    Recommendation(
        "tcp_timestamps",
        "Round trip times, protection of fast connections against old segments, options behind SYN cookies and the "
        "reuse of TIME-WAIT all need timestamps.",
        "Twelve bytes a segment. With 2 the offset is not random, so it reveals the host's uptime.",
        f"{_SYSCTL_DOC}: tcp_timestamps; RFC 7323",
        low=1,
        high=2,
        elsewhere="Pages that set 0 against leaking the uptime are from before 4.10, which has random offsets.",
    ),
    Recommendation(
        "tcp_sack",
        "Without selective acknowledgement one lost segment in a window costs a round trip each.",
        "None on a kernel with the fixes of June 2019.",
        f"{_SYSCTL_DOC}: tcp_sack; RFC 2018",
        low=1,
        high=1,
        elsewhere="0 was the stopgap for CVE-2019-11477 (SACK panic), until the kernel was updated.",
    ),
    Recommendation(
        "tcp_window_scaling",
        "Without it a connection has at most 64 KiB on its way: 5 Mbit/s at 100 ms.",
        "None, except with very old firewalls.",
        f"{_SYSCTL_DOC}: tcp_window_scaling; RFC 7323",
        low=1,
        high=1,
    ),
    Recommendation(
        "tcp_moderate_rcvbuf",
        "Sizes receive buffers to the path; without it every connection has the default of tcp_rmem.",
        "None.",
        f"{_SYSCTL_DOC}: tcp_moderate_rcvbuf",
        low=1,
        high=1,
    ),
    # FIN-WAIT-1, LAST-ACK, CLOSING
    Recommendation(
        "tcp_orphan_retries",
        "How long a closed socket waits for a peer that does not answer. From 2 on it does nothing against a peer that "
        "answers with a closed window: that keeps FIN-WAIT-1 for minutes, until TCP_USER_TIMEOUT or ss -K ends it.",
        "",
        f"{_SYSCTL_DOC}: tcp_orphan_retries; net/ipv4/tcp_timer.c: tcp_orphan_retries, tcp_probe_timer; measured on "
        "6.18: FIN-WAIT-1 towards a closed window lasts 340 s with 0, 339 s with 2, and less than 3 s with 1, because "
        "the peer leaves a probe unanswered that comes within tcp_invalid_ratelimit, 500 ms, of the last",
        low=0,
        high=8,
        raising="A higher value keeps orphans for longer.",
        lowering="A lower value loses the end of what was sent to a peer whose path is slow.",
        elsewhere="Pages that set 1 to 3 against attacks mean peers that vanish; those that keep the window closed are "
        "not ended by it.",
        say=arithmetic.say_orphan_retries,
    ),
    Recommendation(
        "tcp_max_orphans",
        "A defence against memory exhaustion, of the whole host: beyond it orphans are reset. Below the kernel's own "
        "default, half of the hash table, connections are lost that the host has memory for.",
        "Each orphan may hold 64 KiB that cannot be swapped out.",
        f"{_SYSCTL_DOC}: tcp_max_orphans, must not be lowered; net/ipv4/tcp.c: tcp_init, tcp_too_many_orphans",
        low=1,
        say=arithmetic.say_max_orphans,
        least=_half_of_the_hash_table,
        untold="whether that is enough could not be judged, because this kernel has no tcp_ehash_entries",
    ),
    # FIN-WAIT-2
    Recommendation(
        "tcp_fin_timeout",
        "Life of FIN-WAIT-2 after close(), when the peer does not close its side. Above 60 the kernel waits for the "
        "excess over 60 s, twice, so that 61 is 2 s.",
        "",
        f"{_SYSCTL_DOC}: tcp_fin_timeout; net/ipv4/tcp.c: __tcp_close; measured on 6.18: 30 is 31.6 s, 61 is 2.1 s, "
        "65 is 10.2 s",
        low=5,
        high=60,
        raising="A higher value, up to 60, keeps FIN-WAIT-2 for longer.",
        lowering="A lower value resets peers that are slow to close; from 61 to 89 the kernel waits less than with 60.",
        elsewhere="Pages that set 30 or 15 against SYN floods or TIME-WAIT are wrong: it acts on FIN-WAIT-2 only, and "
        "not while the application holds the socket. TIME-WAIT lasts 60 s on every mainline kernel, and no sysctl "
        "shortens it; Alibaba Cloud Linux 2 and 3 have tcp_tw_timeout.",
        say=arithmetic.say_fin_timeout,
    ),
    # TIME-WAIT
    Recommendation(
        "tcp_max_tw_buckets",
        "A defence against memory exhaustion: beyond it connections skip TIME-WAIT, and late segments of one may reach "
        "the next. Below the kernel's own default, half of the hash table, connections skip TIME-WAIT without need.",
        "256 bytes each.",
        f"{_SYSCTL_DOC}: tcp_max_tw_buckets, must not be lowered; net/ipv4/inet_timewait_sock.c: inet_twsk_alloc, "
        "which compares it unsigned, so that -1 is no limit",
        low=1,
        say=arithmetic.say_time_wait_sockets,
        least=_default_of_time_wait,
        untold="whether that is enough could not be judged, because neither tcp_ehash_entries nor tcp_max_orphans is "
        "visible here",
        unsigned=True,
        elsewhere="180000 was the default of 2.6. Lowering it does not cure many TIME-WAIT sockets, which cost little.",
    ),
    Recommendation(
        "tcp_tw_reuse",
        "Lets a new connect() take over a TIME-WAIT socket to the same address and port: 2 on loopback only, 1 "
        "everywhere. It helps a client or a proxy that runs out of local ports, and does nothing for the TIME-WAIT "
        "of a server.",
        "The kernel's document: not to be changed without advice of experts. It needs timestamps on both sides and a "
        "TIME-WAIT of at least a second.",
        f"{_SYSCTL_DOC}: tcp_tw_reuse, default 2 since 4.19 (commit 79e9fed46038); net/ipv4/tcp_ipv4.c: "
        "tcp_twsk_unique",
        elsewhere="Pages that set 1 know a default of 0 and fear a conflict with tcp_tw_recycle: there is none. "
        "Today's default is 2.",
    ),
    Recommendation(
        "tcp_tw_recycle",
        "1 drops the SYNs of clients that share an address behind NAT, and since 4.10, with random offsets of "
        "timestamps, those of anyone.",
        "None.",
        "removed in 4.12: commit 4396e46187ca",
        low=0,
        high=0,
        elsewhere="It is gone since Linux 4.12: delete the line from sysctl.conf.",
    ),
    Recommendation(
        "tcp_rfc1337",
        "1 ignores a reset in TIME-WAIT, so that it cannot be ended early; 0 lets it end.",
        "None known.",
        f"{_SYSCTL_DOC}: tcp_rfc1337; RFC 1337",
    ),
)

BY_SYSCTL: Mapping[str, tuple[Recommendation, ...]] = {
    name: tuple(entry for entry in PROFILE if entry.sysctl == name)
    for name in dict.fromkeys(entry.sysctl for entry in PROFILE)
}
"""The entries of each sysctl."""
