"""What the daemon logs when a sample differs from the one before: thresholds, findings, sysctls, sources.

``changes`` is pure: from what was logged before and what is so now to events. What gets worse is logged at once; what
gets better only after it has stayed so for a while, so that a number on its threshold does not fill the log.
``SampleLog`` keeps that state for the loop and writes to the logger, each event once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from exporter.health.judge import Health
from exporter.health.thresholds import SEVERITY, Status
from exporter.snapshot import Snapshot, SysctlValue

HOLD_SECONDS = 10.0


class Logger(Protocol):
    """What the loop needs of a logger; structlog's are such."""

    def info(self, event: str, **fields: object) -> object:
        """Log that something happened, or is as it should be again."""

    def warning(self, event: str, **fields: object) -> object:
        """Log that something is not as it should be."""

    def error(self, event: str, **fields: object) -> object:
        """Log that something is wrong and clients notice."""

    def exception(self, event: str, **fields: object) -> object:
        """Log a bug of this program, with its traceback."""


class Event(NamedTuple):
    """A line of the log, at the level that fits *severity*: OK is info, CRITICAL is error."""

    severity: Status
    text: str
    fields: Mapping[str, object]


class HeldStatus(NamedTuple):
    """The status that was logged, and the monotonic second since when it has been better; None: it is not."""

    status: Status
    better_since: float | None = None


class LoggedState(NamedTuple):
    """What was logged so far. What is OK is not in it."""

    measures: Mapping[str, HeldStatus] = {}
    findings: Mapping[str, HeldStatus] = {}
    sysctls: Mapping[str, SysctlValue] = {}


class _Change(NamedTuple):
    name: str
    before: Status
    after: Status

    @property
    def is_worse(self) -> bool:
        return SEVERITY.index(self.after) > SEVERITY.index(self.before)

    @property
    def severity(self) -> Status:
        return self.after if self.is_worse else Status.OK


def changes(logged: LoggedState, snapshot: Snapshot, health: Health, now: float) -> tuple[LoggedState, list[Event]]:
    """What to remember at monotonic second *now*, and what to log. An unknown status changes nothing: the source that
    failed is logged by itself.
    """
    results = {it.measure: it for it in health.results if it.is_judged}
    judged = {name: _known(logged.measures, name, result.status) for name, result in results.items()}
    still_judged = {name: held for name, held in logged.measures.items() if name in judged}
    kept_measures, crossed = _follow(still_judged, judged, now)

    judgements = {it.name: it for it in health.judgements}
    severities = {name: _known(logged.findings, name, it.status) for name, it in judgements.items()}
    kept_findings, appeared = _follow(logged.findings, severities, now)

    events = []
    for change in crossed:
        result = results[change.name]
        fields: dict[str, object] = {
            "measure": change.name,
            "value": result.value,
            "status": change.after.name,
            "was": change.before.name,
        }
        if result.violated is not None and result.value is not None:
            fields["limit"] = result.violated.reason(result.value)
        text = "threshold crossed" if change.is_worse else "back within threshold"
        if not change.is_worse and change.after is not Status.OK:
            text = "threshold still crossed"
        events.append(Event(change.severity, text, fields))
    for change in appeared:
        fields = {"finding": change.name, "severity": change.after.name}
        if change.before is not Status.OK:
            fields["was"] = change.before.name
        finding = judgements[change.name].finding if change.name in judgements else None
        if finding is not None:
            fields |= {"what": finding.what, "evidence": " ".join(finding.evidence)}
        events.append(Event(change.severity, _finding_event(change), fields))
    events += _changed(logged.sysctls, snapshot.sysctls)
    # Without sysctls, as when the pass that reads them hangs, nothing is known to have changed.
    return LoggedState(kept_measures, kept_findings, snapshot.sysctls or logged.sysctls), events


def _known(logged: Mapping[str, HeldStatus], name: str, status: Status) -> Status:
    return logged.get(name, HeldStatus(Status.OK)).status if status is Status.UNKNOWN else status


