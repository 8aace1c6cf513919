"""The TCP state machine of RFC 9293 as a diagram: where each state stands, the transitions, and the live numbers.

Laid out by hand. The client's usual path runs down the left, the server's down the right, and they meet in
ESTABLISHED. What the arrows say is said once more as text, by ``arrivals`` and ``departures``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from exporter.health.thresholds import Status
from exporter.tcpstate import KNOWN_STATES, TcpState
from exporter.web.page.markup import Markup, element

_S = TcpState
_WIDTH, _HEIGHT = 116, 46  # of a node
_LEFT, _MIDDLE, _RIGHT = 62, 200, 338  # the columns' centres
_LINE = 11.5  # between two lines of a label
_SIZES = ((5, "count"), (7, "count wide"), (100, "count widest"))  # of a number, by the characters that it has at most


class Transition(NamedTuple):
    """An arrow: what happens (``event``), what is sent in answer (``action``), and how it is drawn."""

    start: TcpState
    end: TcpState
    event: str
    action: str
    side: str  # "client" or "server" where it is on the usual path of one, else ""
    path: str
    label: tuple[float, float, str]  # x, y of the first line, text-anchor
    lines: tuple[str, ...]


def _t(
    start: TcpState, end: TcpState, event: str, action: str, side: str,
    path: str, label: tuple[float, float, str], *lines: str,
) -> Transition:  # fmt: skip
    return Transition(start, end, event, action, side, path, label, lines or tuple(filter(None, (event, action))))


PLACES: Mapping[TcpState, tuple[int, int]] = {
    _S.CLOSE: (_MIDDLE, 27),
    _S.SYN_SENT: (_LEFT, 117),
    _S.LISTEN: (_RIGHT, 117),
    _S.SYN_RECV: (_RIGHT, 207),
    _S.ESTABLISHED: (_MIDDLE, 297),
    _S.FIN_WAIT1: (_LEFT, 387),
    _S.CLOSE_WAIT: (_RIGHT, 387),
    _S.FIN_WAIT2: (_LEFT, 479),
    _S.CLOSING: (_MIDDLE, 479),
    _S.LAST_ACK: (_RIGHT, 479),
    _S.TIME_WAIT: (_LEFT, 569),
}
"""The centre of each state's node, in the order of reading."""

