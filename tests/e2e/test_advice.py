"""The advice on a real host in trouble: each finding provoked by real sockets, with the numbers that were made."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import situation_root
from tests.e2e.conftest import PLUGIN, PROGRAM, Daemon, wait_for
from tests.lab import LabProcess

pytestmark = pytest.mark.lab


class Advised(NamedTuple):
    code: int
    findings: dict[str, Any]  # by name
    deviations: dict[str, Any]  # by name of the sysctl


def whole(number: str) -> int:
    """A number as the findings write it."""
    return int(number.replace(",", ""))


def advise(lab: LabProcess, *arguments: str) -> Advised:
    done = lab.run([*PROGRAM, "advise", "--json", *arguments])
    assert done.returncode in {0, 1}, done.stderr
    answer = json.loads(done.stdout)
    return Advised(
        done.returncode,
        {finding["name"]: finding for finding in answer["findings"]},
        {deviation["name"]: deviation for deviation in answer["deviations"]},
    )


def hold(lab: LabProcess, script: str) -> subprocess.Popen[str]:
    """Run a Python program in the lab's namespace that says ready, goes on or waits, and ends with the lab."""
    program = textwrap.dedent(script) + "\nprint('ready', flush=True)\nimport time\ntime.sleep(600)\n"
    process = lab.popen([sys.executable, "-c", program])
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.alone
def test_on_a_quiet_host_there_is_nothing_to_change(lab: LabProcess) -> None:
    lab.make({"established": 20, "time_wait": 20, "listen": 3, "close_wait": 3, "syn_recv": 10})
    assert advise(lab) == Advised(0, {}, {})
    done = lab.run([*PROGRAM, "advise"])
    assert (done.returncode, done.stdout.startswith("No findings among ")) == (0, True)
    assert re.search(r"^0 of \d+ sysctl values deviate\.$", done.stdout, re.MULTILINE)


def test_a_single_count_cannot_tell_what_only_a_rate_shows(lab: LabProcess) -> None:
    done = lab.run([*PROGRAM, "advise", "--interval", "0"])
    assert (done.returncode, done.stdout.startswith("No findings among ")) == (2, True)
    assert "syn_flood (a rate needs a second sample)" in " ".join(done.stdout.split())


FULL_QUEUE = """
import socket, threading, time
server = socket.socket(); server.bind(("127.0.0.1", 8080)); server.listen({backlog})
ends = [socket.create_connection(("127.0.0.1", 8080)) for _ in range({backlog} + 1)]
def ask():  # whenever somebody counts, SYNs are dropped: those of a fixed number come at longer and longer intervals
    while True:
        with socket.socket() as end:
            end.setblocking(False); end.connect_ex(("127.0.0.1", 8080)); time.sleep(0.01)
threading.Thread(target=ask, daemon=True).start()
"""


# A queue that is full, to which nobody connects any more: nothing is dropped.
STANDING_QUEUE = FULL_QUEUE.partition("def ask")[0]
FULL = "The accept queue of 127.0.0.1:8080 is full: "  # how the finding begins


def test_a_full_accept_queue_is_the_applications_and_not_a_flood(lab: LabProcess) -> None:
    hold(lab, FULL_QUEUE.format(backlog=16))
    found = advise(lab, "--interval", "1500ms").findings
    assert list(found) == ["accept_queue_full"]
    finding = found["accept_queue_full"]
    assert finding["severity"] == "CRITICAL"
    assert finding["evidence"][0] == ("17 connections wait in the accept queue of 127.0.0.1:8080, whose limit is 16.")
    dropped = re.fullmatch(
        r"([\d,]+) SYNs and final ACKs were dropped in .+ because an accept queue was full\.", finding["evidence"][1]
    )
    assert dropped is not None
    assert whole(dropped[1]) >= 8
    itself = re.fullmatch(r"127\.0\.0\.1:8080 itself dropped ([\d,]+) segments in .+\.", finding["evidence"][2])
    assert itself is not None
    # The namespace has no other listener, but the counters are read a moment after the listeners.
    assert 8 <= whole(itself[1]) <= whole(dropped[1])
    assert finding["evidence"][3:] == ["The limit is from the last listen(); net.core.somaxconn is 4,096 now."]
    assert finding["command"] == "ss -ltnp 'sport = :8080'"


