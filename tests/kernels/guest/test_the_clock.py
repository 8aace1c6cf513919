"""A clock that is really set, by hours and both ways, beside the running daemon.

Only a guest's clock is set: a developer's is everybody's, so these checks skip themselves there.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.conftest import Daemon, wait_for
from tests.kernels.guest.conftest import Note
from tests.kernels.guest.here import run

PATIENCE = 600.0  # seconds: what a sample takes in a guest is a fraction of one
HOURS = (3, -6, 3)  # each time from where it was; in the end it is right again
COUNTING = 'tcp_exporter_samples_total{pass="light"}'
STAMP = "tcp_exporter_sample_timestamp_seconds"

pytestmark = pytest.mark.skipif(socket.gethostname() != "guest", reason="the clock of a machine is not set for a test")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """The daemon, as soon as it has judged everything."""
    config = tmp_path / "exporter.yml"
    config.write_text("sample: {interval: 1s, max_cpu_ratio: 1}\ndetail: {interval: 2s, max_cpu_ratio: 1}\n")
    with Daemon(tmp_path / "log", "--config.file", str(config)) as running:
        running.ready()
        metrics_when(running, is_judged, "a detail pass, and two samples that the findings are concluded from")
        yield running


def metrics_when(daemon: Daemon, holds: Callable[[dict[str, float]], bool], what: str) -> dict[str, float]:
    def page() -> dict[str, float] | None:
        metrics = daemon.metrics()
        return metrics if holds(metrics) else None

    return wait_for(page, f"{what}; the daemon logged: {daemon.said()}", PATIENCE)


def test_a_clock_that_is_set_by_hours_moves_the_timestamp_and_nothing_else(daemon: Daemon, note: Note) -> None:
    before = daemon.metrics()
    negative = {series for series, value in before.items() if value < 0}
    for hours in HOURS:
        begin = daemon.metrics()[STAMP]
        time.clock_settime(time.CLOCK_REALTIME, time.time() + hours * 3600)
        moved = metrics_when(daemon, partial(has_moved, begin), f"{hours} h in the timestamp")
        assert abs(moved[STAMP] - begin - hours * 3600) < PATIENCE
        after = metrics_when(daemon, partial(has_sampled, moved[COUNTING] + 3), "more samples")
        assert {series for series, value in after.items() if value < 0} == negative
        assert statuses(after) == statuses(before)
        daemon.ready()
        status, body = daemon.get("/api/v1/snapshot")
        document = json.loads(body)
        assert status == 200
        assert 0 <= document["age_seconds"] < PATIENCE
        assert abs(document["taken_at"] - time.time()) < PATIENCE
        assert daemon.get("/api/v1/history")[0] == 200
        checked = run("check_tcp_states", "--url", f"http://127.0.0.1:{daemon.port}", "-vv")
        assert checked.returncode == 0, checked.stdout
    assert "Traceback" not in daemon.said()
    assert daemon.terminate() == 0
    note("a clock that is set by +3, -6 and +3 hours", "samples go on, no age is negative")


def is_judged(page: dict[str, float]) -> bool:
    return page.get('tcp_exporter_source_up{source="detail"}') == 1 and page.get("tcp_host_status") == 0


def has_moved(begin: float, page: dict[str, float]) -> bool:
    return abs(page[STAMP] - begin) > 3600


def has_sampled(number: float, page: dict[str, float]) -> bool:
    return page[COUNTING] >= number


def statuses(page: dict[str, float]) -> dict[str, float]:
    families = ("tcp_status", "tcp_host_status", "tcp_finding_status", "tcp_exporter_source_up")
    return {series: value for series, value in page.items() if series.startswith(families)}
