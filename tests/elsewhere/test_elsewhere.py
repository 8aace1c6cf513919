"""Our commands on Windows and macOS, as far as ``disguise`` makes this host look like them. No real one was tried."""

from __future__ import annotations

import json
import re
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.certificates import Authority

Socket = tuple[int, str, tuple[object, ...], tuple[object, ...], str]

HERE, THERE, ANY = ("10.0.0.1", 80), ("10.0.0.2", 5000), ("0.0.0.0", 80)
WINDOWS: list[Socket] = [
    (7, "AF_INET", ANY, (), "MIB_TCP_STATE_LISTEN"),
    (7, "AF_INET6", ("::", 80), (), "MIB_TCP_STATE_LISTEN"),
    (7, "AF_INET", HERE, THERE, "MIB_TCP_STATE_ESTAB"),
    (0, "AF_INET", HERE, ("10.0.0.2", 5001), "MIB_TCP_STATE_TIME_WAIT"),
    (0, "AF_INET", HERE, ("10.0.0.2", 5002), "MIB_TCP_STATE_DELETE_TCB"),
]
MACOS: list[Socket] = [
    (7, "AF_INET", ANY, (), "TCPS_LISTEN"),
    (8, "AF_INET", ANY, (), "TCPS_LISTEN"),  # inherited: the same socket
    (7, "AF_INET6", ("::", 80), (), "TCPS_LISTEN"),
    (7, "AF_INET", HERE, THERE, "TCPS_ESTABLISHED"),
    (8, "AF_INET", HERE, THERE, "TCPS_ESTABLISHED"),  # inherited
    (8, "AF_INET", HERE, ("10.0.0.2", 5001), "TCPS_FIN_WAIT_2"),  # shut down and not closed
    (8, "AF_INET", ("0.0.0.0", 0), (), "TCPS_CLOSED"),
    (8, "AF_INET", ("0.0.0.0", 0), (), "TCPS_CLOSED"),  # another one: neither has a port
]
SOCKETS: dict[str, list[Socket]] = {"win32": WINDOWS, "darwin": MACOS}
BOTH = pytest.mark.parametrize("system", SOCKETS)
UNLISTED = "psutil lists sockets by process here, and not every one in {} belongs to one"
ROOT = "macOS shows the sockets of other users' processes to root only: run it as root"


def command(system: str, *words: str, sockets: Sequence[Socket] | str | None = ()) -> list[str]:
    """The command line of *words* on *system*; *sockets* are those of SOCKETS unless given."""
    given = SOCKETS[system] if sockets == () else sockets
    return [sys.executable, "-m", "tests.elsewhere.disguise", system, json.dumps(given), *words]


