"""What other values of sysctls would mean, as text: what ``tcp-exporter advise --what-if`` prints. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.health.measures import BY_NAME
from exporter.health.thresholds import Status
from exporter.health.whatif import Effect, Outcome, reading_text
from exporter.terminal.report import block_width, labelled, wrapped

_UNCHANGED = "Nothing that is computed or judged here would change."


def render(outcome: Outcome, width: int) -> str:
    """Each sysctl that was named, then what would be different, and that nothing was set."""
    columns = block_width(width)
    parts = [_effect(effect, columns) for effect in outcome.effects]
    changes = [*_changes(outcome, columns)]
    parts.append(changes or wrapped(_UNCHANGED, columns))
    parts.append(wrapped("Nothing was set. The numbers are those of this moment, and change with the load.", columns))
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _effect(effect: Effect, columns: int) -> list[str]:
    key = effect.name if "." in effect.name else f"net.ipv4.{effect.name}"
    key += f" ({effect.unit})" if effect.unit else ""
    if effect.before == effect.after:
        lines = wrapped(f"{key}: {effect.before}, as it is now", columns)
    else:
        lines = wrapped(f"{key}: {effect.after} instead of {effect.before}", columns)
    if effect.meaning:
        lines += labelled("does", [f"{effect.meaning}."], columns)
    lines += labelled("here", [f"{it}." for it in effect.acts_on], columns)
    if not effect.computed and effect.before != effect.after:
        lines += labelled("computed", ["nothing: no number of this host follows from it."], columns)
    lines += labelled("judged", [f"{it}." for it in effect.judged], columns)
    if effect.risk:
        lines += labelled("risk", [effect.risk], columns)
    if effect.elsewhere:
        lines += labelled("elsewhere", [effect.elsewhere], columns)
    return lines


def _changes(outcome: Outcome, columns: int) -> Iterator[str]:
    for meaning in outcome.meanings:
        yield meaning.title
        yield from labelled("now", [f"{meaning.before}."], columns)
        yield from labelled("then", [f"{meaning.after}."], columns)
    for it in outcome.shifts:
        measure = BY_NAME[it.measure]
        yield it.title
        yield from labelled(
            "now", [_with(reading_text(measure, it.before), it.status_before, it.status_after)], columns
        )
        yield from labelled(
            "then", [_with(reading_text(measure, it.after), it.status_after, it.status_before)], columns
        )
    for turn in outcome.turns:
        yield from wrapped(f"finding {turn.finding}: {turn.after.name} instead of {turn.before.name}", columns)
        if turn.what:
            yield from labelled("says", [f"{turn.what}."], columns)
    if outcome.status_before is not outcome.status_after:
        yield f"status of the host: {outcome.status_after.name} instead of {outcome.status_before.name}"


def _with(text: str, status: Status, other: Status) -> str:
    return text if status is other else f"{text}, {status.name}"
