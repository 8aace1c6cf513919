"""The lab is the measure of everything else, so it is measured here by plain means: /proc/net/tcp and tcp6."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter

import pytest

from exporter.tcpstate import KNOWN_STATES, TcpState
from tests.lab import KINDS, LabError, LabProcess, LabUnavailable

pytestmark = pytest.mark.lab

FAMILIES = [pytest.param(socket.AF_INET, id="ipv4"), pytest.param(socket.AF_INET6, id="ipv6")]
NOBODY = 65534
REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BY_NUMBER = {int(state): state for state in KNOWN_STATES}
MINI_SOCKET_TIMER = "03"


class Row:
    """A line of /proc/net/tcp or tcp6."""

    def __init__(self, line: str) -> None:
        columns = line.split()
        self.port = int(columns[1].rpartition(":")[2], 16)
        self.state = BY_NUMBER[int(columns[3], 16)]
        self.timer = columns[5].partition(":")[0]
        self.inode = int(columns[9])


def rows(lab: LabProcess, family: int) -> list[Row]:
    table = "tcp" if family == socket.AF_INET else "tcp6"
    done = lab.run(["cat", f"/proc/net/{table}"])
    assert done.returncode == 0, done.stderr
    return [Row(line) for line in done.stdout.splitlines()[1:]]


def counted(lab: LabProcess, family: int) -> dict[str, int]:
    counts = Counter(row.state for row in rows(lab, family))
    return {state.label: counts[state] for state in KNOWN_STATES}


def nothing() -> dict[str, int]:
    return {state.label: 0 for state in KNOWN_STATES}


def python_for_nobody() -> str:
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        if not shutil.which(python):
            continue
        script = "import sys; sys.exit(sys.version_info < (3, 11))"
        try:
            done = subprocess.run([python, "-c", script], user=NOBODY, group=NOBODY, extra_groups=[], check=False)
        except PermissionError:
            continue
        if done.returncode == 0:
            return python
    pytest.skip("no Python 3.11 that an ordinary user may execute")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_puts_its_sockets_in_its_state_and_adds_only_the_listeners_it_needs(
    lab: LabProcess, kind: str, family: int
) -> None:
    lab.make({kind: 3}, family)
    needs_listener = kind not in ("listen", "syn_sent", "syn_recv_full")
    assert counted(lab, family) == {**nothing(), "listen": int(needs_listener), KINDS[kind]: 3}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_population_of_all_kinds_is_exact_and_what_the_lab_expects_is_what_the_kernel_lists(
    lab: LabProcess, family: int
) -> None:
    population = {kind: number for number, kind in enumerate(KINDS, start=2)}
    expected = lab.make(population, family)

    asked = Counter(nothing())
    for kind, number in population.items():
        asked[KINDS[kind]] += number
    asked["listen"] += 3  # the door, and one listener for each of the two queues
    assert counted(lab, family) == dict(asked) == expected.total == lab.expected()


def test_both_families_are_kept_apart_and_summed(lab: LabProcess) -> None:
    lab.make({"established": 2, "listen": 1}, socket.AF_INET)
    expected = lab.make({"close_wait": 5}, socket.AF_INET6)
    assert expected.by_family == {
        "ipv4": {**nothing(), "established": 2, "listen": 2},
        "ipv6": {**nothing(), "close_wait": 5, "listen": 1},
    }
    assert expected.total == {**nothing(), "established": 2, "close_wait": 5, "listen": 3}
    assert lab.expected_by_family() == {
        "ipv4": counted(lab, socket.AF_INET),
        "ipv6": counted(lab, socket.AF_INET6),
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_half_open_connections_are_request_sockets_and_simultaneous_opens_full_ones(
    lab: LabProcess, family: int
) -> None:
    lab.make({"syn_recv": 2, "syn_recv_full": 3}, family)
    full = [row.inode != 0 for row in rows(lab, family) if row.state is TcpState.SYN_RECV]
    assert Counter(full) == {False: 2, True: 3}


@pytest.mark.parametrize("family", FAMILIES)
def test_fin_wait2_is_a_full_socket_after_shutdown_and_a_mini_socket_after_close(lab: LabProcess, family: int) -> None:
    lab.make({"fin_wait2": 2, "fin_wait2_orphan": 3}, family)
    timers = Counter(row.timer for row in rows(lab, family) if row.state is TcpState.FIN_WAIT2)
    assert timers == {"00": 2, MINI_SOCKET_TIMER: 3}


def test_unaccepted_connections_wait_in_the_queues_of_listeners_of_their_own(lab: LabProcess) -> None:
    expected = lab.make({"established_unaccepted": 5}, backlog=2)
    assert expected.total["listen"] == 3
    assert all(row.inode == 0 for row in rows(lab, socket.AF_INET) if row.state is TcpState.ESTABLISHED)


def test_connections_belong_to_the_port_asked_for(lab: LabProcess) -> None:
    lab.make({"established": 2}, port=8443)
    lab.establish(3, port=8444)
    ports = Counter(row.port for row in rows(lab, socket.AF_INET) if row.state is TcpState.ESTABLISHED)
    assert ports == {8443: 2, 8444: 3}


@pytest.mark.parametrize("family", FAMILIES)
def test_thousands_of_established_sockets_come_and_go_without_a_trace(lab: LabProcess, family: int) -> None:
    lab.establish(601, family)
    lab.establish(1400, family)
    assert counted(lab, family) == {**nothing(), "established": 2001}
    assert lab.release(1200).total["established"] == 801
    assert counted(lab, family) == {**nothing(), "established": 801}
    lab.release()
    assert counted(lab, family) == nothing()


def test_a_population_can_follow_the_cheap_sockets_on_the_same_port(lab: LabProcess) -> None:
    lab.establish(10)
    lab.make({"established": 2, "time_wait": 2})
    lab.establish(10)
    assert counted(lab, socket.AF_INET) == {**nothing(), "established": 22, "time_wait": 2, "listen": 1}


def test_populations_larger_than_a_packet_queue_are_exact_too(lab: LabProcess) -> None:
    lab.make({"time_wait": 1500, "syn_recv": 1500, "fin_wait1": 500})
    assert counted(lab, socket.AF_INET) == {
        **nothing(), "time_wait": 1500, "syn_recv": 1500, "fin_wait1": 500, "listen": 3,
    }  # fmt: skip


def test_an_unknown_kind_is_refused_by_name_and_makes_nothing(lab: LabProcess) -> None:
    with pytest.raises(LabError, match="no such kind: last_akc"):
        lab.make({"established": 1, "last_akc": 1})
    assert counted(lab, socket.AF_INET) == nothing()


def test_sysctls_are_those_of_the_namespace(lab: LabProcess) -> None:
    with open("/proc/sys/net/ipv4/tcp_fin_timeout", encoding="ascii") as file:
        outside = file.read()
    assert lab.sysctl("net.ipv4.tcp_fin_timeout", 47) == "47"
    assert lab.run(["cat", "/proc/sys/net/ipv4/tcp_fin_timeout"]).stdout == "47\n"
    with open("/proc/sys/net/ipv4/tcp_fin_timeout", encoding="ascii") as file:
        assert file.read() == outside
    with pytest.raises(LabError, match=r"net\.ipv4\.tcp_imaginary"):
        lab.sysctl("net.ipv4.tcp_imaginary")


def test_nothing_can_leave_the_namespace(lab: LabProcess) -> None:
    lab.make({"syn_sent": 1}, socket.AF_INET)
    interfaces = lab.run([sys.executable, "-c", "import socket; print(*sorted(n for _, n in socket.if_nameindex()))"])
    assert set(interfaces.stdout.split()) >= {"lo", "lab0", "peer0"}
    with lab.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward, pytest.raises(OSError, match="unreachable"):
        outward.connect(("198.51.100.1", 53))


SERVER = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(b"from inside")
    connection.close()
"""


