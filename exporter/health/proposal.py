"""Thresholds proposed from observed peaks, each with its reason: what ``advise --thresholds`` prints.

``document.observed`` brings the peaks, of a daemon's hour or of a Prometheus. Pure; the rule is the limits below.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from exporter.health.finding import Limit
from exporter.health.measures import BY_NAME, MEASURES
from exporter.health.thresholds import DEFAULTS
from exporter.printable import printable
from exporter.record import NamedTuple

ROOM = Limit(1.5, "warning, as a multiple of the peak", "a day that is half as busy again is no incident")
PROPORTION = Limit(4 / 3, "critical, as a multiple of warning", "the proportion of the built-in 600 and 800")
LEAST = Limit(20, "sockets that a peak counts as, where it is lower", "a handful more is no trouble on any host")
HALF = Limit(0.5, "least warning, as a share of a resource's limit", "it half of the resource is still free")
NEAR = Limit(0.8, "most warning, as a share of a resource's limit", "there is still time to act")
BRINK = Limit(0.95, "most critical, as a share of a resource's limit", "at 1 connections are lost: it must come before")

FULL: Mapping[str, float] = {"orphans_ratio": 0.25}
"""The ratios at which something is lost already below 1: tcp_too_many_orphans weighs a suspicious one four times."""

_STATES = ("established", "syn_sent", "syn_recv", "fin_wait2", "time_wait", "close_wait", "last_ack")


class Peak(NamedTuple):
    """The highest that a measure was."""

    value: float
    where: str = ""  # the instance that had it, where there are several
    limit: int | None = None  # of the resource, the least of all instances; None: there is none, or it is not known
    limit_name: str = ""  # "tcp_max_tw_buckets"


class Observed(NamedTuple):
    """What was highest, and for how long that was watched."""

    source: str  # "the daemon at http://127.0.0.1:19293"
    seconds: float
    states: Mapping[str, Peak]
    ratios: Mapping[str, Peak]
    of_ratios: str  # what the ratios are: "at this moment", "in that time"


class Proposed(NamedTuple):
    """The thresholds of one measure."""

    measure: str
    warning: float
    critical: float
    reasons: tuple[str, ...]


def propose(observed: Observed) -> list[Proposed]:
    """The thresholds of ESTABLISHED, of the other states that had enough sockets, and of the ratios."""
    found = []
    for name in (measure.name for measure in MEASURES):
        peak = observed.states.get(name) if name in _STATES else observed.ratios.get(name)
        if peak is None or math.isnan(peak.value):
            continue
        if BY_NAME[name].is_ratio:
            found.append(_of_ratio(name, peak, observed.of_ratios))
        elif peak.value >= LEAST.value or name in DEFAULTS:
            found.append(_of_state(name, peak))
    return found


def block(observed: Observed, now: str) -> str:
    """The block for the configuration, its reasons as comments. *now* is when, for a person."""
    rule = (
        f"The rule: warning is {ROOM.value:g} times the peak, because {ROOM.reason}; critical is a third more, "
        f"{PROPORTION.reason}. A peak below {LEAST.value:g} sockets counts as {LEAST.value:g}. "
        f"Of a resource's limit, warning is at most {NEAR.value:g}, because {NEAR.reason}, and critical at most "
        f"{BRINK.value:g}; a ratio warns from {HALF.value:g} on at the earliest, because below {HALF.reason}."
    )
    lines = [
        f"Proposed by tcp-exporter advise --thresholds, {now}.",
        f"Observed: {_span(observed.seconds)} of {observed.source}.",
        *textwrap.wrap(rule, 98),
        "Without this block 600 and 800 established connections stay the thresholds; with it, only what stands here.",
    ]
    if observed.seconds < _A_DAY:
        lines.append("Less than a day was watched: the busiest hour may not be in it.")
    text = [f"# {printable(line)}" for line in lines]
    text.append("thresholds:")
    proposals = propose(observed)
    for it in proposals:
        text += [f"  # {printable(reason)}" for reason in it.reasons]
        text.append(f"  {it.measure}: {{warning: {it.warning:g}, critical: {it.critical:g}}}")
    quiet = [name for name in _STATES if name in observed.states and name not in {it.measure for it in proposals}]
    if quiet:
        text.append(
            f"  # Left out, because never more than {LEAST.value - 1:g} sockets were in it: {', '.join(quiet)}."
        )
    return "\n".join(text) + "\n"


_A_DAY = 86400.0


def _of_state(name: str, peak: Peak) -> Proposed:
    warning = _rounded_up(max(peak.value, LEAST.value) * ROOM.value)
    critical = _rounded_up(warning * PROPORTION.value)
    reasons = [f"{BY_NAME[name].title}: at most {peak.value:.10g}{_at(peak)}."]
    if peak.limit is not None and peak.limit > 0:
        most, brink = math.floor(peak.limit * NEAR.value), math.floor(peak.limit * BRINK.value)
        if critical > brink or warning > most:
            reasons.append(f"Lowered: {peak.limit_name} is {peak.limit}.")
        warning, critical = min(warning, most), min(critical, brink)
        reasons += _already(peak.value, warning)
    return Proposed(name, warning, critical, tuple(reasons))


def _of_ratio(name: str, peak: Peak, when: str) -> Proposed:
    full = FULL.get(name, 1.0)
    warning = min(max(peak.value * ROOM.value, HALF.value * full), NEAR.value * full)
    critical = min(warning * PROPORTION.value, BRINK.value * full)
    reasons = [f"{BY_NAME[name].title}: {peak.value:.3g} of its limit {when}{_at(peak)}."]
    if full < 1:
        reasons.append(f"Something may be lost from {full:g} on.")
    return Proposed(name, round(warning, 3), round(critical, 3), (*reasons, *_already(peak.value, round(warning, 3))))


def _already(value: float, warning: float) -> Iterator[str]:
    if value > warning:
        yield "The peak itself is too near the limit, so this will alert: raise the limit, or find out who fills it."


def _at(peak: Peak) -> str:
    return f", at {peak.where}" if peak.where else ""


def _rounded_up(number: float) -> int:
    """To two digits that mean something.

    >>> [_rounded_up(number) for number in (30, 618, 1001.5)]
    [30, 620, 1100]
    """
    unit = int("1".ljust(len(str(math.ceil(number))) - 1, "0"))
    return math.ceil(round(number / unit, 9)) * unit


def _span(seconds: float) -> str:
    """For how long it was watched."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"the highest of {seconds / unit:.0f} {name}"
    return f"the highest of {seconds:.0f} seconds"


def highest(peaks: Sequence[Peak]) -> Peak | None:
    """The highest of *peaks*, with the least of their limits."""
    if not peaks:
        return None
    limits = [it.limit for it in peaks if it.limit is not None]
    return max(peaks, key=lambda it: it.value)._replace(limit=min(limits, default=None))