# fmt: off
TRANSITIONS = (
    _t(_S.CLOSE, _S.SYN_SENT, "active open", "send SYN", "client",
       "M142 20H52Q36 20 36 36V90", (42, 54, "start")),
    _t(_S.SYN_SENT, _S.CLOSE, "close", "", "",
       "M108 94V50Q108 36 122 36H138", (104, 84, "end")),
    _t(_S.CLOSE, _S.LISTEN, "passive open", "", "server",
       "M258 20H348Q364 20 364 36V90", (358, 54, "end"), "passive", "open"),
    _t(_S.LISTEN, _S.CLOSE, "close", "", "",
       "M292 94V50Q292 36 278 36H262", (297, 84, "start")),
    _t(_S.LISTEN, _S.SYN_SENT, "send data", "send SYN", "",
       "M280 110H124", (200, 105, "middle"), "send data: send SYN"),
    _t(_S.LISTEN, _S.SYN_RECV, "receive SYN", "send SYN,ACK", "server",
       "M300 140V180", (306, 151, "start"), "recv SYN", "send SYN,ACK"),
    _t(_S.SYN_RECV, _S.LISTEN, "receive RST", "", "",
       "M388 184V144", (383, 174, "end"), "recv RST"),
    _t(_S.SYN_SENT, _S.SYN_RECV, "receive SYN", "send SYN,ACK", "",
       "M120 126H184Q200 126 200 142V191Q200 207 216 207H276", (206, 155, "start"), "recv SYN", "send SYN,ACK"),
    _t(_S.SYN_SENT, _S.ESTABLISHED, "receive SYN,ACK", "send ACK", "client",
       "M36 140V281Q36 297 52 297H138", (42, 172, "start"), "recv SYN,ACK", "send ACK"),
    _t(_S.SYN_RECV, _S.ESTABLISHED, "receive ACK of SYN", "", "server",
       "M338 230V281Q338 297 322 297H262", (344, 250, "start"), "recv ACK", "of SYN"),
    _t(_S.SYN_RECV, _S.FIN_WAIT1, "close", "send FIN", "",
       "M280 219H112Q96 219 96 235V360", (102, 240, "start")),
    _t(_S.ESTABLISHED, _S.FIN_WAIT1, "close", "send FIN", "client",
       "M168 320V362Q168 378 152 378H124", (174, 340, "start")),
    _t(_S.ESTABLISHED, _S.CLOSE_WAIT, "receive FIN", "send ACK", "server",
       "M232 320V362Q232 378 248 378H276", (238, 340, "start"), "recv FIN", "send ACK"),
    _t(_S.FIN_WAIT1, _S.FIN_WAIT2, "receive ACK of FIN", "", "client",
       "M36 410V452", (42, 428, "start"), "recv ACK", "of FIN"),
    _t(_S.FIN_WAIT1, _S.CLOSING, "receive FIN", "send ACK", "",
       "M120 392H200Q216 392 216 408V452", (222, 428, "start"), "recv FIN", "send ACK"),
    _t(_S.FIN_WAIT1, _S.TIME_WAIT, "receive FIN and ACK of FIN", "send ACK", "",
       "M120 402Q131 402 131 413V544Q131 555 124 555", (136, 428, "start"), "recv FIN,ACK", "send ACK"),
    _t(_S.FIN_WAIT2, _S.TIME_WAIT, "receive FIN", "send ACK", "client",
       "M36 502V542", (42, 519, "start"), "recv FIN", "send ACK"),
    _t(_S.CLOSING, _S.TIME_WAIT, "receive ACK of FIN", "", "",
       "M200 502V553Q200 569 184 569H124", (206, 519, "start"), "recv ACK", "of FIN"),
    _t(_S.TIME_WAIT, _S.CLOSE, "after 60 s, 2 MSL", "", "client",
       "M120 583H276", (238, 578, "middle"), "after 60 s"),
    _t(_S.CLOSE_WAIT, _S.LAST_ACK, "close", "send FIN", "server",
       "M338 410V452", (344, 428, "start")),
    _t(_S.LAST_ACK, _S.CLOSE, "receive ACK of FIN", "", "server",
       "M338 502V560", (344, 526, "start"), "recv ACK", "of FIN"),
)
# fmt: on
"""RFC 9293, figure 5, with the transition of its note 2. Linux has no SEND on a listener; the figure does."""


_BADGES: Mapping[TcpState, int] = {
    _S.SYN_SENT: 72, _S.LISTEN: 328, _S.SYN_RECV: 344, _S.FIN_WAIT1: 52, _S.CLOSING: 178, _S.LAST_ACK: 371,
}  # fmt: skip
"""Where the badge of a node has its centre, if arrows begin or end where it would be else."""


class Node(NamedTuple):
    """What one state's node shows."""

    number: str
    peak: str | None
    status: Status | None  # None: no threshold, nothing to judge
    hour: str | None  # the id of the path of its last hour; None where there was nobody in it
    view: str  # the viewBox to draw it with
    empty: bool  # nobody is in the state


def diagram(nodes: Mapping[TcpState, Node], hours: Mapping[str, str]) -> Markup:
    """The diagram; *hours* are paths by their ids, which panels may draw again."""
    return element(
        "svg",
        element("defs", (element("path", id=name, d=path) for name, path in hours.items()), *_MARKERS),
        _ARROWS,
        (_node(state, nodes[state]) for state in PLACES),
        element(
            "g",
            element("rect", x=280, y=564, width=116, height=26, rx=13),
            element("text", "CLOSED", x=_RIGHT, y=581, text_anchor="middle"),
            class_="end",
            aria_hidden="true",
        ),
        class_="machine",
        viewBox="0 0 400 598",
        role="group",
        aria_labelledby="machine",
    )


def arrivals(state: TcpState) -> Iterator[tuple[TcpState, str]]:
    """From which states it is reached, and by what."""
    return ((it.start, _words(it)) for it in TRANSITIONS if it.end is state)


def departures(state: TcpState) -> Iterator[tuple[TcpState, str]]:
    """Which states it leads to, and by what."""
    return ((it.end, _words(it)) for it in TRANSITIONS if it.start is state)


def fragment(state: TcpState) -> str:
    """The id of the state's panel, which a link chooses."""
    return f"state-{state.label}"


def icon(status: Status) -> Markup:
    """The sign of a status: shapes that differ, beside the word that says it."""
    return element("svg", element("use", href=f"#sign-{status.name}"), class_="sign", aria_hidden="true")