def test_a_backlog_that_somaxconn_caps_is_told_from_one_that_was_asked_for(lab: LabProcess) -> None:
    lab.sysctl("net.core.somaxconn", 16)
    hold(lab, FULL_QUEUE.format(backlog=16).replace("listen(16)", "listen(1000)"))
    advised = advise(lab, "--interval", "1500ms")
    finding = advised.findings["accept_queue_full"]
    assert finding["evidence"][3:] == ["The limit is net.core.somaxconn, 16: the application asked for that or more."]
    assert finding["command"] == "sysctl -w net.core.somaxconn=32"
    assert list(advised.deviations) == ["net.core.somaxconn"]


FLOOD = """
import socket, threading, time
from tests.lab.link import ADDRESSES
from tests.lab.packets import SYN, Endpoint, Segment
from tests.lab.peer import Peer
server = socket.socket(); server.bind(("192.0.2.1", 8080)); server.listen(64)
target, peer = Endpoint(socket.inet_aton("192.0.2.1"), 8080), Peer()
enough = threading.Event()
def flood():
    for number in range(10**6):
        if number == 500:
            enough.set()
        source = socket.inet_aton(ADDRESSES[socket.AF_INET].peers[number % 126])
        peer.say(Segment(Endpoint(source, 1024 + number // 126), target, SYN, 1000 + number))
        time.sleep(0.001)
threading.Thread(target=flood, daemon=True).start()
enough.wait()
"""


@pytest.mark.parametrize("cookies", [1, 0])
def test_a_syn_flood_is_one_and_not_a_slow_application(lab: LabProcess, cookies: int) -> None:
    lab.make({"listen": 1})
    lab.sysctl("net.ipv4.tcp_syncookies", cookies)
    hold(lab, FLOOD)
    found = advise(lab).findings
    assert list(found) == ["syn_flood"]
    finding = found["syn_flood"]
    text = " ".join(finding["evidence"])
    assert re.search(r"6[45] connections to 192\.0\.2\.1:8080 are half open, of at most 65", text)
    what = r"SYN cookies were sent" if cookies else r"SYNs were dropped"
    number = re.search(rf"([\d,]+) {what} in the last", text)
    assert number is not None
    assert whole(number[1]) > 50
    assert "0 handshakes completed" in text
    assert (finding["severity"], finding["command"]) == (
        ("WARNING", "tcp-exporter who syn_recv --by remote")
        if cookies
        else ("CRITICAL", "sysctl -w net.ipv4.tcp_syncookies=1")
    )


def test_half_open_connections_above_normal_are_seen_before_a_queue_is_full(lab: LabProcess) -> None:
    lab.make({"syn_recv": 200}, backlog=512)
    found = advise(lab).findings
    assert list(found) == ["half_open_connections"]
    assert (
        found["half_open_connections"]["evidence"][0]
        == "200 connections are half open; about 15 a listener are normal."
    )


def test_ephemeral_ports_that_run_out_name_the_destination(lab: LabProcess) -> None:
    lab.sysctl("net.ipv4.ip_local_port_range", "40000 40999")
    hold(
        lab,
        """
        import socket
        server = socket.create_server(("127.0.0.1", 8080), backlog=2000)
        ends = [socket.create_connection(("127.0.0.1", 8080)) for _ in range(970)]
        """,
    )
    advised = advise(lab)
    assert list(advised.findings) == ["ephemeral_ports_near_limit"]
    finding = advised.findings["ephemeral_ports_near_limit"]
    assert (finding["severity"], finding["evidence"]) == (
        "CRITICAL",
        [
            "970 of 1,000 local ports are taken towards one destination: 127.0.0.1 -> 127.0.0.1:8080.",
            "net.ipv4.ip_local_port_range is 40000 to 40999.",
        ],
    )
    assert finding["command"] == (
        'sysctl -w net.ipv4.ip_local_reserved_ports="8080" && sysctl -w net.ipv4.ip_local_port_range="1024 65535"'
    )
    assert advised.deviations == {}  # a narrow range is right until ports run out


