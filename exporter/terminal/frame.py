"""A frame of ``show --watch``: the table of the loop's last sample, cut to a screen. ``watch`` puts it there.

Pure: the size of the screen, what it can print and the time are arguments.
"""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from exporter.health.thresholds import Status
from exporter.printable import printable
from exporter.sampling.sample import Sample
from exporter.snapshot import StateCounts
from exporter.terminal import table
from exporter.terminal.table import Line

_KEPT = 240  # samples: no sparkline is wider
_NARROWEST = 10  # columns of a sparkline; what is right of it is cut first


class Screen(NamedTuple):
    """What the terminal can show."""

    columns: int
    rows: int
    encoding: str = "utf-8"


class FrameContext(NamedTuple):
    """When and where a frame is drawn, and what only the loop can say of itself."""

    host: str
    when: str  # the sample's local time, for a person
    now: float  # monotonic seconds
    asking: str | None  # the source that is being read
    bug: str | None = None  # what the last pass that had one ran into


class RecentCounts:
    """The last counts, oldest first, as far apart as samples are; None for one that could not count or did not come."""

    def __init__(self) -> None:
        self.counts: deque[StateCounts | None] = deque(maxlen=_KEPT)
        self._next = 0.0  # monotonic second at which a sample is expected
        self._interval = 0.0

    def add(self, at: float, counts: StateCounts | None, interval: float) -> None:
        """Take the counts of monotonic second *at*; in *interval* seconds come the next."""
        missing = round((at - self._next) / self._interval) if self._interval else 0
        self.counts.extend([None] * min(missing, _KEPT))
        self.counts.append(counts)
        self._next, self._interval = at + interval, interval


def frame(
    sample: Sample | None,
    moment: FrameContext,
    counts: Sequence[StateCounts | None],
    screen: Screen,
) -> list[Line]:
    """The lines of *sample*, none wider than the screen and no more than it has rows.

    What is wrong stands high: what does not fit is cut at the end. Of a sample that is too old only that is said.
    """
    lines = [*table.apart(*_parts(sample, moment, counts, screen))]
    if len(lines) > screen.rows:
        shown = max(0, screen.rows - 1)
        lines = [*lines[:shown], Line(f"... {len(lines) - shown} more rows")]
    return [line._replace(text=_fitted(line.text, screen)) for line in lines]


def _parts(
    sample: Sample | None,
    moment: FrameContext,
    counts: Sequence[StateCounts | None],
    screen: Screen,
) -> Iterator[Sequence[Line]]:
    bug = [] if moment.bug is None else [Line(f"A bug of this program: {moment.bug}", Status.CRITICAL)]
    if sample is None or sample.is_stale(moment.now):
        yield [Line(f"TCP on {moment.host}")]
        yield [Line(_missing(sample, moment), Status.UNKNOWN), *bug]
        return
    yield [Line(f"TCP on {moment.host}, {moment.when}, every {sample.passes['counting'].interval:.3g} s"), *bug]
    columns = min(_KEPT, max(_NARROWEST, screen.columns - table.WIDTH))
    marks = table.BLOCKS if _prints(screen.encoding, table.BLOCKS) else table.ASCII_BLOCKS
    yield [*table.states(sample.snapshot, sample.health, table.Trend([*counts], columns, marks))]
    yield [*table.findings(sample.health)]
    yield [*table.problems(sample.snapshot)]
    yield from ([*part] for part in table.holders(sample.snapshot, sample.health))


def _missing(sample: Sample | None, moment: FrameContext) -> str:
    what = (
        "There is no sample yet" if sample is None else f"The last sample is {moment.now - sample.counted_at:.0f} s old"
    )
    return f"{what}{f', waiting for {moment.asking}' if moment.asking else ''}."


def _fitted(text: str, screen: Screen) -> str:
    return cut(printable(text).encode(screen.encoding, "replace").decode(screen.encoding), screen.columns)


def cut(text: str, columns: int) -> str:
    """As much of *text* as *columns* hold, where some characters take two.

    >>> cut("LISTEN", 40), cut("LISTEN", 3), cut("漢字", 3), cut("漢字", 4)
    ('LISTEN', 'LIS', '漢', '漢字')
    """
    if text.isascii():
        return text[:columns]
    used = 0
    for position, character in enumerate(text):
        used += width(character)
        if used > columns:
            return text[:position]
    return text


def width(text: str) -> int:
    """Columns that *text* takes at most: a combining character is counted as one of its own."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _prints(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
