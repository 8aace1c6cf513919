"""Advice as text for the terminal: what ``tcp-exporter advise`` prints. Pure; colour and width are arguments."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from exporter.health.findings import Finding
from exporter.health.sysctls.verdicts import Verdict, deviations
from exporter.health.thresholds import Status
from exporter.snapshot import Advice

_COLORS = {Status.WARNING: "33", Status.CRITICAL: "31;1"}
_LABEL = 10  # columns
_WIDEST, _NARROWEST = 100, 40


def render(
    advice: Advice, problems: Sequence[str], width: int, *, everything: bool, color: bool, told: bool = True
) -> str:
    """Findings, then sysctls that deviate, with *everything* also the others, and what could not be looked at.

    Where not *told*, these problems are such that nothing found does not mean nothing wrong.
    """
    columns = max(_NARROWEST, min(width, _WIDEST))
    deviating = deviations(advice.verdicts)
    parts = [_finding(finding, columns, color=color) for finding in advice.findings]
    parts += [_verdict(verdict, columns) for verdict in deviating]
    if everything:
        parts += [_verdict(verdict, columns) for verdict in advice.verdicts if not verdict.deviates]
    if problems:
        parts.append(["Could not be looked at:", *(f"  {_printable(problem)}" for problem in problems)])
    parts.append([_summary(len(advice.findings), len(deviating), len(advice.verdicts), told=told)])
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _summary(findings: int, deviating: int, sysctls: int, *, told: bool) -> str:
    """The last line.

    >>> _summary(0, 0, 22, told=True), _summary(1, 2, 22, told=True)
    ('Nothing to change: no findings, 22 values of sysctls looked at.', '1 finding, 2 of 22 values of sysctls deviate.')
    >>> _summary(0, 0, 0, told=False)
    'Could not tell: no findings, 0 values of sysctls looked at.'
    """
    if not findings and not deviating:
        return (
            f"{'Nothing to change' if told else 'Could not tell'}: no findings, {sysctls} values of sysctls looked at."
        )
    return f"{findings} finding{'' if findings == 1 else 's'}, {deviating} of {sysctls} values of sysctls deviate."


def _finding(finding: Finding, columns: int, *, color: bool) -> list[str]:
    title = f"{finding.severity.name}: {finding.what}."
    code = _COLORS.get(finding.severity) if color else None
    head = textwrap.wrap(_printable(title), columns)
    lines = [f"\x1b[{code}m{line}\x1b[0m" for line in head] if code else head
    lines += _labelled("evidence", finding.evidence, columns)
    lines += _labelled("why", [finding.why], columns)
    lines += _labelled("do", [finding.remedy], columns)
    if finding.command is not None:
        lines.append(f"{'  run':<{_LABEL + 2}}{finding.command}")
    return [*lines, *_labelled("risk", [finding.risk], columns)]


def _verdict(verdict: Verdict, columns: int) -> list[str]:
    lines = textwrap.wrap(
        f"{verdict.key}{f' ({verdict.field})' if verdict.field else ''} = {verdict.live}{_judgement(verdict)}", columns
    )
    lines += _labelled("why", [verdict.reason], columns)
    if verdict.arithmetic:
        lines += _labelled("that is", [f"{verdict.arithmetic}."], columns)
    if verdict.risk:
        lines += _labelled("risk", [verdict.risk], columns)
    if verdict.elsewhere:
        lines += _labelled("elsewhere", [verdict.elsewhere], columns)
    return [*lines, *_labelled("source", [f"{verdict.source}."], columns)]


def _judgement(verdict: Verdict) -> str:
    if not verdict.accepted:
        return ""
    if not verdict.deviates:
        return f": right ({verdict.accepted})"
    return f": {'expected' if verdict.expected else 'recommended'} is {verdict.accepted}"


def _printable(text: str) -> str:
    """What comes from the host, such as a unit's name, must not speak to the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _labelled(label: str, sentences: Sequence[str], columns: int) -> Iterator[str]:
    """Sentences, each on lines of its own, beside their label."""
    for sentence in sentences:
        yield from textwrap.wrap(
            _printable(sentence),
            columns,
            initial_indent=f"{f'  {label}':<{_LABEL + 2}}",
            subsequent_indent=" " * (_LABEL + 2),
            break_on_hyphens=False,
        )
        label = ""
