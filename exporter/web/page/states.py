"""What there is to say of each state: its node in the diagram, and the panel that choosing it shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from exporter.health.finding import Finding
from exporter.health.sysctls.verdicts import Verdict
from exporter.health.thresholds import NO_THRESHOLD, SEVERITY, Status, Threshold, worst
from exporter.health.whatif import alternatives
from exporter.kernel.catalogue import CATALOGUE
from exporter.sampling.history import POINTS, STEP_SECONDS, TOTAL
from exporter.snapshot import Snapshot, SysctlValue
from exporter.tcpstate import KNOWN_STATES, TcpState
from exporter.web.current import Current
from exporter.web.page.machine import PLACES, Node, arrivals, departures, fragment, icon
from exporter.web.page.markup import Content, Markup, element, escaped
from exporter.web.page.plot import HEIGHT, Plot, drops, plot, span

_WHOLE = re.compile(r"(?<![\d.])\d{4,18}(?![\d.])", re.ASCII)
_BETWEEN_WORDS = re.compile(r"([_.:@-])(?=[\w\[])")
_NO_HISTORY = "No history yet: the first point is complete after ten seconds."
_NUMBERS = ((10_000_000, 1_000_000, "M"), (100_000, 1000, "k"))


class States:
    """The states at one moment; of a stale sample only what is always true is left."""

    def __init__(self, at: Current, snapshot: Snapshot | None) -> None:
        """*snapshot* is what may be shown as current, None where nothing may."""
        connections = None if snapshot is None else snapshot.connections
        self._counts: Mapping[TcpState, int] = (
            {}
            if connections is None
            else {it: connections.counts[it] for it in TcpState if it not in connections.unlisted}
        )
        self._peaks = None if at.sample is None or connections is None else at.sample.peaks
        self._health = None if at.sample is None or snapshot is None else at.sample.health
        self._thresholds = at.view.thresholds
        self._snapshot = snapshot
        self._sysctls: Mapping[str, SysctlValue] = {} if snapshot is None else snapshot.sysctls
        verdicts = () if self._health is None else self._health.verdicts
        self._verdicts: Mapping[str, Sequence[Verdict]] = by_sysctl(verdicts)
        self._found = _by_state(() if self._health is None else self._health.findings)
        taken = at.sample.snapshot.taken_at + at.now - at.sample.counted_at if at.sample else 0.0
        self._span = span(at.points, taken)
        self._plots: dict[TcpState, Plot | None] = {state: plot(at.points, state, taken) for state in KNOWN_STATES}
        self._host = plot(at.points, TOTAL, taken), drops(at.points, taken)

    def nodes(self) -> dict[TcpState, Node]:
        """Every state's node."""
        return {state: self._node(state) for state in KNOWN_STATES}

    def hours(self) -> dict[str, str]:
        """The paths of the last hour by their ids."""
        drawn = [(state, found) for state, found in self._plots.items() if found is not None and found.most]
        return {_hour(state): found.high for state, found in drawn} | {_low(state): found.low for state, found in drawn}

    @property
    def _view(self) -> str:
        """The part of the paths that is drawn."""
        return f"{POINTS - self._span} 0 {self._span} {HEIGHT}"

    def worst(self) -> TcpState:
        """The state whose panel is open at first: that of the worst finding or threshold, else ESTABLISHED."""
        first = [] if self._health is None else [it.states[0] for it in self._health.findings if it.states][:1]
        state = max((*first, *KNOWN_STATES), key=self._severity)  # of equals, the first
        return state if self._severity(state) > SEVERITY.index(Status.UNKNOWN) else TcpState.ESTABLISHED

    def _severity(self, state: TcpState) -> int:
        return SEVERITY.index(self._status(state) or Status.OK)

    def _status(self, state: TcpState) -> Status | None:
        """The worst of its threshold and of the findings that bear on it; None where it is known and has neither."""
        threshold, status = self._judge(state)
        judged = [] if threshold == NO_THRESHOLD and state in self._counts else [status]
        judged += [finding.severity for finding in self._found.get(state, ())]
        return worst(judged) if judged else None

    def panels(self) -> Iterator[Markup]:
        """A panel for every state."""
        unasked = self.worst()
        for state in PLACES:
            yield element(
                "section",
                element("h3", element("span", state.rfc9293), self._pill(state), id=f"title-{state.label}"),
                element("p", f"{sentence(state.meaning)}.", class_="meaning"),
                self._findings(state),
                self._facts(state),
                _OWN if state is TcpState.ESTABLISHED else None,
                self._hour(state),
                self._sysctl_table(state),
                element("p", _ways("From", arrivals(state)), _ways("To", departures(state)), class_="ways"),
                id=fragment(state),
                class_="state unasked" if state is unasked else "state",
                tabindex=-1,
                aria_labelledby=f"title-{state.label}",
            )

    def _judge(self, state: TcpState) -> tuple[Threshold, Status]:
        threshold = self._thresholds.get(state.label, NO_THRESHOLD)
        status, _ = threshold.judge(self._counts.get(state))
        return threshold, status

    def _node(self, state: TcpState) -> Node:
        number = self._counts.get(state)
        peak = None if self._peaks is None or number is None else self._peaks[state]
        return Node(
            number="?" if number is None else short(number),
            peak=None if peak is None else short(peak, compact=True),
            status=self._status(state),
            hour=_hour(state) if (drawn := self._plots[state]) is not None and drawn.most else None,
            view=self._view,
            empty=number == 0 and not peak,
        )

    def _pill(self, state: TcpState) -> Markup | None:
        status = self._status(state)
        return None if status is None else pill(status)

    def _findings(self, state: TcpState) -> Markup | None:
        """The findings that bear on it, as links to what they say."""
        found = self._found.get(state)
        if not found:
            return None
        links = (element("a", it.what, href=f"#finding-{it.name}") for it in found)
        return element("ul", (element("li", link) for link in links), class_="reasons")

    def _facts(self, state: TcpState) -> Markup:
        """The numbers of the state as a list of terms."""
        threshold, _ = self._judge(state)
        number = self._counts.get(state)
        facts = [("Sockets", "unknown" if number is None else f"{number:,}")]
        if self._peaks is not None and number is not None:
            facts.append(("Peak", f"{self._peaks[state]:,}"))
        named = zip(("Warning", "Critical"), threshold, strict=True)
        facts += [(name, grouped(limit.text)) for name, limit in named if limit is not None]
        return element(
            "dl", (element("div", element("dt", name), element("dd", value)) for name, value in facts), class_="facts"
        )

    def _hour(self, state: TcpState) -> Markup:
        found = self._plots[state]
        if found is None:
            return element("p", _NO_HISTORY, class_="quiet")
        areas = [element("use", href=f"#{name(state)}") for name in (_hour, _low)] if found.most else []
        return self._figure(None, f"{_spread(found)} sockets", *areas, *self._limit_lines(state, found))

    def host(self) -> Iterator[Markup]:
        """The last hour of all sockets, and of what listeners dropped."""
        total, dropped = self._host
        if total is None:
            yield element("p", _NO_HISTORY, class_="quiet")
            return
        areas = (element("path", d=path, class_="area") for path in (total.high, total.low) if total.most)
        yield self._figure("All sockets", _spread(total), *areas)
        if dropped is None:
            yield element("p", "The number of drops is unknown.", class_="quiet")
            return
        area = element("path", d=dropped.high, class_="area") if dropped.most else None
        words = f"{dropped.sum:,} SYNs and final ACKs" if dropped.sum else "nothing"
        yield self._figure("Dropped by listeners", f"{_lasting(dropped)}: {words}", area, kind="drops")

    def _figure(self, title: str | None, words: str, *areas: Markup | None, kind: str = "") -> Markup:
        return element(
            "figure",
            element("h3", title) if title else None,
            element(
                "svg",
                areas,
                viewBox=self._view,
                preserveAspectRatio="none",
                role="img",
                aria_label=f"{title}, {words}" if title else words,
            ),
            element(
                "figcaption",
                element("span", f"{self._span * STEP_SECONDS / 60:.0f} min ago"),
                element("span", words),
                element("span", "now"),
            ),
            class_=f"plot {kind}".rstrip(),
        )

    def _limit_lines(self, state: TcpState, found: Plot) -> Iterator[Markup]:
        threshold, _ = self._judge(state)
        for name, limit in zip(("warning", "critical"), threshold, strict=True):
            y = None if limit is None or limit.upper is None else found.y(limit.upper)
            if y is not None:
                yield element("path", d=f"M0 {y}H360", class_=f"limit {name}")

    def _sysctl_table(self, state: TcpState) -> Markup:
        rows = [row for name in state.sysctls for row in self._sysctl(name)]
        if not rows:
            return element("p", "No sysctl that affects this state could be read.", class_="quiet")
        heads = ("Sysctl", "Live", "Recommended")
        return scrolled(
            element(
                "table",
                element("caption", f"Sysctls that affect {state.rfc9293}"),
                element("thead", element("tr", (element("th", head, scope="col") for head in heads))),
                element("tbody", rows),
                class_="sysctls",
            ),
            f"Sysctls that affect {state.rfc9293}",
        )

    def _sysctl(self, name: str) -> Iterator[Markup]:
        value, verdicts, known = self._sysctls.get(name), self._verdicts.get(name, ()), CATALOGUE.get(name)
        if value is None:
            return
        live = value.shown
        notes = [known.meaning] if known is not None else []
        notes += dict.fromkeys(it.arithmetic for it in verdicts if it.arithmetic)
        others = [] if self._snapshot is None else alternatives(self._snapshot, verdicts)
        notes += (f"With {value} instead: {meaning}" for value, meaning in others)
        deviates = any(it.deviates for it in verdicts)
        yield element(
            "tr",
            element("th", element("code", breakable(name)), scope="row"),
            element("td", element("b", live), element("small", f" {value.unit}") if value.unit else None,
                    class_=None if " " in live else "value"),
            element(
                "td", _recommended(verdicts, known.default if known else ""),
                pill(Status.WARNING, "deviates") if deviates else None,
            ),
        )  # fmt: skip
        if notes:
            yield wide_row(element("small", note) for note in notes)


