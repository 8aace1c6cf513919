"""Verdicts: this host's sysctls held against the profile and against what its operator expects.

Pure. A sysctl that does not exist here has no verdict, and what the host does not tell is not judged. ``prometheus``,
``web``, ``terminal`` and ``nagios`` show them; ``config`` reads the expectations.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping

from exporter.health.sysctls.arithmetic import Live
from exporter.health.sysctls.ports import NODE_PORTS, RANGE, RESERVED, newly_exposed, with_reserved
from exporter.health.sysctls.profile import BY_SYSCTL, Recommendation
from exporter.health.thresholds import Range
from exporter.kernel.catalogue import states_of
from exporter.record import TYPE_CHECKING, NamedTuple
from exporter.tcpstate import TcpState

if TYPE_CHECKING:
    from typing import TypeAlias

    from exporter.snapshot import SysctlValue

Expectations: TypeAlias = "Mapping[str, Range | str]"
"""By sysctl what it should be: a range, or exactly a text."""

NO_EXPECTATIONS: Expectations = {}

EXPECTED_REASON = "The configuration expects it: sysctl.expected."
_READ_ONLY = frozenset(("tcp_available_congestion_control", "tcp_available_ulp", "tcp_ehash_entries"))


class Verdict(NamedTuple):
    """One number of one sysctl, or its text, against what it should be. An explanation alone accepts anything."""

    name: str
    field: str  # of a vector, else ""
    live: int | str
    accepted: str  # for a person: "1", "2 to 7", "at least 4096"; "" where anything is
    recommended: int | str  # the accepted value nearest to the live one: that itself where it does not deviate
    deviates: bool
    expected: bool  # the configuration says so, and not the profile
    reason: str
    arithmetic: str  # what the live value, and the recommended one, come to; "" where there is nothing to compute
    risk: str
    source: str
    elsewhere: str  # what dated or wrong pages say
    settable: bool  # a sysctl.d fragment may set it
    states: tuple[TcpState, ...]  # that it bears on

    @property
    def key(self) -> str:
        """The sysctl's whole key, as sysctl(8) takes it."""
        return self.name if "." in self.name else f"net.ipv4.{self.name}"

    @property
    def title(self) -> str:
        """The sysctl with its field, for a person."""
        return f"{self.name} ({self.field})" if self.field else self.name

    def with_live(self, clause: str) -> Verdict:
        """With what the host's sockets tell of it beside the arithmetic."""
        return self._replace(arithmetic="; ".join(filter(None, (self.arithmetic, clause))))


def verdicts(sysctls: Mapping[str, SysctlValue], expected: Expectations, release: str) -> tuple[Verdict, ...]:
    """What is to be said of *sysctls*: the profile in its order, and what the configuration expects beside it.

    An expectation replaces the profile's entries of its sysctl. *release* is the kernel's, ``6.18.44``; entries that
    are true of some kernels only are left out where it says nothing.
    """
    live = {(value.name, field): number for value in sysctls.values() for field, number in value.fields}
    version = _version(release)
    found: list[Verdict] = []
    for name in dict.fromkeys((*BY_SYSCTL, *expected)):
        value = sysctls.get(name)
        if value is None:
            continue
        if name in expected:
            found += _expected(value, expected[name], live, version)
        else:
            found += _recommended(value, BY_SYSCTL[name], live, version)
    return tuple(found)


