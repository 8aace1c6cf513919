"""Segments that are sent again because they were lost.

Source: net/ipv4/tcp_output.c, __tcp_retransmit_skb (RetransSegs, which counts SYNs and loss probes too), and OutSegs,
which counts only what is sent first. DSACK, RFC 2883, tells which were sent again without need.
"""

from __future__ import annotations

from exporter.health.finding import Finding, Limit, Rule
from exporter.health.thresholds import Status
from exporter.health.window import CannotTell, NotHere, Window
from exporter.kernel.troubles import DATA_UNANSWERED, RETRANSMITTING
from exporter.record import NamedTuple
from exporter.tcpstate import TcpState

_SECONDS = 30.0  # what is judged: long enough to average, short enough to see the end

_TO_A_SILENT_PEER = 8  # segments in these seconds: each timeout is twice as long as the last one

_SENT = Limit(200, "segments sent", "on an idle host a handful of retransmissions is a large share")
_LOST = Limit(20, "segments sent again", "a single burst that a full queue dropped loses as many")
_SHARE = Limit(0.02, "share of the segments sent", "healthy paths through the Internet stay at 1 % and below")
_MUCH = Limit(0.1, "share of the segments sent", "connections spend most of their time waiting for timeouts")


class _Loss(NamedTuple):
    """What was sent again in the last seconds, and why."""

    sent: int  # segments, for the first time
    lost: int
    handshakes: int
    needless: int
    silent: int  # to peers that do not answer at all, at most

    @property
    def share(self) -> float:
        """The lost of the sent; 0 where they are too few to judge by."""
        if self.sent < _SENT.value or self.lost < _LOST.value:
            return 0.0
        return self.lost / self.sent


def _loss(recent: Window) -> _Loss:
    sent, again = recent.rise("Tcp.OutSegs"), recent.rise("Tcp.RetransSegs")
    handshakes = recent.rise_if_counted("TcpExt.TCPSynRetrans")
    needless = max(map(recent.rise_if_counted, ("TcpExt.TCPDSACKRecv", "TcpExt.TCPSpuriousRTOs")))
    unanswered = recent.trouble(DATA_UNANSWERED)
    silent = 0 if unanswered is None else unanswered.sockets * _TO_A_SILENT_PEER
    return _Loss(sent, again - handshakes - needless - silent, handshakes, needless, silent)


def is_lossy(window: Window) -> bool:
    """Whether so much is lost that connections whose peers are well go unanswered for seconds."""
    try:
        return _loss(window.recent(_SECONDS)).share >= _MUCH.value
    except (CannotTell, NotHere):
        return False


def _judge(window: Window) -> Finding | None:
    recent = window.recent(_SECONDS)
    loss = _loss(recent)
    if loss.share < _SHARE.value:
        return None
    sent, lost, handshakes, needless, silent = loss
    share = lost / sent
    evidence = [f"{lost:,} of {sent:,} segments were lost and sent again {recent.during}: {share:.1%}."]
    if handshakes:
        evidence.append(f"{handshakes:,} SYNs and SYN-ACKs were sent again as well; they are not included.")
    if needless:
        evidence.append(
            f"{needless:,} more were sent again without need, because the peer had them already; they are not included."
        )
    if silent:
        evidence.append(f"Up to {silent:,} more went to peers that do not answer at all; they are not included.")
    timeouts = recent.rose("TcpExt.TCPTimeouts")
    if timeouts:
        evidence.append(f"{timeouts:,} retransmission timers ran out {recent.during}.")
    peers = window.trouble(RETRANSMITTING)
    suffers = ""
    if peers is not None and peers.sockets:
        evidence.append(
            f"{peers.sockets:,} connections wait for the answer to a retransmission; {peers.most:,} of them are with "
            f"{peers.place}."
        )
        suffers = f" towards {peers.place}" if 2 * peers.most > peers.sockets else ""
    return Finding(
        name=RULE.name,
        severity=Status.CRITICAL if share >= _MUCH.value else Status.WARNING,
        what=f"Segments are lost on the way{suffers}: {share:.1%} are sent again",
        evidence=tuple(evidence),
        why="A lost segment costs a round trip, or a timeout of 0.2 s and more, and halves the rate of its connection.",
        remedy="See which remote addresses the connections have in common, and whether other hosts on that path lose "
        "segments too. Look for errors and drops of the interfaces, a full uplink, a policer, or a filter that drops. "
        "No sysctl repairs a path.",
        command="ss -OHtin state established | grep ' retrans:[1-9]'",
        risk="None: the command only reads.",
        states=(TcpState.ESTABLISHED,),
    )


RULE = Rule(
    name="retransmissions",
    subject="retransmissions",
    definition="A large share of the segments is lost and sent again.",
    limits=(_SENT, _LOST, _SHARE, _MUCH),
    judge=_judge,
)
