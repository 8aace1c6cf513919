"""The daemon where the walk is too dear for each second: what the light passes tell meanwhile, and what they do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Daemon, by_state, wait_for
from tests.lab import LabProcess

pytestmark = pytest.mark.lab

STAMP, WALK = "tcp_exporter_sample_timestamp_seconds", "tcp_exporter_walk_timestamp_seconds"
INTERVAL = 'tcp_exporter_sample_interval_seconds{pass="%s"}'
WAITING, OPENED = 2000, 50
SCRAPES = 4  # sockets of connections that this test has to the daemon, more or fewer


def test_between_two_walks_established_sockets_are_counted_anew_and_close_wait_has_its_age(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    # A minute's allowance is 90 ms of CPU, which is some twenty walks of these sockets; a light pass costs a few times
    # less, whatever there is to walk.
    file.write_text("sample: {interval: 100ms, max_cpu_ratio: 0.0015}\ndetail: {interval: 0}\n")
    with LabProcess() as lab:
        lab.make({"close_wait": WAITING})
        with Daemon(tmp_path / "log", "--config.file", str(file), lab=lab) as daemon:
            daemon.ready()

            def rare() -> dict[str, float] | None:
                """The page once the walks are rarer than the light passes."""
                page = daemon.metrics()
                return page if page[INTERVAL % "walk"] > 2 * page[INTERVAL % "light"] > 0 else None

            before = by_state(wait_for(rare, "walks that are rare"))
            lab.establish(OPENED)

            def between() -> dict[str, float] | None:
                """A page with all that was opened, of a light pass that was made without a walk."""
                page = daemon.metrics()
                opened = by_state(page)["established"] - before["established"]
                return page if abs(opened - OPENED) <= SCRAPES and page[STAMP] > page[WALK] else None

            page = wait_for(between, "a light pass between two walks")
            assert 0 <= by_state(page)["close_wait"] - WAITING <= SCRAPES
            assert page["tcp_exporter_sample_derived"] == 1

            walks: dict[float, set[float]] = {}  # the timestamp of each to those of its samples

            def shared() -> bool | None:
                now = daemon.metrics()
                walks.setdefault(now[WALK], set()).add(now[STAMP])
                return len(walks[now[WALK]]) > 1 or None

            wait_for(shared, "two samples with the timestamp of one walk")
            document = json.loads(daemon.get("/api/v1/snapshot")[1])
            assert document["walk_age_seconds"] == 0 or document["fresh_states"] == [
                "established", "time_wait", "listen",
            ]  # fmt: skip
            said = "walk interval stretched to keep the CPU share"
            wait_for(lambda: said in daemon.said() or None, "the log's line")