def test_a_daemon_inside_is_reached_from_the_test_and_not_from_outside(lab: LabProcess) -> None:
    daemon = lab.popen([sys.executable, "-c", SERVER])
    assert daemon.stdout is not None
    port = int(daemon.stdout.readline())
    with lab.connect("127.0.0.1", port) as connection:
        assert connection.recv(100) == b"from inside"
    with socket.socket() as outside, pytest.raises(ConnectionRefusedError):
        outside.connect(("127.0.0.1", port))


def test_the_lab_is_verified_beside_a_running_daemon(lab: LabProcess) -> None:
    daemon = lab.popen([sys.executable, "-c", SERVER])
    assert daemon.stdout is not None
    daemon.stdout.readline()
    assert lab.make({"established": 1}).total["listen"] == 1


def test_a_daemon_is_killed_with_the_lab() -> None:
    try:
        with LabProcess() as lab:
            daemon = lab.popen(["sleep", "600"])
    except LabUnavailable as error:
        pytest.skip(str(error))
    assert daemon.returncode == -signal.SIGKILL


def test_a_program_inside_has_its_own_exit_status_output_and_input(lab: LabProcess) -> None:
    done = lab.run(["sh", "-c", "cat; echo wrong >&2; exit 3"], stdin="right")
    assert (done.returncode, done.stdout, done.stderr) == (3, "right", "wrong\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_can_run_a_program_inside_as_an_ordinary_user(lab: LabProcess) -> None:
    lab.make({"established": 4})
    done = lab.run(["sh", "-c", "id -u; grep -c ' 01 ' /proc/net/tcp"], user=NOBODY)
    assert done.stdout.split() == [str(NOBODY), "4"], done.stderr


def test_a_lab_that_dies_says_so(lab: LabProcess) -> None:
    os.kill(lab.pid, signal.SIGKILL)
    with pytest.raises(LabError, match="ended with status -9"):
        lab.expected()


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests ran as an ordinary user already")
def test_an_ordinary_user_gets_the_same_lab_in_a_user_namespace() -> None:
    python = python_for_nobody()
    try:
        with LabProcess(user=NOBODY, python=python) as lab:
            for family in (socket.AF_INET, socket.AF_INET6):
                lab.make(dict.fromkeys(KINDS, 2), family)
                lab.establish(601, family)
                assert counted(lab, family)["established"] == 605
            assert lab.sysctl("net.ipv4.tcp_fin_timeout", 47) == "47"
            assert lab.expected_by_family() == {
                "ipv4": counted(lab, socket.AF_INET),
                "ipv6": counted(lab, socket.AF_INET6),
            }
            with lab.socket() as ours, pytest.raises(ConnectionRefusedError):
                ours.connect(("127.0.0.1", 9))
    except LabUnavailable as error:
        pytest.skip(str(error))


CLOSED_LAB = """
import socket
from tests.lab import KINDS, Lab, census, enter
enter()
with Lab() as lab:
    for family in (socket.AF_INET, socket.AF_INET6):
        lab.make(dict.fromkeys(KINDS, 70), family)
        lab.establish(70, family)
print({key: number for key, number in census.by_state(census.count()).items() if number})
"""


@pytest.mark.alone
def test_a_closed_lab_leaves_no_orphans_to_the_host(lab: LabProcess) -> None:
    done = lab.run([sys.executable, "-c", CLOSED_LAB], cwd=REPOSITORY)
    assert done.stdout == f"{ {'fin_wait2': 140, 'time_wait': 140} }\n", done.stderr


def by_hand(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab", *arguments],
        cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip(done.stderr)
    return done


def test_the_command_prints_the_numbers_and_ends_with_its_input() -> None:
    done = by_hand("--all", "2", "--close-wait", "7", "--establish", "601", "--json")
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout)
    assert numbers["ipv4"] == numbers["ipv6"]
    assert numbers["ipv4"]["close_wait"] == 7
    assert numbers["total"]["established"] == 2 * (601 + 2 + 2)
    assert set(numbers["total"]) == {state.label for state in KNOWN_STATES}


def test_the_command_runs_a_program_inside_and_exits_as_it_does() -> None:
    script = "grep -c ' 08 ' /proc/net/tcp6; exit 5"
    done = by_hand("--family", "6", "--close-wait", "3", "--json", "--", "sh", "-c", script)
    assert done.returncode == 5, done.stderr
    numbers, counted_inside = done.stdout.splitlines()
    assert json.loads(numbers)["ipv6"]["close_wait"] == int(counted_inside) == 3


def test_the_command_refuses_what_it_does_not_know() -> None:
    assert by_hand("--established", "many").returncode == 2
    assert by_hand("--", "no-such-program-anywhere").returncode == 1
