"""A day's samples in minutes: the daemon with passes back to back, while everything around it changes all the time.

Sockets come and go, the configuration is reloaded, good and bad files in turns, and everybody asks: scrapes in both
formats, the page, the JSON, the plugin. Its memory, its descriptors and its threads have to be at the end what they
were after the warm-up.
"""

from __future__ import annotations

import contextlib
import http.client
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.e2e.conftest import PLUGIN, Daemon, wait_for
from tests.lab import LabProcess

DAY = 86_400
_ROOT = Path(__file__).parents[2]
_HURRIED = [sys.executable, str(_ROOT / "benchmarks" / "scripts" / "hurried_daemon.py")]
_SAMPLES = 'tcp_exporter_samples_total{pass="light"}'
_GOOD = "sample: {peak_window: 2s}\nthresholds: {established: {warning: %d, critical: 5000}}\ndetail: {ports: [443]}\n"
_BAD = "sample: {interval: never}\nthresholds: {established: {warning: 2:1}, nonsense: {}}\n"
_OPENMETRICS = "application/openmetrics-text;version=1.0.0"
_ASKED: tuple[tuple[str, dict[str, str]], ...] = (
    ("/metrics", {}),
    ("/metrics", {"Accept": _OPENMETRICS, "Accept-Encoding": "gzip"}),
    ("/", {"Accept-Encoding": "gzip"}),
    ("/metrics", {"Accept": _OPENMETRICS}),
    ("/api/v1/snapshot", {}),
    ("/api/v1/history", {"Accept-Encoding": "gzip"}),
    ("/-/ready", {}),
    ("/nowhere", {}),
)
_PAUSE = 0.1  # seconds between two requests
_ROUNDS_A_CHECK = 5  # of all requests and a reload, between two checks of the plugin
_LEAST_ROUNDS = 10  # however fast the samples are: of fewer marks the least says nothing
_WARM = 0.4  # of the samples, until nothing is new any more

# Connections that come and go, a hundred at a time, closed by either side.
_CHURN = """
import itertools, socket, time
server = socket.create_server(("127.0.0.1", 8080), backlog=512)
for turn in itertools.count():
    ends = []
    for _ in range(1 + turn % 100):
        client = socket.create_connection(("127.0.0.1", 8080))
        ends.append((client, server.accept()[0]))
    if turn == 0:
        print("churning", flush=True)
    time.sleep(0.3)
    for client, peer in ends:
        first, second = (client, peer) if turn % 2 else (peer, client)
        if turn % 5 == 0:
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
        first.close(); second.close()
"""


class Mark(NamedTuple):
    """The daemon at one moment."""

    samples: int
    seconds: float
    resident: int  # KiB
    descriptors: int
    threads: int


class Day(NamedTuple):
    """What came of it."""

    marks: tuple[Mark, ...]  # after each round of requests
    requests: int
    reloads: int
    checks: int  # of the plugin

    @property
    def warm(self) -> tuple[tuple[Mark, ...], tuple[Mark, ...]]:
        """The marks after the warm-up, the earlier and the later half."""
        kept = [mark for mark in self.marks if mark.samples >= self.marks[-1].samples * _WARM]
        return tuple(kept[: len(kept) // 2]), tuple(kept[len(kept) // 2 :])

    @property
    def growth(self) -> dict[str, int]:
        """How much more the least of the later half is than that of the earlier: KiB, descriptors, threads.

        The least, because a request or a reload that is not quite over has its own descriptor or thread.
        """
        earlier, later = self.warm
        return {
            name: min(getattr(mark, name) for mark in later) - min(getattr(mark, name) for mark in earlier)
            for name in ("resident", "descriptors", "threads")
        }


def day(lab: LabProcess, folder: Path, samples: int = DAY) -> Day:
    """Live through so many samples in the lab."""
    file = folder / "exporter.yml"
    file.write_text(_GOOD % 1)
    churn = lab.popen([sys.executable, "-c", _CHURN])
    assert churn.stdout is not None
    assert churn.stdout.readline() == "churning\n"
    marks: list[Mark] = []
    requests = reloads = checks = 0
    with Daemon(folder / "daemon.log", "--config.file", str(file), lab=lab, program=_HURRIED) as daemon:
        daemon.ready()
        began = time.monotonic()
        while len(marks) < _LEAST_ROUNDS or marks[-1].samples < samples:
            for path, headers in _ASKED:
                status = _status(lab, daemon.port, path, headers)
                assert status == (404 if path == "/nowhere" else 200), f"{path}: {status}"
                requests += 1
                time.sleep(_PAUSE)
            reloads += 1
            _reload(daemon, file, reloads)
            if reloads % _ROUNDS_A_CHECK == 0:
                _check(lab, daemon.port)
                checks += 1
            marks.append(_mark(daemon, time.monotonic() - began))
        assert "Traceback" not in daemon.said()
        assert churn.poll() is None
        assert daemon.terminate() == 0
    return Day(tuple(marks), requests, reloads, checks)


def _status(lab: LabProcess, port: int, path: str, headers: Mapping[str, str]) -> int:
    """The status of a GET whose answer is read and left as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    with contextlib.closing(connection):
        connection.sock = lab.connect("127.0.0.1", port)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        assert answer.read()
        return answer.status


def _reload(daemon: Daemon, file: Path, number: int) -> None:
    """Have a file read that is another one each time, and each second time a bad one; wait for what comes of it."""
    is_good = number % 2 == 0
    file.write_text(_GOOD % number if is_good else _BAD)
    daemon.process.send_signal(signal.SIGHUP)
    limit = 'tcp_threshold{measure="established",severity="warning"}'

    def taken() -> bool | None:
        metrics = daemon.metrics()
        done = metrics["tcp_exporter_config_last_reload_successful"] == is_good
        return (done and (not is_good or metrics[limit] == number)) or None

    wait_for(taken, f"reload {number}")


def _check(lab: LabProcess, port: int) -> None:
    done = lab.run([*PLUGIN, "--url", f"http://127.0.0.1:{port}", "-v", "-s", "total"])
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def _mark(daemon: Daemon, seconds: float) -> Mark:
    folder = Path(f"/proc/{daemon.process.pid}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text("utf-8", "replace").splitlines())
    return Mark(
        samples=int(daemon.metrics()[_SAMPLES]),
        seconds=round(seconds, 1),
        resident=int(status["VmRSS"].split()[0]),
        descriptors=len([*(folder / "fd").iterdir()]),
        threads=int(status["Threads"]),
    )
