"""The rest of the page: the verdict, the findings, how full the limits are, listeners, ports, units and sources."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from exporter.details import IDLE_BOUNDS, RTT_BOUNDS, Memory, Quality
from exporter.health.finding import RUNBOOKS, Finding
from exporter.health.findings import RULES
from exporter.health.forecast import HORIZON
from exporter.health.judge import Health
from exporter.health.measures import BY_NAME, RATIOS, Measure, Reading, amount, duration
from exporter.health.sysctls.verdicts import Verdict
from exporter.health.thresholds import Result, Status, worst
from exporter.snapshot import Listener, Snapshot
from exporter.tcpstate import BY_LABEL, KNOWN_STATES, StateCounts
from exporter.web.current import Current
from exporter.web.page.machine import fragment, icon
from exporter.web.page.markup import Content, Markup, element
from exporter.web.page.states import breakable, grouped, pill, scrolled, sentence, wide_row

_LISTENERS, _NAMES = 10, 8  # rows that are shown
_BAR = 100


class Headline(NamedTuple):
    """How the host is, in a word and in sentences."""

    status: Status
    summary: Content
    reasons: tuple[Markup, ...]


def headline(at: Current, snapshot: Snapshot | None) -> Headline:
    """The status of the host and its reasons; *snapshot* is what may be shown as current."""
    waiting = f" It waits for {at.view.hanging_on}." if at.view.hanging_on else ""
    if at.sample is None:
        return Headline(Status.UNKNOWN, f"There is no sample yet.{waiting}", ())
    if snapshot is None:
        age = at.now - at.sample.counted_at
        return Headline(
            Status.UNKNOWN,
            f"The last sample is {age:.0f} s old and not shown, because the polling loop hangs or has died.{waiting}",
            (),
        )
    health = at.sample.health
    drifted = [it for it in health.deviations if it.expected]
    problems = [problem for problem in snapshot.sources.values() if problem is not None]
    unjudged = {it.reason: [] for it in health.unknown if it.reason not in problems}  # type: dict[str, list[str]]
    for it in health.unknown:
        if it.reason in unjudged:
            unjudged[it.reason].append(it.name)
    reasons = (
        *(_reason(result.status, _alert(result)) for result in health.alerting),
        *(_reason(it.severity, element("a", it.what, href=f"#finding-{it.name}")) for it in health.findings),
        *(_reason(Status.WARNING, f"{it.title} is {it.live}, expected {it.accepted}") for it in drifted),
        *(_reason(Status.UNKNOWN, f"Not readable: {problem}") for problem in problems),
        *(
            _reason(Status.UNKNOWN, f"Could not be judged: {', '.join(names)}: {why}")
            for why, names in unjudged.items()
        ),
    )
    if snapshot.connections is None:
        return Headline(health.status, "No reader can count the sockets of this host.", reasons)
    return Headline(health.status, _summary(health, len(problems)), reasons)


def _summary(health: Health, problems: int) -> Content:
    unknown = sum(result.status is Status.UNKNOWN for result in health.alerting)
    crossed = len(health.alerting) - unknown
    parts = [
        f"{_number(crossed, 'threshold')} crossed" if crossed else None,
        f"{_number(unknown, 'measure')} unknown" if unknown else None,
        _number(len(health.findings), "finding") if health.findings else None,
        f"{_number(len(health.unknown), 'finding')} could not be judged" if health.unknown else None,
        f"{_number(problems, 'source')} not readable" if problems else None,
        element("a", f"{_number(len(health.deviations), 'sysctl')} to change", href="#sysctls")
        if health.deviations
        else None,
    ]
    summary = [*_listed([it for it in parts if it is not None]), "."]
    return summary if len(summary) > 1 else ["Every threshold holds, and nothing was found."]


def _reason(status: Status, content: Content) -> Markup:
    return element("li", icon(status), element("span", content), class_=status.name)


def _alert(result: Result) -> Sequence[Markup | str]:
    state, ratio = BY_LABEL.get(result.measure), BY_NAME[result.measure].is_ratio
    where = f"#{fragment(state)}" if state else "#limits" if ratio else None
    name = element("a", state.rfc9293 if state else result.measure, href=where) if where else result.measure
    if result.value is None:
        return (name, " is unknown")
    value = _percent(result.value) if ratio else f"{result.value:,.10g}"
    return (name, f" {value}", "" if result.violated is None else f" ({grouped(result.violated.reason(result.value))})")


def finding_articles(findings: Sequence[Finding]) -> Iterator[Markup]:
    """Each finding: what, evidence, why, what to do, what that could break, and where to read on."""
    for it in findings:
        yield element(
            "article",
            element("h3", pill(it.severity), element("span", it.what)),
            element("ul", (element("li", sentence) for sentence in it.evidence), class_="evidence"),
            element("p", it.why),
            element("p", element("b", "Do: "), it.remedy),
            command(it.command) if it.command else None,
            element("p", element("b", "Risk: "), it.risk, class_="quiet") if it.risk else None,
            element(
                "div",
                element(
                    "p", element("b", "Bears on: "),
                    _listed([element("a", state.rfc9293, href=f"#{fragment(state)}") for state in it.states]),
                ) if it.states else None,
                element("p", element("b", "Runbook: "), element("a", it.runbook, href=f".{RUNBOOKS}{it.runbook}")),
                class_="more quiet",
            ),
            id=f"finding-{it.name}",
            class_=f"finding {it.severity.name}",
            tabindex=-1,
        )  # fmt: skip


def command(text: str) -> Markup:
    """A command to run, with a button that copies it where there are scripts."""
    button = element("button", "Copy", type="button", class_="copy", data_own=True)
    return element("div", element("pre", element("code", text), tabindex=0), button, class_="command")


def sysctls(deviating: Sequence[Verdict]) -> Markup | None:
    """The sysctls that are not as recommended or as the configuration expects; None where all are."""
    if not deviating:
        return None
    rows = [
        element(
            "tr",
            element("th", element("code", breakable(it.title)), scope="row"),
            element("td", element("b", str(it.live))),
            element("td", element("b", it.accepted), element("small", " expected") if it.expected else None),
        )
        + wide_row(
            (
                it.reason,
                element("small", f"{it.arithmetic}.") if it.arithmetic else None,
                element("small", f"Risk: {it.risk}") if it.risk else None,
            )
        )
        for it in deviating
    ]
    return _table("Sysctls to change", ("Sysctl", "Live", "Recommended"), map(Markup, rows), "sysctls")


def limits(health: Health, to_full: Mapping[str, int]) -> Markup:
    """How full each limit is, as bars in the colour of its status, and in numbers; and when it will be, by resource."""
    statuses = _statuses(health)
    rows = [
        _bar(measure, reading, statuses.get(measure.name), to_full.get(measure.resource, HORIZON))
        for measure in RATIOS
        if (reading := health.readings[measure.name]) is not None
    ]
    if not rows:
        return element("p", "No limit could be read.", class_="quiet")
    return _table("How full the limits are", ("Limit", "", "Used", "Of", "Full"), rows, "limits")


def _statuses(health: Health) -> Mapping[str, Status]:
    """The worst of each measure's threshold and of the findings about its limit; nothing where neither judges it."""
    found = {it.name: it.status for it in health.judgements}
    judged: dict[str, list[Status]] = {}
    for result in health.results:
        if result.is_judged and result.value is not None:
            judged.setdefault(result.measure, []).append(result.status)
    for rule in RULES:
        if rule.measure and found.get(rule.name, Status.UNKNOWN) is not Status.UNKNOWN:
            judged.setdefault(rule.measure, []).append(found[rule.name])
    return {measure: worst(statuses) for measure, statuses in judged.items()}