def run(system: str, *words: str, sockets: Sequence[Socket] | str | None = ()) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    done = subprocess.run(
        command(system, *words, sockets=sockets), capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def counts(page: str) -> dict[str, int]:
    """The samples of tcp_connections by state."""
    return {
        state: int(float(number))
        for state, number in re.findall(r'^tcp_connections{state="(\w+)"} (\S+)', page, re.MULTILINE)
    }


COUNTED = {
    "win32": {
        "established": 1, "syn_sent": 0, "syn_recv": 0, "fin_wait1": 0, "fin_wait2": 0, "time_wait": 1, "close": 0,
        "close_wait": 0, "last_ack": 0, "listen": 2, "closing": 0, "unknown": 1,
    },
    "darwin": {"established": 1, "syn_sent": 0, "close": 2, "close_wait": 0, "listen": 2},
}  # fmt: skip
"""On macOS neither what is before accept(2) nor what is after close(2)."""


@BOTH
def test_the_plugin_counts(system: str) -> None:
    number = {state: f"{state}={count};;;0;" for state, count in COUNTED[system].items() if state != "unknown"}
    number["established"] = "established=1;600;800;0;"
    assert run(system, "check_tcp_states") == (
        0,
        f"TCP STATES OK: established 1 | {' '.join(number.values())}\n",
        "",
    )


@BOTH
def test_the_plugin_counts_the_sockets_of_a_port(system: str) -> None:
    code, text, _ = run(system, "check_tcp_states", "-p", "81", "-s", "listen", "-c", "1:")
    assert (code, text.partition(" |")[0]) == (2, "TCP STATES CRITICAL: listen 0 (< 1)")


@pytest.mark.parametrize(
    ("measure", "named"),
    [
        ("time_wait", "TIME-WAIT"),
        ("syn_recv", "SYN-RECEIVED"),
        ("total", "SYN-RECEIVED, FIN-WAIT-1, FIN-WAIT-2, TIME-WAIT, LAST-ACK, CLOSING"),
    ],
)
def test_what_macos_does_not_list_is_unknown_with_the_reason(measure: str, named: str) -> None:
    code, text, _ = run("darwin", "check_tcp_states", "-s", measure, "-w", "5")
    assert (code, text.partition(" |")[0]) == (3, f"TCP STATES UNKNOWN: {measure} unknown: {UNLISTED.format(named)}")


def test_windows_lists_every_state() -> None:
    code, text, _ = run("win32", "check_tcp_states", "-s", "total,time_wait")
    assert (code, text.partition(" |")[0]) == (0, "TCP STATES OK: total 5, time_wait 1")


def test_without_root_macos_is_unknown_with_the_reason() -> None:
    assert run("darwin", "check_tcp_states", sockets=None) == (
        3,
        f"TCP STATES UNKNOWN: established unknown: psutil: {ROOT}\n",
        "",
    )
    assert run("darwin", "tcp-exporter", "dump", "--interval", "0", sockets=None) == (
        1,
        "",
        f"tcp-exporter: no reader could count the sockets: psutil: {ROOT}\n",
    )
    code, table, _ = run("darwin", "tcp-exporter", "show", sockets=None)
    assert (code, table.splitlines()[-2:]) == (1, ["Not readable:", f"  psutil: {ROOT}"])


@BOTH
def test_what_only_linux_tells_is_unknown_and_not_zero(system: str) -> None:
    code, text, _ = run(system, "check_tcp_states", "-s", "orphans_ratio,accept_queue_ratio,ephemeral_ports_ratio")
    assert (code, re.findall(r"(\w+) unknown", text)) == (
        3,
        ["orphans_ratio", "accept_queue_ratio", "ephemeral_ports_ratio"],
    )


@BOTH
def test_findings_that_need_linux_are_not_judged(system: str) -> None:
    code, text, _ = run(system, "check_tcp_states", "-s", "findings")
    judged = {
        "win32": "half-open connections, unanswered SYNs, CLOSE-WAIT sockets",
        "darwin": "unanswered SYNs, CLOSE-WAIT sockets",
    }
    assert (code, text.partition(" |")[0]) == (0, f"TCP STATES OK: no findings among {judged[system]}")


@BOTH
def test_a_system_that_never_answers_ends_the_plugin_in_time(system: str) -> None:
    assert run(system, "check_tcp_states", "-t", "0.5:critical", sockets="hang") == (
        2,
        "TCP STATES CRITICAL: no answer within 0.5 s\n",
        "",
    )


@BOTH
def test_show_prints_the_table(system: str) -> None:
    code, table, complaint = run(system, "tcp-exporter", "show")
    rows = dict(re.findall(r"^(\S+) +(\d+|\?)(?: |$)", table, re.MULTILINE))
    unknown = {
        "win32": [],
        "darwin": ["SYN-RECEIVED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "LAST-ACK", "CLOSING", "total"],
    }
    assert (code, complaint) == (0, "")
    assert (rows["ESTABLISHED"], rows["LISTEN"]) == ("1", "2")
    assert [name for name, number in rows.items() if number == "?"] == unknown[system]
    assert "Not readable" not in table


@BOTH
def test_dump_writes_the_metrics_to_a_file(system: str, tmp_path: Path) -> None:
    target = tmp_path / "tcp.prom"
    assert run(system, "tcp-exporter", "dump", "--interval", "100ms", "--output", str(target)) == (0, "", "")
    page = target.read_text()
    assert counts(page) == COUNTED[system]
    assert re.findall(r"^tcp_exporter_source_up{.*", page, re.MULTILINE) == [
        'tcp_exporter_source_up{source="psutil"} 1.0'
    ]


@BOTH
@pytest.mark.parametrize("words", [["who"], ["who", "--json"], ["advise"], ["show", "--watch"]])
def test_what_needs_linux_is_refused_in_one_sentence(system: str, words: list[str]) -> None:
    code, output, complaint = run(system, "tcp-exporter", *words)
    assert (code, output, len(complaint.splitlines())) == (2, "", 1)
    assert "needs Linux" in complaint


@BOTH
def test_a_copy_of_a_linux_procfs_is_read_anywhere(system: str) -> None:
    code, text, _ = run(system, "check_tcp_states", "--path.procfs", "tests/fixtures/proc/quiet", "-s", "total")
    assert (code, "unknown" in text) == (0, False)


@contextmanager
def daemon(system: str, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A running daemon, its address and what it logged before it had one."""
    words = command(system, "tcp-exporter", "--web.listen-address", "127.0.0.1:0", "--log.format", "logfmt", *flags)
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            logged: list[str] = []
            for line in process.stderr:
                logged.append(line)
                if (found := re.search(r"msg=listening address=(\S+)", line)) is not None:
                    yield process, found[1], logged
                    return
            raise AssertionError("".join(logged))
        finally:
            if process.poll() is None:
                process.kill()


def fetched(url: str, context: ssl.SSLContext | None = None) -> str:
    with urllib.request.urlopen(url, timeout=20, context=context) as answer:
        return str(answer.read().decode())


def when_ready(base: str, context: ssl.SSLContext | None = None) -> None:
    for _ in range(200):
        try:
            fetched(f"{base}/-/ready", context)
        except urllib.request.HTTPError:
            continue
        return
    raise AssertionError("the daemon does not become ready")


@BOTH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_daemon_serves_until_a_signal_ends_it(system: str, number: signal.Signals) -> None:
    with daemon(system) as (process, base, _):
        when_ready(base)
        page = fetched(f"{base}/metrics")
        assert counts(page) == COUNTED[system]
        assert re.findall(r"^tcp_exporter_source_up{.*", page, re.MULTILINE) == [
            'tcp_exporter_source_up{source="psutil"} 1.0'
        ]
        assert "TIME-WAIT" in fetched(f"{base}/")
        assert set(json.loads(fetched(f"{base}/api/v1/history"))["states"]) >= {"time_wait", "established"}
        asked = run(system, "check_tcp_states", "--url", base, "-s", "time_wait", "-w", "5")
        told = {
            "win32": (0, "TCP STATES OK: time_wait 1"),
            "darwin": (3, f"TCP STATES UNKNOWN: time_wait unknown: {UNLISTED.format('TIME-WAIT')}"),
        }
        assert (asked[0], asked[1].partition(" |")[0]) == told[system]
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@BOTH
def test_the_daemon_serves_tls_without_files_in_memory(system: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    pair = authority.issue("server")
    config = tmp_path / "web.yml"
    config.write_text(f"tls_server_config:\n  cert_file: {pair.cert}\n  key_file: {pair.key}\n")
    with daemon(system, "--web.config.file", str(config)) as (_, base, _):
        context = ssl.create_default_context(cafile=str(authority.cert))
        when_ready(base, context)
        assert counts(fetched(f"{base}/metrics", context)) == COUNTED[system]


def test_windows_has_no_unix_sockets() -> None:
    code, _, complaint = run("win32", "tcp-exporter", "--web.listen-address", "unix:/tmp/none")
    assert (code, complaint.splitlines()[-1]) == (
        1,
        "tcp-exporter: cannot listen on unix:/tmp/none: this system has no unix sockets",
    )


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="a reload is asked for by SIGHUP")
def test_on_macos_sighup_reloads() -> None:
    with daemon("darwin") as (process, base, _):
        when_ready(base)
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        assert any("configuration reloaded" in line for line in process.stderr)
