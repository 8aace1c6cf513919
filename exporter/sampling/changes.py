"""What changed from one sample to the next and is worth a line of the log: thresholds, findings, sysctls.

Pure: from what was said before and what is so now to events, each said once. What gets worse is said at once; what gets
better only after it has stayed so for a while, so that a number on its threshold does not fill the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from exporter.health import measures
from exporter.health.thresholds import SEVERITY, Status, Threshold, evaluate
from exporter.snapshot import Advice, Snapshot

if TYPE_CHECKING:
    from exporter.kernel.sysctl import Value

HOLD_SECONDS = 10.0


class Event(NamedTuple):
    """A line of the log."""

    is_warning: bool
    text: str
    fields: Mapping[str, object]


class Held(NamedTuple):
    """The status that was said, and the monotonic second since when it has been better than that; None: it is not."""

    status: Status
    better_since: float | None = None


class Said(NamedTuple):
    """What was said so far. What is OK is not in it."""

    measures: Mapping[str, Held] = {}
    findings: Mapping[str, Held] = {}
    sysctls: Mapping[str, Value] = {}


class _Change(NamedTuple):
    name: str
    before: Status
    after: Status

    @property
    def is_worse(self) -> bool:
        return SEVERITY.index(self.after) > SEVERITY.index(self.before)


def changes(
    said: Said, snapshot: Snapshot, advice: Advice | None, thresholds: Mapping[str, Threshold], now: float
) -> tuple[Said, list[Event]]:
    """What to remember at monotonic second *now*, and what to say."""
    results = {result.measure: result for result in evaluate(measures.read(snapshot, thresholds), thresholds)}
    judged = {
        # Of one that is not known nothing new is said: the source that failed is said by itself.
        name: said.measures.get(name, Held(Status.OK)).status if result.status is Status.UNKNOWN else result.status
        for name, result in results.items()
    }
    still_judged = {name: held for name, held in said.measures.items() if name in judged}
    kept_measures, crossed = _follow(still_judged, judged, now)
    found = {} if advice is None else {finding.name: finding for finding in advice.findings}
    severities = {name: finding.severity for name, finding in found.items()}
    if advice is None:  # not known, as with measures
        severities = {name: held.status for name, held in said.findings.items()}
    kept_findings, appeared = _follow(said.findings, severities, now)

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
        text = "threshold crossed" if change.is_worse else "threshold kept again"
        events.append(Event(change.is_worse, text, fields))
    for change in appeared:
        fields = {"finding": change.name, "severity": change.after.name}
        if change.name in found:
            fields |= {"what": found[change.name].what, "evidence": " ".join(found[change.name].evidence)}
        gone = change.after is Status.OK
        events.append(Event(change.is_worse, "finding is gone" if gone else "finding", fields))
    events += _changed(said.sysctls, snapshot.sysctls)
    # Without sysctls, as when the pass that reads them hangs, nothing is known to have changed.
    return Said(kept_measures, kept_findings, snapshot.sysctls or said.sysctls), events


def _follow(
    held: Mapping[str, Held], statuses: Mapping[str, Status], now: float
) -> tuple[dict[str, Held], list[_Change]]:
    """The statuses to hold from now on, and those that changed."""
    kept, changed = {}, []
    for name in dict.fromkeys((*held, *statuses)):
        before, status = held.get(name, Held(Status.OK)), statuses.get(name, Status.OK)
        change = _Change(name, before.status, status)
        if change.is_worse:
            changed.append(change)
            after = Held(status)
        elif status is before.status:
            after = Held(status)
        else:
            since = now if before.better_since is None else before.better_since
            if now - since < HOLD_SECONDS:
                after = Held(before.status, since)
            else:
                changed.append(change)
                after = Held(status)
        if after.status is not Status.OK:
            kept[name] = after
    return kept, changed


def _changed(before: Mapping[str, Value], after: Mapping[str, Value]) -> Iterator[Event]:
    """The sysctls with another value, but not those that are not there before or after."""
    if before is after:
        return
    for name, value in after.items():
        if name in before and before[name] != value:
            yield Event(
                is_warning=False,
                text="sysctl changed",
                fields={"name": name, "from": _text(before[name]), "to": _text(value)},
            )


def _text(value: Value) -> str:
    return value.text if value.text is not None else " ".join(str(number) for _, number in value.fields)