def test_time_wait_at_its_limit_says_what_skipped_it(lab: LabProcess) -> None:
    lab.sysctl("net.ipv4.tcp_max_tw_buckets", 100)
    hold(
        lab,
        """
        import socket, threading, time
        server = socket.create_server(("127.0.0.1", 8080), backlog=500)
        def close_first():
            end = socket.create_connection(("127.0.0.1", 8080)); other, _ = server.accept(); end.close(); other.close()
        for _ in range(150):
            close_first()
        def go_on():
            while True:
                close_first(); time.sleep(0.02)
        threading.Thread(target=go_on, daemon=True).start()
        """,
    )
    advised = advise(lab)
    assert list(advised.findings) == ["time_wait_near_limit"]
    finding = advised.findings["time_wait_near_limit"]
    assert finding["evidence"][0] == "100 sockets wait, of tcp_max_tw_buckets = 100: 100%."
    assert re.fullmatch(
        r"[\d,]+ connections skipped TIME-WAIT in the last .+ because the limit was reached\.", finding["evidence"][1]
    )
    buckets = abs(int(lab.sysctl("net.ipv4.tcp_ehash_entries")))
    assert finding["command"] == f"sysctl -w net.ipv4.tcp_max_tw_buckets={buckets // 2}"
    assert advised.deviations["tcp_max_tw_buckets"]["accepted"] == f"at least {buckets // 2}"


LEAK = """
import socket, threading, time
server = socket.create_server(("127.0.0.1", 8080), backlog=500)
forgotten = []
def leak():
    end = socket.create_connection(("127.0.0.1", 8080)); forgotten.append(server.accept()[0]); end.close()
for _ in range(150):
    leak()
def go_on():
    while True:
        leak(); time.sleep(0.02)
threading.Thread(target=go_on, daemon=True).start()
"""


def test_a_close_wait_leak_names_the_port_and_no_sysctl(lab: LabProcess) -> None:
    hold(lab, LEAK)

    def silent() -> int:
        done = lab.run([*PROGRAM, "show", "--json"])
        return int(json.loads(done.stdout)["detail"]["close_wait"]["over_5_seconds"])

    wait_for(lambda: silent() >= 120 or None, "connections whose peers have been silent for 5 s")
    found = advise(lab).findings
    assert list(found) == ["close_wait_leak"]
    finding = found["close_wait_leak"]
    numbers = re.fullmatch(r"([\d,]+) connections were closed by their peers .+", finding["evidence"][0])
    sign = re.fullmatch(
        r"The peers of ([\d,]+) of them have been silent for more than (?:5 s\. ([\d,]+) more came meanwhile"
        r"|10 s\. A server that reads closes at once)\.",
        finding["evidence"][1],
    )
    assert numbers is not None
    assert sign is not None
    assert whole(numbers[1]) >= whole(sign[1]) >= 100
    assert whole(sign[2] or "10") >= 10
    assert any(re.fullmatch(r"[\d,]+ of them belong to local port 8080, .+", text) for text in finding["evidence"])
    assert finding["remedy"].startswith("It is a bug of the application, or it hangs.")
    assert "sysctl" not in finding["remedy"]
    assert finding["command"] == "tcp-exporter who close_wait"


