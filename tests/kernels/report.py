"""What the guests found: lines for the terminal, rows for docs/trust/kernels.json, a table for docs/kernels.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from tests.kernels.apt import Kernel
from tests.kernels.machine import Told

Row = Mapping[str, str]
"""The facts of one kernel by their names, in the order of the checks; ``kernel`` and ``package`` are the first."""

KERNEL, PACKAGE, CHECKS = "kernel", "package", "checks that passed"


def summary(kernel: Kernel, told: Told) -> str:
    """One line on a guest that has ended."""
    passed = sum(not it.problem for it in told.outcomes)
    seconds = sum(it.seconds for it in told.outcomes)
    return f"{kernel.number} ({kernel.release}): {passed} of {len(told.outcomes)} checks passed in {seconds:.0f} s"


def failures(results: Mapping[Kernel, Told]) -> list[str]:
    """A line for each failure, which names the kernel and the fact."""
    lines = []
    for kernel, told in results.items():
        lines += [f"{kernel.number}: {it.check}: {it.problem}" for it in told.outcomes if it.problem]
        if told.problem:
            lines.append(f"{kernel.number}: the guest {told.problem}")
    return lines


def rows(results: Mapping[Kernel, Told]) -> list[Row]:
    """A row for each kernel."""
    return [
        {
            KERNEL: kernel.number,
            PACKAGE: f"{kernel.package} {kernel.version}",
            CHECKS: f"{sum(not it.problem for it in told.outcomes)} of {len(told.outcomes)}",
            **{name: value for outcome in told.outcomes for name, value in outcome.facts.items()},
        }
        for kernel, told in results.items()
    ]


def encode(found: Sequence[Row]) -> str:
    """The file docs/trust/kernels.json."""
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def table(found: Sequence[Row]) -> str:
    """A table in Markdown: a line for each fact, a column for each kernel."""
    names = dict.fromkeys(name for row in found for name in row if name not in {KERNEL, PACKAGE})
    lines = [_line(("", *(row[KERNEL] for row in found))), _line("---" for _ in range(len(found) + 1))]
    lines += [_line((name, *(row.get(name, "") for row in found))) for name in names]
    return "\n".join(lines) + "\n"


def packages(found: Sequence[Row]) -> str:
    """The packages that were booted, as a list in Markdown."""
    return "".join(f"* {row[KERNEL]}: `{row[PACKAGE]}`\n" for row in found)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
