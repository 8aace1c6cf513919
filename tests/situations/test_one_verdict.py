"""One verdict for real: a daemon on a host in trouble, and every way to ask it, give the same status.

``tests/test_one_verdict.py`` has the same for recorded situations, with the alerts.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter.health.thresholds import Status
from tests.e2e.conftest import Daemon, wait_for
from tests.lab import LabProcess
from tests.situations.world import World

pytestmark = [pytest.mark.lab, pytest.mark.e2e]

Trouble = Callable[[World], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def quiet(world: World) -> Iterator[None]:
    """A service that nobody calls."""
    world.serve(8080, 64)
    yield


@contextlib.contextmanager
def full_accept_queue(world: World) -> Iterator[None]:
    """A service that does not accept, and clients that keep coming."""
    world.listen(8080, 4)
    world.connect(8080, 5)
    with world.flood(8080, 50):
        yield


@contextlib.contextmanager
def flood_without_cookies(world: World) -> Iterator[None]:
    """Spoofed SYNs, and a kernel that drops what does not fit."""
    world.sysctl("net.ipv4.tcp_syncookies", 0)
    world.listen(8080, 64)
    with world.flood(8080, 300):
        yield


@contextlib.contextmanager
def many_connections(world: World) -> Iterator[None]:
    """More established connections than the default warning allows, and nothing else."""
    world.lab.establish(650)
    yield


TROUBLES: dict[str, tuple[Trouble, set[str]]] = {
    "quiet": (quiet, set()),
    "a full accept queue": (full_accept_queue, {"accept_queue_full"}),
    "a SYN flood without cookies": (flood_without_cookies, {"syn_flood"}),
    "many connections": (many_connections, set()),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_every_way_to_ask_a_daemon_gives_the_same_verdict(
    world: World, lab: LabProcess, tmp_path: Path, trouble: str
) -> None:
    make, expected = TROUBLES[trouble]
    configuration = tmp_path / "exporter.yml"
    configuration.write_text("sample: {interval: 3s}\n")
    with make(world), Daemon(tmp_path / "log", "--config.file", str(configuration), lab=lab) as daemon:
        url = f"http://127.0.0.1:{daemon.ready().port}"

        def answers() -> dict[str, tuple[str, set[str]]] | None:
            """By consumer the status and the findings, all of one sample; None where a new one came between."""
            document = json.loads(daemon.get("/api/v1/snapshot")[1])
            page, metrics = daemon.get("/")[1], daemon.metrics()
            code, said = world.plugin("--url", url, "-s", "all", "-v")
            if json.loads(daemon.get("/api/v1/snapshot")[1])["taken_at"] != document["taken_at"]:
                return None
            health = document["health"]
            if health["status"] == "UNKNOWN":
                return None  # rates need a second sample
            (word,) = re.findall(r'<span id="status">(\w+)</span>', page)
            positive = {
                name for name, value in metrics.items() if value in {1, 2} and name.startswith("tcp_finding_status")
            }
            found = {
                "json": (health["status"], {it["finding"] for it in health["findings"] if it["found"] is not None}),
                "page": (word, set(re.findall(r'<article id="finding-(\w+)"', page))),
                "metrics": (
                    Status(int(metrics["tcp_host_status"])).name,
                    {re.findall(r'finding="(\w+)"', name)[0] for name in positive},
                ),
                "plugin": (Status(code).name, set(re.findall(r"(?m)^(?:WARNING|CRITICAL) (\w+): ", said))),
            }
            return found if found["json"][1] >= expected else None

        found = wait_for(answers, f"a sample with {expected}")
        assert found == dict.fromkeys(found, found["json"])
        assert found["json"][1] == expected
        assert (found["json"][0] == "OK") == (trouble == "quiet")