_OWN = element("p", id="own", class_="quiet", hidden=True, data_own=True)
"""Which connection is the reader's own: the script knows it, because this page is the same for everyone."""


def _by_state(findings: Sequence[Finding]) -> dict[TcpState, list[Finding]]:
    """The findings that bear on each state."""
    found: dict[TcpState, list[Finding]] = {}
    for finding in findings:
        for state in finding.states:
            found.setdefault(state, []).append(finding)
    return found


def by_sysctl(verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    """The verdicts of each sysctl, which has one for each of its numbers."""
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.name, []).append(verdict)
    return found


def pill(status: Status, word: str = "") -> Markup:
    """A status as sign and word."""
    return element("span", icon(status), word or status.name, class_=f"pill {status.name}")


def short(number: int, *, compact: bool = False) -> str:
    """A number that fits into a node, exact up to seven digits unless *compact*.

    >>> short(97412), short(1048576), short(9_999_999, compact=True), short(131072, compact=True), short(25_000_000)
    ('97,412', '1,048,576', '9,999k', '131k', '25M')
    """
    for least, unit, name in _NUMBERS if compact else _NUMBERS[:1]:
        if number >= least:
            return f"{number // unit:,}{name}"  # rounded up, it could grow by a digit
    return f"{number:,}"


