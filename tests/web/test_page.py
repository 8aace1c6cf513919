"""The status page: what it says of every situation, that nothing from the host becomes markup, that it stands alone.

``golden/*.page`` is what a page says to somebody who reads it as text, a line for each piece.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from exporter.daemon.daemon import page_assets
from exporter.health.finding import Finding, Judgement, NotJudged
from exporter.health.forecast import HORIZON
from exporter.health.judge import Health
from exporter.health.thresholds import DEFAULTS, SEVERITY, Range, Status, Threshold
from exporter.prometheus.families import View
from exporter.sampling.history import HOLE, POINTS, TOTAL, Points
from exporter.sampling.sample import Pass, Sample
from exporter.snapshot import Listener, Snapshot
from exporter.tcpstate import KNOWN_STATES, TcpState
from exporter.web.current import Current
from exporter.web.page import StatusPage
from exporter.web.page.machine import PLACES, TRANSITIONS
from exporter.web.page.plot import plot, span
from tests.conftest import SITUATIONS, TAKEN_AT, judge_situation, judged, sample_situation, with_findings
from tests.test_docs import everything

HOSTILE = "<script>alert('1')</script>&lt;\"'><img src=x onerror=alert(2)>"
VIEW = View(DEFAULTS, python="3.11.0")
VOID = {"meta", "link", "br", "wbr"}


class Read(HTMLParser):
    """A page taken apart: its elements in order, its ids, its attributes, and its text a line a piece."""

    BLOCKS = frozenset(("p", "li", "tr", "h1", "h2", "h3", "figcaption", "title", "dl", "caption", "pre", "noscript"))

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.raw: dict[str, str] = {}
        self._open: list[str] = []
        self._line = ""
        self.lines: list[str] = []
        self.feed(page.decode())
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        self._break(tag)
        self._line += "" if tag == "wbr" or self._open[-1:] == ["p"] else " "
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in {"style", "script"}:
            self.raw[self._open[-1]] = data
        else:
            self._line += data

    def _break(self, tag: str) -> None:
        if (
            tag in self.BLOCKS
            or (tag == "a" and "svg" in self._open)
            or tag in {"section", "header", "footer", "article", "svg"}
        ):
            text = " ".join(self._line.split())
            self.lines += [text] if text else []
            self._line = ""

    def values(self, name: str) -> list[str]:
        return [value for _, found, value in self.attributes if found == name]


def rendered(at: Current) -> bytes:
    return StatusPage(page_assets()).page(at, compressed=False)


def current(
    snapshot: Snapshot,
    health: Health | None = None,
    *,
    view: View = VIEW,
    now: float = 0.4,
    points: Points | None = None,
) -> Current:
    """*snapshot* as a page shows it; without *health* it was the same ten seconds ago."""
    counts = snapshot.connections and snapshot.connections.counts
    if health is None:
        health = judged(snapshot, snapshot._replace(taken_at=snapshot.taken_at - 10), thresholds=view.thresholds)
    passes = {"light": Pass(duration=0.01, cpu=0.01, interval=1.0, total=5, configured=1.0)}
    sample = Sample.single(snapshot, health)._replace(peaks=counts, passes=passes, stale_after=3.0)
    return Current(sample, view, now, "/metrics", "host.example", points)


def text(at: Current) -> str:
    return "\n".join(Read(rendered(at)).lines)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_the_page_says_of_each_situation(situation: str, golden: Callable[[str, str], None]) -> None:
    golden(f"{situation}.page", text(current(sample_situation(situation), judge_situation(situation))) + "\n")


def hostile(snapshot: Snapshot, word: str) -> Current:
    """*snapshot* with *word* wherever a host, an operator or the kernel may have its own text."""
    assert snapshot.detail is not None
    counts = next(iter(snapshot.detail.ports.values()))
    detail = snapshot.detail._replace(ports={word: counts}, units={word: counts}, ephemeral_towards=word)
    cubic = snapshot.sysctls["tcp_rmem"]._replace(text=word, unit=word)
    snapshot = snapshot._replace(
        detail=detail,
        listeners=(Listener(word, 443, 1, 3, 8, 1, 3, 8),),
        sources={**snapshot.sources, word: word},
        sysctls={**snapshot.sysctls, "tcp_rmem": cubic},
    )
    at = current(snapshot, view=VIEW._replace(thresholds={"total": Threshold(Range(0, 1, inside=False, text=word))}))
    finding = Finding("full", Status.WARNING, word, (word,), word, word, word, word, (TcpState.LISTEN,))
    assert at.sample is not None
    verdict = judge_situation("old-advice").verdicts[0]
    verdict = verdict._replace(live=word, accepted=word, expected=True, reason=word, arithmetic=word, risk=word)
    health = with_findings(at.sample.health, finding)
    health = health._replace(
        judgements=(*health.judgements, Judgement("syn_flood", Status.UNKNOWN, reason=word)),
        not_judged=(NotJudged("orphans_near_limit", word),),
        verdicts=(verdict,),
    )
    return at._replace(sample=at.sample._replace(health=health), host=word, telemetry_path=f"/{word}")


def test_no_name_from_the_host_becomes_markup() -> None:
    calm, attacked = (Read(rendered(hostile(everything().snapshot, word))) for word in ("harmless", HOSTILE))
    wanted = Counter(tag for tag in calm.elements if tag != "wbr")
    assert Counter(tag for tag in attacked.elements if tag != "wbr") == wanted
    assert {(tag, name) for tag, name, _ in attacked.attributes} == {(tag, name) for tag, name, _ in calm.attributes}
    assert calm.raw == attacked.raw
    assert sum(HOSTILE in line for line in attacked.lines) > 10


def test_a_stale_sample_is_said_and_none_of_its_numbers_is_shown() -> None:
    snapshot = everything().snapshot
    assert snapshot.connections is not None
    strange = snapshot.connections._replace(counts=(0, *(70_001,) * 11))
    at = current(snapshot._replace(connections=strange), view=VIEW._replace(stale=True, hanging_on="netlink"), now=34.0)
    said = text(at)
    assert "UNKNOWN" in said
    assert (
        "The last sample is 34 s old and not shown, because the polling loop hangs or has died. It waits for netlink."
        in said
    )
    assert [word for word in ("70,001", "tcp_rmem", "nginx", "443") if word in said] == []
    assert "ESTABLISHED ?" in said


def test_before_the_first_sample_it_says_so() -> None:
    said = text(Current(None, VIEW, 0.0, "/metrics"))
    assert "There is no sample yet." in said
    assert "UNKNOWN" in said


def test_a_source_that_failed_is_a_reason_and_does_not_hide_the_rest() -> None:
    said = text(current(sample_situation("no-sockstat")))
    assert "ESTABLISHED 0 peak 0" in said
    assert "Not readable: tests/fixtures/proc/no-sockstat/net/sockstat: No such file or directory (ENOENT)" in said


def test_where_nothing_can_count_it_is_unknown() -> None:
    at = current(everything().snapshot._replace(connections=None))
    assert text(at).splitlines()[0] == "UNKNOWN - host.example - TCP"
    assert "No reader can count the sockets of this host." in text(at)


def finding(severity: Status, *states: TcpState, name: str = "accept_queue_full") -> Finding:
    return Finding(name, severity, "It is full", ("3 of 2.",), "Why", "Do", None, "", states)


def found(*findings: Finding, snapshot: Snapshot | None = None) -> Current:
    """A host that is well but for these findings."""
    snapshot = everything().snapshot if snapshot is None else snapshot
    health = judged(snapshot, snapshot._replace(taken_at=snapshot.taken_at - 10))
    return current(snapshot, with_findings(health._replace(status=Status.OK), *findings))


@pytest.mark.parametrize("status", SEVERITY)
def test_the_word_at_the_top_is_the_status_of_the_host(status: Status) -> None:
    snapshot = everything().snapshot
    health = judged(snapshot)._replace(status=status)
    assert text(current(snapshot, health)).startswith(f"{status.name} - host.example - TCP\n")


# -- states, limits and findings ---------------------------------------------------------------------------------------


def open_panel(at: Current) -> str:
    (opened,) = re.findall(r'<section id="state-(\w+)" class="state unasked"', rendered(at).decode())
    return str(opened)


def marks(at: Current) -> dict[str, str]:
    """The nodes with a status, by the state's label."""
    nodes = re.findall(r'<a href="#state-(\w+)" class="node(?: (OK|WARNING|CRITICAL|UNKNOWN))?', rendered(at).decode())
    assert len(nodes) == len(KNOWN_STATES)
    return {state: status for state, status in nodes if status}


