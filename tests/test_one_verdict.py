"""One verdict: in each situation the page, the metrics, the JSON, the plugin, ``advise`` and the alerts say the same.

Each consumer renders for real what ``health`` concluded once; the plugin asks over HTTP, and promtool runs the alerts.
``tests/situations`` has the same question for situations that are provoked.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from exporter.daemon.daemon import page_assets
from exporter.document import write
from exporter.health.finding import runbook_of
from exporter.health.findings import BY_NAME
from exporter.health.judge import Health
from exporter.health.thresholds import SEVERITY, Range, Status, Threshold
from exporter.nagios import check
from exporter.prometheus.families import View
from exporter.sampling.sample import Sample
from exporter.snapshot import Listener, Snapshot
from exporter.terminal import report
from exporter.web.app import application
from exporter.web.current import Current
from exporter.web.http import Request
from tests.conftest import SITUATIONS, judge_situation, judged, sample_situation
from tests.test_alerts import RULES, firing, severities_of
from tests.test_deploy import installed, run
from tests.test_docs import everything


class Case(NamedTuple):
    """A sample and the thresholds that it was judged by."""

    snapshot: Snapshot
    health: Health
    thresholds: dict[str, Threshold]


def full_accept_queue() -> Case:
    """A listener whose queue is full, and which drops."""
    snapshot = everything().snapshot
    full = Listener(
        "0.0.0.0", 443, sockets=1, accept_queue=17, accept_limit=16, syn_recv=1, fullest_queue=17, fullest_limit=16
    )

    def after(overflows: int, ago: float) -> Snapshot:
        dropped = {"TcpExt.ListenOverflows": overflows, "TcpExt.ListenDrops": overflows}
        counters = {**snapshot.counters, **dropped}
        return snapshot._replace(listeners=(full,), counters=counters, taken_at=snapshot.taken_at - ago)

    *past, now = (after(2000 * step, 30.0 - 10 * step) for step in range(4))
    return Case(now, judged(now, *past), {})


def crossed_threshold() -> Case:
    """Nothing is wrong but a number of the configuration."""
    snapshot = everything().snapshot
    thresholds = {"listen": Threshold(Range.parse("1000:"), None)}
    before = snapshot._replace(taken_at=snapshot.taken_at - 10)
    return Case(snapshot, judged(snapshot, before, thresholds=thresholds), thresholds)


def first_sample() -> Case:
    """A daemon that has just started: rates are not known."""
    snapshot = everything().snapshot
    return Case(snapshot, judged(snapshot), {})


MADE: dict[str, Callable[[], Case]] = {
    "full accept queue": full_accept_queue,
    "crossed threshold": crossed_threshold,
    "first sample": first_sample,
}


@pytest.fixture(params=[*SITUATIONS, *MADE])
def case(request: pytest.FixtureRequest) -> Case:
    if request.param in MADE:
        return MADE[request.param]()
    health = judge_situation(request.param)
    return Case(sample_situation(request.param), health, {it.measure: it.threshold for it in health.results})


class Consumers:
    """What a daemon with this sample answers."""

    def __init__(self, case: Case) -> None:
        sample = Sample.single(case.snapshot, case.health)._replace(stale_after=3.0)
        at = Current(sample, View(case.thresholds, python="3.11.0"), 0.5, "/metrics", "host.example")
        self.handler = application(lambda: at, page_assets())

    def get(self, path: str) -> str:
        return self.handler(Request("GET", path, "", {})).body.decode()

    @property
    def page(self) -> str:
        """The word at the top, which is in the tab's title too."""
        page = self.get("/")
        (title,), (word,) = re.findall(r"<title>(\w+) - ", page), re.findall(r'<span id="status">(\w+)</span>', page)
        assert title == word
        return str(word)

    @property
    def host_status(self) -> str:
        (value,) = re.findall(r"(?m)^tcp_host_status (\d)", self.get("/metrics"))
        return Status(int(value)).name

    @property
    def finding_statuses(self) -> dict[str, int]:
        found = re.findall(r'(?m)^tcp_finding_status\{finding="(\w+)"\} (\d)', self.get("/metrics"))
        return {name: int(value) for name, value in found}

    @contextlib.contextmanager
    def served(self) -> Iterator[str]:
        """The address at which the answers are to be had."""
        consumers = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = consumers.get(self.path).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Stay silent."""

        with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()
                thread.join()


def test_page_metrics_json_and_plugin_have_the_status_of_the_host(case: Case) -> None:
    consumers, status = Consumers(case), case.health.status
    document = json.loads(consumers.get("/api/v1/snapshot"))
    advised = write.advised(case.health, "6.18.44", case.snapshot.taken_at, [], everything=False)
    with consumers.served() as url:
        code, said = check.run(["--url", url, "-s", "all"])
    assert {
        "page": consumers.page,
        "metrics": consumers.host_status,
        "json": document["health"]["status"],
        "advise": advised["status"],
        "plugin": Status(code).name,
    } == dict.fromkeys(("page", "metrics", "json", "advise", "plugin"), status.name), said
    assert said.startswith(f"TCP STATES {status.name}: ")


def test_every_consumer_has_the_same_findings(case: Case) -> None:
    consumers, health = Consumers(case), case.health
    expected = {it.name: it.status for it in health.judgements}
    document = json.loads(consumers.get("/api/v1/snapshot"))
    assert {it["finding"]: Status[it["status"]] for it in document["health"]["findings"]} == expected
    assert {name: Status(value) for name, value in consumers.finding_statuses.items()} == expected
    found = {it.name for it in health.findings}
    assert set(re.findall(r'<article id="finding-(\w+)"', consumers.get("/"))) == found
    text = report.render(health, [], 100, everything=False, color=False)
    assert [it for it in health.findings if f"/runbooks/{it.runbook} of the daemon" not in text] == []
    with consumers.served() as url:
        code, said = check.run(["--url", url, "-s", "findings", "-v"])
    assert Status(code) is max(expected.values(), key=SEVERITY.index)
    assert set(re.findall(r"(?m)^(?:WARNING|CRITICAL) (\w+): ", said)) == found


@pytest.mark.e2e
def test_the_alerts_that_fire_are_those_of_the_findings(case: Case, tmp_path: Path) -> None:
    statuses = Consumers(case).finding_statuses
    checks = []
    for name, value in statuses.items():
        status, rule = Status(value), BY_NAME[name]
        fires = {Status.WARNING: ["warning"], Status.CRITICAL: severities_of(rule)}.get(status, [])
        expected = [firing(rule, severity, status.name) for severity in fires]
        checks.append({"alertname": runbook_of(name), "eval_time": "10m", "exp_alerts": expected})
    series = []
    for name, value in statuses.items():
        labels = f'job="tcp-exporter",instance="a:19293",finding="{name}"'
        series.append({"series": f"tcp_finding_status{{{labels}}}", "values": f"{value}+0x19"})
    test = {"interval": "1m", "input_series": series, "alert_rule_test": checks}
    document = {"rule_files": [str(RULES / "alerts.yml")], "evaluation_interval": "1m", "tests": [test]}
    path = tmp_path / "case.yml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    code, said = run(installed("promtool"), "test", "rules", str(path))
    assert code == 0, said


def test_the_cases_have_every_status() -> None:
    """Else agreement would say little."""
    health = [judge_situation(name) for name in SITUATIONS] + [make().health for make in MADE.values()]
    assert {it.status for it in health} == set(Status)