SIGNS = element(
    "svg",
    *(
        element("symbol", Markup(drawn), id=f"sign-{status.name}", viewBox="0 0 16 16")
        for status, drawn in (
            (Status.OK, '<circle cx="8" cy="8" r="8"/><path d="M4.2 8.3l2.6 2.6 5-5.4"/>'),
            (Status.WARNING, '<path class="body" d="M8 0l8 15H0z"/><path d="M8 5v5M8 11.6v1.6"/>'),
            (Status.CRITICAL, '<path class="body" d="M5 0h6l5 5v6l-5 5H5l-5-5V5z"/><path d="M5 5l6 6M11 5l-6 6"/>'),
            (Status.UNKNOWN, '<rect width="16" height="16" rx="4"/><path d="M5.6 6a2.4 2.4 0 1 1 2.4 2.6v1M8 12v1"/>'),
        )
    ),
    class_="signs",
    aria_hidden="true",
    width=0,
    height=0,
)  # fmt: skip
"""The signs, once for the page."""


def _node(state: TcpState, node: Node) -> Markup:
    x, y = PLACES[state]
    left, top = x - _WIDTH // 2, y - _HEIGHT // 2
    judged = node.status
    badge = judged if judged is not Status.OK else None
    classes = ["node", judged.name if judged else "", "empty" if node.empty else ""]
    size = next(size for most, size in _SIZES if len(node.number) <= most)
    return element(
        "a",
        element("rect", x=left, y=top, width=_WIDTH, height=_HEIGHT, rx=7, class_="box"),
        node.hour and element(
            "svg", element("use", href=f"#{node.hour}"), x=left + 1, y=top + 20, width=_WIDTH - 2, height=25,
            viewBox=node.view, preserveAspectRatio="none", class_="hour",
        ),
        judged and element("rect", x=left, y=top + 7, width=4, height=_HEIGHT - 14, rx=2, class_="mark"),
        element("text", state.rfc9293, x=left + 9, y=top + 15, class_="name"),
        " ",  # not drawn; it parts the words of the link's name
        element("text", node.number, x=left + 9, y=top + 37, class_=size),
        " ",
        node.peak and element("text", "peak", x=left + _WIDTH - 8, y=top + 27, class_="peak"),
        " ",
        node.peak and element("text", node.peak, x=left + _WIDTH - 8, y=top + 38, class_="peak"),
        " ",
        badge and _badge(badge, state),
        href=f"#{fragment(state)}",
        class_=" ".join(filter(None, classes)),
    )  # fmt: skip


def _badge(status: Status, state: TcpState) -> Markup:
    """The status as a word on the node's upper edge: colour alone says nothing to many."""
    x, y = PLACES[state]
    top, width = y - _HEIGHT // 2, round(8 + 6.1 * len(status.name), 1)
    centre = _BADGES.get(state, x + (_WIDTH - width) / 2 - 5)
    return element(
        "g",
        element("rect", x=round(centre - width / 2, 1), y=top - 8, width=width, height=14, rx=7),
        element("text", status.name, x=round(centre, 1), y=top + 2, text_anchor="middle"),
        class_="badge",
    )


def _arrow(transition: Transition) -> Markup:
    x, y, anchor = transition.label
    kind = transition.side or "other"
    lines = (
        element("text", text, x=x, y=round(y + position * _LINE, 1), text_anchor=anchor)
        for position, text in enumerate(transition.lines)
    )
    return element(
        "g",
        element("path", d=transition.path, marker_end=f"url(#tip-{'other' if kind == 'other' else 'main'})"),
        lines,
        class_=f"arrow {kind}",
    )


_MARKERS = tuple(
    element(
        "marker", element("path", d="M0 0L8 4L0 8z"), id=f"tip-{name}", viewBox="0 0 8 8", refX=4, refY=4,
        markerWidth=8, markerHeight=8, markerUnits="userSpaceOnUse", orient="auto",
    )
    for name in ("main", "other")
)  # fmt: skip

# Lesser arrows first, so that where two cross the usual path is on top.
_ARROWS = element("g", map(_arrow, sorted(TRANSITIONS, key=lambda it: bool(it.side))), aria_hidden="true")


def _words(transition: Transition) -> str:
    return transition.event + (f", {transition.action}" if transition.action else "")


assert set(PLACES) == set(KNOWN_STATES)  # noqa: S101 - a state that is not laid out is this module's own mistake
