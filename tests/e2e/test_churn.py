"""Counts while thousands of connections a second come and go: against what the one who makes them knows to be open."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from tests.e2e.conftest import Daemon, by_state, wait_for
from tests.lab import LabProcess

pytestmark = pytest.mark.lab

T = TypeVar("T")

CLIENTS = 2
CHURN = [sys.executable, str(Path(__file__).parent / "churn.py")]
ON_THEIR_WAY = 2 * CLIENTS + 4  # both ends of each client's connection, and of those that this test and the server have
STAMP = "tcp_exporter_sample_timestamp_seconds"
OPENED = "tcp_passive_opens_total"
SAMPLES = 100


# What commands that end, first samples and namespaces count, each again and again without memory of the time before.
FIRST_SAMPLES = """
import json
from exporter.kernel.netns import SELF
from exporter.kernel.netnsfs import Namespaces
from exporter.sampling.once import snapshot
from exporter.tcpstate import TcpState

counts = {"once": [], "namespace": []}
for _ in range(100):
    connections = snapshot("/proc", "netlink", netstat=False, sysctls=False).connections
    counts["once"].append(connections.counts[TcpState.ESTABLISHED])
    [mine] = [found for found in Namespaces().count() if found.name == SELF]
    counts["namespace"].append(mine.counts[TcpState.ESTABLISHED])
print(json.dumps({way: [min(counted), max(counted)] for way, counted in counts.items()}))
"""


def churned(lab: LabProcess, tmp_path: Path) -> list[dict[str, float]]:
    """The pages of many samples that were taken under churn."""
    churn = lab.popen([*CHURN, str(CLIENTS)])
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


def test_few_connections_are_counted_exactly_without_a_sample_before_and_beside_a_leak_of_close_wait(
    lab: LabProcess,
) -> None:
    held, clients = 900, 4  # busy cores: time passes between the walk and the sums
    lab.make({"close_wait": 200})
    lab.establish(held)
    churn = lab.popen([*CHURN, str(clients)])
    assert churn.stdout is not None
    assert churn.stdout.readline() == "ready\n"
    done = lab.run([sys.executable, "-c", FIRST_SAMPLES])
    churn.kill()
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert {way: least for way, (least, _) in counts.items()} == {"once": held, "namespace": held}
    assert [most for _, most in counts.values() if most > held + 2 * clients + 4] == []


@pytest.mark.parametrize("held", [1100, 5000])
def test_of_many_connections_the_error_is_at_most_1_percent_or_20(lab: LabProcess, tmp_path: Path, held: int) -> None:
    lab.establish(held)
    pages = churned(lab, tmp_path)
    errors = [by_state(page)["established"] - held for page in pages]
    most = max(20, held // 100)
    assert [error for error in errors if error < -most] == []
    above = zip(errors, came(pages), strict=True)  # a listing that waits for the processor, as above
    assert [it for it in above if it[0] > most + ON_THEIR_WAY + it[1]] == []
    assert [page for page in pages if min(by_state(page).values()) < 0] == []
