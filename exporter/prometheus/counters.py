"""The kernel's event counters that explain a state, each under the name of what it counts.

One line a counter: adding one means a line here, the goldens and the generated reference. ``families`` renders those
that the kernel has.
"""

from __future__ import annotations

from typing import NamedTuple


class KernelCounter(NamedTuple):
    """A counter of /proc/net/snmp (``Tcp.``) or netstat (``TcpExt.``). ``scale`` turns the kernel's unit into ours."""

    name: str  # of the family, without _total
    field: str
    help: str
    scale: float = 1.0

    @property
    def documentation(self) -> str:
        """The HELP text, which ends with the kernel source of the number."""
        table, field = self.field.split(".")
        file = "snmp" if table == "Tcp" else "netstat"
        return f"{self.help} (/proc/net/{file} {table}: {field})."


# A table reads best with an entry a line:
# fmt: off
COUNTERS = (
    # connections as a whole
    KernelCounter("tcp_active_opens", "Tcp.ActiveOpens", "Connections that this host tried to open"),
    KernelCounter("tcp_passive_opens", "Tcp.PassiveOpens", "Connections accepted from outside, handshake finished"),
    KernelCounter("tcp_segments_received", "Tcp.InSegs", "Segments received, bad ones too"),
    KernelCounter("tcp_segments_sent", "Tcp.OutSegs", "Segments sent, retransmissions not counted"),
    # SYN_SENT
    KernelCounter("tcp_attempt_fails", "Tcp.AttemptFails", "Handshakes that ended in CLOSED: refused or given up"),
    KernelCounter("tcp_syn_retransmits", "TcpExt.TCPSynRetrans", "SYN and SYN-ACK segments sent again"),
    KernelCounter("tcp_timeouts", "TcpExt.TCPTimeouts", "Retransmission timers that fired, those of SYN-ACKs too"),
    # SYN_RECV
    KernelCounter("tcp_syn_queue_full_cookies", "TcpExt.TCPReqQFullDoCookies",
                  "SYNs for a cookie because the SYN queue was full; with tcp_syncookies at 2, every SYN"),
    KernelCounter("tcp_syn_queue_full_drops", "TcpExt.TCPReqQFullDrop",
                  "SYNs dropped because the listener's SYN queue was full and cookies were off"),
    KernelCounter("tcp_syncookies_sent", "TcpExt.SyncookiesSent", "SYN cookies sent"),
    KernelCounter("tcp_syncookies_received", "TcpExt.SyncookiesRecv", "Valid SYN cookies that came back"),
    KernelCounter("tcp_syncookies_failed", "TcpExt.SyncookiesFailed", "Invalid SYN cookies that came back"),
    KernelCounter("tcp_listen_drops", "TcpExt.ListenDrops", "SYNs and final ACKs dropped at a listener, all causes"),
    KernelCounter("tcp_embryonic_resets", "TcpExt.EmbryonicRsts", "Resets received for half-open connections"),
    KernelCounter("tcp_defer_accept_drops", "TcpExt.TCPDeferAcceptDrop", "Bare ACKs dropped by TCP_DEFER_ACCEPT"),
    KernelCounter("tcp_fastopen_listen_overflows", "TcpExt.TCPFastOpenListenOverflow",
                  "Fast Open requests beyond the listener's limit"),
    KernelCounter("tcp_acks_skipped_syn_recv", "TcpExt.TCPACKSkippedSynRecv",
                  "ACKs not sent in SYN-RECEIVED because of the rate limit"),
    # the accept queue
    KernelCounter("tcp_listen_overflows", "TcpExt.ListenOverflows",
                  "SYNs and final ACKs dropped because the accept queue was full"),
    # ESTABLISHED
    KernelCounter("tcp_established_resets", "Tcp.EstabResets",
                  "Connections that went from ESTABLISHED or CLOSE-WAIT straight to CLOSED"),
    KernelCounter("tcp_resets_sent", "Tcp.OutRsts", "Resets sent"),
    KernelCounter("tcp_receive_errors", "Tcp.InErrs", "Bad segments received"),
    KernelCounter("tcp_checksum_errors", "Tcp.InCsumErrors", "Segments received with a wrong checksum"),
    KernelCounter("tcp_aborts_on_timeout", "TcpExt.TCPAbortOnTimeout",
                  "Connections given up after retransmissions, keepalive probes or a user timeout"),
    KernelCounter("tcp_aborts_on_close", "TcpExt.TCPAbortOnClose", "Connections closed with unread data, hence reset"),
    KernelCounter("tcp_aborts_on_data", "TcpExt.TCPAbortOnData",
                  "Connections reset by late data or a close without linger"),
    KernelCounter("tcp_keepalive_probes", "TcpExt.TCPKeepAlive", "Keepalive probes sent"),
    KernelCounter("tcp_segments_retransmitted", "Tcp.RetransSegs", "Segments sent again"),
    KernelCounter("tcp_lost_retransmits", "TcpExt.TCPLostRetransmit", "Retransmissions that were lost too"),
    KernelCounter("tcp_fast_retransmits", "TcpExt.TCPFastRetrans", "Retransmissions before a timeout"),
    KernelCounter("tcp_slow_start_retransmits", "TcpExt.TCPSlowStartRetrans", "Retransmissions in slow start"),
    KernelCounter("tcp_spurious_timeouts", "TcpExt.TCPSpuriousRTOs", "Retransmission timeouts that proved needless"),
    KernelCounter("tcp_backlog_drops", "TcpExt.TCPBacklogDrop", "Segments dropped because a socket's backlog was full"),
    KernelCounter("tcp_receive_queue_drops", "TcpExt.TCPRcvQDrop", "Segments dropped because a receive queue was full"),
    KernelCounter("tcp_out_of_order_drops", "TcpExt.TCPOFODrop", "Out-of-order segments dropped for want of buffer"),
    KernelCounter("tcp_prune_calls", "TcpExt.PruneCalled", "Times a socket had to free receive buffer"),
    KernelCounter("tcp_receive_prunes", "TcpExt.RcvPruned", "Times freeing receive buffer was not enough"),
    KernelCounter("tcp_receive_collapses", "TcpExt.TCPRcvCollapsed", "Segments merged to save receive buffer"),
    KernelCounter("tcp_zero_window_drops", "TcpExt.TCPZeroWindowDrop", "Segments dropped at a closed receive window"),
    KernelCounter("tcp_zero_windows_entered", "TcpExt.TCPToZeroWindowAdv", "Times this host closed its window"),
    KernelCounter("tcp_zero_windows_left", "TcpExt.TCPFromZeroWindowAdv", "Times this host opened its window again"),
    KernelCounter("tcp_zero_windows_wanted", "TcpExt.TCPWantZeroWindowAdv",
                  "Times this host wanted to close its window and could not shrink it"),
    KernelCounter("tcp_window_probes", "TcpExt.TCPWinProbe", "Probes of a peer's closed window sent"),
    KernelCounter("tcp_write_queue_limits", "TcpExt.TCPWqueueTooBig",
                  "Retransmissions refused because the write queue was too large"),
    KernelCounter("tcp_memory_reserve_drops", "TcpExt.PFMemallocDrop",
                  "Segments dropped because only reserved memory was left"),
    KernelCounter("tcp_ttl_drops", "TcpExt.TCPMinTTLDrop", "Segments dropped for a TTL below the socket's minimum"),
    # FIN_WAIT1, LAST_ACK, CLOSING
    KernelCounter("tcp_aborts_on_memory", "TcpExt.TCPAbortOnMemory",
                  "Orphans killed: too many of them, or TCP out of memory"),
    KernelCounter("tcp_aborts_on_linger", "TcpExt.TCPAbortOnLinger", "Connections reset by a negative TCP_LINGER2"),
    KernelCounter("tcp_aborts_failed", "TcpExt.TCPAbortFailed", "Resets that could not be sent"),
    # FIN_WAIT2
    KernelCounter("tcp_acks_skipped_fin_wait2", "TcpExt.TCPACKSkippedFinWait2",
                  "ACKs not sent in FIN-WAIT-2 because of the rate limit"),
    # TIME_WAIT
    KernelCounter("tcp_timewait_started", "TcpExt.TW", "Mini-sockets that began to wait for more than 4 s"),
    KernelCounter("tcp_timewait_short", "TcpExt.TWKilled", "Mini-sockets that began to wait for at most 4 s"),
    KernelCounter("tcp_timewait_reused", "TcpExt.TWRecycled", "TIME-WAIT sockets taken over by a new connect()"),
    KernelCounter("tcp_timewait_overflows", "TcpExt.TCPTimeWaitOverflow",
                  "Connections that skipped TIME-WAIT because tcp_max_tw_buckets was reached"),
    KernelCounter("tcp_acks_skipped_time_wait", "TcpExt.TCPACKSkippedTimeWait",
                  "ACKs not sent in TIME-WAIT because of the rate limit"),
    KernelCounter("tcp_paws_active_rejects", "TcpExt.PAWSActive", "SYN-ACKs rejected by timestamp"),
    KernelCounter("tcp_paws_passive_rejects", "TcpExt.PAWSPassive", "SYNs rejected by timestamp: tcp_tw_recycle"),
    KernelCounter("tcp_paws_established_rejects", "TcpExt.PAWSEstab", "Segments of connections rejected by timestamp"),
    KernelCounter("tcp_paws_old_acks", "TcpExt.PAWSOldAck", "ACKs with an old timestamp rejected"),
    KernelCounter("tcp_paws_time_wait_rejects", "TcpExt.PAWSTimewait", "SYNs rejected in TIME-WAIT by timestamp"),
    KernelCounter("tcp_timestamp_echo_rejects", "TcpExt.TSEcrRejected", "Segments with an impossible timestamp echo"),
    KernelCounter("tcp_beyond_window_rejects", "TcpExt.BeyondWindow", "Segments beyond the receive window"),
    # memory, challenges, migration
    KernelCounter("tcp_memory_pressures", "TcpExt.TCPMemoryPressures", "Times TCP came under memory pressure"),
    KernelCounter("tcp_memory_pressure_seconds", "TcpExt.TCPMemoryPressuresChrono",
                  "Time TCP was under memory pressure", 0.001),
    KernelCounter("tcp_challenge_acks", "TcpExt.TCPChallengeACK", "Challenge ACKs sent, RFC 5961"),
    KernelCounter("tcp_syn_challenges", "TcpExt.TCPSYNChallenge", "Challenge ACKs sent in answer to a SYN"),
    KernelCounter("tcp_requests_migrated", "TcpExt.TCPMigrateReqSuccess",
                  "Half-open connections moved to another listener"),
    KernelCounter("tcp_requests_not_migrated", "TcpExt.TCPMigrateReqFailure",
                  "Half-open connections that could not be moved to another listener"),
)
# fmt: on
