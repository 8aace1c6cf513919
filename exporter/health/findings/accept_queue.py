"""Accept queues: connections that the application does not accept in time.

Source: net/ipv4/tcp_ipv4.c, tcp_v4_syn_recv_sock, and net/ipv4/tcp_input.c, tcp_conn_request: both drop at a full queue
and count ListenOverflows.
"""

from __future__ import annotations

from exporter.health.finding import Finding, Rule
from exporter.health.findings.shared import NORMAL_HALF_OPEN
from exporter.health.thresholds import Status
from exporter.health.window import Window
from exporter.snapshot import Listener
from exporter.tcpstate import TcpState

_SHOWN = 3  # listeners that one finding names


def _judge(window: Window) -> Finding | None:
    full = sorted((it for it in window.listeners if it.fullest >= 1), key=lambda it: -it.accept_queue)
    overflows = window.rose("TcpExt.ListenOverflows") if full else window.rise("TcpExt.ListenOverflows")
    if not full and not overflows:
        return None
    evidence = [_queue_of(listener) for listener in full[:_SHOWN]]
    if len(full) > _SHOWN:
        evidence.append(f"{len(full) - _SHOWN} more listeners are as full.")
    if overflows:
        evidence.append(f"{overflows} SYNs and final ACKs were dropped at full accept queues {window.during}.")
    half_open = 0 if window.now.connections is None else window.count(TcpState.SYN_RECV)
    if half_open > NORMAL_HALF_OPEN.value:
        evidence.append(f"{half_open} connections are half open: behind a full accept queue they cannot be finished.")
    what = f"The accept queue of {full[0].place} is full" if full else "An accept queue was full for a moment"
    somaxconn = window.sysctl("net.core.somaxconn")
    command, limit = None, ""
    if full:
        command = f"ss -ltnp 'sport = :{full[0].port}'"
        if somaxconn is not None and full[0].fullest_limit >= somaxconn:
            evidence.append(f"Its limit is net.core.somaxconn, {somaxconn}: the application asked for that or more.")
            limit = " Then raise net.core.somaxconn, and restart the application: the limit is taken at listen()."
            command = f"sysctl -w net.core.somaxconn={2 * somaxconn}"
        elif somaxconn is not None:
            evidence.append(f"net.core.somaxconn is {somaxconn}, so the application itself asked for so little.")
            limit = f" Then let the application ask listen() for a longer queue; up to {somaxconn} are allowed."
    return Finding(
        name=FULL.name,
        # A queue that was full and is not any more is recovering; where queues are not seen, drops are all there is.
        severity=Status.CRITICAL if overflows and (full or window.now.listeners is None) else Status.WARNING,
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


def _queue_of(listener: Listener) -> str:
    which = f"the fullest of {listener.sockets} sockets of" if listener.sockets > 1 else "the accept queue of"
    return (
        f"{listener.fullest_queue} connections wait in {which} {listener.place}, "
        f"whose limit is {listener.fullest_limit}."
    )


FULL = Rule(
    name="accept_queue_full",
    subject="accept queues",
    definition="An application does not call accept() in time, so the kernel drops connections.",
    limits=(NORMAL_HALF_OPEN,),
    judge=_judge,
    measure="accept_queue_ratio",
)
