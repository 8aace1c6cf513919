"""CLOSE-WAIT leaks: connections that the peer has closed and the application forgets."""

from __future__ import annotations

from exporter.health.finding import Finding, Limit, Rule
from exporter.health.findings.shared import holders
from exporter.health.thresholds import Status
from exporter.health.window import Window
from exporter.tcpstate import TcpState

_LEAST = Limit(20, "CLOSE-WAIT sockets", "fewer are the pause between a peer's close and the application's")
_MORE = Limit(10, "more CLOSE-WAIT sockets than before", "a rise that a busy application does not show by chance")
_MANY = Limit(100, "CLOSE-WAIT sockets", "enough to be wrong by themselves where they outnumber the established")


def _judge(window: Window) -> Finding | None:
    number, established = window.count(TcpState.CLOSE_WAIT), window.count(TcpState.ESTABLISHED)
    if number < _LEAST.value:
        return None
    course = window.course(TcpState.CLOSE_WAIT)
    grows = len(course) > 1 and course == sorted(course) and number - course[0] >= _MORE.value
    evidence = [f"{number} connections were closed by their peers and not by the application."]
    if grows:
        evidence.append(f"They were {course[0]} {window.seconds:.3g} s ago, and at no count in between became fewer.")
    elif number >= _MANY.value and number > established:
        evidence.append(f"That is more than the {established} that are established.")
    else:
        return None
    owner = ""
    for kind, name, held in holders(window.now, TcpState.CLOSE_WAIT):
        evidence.append(f"{held} of them are of {kind} {name}, at the last look at each socket.")
        owner = owner or f" of {kind} {name}"
    return Finding(
        name=LEAK.name,
        severity=Status.WARNING,
        what=f"The application{owner} does not close connections that its peers have closed",
        evidence=tuple(evidence),
        why="Each holds a file descriptor for ever: at its limit the application can accept and open nothing more.",
        remedy="It is a bug of the application. Find the process, restart it for now, and have it close the socket "
        "when read() returns 0.",
        command="tcp-exporter who close_wait",
        risk="A restart ends the application's other connections too.",
        states=(TcpState.CLOSE_WAIT,),
    )


LEAK = Rule(
    name="close_wait_leak",
    subject="CLOSE-WAIT sockets",
    definition="An application does not close connections that its peers have closed.",
    limits=(_LEAST, _MORE, _MANY),
    judge=_judge,
    worst=Status.WARNING,
)