def _bar(measure: Measure, it: Reading, status: Status | None, left: int) -> Markup:
    share = 0.0 if it.share is None else max(0.0, min(it.share, 1.0))
    bar = element(
        "svg",
        element("rect", width=_BAR, height=8, rx=1.5, class_="track"),
        element("rect", width=max(round(share * _BAR, 1), 1) if share else 0, height=8, rx=1.5, class_="fill"),
        viewBox=f"0 0 {_BAR} 8",
        preserveAspectRatio="none",
        class_="bar" if status is None else f"bar {status.name}",
        aria_hidden="true",
    )
    used = amount(it.used, measure.unit) if measure.unit else f"{it.used:,}"
    limit = "not visible" if it.limit is None else amount(it.limit, measure.unit) if measure.unit else f"{it.limit:,}"
    return element(
        "tr",
        element(
            "th", sentence(measure.title), pill(status) if status not in {None, Status.OK} else None,
            element("small", breakable(it.place)) if it.place else None,
            element("small", f"full in about {duration(left)} at this rate") if 0 < left < HORIZON else None,
            scope="row",
        ),
        element("td", bar, class_="drawn"),
        element("td", used, class_="n"),
        element("td", limit, class_="n"),
        element("td", "" if it.share is None else _percent(it.share), class_="n"),
    )  # fmt: skip


def listeners(found: Sequence[Listener] | None) -> Markup:
    """The listeners, the fullest first."""
    if found is None:
        return element(
            "p",
            "The listeners' queues are unknown: only netlink reports them, and it does not answer here.",
            class_="quiet",
        )
    if not found:
        return element("p", "There are no listeners.", class_="quiet")
    ranked = heapq.nsmallest(_LISTENERS, found, key=lambda it: (-it.fullest, -it.syn_recv, it.port, it.address))
    rows = [
        element(
            "tr",
            element("th", element("code", breakable(it.place)), scope="row"),
            element("td", f"{it.accept_queue:,}", class_="n full" if it.fullest >= 0.8 else "n"),
            element("td", f"{it.accept_limit:,}", class_="n"),
            element("td", f"{it.syn_recv:,}", class_="n"),
        )
        for it in ranked
    ]
    heads = ("Listener", "Waiting", "Limit", "Half open")
    return _table("Listeners, the fullest first", heads, rows, "listeners", _more(len(found) - _LISTENERS))


