"""The alerts for real: Prometheus with alerts.yml scrapes the daemon of a host in trouble, and out of it again."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import socket
import subprocess
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.tcpstate import BY_LABEL
from tests.e2e.conftest import DEADLINE, Daemon, free_port, get, wait_for
from tests.e2e.test_advice import FLOOD, FULL_QUEUE, hold
from tests.lab import KINDS, LabProcess

pytestmark = [pytest.mark.lab, pytest.mark.e2e]

ALERTS = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"
CONFIG = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [alerts.yml]
scrape_configs: [{{job_name: tcp-exporter, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]
"""


class Prometheus:
    """A Prometheus in the lab's namespace, with the rules as they are but for the time that a condition has to last."""

    def __init__(self, folder: Path, lab: LabProcess, target: int, lasts: str) -> None:
        program = shutil.which("prometheus")
        if program is None:
            pytest.skip("prometheus is not installed")
        self._port = free_port(lab)
        self._lab = lab
        self.url = f"http://127.0.0.1:{self._port}"
        rules, number = re.subn(r"(?m)^( +for:) .+$", rf"\1 {lasts}", ALERTS.read_text(encoding="utf-8"))
        assert number > 20
        (folder / "alerts.yml").write_text(rules, encoding="utf-8")
        (folder / "prometheus.yml").write_text(CONFIG.format(port=target), encoding="utf-8")
        with (folder / "prometheus.log").open("w") as log:
            self._server = lab.popen(
                [
                    program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.kill()
        self._server.wait()

    def _ask(self, path: str) -> Any:
        try:
            return json.loads(get(self._port, f"/api/v1/{path}", self._lab)[1])["data"]
        except (OSError, ValueError, KeyError):
            return {}  # it does not answer yet

    def alerts(self) -> dict[tuple[str, ...], str]:
        """The state of every alert that is pending or fires, by name and severity."""
        found: dict[tuple[str, ...], str] = {}
        for alert in self._ask("alerts").get("alerts", ()):
            labels = alert["labels"]
            found[labels["alertname"], labels["severity"]] = alert["state"]
        return found

    def of_the_host(self) -> set[tuple[str, ...]]:
        """The alerts that fire, without those on the exporter, which a slow machine may ask too late."""
        return {key for key, state in self.alerts().items() if state == "firing" and "Exporter" not in key[0]}

    def wait_for_answer(self, query: str) -> None:
        path = "query?" + urllib.parse.urlencode({"query": query})
        wait_for(lambda: self._ask(path).get("result") or None, query)

    def wait_until_scraped(self) -> None:
        self.wait_for_answer('tcp_threshold{measure="established",severity="critical"}')

    def wait_for_alert(self, *key: str, state: str = "firing") -> None:
        wait_for(lambda: self.alerts().get(key) == state or None, f"{key} to be {state}; there is {self.alerts()}")

    def wait_for_no_other(self, *keys: tuple[str, ...]) -> None:
        """Wait until those and no others fire: a scrape that a busy machine fails ends alerts for a moment."""
        wait_for(lambda: self.of_the_host() == set(keys) or None, f"{keys} alone; there is {self.alerts()}")

    def wait_for_end(self, *key: str) -> None:
        wait_for(lambda: key not in self.alerts() or None, f"the end of {key}")


def test_established_connections_cross_their_thresholds_and_come_back(lab: LabProcess, tmp_path: Path) -> None:
    with (
        Daemon(tmp_path / "log", "--sample.interval", "200ms", lab=lab) as daemon,
        Prometheus(tmp_path, lab, daemon.ready().port, lasts="1s") as prometheus,
    ):
        prometheus.wait_until_scraped()
        lab.establish(550)
        prometheus.wait_for_answer('tcp_connections{state="established"} >= 550')
        assert ("TcpEstablished", "warning") not in prometheus.alerts()
        lab.establish(100)
        prometheus.wait_for_alert("TcpEstablished", "warning")
        assert ("TcpEstablished", "critical") not in prometheus.alerts()
        lab.establish(200)
        prometheus.wait_for_alert("TcpEstablished", "critical")
        prometheus.wait_for_no_other(("TcpEstablished", "warning"), ("TcpEstablished", "critical"))
        lab.release()
        prometheus.wait_for_end("TcpEstablished", "critical")
        prometheus.wait_for_end("TcpEstablished", "warning")


def test_an_alert_is_pending_before_it_fires(lab: LabProcess, tmp_path: Path) -> None:
    with (
        Daemon(tmp_path / "log", "--sample.interval", "200ms", lab=lab) as daemon,
        Prometheus(tmp_path, lab, daemon.ready().port, lasts="1h") as prometheus,
    ):
        prometheus.wait_until_scraped()
        lab.establish(850)
        prometheus.wait_for_alert("TcpEstablished", "warning", state="pending")
        prometheus.wait_for_alert("TcpEstablished", "critical", state="pending")
        lab.release()
        prometheus.wait_for_end("TcpEstablished", "critical")


def test_a_full_accept_queue_alerts_and_not_as_a_flood(lab: LabProcess, tmp_path: Path) -> None:
    with (
        Daemon(tmp_path / "log", "--sample.interval", "200ms", lab=lab) as daemon,
        Prometheus(tmp_path, lab, daemon.ready().port, lasts="1s") as prometheus,
    ):
        prometheus.wait_until_scraped()
        application = hold(lab, FULL_QUEUE.format(backlog=16))
        prometheus.wait_for_alert("TcpAcceptQueueFull", "warning")
        prometheus.wait_for_alert("TcpAcceptQueueFull", "critical")
        prometheus.wait_for_no_other(("TcpAcceptQueueFull", "warning"), ("TcpAcceptQueueFull", "critical"))
        application.kill()
        prometheus.wait_for_end("TcpAcceptQueueFull", "critical")


def test_a_syn_flood_alerts_and_not_as_a_slow_application(lab: LabProcess, tmp_path: Path) -> None:
    lab.make({"listen": 1})
    with (
        Daemon(tmp_path / "log", "--sample.interval", "200ms", lab=lab) as daemon,
        Prometheus(tmp_path, lab, daemon.ready().port, lasts="1s") as prometheus,
    ):
        prometheus.wait_until_scraped()
        hold(lab, FLOOD)
        prometheus.wait_for_alert("TcpSynFlood", "warning")
        prometheus.wait_for_no_other(("TcpSynFlood", "warning"))


def test_an_exporter_that_has_gone_alerts(lab: LabProcess, tmp_path: Path) -> None:
    with (
        Daemon(tmp_path / "log", lab=lab) as daemon,
        Prometheus(tmp_path, lab, daemon.ready().port, lasts="1s") as prometheus,
    ):
        prometheus.wait_until_scraped()
        wait_for(lambda: not prometheus.alerts() or None, "the end of what was before the first scrape")
        daemon.terminate()
        prometheus.wait_for_alert("TcpExporterDown", "critical")
        wait_for(
            lambda: prometheus.alerts().keys() == {("TcpExporterDown", "critical")} or None, "nothing but its absence"
        )


def test_the_optional_rules_record_what_node_exporter_itself_says(lab: LabProcess, tmp_path: Path) -> None:
    program = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
    if program is None:
        pytest.skip("node_exporter is not installed")
    lab.make(dict.fromkeys(KINDS, 1))
    lab.make({"close_wait": 1, "established": 1}, socket.AF_INET6)
    port = free_port(lab)
    arguments = ["--collector.disable-defaults", "--collector.tcpstat", f"--web.listen-address=127.0.0.1:{port}"]
    with (tmp_path / "log").open("w") as log:
        node_exporter = lab.popen([program, *arguments], stdout=log, stderr=log)

    def page() -> str | None:
        with contextlib.suppress(OSError):
            return get(port, "/metrics", lab)[1]
        return None

    said = re.findall(r'node_tcp_connection_states\{state="(\w+)"\} (\S+)', wait_for(page, "node_exporter's page"))
    node_exporter.kill()
    theirs = {state: float(value) for state, value in said}
    ours = lab.expected() | {"rx_queued_bytes": 0, "tx_queued_bytes": 0}
    assert theirs.keys() == {state for state in ours if state != "close"}  # it leaves out what is 0
    steady = ["syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "close_wait", "last_ack", "closing"]
    assert {state: theirs[state] for state in steady} == {state: ours[state] for state in steady}
    (rule,) = yaml.safe_load((ALERTS.parent / "node-exporter-compat.yml").read_text(encoding="utf-8"))["groups"][0][
        "rules"
    ]
    assert rule["record"] == "node_tcp_connection_states"
    assert set(re.findall(r'"state", "(\w+)"', rule["expr"])) == theirs.keys() - set(BY_LABEL)


FIRING = (
    {"alertname": "TcpEstablished", "severity": "critical", "instance": "a"},
    {"alertname": "TcpEstablished", "severity": "warning", "instance": "a"},
    {"alertname": "TcpEstablished", "severity": "warning", "instance": "b"},
    {"alertname": "TcpThreshold", "severity": "critical", "instance": "a", "measure": "close_wait"},
    {"alertname": "TcpThreshold", "severity": "warning", "instance": "a", "measure": "close_wait"},
    {"alertname": "TcpThreshold", "severity": "warning", "instance": "a", "measure": "time_wait"},
    {"alertname": "TcpAcceptQueueFull", "severity": "critical", "instance": "a", "finding": "accept_queue_full"},
    {"alertname": "TcpAcceptQueueFull", "severity": "warning", "instance": "a", "finding": "accept_queue_full"},
    {"alertname": "TcpAcceptQueueFull", "severity": "warning", "instance": "b", "finding": "accept_queue_full"},
    {"alertname": "TcpSynFlood", "severity": "warning", "instance": "a", "finding": "syn_flood"},
    {"alertname": "TcpExporterStale", "severity": "critical", "instance": "a"},
    {"alertname": "TcpExporterSourceDown", "severity": "warning", "instance": "a", "source": "netlink"},
)
MUTED = (1, 4, 7, 11)  # of these


def test_a_real_alertmanager_mutes_what_follows_from_something_worse_on_the_same_host(tmp_path: Path) -> None:
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        pytest.skip("alertmanager is not installed")
    port = free_port()
    command = [
        program, f"--config.file={ALERTS.parent}/alertmanager.yml", f"--storage.path={tmp_path}",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    ]  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)

    def post() -> bool | None:
        alerts = [{"labels": {**labels, "job": "tcp-exporter"}} for labels in FIRING]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("POST", "/api/v2/alerts", json.dumps(alerts), {"Content-Type": "application/json"})
            return connection.getresponse().status == 200 or None
        return None

    def states() -> list[str] | None:
        found = {}
        for alert in json.loads(get(port, "/api/v2/alerts")[1]):
            labels = tuple(sorted((name, value) for name, value in alert["labels"].items() if name != "job"))
            found[labels] = alert["status"]["state"]
        answer = [found.get(tuple(sorted(labels.items())), "unknown") for labels in FIRING]
        return None if {"unknown", "unprocessed"} & set(answer) else answer

    try:
        wait_for(post, "Alertmanager to take alerts")
        expected = ["suppressed" if number in MUTED else "active" for number in range(len(FIRING))]
        wait_for(lambda: states() == expected or None, f"{len(MUTED)} of the alerts to be muted")
    finally:
        server.kill()
        server.wait()
