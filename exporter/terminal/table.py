"""A sample as a table for the terminal: what ``tcp-exporter show`` prints and ``frame`` cuts to a screen. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from exporter.health.findings import BY_NAME as RULES
from exporter.health.judge import Health
from exporter.health.measures import RATIOS, amount
from exporter.health.thresholds import SEVERITY, Result, Status, worst
from exporter.kernel.derivation import FEW
from exporter.printable import printable
from exporter.snapshot import Connections, Listener, Snapshot
from exporter.tcpstate import KNOWN_STATES, StateCounts, TcpState

_COLORS = {Status.WARNING: "33", Status.CRITICAL: "31;1", Status.UNKNOWN: "35"}
_TOP = 5  # listeners, ports and units that are shown
_RANGES, _STATUS = 27, 8  # columns of the thresholds and of the status
_NUMBERS = 24  # columns of the state and its sockets, and the gap behind them
PLAIN_WIDTH = _NUMBERS + _RANGES + _STATUS
"""Columns of the table of states with its thresholds and without sparklines."""
WIDTH = PLAIN_WIDTH + 3
"""Columns of the table of states beside the sparklines."""

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.:-=+*#"
"""Marks of a sparkline, from zero to the highest: for terminals that can print them, and for the others."""


class Line(NamedTuple):
    """One line, and the status that colours it."""

    text: str
    status: Status = Status.OK


class Trend(NamedTuple):
    """The last counts, oldest first, None where nothing could count; in how many columns, with which marks."""

    counts: Sequence[StateCounts | None]
    columns: int
    marks: str = BLOCKS


def render(
    snapshot: Snapshot,
    health: Health,
    host: str,
    when: str,
    *,
    color: bool,
) -> str:
    """The table of *snapshot*, taken *when* on *host*, and what there is to say of it."""
    lines = apart(
        [Line(f"TCP on {host}, {when}")],
        states(snapshot, health),
        *holders(snapshot, health),
        [*findings(health), *not_judged(health)],
        problems(snapshot),
    )
    return "".join(f"{paint(printable(line.text), line.status, color=color)}\n" for line in lines)


def apart(*parts: Iterable[Line]) -> Iterator[Line]:
    """The lines of the parts that have any, an empty line between two."""
    between = False
    for lines in parts:
        for number, line in enumerate(lines):
            if between and not number:
                yield Line("")
            between = True
            yield line


def paint(text: str, status: Status, *, color: bool) -> str:
    """*text* in the colour of its status."""
    code = _COLORS.get(status) if color else None
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def sparkline(numbers: Sequence[int | None], marks: str = BLOCKS) -> str:
    """A mark for each number, from 0 to the highest of them; what is not known is a gap, and only 0 looks like 0.

    >>> sparkline([0, 1, None, 4, 1000]), sparkline([0, 0]), sparkline([]), sparkline([0, 1, 8], ASCII_BLOCKS)
    ('▁▂ ▂█', '▁▁', '', '_.#')
    """
    top = max((number for number in numbers if number is not None), default=0) or 1
    return "".join(" " if number is None else marks[-(-number * (len(marks) - 1) // top)] for number in numbers)


def states(
    snapshot: Snapshot,
    health: Health,
    trend: Trend | None = None,
    *,
    ranges: bool = True,
    hidden: Collection[TcpState] = (),
) -> Iterator[Line]:
    """How many sockets are in each state and how that is judged.

    With *trend* there are sparklines, without *ranges* no thresholds. The states *hidden* are only counted, and then
    how the sockets were read is left out too.
    """

    def lately(of: Callable[[StateCounts], int]) -> str:
        if trend is None:
            return ""
        numbers = [None if it is None else of(it) for it in trend.counts[-trend.columns :]]
        return f"{sparkline(numbers, trend.marks):>{trend.columns}}  "

    def row(name: str, result: Result | None, past: str, found: Sequence[Status] = ()) -> Line:
        if result is None:  # judging failed
            return Line(f"{name:<13}{'?':>9}  {past}".rstrip())
        number = "?" if result.value is None else f"{result.value:.0f}"
        limits = f"{_ranges(result):<{_RANGES}}" if ranges else ""
        status = _status(result, found)
        text = f"{name:<13}{number:>9}  {past}{limits}{'' if status is None else status.name}"
        return Line(text.rstrip(), status or Status.OK)

    heading = "" if trend is None else f"{'LATELY':<{trend.columns}}  "
    limits = f"{'THRESHOLDS':<{_RANGES}}" if ranges else ""
    yield Line(f"{'STATE':<13}{'SOCKETS':>9}  {heading}{limits}STATUS")
    results = {result.measure: result for result in health.results}
    for state in KNOWN_STATES:
        if state not in hidden:
            found = [finding.severity for finding in health.findings if state in finding.states]
            yield row(state.rfc9293, results.get(state.label), lately(itemgetter(state)), found)
    connections = snapshot.connections
    if connections is None:
        return
    if connections.counts[TcpState.UNKNOWN]:
        names = ", ".join(connections.unknown_states)
        yield Line(f"{'unknown':<13}{connections.counts[TcpState.UNKNOWN]:>9}  state {names}")
    yield row("total", results.get("total"), lately(sum))
    yield from _remarks(connections, len(hidden))


def _remarks(connections: Connections, hidden: int) -> Iterator[Line]:
    """What the rows leave out, and how the sockets were counted."""
    how = (
        f"time-wait, and established above {FEW:,} while few change, from the kernel's counters"
        if connections.derived
        else "every socket of every process counted"
        if connections.unlisted
        else "every socket counted"
    )
    if hidden:
        yield Line(f"Not shown: {hidden} state{'' if hidden == 1 else 's'} without sockets.")
    else:
        yield Line(f"Read by {connections.reader}: {how}.")
    if connections.unlisted:
        yield Line(f"Not counted: {connections.why_unlisted(*connections.unlisted)}.")


def empty_states(snapshot: Snapshot, health: Health, past: Iterable[StateCounts | None]) -> frozenset[TcpState]:
    """The states without a socket, now and in the *past*, whose rows need no attention."""
    if snapshot.connections is None:
        return frozenset()
    counts = [snapshot.connections.counts, *(it for it in past if it is not None)]
    attention = {result.measure for result in health.results if result.status is not Status.OK}
    attention |= {state.label for finding in health.findings for state in finding.states}
    return frozenset(
        state for state in KNOWN_STATES if state.label not in attention and not any(it[state] for it in counts)
    )


def holders(snapshot: Snapshot, health: Health, *, short: bool = False) -> Iterator[Iterable[Line]]:
    """How full the limits are, and which listeners, ports and units have the sockets; those that are known.

    In *short*, the limits that alert come first, and those of which nothing is used have no row.
    """
    yield _limits(health, short=short)
    if snapshot.listeners:
        yield _listeners(snapshot.listeners)
    if snapshot.detail is not None:
        yield _top("PORT", snapshot.detail.ports)
        if snapshot.detail.units is not None:
            yield _top("UNIT", snapshot.detail.units)


def findings(health: Health) -> Iterator[Line]:
    """One line for each finding and each sysctl that deviates."""
    if health.findings or health.deviations:
        yield Line("FINDINGS (tcp-exporter advise has the details)")
    for finding in health.findings:
        yield Line(f"{finding.severity.name:<9} {finding.what}", finding.severity)
    for it in health.deviations:
        wanted = "expected" if it.expected else "recommended"
        yield Line(f"sysctl    {it.title} is {it.live}, {wanted} is {it.accepted}")


def not_judged(health: Health) -> Iterator[Line]:
    """What could not be judged, by reason."""
    if health.unknown:
        yield Line("Not judged:")
    for reason in dict.fromkeys(it.reason for it in health.unknown):
        names = ", ".join(it.name for it in health.unknown if it.reason == reason)
        yield Line(f"  {names}: {reason}")


def problems(snapshot: Snapshot) -> Iterator[Line]:
    """What could not be read, and why."""
    reasons = [problem for problem in snapshot.sources.values() if problem]
    if reasons:
        yield Line("Not readable:")
    yield from (Line(f"  {reason}") for reason in reasons)


def _limits(health: Health, *, short: bool) -> list[Line]:
    rows = []
    for measure in RATIOS:
        it = health.readings[measure.name]
        if it is None:
            continue
        used, limit = (amount(it.used, measure.unit), "-" if it.limit is None else amount(it.limit, measure.unit))
        percent = "" if it.share is None else f"{it.share:.1%}"
        judged = [result.status for result in health.results if result.measure == measure.name and result.is_judged]
        judged += [finding.severity for finding in health.findings if RULES[finding.name].measure == measure.name]
        text = f"{measure.title:<24}{used:>13}{limit:>13}{percent:>8}  {it.place}"
        status = worst([Status.OK, *judged])
        if not short or it.used or status is not Status.OK:
            rows.append(Line(text.rstrip(), status))
    if short:
        rows.sort(key=lambda row: -SEVERITY.index(row.status))
    return [Line(f"{'LIMIT':<24}{'USED':>13}{'OF':>13}"), *rows] if rows else []


def _listeners(listeners: Sequence[Listener]) -> Iterator[Line]:
    """The listeners, the fullest first, as many as fit a screen beside the rest."""
    yield Line(f"{'LISTENER':<28}{'WAITING':>9}{'LIMIT':>8}{'HALF OPEN':>11}")
    ranked = sorted(listeners, key=lambda it: (-it.fullest, -it.syn_recv, it.port, it.address))
    for it in ranked[:_TOP]:
        yield Line(f"{it.place:<28}{it.accept_queue:>9}{it.accept_limit:>8}{it.syn_recv:>11}")
    if len(ranked) > _TOP:
        yield Line(f"... and {len(ranked) - _TOP} more")


def _top(title: str, counts: Mapping[str, StateCounts]) -> Iterator[Line]:
    """The names with the most sockets, and their most frequent states."""
    yield Line(f"{title:<28}{'SOCKETS':>9}  STATES")
    ranked = sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0]))
    for name, by_state in ranked[:_TOP]:
        if any(by_state):
            most = sorted((state for state in KNOWN_STATES if by_state[state]), key=lambda it: (-by_state[it], it))
            text = ", ".join(f"{state.label} {by_state[state]}" for state in most[:3])
            yield Line(f"{name:<28}{sum(by_state):>9}  {text}")


def _ranges(result: Result) -> str:
    named = zip(("warning", "critical"), result.threshold, strict=True)
    return ", ".join(f"{name} {limit.text}" for name, limit in named if limit is not None)


def _status(result: Result, found: Sequence[Status]) -> Status | None:
    """The worst of a threshold and of the severities *found*; None where the number is known and has neither."""
    judged = [result.status] if result.is_judged or result.status is not Status.OK else []
    return worst([*judged, *found]) if judged or found else None