def test_the_fragment_brings_what_a_namespace_can_set_to_what_is_right(lab: LabProcess) -> None:
    if shutil.which("sysctl") is None:
        pytest.skip("sysctl of procps is not installed")
    wrong: dict[str, int | str] = {
        "net.core.somaxconn": 128,
        "net.ipv4.tcp_abort_on_overflow": 1,
        "net.ipv4.tcp_fin_timeout": 90,
        "net.ipv4.tcp_keepalive_probes": 1,
        "net.ipv4.tcp_keepalive_time": 90000,
        "net.ipv4.tcp_max_tw_buckets": 5000,
        "net.ipv4.tcp_moderate_rcvbuf": 0,
        "net.ipv4.tcp_orphan_retries": 20,
        "net.ipv4.tcp_retries2": 2,
        "net.ipv4.tcp_sack": 0,
        "net.ipv4.tcp_syn_retries": 1,
        "net.ipv4.tcp_synack_retries": 9,
        "net.ipv4.tcp_syncookies": 0,
        "net.ipv4.tcp_timestamps": 0,
        "net.ipv4.tcp_window_scaling": 0,
    }
    for name, value in wrong.items():
        lab.sysctl(name, value)
    lab.sysctl("net.ipv4.ip_local_port_range", "40000 50000")  # narrower than the default, which suffices here
    advised = advise(lab)
    short = {name.removeprefix("net.ipv4.") if ".tcp_" in name else name for name in wrong}
    assert (advised.code, set(advised.deviations)) == (1, short)
    program = " ".join(PROGRAM)
    done = lab.run(["/bin/sh", "-c", f"{program} advise --sysctl-conf | sysctl -p -"])
    assert (done.returncode, done.stderr) == (0, "")
    assert advise(lab) == Advised(0, {}, {})
    assert lab.sysctl("net.ipv4.ip_local_port_range").split() == ["40000", "50000"]
    assert lab.run([*PROGRAM, "advise", "--sysctl-conf"]).stdout == ""


