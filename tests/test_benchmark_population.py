"""The benchmarks' populations are what they say, by the count of the exporter's reader and by /proc/net/tcp."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.lab import LabProcess

pytestmark = pytest.mark.lab

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

MADE = {
    "established": {"established": 300, "listen": 3},
    "client": {"established": 300, "listen": 3},
    "time_wait": {"established": 60, "time_wait": 240, "listen": 3},
    "close_wait": {"established": 60, "close_wait": 240, "listen": 3},
    "syn_flood": {"established": 270, "syn_recv": 30, "listen": 3},
}

BEGIN = """
import json, socket, time
from benchmarks.population import MIXES, enter_namespace, population
from exporter.kernel.reader import NetlinkReader
from exporter.tcpstate import TcpState
from tests.lab import LabError

def counted():
    counts, unknown = NetlinkReader().full()
    assert not unknown
    return {state.label: counts[state] for state in TcpState if counts[state]}

def rows(state):
    with open("/proc/net/tcp", encoding="ascii") as file:
        return [row for row in map(str.split, file) if row[3] == f"{state:02X}"]

enter_namespace()
"""

ONE_AFTER_ANOTHER = """
seen = {}
for mix in MIXES:
    with population(mix, 300) as filled:
        seen[mix] = dict(filled.made), counted(), filled.size
    seen[mix] += counted(),
print(json.dumps(seen))
"""

HELD = """
inodes = {}
for mix in MIXES:
    with population(mix, 300):
        held = [row[9] for state in TcpState for row in rows(state)]
        inodes[mix] = len(held) - held.count("0")
print(json.dumps(inodes))
"""

GROWS = """
beside = socket.create_server(("127.0.0.1", 0))
seen = []
for mix in MIXES:
    with population(mix, 7) as filled:
        for size in (20, 23):
            filled.grow(size)
            filled.refresh()
            seen.append((mix, filled.size, dict(filled.made)))
print(json.dumps(seen))
"""

CLIENT = """
with population("client", 28300):
    connected = rows(TcpState.ESTABLISHED)
    ports = {int(row[1].partition(":")[2], 16) for row in connected}
    towards = {row[2] for row in connected}
print(json.dumps([min(ports), max(ports), len(towards), len({row[1] + row[2] for row in connected})]))
"""

REFRESHED = """
def left():
    return min(int(row[5].partition(":")[2], 16) for row in rows(TcpState.TIME_WAIT))  # ticks of 10 ms

with population("time_wait", 100) as filled:
    while (before := left()) > 5900:
        time.sleep(0.05)
    filled.refresh()
    print(json.dumps([before < left(), dict(filled.made)]))
"""

GONE = """
from benchmarks.population import RST, _say

with population("time_wait", 10) as filled:
    _say(MIXES["time_wait"], range(2), {TcpState.TIME_WAIT: (RST, 1, 0)})
    try:
        filled.refresh()
    except LabError as error:
        print(error)
"""


def run(lab: LabProcess, script: str) -> str:
    done = lab.run([sys.executable, "-c", BEGIN + script], cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def by_hand(lab: LabProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return lab.run([sys.executable, "-m", "benchmarks.population", *arguments], cwd=REPOSITORY)


def test_each_mix_is_what_it_says_and_nothing_of_it_is_left_for_the_next_in_the_same_namespace(lab: LabProcess) -> None:
    seen = json.loads(run(lab, ONE_AFTER_ANOTHER))
    assert seen == {mix: [made, made, 300, {}] for mix, made in MADE.items()}


def test_every_socket_but_the_kernels_own_mini_sockets_has_a_descriptor(lab: LabProcess) -> None:
    assert json.loads(run(lab, HELD)) == {
        "established": 303, "client": 303, "time_wait": 63, "close_wait": 303, "syn_flood": 273,
    }  # fmt: skip


def test_a_population_grows_to_the_size_asked_for_and_other_programs_sockets_are_not_counted(lab: LabProcess) -> None:
    assert json.loads(run(lab, GROWS)) == [
        ["established", 20, {"established": 20, "listen": 3}],
        ["established", 23, {"established": 23, "listen": 3}],
        ["client", 20, {"established": 20, "listen": 3}],
        ["client", 23, {"established": 23, "listen": 3}],
        ["time_wait", 20, {"established": 4, "time_wait": 16, "listen": 3}],
        ["time_wait", 23, {"established": 4, "time_wait": 19, "listen": 3}],
        ["close_wait", 20, {"established": 4, "close_wait": 16, "listen": 3}],
        ["close_wait", 23, {"established": 4, "close_wait": 19, "listen": 3}],
        ["syn_flood", 20, {"established": 18, "syn_recv": 2, "listen": 3}],
        ["syn_flood", 23, {"established": 20, "syn_recv": 3, "listen": 3}],
    ]


def test_clients_use_all_ephemeral_ports_towards_one_destination_and_then_towards_the_next(lab: LabProcess) -> None:
    assert json.loads(run(lab, CLIENT)) == [32768, 60999, 2, 28300]


def test_a_refresh_begins_the_minute_of_time_wait_anew(lab: LabProcess) -> None:
    assert json.loads(run(lab, REFRESHED)) == [True, {"established": 20, "time_wait": 80, "listen": 3}]


def test_a_refresh_that_comes_too_late_says_so(lab: LabProcess) -> None:
    assert run(lab, GONE) == (
        "time_wait: expected {'established': 2, 'time_wait': 8, 'listen': 3}, "
        "the kernel has {'established': 2, 'time_wait': 6, 'listen': 3}; TIME_WAIT ends after 60 s\n"
    )


def test_the_command_runs_a_program_beside_the_sockets_and_exits_as_it_does(lab: LabProcess) -> None:
    script = "grep -c ' 08 ' /proc/net/tcp; exit 5"
    done = by_hand(lab, "--mix", "close_wait", "--size", "50", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (5, "40\n")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        pytest.param(
            ("--mix", "established", "--size", "9000000", "--", "true"),
            1, "population: 9000000 sockets are too many: there are addresses for 8128512",
            id="addresses",
        ),
        pytest.param(
            ("--mix", "established", "--size", "1", "--", "no-such-program-anywhere"),
            1, "population: cannot run no-such-program-anywhere: [Errno 2] No such file or directory: "
            "'no-such-program-anywhere'",
            id="program",
        ),
        pytest.param(
            ("--mix", "established", "--size", "1"),
            2, "python -m benchmarks.population: error: expected -- and a command to run beside the sockets",
            id="command",
        ),
        pytest.param(
            ("--mix", "established", "--size", "-1", "--", "true"),
            2, "python -m benchmarks.population: error: --size: expected at least 0, found -1",
            id="size",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_one_line(
    lab: LabProcess, arguments: tuple[str, ...], status: int, said: str
) -> None:
    done = by_hand(lab, *arguments)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (status, said)


def test_a_limit_of_descriptors_that_is_too_low_is_said(lab: LabProcess) -> None:
    command = 'ulimit -n 150; exec "$0" -m benchmarks.population --mix established --size 1000 -- true'
    done = lab.run(["sh", "-c", command, sys.executable], cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (
        1, "population: too few descriptors: 1000 sockets with a hard limit (ulimit -Hn) of 150 a process\n",
    )  # fmt: skip
