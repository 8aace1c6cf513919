"""What other values of sysctls would mean on a host: its snapshot judged once more with them in place.

``advise --what-if`` prints an ``Outcome``, the page shows ``alternatives`` beside a sysctl. Pure; it sets nothing.
What a value comes to is ``sysctls.arithmetic``'s, the limits are those of ``measures``, and the findings judge as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from exporter.health.findings import BY_NAME as FINDINGS
from exporter.health.judge import Health
from exporter.health.keepalive import unprotected
from exporter.health.measures import BY_NAME, RATIOS, Measure, Reading, amount
from exporter.health.sysctls.arithmetic import Live
from exporter.health.sysctls.ports import RANGE, RESERVED
from exporter.health.sysctls.profile import BY_SYSCTL
from exporter.health.sysctls.verdicts import Verdict
from exporter.health.thresholds import Status
from exporter.health.window import Window
from exporter.kernel.catalogue import CATALOGUE, states_of
from exporter.record import NamedTuple
from exporter.snapshot import Listener, Snapshot, SysctlValue
from exporter.tcpstate import TcpState

_SOMAXCONN = "net.core.somaxconn"
_KEEPALIVE = frozenset(("tcp_keepalive_time", "tcp_keepalive_intvl", "tcp_keepalive_probes"))

Sysctls = Mapping[str, SysctlValue]


class Effect(NamedTuple):
    """One sysctl that was named: what it is, and what would be said of it."""

    name: str
    before: str
    after: str
    unit: str
    meaning: str  # the catalogue's; "" where it does not know the sysctl
    acts_on: tuple[str, ...]  # sentences with this host's numbers
    computed: bool  # whether a meaning or a ratio follows from it
    judged: tuple[str, ...]  # how the new value stands to what is right, by field
    risk: str  # of moving in this direction
    elsewhere: str  # what vendors demand and pages on the web say


class Meaning(NamedTuple):
    """What one number comes to, before and after. A sysctl that nobody named may come to something else, too."""

    title: str
    before: str
    after: str


class Shift(NamedTuple):
    """A measure whose number, limit or status would be another."""

    measure: str
    before: Reading | None
    after: Reading | None
    status_before: Status
    status_after: Status

    @property
    def title(self) -> str:
        """The measure, for a person."""
        return BY_NAME[self.measure].title


class Turn(NamedTuple):
    """A finding that would come, go or be of another severity."""

    finding: str
    before: Status
    after: Status
    what: str  # its first line where it is there, after the change if it is there then


class Outcome(NamedTuple):
    """Everything that would be different."""

    effects: tuple[Effect, ...]
    meanings: tuple[Meaning, ...]
    shifts: tuple[Shift, ...]
    turns: tuple[Turn, ...]
    status_before: Status
    status_after: Status


def outcome(window: Window, values: Sequence[SysctlValue], judge: Callable[[Window], Health]) -> Outcome:
    """What *values* in place of the present ones would change in what *judge* says of *window*."""
    now = window.now
    then = replaced(now, values)
    before, after = judge(window), judge(window._replace(now=then))
    return Outcome(
        effects=tuple(_effect(now, value, after.verdicts) for value in values),
        meanings=meanings(now.sysctls, then.sysctls),
        shifts=_shifts(before, after),
        turns=_turns(before, after),
        status_before=before.status,
        status_after=after.status,
    )


def replaced(snapshot: Snapshot, values: Sequence[SysctlValue]) -> Snapshot:
    """*snapshot* as it would be with *values*: the sysctls, and what follows from them at once or after a restart."""
    new = {value.name: value for value in values}
    then = snapshot._replace(sysctls={**snapshot.sysctls, **new})
    if _SOMAXCONN in new and snapshot.listeners is not None:
        old, most = snapshot.scalar(_SOMAXCONN), then.scalar(_SOMAXCONN)
        if old is not None and most is not None:
            then = then._replace(listeners=tuple(_restarted(it, old, most) for it in snapshot.listeners))
    return _with_ports(snapshot, then)


def meanings(before: Sysctls, after: Sysctls) -> tuple[Meaning, ...]:
    """What the profile's arithmetic says differently of *after*, in the profile's order."""
    live, then = _live(before), _live(after)
    found = {}
    for name, entries in BY_SYSCTL.items():
        for entry in entries:
            old, new = live.get((name, entry.field)), then.get((name, entry.field))
            if entry.say is None or old is None or new is None:
                continue
            was, would_be = entry.say(old, live), entry.say(new, then)
            if was != would_be:
                title = f"{name} ({entry.field})" if entry.field and (was, would_be) not in found else name
                found[was, would_be] = Meaning(title, was, would_be)  # of a range, both ends say the same
    return tuple(found.values())


def alternatives(snapshot: Snapshot, verdicts: Sequence[Verdict]) -> list[tuple[str, str]]:
    """What other values of the sysctl of *verdicts* would come to: the recommended one, else the ends of what is right.

    By value the sentence: its own arithmetic and the limits that would be others.
    """
    found = []
    for it in verdicts:
        value = snapshot.sysctls.get(it.name)
        if value is None or not isinstance(it.live, int):
            continue
        for number in _others(it, _live(snapshot.sysctls)):
            fields = tuple((field, number if field == it.field else old) for field, old in value.fields)
            then = replaced(snapshot, [value._replace(fields=fields)])
            told = it.recommended == it.live  # else the verdict's arithmetic has both
            said = [meaning.after for meaning in meanings(snapshot.sysctls, then.sysctls)[:1] if told]
            said += [
                f"{ratio.title} at {_share(after)} instead of {_share(before)}"
                for ratio, before, after in _ratios(snapshot, then)
            ]
            if said:
                found.append((f"{it.field} {number}".strip(), "; ".join(said)))
    return found


def _others(verdict: Verdict, live: Live) -> list[int]:
    """The recommended value, or the ends of what is right; an end of 1 only keeps off 0, and tells nothing."""
    if verdict.recommended != verdict.live:
        return [verdict.recommended] if isinstance(verdict.recommended, int) else []
    entries = [it for it in BY_SYSCTL.get(verdict.name, ()) if it.field == verdict.field and not it.since + it.until]
    ends = {end for it in entries for end in (it.lowest(live), it.high) if end is not None and end > 1}
    return sorted(ends - {verdict.live})


def _ratios(before: Snapshot, after: Snapshot) -> Iterator[tuple[Measure, Reading | None, Reading | None]]:
    """The ratios that are not the same in both."""
    for ratio in RATIOS:
        was, would_be = ratio.read(before), ratio.read(after)
        if was != would_be:
            yield ratio, was, would_be


def _share(reading: Reading | None) -> str:
    """The share for a person, never with an exponent: ``0.00146``, ``0.000022``, ``0``."""
    share = None if reading is None else reading.share
    if share is None:
        return "unknown"
    return f"{share:.3g}" if share == 0 or share >= 1e-4 else f"{share:.6f}"


# -- what follows from a value -----------------------------------------------------------------------------------------


def _restarted(listener: Listener, old: int, most: int) -> Listener:
    """A listener that listens anew: one at today's cap is taken to ask for as much as it would get."""
    limit = most if listener.fullest_limit >= old else min(listener.fullest_limit, most)
    return listener._replace(fullest_limit=limit, accept_limit=limit * listener.sockets)


