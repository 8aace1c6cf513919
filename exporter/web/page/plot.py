"""The last hour of a state, or of the host, as two areas: up to the most and up to the least, gaps for the unknown.

One unit of width is one point, the right edge is the moment of the page; the height is 0 to 100, downwards as in SVG.
A burst stands out of the one, a dip is cut into the other.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from exporter.sampling.history import HOLE, POINTS, STEP_SECONDS, Points

HEIGHT = 100
_ROOM = 92  # of the height, for the highest value: a line at the very edge would be cut


_SPANS = (60, 120, 180, POINTS)  # that are drawn, in points: after a start, an hour would be a thin line at the edge


class Plot(NamedTuple):
    """An hour, drawn."""

    high: str  # paths
    low: str
    least: int
    most: int
    sum: int  # of the most of each point
    minutes: int  # between the first number and the moment of the page

    def y(self, value: float) -> float | None:
        """How far down a limit is drawn; None where it is above the plot."""
        y = round(HEIGHT - value * _ROOM / scale(self.most), 1)
        return y if y >= 0 else None


def span(points: Points | None, now: float) -> int:
    """How many points to draw before Unix time *now*: ten minutes, and more as they are there."""
    made = 0 if points is None else len(points.high[0]) + max(0, round((now - points.end) / STEP_SECONDS))
    return next((it for it in _SPANS if it >= made), POINTS)


def scale(most: int) -> int:
    """The value at the top: a state with next to nobody in it should not look like a storm."""
    return max(most, 4)


def plot(points: Points | None, place: int, now: float) -> Plot | None:
    """The hour of a state, or of ``TOTAL``, before Unix time *now*; None where there is no number in it."""
    return None if points is None else _plot(points, points.low[place], points.high[place], now)


def drops(points: Points | None, now: float) -> Plot | None:
    """The hour of what listeners dropped, likewise."""
    return None if points is None else _plot(points, points.dropped, points.dropped, now)


def _plot(points: Points, low: array[int], high: array[int], now: float) -> Plot | None:
    first = POINTS - max(0, round((now - points.end) / STEP_SECONDS)) - len(high)  # x of the first point
    skipped = max(0, -first)
    low, high, first = low[skipped:], high[skipped:], max(0, first)
    known = [position for position, number in enumerate(high) if number != HOLE]
    if not known:
        return None
    most, least = max(high), min(low[position] for position in known)
    runs = [*_runs(high)]
    areas = ["".join(_area(first + a, series[a:b], scale(most)) for a, b in runs) for series in (high, low)]
    known_sum = sum(high[position] for position in known)
    return Plot(areas[0], areas[1], least, most, known_sum, round((POINTS - first - known[0]) * STEP_SECONDS / 60))


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where there are numbers without a hole: first, and one past the last."""
    edges = [-1, *(position for position, number in enumerate(numbers) if number == HOLE), len(numbers)]
    return ((before + 1, after) for before, after in pairwise(edges) if after - before > 1)


def _area(x: int, numbers: Sequence[int], top: int) -> str:
    """From the ground up to each of *numbers* and back; equal neighbours are one step."""
    heights = [HEIGHT - round(number * _ROOM / top) for number in numbers]
    steps = [f"M{x} {HEIGHT}V{heights[0]}"]
    steps += [f"H{x + at}V{here}" for at, (before, here) in enumerate(pairwise(heights), 1) if here != before]
    return "".join([*steps, f"H{x + len(heights)}V{HEIGHT}Z"])
