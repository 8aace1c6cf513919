"""A sample as a table for the terminal: what ``tcp-exporter show`` prints. Pure; colour is an argument."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from exporter import measures
from exporter.advice.verdicts import deviations
from exporter.saturations import name_of, saturations
from exporter.snapshot import Advice, Listener, Snapshot, StateCounts
from exporter.tcpstate import KNOWN_STATES, TcpState
from exporter.thresholds import Result, Status, Threshold, evaluate

_COLORS = {Status.WARNING: "33", Status.CRITICAL: "31;1", Status.UNKNOWN: "35"}
_TOP = 5  # listeners, ports and units that are shown
_BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 62
"""Columns of the table of states beside the sparklines."""


class Trend(NamedTuple):
    """The last counts, oldest first, None where nothing could count; and how many columns they may be drawn in."""

    counts: Sequence[StateCounts | None]
    columns: int


def render(
    snapshot: Snapshot,
    thresholds: Mapping[str, Threshold],
    advice: Advice,
    host: str,
    when: str,
    *,
    color: bool,
    trend: Trend | None = None,
) -> str:
    """The table of *snapshot*, taken *when* on *host*, and what there is to say of it; with *trend*, sparklines."""
    states = _states(snapshot, thresholds, trend, color=color)
    lines = [f"TCP on {host}, {when}", "", *states, "", *_limits(snapshot)]
    if snapshot.listeners:
        lines += ["", *_listeners(snapshot.listeners)]
    if snapshot.detail is not None:
        lines += ["", *_top("PORT", snapshot.detail.ports)]
        if snapshot.detail.units is not None:
            lines += ["", *_top("UNIT", snapshot.detail.units)]
    said = [*_findings(advice, color=color)]
    if said:
        lines += ["", *said]
    problems = [problem for problem in snapshot.sources.values() if problem]
    if problems:
        lines += ["", "Not readable:", *(f"  {problem}" for problem in problems)]
    return "\n".join(lines) + "\n"


def sparkline(numbers: Sequence[int | None]) -> str:
    """A block for each number, from 0 to the highest of them; what is not known is a gap.

    >>> sparkline([0, 1, None, 4, 8]), sparkline([0, 0]), sparkline([])
    ('▁▂ ▅█', '▁▁', '')
    """
    top = max((number for number in numbers if number is not None), default=0) or 1
    most = len(_BLOCKS) - 1
    return "".join(" " if number is None else _BLOCKS[-(-number * most // top)] for number in numbers)


def _states(
    snapshot: Snapshot, thresholds: Mapping[str, Threshold], trend: Trend | None, *, color: bool
) -> Iterator[str]:
    results = evaluate(measures.read(snapshot, measures.STATES), thresholds)
    lately = "" if trend is None else f"{'LATELY':<{trend.columns}}  "
    yield f"{'STATE':<13}{'SOCKETS':>9}  {lately}{'THRESHOLDS':<27}STATUS"
    for state, result in zip(KNOWN_STATES, results, strict=True):
        number = "?" if result.value is None else f"{result.value:.0f}"
        if trend is not None:
            counts = [None if it is None else it[state] for it in trend.counts[-trend.columns :]]
            lately = f"{sparkline(counts):>{trend.columns}}  "
        line = f"{state.rfc9293:<13}{number:>9}  {lately}{_ranges(result):<27}{_status(result)}".rstrip()
        code = _COLORS.get(result.status) if color else None
        yield f"\x1b[{code}m{line}\x1b[0m" if code else line
    connections = snapshot.connections
    if connections is None:
        return
    if connections.counts[TcpState.UNKNOWN]:
        states = ", ".join(connections.unknown_states)
        yield f"{'unknown':<13}{connections.counts[TcpState.UNKNOWN]:>9}  state {states}"
    yield f"{'total':<13}{sum(connections.counts):>9}"
    how = "established and time-wait from the kernel's counters" if connections.derived else "every socket counted"
    yield f"Read by {connections.reader}: {how}."


def _limits(snapshot: Snapshot) -> Iterator[str]:
    found = [*saturations(snapshot)]
    if found:
        yield f"{'LIMIT':<24}{'USED':>13}{'OF':>13}"
    for it in found:
        percent = "" if it.share is None else f"{it.share:.1%}"
        yield f"{it.title:<24}{it.used_text:>13}{it.limit_text or '-':>13}{percent:>8}  {it.place}".rstrip()


def _findings(advice: Advice, *, color: bool) -> Iterator[str]:
    """One line for each finding and each sysctl that deviates."""
    deviating = deviations(advice.verdicts)
    if not advice.findings and not deviating:
        return
    yield "FINDINGS (tcp-exporter advise says more)"
    for finding in advice.findings:
        line = f"{finding.severity.name:<9} {_printable(finding.what)}"
        code = _COLORS[finding.severity] if color else None
        yield f"\x1b[{code}m{line}\x1b[0m" if code else line
    for it in deviating:
        yield f"sysctl    {it.title} is {it.live}, {'expected' if it.expected else 'recommended'} is {it.accepted}"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _listeners(listeners: Sequence[Listener]) -> Iterator[str]:
    """The listeners, the fullest first, as many as fit a screen beside the rest."""
    yield f"{'LISTENER':<28}{'WAITING':>9}{'LIMIT':>8}{'HALF OPEN':>11}"
    ranked = sorted(listeners, key=lambda it: (-it.fullest, -it.syn_recv, it.port, it.address))
    for it in ranked[:_TOP]:
        yield f"{name_of(it):<28}{it.accept_queue:>9}{it.accept_limit:>8}{it.syn_recv:>11}"
    if len(ranked) > _TOP:
        yield f"... and {len(ranked) - _TOP} more"


def _top(title: str, counts: Mapping[str, StateCounts]) -> Iterator[str]:
    """The names with the most sockets, and their most frequent states."""
    yield f"{title:<28}{'SOCKETS':>9}  STATES"
    ranked = sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0]))
    for name, by_state in ranked[:_TOP]:
        if any(by_state):
            states = sorted((state for state in KNOWN_STATES if by_state[state]), key=lambda it: (-by_state[it], it))
            text = ", ".join(f"{state.label} {by_state[state]}" for state in states[:3])
            yield f"{name:<28}{sum(by_state):>9}  {text}"


def _ranges(result: Result) -> str:
    named = zip(("warning", "critical"), result.threshold, strict=True)
    return ", ".join(f"{name} {limit.text}" for name, limit in named if limit is not None)


def _status(result: Result) -> str:
    return "" if result.threshold == Threshold() and result.status is Status.OK else result.status.name
