"""From results to the plugin's text: status line, performance data and the long text of ``-v``.

The rules are those that Nagios, NRPE and Icinga agree on: performance data on the first line only, no ``|`` in text, no
control characters, numbers without exponent, and a first line that fits NRPE's 1,023 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from exporter.health.thresholds import SEVERITY, Result, Status, worst

MAX_LINE = 1000  # bytes; NRPE's second protocol cuts at 1,023
MAX_OUTPUT = 4096
SERVICE = "TCP STATES"


def report(
    results: Sequence[Result], shown: Iterable[Result], details: Iterable[str] = (), reason: str = ""
) -> tuple[Status, str]:
    """The status and the text for *results*, with the performance data of *shown* and *details* as long text.

    *reason* says why a measure is not known, on the first line.
    """
    status = worst(result.status for result in results)
    first = clean(f"{SERVICE} {status.name}: {summary(results)}" + (f": {reason}" if reason else ""))
    data = performance_data(shown, MAX_LINE - len(first.encode("utf-8", "backslashreplace")) - len(" | "))
    lines = [first + (f" | {data}" if data else ""), *map(clean, details)]
    return status, _fit(lines)


def failure(status: Status, reason: str) -> str:
    """The one line for an answer without results."""
    return _fit([clean(f"{SERVICE} {status.name}: {reason}")])


def summary(results: Sequence[Result]) -> str:
    """What alerts, the worst first; where nothing does, everything that was judged."""
    ordered = sorted(results, key=lambda result: -SEVERITY.index(result.status))
    alerting = [result for result in ordered if result.status is not Status.OK]
    return ", ".join(map(_describe, alerting or results))


def performance_data(results: Iterable[Result], limit: int) -> str:
    """``label=value;warn;crit;min;max`` for each known value, as many as fit *limit* bytes."""
    items: list[str] = []
    length = -1
    for result in results:
        if result.value is None:
            continue
        warning, critical = (limit.text if limit else "" for limit in result.threshold)
        item = f"{result.measure}={number(result.value)};{warning};{critical};0;"
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
    return "".join(character if character.isprintable() and character != "|" else " " for character in text).strip()


def _describe(result: Result) -> str:
    if result.value is None:
        return f"{result.measure} unknown"
    reason = f" ({result.violated.reason(result.value)})" if result.violated else ""
    return f"{result.measure} {number(result.value)}{reason}"


def _fit(lines: list[str]) -> str:
    text = "\n".join(lines).encode("utf-8", "backslashreplace")
    if len(lines[0].encode("utf-8", "backslashreplace")) > MAX_LINE:
        text = lines[0].encode("utf-8", "backslashreplace")[: MAX_LINE - 3] + b"..."
    return text[:MAX_OUTPUT].decode("utf-8", "ignore")
