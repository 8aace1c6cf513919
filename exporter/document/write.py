"""A sample as JSON: ``/api/v1/snapshot``, ``dump --format json`` and ``show --json``; and ``/api/v1/history``.

``read`` is the other half of the codec. Within one ``API_VERSION`` fields are only added. An unknown value is null or
absent, never 0. ``docs/api.md`` describes each field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from exporter import __version__
from exporter.details import IDLE_BOUNDS, RTT_BOUNDS, Detail, Quality
from exporter.document import API_VERSION
from exporter.health.finding import Finding
from exporter.health.forecast import HORIZON
from exporter.health.judge import Health
from exporter.health.measures import BY_NAME, Reading
from exporter.health.sysctls.verdicts import Verdict
from exporter.health.whatif import Outcome
from exporter.sampling.history import HOLE, STEP_SECONDS, TOTAL, Points
from exporter.sampling.sample import Sample
from exporter.snapshot import Connections, Listener, Snapshot, by_label
from exporter.tcpstate import KNOWN_STATES, StateCounts

LISTENERS = 1000
"""Listeners in a document: it is sent whole to everyone who asks, and any local user can listen on 20,000 ports."""


def document(snapshot: Snapshot, health: Health) -> dict[str, object]:
    """One snapshot and its health.

    ``measures``, ``findings``, ``deviations`` and ``expectations`` at the top are those of ``health``, for readers of
    the first documents, which had no ``health``.
    """
    connections, sockstat = snapshot.connections, snapshot.sockstat
    judged = _health(health)
    return {
        "api_version": API_VERSION,
        "version": __version__,
        "taken_at": round(snapshot.taken_at, 3),
        "connections": None if connections is None else _counts(connections.counts, connections),
        "reader": None if connections is None else connections.reader,
        "derived": None if connections is None else connections.derived,
        "walk_age_seconds": None if connections is None else round(connections.walk_age, 3),
        "fresh_states": None if connections is None else [state.label for state in connections.fresh],
        "health": judged,
        "measures": judged["measures"],
        "sockstat": None
        if sockstat is None
        else {
            "orphans": sockstat.orphan,
            "allocated_sockets": sockstat.alloc,
            "timewait_sockets": sockstat.tw,
            "memory_bytes": sockstat.mem * snapshot.page_size,
        },
        "memory_limit_bytes": snapshot.memory_limits,
        "listeners": None
        if snapshot.listeners is None
        else [it._asdict() | {"fullest": it.fullest} for it in _worst(snapshot.listeners)],
        "listeners_left_out": 0 if snapshot.listeners is None else max(0, len(snapshot.listeners) - LISTENERS),
        "unmatched_half_open": snapshot.unmatched_half_open,
        "conntrack": None if snapshot.conntrack is None else snapshot.conntrack._asdict(),
        "listen_drops": None
        if snapshot.drops is None
        else snapshot.drops._asdict() | {"ports": {str(port): rate for port, rate in snapshot.drops.ports.items()}},
        "seconds_to_full": None
        if snapshot.to_full is None
        else {resource: seconds if seconds < HORIZON else None for resource, seconds in snapshot.to_full.items()},
        "detail": None if snapshot.detail is None else _detail(snapshot.detail),
        "namespaces": None if snapshot.namespaces is None else _namespaces(snapshot.namespaces),
        "counters": dict(snapshot.counters),
        "sysctls": {
            value.name: {"unit": value.unit, "fields": dict(value.fields), "text": value.text}
            for value in snapshot.sysctls.values()
        },
        "sources": [
            {"source": source, "up": problem is None, "problem": problem}
            for source, problem in snapshot.sources.items()
        ],
        "findings": [finding_fields(finding) for finding in health.findings],
        "deviations": judged["deviations"],
        "expectations": judged["expectations"],
    }


def _worst(listeners: Sequence[Listener]) -> Sequence[Listener]:
    """The ``LISTENERS`` that are fullest and have dropped most, in the order of *listeners*."""
    if len(listeners) <= LISTENERS:
        return listeners
    ranked = sorted(listeners, key=lambda it: (it.fullest, it.dropped or 0, it.syn_recv), reverse=True)
    kept = set(ranked[:LISTENERS])
    return [it for it in listeners if it in kept]


def _counts(counts: StateCounts, connections: Connections | None) -> dict[str, int | None]:
    """Counts by label; null for a state that the reader cannot count."""
    unlisted = () if connections is None else connections.unlisted
    return {**dict.fromkeys(state.label for state in KNOWN_STATES), **by_label(counts, unlisted)}


def _health(health: Health) -> dict[str, object]:
    return {
        "status": health.status.name,
        "measures": [
            {
                "measure": result.measure,
                "value": result.value,
                "used": None if (reading := health.readings[result.measure]) is None else reading.used,
                "limit": None if reading is None else reading.limit,
                "place": "" if reading is None else reading.place,
                "unit": BY_NAME[result.measure].unit,
                "warning": result.threshold.warning and result.threshold.warning.text,
                "critical": result.threshold.critical and result.threshold.critical.text,
                "status": result.status.name,
            }
            for result in health.results
        ],
        "findings": [
            {
                "finding": judgement.name,
                "status": judgement.status.name,
                "reason": judgement.reason,
                "found": None if judgement.finding is None else finding_fields(judgement.finding),
            }
            for judgement in health.judgements
        ],
        "not_judged": [it._asdict() for it in health.not_judged],
        "deviations": [verdict_fields(it) for it in health.deviations],
        "expectations": health.expectations,
    }


def finding_fields(finding: Finding) -> dict[str, object]:
    """One finding."""
    states = [state.label for state in finding.states]
    return finding._asdict() | {"severity": finding.severity.name, "states": states, "runbook": finding.runbook}


def verdict_fields(verdict: Verdict) -> dict[str, object]:
    """One number of one sysctl, judged."""
    return verdict._asdict() | {"states": [state.label for state in verdict.states]}


def advised(
    health: Health, release: str, taken_at: float, problems: Sequence[str], *, everything: bool
) -> dict[str, object]:
    """What ``tcp-exporter advise --json`` prints; with *everything* also the sysctls that do not deviate."""
    answer: dict[str, object] = {
        "api_version": API_VERSION,
        "version": __version__,
        "taken_at": round(taken_at, 3),
        "kernel": release or None,
        "status": health.status.name,
        "findings": [finding_fields(finding) for finding in health.findings],
        "unknown": [{"name": it.name, "reason": it.reason} for it in health.unknown],
        "not_judged": [it._asdict() for it in health.not_judged],
        "deviations": [verdict_fields(verdict) for verdict in health.deviations],
        "problems": list(problems),
    }
    return answer | ({"sysctls": [verdict_fields(verdict) for verdict in health.verdicts]} if everything else {})


def what_if(outcome: Outcome, taken_at: float) -> dict[str, object]:
    """What ``tcp-exporter advise --what-if --json`` prints."""

    def reading(it: Reading | None) -> dict[str, object] | None:
        return None if it is None else {**it._asdict(), "share": it.share}

    return {
        "api_version": API_VERSION,
        "version": __version__,
        "taken_at": round(taken_at, 3),
        "status": {"before": outcome.status_before.name, "after": outcome.status_after.name},
        "sysctls": [it._asdict() for it in outcome.effects],
        "meanings": [it._asdict() for it in outcome.meanings],
        "measures": [
            {
                "measure": it.measure,
                "unit": BY_NAME[it.measure].unit,
                "before": reading(it.before),
                "after": reading(it.after),
                "status": {"before": it.status_before.name, "after": it.status_after.name},
            }
            for it in outcome.shifts
        ],
        "findings": [
            {"finding": it.finding, "before": it.before.name, "after": it.after.name, "what": it.what}
            for it in outcome.turns
        ],
    }


def _namespaces(namespaces: Mapping[str, tuple[int | None, ...]]) -> dict[str, dict[str, int | None]]:
    """At most as many as listeners, those with the most sockets."""
    ranked = sorted(namespaces, key=lambda name: (-sum(count or 0 for count in namespaces[name]), name))
    kept = ranked if len(ranked) <= LISTENERS else ranked[:LISTENERS]
    return {name: {state.label: namespaces[name][state] for state in KNOWN_STATES} for name in sorted(kept)}


def _detail(detail: Detail) -> dict[str, object]:
    def labelled(counts: Mapping[str, StateCounts]) -> dict[str, dict[str, int]]:
        return {name: by_label(by_state) for name, by_state in counts.items()}

    return detail._asdict() | {
        "taken_at": round(detail.taken_at, 3),
        "families": labelled(detail.families),
        "ports": labelled(detail.ports),
        "remote_ports": labelled(detail.remote_ports),
        "units": None if detail.units is None else labelled(detail.units),
        "folded": dict(detail.folded),
        "close_wait": None if detail.close_wait is None else detail.close_wait._asdict(),
        "troubles": {name: peers._asdict() for name, peers in detail.troubles.items()},
        "unanswered": None
        if detail.unanswered is None
        else {
            kind: {str(least): number for least, number in tries.items()} for kind, tries in detail.unanswered.items()
        },
        "memory": None
        if detail.memory is None
        else detail.memory._asdict() | {"taken_at": round(detail.memory.taken_at, 3)},
        "quality": None if detail.quality is None else _quality(detail.quality),
    }


def _quality(quality: Quality) -> dict[str, object]:
    return quality._asdict() | {
        "rtt_bounds": RTT_BOUNDS,
        "idle_bounds": IDLE_BOUNDS,
        "ports": {port: it._asdict() for port, it in quality.ports.items()},
        "transfers": {limit: it._asdict() for limit, it in quality.transfers.items()},
    }


def sampled(sample: Sample, now: float) -> dict[str, object]:
    """What the daemon adds to ``document``: the peaks, and how old the sample is at monotonic time *now*."""
    return document(sample.snapshot, sample.health) | {
        "stale_after_seconds": sample.stale_after,
        "peaks": None if sample.peaks is None else _counts(sample.peaks, sample.snapshot.connections),
        **_age(sample, now),
    }


def encode_around_age(sample: Sample, now: float) -> tuple[bytes, bytes]:
    """``encode`` of ``sampled``: what stands before ``age_bytes`` and what stands behind it."""
    before, _, after = encode(sampled(sample, now)).rpartition(age_bytes(sample, now))
    return before, after


def age_bytes(sample: Sample, now: float) -> bytes:
    """The part of ``encode`` of ``sampled`` that changes while the sample stays the same."""
    return encode(_age(sample, now)).removeprefix(b"{\n").removesuffix(b"\n}\n")


def _age(sample: Sample, now: float) -> dict[str, object]:
    return {"age_seconds": round(now - sample.counted_at, 3), "stale": sample.is_stale(now)}


def history(points: Points | None) -> dict[str, object]:
    """The last hour; before the first point is complete, lists of none."""

    def series(numbers: Sequence[int]) -> list[int | None]:
        return [None if number == HOLE else number for number in numbers]

    def extremes(place: int) -> dict[str, list[int | None]]:
        return {
            "min": [] if points is None else series(points.low[place]),
            "max": [] if points is None else series(points.high[place]),
        }

    return {
        "api_version": API_VERSION,
        "step_seconds": STEP_SECONDS,
        "end": None if points is None else round(points.end, 3),
        "states": {state.label: extremes(state) for state in KNOWN_STATES},
        "total": extremes(TOTAL),
        "dropped": [] if points is None else series(points.dropped),
    }


def encode_compact(answer: Mapping[str, object]) -> bytes:
    """JSON for programs: thousands of numbers on one line."""
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"


def encode(answer: Mapping[str, object]) -> bytes:
    """JSON for people and programs: indented, one line at the end."""
    return json.dumps(answer, indent=2).encode() + b"\n"
