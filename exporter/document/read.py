"""The JSON document of a running daemon, read back: the snapshot and the conclusions that the plugin's ``--url`` shows.

``write`` is the other half of the codec, ``client`` brings the bytes. Anything but a fresh sample of a daemon of this
API version is an ``ExporterError`` with one sentence on what it is instead; a daemon from before ``health`` still
tells its counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from exporter import __version__, client
from exporter.details import (
    IDLE_BOUNDS,
    RTT_BOUNDS,
    CloseWait,
    Conntrack,
    Detail,
    Drops,
    Memory,
    Peers,
    PortQuality,
    Quality,
    Transfers,
)
from exporter.document import API_VERSION
from exporter.errors import RangeError, SourceError
from exporter.health.finding import Finding, Judgement, NotJudged
from exporter.health.forecast import HORIZON
from exporter.health.sysctls.drift import Drift, line_of
from exporter.health.thresholds import Range, Status, Threshold
from exporter.printable import shortened
from exporter.record import TYPE_CHECKING, NamedTuple
from exporter.snapshot import Connections, Listener, Snapshot, Sockstat, SysctlValue, by_label
from exporter.tcpstate import BY_LABEL, KNOWN_STATES, StateCounts, TcpState

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

MAX_BODY = 4 * 2**20  # the largest document has listeners and detail up to their caps: below a tenth of it
LONGEST = 300  # characters that an error quotes of an answer
_LONGEST_NAME = 64  # characters of a measure
_OF_A_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
_DIGITS = 1000  # a number of so many is none of ours
_ABSURD = 1e30  # also refuses what JSON of Python has beside numbers: NaN and Infinity


class Concluded(NamedTuple):
    """What a daemon concluded by its own configuration."""

    thresholds: Mapping[str, Threshold]  # of the measures that have one there
    judgements: tuple[Judgement, ...]
    not_judged: tuple[NotJudged, ...]


class Answer(NamedTuple):
    """A daemon's fresh sample."""

    url: str
    snapshot: Snapshot
    age: float  # seconds
    measures: Mapping[str, float | None]  # those that the daemon has
    counts: StateCounts | None  # None: the daemon cannot count
    peaks: StateCounts | None
    unlisted: tuple[TcpState, ...]  # whose counts and peaks mean nothing
    expectations: int  # how many sysctls the daemon's configuration expects something of
    drifting: Mapping[str, str]  # by sysctl what is not as it expects
    concluded: Concluded | None  # None: a daemon from before there was any

    def conclusions(self) -> Concluded:
        """What the daemon concluded; ``SourceError`` where it is too old to conclude anything."""
        if self.concluded is None:
            raise SourceError(self.url, "the daemon is older than this plugin and has no findings: upgrade the daemon")
        return self.concluded

    def drift(self) -> Drift:
        """What the daemon's own expectations say; ``SourceError`` where it has none."""
        if not self.expectations:
            raise SourceError(self.url, "-s sysctl: the daemon has no sysctl that exists here in its sysctl.expected")
        return Drift(self.drifting)

    def values(self, names: Iterable[str], *, peak: bool) -> dict[str, float | None]:
        """The values of *names*, with *peak* the highest of the window for the states; None where there is none."""
        counts = self.peaks if peak else self.counts
        listed = {} if counts is None else by_label(counts, self.unlisted)
        states = {state.label: listed.get(state.label) for state in KNOWN_STATES}
        return {name: states[name] if name in states else self.measures.get(name) for name in names}

    def reason(self, name: str, *, peak: bool) -> str:
        """Why the daemon does not tell the measure *name*, where the snapshot itself does not show why; else ""."""
        if name not in self.measures:
            return "the daemon is older than this plugin and does not have it: upgrade the daemon"
        return "the daemon has no peaks yet" if peak and self.peaks is None and name in BY_LABEL else ""

    def origin(self, *, peak: bool) -> str:
        """Who was asked, for a person."""
        which = "; the states are its peaks" if peak else ""
        connections = self.snapshot.connections
        older = "" if connections is None or not connections.older else f", {connections.older}"
        return f"read from the daemon at {self.url}, {self.age:.1f} s old{older}{which}"