def deviations(of: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """The verdicts that deviate: the configuration's first."""
    return tuple(sorted((verdict for verdict in of if verdict.deviates), key=lambda verdict: not verdict.expected))


def sysctl_conf(of: Iterable[Verdict], listening: Iterable[int] = (), reserved: str | None = None) -> str:
    r"""A fragment for sysctl.d that mends the deviations which can be set, each with its reason.

    A vector is written whole, the fields that do not deviate as they are; *of* has to have them all. Where the range of
    local ports is widened, those of *listening* that get into it are reserved beside *reserved*, the present list.
    """
    rows, ports = tuple(of), tuple(listening)
    lines = []
    for name in dict.fromkeys(verdict.name for verdict in rows if verdict.deviates):
        fields = [verdict for verdict in rows if verdict.name == name]
        for verdict in (verdict for verdict in fields if verdict.deviates):
            lines.append(f"# {verdict.title} is {verdict.live}, right is {verdict.accepted}. {verdict.reason}")
            if verdict.arithmetic:
                lines.append(f"# {verdict.arithmetic}.")
            if verdict.risk:
                lines.append(f"# Risk: {verdict.risk}")
        if name == RANGE:
            lines += _reservation(fields, ports, reserved)
        assignment = f"{fields[0].key} = {' '.join(str(verdict.recommended) for verdict in fields)}"
        lines += [assignment if all(verdict.settable for verdict in fields) else f"# cannot be set: {assignment}", ""]
    return "\n".join(line.replace("\n", " ") for line in lines)


def _reservation(fields: Iterable[Verdict], listening: Iterable[int], reserved: str | None) -> Iterator[str]:
    """The lines that reserve the ports of services before the range is widened over them."""
    live = {it.field: it.live for it in fields}
    after = {it.field: it.recommended for it in fields}
    numbers = live.get("low"), live.get("high"), after.get("low"), after.get("high")
    if not all(isinstance(number, int) for number in numbers):
        return
    low, high, new_low, new_high = (int(number or 0) for number in numbers)
    ports = newly_exposed(listening, (low, high), (new_low, new_high))
    if ports and reserved is not None:
        yield f"{RESERVED} = {with_reserved(ports, reserved)}"
    elif ports:
        yield f"# Add these ports of services to {RESERVED}, which replaces its list as a whole: {ports}"
    if new_low < low or new_high > high:
        yield f"# {NODE_PORTS}"


def nearest(limits: Range, value: int) -> int | None:
    """The integer nearest to *value* that does not alert; None where none does not.

    >>> nearest(Range.parse("15:60"), 90), nearest(Range.parse("@0:5"), 3), nearest(Range.parse("0.2:0.8"), 3)
    (60, 6, None)
    """
    if not limits.alerts(value):
        return value
    candidates = []
    for bound in (limits.start, limits.end):
        if not math.isinf(bound):
            whole = (math.floor(bound), math.ceil(bound))
            candidates += [whole[0] - 1, *whole, whole[1] + 1]
    right = [candidate for candidate in candidates if not limits.alerts(candidate)]
    return min(right, key=lambda candidate: abs(candidate - value), default=None)


def _recommended(
    value: SysctlValue, entries: Iterable[Recommendation], live: Live, version: tuple[int, int] | None
) -> Iterator[Verdict]:
    numbers = dict(value.fields)
    for entry in entries:
        number = numbers.get(entry.field)
        if number is None or not _applies(entry, version):
            continue
        low, high = entry.lowest(live), entry.high
        untold = entry.untold if entry.least is not None and entry.least(live) is None else ""
        near = number
        if not (entry.unsigned and number < 0):
            near = max(number, low) if low is not None else number
            near = min(near, high) if high is not None else near
        yield Verdict(
            name=value.name,
            field=entry.field,
            live=number,
            accepted="" if untold and near == number else _span(low, high),
            recommended=near,
            deviates=near != number,
            expected=False,
            reason=entry.reason,
            arithmetic="; ".join(filter(None, (_arithmetic(entry, number, near, live), untold))),
            risk=entry.risk_of(number, near),
            source=entry.source,
            elsewhere=entry.elsewhere,
            settable=value.name not in _READ_ONLY,
            states=states_of(value.name),
        )


def _expected(
    value: SysctlValue, wanted: Range | str, live: Live, version: tuple[int, int] | None
) -> Iterator[Verdict]:
    """The verdicts of an expectation: by number where it has as many as the sysctl, else of the text as a whole."""
    words = wanted.split() if isinstance(wanted, str) else []
    if isinstance(wanted, Range):
        for field, number in value.fields:
            near = nearest(wanted, number)
            if near is not None:
                yield _expectation(value, field, number, wanted.text, near, live, version)
    elif value.text is None and len(words) == len(value.fields) and all(map(_is_number, words)):
        for (field, number), word in zip(value.fields, words, strict=True):
            yield _expectation(value, field, number, word, int(word), live, version)
    else:
        text = value.text if value.text is not None else " ".join(str(number) for _, number in value.fields)
        yield _expectation(value, "", text, wanted, wanted, live, version)


def _expectation(
    value: SysctlValue, field: str, found: int | str, accepted: str, near: int | str, live: Live,
    version: tuple[int, int] | None,
) -> Verdict:  # fmt: skip
    entries = (entry for entry in BY_SYSCTL.get(value.name, ()) if entry.field == field and _applies(entry, version))
    entry, told, risk, elsewhere = next(entries, None), "", "", ""
    if entry is not None and isinstance(found, int) and isinstance(near, int):
        told, risk, elsewhere = _arithmetic(entry, found, near, live), entry.risk_of(found, near), entry.elsewhere
        low, high = entry.lowest(live), entry.high
        low = None if entry.unsigned and near < 0 else low
        if (low is not None and near < low) or (high is not None and near > high):  # its risk is that of the contrary
            risk, elsewhere = f"The built-in recommendation is {_span(low, high)}. {entry.reason}", ""
    return Verdict(
        name=value.name,
        field=field,
        live=found,
        accepted=accepted,
        recommended=near,
        deviates=near != found,
        expected=True,
        reason=EXPECTED_REASON,
        arithmetic=told,
        risk=risk,
        source="the configuration file",
        elsewhere=elsewhere,
        settable=value.name not in _READ_ONLY,
        states=states_of(value.name),
    )


def _arithmetic(entry: Recommendation, number: int, near: int, live: Live) -> str:
    if entry.say is None:
        return ""
    told = f"{number}: {entry.say(number, live)}"
    return told if near == number else f"{told}; {near}: {entry.say(near, live)}"


def _applies(entry: Recommendation, version: tuple[int, int] | None) -> bool:
    if not entry.since and not entry.until:
        return True
    since, until = _version(entry.since), _version(entry.until)
    return version is not None and (since is None or version >= since) and (until is None or version < until)


def _version(release: str) -> tuple[int, int] | None:
    match = re.match(r"([0-9]+)\.([0-9]+)", release, re.ASCII)
    return None if match is None else (int(match[1]), int(match[2]))


def _span(low: int | None, high: int | None) -> str:
    if low is None:
        return "" if high is None else f"at most {high}"
    if high is None:
        return f"at least {low}"
    return f"{low}" if low == high else f"{low} to {high}"


def _is_number(word: str) -> bool:
    return re.fullmatch(r"[-+]?[0-9]{1,20}", word, re.ASCII) is not None
