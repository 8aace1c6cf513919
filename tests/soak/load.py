"""A thousand connections, nine hundred of them slow or silent, while a real Prometheus scrapes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.e2e.conftest import DEADLINE, Daemon, free_port, get, wait_for
from tests.lab import LabProcess
from tests.soak.clients import CUT_OFF

CLIENTS: Mapping[str, int] = {"silent": 300, "half": 200, "trickling": 200, "unread": 200, "good": 99}
"""The thousandth is Prometheus."""


class Missing(Exception):
    """A program that this takes is not installed."""


class Load(NamedTuple):
    """What came of it."""

    seconds: int
    scrapes: int
    failed: int  # scrapes at which up was 0
    slowest: float  # seconds that a scrape took
    resident: tuple[int, ...]  # KiB, of the daemon, at even distances under the load
    clients: Mapping[str, int]  # what became of them, by its name

    @property
    def growth(self) -> int:
        """KiB that the daemon's memory is above where it was when the load had been there for a third of the time."""
        third = len(self.resident) // 3
        return max(self.resident[2 * third :]) - max(self.resident[third : 2 * third])

    @property
    def refused(self) -> dict[str, int]:
        """What well-behaved clients did not get.

        That one of a hundred is cut off before it has asked is none of it: under a load that leaves the client itself
        waiting for the processor it is silent for as long as others are, and it comes again.
        """
        failed = {name: number for name, number in self.clients.items() if name.startswith("good that")}
        if 100 * failed.get(CUT_OFF, 0) <= self.clients["good answers"]:
            failed.pop(CUT_OFF, None)
        return failed


def load(lab: LabProcess, folder: Path, seconds: int, *, every: int = 1, again: float = 1.0) -> Load:
    """Put the load on a daemon in the lab for so many *seconds*, with a scrape *every* so many, which is its timeout.

    Clients that are cut off come again after *again* seconds: nearly a thousand connections a second where it is one.
    """
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        raise Missing("prometheus")
    with Daemon(folder / "daemon.log", lab=lab) as daemon:
        daemon.ready()
        port = free_port(lab)
        (folder / "prometheus.yml").write_text(
            f"global: {{scrape_interval: {every}s, scrape_timeout: {every}s}}\n"
            f"scrape_configs: [{{job_name: tcp, static_configs: [{{targets: ['127.0.0.1:{daemon.port}']}}]}}]\n"
        )
        command = [
            prometheus, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        slow = [sys.executable, "-m", "tests.soak.clients", str(daemon.port), str(again)]
        slow += [f"{kind}={number}" for kind, number in CLIENTS.items()]
        with (folder / "prometheus.log").open("w") as log:
            server = lab.popen(command, stdout=subprocess.DEVNULL, stderr=log)
        wait_for(lambda: _query(lab, port, "up") == 1 or None, "the first scrape")
        crowd = lab.popen(slow)
        before = int(_query(lab, port, "count_over_time(up[1h])") or 0)
        resident: list[int] = []
        while len(resident) < seconds // every:
            wanted = before + len(resident) + 1
            wait_for(partial(_scraped, lab, port, wanted), f"scrape {len(resident) + 1} of {seconds // every}")
            resident.append(_resident(daemon.process.pid))
        scrapes = int(_query(lab, port, "count_over_time(up[1h])") or 0) - before
        failed = int(_query(lab, port, "count_over_time(up[1h]) - sum_over_time(up[1h])") or 0)
        slowest = _query(lab, port, f"max_over_time(scrape_duration_seconds[{seconds}s])") or 0.0
        crowd.send_signal(signal.SIGTERM)
        said, complaint = crowd.communicate(timeout=DEADLINE)
        assert crowd.returncode == 0, complaint
        server.kill()
        server.wait(DEADLINE)
        assert "request failed" not in daemon.said(), daemon.said()
        assert daemon.terminate() == 0
    return Load(seconds, scrapes, failed, slowest, tuple(resident), json.loads(said))


def _scraped(lab: LabProcess, port: int, times: int) -> bool | None:
    return (_query(lab, port, "count_over_time(up[1h])") or 0) >= times or None


def _query(lab: LabProcess, port: int, expression: str) -> float | None:
    try:
        path = "/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        result = json.loads(get(port, path, lab)[1])["data"]["result"]
    except (OSError, ValueError, KeyError):
        return None
    return float(result[0]["value"][1]) if result else None


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    return int(status.partition("VmRSS:")[2].split()[0])
