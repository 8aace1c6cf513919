"""The catalogue of sysctls: what each value is, in which unit, since when, and what it does in one line.

``sysctl`` reads values by it, the plugin's ``-v`` and the advice explain them. A sysctl that is missing here is still
exported, with an empty unit. Releases and defaults are mainline's; stable releases and vendors have some of later ones.
``tests/kernels`` holds them against real kernels. The states that one bears on are written once, in ``tcpstate``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from exporter.tcpstate import KNOWN_STATES, TcpState

BOOL, INT, VECTOR, TEXT, PORTS, SECRET = "bool", "int", "vector", "text", "ports", "secret"
"""Kinds of value: on or off, one integer, several with names, words, a list of port ranges, what is never opened."""


class Sysctl(NamedTuple):
    """One sysctl. ``tcp_*`` stand for ``net.ipv4.tcp_*``; others have their whole key."""

    name: str
    kind: str
    unit: str  # of the number as the kernel prints it; "" where it is a switch, a mode or a plain factor
    default: str  # of current mainline kernels, older ones in brackets; "" where it depends on the host
    since: str  # the mainline release that brought it, as far as known; vendors and stable releases have backports
    meaning: str
    fields: tuple[str, ...] = ()  # names of a vector's numbers
    until: str = ""  # the last kernel that had it
    init_only: bool = False  # it does not exist in child network namespaces; the value is the host's
    vendor: str = ""  # whose kernels have it, where mainline never did


def states_of(name: str) -> tuple[TcpState, ...]:
    """The states that a sysctl bears on, in the kernel's order."""
    return tuple(state for state in KNOWN_STATES if name in state.sysctls)


