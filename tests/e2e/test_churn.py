"""Counts while thousands of connections a second come and go: against what the one who makes them knows to be open."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from exporter.kernel.derivation import FEW
from tests.e2e.conftest import Daemon, by_state, wait_for
from tests.lab import LabProcess

pytestmark = pytest.mark.lab

T = TypeVar("T")

CLIENTS = 2
CHURN = [sys.executable, str(Path(__file__).parent / "churn.py"), str(CLIENTS)]
ON_THEIR_WAY = 2 * CLIENTS + 4  # both ends of each client's connection, and of those that this test and the server have
STAMP = "tcp_exporter_sample_timestamp_seconds"
OPENED = "tcp_passive_opens_total"
SAMPLES = 100


def churned(lab: LabProcess, tmp_path: Path) -> list[dict[str, float]]:
    """The pages of many samples that were taken under churn."""
    churn = lab.popen(CHURN)
    assert churn.stdout is not None
    assert churn.stdout.readline() == "ready\n"
    file = tmp_path / "exporter.yml"
    file.write_text("sample: {interval: 100ms, max_cpu_ratio: 1}\ndetail: {interval: 500ms, max_cpu_ratio: 1}\n")
    with Daemon(tmp_path / "log", "--config.file", str(file), lab=lab) as daemon:
        pages: list[dict[str, float]] = []

        def another() -> dict[str, float] | None:
            """The page of another sample; where the machine is so busy that one is too old, it has no counts."""
            page = daemon.ready().metrics()
            return page if by_state(page) and page[STAMP] not in {it[STAMP] for it in pages[-1:]} else None

        while len(pages) < SAMPLES:
            pages.append(wait_for(another, "another sample"))
        assert pages[-1][OPENED] - pages[0][OPENED] > SAMPLES
        assert [pages[-1][f'tcp_exporter_sample_errors_total{{source="{it}"}}'] for it in ("netlink", "detail")] == [
            0,
            0,
        ]
        assert daemon.said().count("counting every socket") == 0
    churn.kill()
    return pages


def around(items: Sequence[T]) -> list[Sequence[T]]:
    """Each with the one before and the one after it: what a sample reads first and last may be apart by any time."""
    return [items[max(0, number - 1) : number + 2] for number in range(len(items))]


def came(pages: Sequence[dict[str, float]]) -> list[float]:
    """How many connections were opened between the sample before and the one after each."""
    return [some[-1][OPENED] - some[0][OPENED] for some in around(pages)]


def test_few_connections_are_counted_exactly_however_many_come_and_go(lab: LabProcess, tmp_path: Path) -> None:
    lab.establish(200)
    pages = churned(lab, tmp_path)
    counts = [by_state(page) for page in pages]
    assert [it for it in counts if min(it.values()) < 0] == []
    above = [it["established"] - 200 for it in counts]
    assert min(above) >= 0
    assert statistics.median(above) <= ON_THEIR_WAY
    # A listing that waits for the processor may meet the connections of one client in several places, one at each time.
    assert [it for it in zip(above, came(pages), strict=True) if it[0] > ON_THEIR_WAY + it[1]] == []


def test_of_many_connections_the_error_is_at_most_what_came_and_went_meanwhile(lab: LabProcess, tmp_path: Path) -> None:
    held = FEW + 1000
    lab.establish(held)
    pages = churned(lab, tmp_path)
    counts = [by_state(page) for page in pages]
    errors = [abs(it["established"] - held) for it in counts]
    waited = [sum(it["close_wait"] for it in some) for some in around(counts)]  # to be closed by the server
    explained = [sum(it) + ON_THEIR_WAY for it in zip(came(pages), waited, strict=True)]
    assert [it for it in zip(errors, explained, strict=True) if it[0] > it[1]] == []
    assert [page for page in pages if min(by_state(page).values()) < 0] == []
