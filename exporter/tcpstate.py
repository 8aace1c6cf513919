"""The eleven TCP states: the only place where a state is spelled.

The kernel's number is what ``inet_diag`` and ``/proc/net/tcp`` say, the label is what metrics, configuration and
performance data say, and the RFC 9293 name is what people read. Everything else imports ``TcpState``.
"""

from __future__ import annotations

from exporter.members import IntEnum


class TcpState(IntEnum):
    """A TCP state, numbered as in the kernel's include/net/tcp_states.h.

    ``UNKNOWN`` collects numbers that this program has no name for, so that a newer kernel's states are counted
    and not lost. ``sysctls`` are the parameters that act on sockets in the state, the most telling first.
    """

    label: str
    rfc9293: str
    meaning: str
    sysctls: tuple[str, ...]

    def __new__(cls, number: int, label: str, rfc9293: str, meaning: str, *sysctls: str) -> TcpState:
        """Attach the spellings to the number."""
        state = int.__new__(cls, number)
        state._value_ = number
        state.label = label
        state.rfc9293 = rfc9293
        state.meaning = meaning
        state.sysctls = sysctls
        return state

    UNKNOWN = 0, "unknown", "-", "a state that this version does not know"
    ESTABLISHED = (
        1, "established", "ESTABLISHED", "open: data can flow both ways",
        "tcp_keepalive_time", "tcp_keepalive_intvl", "tcp_keepalive_probes", "tcp_retries2", "tcp_rmem", "tcp_wmem",
        "tcp_mem",
    )  # fmt: skip
    SYN_SENT = (
        2, "syn_sent", "SYN-SENT", "connect() has sent a SYN and waits for the answer",
        "tcp_syn_retries", "tcp_syn_linear_timeouts", "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports", "tcp_fastopen",
    )  # fmt: skip
    SYN_RECV = (
        3, "syn_recv", "SYN-RECEIVED", "half open: a SYN came, the SYN-ACK is out, the final ACK is awaited",
        "tcp_syncookies", "net.core.somaxconn", "tcp_synack_retries", "tcp_max_syn_backlog", "tcp_abort_on_overflow",
        "net.core.netdev_max_backlog",
    )  # fmt: skip
    FIN_WAIT1 = (
        4, "fin_wait1", "FIN-WAIT-1", "this side closed and waits for its FIN to be acknowledged",
        "tcp_orphan_retries", "tcp_max_orphans", "tcp_retries2",
    )  # fmt: skip
    FIN_WAIT2 = (
        5, "fin_wait2", "FIN-WAIT-2", "this side closed, the peer has not yet",
        "tcp_fin_timeout", "tcp_max_tw_buckets", "tcp_max_orphans",
    )  # fmt: skip
    TIME_WAIT = (
        6, "time_wait", "TIME-WAIT", "closed by this side first; kept 60 s so that late segments do no harm",
        "tcp_max_tw_buckets", "tcp_tw_reuse", "tcp_tw_reuse_delay", "tcp_timestamps", "tcp_rfc1337",
        "net.ipv4.ip_local_port_range",
    )  # fmt: skip
    CLOSE = 7, "close", "CLOSED", "not connected; the kernel lists such a socket only in passing"
    CLOSE_WAIT = (
        8, "close_wait", "CLOSE-WAIT", "the peer closed, the application here has not: only that frees the descriptor",
        "tcp_keepalive_time",
    )  # fmt: skip
    LAST_ACK = (
        9, "last_ack", "LAST-ACK", "closed after the peer; waits for the last acknowledgement",
        "tcp_orphan_retries", "tcp_max_orphans",
    )  # fmt: skip
    LISTEN = (
        10, "listen", "LISTEN", "waits for connections",
        "net.core.somaxconn", "tcp_abort_on_overflow", "tcp_fastopen",
    )  # fmt: skip
    CLOSING = (
        11, "closing", "CLOSING", "both sides closed at once; waits for the acknowledgement of its FIN",
        "tcp_orphan_retries", "tcp_max_orphans",
    )  # fmt: skip


_BY_NUMBER = {int(state): state for state in TcpState}


def of_number(number: int) -> TcpState:
    """The state of the kernel's *number*, ``UNKNOWN`` for one that has no name here."""
    return _BY_NUMBER.get(number, TcpState.UNKNOWN)


KNOWN_STATES = tuple(state for state in TcpState if state is not TcpState.UNKNOWN)
"""The eleven states, in the kernel's order."""

BY_LABEL = {state.label: state for state in KNOWN_STATES}
"""From label to state, the eleven known ones."""

_BY_NAME = {name.upper().replace("-", "_"): state for state in KNOWN_STATES for name in (state.label, state.rfc9293)}


def of_name(text: str) -> TcpState | None:
    """The state that a person calls *text*: its label or its RFC 9293 name, in any case, ``-`` and ``_`` alike.

    >>> of_name("CLOSE-WAIT"), of_name("Closed"), of_name("fin_wait_1"), of_name("shut")
    (<TcpState.CLOSE_WAIT: 8>, <TcpState.CLOSE: 7>, <TcpState.FIN_WAIT1: 4>, None)
    """
    return _BY_NAME.get(text.upper().replace("-", "_"))


StateCounts = tuple[int, ...]
"""Sockets by ``TcpState``: twelve numbers, indexed by the state, ``UNKNOWN`` first."""

NO_SOCKETS: StateCounts = (0,) * len(TcpState)