# A table reads best with an entry a line or two:
# fmt: off
_ENTRIES = (
    Sysctl("net.core.netdev_max_backlog", INT, "packets", "1000", "2.2",
           "packets a CPU holds between network card and protocol; beyond it even SYNs are dropped", init_only=True),
    Sysctl("net.core.somaxconn", INT, "connections", "4096 (128 before 5.4)", "2.2",
           "upper limit of listen(2)'s backlog, for accept queue and SYN queue, taken at the call of listen()"),
    Sysctl("net.ipv4.ip_local_port_range", VECTOR, "ports", "32768 60999", "2.2",
           "first and last local port that connect() may pick", ("low", "high")),
    Sysctl("net.ipv4.ip_local_reserved_ports", PORTS, "ports", "", "2.6.35",
           "ports of that range that connect() may not pick", ("count",)),
    Sysctl("tcp_abc", INT, "", "0", "2.6.15", "appropriate byte counting of RFC 3465", until="3.8"),
    Sysctl("tcp_abort_on_overflow", BOOL, "", "0", "2.4",
           "when the accept queue is full at the last ACK: 1 resets the client, 0 drops the ACK so that it retries"),
    Sysctl("tcp_adv_win_scale", INT, "", "1", "2.4",
           "share of the receive buffer kept as overhead; without effect since 6.6"),
    Sysctl("tcp_allowed_congestion_control", TEXT, "", "reno and the default", "2.6.20",
           "congestion controls that a process without CAP_NET_ADMIN may choose"),
    Sysctl("tcp_app_win", INT, "", "31", "2.4", "share of the window kept for the application, as a power of two"),
    Sysctl("tcp_autocorking", BOOL, "", "1", "3.14",
           "merge small writes while earlier data still waits in the host's queues"),
    Sysctl("tcp_available_congestion_control", TEXT, "", "", "2.6.20", "congestion controls that are loaded"),
    Sysctl("tcp_available_ulp", TEXT, "", "", "4.13", "upper layer protocols that are loaded, such as tls",
           init_only=True),
    Sysctl("tcp_backlog_ack_defer", BOOL, "", "1", "6.7", "answer a socket's whole backlog with one ACK"),
    Sysctl("tcp_base_mss", INT, "bytes", "1024 (512 before 4.1)", "2.6.17",
           "segment size that path MTU probing starts from"),
    Sysctl("tcp_challenge_ack_limit", INT, "segments", "2147483647 (1000 before 6.1)", "3.6",
           "challenge ACKs sent a second, RFC 5961"),
    Sysctl("tcp_child_ehash_entries", INT, "buckets", "0", "6.1",
           "size of the own hash table of namespaces made from this one; 0 shares the host's"),
    Sysctl("tcp_comp_sack_delay_ns", INT, "nanoseconds", "1000000", "4.18", "longest delay of a compressed SACK"),
    Sysctl("tcp_comp_sack_nr", INT, "segments", "44", "4.18", "most SACKs that are compressed into one"),
    Sysctl("tcp_comp_sack_rtt_percent", INT, "percent", "33", "6.19",
           "delay of a compressed SACK as a share of the RTT"),
    Sysctl("tcp_comp_sack_slack_ns", INT, "nanoseconds", "100000 (10000 from 6.19)", "5.8",
           "slack of the timer of compressed SACKs"),
    Sysctl("tcp_congestion_control", TEXT, "", "cubic", "2.6.13",
           "congestion control of new sockets; an accepted one has its listener's"),
    Sysctl("tcp_cookie_size", INT, "bytes", "0", "2.6.33", "default size of TCP cookie transactions", until="3.9"),
    Sysctl("tcp_dma_copybreak", INT, "bytes", "4096", "2.6.18", "read size from which DMA copied", until="3.17"),
    Sysctl("tcp_dsack", BOOL, "", "1", "2.4", "tell the sender of duplicates by SACK"),
    Sysctl("tcp_early_demux", BOOL, "", "1", "4.12", "find a segment's socket before its route"),
    Sysctl("tcp_early_retrans", INT, "", "3", "3.5", "tail loss probes: 0 off, 3 or 4 on"),
    Sysctl("tcp_ecn", INT, "", "2", "2.4",
           "explicit congestion notification: 0 off, 1 asked for, 2 only when the peer asks"),
    Sysctl("tcp_ecn_fallback", BOOL, "", "1", "4.2", "do without ECN when the path mishandles it"),
    Sysctl("tcp_ecn_option", INT, "", "2", "6.18", "when the option of accurate ECN is sent"),
    Sysctl("tcp_ecn_option_beacon", INT, "", "3", "6.18", "how often a round trip the option of accurate ECN is sent"),
    Sysctl("tcp_ehash_entries", INT, "buckets", "", "6.1",
           "size of the hash table of connections; negative where it is the host's, shared"),
    Sysctl("tcp_fack", BOOL, "", "0", "2.2", "forward acknowledgement; without effect since 4.15"),
    Sysctl("tcp_fastopen", INT, "", "1", "3.6", "Fast Open as a bitmap: 1 client, 2 server, 4 and more special cases"),
    Sysctl("tcp_fastopen_blackhole_timeout_sec", INT, "seconds", "0 (3600 before 5.14)", "4.12",
           "pause of the Fast Open client after a path lost its data"),
    Sysctl("tcp_fastopen_key", SECRET, "", "", "3.7", "key of Fast Open cookies: a secret, never read"),
    Sysctl("tcp_fin_timeout", INT, "seconds", "60", "2.2",
           "life of FIN-WAIT-2 after close(); it neither shortens TIME-WAIT nor helps against SYN floods"),
    Sysctl("tcp_frto", INT, "", "2", "2.4.21", "detect needless retransmission timeouts, RFC 5682"),
    Sysctl("tcp_frto_response", INT, "", "0", "2.6.22", "what to do after a needless timeout", until="3.9"),
    Sysctl("tcp_fwmark_accept", BOOL, "", "0", "3.16", "an accepted socket takes the mark of its SYN"),
    Sysctl("tcp_invalid_ratelimit", INT, "milliseconds", "500", "4.0",
           "shortest time between two ACKs for segments outside the window"),
    Sysctl("tcp_keepalive_intvl", INT, "seconds", "75", "2.4", "time between two keepalive probes"),
    Sysctl("tcp_keepalive_probes", INT, "probes", "9", "2.2",
           "unanswered keepalive probes after which a connection is dead"),
    Sysctl("tcp_keepalive_time", INT, "seconds", "7200", "2.2",
           "idle time before the first keepalive probe, of sockets with SO_KEEPALIVE only"),
    Sysctl("tcp_l3mdev_accept", BOOL, "", "0", "4.5", "a listener accepts from every VRF"),
    Sysctl("tcp_limit_output_bytes", INT, "bytes", "4194304 (1048576 before 6.16)", "3.6",
           "what one socket may have in the host's send queues"),
    Sysctl("tcp_low_latency", BOOL, "", "0", "2.4.21", "prefer latency to throughput; without effect since 4.14",
           init_only=True),
    Sysctl("tcp_max_orphans", INT, "sockets", "half the hash table's size", "2.4",
           "sockets without a process that the host keeps; beyond it they are reset", init_only=True),
    Sysctl("tcp_max_reordering", INT, "segments", "300", "3.19", "most reordering that a connection adapts to"),
    Sysctl("tcp_max_ssthresh", INT, "segments", "0", "2.6.22", "limit of slow start, RFC 3742", until="3.12"),
    Sysctl("tcp_max_syn_backlog", INT, "requests", "the hash table's size / 128, at least 128", "2.2",
           "half-open connections of a listener; since 4.4 only where tcp_syncookies is 0"),
    Sysctl("tcp_max_tw_buckets", INT, "sockets", "half the hash table's size", "2.4",
           "mini-sockets that are kept; beyond it connections skip TIME-WAIT, so do not lower it"),
    Sysctl("tcp_mem", VECTOR, "pages", "from the host's memory", "2.4",
           "buffer memory of all TCP: relaxed below min, saving from pressure on, refusing at max",
           ("min", "pressure", "max"), init_only=True),
    Sysctl("tcp_migrate_req", BOOL, "", "0", "5.14", "hand half-open connections to another listener when one closes"),
    Sysctl("tcp_min_rtt_wlen", INT, "seconds", "300", "4.4", "window of the smallest round trip time"),
    Sysctl("tcp_min_snd_mss", INT, "bytes", "48", "5.2", "smallest segment size to send with"),
    Sysctl("tcp_min_tso_segs", INT, "segments", "2", "3.12", "fewest segments that are handed to the card as one"),
    Sysctl("tcp_moderate_rcvbuf", BOOL, "", "1", "2.6.7", "size receive buffers automatically, up to tcp_rmem"),
    Sysctl("tcp_mtu_probe_floor", INT, "bytes", "48", "5.4", "smallest segment size that MTU probing tries"),
    Sysctl("tcp_mtu_probing", INT, "", "0", "2.6.17", "path MTU probing: 0 off, 1 when packets vanish, 2 always"),
    Sysctl("tcp_no_metrics_save", BOOL, "", "0", "2.6.6", "forget a connection's path metrics when it closes"),
    Sysctl("tcp_no_ssthresh_metrics_save", BOOL, "", "1", "5.6",
           "forget the slow start threshold when a connection closes"),
    Sysctl("tcp_notsent_lowat", INT, "bytes", "4294967295", "3.12", "unsent data above which a socket is not writable"),
    Sysctl("tcp_orphan_retries", INT, "retries", "0, which acts as 8", "2.4",
           "retransmissions after close() before a socket is given up"),
    Sysctl("tcp_pacing_ca_ratio", INT, "percent", "120", "4.3", "pacing rate in congestion avoidance"),
    Sysctl("tcp_pacing_ss_ratio", INT, "percent", "200", "4.3", "pacing rate in slow start"),
    Sysctl("tcp_pingpong_thresh", INT, "", "1", "6.7", "answers after which a connection counts as interactive"),
    Sysctl("tcp_plb_cong_thresh", INT, "", "128", "6.2",
           "load balancing by path: share of marks, of 256, that is congestion"),
    Sysctl("tcp_plb_enabled", BOOL, "", "0", "6.2", "load balancing by path: change the path of congested connections"),
    Sysctl("tcp_plb_idle_rehash_rounds", INT, "rounds", "3", "6.2",
           "load balancing by path: congested rounds before an idle connection changes"),
    Sysctl("tcp_plb_rehash_rounds", INT, "rounds", "12", "6.2",
           "load balancing by path: congested rounds before a busy connection changes"),
    Sysctl("tcp_plb_suspend_rto_sec", INT, "seconds", "60", "6.2", "load balancing by path: pause after a timeout"),
    Sysctl("tcp_probe_interval", INT, "seconds", "600", "4.1", "time before path MTU is probed again"),
    Sysctl("tcp_probe_threshold", INT, "bytes", "8", "4.1", "width of the search at which MTU probing ends"),
    Sysctl("tcp_rcvbuf_low_rtt", INT, "microseconds", "1000", "6.19",
           "round trip time below which receive buffers grow slowly"),
    Sysctl("tcp_recovery", INT, "", "1", "4.4", "loss detection by time (RACK), as a bitmap"),
    Sysctl("tcp_reflect_tos", BOOL, "", "0", "5.10", "answer with the DSCP of the SYN"),
    Sysctl("tcp_reordering", INT, "segments", "3", "2.4", "reordering that a connection starts to expect"),
    Sysctl("tcp_retrans_collapse", BOOL, "", "1", "2.2", "merge small segments when they are sent again"),
    Sysctl("tcp_retries1", INT, "retries", "3", "2.2", "timeouts before the route is looked up again"),
    Sysctl("tcp_retries2", INT, "retries", "15", "2.2",
           "how long unacknowledged data is sent again, as a number of timeouts: 15 is about 15 minutes"),
    Sysctl("tcp_rfc1337", BOOL, "", "0", "2.2", "do not let a reset end TIME-WAIT"),
    Sysctl("tcp_rmem", VECTOR, "bytes", "4096 131072 33554432 at most (6291456 before 6.16)", "2.4",
           "receive buffer of a socket: least, at the start, and most by itself", ("min", "default", "max")),
    Sysctl("tcp_rto_max_ms", INT, "milliseconds", "120000", "6.15", "longest retransmission timeout"),
    Sysctl("tcp_rto_min_us", INT, "microseconds", "200000", "6.11", "shortest retransmission timeout"),
    Sysctl("tcp_rx_skb_cache", BOOL, "", "0", "5.3", "keep a receive buffer per socket", until="5.15", init_only=True),
    Sysctl("tcp_sack", BOOL, "", "1", "2.2", "selective acknowledgement"),
    Sysctl("tcp_shrink_window", BOOL, "", "0", "6.6", "allow the receive window to shrink when memory runs out"),
    Sysctl("tcp_slow_start_after_idle", BOOL, "", "1", "2.6.18", "begin slowly again after an idle time"),
    Sysctl("tcp_stdurg", BOOL, "", "0", "2.2", "read the urgent pointer by RFC 1122"),
    Sysctl("tcp_syn_linear_timeouts", INT, "retries", "4", "6.5",
           "SYNs sent again a second apart before the gaps double"),
    Sysctl("tcp_syn_retries", INT, "retries", "6 (5 before 3.7)", "2.2",
           "SYNs sent again before connect() gives up: 6 is about two minutes"),
    Sysctl("tcp_synack_retries", INT, "retries", "5", "2.2",
           "SYN-ACKs sent again before a half-open connection is dropped: 5 is 63 s"),
    Sysctl("tcp_syncookies", INT, "", "1", "2.2",
           "SYN cookies: 0 off, 1 when a listener's SYN queue is full, 2 always"),
    Sysctl("tcp_thin_dupack", BOOL, "", "0", "2.6.34", "send again after one duplicate ACK on thin streams",
           until="4.10"),
    Sysctl("tcp_thin_linear_timeouts", BOOL, "", "0", "2.6.34", "do not double the timeout of thin streams"),
    Sysctl("tcp_timestamps", INT, "", "1", "2.2",
           "timestamps of RFC 7323: 0 off, 1 on with random offset, 2 on without"),
    Sysctl("tcp_tso_rtt_log", INT, "", "9", "5.18",
           "round trip time up to which bigger bursts are allowed, as a power of two"),
    Sysctl("tcp_tso_win_divisor", INT, "", "3", "2.6.9", "share of the window that one burst may take"),
    Sysctl("tcp_tw_recycle", BOOL, "", "0", "2.4",
           "fast recycling of TIME-WAIT; it dropped clients behind NAT and is gone", until="4.11"),
    Sysctl("tcp_tw_reuse", INT, "", "2 (0 before 4.19)", "2.4.19",
           "let connect() take over a TIME-WAIT socket: 0 never, 1 always, 2 on loopback"),
    Sysctl("tcp_tw_reuse_delay", INT, "milliseconds", "1000", "6.14",
           "age from which tcp_tw_reuse may take a socket over"),
    Sysctl("tcp_tw_timeout", INT, "seconds", "60", "4.19",
           "life of TIME-WAIT, 1 to 600 s; mainline has none, and 60 s always", vendor="Alibaba Cloud Linux 2 and 3"),
    Sysctl("tcp_tx_skb_cache", BOOL, "", "0", "5.3", "keep a send buffer per socket", until="5.15", init_only=True),
    Sysctl("tcp_window_scaling", BOOL, "", "1", "2.2", "windows above 64 KiB"),
    Sysctl("tcp_wmem", VECTOR, "bytes", "4096 16384 4194304 at most", "2.4",
           "send buffer of a socket: least, at the start, and most by itself", ("min", "default", "max")),
    Sysctl("tcp_workaround_signed_windows", BOOL, "", "0", "2.6.26",
           "treat windows of peers without scaling as signed"),
)
# fmt: on

