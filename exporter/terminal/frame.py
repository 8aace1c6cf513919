"""A frame of ``show --watch``: the table of the loop's last sample, cut to a screen. ``watch`` puts it there.

Pure: the size of the screen, what it can print and the time are arguments.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from exporter.health.thresholds import Status
from exporter.printable import printable
from exporter.sampling.sample import Sample
from exporter.tcpstate import StateCounts
from exporter.terminal import table
from exporter.terminal.table import Line

_KEPT = 240  # samples: no sparkline is wider
_NARROWEST = 10  # columns of a sparkline; where it would be narrower, it makes room for the rest
_KEYS = "q: quit"
_INDENT = 10  # columns of the second line of a finding: the severity stands alone


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

    Where they do not fit, rows of zeros go first; what is wrong stands high, and the end is cut. Of a sample that is
    too old only that is said.
    """
    lines = [*table.apart(*_parts(sample, moment, counts, screen, short=False))]
    if len(lines) > screen.rows:
        lines = [*table.apart(*_parts(sample, moment, counts, screen, short=True))]
    if len(lines) > screen.rows:
        shown = max(0, screen.rows - 1)
        lines = [*lines[:shown], Line(f"... {len(lines) - shown} more rows")]
    return [line._replace(text=_fitted(line.text, screen)) for line in lines]


def _parts(
    sample: Sample | None,
    moment: FrameContext,
    counts: Sequence[StateCounts | None],
    screen: Screen,
    *,
    short: bool,
) -> Iterator[Sequence[Line]]:
    """What is drawn, an empty line between two parts; *short* leaves out rows that need no attention."""
    bug = [] if moment.bug is None else [Line(f"A bug of this program: {moment.bug}", Status.CRITICAL)]
    if sample is None or sample.is_stale(moment.now):
        yield [_headline(f"TCP on {moment.host}", screen)]
        yield [Line(_missing(sample, moment), Status.UNKNOWN), *bug]
        return
    snapshot, health = sample.snapshot, sample.health
    every = f"every {sample.passes['light'].interval:.3g} s"
    if snapshot.connections is not None and snapshot.connections.older:
        every += f", {snapshot.connections.older}"
    yield [_headline(f"TCP on {moment.host}, {moment.when}, {every}", screen), *bug]
    hidden = table.empty_states(snapshot, health, counts) if short else ()
    ranges = screen.columns >= table.PLAIN_WIDTH
    yield [*table.states(snapshot, health, _trend(counts, screen), ranges=ranges, hidden=hidden)]
    names = ", ".join(it.name for it in health.unknown)
    unknown = [Line(f"Not judged: {names}")] if short and names else table.not_judged(health)
    yield [*_wrapped(table.findings(health), _INDENT, screen), *_wrapped(unknown, 4, screen)]
    yield [*table.problems(snapshot)]
    yield from ([*part] for part in table.holders(snapshot, health, short=short))


def _trend(counts: Sequence[StateCounts | None], screen: Screen) -> table.Trend | None:
    """The sparklines beside the table, or None where there is no room for them."""
    columns = min(_KEPT, screen.columns - table.WIDTH)
    marks = table.BLOCKS if _prints(screen.encoding, table.BLOCKS) else table.ASCII_BLOCKS
    return table.Trend([*counts], columns, marks) if columns >= _NARROWEST else None


def _headline(text: str, screen: Screen) -> Line:
    """The first line, with the keys at its right end."""
    room = screen.columns - len(_KEYS) - 2
    if room < len(_KEYS):
        return Line(text)
    shown = _fitted(text, screen._replace(columns=room))
    return Line(f"{shown}{' ' * (room - width(shown))}  {_KEYS}")


def _wrapped(lines: Iterable[Line], indent: int, screen: Screen) -> list[Line]:
    """Each of *lines* as many lines as it needs, all but the first indented."""
    longest, room = max(2 * indent, screen.columns), " " * indent
    return [
        Line(text, line.status)
        for line in lines
        for text in textwrap.wrap(printable(line.text), longest, subsequent_indent=room, break_on_hyphens=False)
    ]


def _missing(sample: Sample | None, moment: FrameContext) -> str:
    what = (
        "There is no sample yet" if sample is None else f"The last sample is {moment.now - sample.counted_at:.0f} s old"
    )
    return f"{what}{f', waiting for {moment.asking}' if moment.asking else ''}."


def _fitted(text: str, screen: Screen) -> str:
    """*text* as the screen can show it, an ellipsis where its end is cut."""
    shown = printable(text).encode(screen.encoding, "replace").decode(screen.encoding)
    if width(shown) <= screen.columns:
        return shown
    return cut(shown, screen.columns - 3) + "..." if screen.columns > 3 else cut(shown, screen.columns)


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
