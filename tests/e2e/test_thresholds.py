"""Thresholds from what was observed: by a real daemon, and by a real Prometheus that scrapes it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from exporter.config.schema import Config, parse
from tests.e2e.conftest import PROGRAM, Daemon, free_port
from tests.e2e.test_alerts import Prometheus
from tests.lab import LabProcess

pytestmark = [pytest.mark.lab, pytest.mark.e2e]


def proposed(lab: LabProcess, url: str) -> tuple[str, Config]:
    done = lab.run([*PROGRAM, "advise", "--thresholds", "--url", url])
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, parse(done.stdout.encode(), "thresholds.yml")


def upper(config: Config, measure: str) -> tuple[float | None, float | None]:
    warning, critical = config.thresholds[measure]
    return warning and warning.upper, critical and critical.upper


def test_a_daemon_and_a_prometheus_give_a_block_that_loads(lab: LabProcess, tmp_path: Path) -> None:
    lab.make({"established": 200})
    with (
        Daemon(tmp_path / "log", "--sample.interval", "200ms", lab=lab) as daemon,
        Prometheus(tmp_path, lab, daemon.ready().port, lasts="1s") as prometheus,
    ):
        text, config = proposed(lab, f"http://127.0.0.1:{daemon.port}")
        assert f" of the daemon at http://127.0.0.1:{daemon.port}.\n" in text
        assert 300 <= (upper(config, "established")[0] or 0) < 400
        assert "memory_ratio" in config.thresholds or "accept_queue_ratio" in config.thresholds
        (tmp_path / "thresholds.yml").write_text(text, encoding="utf-8")
        checked = lab.run([*PROGRAM, "check-config", f"{tmp_path}/thresholds.yml"])
        assert checked.returncode == 0, checked.stderr

        prometheus.wait_for_answer('tcp_connections_peak{state="established"} >= 200')
        text, config = proposed(lab, prometheus.url)
        assert f" of the Prometheus at {prometheus.url}, which scrapes 127.0.0.1:{daemon.port}.\n" in text
        assert 300 <= (upper(config, "established")[0] or 0) < 400


def test_what_is_neither_is_named(lab: LabProcess, tmp_path: Path) -> None:
    port = free_port(lab)
    done = lab.run([*PROGRAM, "advise", "--thresholds", "--url", f"http://127.0.0.1:{port}"])
    assert (done.returncode, "Connection refused" in done.stderr) == (2, True)
    web = lab.popen(
        ["python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path), str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={"PYTHONUNBUFFERED": "1", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    try:
        assert web.stdout is not None
        assert web.stdout.readline().startswith("Serving HTTP")
        done = lab.run([*PROGRAM, "advise", "--thresholds", "--url", f"http://127.0.0.1:{port}"])
    finally:
        web.kill()
        web.wait()
    assert (done.returncode, done.stdout) == (2, "")
    assert "neither a daemon of tcp-exporter, whose /api/v1/snapshot it has not, nor a Prometheus" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--url", "http://x"], "--url and its options work only with --thresholds"),
        (["--thresholds", "--url", "x"], "--url: expected an http or https URL, got 'x'"),
        (["--thresholds", "--url", "http://u:p@x"], "--url: expected no user and password in the URL"),
        (["--thresholds", "--what-if", "tcp_sack=0"], "--what-if cannot be combined with --sysctl-conf, "),
    ],
)
def test_a_command_line_that_means_nothing_is_refused(arguments: list[str], complaint: str) -> None:
    done = subprocess.run([*PROGRAM, "advise", *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, complaint in done.stderr) == (2, True), done.stderr