def test_what_the_configuration_expects_is_a_deviation_and_is_set(lab: LabProcess, tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("sysctl: {expected: {tcp_fin_timeout: 15:30, tcp_congestion_control: reno, tcp_not_here: 1}}\n")
    done = lab.run([*PROGRAM, "advise", "--config.file", str(file)])
    assert (done.returncode, "tcp_not_here: unknown sysctl" in done.stderr) == (2, True)
    file.write_text("sysctl: {expected: {tcp_fin_timeout: 15:30, tcp_congestion_control: reno, tcp_tw_recycle: 0}}\n")
    before = lab.sysctl("net.ipv4.tcp_congestion_control")
    advised = advise(lab, "--config.file", str(file))
    assert {name: (it["live"], it["recommended"], it["expected"]) for name, it in advised.deviations.items()} == {
        "tcp_congestion_control": (before, "reno", True),
        "tcp_fin_timeout": (60, 30, True),
    }


NO_SOCKSTAT = str(Path(situation_root("no-sockstat")).resolve())


@pytest.mark.parametrize(
    ("arguments", "code", "last"),
    [
        (["--reader", "procfs"], 0, "0 of 21 sysctl values deviate."),
        (["--path.procfs", NO_SOCKSTAT], 2, "0 of 6 sysctl values deviate."),
        (["--path.procfs", "/nowhere"], 2, "0 of 0 sysctl values deviate."),
        (["--path.procfs", "/nowhere", "--sysctl-conf"], 2, ""),
        (["--path.procfs", "/nowhere", "--reader", "netlink"], 2, ""),
        (["--config.file", "/nowhere"], 2, ""),
        (["--interval", "soon"], 2, ""),
    ],
)
def test_what_could_not_be_looked_at_is_no_all_clear(
    lab: LabProcess, arguments: list[str], code: int, last: str
) -> None:
    done = lab.run([*PROGRAM, "advise", "--interval", "100ms", *arguments])
    assert (done.returncode, (done.stdout.splitlines() or [""])[-1]) == (code, last)
    assert bool(done.stderr) is (not last)
    assert ("Could not be read:" in done.stdout) is (bool(last) and code == 2)
    assert "Traceback" not in done.stderr


def test_advice_that_could_not_be_written_was_not_given(lab: LabProcess) -> None:
    done = lab.run(["/bin/sh", "-c", f"{' '.join(PROGRAM)} advise --interval 0 > /dev/full"])
    assert (done.returncode, done.stderr) == (2, "tcp-exporter: No space left on device\n")


def test_the_plugin_alerts_on_drift_here_and_through_a_daemon(lab: LabProcess, tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("sysctl: {expected: {tcp_fin_timeout: 15:30, tcp_syncookies: 1, tcp_rmem: 4096 131072 6291456}}\n")
    lab.sysctl("net.ipv4.tcp_rmem", "4096 131072 6291456")
    done = lab.run([*PLUGIN, "-s", "sysctl", "--config", str(file)])
    first, *details = done.stdout.splitlines()
    assert (done.returncode, first.split(" | ")[0]) == (1, "TCP STATES WARNING: sysctl 1 (> 0): tcp_fin_timeout")
    assert (first.split()[-1], details) == ("sysctl=1;0;;0;", ["tcp_fin_timeout is 60, expected 15:30"])
    with Daemon(tmp_path / "log", "--config.file", str(file), lab=lab) as daemon:
        daemon.ready()
        asked = lab.run([*PLUGIN, "-s", "sysctl", "--url", f"http://127.0.0.1:{daemon.port}"])
        assert (asked.returncode, asked.stdout.split(" | ")[0]) == (1, first.split(" | ")[0])
        lab.sysctl("net.ipv4.tcp_fin_timeout", 30)
        assert lab.run([*PLUGIN, "-s", "sysctl", "--config", str(file)]).returncode == 0


BUSY = """
import socket
server = socket.create_server(("127.0.0.1", 8080), backlog=2000)
ends = [socket.create_connection(("127.0.0.1", 8080)) for _ in range(900)]
for _ in range(50):
    server.accept()[0].close()
"""
"""Of 1,000 ports 900 are taken towards one destination, 50 of them by connections that their peer has closed."""


def test_the_daemon_serves_findings_and_deviations_and_logs_each_change_once(lab: LabProcess, tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("detail: {interval: 300ms, max_cpu_ratio: 1}\nthresholds: {close_wait: {warning: 40}}\n")
    lab.sysctl("net.ipv4.ip_local_port_range", "40000 40999")
    with Daemon(tmp_path / "log", "--config.file", str(file), "--sample.interval", "200ms", lab=lab) as daemon:
        daemon.ready()

        def findings() -> list[str]:
            return [finding["name"] for finding in json.loads(daemon.get("/api/v1/snapshot")[1])["findings"]]

        assert findings() == []
        deviates, recommended = (
            f'tcp_sysctl_{name}{{field="",name="tcp_syncookies"}}' for name in ("deviates", "recommended_value")
        )
        # Where the machine is busy the sample may be stale for a moment, and then has no series.
        wait_for(lambda: daemon.metrics().get(deviates) == 0 or None, "a sysctl that is right")
        busy = hold(lab, BUSY)
        wait_for(lambda: findings() == ["ephemeral_ports_near_limit"] or None, "the finding")
        lab.sysctl("net.ipv4.tcp_syncookies", 0)
        wait_for(lambda: daemon.metrics().get(deviates) == 1 or None, "the deviation")
        wait_for(lambda: daemon.metrics().get(recommended) == 1 or None, "what is right")
        wait_for(lambda: "threshold crossed" in daemon.said() or None, "a sample of all that were closed")
        busy.kill()
        wait_for(lambda: "back within threshold" in daemon.said() or None, "the count below its threshold, held")
        wait_for(lambda: "finding gone" in daemon.said() or None, "the finding to be gone")
        lines = daemon.said().splitlines()
    for text in (
        'msg="threshold crossed" measure=close_wait value=',
        'msg="back within threshold" measure=close_wait value=0',
        'msg="finding appeared" finding=ephemeral_ports_near_limit severity=WARNING',
        'msg="finding gone" finding=ephemeral_ports_near_limit',
        'msg="sysctl changed" name=tcp_syncookies from=1 to=0',
    ):
        assert len([line for line in lines if text in line]) == 1, (text, lines)


def test_what_if_moves_the_limit_of_the_sockets_that_there_are(lab: LabProcess) -> None:
    lab.make({"time_wait": 95})
    done = lab.run([*PROGRAM, "advise", "--interval", "0", "--json", "--what-if", "tcp_max_tw_buckets=100"])
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    (measure,) = [it for it in answer["measures"] if it["measure"] == "time_wait_ratio"]
    assert (measure["before"]["used"], measure["after"]["used"], measure["after"]["limit"]) == (95, 95, 100)
    assert [(it["finding"], it["after"]) for it in answer["findings"]] == [("time_wait_near_limit", "WARNING")]
    assert lab.run(["cat", "/proc/sys/net/ipv4/tcp_max_tw_buckets"]).stdout != "100\n"
