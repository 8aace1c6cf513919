"""The findings in the plugin's answer: how many, of which severity, and what to do about each.

Imported only for ``-s findings`` and ``-s all``: the rules, and what they read, are more than the rest of the plugin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from exporter.health.finding import RUNBOOKS, Finding, Judgement, NotJudged
from exporter.health.findings import BY_NAME
from exporter.health.judge import worst_first
from exporter.health.thresholds import Status, worst
from exporter.nagios.output import Item

_ROOM = 600  # bytes of the first line: NRPE takes 1,023, and the states' performance data need up to 400


def item(judgements: Sequence[Judgement]) -> Item:
    """The number of findings, with their first lines; where there are none, what was looked at.

    The number is left out of the performance data where it is 0 only because something could not be judged.
    """
    status = worst(judgement.status for judgement in judgements)
    findings = worst_first(judgement.finding for judgement in judgements)
    said = [finding.what for finding in findings]
    said += [f"{names} not judged: {reason}" for reason, names in _unknown(judgements).items()]
    data = "" if status is Status.UNKNOWN else f"findings={len(findings)};;;0;"
    if said or not judgements:
        number = str(len(findings)) if findings else "unknown"
        return Item(status, f"findings {number} ({_fitting(said) or 'nothing can be judged here'})", data)
    subjects = dict.fromkeys(_subject(judgement) for judgement in judgements)
    text = f"no findings among {', '.join(subjects)}"
    return Item(status, text if _bytes(text) <= _ROOM else "no findings", data)


def explain(judgements: Iterable[Judgement], not_judged: Iterable[NotJudged]) -> Iterator[str]:
    """The long text of ``-v``: of each finding its evidence and remedy, and what was not judged."""
    for finding in worst_first(judgement.finding for judgement in judgements):
        yield from _lines(finding)
    for judgement in judgements:
        if judgement.status is Status.UNKNOWN:
            yield f"{judgement.name} not judged: {judgement.reason}"
    for it in not_judged:
        yield f"{it.name} not judged here: {it.reason}"


def _lines(finding: Finding) -> Iterator[str]:
    yield f"{finding.severity.name} {finding.name}: {finding.what}"
    yield f"evidence: {' '.join(finding.evidence)}"
    yield f"remedy: {finding.remedy}"
    if finding.command is not None:
        yield f"command: {finding.command}"
    yield f"runbook: {RUNBOOKS}{finding.runbook} of the daemon"


def _unknown(judgements: Iterable[Judgement]) -> dict[str, str]:
    """The names of what could not be judged, by the reason: one source that fails takes several with it."""
    by_reason: dict[str, str] = {}
    for it in judgements:
        if it.status is Status.UNKNOWN:
            by_reason[it.reason] = f"{by_reason[it.reason]}, {it.name}" if it.reason in by_reason else it.name
    return by_reason


def _subject(judgement: Judgement) -> str:
    """What was looked at; a daemon may have a finding that this plugin does not know."""
    rule = BY_NAME.get(judgement.name)
    return judgement.name if rule is None else rule.subject


def _fitting(sentences: Sequence[str]) -> str:
    """As many sentences as there is room for, but at least one, and how many more there are."""
    shown = list(sentences)
    while len(shown) > 1 and _bytes("; ".join(shown)) > _ROOM:
        shown.pop()
    more = len(sentences) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "backslashreplace"))
