"""The servers beside a fleet's Prometheus servers: Alertmanager, VictoriaMetrics and vmalert, and who is alerted."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from benchmarks.meter import ROOT, Failed, memory, process_cpu, program
from benchmarks.server import Server, free_port, started

RULES = [os.path.join(ROOT, "deploy", "prometheus", name) for name in ("alerts.yml", "rules.yml")]
"""What is shipped, for Prometheus and for vmalert."""


class Notified(NamedTuple):
    """One alert of one notification, as Alertmanager's webhook tells it."""

    at: float  # monotonic
    by: str  # the path of the webhook
    firing: bool
    labels: tuple[tuple[str, str], ...]


class Receiver:
    """Who is alerted: a webhook that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Notified] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                now = time.monotonic()
                receiver.told += [
                    Notified(now, self.path, alert["status"] == "firing", tuple(sorted(alert["labels"].items())))
                    for alert in body["alerts"]
                ]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def firing(self, by: str, alert: str) -> set[tuple[str, str]]:
        """Instance and severity of each *alert* that *by* has told to fire."""
        return {
            (labels["instance"], labels["severity"])
            for labels in (dict(each.labels) for each in self.told if each.by == by and each.firing)
            if labels["alertname"] == alert
        }

    def told_twice(self, by: str) -> int:
        """How many alerts differ from another one in the labels of the servers alone: somebody is told twice."""
        distinct = {each.labels for each in self.told if each.by == by}
        alerts = {tuple(it for it in labels if it[0] not in {"shard", "replica"}) for labels in distinct}
        return len(distinct) - len(alerts)


@contextlib.contextmanager
def prometheus(folder: str, name: str, configuration: str) -> Iterator[Server]:
    """A Prometheus with this configuration; it stores in *folder* under its *name*, also when it starts again."""
    own = os.path.join(folder, name)
    write(f"{own}.yml", configuration)
    port = free_port()
    command = [program("prometheus", "prometheus"), f"--config.file={own}.yml", f"--storage.tsdb.path={own}",
               f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    with started(command, f"{own}.log") as server:
        server.port = port
        server.wait_for("/-/ready")
        yield server


@contextlib.contextmanager
def alertmanager(folder: str, name: str, configuration: str) -> Iterator[Server]:
    """An Alertmanager with this configuration."""
    own = os.path.join(folder, name)
    write(f"{own}.yml", configuration)
    port = free_port()
    command = [program("prometheus-alertmanager", "prometheus-alertmanager"), f"--config.file={own}.yml",
               f"--storage.path={own}", f"--web.listen-address=127.0.0.1:{port}",
               "--cluster.listen-address="]  # fmt: skip
    with started(command, f"{own}.log") as server:
        server.port = port
        server.wait_for("/-/ready")
        yield server


@contextlib.contextmanager
def victoria_metrics(folder: str, *options: str) -> Iterator[Server]:
    """A VictoriaMetrics of one node."""
    own = os.path.join(folder, "victoria-metrics")
    port = free_port()
    command = [program("victoria-metrics", "victoria-metrics"), f"-storageDataPath={own}",
               f"-httpListenAddr=127.0.0.1:{port}", *options]  # fmt: skip
    with started(command, f"{own}.log") as server:
        server.port = port
        server.wait_for("/health")
        yield server


@contextlib.contextmanager
def vmalert(folder: str, store: Server, alerts: Server, rules: Sequence[str], interval: str) -> Iterator[Server]:
    """A vmalert that evaluates *rules* over *store*, writes what they record there and alerts to *alerts*."""
    port = free_port()
    url = f"http://127.0.0.1:{store.port}"
    command = [program("vmalert", "victoria-metrics"), *(f"-rule={path}" for path in rules), f"-datasource.url={url}",
               f"-remoteWrite.url={url}", f"-remoteRead.url={url}", f"-notifier.url=http://127.0.0.1:{alerts.port}",
               f"-evaluationInterval={interval}", f"-httpListenAddr=127.0.0.1:{port}"]  # fmt: skip
    with started(command, os.path.join(folder, "vmalert.log")) as server:
        server.port = port
        server.wait_for("/health")
        yield server


def reload(server: Server) -> None:
    """Let a server read its configuration again."""
    os.kill(server.pid, signal.SIGHUP)


def write(path: str, text: str) -> None:
    """Write a file of a server's."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def resident(server: Server) -> float:
    """Bytes of memory that it has."""
    used = memory(server.pid)
    if used is None:
        raise Failed(f"process {server.pid} has ended")
    return used.resident


class Used:
    """What servers use of the CPU from now on."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._began = {server: process_cpu(server.pid) for server in servers}
        self._at = time.monotonic()

    def share(self, server: Server) -> float:
        """Cores, on average."""
        return (process_cpu(server.pid) - self._began[server]) / (time.monotonic() - self._at)
