"""Ranges, statuses and their order, as the Monitoring Plugins guidelines define them.

The plugin, the configuration file and the daemon's ``tcp_threshold`` and ``tcp_status`` all judge with this module.
It knows numbers and ranges only; ``measures`` says which number a measure is.
"""

from __future__ import annotations

from exporter.errors import RangeError
from exporter.members import Enum
from exporter.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_INFINITY = float("inf")
_OF_A_NUMBER = frozenset("+-.0123456789eE")  # so what float() takes beyond, as inf or 1_000, is none


class Range(NamedTuple):
    """A range ``[@]start:end``: it alerts outside, or with ``@`` inside, end points counting as inside.

    ``text`` is the range as it was written, for messages and performance data.
    """

    start: float
    end: float
    inside: bool
    text: str

    @classmethod
    def parse(cls, text: str) -> Range:
        """Read a range, or raise ``RangeError`` with what was found and what was expected.

        https://www.monitoring-plugins.org/doc/guidelines.html#THRESHOLDFORMAT

        >>> Range.parse("10:20").alerts(9), Range.parse("@10:20").alerts(10), Range.parse("~:600").alerts(-1)
        (True, True, False)
        """
        spec = text.strip(" \t")
        inside = spec.startswith("@")
        first, colon, last = spec.removeprefix("@").rpartition(":")
        try:
            start = 0.0 if not first else -_INFINITY if first == "~" else _number(first)
            end = _INFINITY if colon and not last else _number(last)
        except ValueError:
            hint = "; quote a leading ~ from the shell" if "/" in spec else ""
            expected = f"expected [@][start:][end], such as 10, 10:, ~:10 or @5:8{hint}"
            raise RangeError(f"{text!r} is not a range: {expected}") from None
        if (abs(start) == _INFINITY and first != "~") or (abs(end) == _INFINITY and last):
            raise RangeError(f"{text!r} is not a range: its number is too large")
        if start > end:
            better = f"; write ~:{spec} or {spec}:" if not colon and not inside else ""
            raise RangeError(f"{text!r} is not a range: its start {start:g} is above its end {end:g}{better}")
        return cls(start, end, inside, spec)

    def alerts(self, value: float) -> bool:
        """Whether *value* raises the alert; a value that is no number always does."""
        return _is_nan(value) or (self.start <= value <= self.end) == self.inside

    @property
    def upper(self) -> float | None:
        """The limit above which it alerts, or None where it has none."""
        return None if self.inside or self.end == _INFINITY else self.end

    def reason(self, value: float) -> str:
        """Why *value* alerts, for a person: ``> 800``, ``< 10``, ``in 10:20``."""
        if self.inside:
            return f"in {self.text[1:]}"
        return f"> {self.end:.10g}" if value > self.end else f"< {self.start:.10g}"


def _is_nan(value: float) -> bool:
    return not -_INFINITY <= value <= _INFINITY


def _number(text: str) -> float:
    if not _OF_A_NUMBER.issuperset(text):
        raise ValueError(text)
    return float(text)


class Status(Enum):
    """A service status. Its value is the plugin's exit code, which is not the order of severity."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


SEVERITY = (Status.OK, Status.UNKNOWN, Status.WARNING, Status.CRITICAL)
"""From mild to bad: what cannot be seen never hides what is broken, and never counts as fine."""


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of the statuses; UNKNOWN if there are none."""
    return max(statuses, key=SEVERITY.index, default=Status.UNKNOWN)


class Threshold(NamedTuple):
    """The ranges of one measure; None where that severity never alerts."""

    warning: Range | None = None
    critical: Range | None = None

    def judge(self, value: float | None) -> tuple[Status, Range | None]:
        """The status of *value* and the range that alerts. A value that is not known is UNKNOWN, threshold or not."""
        if value is None or _is_nan(value):
            return Status.UNKNOWN, None
        if self.critical is not None and self.critical.alerts(value):
            return Status.CRITICAL, self.critical
        if self.warning is not None and self.warning.alerts(value):
            return Status.WARNING, self.warning
        return Status.OK, None


def contradiction(threshold: Threshold) -> str | None:
    """The complaint about a warning that critical always hides, or None: wherever warning alerts, critical does too.

    Two equal ranges are a way to have no warning, and so is a warning that never alerts. Measures are never negative,
    so only values from 0 on count.

    >>> contradiction(Threshold(Range.parse("800"), Range.parse("600")))
    "'800' can never be seen: critical '600' alerts on all its values; expected a warning that alerts earlier"
    >>> contradiction(Threshold(Range.parse("10:"), Range.parse("5:")))
    """
    warning, critical = threshold.warning, threshold.critical
    if warning is None or critical is None:
        return None
    early, late = _alerting(warning), _alerting(critical)
    if not early or early == late or not all(any(a <= low and high <= b for a, b in late) for low, high in early):
        return None
    return (
        f"{warning.text!r} can never be seen: critical {critical.text!r} alerts on all its values; "
        "expected a warning that alerts earlier"
    )


_Point = tuple[float, int]  # a value, and -1 for just below it, 0 for itself, 1 for just above it


def _alerting(limits: Range) -> list[tuple[_Point, _Point]]:
    """The intervals from 0 on in which *limits* alerts, with their first and last points; they never touch."""
    least, most = (0.0, 0), (_INFINITY, 0)
    start, end = limits.start, limits.end
    intervals = [((start, 0), (end, 0))] if limits.inside else [(least, (start, -1)), ((end, 1), most)]
    clipped = [(max(low, least), high) for low, high in intervals]
    return [(low, high) for low, high in clipped if low <= high]


NO_THRESHOLD = Threshold()

DEFAULTS: Mapping[str, Threshold] = {"established": Threshold(Range.parse("600"), Range.parse("800"))}
"""What is judged when neither a file nor an option says anything."""


DRIFT = Threshold(Range.parse("0"))
"""How many sysctls may differ from what is expected, unless an option says otherwise: a warning above none."""


class Result(NamedTuple):
    """One measure, judged. ``violated`` is the range that alerts."""

    measure: str
    value: float | None
    threshold: Threshold
    status: Status
    violated: Range | None

    @property
    def is_judged(self) -> bool:
        """Whether the measure has a threshold at all."""
        return self.threshold != NO_THRESHOLD


def evaluate(values: Mapping[str, float | None], thresholds: Mapping[str, Threshold]) -> list[Result]:
    """Judge each of *values* (measure to number, None for unknown) by its threshold, in the order of *values*."""
    results = []
    for measure, value in values.items():
        threshold = thresholds.get(measure, NO_THRESHOLD)
        results.append(Result(measure, value, threshold, *threshold.judge(value)))
    return results