def _with_ports(snapshot: Snapshot, then: Snapshot) -> Snapshot:
    """The ephemeral ports under another range, other reservations or another reuse of TIME-WAIT."""
    detail = snapshot.detail
    if detail is None or detail.ephemeral_used is None or detail.ephemeral_available is None:
        return then
    gain = _range(then) - _range(snapshot)
    if gain:
        listening = sum(_in_range(then, it.port) - _in_range(snapshot, it.port) for it in _ports(snapshot))
        available = max(0, detail.ephemeral_available + gain - listening)
        more = max(0, detail.ephemeral_listening + listening)
        detail = detail._replace(ephemeral_available=available, ephemeral_listening=more)
    reuse, reused = then.scalar("tcp_tw_reuse"), snapshot.scalar("tcp_tw_reuse")
    if reuse != reused:
        loopback = "-> 127." in detail.ephemeral_towards or "-> [::1]" in detail.ephemeral_towards
        used, waiting, reusable = detail.ephemeral_used or 0, detail.ephemeral_waiting, detail.ephemeral_reusable
        if (reuse == 1 or (reuse == 2 and loopback)) and then.scalar("tcp_timestamps") != 0:
            used, waiting, reusable = used - waiting, 0, reusable + waiting
        else:
            used, waiting, reusable = used + reusable, waiting + reusable, 0
        detail = detail._replace(ephemeral_used=used, ephemeral_waiting=waiting, ephemeral_reusable=reusable)
    return then._replace(detail=detail)


def _ports(snapshot: Snapshot) -> Sequence[Listener]:
    return list({it.port: it for it in snapshot.listeners or ()}.values())


def _ends(snapshot: Snapshot) -> tuple[int, int]:
    value = snapshot.sysctls.get(RANGE)
    fields = {} if value is None else dict(value.fields)
    return fields.get("low", 1), fields.get("high", 0)