CATALOGUE: Mapping[str, Sysctl] = {entry.name: entry for entry in _ENTRIES}
"""Every known sysctl by name."""

LIMITS: Mapping[str, tuple[int, int]] = {
    "net.core.somaxconn": (0, 2**31 - 1),
    "net.ipv4.ip_local_port_range": (1, 65535),
    "tcp_ecn": (0, 5),  # 0 to 2 before accurate ECN
    "tcp_fin_timeout": (0, 2**31 // 1000),
    "tcp_keepalive_intvl": (1, 32767),  # include/net/tcp.h: MAX_TCP_KEEPINTVL; the file itself takes more
    "tcp_keepalive_probes": (0, 255),
    "tcp_keepalive_time": (1, 2**31 // 1000),
    "tcp_mem": (0, 2**63 - 1),
    "tcp_min_rtt_wlen": (0, 86400),
    "tcp_orphan_retries": (0, 255),
    "tcp_pacing_ca_ratio": (0, 1000),
    "tcp_pacing_ss_ratio": (0, 1000),
    "tcp_reordering": (1, 300),
    "tcp_retries1": (0, 255),
    "tcp_retries2": (0, 255),
    "tcp_rmem": (1, 2**31 - 1),
    "tcp_rto_max_ms": (1000, 120000),
    "tcp_syn_linear_timeouts": (0, 127),
    "tcp_syn_retries": (1, 127),
    "tcp_synack_retries": (0, 255),
    "tcp_syncookies": (0, 2),  # the file takes up to 255, which acts as 2
    "tcp_timestamps": (0, 2),  # likewise
    "tcp_tw_reuse": (0, 2),
    "tcp_tw_reuse_delay": (1, 60000),
    "tcp_wmem": (1, 2**31 - 1),
}
"""The least and the most that means something to the kernel: net/ipv4/sysctl_net_ipv4.c, measured on 6.18."""
