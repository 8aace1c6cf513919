"""A sample as JSON: ``/api/v1/snapshot``, ``dump --format json`` and ``show --json``; and ``/api/v1/history``.

Within one ``api_version`` fields are only added. What is not known is null or absent, never 0.
``docs/api.md`` describes each field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from exporter import __version__
from exporter.health import measures
from exporter.health.findings import Finding
from exporter.health.sysctls.verdicts import Verdict, deviations
from exporter.health.thresholds import Threshold, evaluate
from exporter.sampling.history import HOLE, STEP_SECONDS, Points
from exporter.snapshot import Advice, Detail, Sample, Snapshot, StateCounts, by_label
from exporter.tcpstate import KNOWN_STATES

API_VERSION = 1


def document(
    snapshot: Snapshot, thresholds: Mapping[str, Threshold], advice: Advice | None = None
) -> dict[str, object]:
    """One snapshot, judged."""
    connections, sockstat = snapshot.connections, snapshot.sockstat
    return {
        "api_version": API_VERSION,
        "version": __version__,
        "taken_at": round(snapshot.taken_at, 3),
        "connections": None if connections is None else by_label(connections.counts),
        "reader": None if connections is None else connections.reader,
        "derived": None if connections is None else connections.derived,
        "measures": [
            {
                "measure": result.measure,
                "value": result.value,
                "warning": result.threshold.warning and result.threshold.warning.text,
                "critical": result.threshold.critical and result.threshold.critical.text,
                "status": result.status.name,
            }
            for result in evaluate(measures.read(snapshot, measures.MEASURES), thresholds)
        ],
        "sockstat": None
        if sockstat is None
        else {
            "orphans": sockstat.orphan,
            "timewait_sockets": sockstat.tw,
            "memory_bytes": sockstat.mem * snapshot.page_size,
        },
        "memory_limit_bytes": snapshot.memory_limits,
        "listeners": None if snapshot.listeners is None else [it._asdict() for it in snapshot.listeners],
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
        "findings": None if advice is None else [finding_fields(finding) for finding in advice.findings],
        "deviations": None if advice is None else [verdict_fields(it) for it in deviations(advice.verdicts)],
        "expectations": None if advice is None else len({it.name for it in advice.verdicts if it.expected}),
    }


def finding_fields(finding: Finding) -> dict[str, object]:
    """One finding."""
    return finding._asdict() | {"severity": finding.severity.name, "states": [it.label for it in finding.states]}


def verdict_fields(verdict: Verdict) -> dict[str, object]:
    """What is to be said of one number of one sysctl."""
    return verdict._asdict() | {"states": [state.label for state in verdict.states]}


def advised(
    advice: Advice, release: str, taken_at: float, problems: Sequence[str], *, everything: bool
) -> dict[str, object]:
    """What ``tcp-exporter advise --json`` prints; with *everything* also what does not deviate."""
    answer: dict[str, object] = {
        "api_version": API_VERSION,
        "version": __version__,
        "taken_at": round(taken_at, 3),
        "kernel": release or None,
        "findings": [finding_fields(finding) for finding in advice.findings],
        "deviations": [verdict_fields(verdict) for verdict in deviations(advice.verdicts)],
        "problems": list(problems),
    }
    return answer | ({"sysctls": [verdict_fields(verdict) for verdict in advice.verdicts]} if everything else {})


def _namespaces(namespaces: Mapping[str, tuple[int | None, ...]]) -> dict[str, dict[str, int | None]]:
    return {name: {state.label: counts[state] for state in KNOWN_STATES} for name, counts in namespaces.items()}


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
    }


def sampled(sample: Sample, thresholds: Mapping[str, Threshold], now: float) -> dict[str, object]:
    """What the daemon adds to ``document``: how old the sample is at monotonic time *now*, and the peaks."""
    return document(sample.snapshot, thresholds, sample.advice) | {
        "age_seconds": round(now - sample.counted_at, 3),
        "stale": sample.is_stale(now),
        "stale_after_seconds": sample.stale_after,
        "peaks": None if sample.peaks is None else by_label(sample.peaks),
    }


def history(points: Points | None) -> dict[str, object]:
    """The last hour; before the first point is complete, lists of none."""

    def series(numbers: Sequence[int]) -> list[int | None]:
        return [None if number == HOLE else number for number in numbers]

    return {
        "api_version": API_VERSION,
        "step_seconds": STEP_SECONDS,
        "end": None if points is None else round(points.end, 3),
        "states": {
            state.label: {
                "min": [] if points is None else series(points.low[state]),
                "max": [] if points is None else series(points.high[state]),
            }
            for state in KNOWN_STATES
        },
    }


def encode_compact(answer: Mapping[str, object]) -> bytes:
    """JSON for programs: thousands of numbers on one line."""
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"


def encode(answer: Mapping[str, object]) -> bytes:
    """JSON for people and programs: indented, one line at the end."""
    return json.dumps(answer, indent=2).encode() + b"\n"
