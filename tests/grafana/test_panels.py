"""Every panel has data: its expressions run against a real Prometheus that scrapes real daemons, as Grafana would ask.

One daemon is in the lab, where sockets are in every state, a queue overflows, thresholds are exceeded and two sysctls
are off; one is on this host, which alone has the limits of a whole host; one hangs at a source; and one target is down.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.conftest import situation_root
from tests.e2e.conftest import DEADLINE, Daemon, free_port, get, wait_for
from tests.grafana.promql import substituted
from tests.grafana.test_dashboards import NAMES, RULES, children, load, panels, text
from tests.lab import KINDS, LabProcess, LabUnavailable

pytestmark = [pytest.mark.lab, pytest.mark.e2e]

JOB = "tcp-exporter"
WINDOW = "30s"
PORT_RANGE = "net.ipv4.ip_local_port_range"
OF_A_WHOLE_HOST = ("tcp_memory_limit_bytes", 'name="tcp_max_orphans"')
"""What a namespace of its own does not have, so the lab's daemon neither."""
A_WHOLE_HOST = Path("/proc/sys/net/ipv4/tcp_mem").exists()

NOT_YET = "Full soonest"
"""Its forecast needs a daemon that has run for 20 minutes."""

CONFIGURATION = """
detail: {interval: 1s, closes: true}
thresholds:
  established: {warning: 1, critical: 2}
  close_wait: {warning: 0, critical: 1000}
  time_wait: {warning: 10000, critical: 20000}
  syn_recv: {warning: 100, critical: 1000}
  orphans_ratio: {warning: 0.5}
sysctl: {expected: {net.ipv4.ip_local_port_range: 32768 60999}}
"""
"""CRITICAL, WARNING, twice OK, and UNKNOWN: the lab has no tcp_max_orphans."""

ON_HOST = """
thresholds:
  established: {warning: 10000000, critical: 20000000}
  listen: {warning: 0}
"""
"""WARNING, because the daemon itself listens."""

OVERFLOW = """
import socket, time
server = socket.socket()
server.bind(("127.0.0.1", 8080))
server.listen(1)
ends = [socket.create_connection(("127.0.0.1", 8080)) for _ in range(2)]
while True:
    with socket.socket() as refused:
        refused.setblocking(False)
        refused.connect_ex(("127.0.0.1", 8080))
        time.sleep(0.2)
"""
"""An application that does not accept, and clients that come nevertheless, five a second."""


CLOSING = """
import socket, time
server = socket.create_server(("127.0.0.1", 8081))
while True:
    with socket.create_connection(("127.0.0.1", 8081)) as client:
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"question")
            accepted.recv(8)
            accepted.sendall(b"answer")
            client.recv(6)
    time.sleep(0.2)
"""
"""A service whose connections end, five a second."""


class Row(NamedTuple):
    """A series of a result: its labels and its last value."""

    labels: dict[str, str]
    value: float


class Prometheus:
    """A real Prometheus in the lab's namespace, and the addresses of what it scrapes."""

    def __init__(self, lab: LabProcess, port: int, in_lab: str, on_host: str, hanging: str, down: str) -> None:
        self._lab, self._port = lab, port
        self.in_lab, self.on_host, self.hanging, self.down = in_lab, on_host, hanging, down

    def sysctl(self, name: str, value: int) -> None:
        """Set a sysctl of the lab."""
        self._lab.sysctl(name, value)

    def ask(self, expression: str, *, over_time: bool = False) -> list[Row]:
        """What Prometheus answers now, or over the last seconds; nothing while it is not there."""
        results = self.series(expression, time.time(), 20 if over_time else 0)
        return [Row(it["metric"], float((it["values"][-1] if over_time else it["value"])[1])) for it in results]

    def series(self, expression: str, until: float, seconds: float = 0) -> list[dict[str, Any]]:
        """The series as Prometheus writes them: at a time, or over the *seconds* before it."""
        times = {"start": until - seconds, "end": until, "step": 2} if seconds else {"time": until}
        question = urllib.parse.urlencode({"query": expression, **times})
        path = f"/api/v1/query{'_range' if seconds else ''}?{question}"
        try:
            status, answer = get(self._port, path, self._lab)
        except OSError:
            return []
        if status == 503:
            return []
        assert status == 200, f"{expression}: {answer}"
        found: list[dict[str, Any]] = json.loads(answer)["data"]["result"]
        return found


@contextlib.contextmanager
def relayed(lab: LabProcess, port: int) -> Iterator[int]:
    """A port in the lab's namespace that hands GETs on to *port* of this one."""

    class Relay(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
            with contextlib.closing(connection):
                connection.request("GET", self.path, headers={"Accept": self.headers["Accept"]})
                answer = connection.getresponse()
                page = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Relay, bind_and_activate=False)
    server.socket.close()
    server.socket = lab.socket()
    server.socket.bind(("127.0.0.1", 0))
    server.server_activate()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def hanging_procfs(folder: Path) -> str:
    """A procfs whose netstat is a pipe that nobody writes to: reading it takes for ever."""
    root = folder / "proc"
    shutil.copytree(situation_root("quiet"), root)
    (root / "net" / "netstat").unlink()
    os.mkfifo(root / "net" / "netstat")
    return str(root)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    try:
        with scraped_lab(tmp_path_factory.mktemp("grafana")) as server:
            yield server
    except LabUnavailable as error:
        pytest.skip(str(error))


