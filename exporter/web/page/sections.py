"""The rest of the page: the verdict, the findings, how full the limits are, listeners, ports, units and sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from exporter.health import measures
from exporter.health.findings import Finding
from exporter.health.saturations import Saturation, name_of, saturations
from exporter.health.sysctls.verdicts import Verdict as Judged
from exporter.health.sysctls.verdicts import deviations
from exporter.health.thresholds import NO_THRESHOLD, Result, Status, evaluate, worst
from exporter.snapshot import Advice, Listener, Snapshot, StateCounts
from exporter.tcpstate import BY_LABEL, KNOWN_STATES
from exporter.web.current import Current
from exporter.web.page.machine import fragment, icon
from exporter.web.page.markup import Content, Markup, element
from exporter.web.page.states import breakable, pill, scrolled, sentence

NO_ADVICE = Advice((), ())
_LISTENERS, _NAMES = 10, 8  # rows that are shown
_BAR = 100


class Verdict(NamedTuple):
    """How the host is, in a word and in sentences."""

    status: Status
    summary: Content
    reasons: tuple[Markup, ...]


def judge(at: Current, snapshot: Snapshot | None) -> Verdict:
    """The verdict; *snapshot* is what may be shown as current. A source that failed is a reason and no status."""
    waiting = f" It waits for {at.view.hanging_on}." if at.view.hanging_on else ""
    if at.sample is None:
        return Verdict(Status.UNKNOWN, f"There is no sample yet.{waiting}", ())
    if snapshot is None:
        age = at.now - at.sample.counted_at
        return Verdict(
            Status.UNKNOWN,
            f"The last sample is {age:.0f} s old and not shown: the polling loop hangs or has died.{waiting}",
            (),
        )
    results = [
        result
        for result in evaluate(measures.read(snapshot, measures.MEASURES), at.view.thresholds)
        if result.threshold != NO_THRESHOLD
    ]
    advice = at.sample.advice or NO_ADVICE
    deviating = deviations(advice.verdicts)
    drifted = [it for it in deviating if it.expected]
    statuses = [*(result.status for result in results), *(finding.severity for finding in advice.findings)]
    statuses += [Status.WARNING for _ in drifted]
    if snapshot.connections is None:
        statuses.append(Status.UNKNOWN)
    problems = [problem for problem in snapshot.sources.values() if problem is not None]
    alerting = [result for result in results if result.status is not Status.OK]
    reasons = [
        *(_reason(result.status, _alert(result)) for result in alerting),
        *(
            _reason(it.severity, element("a", it.what, href=f"#finding-{it.name}"))
            for it in advice.findings
        ),
        *(_reason(Status.WARNING, f"{it.title} is {it.live}, expected {it.accepted}") for it in drifted),
        *(_reason(Status.UNKNOWN, f"Not readable: {problem}") for problem in problems),
    ]  # fmt: skip
    status = worst(statuses) if statuses else Status.OK  # no threshold and no finding: nothing speaks against it
    if snapshot.connections is None:
        return Verdict(status, "No reader can count the sockets of this host.", tuple(reasons))
    unknown = sum(result.status is Status.UNKNOWN for result in alerting)
    to_change = _number(len(deviating), "sysctl") + " to change"
    said = [
        _number(len(alerting) - unknown, "threshold") + " crossed" if len(alerting) > unknown else None,
        _number(unknown, "measure") + " not known" if unknown else None,
        _number(len(advice.findings), "finding") if advice.findings else None,
        _number(len(problems), "source") + " not readable" if problems else None,
        element("a", to_change, href="#sysctls") if deviating else None,
    ]
    summary = [*_listed([it for it in said if it is not None]), "."]
    if len(summary) == 1:
        summary = ["Every threshold holds, and there is nothing to do."]
    return Verdict(status, summary, tuple(reasons))


def _reason(status: Status, content: Content) -> Markup:
    return element("li", icon(status), element("span", content), class_=status.name)


def _alert(result: Result) -> Sequence[Markup | str]:
    state, ratio = BY_LABEL.get(result.measure), result.measure in measures.RATIOS
    where = f"#{fragment(state)}" if state else "#limits" if ratio else None
    name = element("a", state.rfc9293 if state else result.measure, href=where) if where else result.measure
    if result.value is None:
        return (name, " is not known")
    value = _percent(result.value) if ratio else f"{result.value:,.0f}"
    return (name, f" {value}", "" if result.violated is None else f" ({result.violated.reason(result.value)})")


def finding_articles(findings: Sequence[Finding]) -> Iterator[Markup]:
    """Each finding: what, evidence, why, what to do, and what that could break."""
    for it in findings:
        yield element(
            "article",
            element("h3", pill(it.severity), element("span", it.what)),
            element("ul", (element("li", sentence) for sentence in it.evidence), class_="evidence"),
            element("p", it.why),
            element("p", element("b", "Do: "), it.remedy),
            element("pre", element("code", it.command), tabindex=0) if it.command else None,
            element("p", element("b", "Could break: "), it.risk, class_="quiet") if it.risk else None,
            element(
                "p", element("b", "Bears on: "),
                _listed([element("a", state.rfc9293, href=f"#{fragment(state)}") for state in it.states]),
                class_="quiet",
            ) if it.states else None,
            id=f"finding-{it.name}",
            class_=f"finding {it.severity.name}",
            tabindex=-1,
        )  # fmt: skip


def sysctls(verdicts: Sequence[Judged]) -> Markup | None:
    """The sysctls that are not as recommended or as the configuration expects; None where all are."""
    deviating = deviations(verdicts)
    if not deviating:
        return None
    rows = [
        element(
            "tr",
            element("th", element("code", breakable(it.title)), scope="row"),
            element("td", element("b", str(it.live))),
            element("td", element("b", it.accepted), element("small", " expected") if it.expected else None),
            element(
                "td", it.reason, element("small", f"{it.arithmetic}.") if it.arithmetic else None,
                element("small", f"Risk: {it.risk}") if it.risk else None, class_="why",
            ),
        )
        for it in deviating
    ]  # fmt: skip
    return _table("Sysctls to change", ("Sysctl", "Live", "Recommended", "Why"), rows, "sysctls")


def limits(at: Current, snapshot: Snapshot) -> Markup:
    """How full each limit is, as bars and in numbers."""
    rows = [_bar(at, it) for it in saturations(snapshot)]
    if not rows:
        return element("p", "None of the limits can be read.", class_="quiet")
    return _table("How full the limits are", ("Limit", "", "Used", "Of", "Full"), rows, "limits")


def _bar(at: Current, it: Saturation) -> Markup:
    threshold = at.view.thresholds.get(it.measure, NO_THRESHOLD)
    status, _ = threshold.judge(it.share)
    judged = it.share is not None and threshold != NO_THRESHOLD
    share = 0.0 if it.share is None else max(0.0, min(it.share, 1.0))
    classes = " ".join(filter(None, ("bar", status.name if judged else "", "full" if share >= 0.8 else "")))
    bar = element(
        "svg",
        element("rect", width=_BAR, height=8, rx=1.5, class_="track"),
        element("rect", width=max(round(share * _BAR, 1), 1) if share else 0, height=8, rx=1.5, class_="fill"),
        viewBox=f"0 0 {_BAR} 8",
        preserveAspectRatio="none",
        class_=classes,
        aria_hidden="true",
    )
    used, limit = it.used_text, it.limit_text
    return element(
        "tr",
        element(
            "th", sentence(it.title), pill(status) if judged and status is not Status.OK else None,
            element("small", breakable(it.place)) if it.place else None, scope="row",
        ),
        element("td", bar, class_="drawn"),
        element("td", used if it.unit else f"{it.used:,}", class_="n"),
        element("td", "?" if limit is None or it.limit is None else limit if it.unit else f"{it.limit:,}", class_="n"),
        element("td", "?" if it.share is None else _percent(it.share), class_="n"),
    )  # fmt: skip


def listeners(found: Sequence[Listener] | None) -> Markup:
    """The listeners, the fullest first."""
    if found is None:
        return element("p", "Only netlink knows the listeners' queues, and it does not answer here.", class_="quiet")
    if not found:
        return element("p", "Nobody listens.", class_="quiet")
    ranked = sorted(found, key=lambda it: (-it.fullest, -it.syn_recv, it.port, it.address))
    rows = [
        element(
            "tr",
            element("th", element("code", breakable(name_of(it))), scope="row"),
            element("td", f"{it.accept_queue:,}", class_="n full" if it.fullest >= 0.8 else "n"),
            element("td", f"{it.accept_limit:,}", class_="n"),
            element("td", f"{it.syn_recv:,}", class_="n"),
        )
        for it in ranked[:_LISTENERS]
    ]
    heads = ("Listener", "Waiting", "Limit", "Half open")
    return _table("Listeners, the fullest first", heads, rows, "listeners", _more(len(ranked) - _LISTENERS))


def top(title: str, head: str, counts: Mapping[str, StateCounts] | None, missing: str) -> Markup:
    """The names with the most sockets, and their most frequent states."""
    if counts is None:
        return element("p", missing, class_="quiet")
    ranked = sorted((item for item in counts.items() if any(item[1])), key=lambda item: (-sum(item[1]), item[0]))
    if not ranked:
        return element("p", "None has a socket.", class_="quiet")
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


def _table(caption: str, heads: Sequence[str], rows: Sequence[Markup], class_: str, *after: Content) -> Markup:
    numbers = {"Used", "Of", "Full", "Waiting", "Limit", "Half open", "Sockets"}
    columns = [
        element("th", head, scope="col", class_="n" if head in numbers and position else None)
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
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _percent(share: float) -> str:
    return "< 0.1 %" if 0 < share < 0.001 else f"{share * 100:.1f} %"