def test_a_node_takes_the_worst_of_its_threshold_and_of_the_findings_that_bear_on_it() -> None:
    listen, syn_recv = TcpState.LISTEN, TcpState.SYN_RECV
    assert marks(found()) == {"established": "OK"}
    at = found(finding(Status.WARNING, syn_recv), finding(Status.CRITICAL, listen, syn_recv, name="syn_flood"))
    assert marks(at) == {"established": "OK", "listen": "CRITICAL", "syn_recv": "CRITICAL"}
    assert marks(found(finding(Status.WARNING, TcpState.ESTABLISHED))) == {"established": "WARNING"}


def test_the_panel_that_opens_is_that_of_the_worst() -> None:
    assert open_panel(found()) == "established"
    assert open_panel(found(finding(Status.WARNING, TcpState.CLOSE_WAIT, TcpState.ESTABLISHED))) == "close_wait"
    both = (finding(Status.WARNING, TcpState.CLOSE_WAIT), finding(Status.CRITICAL, TcpState.LISTEN, name="syn_flood"))
    assert open_panel(found(*both)) == "listen"
    snapshot = everything().snapshot
    view = VIEW._replace(thresholds={"time_wait": Threshold(None, Range.parse("@0:"))})
    at = current(snapshot, with_findings(judged(snapshot, thresholds=view.thresholds), both[0]), view=view)
    assert open_panel(at) == "time_wait"