@contextlib.contextmanager
def scraped_lab(folder: Path) -> Iterator[Prometheus]:
    """The lab, its daemons and a Prometheus that has scraped them; their files are in *folder*."""
    program = shutil.which("prometheus")
    if program is None:
        raise LabUnavailable("prometheus is not installed")
    with contextlib.ExitStack() as running:
        lab = running.enter_context(LabProcess())
        lab.sysctl("net.ipv4.tcp_syn_retries", 1)
        lab.sysctl(PORT_RANGE, "40000 60999")
        for family in (socket.AF_INET, socket.AF_INET6):
            lab.make(dict.fromkeys(KINDS, 3), family)
        lab.popen([sys.executable, "-c", OVERFLOW], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lab.popen([sys.executable, "-c", CLOSING], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (folder / "exporter.yml").write_text(CONFIGURATION)
        in_lab = running.enter_context(
            Daemon(folder / "in-lab.log", "--config.file", str(folder / "exporter.yml"), lab=lab)
        )
        hanging = running.enter_context(
            Daemon(folder / "hanging.log", "--path.procfs", hanging_procfs(folder), lab=lab)
        )
        (folder / "on-host.yml").write_text(ON_HOST)
        on_host = running.enter_context(Daemon(folder / "on-host.log", "--config.file", str(folder / "on-host.yml")))
        relay = running.enter_context(relayed(lab, on_host.port))
        targets = [f"127.0.0.1:{port}" for port in (in_lab.port, relay, hanging.port, free_port(lab))]
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES), str(folder / "alerts.yml")],
            "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": targets}]}],
        }
        alerts = (RULES.parent / "alerts.yml").read_text(encoding="utf-8")
        (folder / "alerts.yml").write_text(re.sub(r"(?m)^( +for:) .+$", r"\1 1s", alerts), encoding="utf-8")
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        port = free_port(lab)
        command = [
            program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        with (folder / "prometheus.log").open("w") as log:
            lab.popen(command, stdout=subprocess.DEVNULL, stderr=log)
        server = Prometheus(lab, port, *targets)

        def scraped() -> bool | None:
            rows = server.ask(f"count_over_time(tcp_ephemeral_ports_available[{WINDOW}]) > 2")
            return len(rows) == 2 or None

        wait_for(scraped, "both daemons to be scraped three times, their detail passes too")
        yield server


EVERY_PANEL = [(name, text(panel, "title")) for name in NAMES for panel in panels(name)]


@pytest.mark.parametrize(("name", "title"), EVERY_PANEL)
def test_every_panel_has_data(prometheus: Prometheus, name: str, title: str) -> None:
    (panel,) = [it for it in panels(name) if it["title"] == title]
    shown: list[set[str]] = []  # the labels of each target's series
    for target in children(panel, "targets"):
        expression = text(target, "expr")
        of_a_host = any(metric in expression for metric in OF_A_WHOLE_HOST)
        instance = re.escape(prometheus.on_host if of_a_host else prometheus.in_lab).replace("\\", "\\\\")
        sent = substituted(expression, job=JOB, instance=instance, window=WINDOW, sysctl=PORT_RANGE)
        if of_a_host and not A_WHOLE_HOST:
            assert prometheus.ask(sent) == []  # and the test needs a machine that is not a container
            continue
        if title == NOT_YET:
            assert prometheus.ask(sent) == []
            continue
        over_time = target["range"] is True
        rows = wait_for(lambda: prometheus.ask(sent, over_time=over_time) or None, f"{title}: {sent}")  # noqa: B023 - at once
        shown.append(set().union(*(row.labels for row in rows)))
        for row in rows:
            assert not math.isnan(row.value), f"{sent} {row.labels}"
            legend = set(re.findall(r"\{\{(\w+)\}\}", text(target, "legendFormat")))
            assert legend <= set(row.labels), sent
    if panel["type"] == "table" and shown:
        assert {field for field in fields(panel) if not field.startswith("Value")} <= shown[0]
        assert all(labels == shown[0] for labels in shown), "rows become one where all their labels are the same"
        values = {field for field in fields(panel) if field.startswith("Value")}
        references = {f"Value #{target['refId']}" for target in children(panel, "targets")}
        assert values <= (references if len(references) > 1 else {"Value"})


def test_the_annotations_mark_what_happened_on_the_host(prometheus: Prometheus) -> None:
    instance = re.escape(prometheus.in_lab).replace("\\", "\\\\")

    def marked(annotation: str) -> set[tuple[str, ...]]:
        """What the annotation has marked so far, by the labels of its text."""
        (it,) = [it for it in children(load("tcp-host.json"), "annotations", "list") if it["name"] == annotation]
        expression = substituted(text(it, "expr"), job=JOB, instance=instance)
        named = re.findall(r"\{\{(\w+)\}\}", text(it, "textFormat"))
        rows = prometheus.ask(f"count_over_time(({expression})[10m:1s])")
        return {tuple(row.labels.get(label, "") for label in named) for row in rows}

    prometheus.sysctl("net.ipv4.tcp_fin_timeout", 59)
    wait_for(lambda: ("tcp_fin_timeout", "") in marked("Sysctl changed") or None, "the change to be marked")
    wait_for(lambda: ("accept_queue_full",) in marked("Finding appeared") or None, "the finding to be marked")
    assert marked("Exporter restarted") == set()


def fields(panel: dict[str, object]) -> list[str]:
    """The columns of a table as the data source names them."""
    (kept,) = [it for it in children(panel, "transformations") if it["id"] == "filterFieldsByName"]
    names = kept["options"]["include"]["names"]  # type: ignore[index] # of JSON
    assert isinstance(names, list)
    return names


def answer(prometheus: Prometheus, name: str, title: str, reference: str = "A") -> list[Row]:
    """What one target of a panel says of the lab's host now."""
    (panel,) = [it for it in panels(name) if it["title"] == title]
    (target,) = [it for it in children(panel, "targets") if it["refId"] == reference]
    instance = re.escape(prometheus.in_lab).replace("\\", "\\\\")
    return prometheus.ask(substituted(text(target, "expr"), job=JOB, instance=instance, window=WINDOW))


def test_an_accept_queue_that_overflows_shows_on_the_hosts_page(prometheus: Prometheus) -> None:
    def overflows() -> bool | None:
        rows = answer(prometheus, "tcp-host.json", "Overflows and drops at listeners")[:1]
        return any(row.value > 0 for row in rows) or None

    def fullness() -> list[float]:
        full = answer(prometheus, "tcp-host.json", "Listeners and their limits", "D")
        return [row.value for row in full if row.labels["port"] == "8080"]

    wait_for(overflows, "overflows a second above 0")
    wait_for(lambda: fullness() == [1.0] or None, "a queue that is full")


def test_the_sysctls_that_are_off_are_in_the_table(prometheus: Prometheus) -> None:
    """Beside those that this kernel may have off in every new namespace."""
    one, other = (PORT_RANGE, "low"), ("tcp_syn_retries", "")
    expected = [{one: 1, other: 1}, {one: 40000, other: 1}, {one: 32768, other: 2}]

    def columns() -> list[dict[tuple[str, str], float]]:
        return [
            {
                key: row.value
                for row in answer(prometheus, "tcp-host.json", "Sysctls that deviate", reference)
                if (key := (row.labels["name"], row.labels.get("field", ""))) in {one, other}
            }
            for reference in "ABC"
        ]

    wait_for(lambda: columns() == expected or None, f"{expected}; there is {columns()}")


def test_the_fleets_numbers_are_those_of_four_hosts_of_which_one_is_down_and_one_hangs(prometheus: Prometheus) -> None:
    expected = {"Hosts": 4, "Down": 1, "Stale": 1, "Degraded": 1}

    def numbers() -> dict[str, float]:
        return {title: row.value for title in expected for row in answer(prometheus, "tcp-fleet.json", title)}

    wait_for(lambda: numbers() == expected or None, f"{expected}")


def test_each_host_counts_once_under_its_status(prometheus: Prometheus) -> None:
    """The lab's is CRITICAL, the one that hangs UNKNOWN, and this machine's WARNING unless it is in real trouble."""
    order = ("Critical", "Warning", "Unknown")

    def numbers() -> list[float]:
        return [row.value for title in order for row in answer(prometheus, "tcp-fleet.json", title)]

    expected = ([1, 1, 1], [2, 0, 1])
    wait_for(lambda: numbers() in expected or None, f"one of {expected}; there is {numbers()}")


def test_what_does_not_tell_all_is_named_with_its_problem(prometheus: Prometheus) -> None:
    def problems() -> list[str]:
        rows = answer(prometheus, "tcp-fleet.json", "Exporters that do not tell all")
        return sorted(
            f"{row.labels['problem']} {row.labels['instance']}".removesuffix(f" {prometheus.down}") for row in rows
        )

    expected = [f"cannot read netstat {prometheus.hanging}", "down", f"stale {prometheus.hanging}"]
    wait_for(lambda: problems() == expected or None, f"{expected}; there is {problems()}")


def test_the_worst_verdict_is_first_and_names_its_host(prometheus: Prometheus) -> None:
    def said() -> list[tuple[float, str]]:
        rows = answer(prometheus, "tcp-fleet.json", "Worst hosts")
        judged = ((row.value, row.labels["instance"]) for row in rows)
        return sorted((it for it in judged if it[1] != prometheus.on_host), reverse=True)

    expected = [(3, prometheus.in_lab), (1, prometheus.hanging)]
    wait_for(lambda: said() == expected or None, f"{expected}; there is {said()}")
