"""From results to the plugin's text: status line, performance data and the long text of ``-v``.

The rules are those that Nagios, NRPE and Icinga agree on: performance data on the first line only, no ``|`` in text, no
control characters, numbers without exponent, and a first line that fits NRPE's 1,023 bytes.
"""

from __future__ import annotations

from exporter.health.thresholds import SEVERITY, Result, Status, worst
from exporter.printable import printable
from exporter.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAX_LINE = 1000  # bytes; NRPE's second protocol cuts at 1,023
MAX_OUTPUT = 4096
SERVICE = "TCP STATES"
_NO_REASONS: Mapping[str, str] = {}


class Item(NamedTuple):
    """One thing that was judged, as the first line names it, with its performance data."""

    status: Status
    text: str
    data: str = ""


def report(
    results: Sequence[Result],
    shown: Iterable[Result],
    details: Iterable[str] = (),
    reasons: Mapping[str, str] = _NO_REASONS,
    findings: Item | None = None,
) -> tuple[Status, str]:
    """The status and the text for *results* and *findings*, with the performance data of *shown* and *details* as long
    text.

    *reasons* says by measure why it is not known, or what it counts. One that is all there is to say ends the first
    line; otherwise each stands with its measure. The number of findings is the first of the performance data, so that
    it is never what does not fit.
    """
    found = () if findings is None else (findings,)
    said = {reasons.get(result.measure, "") for result in results if result.status is not Status.OK}
    alone = len(said) == 1 and all(item.status is Status.OK for item in found)
    shared = said.pop() if alone else ""
    items = [Item(it.status, _describe(it, "" if shared else reasons.get(it.measure, ""))) for it in results]
    status = worst(item.status for item in (*items, *found))
    first = clean(f"{SERVICE} {status.name}: {_summary(items, found)}" + (f": {shared}" if shared else ""))
    room = MAX_LINE - len(first.encode("utf-8", "backslashreplace")) - len(" | ")
    data = performance_data(shown, room, [item.data for item in found if item.data])
    lines = [first + (f" | {data}" if data else ""), *map(clean, details)]
    return status, _fit(lines)


def failure(status: Status, reason: str) -> str:
    """The one line for an answer without results."""
    return _fit([clean(f"{SERVICE} {status.name}: {reason}")])


def performance_data(results: Iterable[Result], limit: int, before: Sequence[str] = ()) -> str:
    """``label=value;warn;crit;min;max`` after those *before*, for each known value, as many as fit *limit* bytes."""
    items: list[str] = []
    length = -1
    for item in (*before, *map(_datum, results)):
        if not item:
            continue
        length += 1 + len(item)
        if length > limit:
            break
        items.append(item)
    return " ".join(items)


def number(value: float) -> str:
    """A number as performance data wants it: digits and a point, never an exponent.

    >>> number(812), number(0.25), number(1e-7)
    ('812', '0.25', '0')
    """
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def clean(text: str) -> str:
    """*text* as one line that no consumer misreads."""
    return printable(text, instead=" ", drop="|").strip()


def _summary(items: Sequence[Item], found: Sequence[Item]) -> str:
    """What alerts, the worst first and findings before measures; where nothing does, everything that was judged."""
    ordered = sorted((*found, *items), key=lambda item: -SEVERITY.index(item.status))
    alerting = [item for item in ordered if item.status is not Status.OK]
    return ", ".join(item.text for item in alerting or (*items, *found))


def _datum(result: Result) -> str:
    """The performance data of one measure; "" of one that is not known."""
    if result.value is None:
        return ""
    warning, critical = (limit.text if limit else "" for limit in result.threshold)
    return f"{result.measure}={number(result.value)};{warning};{critical};0;"


def _describe(result: Result, reason: str) -> str:
    violated = result.violated.reason(result.value) if result.violated and result.value is not None else ""
    inside = ": ".join(text for text in (violated, reason) if text)
    value = "unknown" if result.value is None else number(result.value)
    return f"{result.measure} {value}" + (f" ({inside})" if inside else "")


def _fit(lines: list[str]) -> str:
    text = "\n".join(lines).encode("utf-8", "backslashreplace")
    if len(lines[0].encode("utf-8", "backslashreplace")) > MAX_LINE:
        text = lines[0].encode("utf-8", "backslashreplace")[: MAX_LINE - 3] + b"..."
    if len(text) > MAX_OUTPUT:
        text = text[: MAX_OUTPUT - 3].decode("utf-8", "ignore").encode() + b"..."
    return text.decode("utf-8", "ignore")