def test_a_panel_names_the_findings_that_bear_on_its_state() -> None:
    page = rendered(found(finding(Status.CRITICAL, TcpState.LISTEN))).decode()
    assert page.count('<a href="#finding-accept_queue_full">It is full</a>') == 2  # the reason at the top and the panel


def coloured_bars(at: Current) -> list[str]:
    """The statuses of the limits' bars that have one, in the order of the page."""
    return re.findall(r'class="bar (\w+)" aria-hidden', rendered(at).decode())


def test_the_bar_of_a_limit_has_the_colour_of_its_threshold_and_of_the_finding_about_it() -> None:
    snapshot = everything().snapshot
    judgements = (Judgement("accept_queue_full", Status.CRITICAL, finding(Status.CRITICAL)),)
    health = judged(snapshot)._replace(judgements=judgements)
    assert coloured_bars(current(snapshot, health)) == ["CRITICAL"]
    view = VIEW._replace(thresholds={"time_wait_ratio": Threshold(Range.parse("0.9"))})
    health = judged(snapshot, thresholds=view.thresholds)._replace(judgements=judgements)
    assert coloured_bars(current(snapshot, health, view=view)) == ["OK", "CRITICAL"]


def test_each_finding_links_to_its_runbook() -> None:
    page = rendered(found(finding(Status.WARNING))).decode()
    assert '<b>Runbook: </b><a href="./runbooks/TcpAcceptQueueFull">TcpAcceptQueueFull</a>' in page


def test_what_cannot_be_judged_is_a_reason_and_what_is_not_here_is_at_the_end() -> None:
    snapshot = everything().snapshot
    health = judged(snapshot)._replace(
        judgements=(
            Judgement("syn_flood", Status.UNKNOWN, reason="a rate needs a second sample"),
            Judgement("syn_queue_too_small", Status.UNKNOWN, reason="a rate needs a second sample"),
        ),
        not_judged=(NotJudged("orphans_near_limit", "tcp_max_orphans is not visible from this network namespace"),),
    )
    said = text(current(snapshot, health)).splitlines()
    assert "Could not be judged: syn_flood, syn_queue_too_small: a rate needs a second sample" in said
    (place,) = [number for number, line in enumerate(said) if line.startswith("Not judged here: 1 finding")]
    assert place > said.index("Units")
    assert "orphans_near_limit: tcp_max_orphans is not visible from this network namespace" in said[place + 1]


