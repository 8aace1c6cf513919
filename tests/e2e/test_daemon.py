"""The real daemon: what it serves, and what it does when its sources, its configuration or its place are broken."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest

from exporter.tcpstate import KNOWN_STATES
from tests.conftest import situation_root
from tests.e2e.conftest import DEADLINE, PROGRAM, Daemon, by_state, free_port, get, wait_for
from tests.lab import LabProcess

SYSCTLS_THAT_A_NAMESPACE_HAS_NOT = {"tcp_mem", "tcp_max_orphans", "tcp_low_latency", "tcp_available_ulp"}


@pytest.mark.lab
def test_it_serves_exactly_the_sockets_that_were_made(populated: LabProcess, tmp_path: Path) -> None:
    with Daemon(tmp_path / "log", "--sample.interval", "100ms", lab=populated) as daemon:
        daemon.ready()
        expected = populated.expected()
        expected["listen"] += 1  # the daemon's own
        others = {state: number for state, number in expected.items() if state not in {"established", "time_wait"}}

        def settled() -> dict[str, int] | None:
            # A sample may meet an earlier request of this test on its way through FIN_WAIT1 and CLOSE_WAIT.
            counts = by_state(daemon.metrics())
            return counts if {state: counts[state] for state in others} == others else None

        counts = wait_for(settled, f"a sample with {others}")
        # The daemon's own traffic: what asked before may be in TIME_WAIT, what asks now is there with both its ends.
        assert counts["established"] - expected["established"] in {0, 2}
        assert counts["time_wait"] >= expected["time_wait"]
        metrics = daemon.metrics()
        assert metrics["tcp_exporter_sample_derived"] == 1
        assert metrics['tcp_exporter_reader_info{reader="netlink"}'] == 1


@pytest.mark.lab
def test_a_burst_between_two_scrapes_is_in_the_peak(lab: LabProcess, tmp_path: Path) -> None:
    with Daemon(tmp_path / "log", "--sample.interval", "100ms", lab=lab) as daemon:
        daemon.ready()
        lab.establish(500)
        wait_for(lambda: by_state(daemon.metrics())["established"] >= 500 or None, "the burst")
        lab.release()
        wait_for(lambda: by_state(daemon.metrics())["established"] < 500 or None, "its end")
        assert by_state(daemon.metrics(), "tcp_connections_peak")["established"] >= 500


@pytest.mark.lab
def test_a_child_namespace_has_fewer_sysctls_and_no_memory_limit(lab: LabProcess, tmp_path: Path) -> None:
    with Daemon(tmp_path / "log", lab=lab) as daemon:
        metrics = daemon.ready().metrics()
        assert [series for series in metrics if any(f'"{n}"' in series for n in SYSCTLS_THAT_A_NAMESPACE_HAS_NOT)] == []
        assert [series for series in metrics if series.startswith("tcp_memory_limit_bytes")] == []
        assert metrics['tcp_sysctl_value{field="",name="tcp_fin_timeout",unit="seconds"}'] == 60
        assert metrics['tcp_exporter_source_up{source="sysctl"}'] == 1


@pytest.mark.lab
@pytest.mark.e2e
def test_a_real_prometheus_scrapes_counts_and_sysctls(populated: LabProcess, tmp_path: Path) -> None:
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("prometheus is not installed")
    port = free_port(populated)
    with Daemon(tmp_path / "log", lab=populated) as daemon:
        daemon.ready()
        (tmp_path / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s}\n"
            f"scrape_configs: [{{job_name: tcp, static_configs: [{{targets: ['127.0.0.1:{daemon.port}']}}]}}]\n"
        )
        command = [
            prometheus, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        with (tmp_path / "prometheus.log").open("w") as log:
            server = populated.popen(command, stdout=subprocess.DEVNULL, stderr=log)
        try:

            def query(expression: str) -> dict[str, float]:
                try:
                    path = "/api/v1/query?" + urllib.parse.urlencode({"query": expression})
                    result = json.loads(get(port, path, populated)[1])["data"]["result"]
                except (OSError, ValueError, KeyError):
                    return {}
                labels = ("state", "field")
                return {
                    next((r["metric"][label] for label in labels if label in r["metric"]), ""): float(r["value"][1])
                    for r in result
                }

            wait_for(lambda: query('up{job="tcp"}').get("") == 1 or None, "the first scrape")
            counts = wait_for(lambda: query("tcp_connections") or None, "tcp_connections")
            assert sorted(counts) == sorted(state.label for state in KNOWN_STATES)
            expected = populated.expected()
            steady = ["syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "close_wait", "last_ack", "closing"]
            assert {state: counts[state] for state in steady} == {state: expected[state] for state in steady}
            assert query('tcp_sysctl_value{name="tcp_rmem"}').keys() == {"min", "default", "max"}
            assert query('tcp_sysctl_value{name="tcp_fin_timeout"}') == {"": 60}
        finally:
            server.kill()
            server.wait()


def test_file_descriptors_do_not_grow_over_scrapes(tmp_path: Path) -> None:
    with Daemon(tmp_path / "log", "--sample.interval", "100ms") as daemon:
        daemon.ready().metrics()
        folder = Path(f"/proc/{daemon.process.pid}/fd")
        taken = daemon.metrics()['tcp_exporter_samples_total{pass="light"}']

        def steady() -> int | None:
            number = len(list(folder.iterdir()))
            return number if number <= before else None

        before = len(list(folder.iterdir())) + 1  # the next request's connection may not be closed yet
        for path in ["/metrics", "/", "/api/v1/snapshot", "/-/ready", "/nowhere"] * 40:
            daemon.get(path)
        wait_for(steady, "the descriptors to be as many as before")
        enough = taken + 5
        wait_for(lambda: daemon.metrics()['tcp_exporter_samples_total{pass="light"}'] > enough or None, "more samples")
        wait_for(steady, "the descriptors to be as many as before")


def test_every_endpoint_answers_as_documented(tmp_path: Path) -> None:
    with Daemon(tmp_path / "log", "--path.procfs", situation_root("busy")) as daemon:
        daemon.ready()
        assert daemon.get("/-/healthy") == (200, "TCP exporter is healthy.\n")
        assert daemon.get("/-/ready") == (200, "TCP exporter is ready.\n")
        assert daemon.get("/nowhere") == (404, "Not Found\n")
        assert daemon.get("/metrics/")[0] == 404
        status, page = daemon.get("/")
        assert (status, ">656<" in page, 'href="./metrics"' in page) == (200, True, True)
        status, text = daemon.get("/api/v1/snapshot")
        document = json.loads(text)
        assert (status, document["api_version"], document["connections"]["established"]) == (200, 1, 656)
        assert (document["stale"], document["peaks"]["established"]) == (False, 656)
        assert by_state(daemon.metrics())["established"] == 656


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        ("application/openmetrics-text;version=abc", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_the_format_is_negotiated_and_head_and_gzip_agree_with_get(
    tmp_path: Path, accept: str, content_type: str
) -> None:
    with Daemon(tmp_path / "log", "--path.procfs", situation_root("quiet"), "--sample.interval", "1m") as daemon:
        daemon.ready()
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port)
        answers = {}
        for method, encoding in (("GET", "identity"), ("HEAD", "identity"), ("GET", "gzip")):
            connection.request(method, "/metrics", headers={"Accept": accept, "Accept-Encoding": encoding})
            answer = connection.getresponse()
            answers[method, encoding] = answer.read(), answer.getheader("Content-Length")
            assert (answer.status, answer.getheader("Content-Type")) == (200, content_type)
        connection.request("POST", "/metrics")
        refused = connection.getresponse()
        assert (refused.status, refused.getheader("Allow"), refused.read()) == (
            405,
            "GET, HEAD",
            b"Method Not Allowed\n",
        )
        connection.close()
        page, length = answers["GET", "identity"]
        assert answers["HEAD", "identity"] == (b"", length)
        assert gzip.decompress(answers["GET", "gzip"][0]) == page
        assert page.endswith(b"# EOF\n") == ("openmetrics" in content_type)


def test_a_hung_read_leaves_the_daemon_answering_and_its_numbers_go(tmp_path: Path) -> None:
    root = tmp_path / "proc"
    shutil.copytree(situation_root("quiet"), root)
    with Daemon(tmp_path / "log", "--path.procfs", str(root), "--sample.interval", "100ms") as daemon:
        assert len(by_state(daemon.ready().metrics())) == 11
        (root / "net" / "fifo").unlink(missing_ok=True)
        os.mkfifo(root / "net" / "fifo")
        (root / "net" / "fifo").rename(root / "net" / "netstat")  # opening it for reading blocks for ever
        wait_for(lambda: daemon.get("/-/ready")[0] == 503 or None, "readiness to end")
        assert daemon.get("/-/healthy")[0] == 200
        assert "waiting for netstat" in daemon.get("/-/ready")[1]
        metrics = daemon.metrics()
        judged = ("tcp_status", "tcp_finding_status", "tcp_host_status")
        own = ("tcp_exporter_", "tcp_threshold", *judged)
        assert [series for series in metrics if not series.startswith(own)] == []
        assert {value for series, value in metrics.items() if series.startswith(judged)} == {3}
        assert 'tcp_status{measure="established"}' in metrics
        assert metrics['tcp_exporter_source_up{source="netstat"}'] == 0
        assert json.loads(daemon.get("/api/v1/snapshot")[1])["stale"] is True
        assert "not shown, because the polling loop hangs or has died. It waits for netstat." in daemon.get("/")[1]
        wait_for(lambda: 'msg="no sample in time" waiting_for=netstat' in daemon.said() or None, "a line in the log")
        assert daemon.terminate() == 0


def test_a_failing_source_is_marked_logged_once_and_the_others_speak(tmp_path: Path) -> None:
    root = tmp_path / "proc"
    shutil.copytree(situation_root("quiet"), root)
    with Daemon(tmp_path / "log", "--path.procfs", str(root), "--sample.interval", "100ms") as daemon:
        daemon.ready()
        saved = (root / "net" / "sockstat").read_text()
        (root / "net" / "sockstat").unlink()
        metrics = wait_for(
            lambda: m if (m := daemon.metrics())['tcp_exporter_source_up{source="sockstat"}'] == 0 else None, "the mark"
        )
        assert (len(by_state(metrics)), "tcp_orphans" in metrics, metrics["tcp_active_opens_total"] >= 0) == (
            11,
            False,
            True,
        )
        errors = 'tcp_exporter_sample_errors_total{source="sockstat"}'
        wait_for(lambda: daemon.metrics()[errors] > 3 or None, "errors to be counted")
        assert daemon.said().count("source failed") == 1
        (root / "net" / "new").write_text(saved)
        (root / "net" / "new").rename(root / "net" / "sockstat")
        wait_for(lambda: daemon.metrics()['tcp_exporter_source_up{source="sockstat"}'] == 1 or None, "its return")
        assert daemon.said().count("source recovered") == 1


def test_without_ipv6_everything_is_well(tmp_path: Path) -> None:
    with Daemon(tmp_path / "log", "--path.procfs", situation_root("no-ipv6")) as daemon:
        metrics = daemon.ready().metrics()
        assert [series for series, value in metrics.items() if "source_up" in series and value == 0] == []
        assert "source failed" not in daemon.said()


def test_an_unknown_state_is_counted_and_logged_once(tmp_path: Path) -> None:
    root = situation_root("newer-kernel")
    with Daemon(tmp_path / "log", "--path.procfs", root, "--sample.interval", "100ms") as daemon:
        daemon.ready()
        wait_for(lambda: daemon.metrics()['tcp_exporter_samples_total{pass="light"}'] > 3 or None, "samples")
        assert by_state(daemon.metrics())["unknown"] == 1
        assert daemon.said().count("unknown TCP state") == 1


def test_a_kernel_that_cannot_be_read_at_all_is_not_ready_and_shows_no_states(tmp_path: Path) -> None:
    with Daemon(tmp_path / "log", "--path.procfs", situation_root("truncated")) as daemon:
        answer = wait_for(lambda: None if "no sample yet" in (a := daemon.get("/-/ready"))[1] else a, "a sample")
        assert answer == (503, "TCP exporter is not ready: no reader can count the sockets.\n")
        assert by_state(daemon.metrics()) == {}
        assert daemon.metrics()['tcp_status{measure="established"}'] == 3
        assert "net/tcp:6: cannot read" in daemon.said()


REFUSING = [sys.executable, str(Path(__file__).parent / "refuse_netlink.py")]


def test_where_netlink_is_refused_procfs_counts_and_both_are_named() -> None:
    done = subprocess.run(
        [*REFUSING, *PROGRAM, "dump", "--format", "json"], capture_output=True, text=True, check=False
    )
    document = json.loads(done.stdout)
    assert (done.returncode, document["reader"], document["derived"]) == (0, "procfs", False)
    problems = {source["source"]: source["problem"] for source in document["sources"]}
    assert problems == dict.fromkeys(problems) | {"netlink": "netlink: Permission denied (EACCES)"}
    assert problems.keys() > {"netlink", "procfs"}


def test_a_reader_that_was_asked_for_by_name_is_not_replaced() -> None:
    done = subprocess.run(
        [*REFUSING, *PROGRAM, "dump", "--reader", "netlink"], capture_output=True, text=True, check=False
    )
    message = "tcp-exporter: no reader could count the sockets: netlink: Permission denied (EACCES)\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


def test_a_reload_takes_all_or_nothing(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("thresholds: {established: {warning: 5}}\n")
    with Daemon(tmp_path / "log", "--config.file", str(file), "--path.procfs", situation_root("busy")) as daemon:
        limit = 'tcp_threshold{measure="established",severity="warning"}'
        good = "tcp_exporter_config_last_reload_successful"
        assert daemon.ready().metrics()[limit] == 5
        file.write_text("thresholds: {established: {warning: 7}}\nsample: {interval: never}\n")
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.metrics()[good] == 0 or None, "the refusal")
        assert daemon.metrics()[limit] == 5
        assert f"{file}:2:20: sample.interval: expected a duration" in daemon.said()
        file.write_text("thresholds: {established: {warning: 7}}\n")
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.metrics()[limit] == 7 or None, "the new threshold")
        assert daemon.metrics()[good] == 1


def test_each_reload_tells_what_is_in_force_of_a_setting_that_takes_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("web: {max_requests: 7}\n")

    def reloaded(text: str, times: int) -> list[str]:
        file.write_text(text)
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.said().count("configuration reloaded") == times or None, "the reload")
        return [line.partition("restart to apply")[2] for line in daemon.said().splitlines() if "to apply" in line]

    with Daemon(tmp_path / "log", "--config.file", str(file)) as daemon:
        daemon.ready()
        said = '" key=web.max_requests now=7 file='
        assert reloaded("web: {max_requests: 8}\n", 1) == [f"{said}8"]
        assert reloaded("web: {max_requests: 9}\n", 2) == [f"{said}8", f"{said}9"]
        assert reloaded("web: {max_requests: 7}\n", 3) == [f"{said}8", f"{said}9"]


def test_the_cpu_share_stretches_the_interval_visibly(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("sample: {interval: 100ms, max_cpu_ratio: 0.0001}\n")
    with Daemon(tmp_path / "log", "--config.file", str(file)) as daemon:
        interval = 'tcp_exporter_sample_interval_seconds{pass="walk"}'
        assert daemon.ready().metrics()[interval] >= 0.1
        # A minute's allowance is 6 ms of CPU: a few samples later each has to be earned, which takes seconds.
        wait_for(lambda: daemon.metrics()[interval] > 1 or None, "the interval to stretch")
        assert daemon.metrics()['tcp_exporter_sample_configured_interval_seconds{pass="walk"}'] == 0.1
        assert daemon.get("/-/ready")[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_when_told(tmp_path: Path, number: signal.Signals) -> None:
    with Daemon(tmp_path / "log") as daemon:
        daemon.ready()
        daemon.process.send_signal(number)
        assert daemon.process.wait(DEADLINE) == 0
        assert "Traceback" not in daemon.said()


def program(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=DEADLINE)
    return done.returncode, done.stdout, done.stderr


def test_a_port_in_use_is_an_error_that_names_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert program("--web.listen-address", address) == (
            1,
            "",
            f"tcp-exporter: cannot listen on {address}: Address already in use\n",
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "{file}: cannot be read: No such file or directory"),
        (b"\xff\xfe\xfa", "{file}:1:1: not UTF-8"),
        (b"# " + b"x" * (2 << 20), "{file}: is larger than 1 MiB"),
        (b"log: {level: loud}\nsample: [1]\n", "{file}:1:14: log.level: expected one of"),
    ],
)
def test_a_configuration_that_cannot_be_used_stops_the_start(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "exporter.yml"
    if content is not None:
        file.write_bytes(content)
    code, said, complaint = program("--config.file", str(file))
    assert (code, said, complaint.startswith(message.format(file=file)), "Traceback" in complaint) == (
        78,  # EX_CONFIG: systemd does not try again
        "",
        True,
        False,
    )
    assert program("--config.file", str(file), "--config.check") == (78, "", complaint)
    assert program("check-config", str(file)) == (1, "", complaint)


def test_a_check_reads_what_the_flags_name_and_serves_nothing(tmp_path: Path) -> None:
    flags = ("--config.file", "deploy/tcp-exporter.yml", "--web.listen-address", "127.0.0.1:1", "--config.check")
    assert program(*flags) == (0, "configuration: valid\n", "")
    web = tmp_path / "web.yml"
    web.write_text("basic_auth_users: {}\nbananas: 1\n")
    code, said, complaint = program(*flags, "--web.config.file", str(web))
    assert (code, said, complaint.startswith(f"{web}:2:1: bananas: unknown key")) == (78, "", True)


def test_a_valid_configuration_is_said_to_be_so() -> None:
    assert program("check-config", "deploy/tcp-exporter.yml") == (0, "deploy/tcp-exporter.yml: valid\n", "")


def test_a_wrong_flag_is_exit_2() -> None:
    code, _, complaint = program("--sample.interval", "5")
    assert (code, "--sample.interval: expected a duration" in complaint) == (2, True)
    assert program("sing")[0] == 2


def test_a_dump_to_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "tcp.prom"
    assert program("dump", "--output", str(target), "--path.procfs", situation_root("busy")) == (0, "", "")
    assert 'tcp_connections{state="established"} 656.0' in target.read_text()
    assert (target.stat().st_mode & 0o777, os.listdir(tmp_path)) == (0o644, ["tcp.prom"])
    before = target.read_bytes()
    code, _, complaint = program("dump", "--output", str(target), "--path.procfs", situation_root("truncated"))
    assert (code, "net/tcp:6: cannot read" in complaint) == (1, True)
    assert (target.read_bytes(), os.listdir(tmp_path)) == (before, ["tcp.prom"])
    code, _, complaint = program("dump", "--output", str(tmp_path / "nowhere" / "tcp.prom"))
    assert (code, complaint) == (
        1,
        f"tcp-exporter: cannot write {tmp_path}/nowhere/tcp.prom: No such file or directory\n",
    )


def test_healthcheck_is_0_when_ready_and_1_when_not(tmp_path: Path) -> None:
    with Daemon(tmp_path / "log") as daemon:
        daemon.ready()
        url = f"http://127.0.0.1:{daemon.port}"
        assert program("healthcheck", "--url", url) == (0, "TCP exporter is ready.\n", "")
        daemon.terminate()
    code, _, complaint = program("healthcheck", "--url", url)
    assert (code, complaint) == (1, f"tcp-exporter: {url}/-/ready: Connection refused\n")


def test_show_prints_the_table_without_colour_where_it_is_no_terminal() -> None:
    code, table, _ = program("show", "--path.procfs", situation_root("busy"))
    assert (code, "ESTABLISHED        656  warning 600, critical 800  WARNING" in table, "\x1b" in table) == (
        0,
        True,
        False,
    )


def test_show_colours_what_alerts_on_a_terminal() -> None:
    leader, follower = os.openpty()
    with os.fdopen(follower, "wb") as terminal:
        done = subprocess.run(
            [*PROGRAM, "show", "--path.procfs", situation_root("busy")],
            stdout=terminal, check=False, env={**os.environ, "TERM": "xterm"},
        )  # fmt: skip
    said = b""
    with contextlib.suppress(OSError):  # EIO: all has been read, and nobody has the terminal open any more
        while data := os.read(leader, 65536):
            said += data
    os.close(leader)
    assert (done.returncode, b"\x1b[33mESTABLISHED        656" in said) == (0, True)


def test_nobody_reading_the_output_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run([*PROGRAM, "show"], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_log_that_nobody_reads_any_more_does_not_end_the_sampling(tmp_path: Path) -> None:
    root = tmp_path / "proc"
    shutil.copytree(situation_root("quiet"), root)
    read, write = os.pipe()
    command = [
        *PROGRAM,
        "--web.listen-address",
        "127.0.0.1:0",
        "--path.procfs",
        str(root),
        "--sample.interval",
        "100ms",
    ]
    with subprocess.Popen(command, stderr=write, text=True) as process:
        os.close(write)
        try:
            with os.fdopen(read) as log:
                port = next(int(found[1]) for line in log if (found := re.search(r"127\.0\.0\.1:(\d+)", line)))
            # The pipe is closed: from here on every line of the log fails.
            (root / "net" / "sockstat").rename(root / "net" / "elsewhere")

            def samples() -> float:
                page = get(port, "/metrics")[1]
                found = re.search(r'^tcp_exporter_samples_total{pass="light"} (\S+)$', page, re.MULTILINE)
                return float(found[1]) if found else 0.0

            enough = samples() + 5
            wait_for(lambda: samples() > enough or None, "samples after the log was gone")
            assert get(port, "/-/ready")[0] == 200
        finally:
            process.kill()


def test_a_pipe_in_the_configurations_place_is_refused_and_blocks_nothing(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("{}\n")
    with Daemon(tmp_path / "log", "--config.file", str(file)) as daemon:
        daemon.ready()
        file.unlink()
        os.mkfifo(file)
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "not a regular file" in daemon.said() or None, "the refusal")
        assert daemon.get("/-/healthy")[0] == 200
        assert daemon.terminate() == 0


def test_a_reload_keeps_the_peaks(tmp_path: Path) -> None:
    root = tmp_path / "proc"
    shutil.copytree(situation_root("busy"), root)
    with Daemon(tmp_path / "log", "--path.procfs", str(root), "--sample.interval", "100ms") as daemon:
        daemon.ready()
        quiet = Path(situation_root("quiet"), "net", "tcp").read_text()
        (root / "net" / "new").write_text(quiet)
        (root / "net" / "new").rename(root / "net" / "tcp")
        wait_for(lambda: by_state(daemon.metrics())["established"] < 656 or None, "the fall")
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "configuration reloaded" in daemon.said() or None, "the reload")
        samples = daemon.metrics()['tcp_exporter_samples_total{pass="light"}']
        wait_for(lambda: daemon.metrics()['tcp_exporter_samples_total{pass="light"}'] > samples or None, "a sample")
        assert by_state(daemon.metrics(), "tcp_connections_peak")["established"] == 656


def test_a_source_that_fails_each_time_in_other_words_is_logged_once(tmp_path: Path) -> None:
    root = tmp_path / "proc"
    shutil.copytree(situation_root("quiet"), root)
    with Daemon(tmp_path / "log", "--path.procfs", str(root), "--sample.interval", "100ms") as daemon:
        daemon.ready()
        errors = 'tcp_exporter_sample_errors_total{source="sockstat"}'
        for number in range(8):
            before = daemon.metrics().get(errors, 0.0)
            (root / "net" / "new").write_text(f"junk {number}\n")
            (root / "net" / "new").rename(root / "net" / "sockstat")
            wait_for(lambda: daemon.metrics().get(errors, 0.0) > before + 1 or None, "an error")  # noqa: B023 - at once
        wait_for(lambda: "source failed" in daemon.said() or None, "the line")
        assert daemon.said().count("source failed") == 1


def test_a_read_that_hangs_from_the_start_is_named(tmp_path: Path) -> None:
    root = tmp_path / "proc"
    shutil.copytree(situation_root("quiet"), root)
    (root / "net" / "tcp").unlink()
    os.mkfifo(root / "net" / "tcp")
    with Daemon(tmp_path / "log", "--path.procfs", str(root)) as daemon:
        wanted = (503, "TCP exporter is not ready: no sample yet, waiting for procfs.\n")
        wait_for(lambda: daemon.get("/-/ready") == wanted or None, "the reason")
        assert daemon.metrics()['tcp_exporter_source_up{source="procfs"}'] == 0


@pytest.mark.parametrize("command", ["show", "dump"])
def test_output_that_cannot_be_written_is_one_line(command: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*PROGRAM, command], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "tcp-exporter: No space left on device\n")


def test_netlink_is_not_used_beside_another_procfs() -> None:
    code, _, complaint = program("show", "--reader", "netlink", "--path.procfs", situation_root("busy"))
    message = "the reader netlink counts this host's sockets, not those of tests/fixtures/proc/busy: use procfs"
    assert (code, complaint) == (1, f"tcp-exporter: {message}\n")


def test_a_slash_behind_proc_changes_nothing() -> None:
    assert "Read by netlink" in program("show", "--path.procfs", "/proc/")[1]
