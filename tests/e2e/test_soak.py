"""The load and the day of ``tests.soak`` at a size that takes seconds; ``make soak`` has the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import LabProcess
from tests.soak.__main__ import MOST_GROWTH
from tests.soak.day import day
from tests.soak.load import CLIENTS, Missing, load

pytestmark = [pytest.mark.lab, pytest.mark.e2e]


def test_no_scrape_fails_among_a_thousand_connections_of_which_nine_hundred_are_slow_or_silent(
    lab: LabProcess, tmp_path: Path
) -> None:
    assert sum(CLIENTS.values()) + 1 == 1000
    try:
        # On a busy machine a scrape waits for the processor, and so do the clients that the memory goes to.
        held = load(lab, tmp_path, seconds=30, every=5, again=3.0)
    except Missing as program:
        pytest.skip(f"{program} is not installed")
    assert (held.scrapes >= 6, held.failed) == (True, 0), held
    assert held.refused == {}, held
    assert held.growth <= 8 * MOST_GROWTH["resident"], held
    assert all(held.clients[f"{kind} cut off"] for kind in CLIENTS), held


def test_an_hour_of_samples_leaves_memory_descriptors_and_threads_as_they_were(lab: LabProcess, tmp_path: Path) -> None:
    lived = day(lab, tmp_path, samples=3600)
    assert {name: grown for name, grown in lived.growth.items() if grown > MOST_GROWTH[name]} == {}, lived.marks
    assert min(lived.requests, lived.reloads) > 0