def test_it_stands_alone_and_the_policy_allows_exactly_what_is_inside() -> None:
    page = StatusPage(page_assets())
    read = Read(page.page(current(everything().snapshot), compressed=False))
    policy = dict(part.split(" ", 1) for part in page.content_security_policy.split("; "))
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(read.raw[kind].encode()).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
        assert read.elements.count(kind) == 1
    assert policy["default-src"] == "'none'"
    assert "unsafe" not in page.content_security_policy
    assert {name for _, name, _ in read.attributes if name == "style" or name.startswith("on")} == set()
    addresses = read.values("href") + read.values("src") + read.values("action")
    assert [it for it in addresses if not it.startswith(("#", "./", "data:image/svg+xml,"))] == []
    assert re.findall(r"@import|url\((?!#)", read.raw["style"]) == []


def test_it_is_small() -> None:
    flood = [array("i", [(position * 7919) % 5000 for position in range(POINTS)]) for _ in range(TOTAL + 1)]
    at = current(everything().snapshot, points=Points(TAKEN_AT, tuple(flood), tuple(flood), flood[0]))
    page = StatusPage(page_assets())
    assert len(page.page(at, compressed=False)) < 140_000  # with an hour that is as restless as can be
    quiet = current(everything().snapshot)
    assert len(page.page(quiet, compressed=False)) < 100 * 1024
    assert len(page.page(quiet, compressed=True)) < 20_000
    assert gzip.decompress(page.page(quiet, compressed=True)) == page.page(quiet, compressed=False)


def test_every_link_inside_leads_somewhere_and_no_id_is_there_twice() -> None:
    read = Read(rendered(hostile(everything().snapshot, "name")))
    ids = read.values("id")
    assert [name for name, number in Counter(ids).items() if number > 1] == []
    wanted = {href.removeprefix("#") for href in read.values("href") if href.startswith("#")}
    wanted |= {name for value in read.values("aria-labelledby") for name in value.split()}
    assert wanted - set(ids) == set()


def test_the_page_is_rendered_once_for_everyone_who_asks_at_the_same_time() -> None:
    page, at = StatusPage(page_assets()), current(everything().snapshot)
    first = page.page(at, compressed=True)
    assert page.page(at._replace(now=0.9), compressed=True) is first
    assert page.page(at._replace(now=1.1), compressed=True) is not first


def luminance(color: str) -> float:
    digits = color.removeprefix("#")
    digits = digits if len(digits) == 6 else "".join(digit * 2 for digit in digits)
    shares = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(*, dark: bool) -> None:
    """At least 4.5 to 1, which is WCAG's AA; what axe cannot tell of the texts in a drawing."""
    style = page_assets().style
    light, night = (dict(re.findall(r"--(\w+): (#\w+);", part)) for part in style.split("@media", 2)[:2])
    colors = night if dark else light
    signs = ("ok", "warning", "critical", "unknown")
    pairs = [(text, behind) for text in ("ink", "quiet", "accent", *signs) for behind in ("back", "card", "faint")]
    pairs += [("on", sign) for sign in signs]
    assert [(*pair, found) for pair in pairs if (found := contrast(*(colors[name] for name in pair))) < 4.5] == []


# -- the state machine -------------------------------------------------------------------------------------------------

RFC_9293 = """
CLOSED -> LISTEN, SYN-SENT
LISTEN -> CLOSED, SYN-RECEIVED, SYN-SENT
SYN-SENT -> CLOSED, ESTABLISHED, SYN-RECEIVED
SYN-RECEIVED -> ESTABLISHED, FIN-WAIT-1, LISTEN
ESTABLISHED -> CLOSE-WAIT, FIN-WAIT-1
FIN-WAIT-1 -> CLOSING, FIN-WAIT-2, TIME-WAIT
FIN-WAIT-2 -> TIME-WAIT
CLOSING -> TIME-WAIT
TIME-WAIT -> CLOSED
CLOSE-WAIT -> LAST-ACK
LAST-ACK -> CLOSED
"""


