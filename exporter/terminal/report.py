"""Health as text for the terminal: what ``tcp-exporter advise`` prints. Pure; colour and width are arguments."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from exporter.health.finding import RUNBOOKS, Finding
from exporter.health.findings import BY_NAME
from exporter.health.judge import Health
from exporter.health.sysctls.verdicts import Verdict
from exporter.health.thresholds import Status
from exporter.printable import printable
from exporter.terminal.table import paint

_LABEL = 10  # columns
_WIDEST, _NARROWEST = 100, 40


def render(health: Health, problems: Sequence[str], width: int, *, everything: bool, color: bool) -> str:
    """Findings, then sysctls that deviate, with *everything* also the others, and what could not be judged."""
    columns = block_width(width)
    parts = [_finding(finding, columns, color=color) for finding in health.findings]
    parts += [_verdict(verdict, columns) for verdict in health.deviations]
    if everything:
        parts += [_verdict(verdict, columns) for verdict in health.verdicts if not verdict.deviates]
    if problems:
        parts.append(["Could not be read:", *(f"  {printable(problem)}" for problem in problems)])
    parts.append([line for sentence in _summary(health) for line in textwrap.wrap(sentence, columns)])
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _summary(health: Health) -> Iterator[str]:
    """The last lines: how much is wrong, and what was looked at."""
    judged = [it for it in health.judgements if it.status is not Status.UNKNOWN]
    looked_at = ", ".join(BY_NAME[it.name].subject for it in judged)
    findings, deviating = len(health.findings), len(health.deviations)
    if findings:
        yield f"{findings} finding{'' if findings == 1 else 's'} among {looked_at}."
    elif looked_at:
        yield f"No findings among {looked_at}."
    missing = [f"{it.name} ({it.reason})" for it in health.unknown]
    missing += [f"{it.name} ({it.reason})" for it in health.not_judged]
    if missing:
        yield f"Not judged: {printable('; '.join(missing))}."
    yield f"{deviating} of {len(health.verdicts)} values of sysctls deviate."


def _finding(finding: Finding, columns: int, *, color: bool) -> list[str]:
    head = textwrap.wrap(printable(f"{finding.severity.name}: {finding.what}."), columns)
    lines = [paint(line, finding.severity, color=color) for line in head]
    lines += labelled("evidence", finding.evidence, columns)
    lines += labelled("why", [finding.why], columns)
    lines += labelled("do", [finding.remedy], columns)
    if finding.command is not None:
        lines.append(f"{'  run':<{_LABEL + 2}}{finding.command}")
    lines += labelled("risk", [finding.risk], columns)
    return [*lines, *labelled("runbook", [f"{RUNBOOKS}{finding.runbook} of the daemon"], columns)]


def _verdict(verdict: Verdict, columns: int) -> list[str]:
    lines = textwrap.wrap(
        f"{verdict.key}{f' ({verdict.field})' if verdict.field else ''} = {verdict.live}{_judgement(verdict)}", columns
    )
    lines += labelled("why", [verdict.reason], columns)
    if verdict.arithmetic:
        lines += labelled("that is", [f"{verdict.arithmetic}."], columns)
    if verdict.risk:
        lines += labelled("risk", [verdict.risk], columns)
    if verdict.elsewhere:
        lines += labelled("elsewhere", [verdict.elsewhere], columns)
    return [*lines, *labelled("source", [f"{verdict.source}."], columns)]


def _judgement(verdict: Verdict) -> str:
    if not verdict.accepted:
        return ""
    if not verdict.deviates:
        return f": right ({verdict.accepted})"
    return f": {'expected' if verdict.expected else 'recommended'} is {verdict.accepted}"


def block_width(width: int) -> int:
    """The columns of text on a terminal of *width*."""
    return max(_NARROWEST, min(width, _WIDEST))


def wrapped(text: str, columns: int) -> list[str]:
    """A sentence from the left margin on."""
    return textwrap.wrap(printable(text), columns, break_on_hyphens=False)


def labelled(label: str, sentences: Sequence[str], columns: int) -> Iterator[str]:
    """Sentences, each on lines of its own, beside their label."""
    for sentence in sentences:
        yield from textwrap.wrap(
            printable(sentence),
            columns,
            initial_indent=f"{f'  {label}':<{_LABEL + 2}}",
            subsequent_indent=" " * (_LABEL + 2),
            break_on_hyphens=False,
        )
        label = ""