def _in_range(snapshot: Snapshot, port: int) -> bool:
    low, high = _ends(snapshot)
    return low <= port <= high


def _range(snapshot: Snapshot) -> int:
    """The ports of the range less the number of the reserved, all of which are taken to be in it."""
    low, high = _ends(snapshot)
    value = snapshot.sysctls.get(RESERVED)
    return max(0, high - low + 1) - (0 if value is None else dict(value.fields).get("count", 0))


# -- what would be said ------------------------------------------------------------------------------------------------


def _live(sysctls: Sysctls) -> Live:
    return {(value.name, field): number for value in sysctls.values() for field, number in value.fields}


def _effect(now: Snapshot, value: SysctlValue, verdicts: Sequence[Verdict]) -> Effect:
    known, old, alone = CATALOGUE.get(value.name), now.sysctls[value.name], replaced(now, [value])
    numbers, was = dict(value.fields), dict(old.fields)
    risks, elsewhere = [], []
    for entry in BY_SYSCTL.get(value.name, ()):
        before, after = was.get(entry.field), numbers.get(entry.field)
        if before is not None and after is not None:
            risks += [] if before == after else [entry.risk_of(before, after)]
            elsewhere.append(entry.elsewhere)
    judged = [
        f"{f'{it.field} {it.live}'.strip()} is {'not ' if it.deviates else ''}as "
        f"{'expected' if it.expected else 'recommended'}: {it.accepted}"
        for it in verdicts
        if it.name == value.name and it.accepted
    ]
    return Effect(
        name=value.name,
        before=old.shown,
        after=value.shown,
        unit=value.unit,
        meaning="" if known is None else known.meaning,
        acts_on=tuple(_acts_on(now, value.name, numbers)),
        computed=bool(meanings(now.sysctls, alone.sysctls)) or any(_ratios(now, alone)),
        judged=tuple(judged),
        risk=" ".join(dict.fromkeys(filter(None, risks))),
        elsewhere=" ".join(dict.fromkeys(filter(None, elsewhere))),
    )


def _acts_on(now: Snapshot, name: str, numbers: Mapping[str, int]) -> list[str]:
    """Whom it concerns, in this host's numbers."""
    said = []
    counts = None if now.connections is None else now.connections.counts
    states = states_of(name)
    if counts is not None and states:
        listed = [f"{state.rfc9293} ({counts[state]} now)" for state in states]
        said.append(f"acts on {', '.join(listed)}")
    if name in _KEEPALIVE and counts is not None:
        said.append(
            f"of the {counts[TcpState.ESTABLISHED]} in ESTABLISHED it acts on those whose application has set "
            "SO_KEEPALIVE and no time of its own"
        )
        if without := unprotected(now):
            said.append(without)
    old, most = now.scalar(_SOMAXCONN), numbers.get("")
    if name == _SOMAXCONN and now.listeners is not None and old is not None and most is not None:
        capped = sum(it.fullest_limit >= old for it in now.listeners)
        lower = sum(it.fullest_limit > most for it in now.listeners)
        total = len(now.listeners)
        if most > old:
            said.append(
                f"{capped} of {total} listeners are at the present cap and may get more when they are restarted"
            )
        else:
            said.append(f"{lower} of {total} listeners have more than {most} and keep it until they are restarted")
    return said


def _shifts(before: Health, after: Health) -> tuple[Shift, ...]:
    status = {it.measure: it.status for it in before.results}, {it.measure: it.status for it in after.results}
    return tuple(
        Shift(name, was, after.readings.get(name), status[0][name], status[1][name])
        for name, was in before.readings.items()
        if was != after.readings.get(name) or status[0][name] is not status[1][name]
    )


def _turns(before: Health, after: Health) -> tuple[Turn, ...]:
    was = {it.name: it for it in before.judgements}
    would_be = {it.name: it for it in after.judgements}
    found = []
    for name in FINDINGS:
        old, new = was.get(name), would_be.get(name)
        if old is None or new is None or old.status is new.status:
            continue
        there = new.finding or old.finding
        found.append(Turn(name, old.status, new.status, new.reason if there is None else there.what))
    return tuple(found)


def reading_text(measure: Measure, reading: Reading | None) -> str:
    """A reading for a person: ``12 of 8192 (0.00146)``."""
    if reading is None:
        return "unknown"
    used = amount(reading.used, measure.unit)
    return used if reading.limit is None else f"{used} of {amount(reading.limit, measure.unit)} ({_share(reading)})"