def _finding_event(change: _Change) -> str:
    if change.before is Status.OK:
        return "finding appeared"
    return "finding gone" if change.after is Status.OK else "finding changed severity"


def _follow(
    held: Mapping[str, HeldStatus], statuses: Mapping[str, Status], now: float
) -> tuple[dict[str, HeldStatus], list[_Change]]:
    """The statuses to hold from now on, and those that changed."""
    kept, changed = {}, []
    for name in dict.fromkeys((*held, *statuses)):
        status = statuses.get(name, Status.OK)
        if status is Status.OK and name not in held:
            continue  # nearly always
        before = held.get(name, HeldStatus(Status.OK))
        change = _Change(name, before.status, status)
        if change.is_worse:
            changed.append(change)
            after = HeldStatus(status)
        elif status is before.status:
            after = HeldStatus(status)
        else:
            since = now if before.better_since is None else before.better_since
            if now - since < HOLD_SECONDS:
                after = HeldStatus(before.status, since)
            else:
                changed.append(change)
                after = HeldStatus(status)
        if after.status is not Status.OK:
            kept[name] = after
    return kept, changed


def _changed(before: Mapping[str, SysctlValue], after: Mapping[str, SysctlValue]) -> Iterator[Event]:
    """The sysctls with another value, but not those that are absent before or after."""
    if before is after:
        return
    for name, value in after.items():
        if name in before and before[name] != value:
            fields = {"name": name, "from": before[name].shown, "to": value.shown}
            yield Event(Status.OK, "sysctl changed", fields)


class SampleLog:
    """Writes what the loop has to tell to *logger*, each event once."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._logged = LoggedState()
        self._failing: set[str] = set()
        self._once: set[str] = set()
        self._broken: set[str] = set()  # work that ended in an exception
        self._counts_every_socket = False

    @property
    def is_broken(self) -> bool:
        """Whether some work ended in an exception, and does not work again yet."""
        return bool(self._broken)

    def broke(self, work: str, event: str, **fields: object) -> None:
        """Log the exception that is being handled, once until ``works``."""
        if work not in self._broken:
            self._broken.add(work)
            self._logger.exception(event, **fields)  # noqa: LOG004 - called while the exception is handled

    def works(self, work: str, event: str, **fields: object) -> None:
        """Log that the *work* succeeds again, if it had failed."""
        if work in self._broken:
            self._broken.discard(work)
            self._logger.info(event, **fields)

    def once(self, event: str, **fields: object) -> None:
        """Log a warning, the first time only."""
        if event not in self._once:
            self._once.add(event)
            self._logger.warning(event, **fields)

    def sampled(self, snapshot: Snapshot, health: Health, now: float) -> None:
        """Log what changed since the sample before."""
        self._logged, events = changes(self._logged, snapshot, health, now)
        for event in events:
            log = {Status.OK: self._logger.info, Status.CRITICAL: self._logger.error}
            log.get(event.severity, self._logger.warning)(event.text, **event.fields)
        failing = {source for source, problem in snapshot.sources.items() if problem is not None}
        for source in sorted(failing - self._failing):
            self._logger.warning("source failed", source=source, error=snapshot.sources[source])
        for source in sorted(self._failing - failing):
            self._logger.info("source recovered", source=source)
        self._failing = failing
        self._counting(snapshot)

    def _counting(self, snapshot: Snapshot) -> None:
        connections = snapshot.connections
        if connections is None:
            return
        for state in connections.unknown_states:
            self.once(f"unknown TCP state {state}, counted as unknown")
        every = connections.reader == "netlink" and not connections.derived
        if every and not self._counts_every_socket:
            self._logger.warning(
                "counting every socket: the kernel's counters are missing, host-wide, or disagree with the dump"
            )
        elif self._counts_every_socket and not every:
            self._logger.info("deriving from the kernel's counters")
        self._counts_every_socket = every