def ask(url: str, access: client.Access) -> Answer:
    """Ask the daemon whose snapshot is at *url*."""
    headers = {"Accept": "application/json", "User-Agent": f"check_tcp_states/{__version__}"}
    # One byte more than is accepted: enough for read to refuse it.
    return read(url, *client.get(url, access, headers, MAX_BODY + 1, proxies=True))


def read(url: str, status: int, reason: str, body: bytes) -> Answer:
    """The sample in an answer over HTTP; ``SourceError`` says why there is none."""
    document: object = None
    if len(body) > MAX_BODY:
        raise SourceError(url, f"not a daemon of tcp-exporter: the answer has more than {MAX_BODY >> 20} MiB")
    try:
        document = parsed(body)
    except ValueError:
        if status == 200:
            raise SourceError(url, "not a daemon of tcp-exporter: the answer is not JSON") from None
    if status != 200:
        error = document.get("error") if isinstance(document, dict) else None
        answered = f"answered {status} {shortened(reason, LONGEST)}".rstrip()
        raise SourceError(
            url, answered + (f": {shortened(error, LONGEST)}" if isinstance(error, str) else _hint(status))
        )
    if not isinstance(document, dict):
        raise SourceError(url, f"not a daemon of tcp-exporter: the answer is {type(document).__name__}, not an object")
    try:
        return _answer(url, document)
    except _Misfit as misfit:
        raise SourceError(url, f"not a daemon of tcp-exporter: {shortened(str(misfit), LONGEST)}") from None


def parsed(body: bytes) -> object:
    """The JSON in *body*, or ``ValueError``.

    The parser is one call in C that no deadline interrupts. Its time is bounded by the size, by not collecting garbage
    beside it, which takes three times as long as the parsing of an answer full of lists, and by the length of a number:
    Pythons before 3.9.14 and 3.10.7 read one of a million digits in minutes.
    """
    import gc  # noqa: PLC0415 - only for an answer
    import json  # noqa: PLC0415
    import re  # noqa: PLC0415

    if re.search(rb"[0-9]{%d}" % _DIGITS, body):
        raise ValueError(f"a number of {_DIGITS} digits or more")
    collects = gc.isenabled()
    gc.disable()
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("nested too deep") from None
    finally:
        if collects:
            gc.enable()


def _hint(status: int) -> str:
    return {401: ": the daemon asks for a password: give --credentials-file"}.get(status, "")


