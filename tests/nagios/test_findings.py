"""The findings in the plugin's answer, from judgements alone."""

from __future__ import annotations

from exporter.health.finding import Finding, Judgement, NotJudged
from exporter.health.findings import RULES
from exporter.health.thresholds import Status
from exporter.nagios.findings import explain, item
from exporter.nagios.output import MAX_LINE, Item, report
from exporter.tcpstate import TcpState

LEAK = Finding(
    name="close_wait_leak",
    severity=Status.WARNING,
    what="The application forgets connections",
    evidence=("There are 200.", "They were 100."),
    why="Each costs.",
    remedy="Mend it.",
    command="tcp-exporter who close_wait",
    risk="None.",
    states=(TcpState.CLOSE_WAIT,),
)
FULL = LEAK._replace(name="accept_queue_full", severity=Status.CRITICAL, what="A queue is full", command=None)


def found(finding: Finding) -> Judgement:
    return Judgement(finding.name, finding.severity, finding)


def fine(name: str) -> Judgement:
    return Judgement(name, Status.OK)


def unknown(name: str, reason: str) -> Judgement:
    return Judgement(name, Status.UNKNOWN, reason=reason)


def test_the_findings_are_counted_and_told_the_worst_first() -> None:
    assert item([found(LEAK), fine("syn_flood"), found(FULL)]) == Item(
        Status.CRITICAL, "findings 2 (A queue is full; The application forgets connections)", "findings=2;;;0;"
    )


def test_without_findings_it_says_what_was_looked_at() -> None:
    assert item([fine("accept_queue_full"), fine("syn_flood"), fine("of_a_newer_daemon")]) == Item(
        Status.OK, "no findings among accept queues, SYN queues, of_a_newer_daemon", "findings=0;;;0;"
    )


def test_what_could_not_be_judged_is_named_with_its_reason_and_the_number_left_out() -> None:
    judgements = [unknown("syn_flood", "no netstat"), fine("close_wait_leak"), unknown("x", "y"), unknown("z", "y")]
    assert item(judgements) == Item(
        Status.UNKNOWN, "findings unknown (syn_flood not judged: no netstat; x, z not judged: y)"
    )


def test_a_finding_beside_what_could_not_be_judged_keeps_its_severity() -> None:
    assert item([unknown("syn_flood", "no netstat"), found(LEAK)]) == Item(
        Status.WARNING,
        "findings 1 (The application forgets connections; syn_flood not judged: no netstat)",
        "findings=1;;;0;",
    )


def test_nothing_that_can_be_judged_is_not_fine() -> None:
    assert item([]) == Item(Status.UNKNOWN, "findings unknown (nothing can be judged here)")


def test_every_rule_at_once_fits_nrpes_line_with_the_states() -> None:
    long = [found(LEAK._replace(name=rule.name, what="\N{SNOWMAN}" * 60)) for rule in RULES]
    status, text = report([], [], findings=item(long))
    first = text.partition("\n")[0]
    assert status is Status.WARNING
    assert first.endswith(f" more) | findings={len(RULES)};;;0;")
    assert len(first.encode()) <= MAX_LINE


def test_v_tells_evidence_remedy_command_and_runbook_of_each_and_what_was_not_judged() -> None:
    judgements = [found(LEAK), fine("syn_flood"), found(FULL), unknown("x", "y")]
    assert list(explain(judgements, [NotJudged("orphans_near_limit", "tcp_max_orphans is not visible")])) == [
        "CRITICAL accept_queue_full: A queue is full",
        "evidence: There are 200. They were 100.",
        "remedy: Mend it.",
        "runbook: /runbooks/TcpAcceptQueueFull of the daemon",
        "WARNING close_wait_leak: The application forgets connections",
        "evidence: There are 200. They were 100.",
        "remedy: Mend it.",
        "command: tcp-exporter who close_wait",
        "runbook: /runbooks/TcpCloseWaitLeak of the daemon",
        "x not judged: y",
        "orphans_near_limit not judged here: tcp_max_orphans is not visible",
    ]
