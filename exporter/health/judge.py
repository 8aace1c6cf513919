"""Health: what a snapshot means, judged once and rendered by every consumer.

``sampling`` calls ``Judge`` for each sample; metrics, JSON, page, plugin, terminal and log only render the ``Health``
that comes back, so that they cannot disagree. Pure, but for the sysctls' verdicts kept while nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from exporter.health import keepalive, measures
from exporter.health.finding import Finding, Judgement, NotJudged, Rule
from exporter.health.findings import RULES
from exporter.health.measures import Readings
from exporter.health.sysctls.verdicts import Expectations, Verdict, deviations, verdicts
from exporter.health.thresholds import SEVERITY, Result, Status, Threshold, evaluate, worst
from exporter.health.window import CannotTell, NotHere, Window
from exporter.record import NamedTuple
from exporter.snapshot import Snapshot

_OLD_SECONDS = 2.0  # before the snapshot: counts that are older say so in the evidence of a finding


class Health(NamedTuple):
    """What is concluded from one snapshot, those before it and the configuration."""

    status: Status  # the worst of everything below
    readings: Readings  # of every measure
    results: tuple[Result, ...]  # of every measure, in the order of ``measures.MEASURES``
    judgements: tuple[Judgement, ...]  # of every finding that can exist here, in the order of ``findings.RULES``
    not_judged: tuple[NotJudged, ...]
    verdicts: tuple[Verdict, ...]  # the sysctls against the profile and the configuration; most deviate in nothing

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong, the worst first."""
        return worst_first(judgement.finding for judgement in self.judgements)

    @property
    def unknown(self) -> tuple[Judgement, ...]:
        """The findings that should have been judged and could not be."""
        return tuple(it for it in self.judgements if it.status is Status.UNKNOWN)

    @property
    def deviations(self) -> tuple[Verdict, ...]:
        """The sysctls that deviate, those first of which the configuration expects something."""
        return deviations(self.verdicts)

    @property
    def expectations(self) -> int:
        """Of how many sysctls the configuration expects something."""
        return len({verdict.name for verdict in self.verdicts if verdict.expected})

    @property
    def alerting(self) -> tuple[Result, ...]:
        """The measures that are not OK, the worst first."""
        alerting = (result for result in self.results if result.is_judged and result.status is not Status.OK)
        return tuple(sorted(alerting, key=lambda result: -SEVERITY.index(result.status)))


def worst_first(findings: Iterator[Finding | None]) -> tuple[Finding, ...]:
    """The findings that there are, the critical ones first, else in their order."""
    found = [finding for finding in findings if finding is not None]
    return tuple(sorted(found, key=lambda finding: -SEVERITY.index(finding.severity)))


class Judge:
    """Judges snapshots of a kernel of *release*; keeps the verdicts while what they are of stays the same."""

    def __init__(self, release: str) -> None:
        self._release = release
        self._judged: tuple[object, object, str] = (None, None, "")
        self._verdicts: tuple[Verdict, ...] = ()

    def judge(
        self,
        window: Window,
        thresholds: Mapping[str, Threshold],
        expected: Expectations,
        broke: Callable[[str], object] | None = None,
    ) -> Health:
        """What the newest snapshot of *window* means where *thresholds* and *expected* sysctls are configured.

        *broke* is as for ``judge_findings``.
        """
        sysctls, last, live = window.now.sysctls, self._judged, keepalive.unprotected(window.now)
        if last[0] is not sysctls or last[1] is not expected or last[2] != live:
            self._judged = (sysctls, expected, live)
            found = verdicts(sysctls, expected, self._release)
            self._verdicts = tuple(it.with_live(live) if it.name == keepalive.SYSCTL else it for it in found)
        readings = measures.readings(window.now)
        results = tuple(evaluate(measures.values(readings), thresholds))
        judgements, not_judged = judge_findings(window, RULES, broke)
        return Health(
            status=_status(window.now, results, judgements, self._verdicts),
            readings=readings,
            results=results,
            judgements=judgements,
            not_judged=not_judged,
            verdicts=self._verdicts,
        )


def failed(reason: str) -> Health:
    """The health of a snapshot that a bug kept from being judged: UNKNOWN throughout."""
    return Health(
        status=Status.UNKNOWN,
        readings=dict.fromkeys(measures.BY_NAME),
        results=(),
        judgements=tuple(Judgement(rule.name, Status.UNKNOWN, reason=reason) for rule in RULES),
        not_judged=(),
        verdicts=(),
    )


def judge_findings(
    window: Window, rules: Sequence[Rule], broke: Callable[[str], object] | None = None
) -> tuple[tuple[Judgement, ...], tuple[NotJudged, ...]]:
    """Look for the finding of every rule.

    A bug in a rule costs its own finding and no other one; *broke* is called with its name while the exception is
    handled.
    """
    judgements, not_judged = [], []
    for rule in rules:
        try:
            finding = rule.judge(window)
        except CannotTell as error:
            judgements.append(Judgement(rule.name, Status.UNKNOWN, reason=str(error)))
        except NotHere as error:
            not_judged.append(NotJudged(rule.name, str(error)))
        except Exception as error:  # noqa: BLE001 - see above
            reason = f"this is a bug: {type(error).__name__} {error}".rstrip()
            judgements.append(Judgement(rule.name, Status.UNKNOWN, reason=reason))
            if broke is not None:
                broke(rule.name)
        else:
            if finding is None:
                judgements.append(Judgement(rule.name, Status.OK))
            else:
                judgements.append(Judgement(rule.name, finding.severity, _aged(finding, window.now)))
    return tuple(judgements), tuple(not_judged)


def _aged(finding: Finding, snapshot: Snapshot) -> Finding:
    """The finding, with the age of the counts that are older than the rest of its evidence."""
    connections = snapshot.connections
    if connections is None or connections.walk_age < _OLD_SECONDS:
        return finding
    older = ", ".join(state.rfc9293 for state in finding.states if state not in connections.fresh)
    if not older:
        return finding
    sentence = f"Sockets in {older} were counted {connections.walk_age:.0f} s before the rest."
    return finding._replace(evidence=(*finding.evidence, sentence))


def _status(
    snapshot: Snapshot, results: Sequence[Result], judgements: Sequence[Judgement], of_sysctls: Sequence[Verdict]
) -> Status:
    """The worst of all. A sysctl that is not as the configuration expects is a WARNING; a recommendation is advice."""
    statuses = [Status.OK if snapshot.connections is not None else Status.UNKNOWN]
    statuses += [result.status for result in results if result.is_judged]
    statuses += [judgement.status for judgement in judgements]
    statuses += [Status.WARNING for it in of_sysctls if it.expected and it.deviates]
    return worst(statuses)