def test_the_transitions_are_those_of_rfc_9293() -> None:
    ends: dict[str, list[str]] = {}
    for it in TRANSITIONS:
        ends.setdefault(it.start.rfc9293, []).append(it.end.rfc9293)
    drawn = {f"{start} -> {', '.join(sorted(found))}" for start, found in ends.items()}
    assert drawn == set(RFC_9293.strip().splitlines())
    assert set(PLACES) == set(KNOWN_STATES)


@pytest.mark.parametrize("side", ["client", "server"])
def test_the_path_of_a_side_leads_from_closed_through_established_to_closed(side: str) -> None:
    steps = {it.start: it.end for it in TRANSITIONS if it.side == side}
    assert len(steps) == 6
    state, seen = steps[TcpState.CLOSE], [TcpState.CLOSE]
    while state is not TcpState.CLOSE:
        seen.append(state)
        state = steps[state]
    assert len(seen) == 6
    assert TcpState.ESTABLISHED in seen


# -- the plot ----------------------------------------------------------------------------------------------------------


def points(*numbers: int, end: float = TAKEN_AT) -> Points:
    series = array("i", numbers)
    return Points(end, (series,) * (TOTAL + 1), (series,) * (TOTAL + 1), series)


def drawn(numbers: Points, now: float = TAKEN_AT) -> str | None:
    found = plot(numbers, TcpState.LISTEN, now)
    return None if found is None else found.high


def test_equal_neighbours_are_one_step_and_the_last_point_ends_at_the_right_edge() -> None:
    assert drawn(points(10, 10, 10, 5, 5)) == "M355 100V8H358V54H360V100Z"


def test_a_hole_is_a_gap_and_not_a_zero() -> None:
    assert drawn(points(10, HOLE, HOLE, 10)) == "M356 100V8H357V100ZM359 100V8H360V100Z"


def test_time_since_the_last_point_moves_the_plot_to_the_left() -> None:
    assert drawn(points(10, 10), TAKEN_AT + 100) == "M348 100V8H350V100Z"


def test_points_older_than_the_hour_are_not_drawn() -> None:
    assert drawn(points(*[10] * POINTS), TAKEN_AT + 10 * (POINTS - 3)) == "M0 100V8H3V100Z"
    assert drawn(points(*[10] * POINTS), TAKEN_AT + 10 * POINTS + 50) is None


@pytest.mark.parametrize(("made", "drawn_points"), [(1, 60), (60, 60), (61, 120), (300, POINTS), (POINTS, POINTS)])
def test_of_a_young_history_less_than_an_hour_is_drawn(made: int, drawn_points: int) -> None:
    assert span(points(*[1] * made), TAKEN_AT) == drawn_points
    assert span(points(1), TAKEN_AT + 10 * (made - 1)) == drawn_points


def test_where_there_is_no_number_there_is_no_plot() -> None:
    assert (drawn(points(HOLE, HOLE)), plot(None, TcpState.LISTEN, TAKEN_AT)) == (None, None)


def test_a_limit_is_drawn_at_its_height_and_not_where_the_plot_does_not_reach() -> None:
    found = plot(points(100), TcpState.LISTEN, TAKEN_AT)
    assert found is not None
    assert (found.y(50), found.y(100), found.y(900)) == (54.0, 8.0, None)


def test_a_limit_that_fills_up_has_when_it_will_be_full_beside_its_bar() -> None:
    to_full = {"time_wait": 11_000, "memory": HORIZON, "orphans": 0}
    lines = text(current(sample_situation("quiet")._replace(to_full=to_full))).splitlines()
    assert [line for line in lines if "at this rate" in line] == [
        line for line in lines if line.startswith("Time-wait sockets") and "full in about 3 h at this rate" in line
    ]
    assert "full in about 3 h at this rate" in "\n".join(lines)