def grouped(limit: str) -> str:
    """A limit with separators in its whole numbers.

    >>> grouped("131072"), grouped("@10:20000"), grouped("> 0.1234")
    ('131,072', '@10:20,000', '> 0.1234')
    """
    return _WHOLE.sub(lambda number: f"{int(number[0]):,}", limit)


def _lasting(found: Plot) -> str:
    return f"The last {max(found.minutes, 1)} min"


def _spread(found: Plot) -> str:
    spread = f"from {found.least:,} to {found.most:,}" if found.least != found.most else f"always {found.most:,}"
    return f"{_lasting(found)}: {spread}"


def sentence(text: str) -> str:
    """*text* with a capital, unless it begins with the name of a function.

    >>> sentence("waits for connections"), sentence("connect() waits")
    ('Waits for connections', 'connect() waits')
    """
    return text if text.split(" ", 1)[0].endswith("()") else text[:1].upper() + text[1:]


def breakable(name: str) -> Markup:
    """A name of words, which a narrow column may break between them."""
    return Markup(_BETWEEN_WORDS.sub(r"\1<wbr>", escaped(name)))


def wide_row(content: Iterable[Content]) -> Markup:
    """A row that explains the one above it, in one cell over all columns: a narrow column would make it tall."""
    return element("tr", element("td", content, colspan=3), class_="wide")


def scrolled(table: Markup, label: str) -> Markup:
    """A table in a region of its own, which a narrow screen scrolls and a keyboard reaches."""
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label=label)


def _hour(state: TcpState) -> str:
    return f"hour-{state.label}"


def _low(state: TcpState) -> str:
    return f"low-{state.label}"


def _recommended(verdicts: Sequence[Verdict], default: str) -> Markup | str:
    accepted = [f"{it.field}: {it.accepted}" if it.field else it.accepted for it in verdicts if it.accepted]
    if accepted:
        return element("b", ", ".join(accepted))
    return element("small", f"default {default}" if default else "no recommendation")


def _ways(title: str, ways: Iterator[tuple[TcpState, str]]) -> Sequence[Markup | str]:
    """The transitions on one side of a state in words, the other states as links."""
    found = [*ways]
    parts: list[Markup | str] = [element("b", f"{title}: ")]
    for position, (state, words) in enumerate(found):
        parts += [element("a", state.rfc9293, href=f"#{fragment(state)}"), f" ({words})"]
        parts.append(", " if position < len(found) - 1 else ". ")
    return parts