def snapshot_of(document: Mapping[str, object]) -> Snapshot:
    """The snapshot that *document* was made from, as far as ``write.document`` tells it.

    The page size is not in it: it is what makes pages of ``tcp_mem`` the limits in bytes, and 1 where there are none.
    """
    sysctls = {}
    listed = _field(document, "sysctls", dict)
    for name in listed:
        entry = _field(listed, name, dict)
        text, unit = _nullable(entry, "text", str), _field(entry, "unit", str)
        sysctls[name] = SysctlValue(name, tuple(_any_integers(_field(entry, "fields", dict)).items()), text, unit)
    limits, pages = _nullable(document, "memory_limit_bytes", dict), sysctls.get("tcp_mem")
    page_size = 1
    if limits is not None and pages is not None:
        sizes = (_field(limits, level, int) // number for level, number in pages.fields if number > 0)
        page_size = next(sizes, 0) or 1
    counts, connections = _nullable(document, "connections", dict), None
    if counts is not None:
        connections = Connections(
            _counts(counts),
            _field(document, "reader", str),
            _field(document, "derived", bool),
            unlisted=_unlisted(counts),
            walk_age=_number(document, "walk_age_seconds") if "walk_age_seconds" in document else 0.0,
            fresh=tuple(BY_LABEL[label] for label in _texts(document, "fresh_states") if label in BY_LABEL)
            if "fresh_states" in document
            else (),
        )
    used, sockstat = _nullable(document, "sockstat", dict), None
    if used is not None:
        orphans, tw, memory = (_field(used, name, int) for name in ("orphans", "timewait_sockets", "memory_bytes"))
        # What the document does not have (inuse, alloc of an older daemon) is in no measure and no text of the plugin.
        allocated = _field(used, "allocated_sockets", int) if "allocated_sockets" in used else 0
        sockstat = Sockstat(inuse=0, orphan=orphans, tw=tw, alloc=allocated, mem=memory // page_size)
    return Snapshot(
        taken_at=_moment(document, "taken_at"),
        connections=connections,
        counters=_any_integers(_field(document, "counters", dict)),
        sockstat=sockstat,
        sysctls=sysctls,
        page_size=page_size,
        sources={
            _field(entry, "source", str): _nullable(entry, "problem", str) for entry in _list(document, "sources")
        },
        listeners=_listeners(document),
        detail=_detail(document),
        conntrack=_conntrack(document),
        unmatched_half_open=_field(document, "unmatched_half_open", int),
        drops=_drops(document),
        to_full=_to_full(document),
    )


def _listeners(document: Mapping[str, object]) -> tuple[Listener, ...] | None:
    """The listeners; None also of a daemon that is too old to tell."""
    if document.get("listeners") is None:
        return None
    return tuple(
        Listener(
            address=_field(entry, "address", str),
            port=_field(entry, "port", int),
            sockets=_at_least(1, entry, "sockets"),
            accept_queue=_field(entry, "accept_queue", int),
            accept_limit=_field(entry, "accept_limit", int),
            syn_recv=_field(entry, "syn_recv", int),
            fullest_queue=_field(entry, "fullest_queue", int),
            fullest_limit=_field(entry, "fullest_limit", int),
            device=_field(entry, "device", str),
            dropped=_nullable(entry, "dropped", int),
        )
        for entry in _list(document, "listeners")
    )


def _detail(document: Mapping[str, object]) -> Detail | None:
    """The detail; None also of a daemon that is too old to tell."""
    if document.get("detail") is None:
        return None
    detail = _field(document, "detail", dict)
    units, ages = _nullable(detail, "units", dict), _nullable(detail, "close_wait", dict)
    return Detail(
        taken_at=_moment(detail, "taken_at"),
        families=_counts_by_name(_field(detail, "families", dict)),
        ports=_counts_by_name(_field(detail, "ports", dict)),
        remote_ports=_counts_by_name(_field(detail, "remote_ports", dict)),
        units=None if units is None else _counts_by_name(units),
        receive_queue=_field(detail, "receive_queue", int),
        send_queue=_field(detail, "send_queue", int),
        ephemeral_used=_nullable(detail, "ephemeral_used", int),
        ephemeral_available=_nullable(detail, "ephemeral_available", int),
        ephemeral_towards=_field(detail, "ephemeral_towards", str),
        folded=_integers(_field(detail, "folded", dict)),
        ephemeral_waiting=_field(detail, "ephemeral_waiting", int),
        ephemeral_reusable=_field(detail, "ephemeral_reusable", int),
        ephemeral_destinations=_field(detail, "ephemeral_destinations", int),
        ephemeral_listening=_field(detail, "ephemeral_listening", int),
        ephemeral_bound=_field(detail, "ephemeral_bound", int),
        ephemeral_reserved=_nullable(detail, "ephemeral_reserved", str),
        close_wait=None if ages is None else CloseWait(**{name: _field(ages, name, int) for name in CloseWait._fields}),
        stateless=_nullable(detail, "stateless", int) if "stateless" in detail else None,
        troubles={
            name: Peers(_field(entry, "sockets", int), _field(entry, "most", int), _field(entry, "place", str))
            for name, entry in _entries(detail, "troubles")
        },
        timers=_integers(_field(detail, "timers", dict)) if detail.get("timers") is not None else None,
        unanswered=None if detail.get("unanswered") is None else _unanswered(detail),
        accept_pending=_nullable(detail, "accept_pending", int) if "accept_pending" in detail else None,
        problem=_nullable(detail, "problem", str) if "problem" in detail else None,
        memory=_memory(detail),
        memory_problem=_nullable(detail, "memory_problem", str) if "memory_problem" in detail else None,
        quality=_quality(detail),
    )


def _memory(detail: Mapping[str, object]) -> Memory | None:
    """Who holds the buffer memory; None also of a daemon that is too old to tell."""
    if detail.get("memory") is None:
        return None
    memory = _field(detail, "memory", dict)
    units = _nullable(memory, "units", dict)
    return Memory(
        taken_at=_moment(memory, "taken_at"),
        ports=_integers(_field(memory, "ports", dict)),
        units=None if units is None else _integers(units),
        folded=_integers(_field(memory, "folded", dict)),
    )


def _quality(detail: Mapping[str, object]) -> Quality | None:
    """The sampled sockets; None also of a daemon that is too old to tell, or has other buckets."""
    if detail.get("quality") is None:
        return None
    quality = _field(detail, "quality", dict)
    if (_numbers(quality, "rtt_bounds"), _numbers(quality, "idle_bounds")) != (RTT_BOUNDS, IDLE_BOUNDS):
        return None
    return Quality(
        sockets=_field(quality, "sockets", int),
        sampled=None if quality.get("sampled") is None else _number(quality, "sampled"),
        ports={
            port: PortQuality(
                sockets=_field(entry, "sockets", int),
                rtt=tuple(map(int, _numbers(entry, "rtt"))),
                idle=tuple(map(int, _numbers(entry, "idle"))),
                retransmitting=_field(entry, "retransmitting", int),
                busy=_nullable(entry, "busy", int),
                peer_window=_nullable(entry, "peer_window", int),
                send_buffer=_nullable(entry, "send_buffer", int),
            )
            for port, entry in _entries(quality, "ports")
        },
        transfers={
            limit: Transfers(
                sockets=_field(entry, "sockets", int),
                rate=_field(entry, "rate", int),
                share=_number(entry, "share"),
                rtt=_number(entry, "rtt"),
                least_rtt=_number(entry, "least_rtt"),
                send_buffer=_nullable(entry, "send_buffer", int),
                window=_nullable(entry, "window", int),
                place=_field(entry, "place", str),
            )
            for limit, entry in _entries(quality, "transfers")
        },
        problem=_nullable(quality, "problem", str),
    )


def _unanswered(detail: Mapping[str, object]) -> dict[str, dict[int, int]]:
    found = {}
    for kind, tries in _entries(detail, "unanswered"):
        if not all(least.isascii() and least.isdigit() and len(least) < 4 for least in tries):
            raise _Misfit(f"unanswered of {kind} is not by tries")
        found[kind] = {int(least): number for least, number in _integers(tries).items()}
    return found


def _to_full(document: Mapping[str, object]) -> dict[str, int] | None:
    """When the limits will be full; None also of a daemon that is too old to tell."""
    if document.get("seconds_to_full") is None:
        return None
    left = _field(document, "seconds_to_full", dict)
    return {resource: HORIZON if left[resource] is None else _field(left, resource, int) for resource in left}


def _conntrack(document: Mapping[str, object]) -> Conntrack | None:
    """How full connection tracking is; None also of a daemon that is too old to tell."""
    if document.get("conntrack") is None:
        return None
    tracked = _field(document, "conntrack", dict)
    return Conntrack(
        entries=_field(tracked, "entries", int),
        limit=_field(tracked, "limit", int),
        insert_failed=_nullable(tracked, "insert_failed", int),
        drops=_nullable(tracked, "drops", int),
        established_timeout=_nullable(tracked, "established_timeout", int),
    )


def _drops(document: Mapping[str, object]) -> Drops | None:
    """What listeners drop; None also of a daemon that is too old to tell."""
    if document.get("listen_drops") is None:
        return None
    drops = _field(document, "listen_drops", dict)
    ports = _field(drops, "ports", dict)
    if not all(port.isascii() and port.isdigit() and len(port) <= 5 for port in ports):
        raise _Misfit("listen_drops.ports has a name that is no port")
    rates = {int(port): _number(ports, port) for port in ports}
    return Drops(_number(drops, "seconds"), _number(drops, "total"), rates)


def _answer(url: str, document: Mapping[str, object]) -> Answer:
    version = _field(document, "api_version", int)
    if version != API_VERSION:
        daemon, old = ("newer", "plugin") if version > API_VERSION else ("older", "daemon")
        versions = f"api_version {version}, expected {API_VERSION}"
        raise SourceError(url, f"the daemon is {daemon} than this plugin ({versions}): upgrade the {old}")
    concluded = _concluded(_field(document, "health", dict)) if "health" in document else None
    if concluded is None:  # a daemon that is older: its listeners and its detail lack what has been added since
        document = {**document, "listeners": None, "detail": None, "unmatched_half_open": 0}
    age = _number(document, "age_seconds")
    if _field(document, "stale", bool):
        raise SourceError(url, f"the daemon's sample is stale: {age:.1f} s old")
    snapshot, peaks = snapshot_of(document), _nullable(document, "peaks", dict)
    measures = {
        _measure(entry): None if entry.get("value") is None else _number(entry, "value")
        for entry in _list(document, "measures")
    }
    return Answer(
        url,
        snapshot,
        age,
        measures,
        None if snapshot.connections is None else snapshot.connections.counts,
        None if peaks is None else _counts(peaks),
        () if snapshot.connections is None else snapshot.connections.unlisted,
        *_expectations(document),
        concluded,
    )


def _concluded(health: Mapping[str, object]) -> Concluded:
    thresholds = {}
    for entry in _list(health, "measures"):
        warning, critical = (_range(entry, severity) for severity in ("warning", "critical"))
        if warning is not None or critical is not None:
            thresholds[_measure(entry)] = Threshold(warning, critical)
    judgements = []
    for entry in _list(health, "findings"):
        found, status = _nullable(entry, "found", dict), _status(entry, "status")
        if (found is None) != (status in {Status.OK, Status.UNKNOWN}):
            raise _Misfit(f"status is {status.name}, which does not fit found")
        judgements.append(
            Judgement(
                name=_field(entry, "finding", str),
                status=status,
                finding=None if found is None else _finding(found),
                reason=_field(entry, "reason", str),
            )
        )
    not_judged = (NotJudged(_field(it, "name", str), _field(it, "reason", str)) for it in _list(health, "not_judged"))
    return Concluded(thresholds, tuple(judgements), tuple(not_judged))


def _range(of: Mapping[str, object], severity: str) -> Range | None:
    text = _nullable(of, severity, str)
    try:
        return None if text is None else Range.parse(text)
    except RangeError as error:
        raise _Misfit(f"{severity}: {error}") from None


def _finding(of: Mapping[str, object]) -> Finding:
    return Finding(
        name=_field(of, "name", str),
        severity=_status(of, "severity"),
        what=_field(of, "what", str),
        evidence=_texts(of, "evidence"),
        why=_field(of, "why", str),
        remedy=_field(of, "remedy", str),
        command=_nullable(of, "command", str),
        risk=_field(of, "risk", str),
        states=tuple(BY_LABEL[label] for label in _texts(of, "states") if label in BY_LABEL),
    )


def _expectations(document: Mapping[str, object]) -> tuple[int, dict[str, str]]:
    """How many sysctls the daemon expects something of, and which differ."""
    lines: dict[str, str] = {}
    for entry in _list(document, "deviations"):
        if _field(entry, "expected", bool):
            name, field = _field(entry, "name", str), _field(entry, "field", str)
            live = entry["live"] if isinstance(entry.get("live"), str) else _signed(entry, "live", int)
            line = line_of(f"{name} ({field})" if field else name, str(live), _field(entry, "accepted", str))
            lines[name] = f"{lines[name]}; {line}" if name in lines else line
    return _field(document, "expectations", int), lines


# -- the document's fields, each as docs/api.md has it -----------------------------------------------------------------


class _Misfit(ValueError):
    """A document that is not as docs/api.md has it: what is wrong with which field."""


def _field(of: Mapping[str, object], name: str, kind: type[T]) -> T:
    """The field *name*, of the type *kind*; a number is not negative, as no count, size or time is."""
    value = _signed(of, name, kind)
    if isinstance(value, (int, float)) and value < 0:
        raise _Misfit(f"{name} is {value:.9g}, not at least 0")
    return value


def _signed(of: Mapping[str, object], name: str, kind: type[T]) -> T:
    if name not in of:
        raise _Misfit(f"the answer has no {name}")
    value = of[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):  # to Python True is an int
        raise _Misfit(f"{name} is of type {type(value).__name__}, not {kind.__name__}")
    if isinstance(value, (int, float)) and not abs(value) < _ABSURD:
        raise _Misfit(f"{name} is no number that can be")
    return value


def _at_least(least: int, of: Mapping[str, object], name: str) -> int:
    number = _field(of, name, int)
    if number < least:
        raise _Misfit(f"{name} is {number}, not at least {least}")
    return number


def _nullable(of: Mapping[str, object], name: str, kind: type[T]) -> T | None:
    return None if name in of and of[name] is None else _field(of, name, kind)


def _number(of: Mapping[str, object], name: str) -> float:
    return _field(of, name, float if isinstance(of.get(name), float) else int)


def _moment(of: Mapping[str, object], name: str) -> float:
    """Unix time: negative where the clock is before 1970."""
    return _signed(of, name, float if isinstance(of.get(name), float) else int)


def _integers(of: Mapping[str, object]) -> dict[str, int]:
    return {name: _field(of, name, int) for name in of}


def _any_integers(of: Mapping[str, object]) -> dict[str, int]:
    return {name: _signed(of, name, int) for name in of}


def _list(of: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    return [_field({name: entry}, name, dict) for entry in _field(of, name, list)]


def _entries(of: Mapping[str, object], name: str) -> list[tuple[str, Mapping[str, object]]]:
    """The objects of an object, by name; none of a daemon that is too old to tell."""
    if name not in of:
        return []
    found = _field(of, name, dict)
    return [(key, _field(found, key, dict)) for key in found]


def _measure(of: Mapping[str, object]) -> str:
    """The name of a measure, which a newer daemon may have and we not: a label of performance data, as it is."""
    name = _field(of, "measure", str)
    if len(name) > _LONGEST_NAME or not _OF_A_NAME.issuperset(name) or not name:
        raise _Misfit(f"measure is {name[:40]!r}, not a name of lower-case letters, digits and underscores")
    return name


def _status(of: Mapping[str, object], name: str) -> Status:
    text = _field(of, name, str)
    if text not in Status.__members__:
        raise _Misfit(f"{name} is {text[:40]!r}, not one of {', '.join(Status.__members__)}")
    return Status[text]


def _numbers(of: Mapping[str, object], name: str) -> tuple[float, ...]:
    return tuple(_number({name: entry}, name) for entry in _field(of, name, list))


def _texts(of: Mapping[str, object], name: str) -> tuple[str, ...]:
    return tuple(_field({name: entry}, name, str) for entry in _field(of, name, list))


def _unlisted(of: Mapping[str, object]) -> tuple[TcpState, ...]:
    return tuple(state for state in KNOWN_STATES if of.get(state.label, 0) is None)


def _counts(of: Mapping[str, object]) -> StateCounts:
    every = {TcpState.UNKNOWN.label: 0, **of} | dict.fromkeys((it.label for it in _unlisted(of)), 0)
    return tuple(_field(every, state.label, int) for state in TcpState)


def _counts_by_name(of: Mapping[str, object]) -> dict[str, StateCounts]:
    return {name: _counts(_field(of, name, dict)) for name in of}
