"""docs/plugin.md says what the plugin does: its options, measures and thresholds are those of the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from exporter.errors import UsageError
from exporter.health.measures import BY_NAME
from exporter.health.thresholds import DEFAULTS, Range
from exporter.nagios.arguments import EVERYTHING, FINDINGS, SYSCTL, help_text, judged, parse

TEXT = (Path(__file__).parent.parent / "docs" / "plugin.md").read_text(encoding="utf-8")


def table(*titles: str) -> list[list[str]]:
    """The rows of the table with the columns *titles*, without the backquotes."""
    head = f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}\n"
    assert TEXT.count(head) == 1
    lines = TEXT.partition(head)[2].splitlines()
    rows = lines[: next(number for number, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def options_of_the_help() -> list[tuple[str, ...]]:
    found = re.findall(r"^ (?:(-\w), |    )(--[a-z.-]+)", help_text(), re.MULTILINE)
    return [tuple(name for name in names if name) for names in found]


def test_the_options_are_those_of_the_help_in_its_order() -> None:
    documented = [
        tuple(re.findall(r"`(--?[a-z.-]+)`", cells[0], re.IGNORECASE)) for cells in table("Option", "Default", "Does")
    ]
    assert documented == options_of_the_help()


def test_the_measures_are_all_there_are_in_their_order() -> None:
    named = [cells[0].strip("`") for cells in (*table("Measure", "Is"), *table("Besides", "Is"))]
    assert named == [*BY_NAME, SYSCTL, FINDINGS, EVERYTHING]


@pytest.mark.parametrize("cells", table("Range", "Alerts", "Does not alert"), ids=lambda cells: cells[0])
def test_every_range_alerts_as_its_row_says(cells: list[str]) -> None:
    limit = Range.parse(cells[0].strip("`"))
    alerting, quiet = ([float(number) for number in cell.split(",") if number.strip()] for cell in cells[1:])
    assert [number for number in alerting if not limit.alerts(number)] == []
    assert [number for number in quiet if limit.alerts(number)] == []
    assert alerting or quiet


@pytest.mark.parametrize("cells", table("Options", "Values"), ids=lambda cells: cells[0])
def test_every_pair_of_thresholds_judges_as_its_row_says(cells: list[str]) -> None:
    options = parse(shlex.split(cells[0].strip("`")))
    threshold = judged(options, DEFAULTS)["established"]
    said = [pair.split() for pair in cells[1].split(", ")]
    assert [threshold.judge(float(value))[0].name for value, _ in said] == [status for _, status in said]


def test_what_the_page_calls_no_range_is_refused() -> None:
    (line,) = re.findall(r"^Anything else that is not a range is refused .+$", TEXT, re.MULTILINE)
    examples = re.findall(r"`([^`]+)`", line)
    assert len(examples) == 14
    for example in examples:
        with pytest.raises(UsageError, match="is not a range"):
            parse(["-w", example])
