"""A full accept queue as the plugin sees it: locally, through a real NRPE and from the daemon, which agree."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter.health.thresholds import Status
from tests.e2e.conftest import PLUGIN, Daemon, wait_for
from tests.e2e.test_advice import FULL, FULL_QUEUE, STANDING_QUEUE, hold
from tests.e2e.test_nagios import CHECK_NRPE, PORT, WAIT, folder, plugins, running_daemon, running_nrpe
from tests.lab import LabProcess

__all__ = ["folder", "plugins"]  # fixtures

Answer = tuple[int, str]
"""Exit code, and everything that the plugin prints."""

URL = ("--url", f"http://127.0.0.1:{PORT}")

pytestmark = [pytest.mark.lab, pytest.mark.e2e]


def plugin(lab: LabProcess, *arguments: str) -> Answer:
    done = lab.run([*PLUGIN, *arguments])
    assert done.stderr == ""
    return done.returncode, done.stdout


def by_nrpe(lab: LabProcess, command: str) -> Answer:
    done = lab.run([CHECK_NRPE, "-H", "127.0.0.1", "-t", "30:UNKNOWN", "-c", command])
    return done.returncode, done.stdout


def until(severity: Status, answer: Callable[[], Answer]) -> str:
    """The first answer of that severity; its exit code is the severity's."""
    last: list[Answer] = []

    def found() -> str | None:
        code, text = answer()
        last[:] = [(code, text)]
        return text if text.startswith(f"TCP STATES {severity.name}: ") and code == severity.value else None

    try:
        return wait_for(found, severity.name, WAIT)
    except AssertionError as error:
        raise AssertionError(f"{error}: the last answer was {last}") from None


def first_line(text: str) -> str:
    """Without the performance data."""
    return text.partition("\n")[0].partition(" | ")[0]


@pytest.fixture
def daemon(lab: LabProcess, tmp_path: Path) -> Iterator[Daemon]:
    with running_daemon(lab, tmp_path, fin_timeout=60) as daemon:
        yield daemon


def consumers(lab: LabProcess, daemon: Daemon) -> set[str]:
    """What everything that shows a verdict says at about the same time; one name where all agree."""
    status, page = daemon.get("/")
    assert status == 200
    word = re.search(r'<span id="status">(\w+)</span>', page)
    assert word is not None
    _, asked = plugin(lab, *URL, "-s", "all")
    _, local = plugin(lab, "-s", "all")
    return {
        word[1],
        Status(int(daemon.metrics()["tcp_host_status"])).name,
        asked.split()[2].rstrip(":"),
        local.split()[2].rstrip(":"),
    }


def agree(lab: LabProcess, daemon: Daemon, severity: Status) -> None:
    """Wait until page, metric and plugin say *severity*: each looks at a moment of its own."""
    seen: list[set[str]] = []

    def found() -> bool | None:
        seen.append(consumers(lab, daemon))
        return seen[-1] == {severity.name} or None

    try:
        wait_for(found, severity.name, WAIT)
    except AssertionError as error:
        raise AssertionError(f"{error}: {seen[-5:]}") from None


def test_a_queue_that_stands_full_is_a_warning_everywhere(lab: LabProcess, daemon: Daemon) -> None:
    agree(lab, daemon, Status.OK)
    assert first_line(plugin(lab, "-s", "findings")[1]).startswith("TCP STATES OK: no findings among accept queues, ")
    hold(lab, STANDING_QUEUE.format(backlog=16))
    agree(lab, daemon, Status.WARNING)
    asked, local = plugin(lab, *URL, "-s", "findings"), plugin(lab, "-s", "findings")
    assert (local[0], first_line(local[1])) == (asked[0], first_line(asked[1]))
    assert (local[0], local[1].startswith(f"TCP STATES WARNING: findings 1 ({FULL}")) == (1, True)
    assert " | findings=1;;;0; established=" in local[1]
    # Measures beside the findings: the worst of all is the answer's.
    code, text = plugin(lab, "-s", "findings", "-s", "listen", "-c", "0")
    said = re.fullmatch(r"TCP STATES CRITICAL: listen \d+ \(> 0\), findings 1 \((.+)\)", first_line(text))
    assert (code, said and said[1].startswith(FULL)) == (2, True)


def test_a_queue_that_drops_is_critical_everywhere_and_v_says_what_to_do(
    lab: LabProcess, daemon: Daemon, folder: Path, plugins: Path
) -> None:
    with running_nrpe(lab, folder, plugins):
        for command in ("check_tcp_findings", "check_tcp_health", "check_tcp_all"):
            until(Status.OK, lambda command=command: by_nrpe(lab, command))  # type: ignore[misc]  # its type is that of the default
        hold(lab, FULL_QUEUE.format(backlog=16))
        said = set()
        for answer in (
            lambda: by_nrpe(lab, "check_tcp_findings"),
            lambda: by_nrpe(lab, "check_tcp_health"),
            lambda: by_nrpe(lab, "check_tcp_all"),
            lambda: plugin(lab, "-v", "-s", "findings"),
            lambda: plugin(lab, *URL, "-v", "-s", "findings"),
        ):
            text = until(Status.CRITICAL, answer)
            said.add(first_line(text))
            head, evidence, remedy, command, runbook, *_ = text.splitlines()[1:]
            assert head.startswith(f"CRITICAL accept_queue_full: {FULL}")
            assert evidence.startswith("evidence: 17 connections wait in the accept queue of 127.0.0.1:8080, ")
            assert remedy.startswith("remedy: ")
            assert command.startswith("command: ")
            assert runbook == "runbook: /runbooks/TcpAcceptQueueFull of the daemon"
        (line,) = said  # all the same
        assert line.startswith(f"TCP STATES CRITICAL: findings 1 ({FULL}")
        agree(lab, daemon, Status.CRITICAL)


def test_under_nrpe_the_thresholds_are_those_of_the_daemons_file(
    lab: LabProcess, folder: Path, plugins: Path, anyones_python: str
) -> None:
    file = folder / "tcp-exporter.yml"
    with running_nrpe(lab, folder, plugins, daemons_file=file):
        assert first_line(until(Status.OK, lambda: by_nrpe(lab, "check_tcp_states"))).startswith(
            "TCP STATES OK: established "
        )
        file.write_text("thresholds: {listen: {critical: 0}}\n")
        expected = "TCP STATES CRITICAL: listen 1 (> 0)"
        assert first_line(until(Status.CRITICAL, lambda: by_nrpe(lab, "check_tcp_states"))) == expected
        assert first_line(until(Status.CRITICAL, lambda: by_nrpe(lab, "check_tcp_all"))) == expected
        file.chmod(0o600)
        refused = f"TCP STATES UNKNOWN: {file}: cannot be read: Permission denied"
        assert first_line(until(Status.UNKNOWN, lambda: by_nrpe(lab, "check_tcp_states"))) == refused


def test_a_deadline_holds_while_the_findings_wait_for_their_second_sample(lab: LabProcess) -> None:
    script = (
        "import time; time.sleep = lambda _, wait=time.sleep: wait(60); from exporter.nagios.check import main; main()"
    )
    command = [PLUGIN[0], "-c", script, "-s", "findings", "-t", "1:critical"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT)
    assert (done.returncode, done.stdout) == (2, "TCP STATES CRITICAL: no answer within 1 s\n")