def top(title: str, head: str, counts: Mapping[str, StateCounts] | None, missing: str) -> Markup:
    """The names with the most sockets, and their most frequent states."""
    if counts is None:
        return element("p", missing, class_="quiet")
    ranked = sorted((item for item in counts.items() if any(item[1])), key=lambda item: (-sum(item[1]), item[0]))
    if not ranked:
        return element("p", "There are no sockets.", class_="quiet")
    rows = [
        element(
            "tr",
            element("th", element("code", breakable(name)), scope="row"),
            element("td", f"{sum(by_state):,}", class_="n"),
            element("td", _most_frequent(by_state), class_="states"),
        )
        for name, by_state in ranked[:_NAMES]
    ]
    return _table(title, (head, "Sockets", "States"), rows, "top", _more(len(ranked) - _NAMES))


def memory(held: Memory) -> Iterator[Markup]:
    """The ports and the units with the most buffer memory; those without any are not shown."""
    for title, head, sizes in (("Memory by port", "Port", held.ports), ("Memory by unit", "Unit", held.units or {})):
        ranked = sorted((item for item in sizes.items() if item[1]), key=lambda item: (-item[1], item[0]))
        rows = [
            element(
                "tr",
                element("th", element("code", breakable(name)), scope="row"),
                element("td", amount(size, "bytes"), class_="n"),
            )
            for name, size in ranked[:_NAMES]
        ]
        if rows:
            yield _table(title, (head, "Memory"), rows, "top", _more(len(ranked) - _NAMES))


def quality(found: Quality) -> Markup | None:
    """Round trips, retransmissions and idle ages of the ports with the most sampled sockets; None without any."""
    ranked = sorted(found.ports.items(), key=lambda item: (-item[1].sockets, item[0]))
    if not ranked or found.sampled is None:
        return None
    rows = [
        element(
            "tr",
            element("th", element("code", breakable(port)), scope="row"),
            element("td", f"{it.sockets:,}", class_="n"),
            element("td", _median(RTT_BOUNDS, it.rtt), class_="n"),
            element("td", _percent(it.retransmitting / it.sockets), class_="n"),
            element("td", _median(IDLE_BOUNDS, it.idle), class_="n"),
        )
        for port, it in ranked[:_NAMES]
    ]
    caption = f"Medians by port of the round trip and the idle time, from {_percent(found.sampled)} of the connections"
    heads = ("Port", "Sampled", "Round trip", "Retransmit", "Idle")
    return _table(caption, heads, rows, "top", _more(len(ranked) - _NAMES))


def _median(bounds: Sequence[float], buckets: Sequence[int]) -> str:
    """The bound of the bucket with the middle one; nothing where there is none."""
    number = sum(buckets)
    if not number:
        return ""
    for bound, up_to in zip(bounds, accumulate(buckets), strict=False):
        if 2 * up_to >= number:
            return _seconds(bound)
    return f"over {_seconds(bounds[-1])}"


def _seconds(bound: float) -> str:
    for size, unit in ((3600, "h"), (60, "min"), (1, "s")):
        if bound >= size:
            return f"{bound / size:g} {unit}"
    return f"{1000 * bound:g} ms"


def not_judged(health: Health) -> Markup | None:
    """What does not exist or is not visible on this host, folded: it explains why a finding is silent."""
    if not health.not_judged:
        return None
    return element(
        "details",
        element("summary", f"Not judged here: {_number(len(health.not_judged), 'finding')}"),
        element("ul", (element("li", element("code", it.name), f": {it.reason}") for it in health.not_judged)),
        id="not-judged",
        class_="card",
    )


def sources(snapshot: Snapshot) -> Markup:
    """What was asked for the sample; what failed is said in full by the verdict."""
    return element(
        "p",
        "Sources: ",
        _listed(
            [
                element("span", source, " ", "failed" if problem else "ok", class_="UNKNOWN" if problem else None)
                for source, problem in snapshot.sources.items()
            ]
        ),
        ".",
    )


def _table(caption: str, heads: Sequence[str], rows: Iterable[Markup], class_: str, *after: Content) -> Markup:
    texts = {"", "States", "Live", "Recommended"}
    columns = [
        element("th", head, scope="col", class_="n" if head not in texts and position else None)
        if head
        else element("td", class_="drawn")
        for position, head in enumerate(heads)
    ]
    return scrolled(
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", columns)),
            element("tbody", rows),
            after,
            class_=class_,
        ),
        caption,
    )


def _more(number: int) -> Markup | None:
    """A last row that says how many are not shown."""
    if number <= 0:
        return None
    return element("tfoot", element("tr", element("td", f"and {number:,} more in /api/v1/snapshot", colspan=9)))


def _most_frequent(by_state: StateCounts) -> str:
    states = sorted((state for state in KNOWN_STATES if by_state[state]), key=lambda it: (-by_state[it], it))
    return ", ".join(f"{state.rfc9293} {by_state[state]:,}" for state in states[:3])


def _listed(items: Sequence[str]) -> Iterator[str]:
    for position, item in enumerate(items):
        yield item
        if position < len(items) - 1:
            yield ", "


def _number(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _percent(share: float) -> str:
    return "< 0.1 %" if 0 < share < 0.001 else f"{share * 100:.1f} %"
