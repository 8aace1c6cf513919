"""The load and the day of ``tests.soak`` at a size that takes seconds; ``make soak`` has the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import LabProcess, LabUnavailable
from tests.soak.__main__ import MOST_GROWTH
from tests.soak.day import day
from tests.soak.far import far
from tests.soak.flood import SOURCES
from tests.soak.large import FULL, large
from tests.soak.load import CLIENTS, Missing, load

pytestmark = [pytest.mark.lab, pytest.mark.e2e]


@pytest.mark.long
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


@pytest.mark.long
def test_an_hour_of_samples_leaves_memory_descriptors_and_threads_as_they_were(lab: LabProcess, tmp_path: Path) -> None:
    lived = day(lab, tmp_path, samples=3600)
    assert {name: grown for name, grown in lived.growth.items() if grown > MOST_GROWTH[name]} == {}, lived.marks
    assert min(lived.requests, lived.reloads) > 0


@pytest.mark.parametrize(
    ("scheme", "floods"),
    [("https", (*SOURCES, "a /64 of IPv6, handshakes begun")), ("http", ("many addresses", "a /64 of IPv6"))],
)
def test_a_scraper_150_ms_away_gets_in_beside_1000_new_silent_connections_a_second(
    lab: LabProcess, tmp_path: Path, scheme: str, floods: tuple[str, ...]
) -> None:
    try:
        results = far(lab, tmp_path, 4, (scheme,), floods)
    except LabUnavailable as reason:
        pytest.skip(str(reason))
    assert [(it.flood, it.scrapes, it.failed) for it in results] == [(flood, 4, ()) for flood in floods]


@pytest.mark.long
def test_the_memory_limits_that_we_ship_hold_with_20000_listeners_5000_cgroups_and_3000_namespaces(
    lab: LabProcess, tmp_path: Path
) -> None:
    try:
        held = large(lab, tmp_path)
    except LabUnavailable as reason:
        pytest.skip(str(reason))
    assert held.size == FULL
    assert (held.peak < held.limit, held.charged < held.limit, held.killed) == (True, True, 0), held
    assert min(held.units - FULL.cgroups, held.namespaces - FULL.namespaces) >= 0
