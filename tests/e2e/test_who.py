"""Who holds which sockets: programs with names, users, workers and cgroups of their own, and the lab's kinds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from exporter.kernel.cgroupfs import Cgroups
from exporter.terminal.who import NO_CGROUP, NO_PROCESS, NOT_FOUND, REFUSED
from tests.e2e.conftest import wait_for
from tests.lab import LabProcess

pytestmark = pytest.mark.lab

WHO = """
import json, sys
from exporter.terminal import who
from exporter.tcpstate import BY_LABEL
print(json.dumps(who.document(who.hold(BY_LABEL[sys.argv[1]], sys.argv[2]), 0)))
"""

# Calls itself NAME, joins the CGROUP if it is not empty, connects N times to a listener of its own at PORT of any
# address, both families, by IPv4; forks so many WORKERS that have all of it open too; says so, and waits to be ended.
HOLD = """
import os, pathlib, signal, socket, sys
name, cgroup, number, port, workers = sys.argv[1:]
pathlib.Path("/proc/self/comm").write_text(name)
if cgroup:
    pathlib.Path(cgroup, "cgroup.procs").write_text(str(os.getpid()))
listener = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
held = [(socket.create_connection(("127.0.0.1", int(port))), listener.accept()) for _ in range(int(number))]
for _ in range(int(workers)):
    if os.fork() == 0:
        import ctypes
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != 1:
            signal.pause()
        os._exit(0)
print("held", flush=True)
signal.pause()
"""

# Becomes process 1 of a process namespace with its own /proc, then the program.
ALONE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def do(done):
    if done != 0:
        sys.exit(77)
do(libc.unshare(0x20000000 | 0x20000))  # CLONE_NEWPID | CLONE_NEWNS
if (pid := os.fork()) == 0:
    do(libc.mount(b"none", b"/", None, 0x44000, None))  # MS_REC | MS_PRIVATE
    do(libc.mount(b"proc", b"/proc", b"proc", 0, None))
    os.execv(sys.argv[1], sys.argv[1:])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


class Answer:
    """What ``who`` said."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        self.total: int = said["total"]
        self.owners: dict[str, int] = {row["owner"]: row["sockets"] for row in said["owners"]}
        self.details: dict[str, str] = {row["owner"]: row["detail"] for row in said["owners"]}
        self.unattributed: dict[str, int] = {row["reason"]: row["sockets"] for row in said["unattributed"]}
        self.remarks: list[str] = said["remarks"]
        assert self.total == sum(self.owners.values()) + sum(self.unattributed.values())


def who(lab: LabProcess, state: str, by: str) -> Answer:
    return Answer(lab.run([sys.executable, "-c", WHO, state, by]))


def hold(
    lab: LabProcess, name: str, number: int, port: int, *, workers: int = 0, cgroup: str = "",
    python: str = sys.executable, user: int | None = None,
) -> int:  # fmt: skip
    """Start a program that has both ends of *number* connections open; its pid."""
    command = [python, "-c", HOLD, name, cgroup, str(number), str(port), str(workers)]
    program = lab.popen(command, user=user, stderr=None)
    assert program.stdout is not None
    assert program.stdout.readline() == "held\n"
    return program.pid


def test_sockets_are_counted_by_process_once_however_many_workers_share_them(lab: LabProcess) -> None:
    lab.make({"established": 3, "established_unaccepted": 2})
    server = hold(lab, "a-server", 5, 8443, workers=3)
    other = hold(lab, "another", 1, 8444)
    answer = who(lab, "established", "process")
    holder = f"{psutil.Process(lab.pid).name()} -m tests.lab"
    assert answer.owners == {"a-server": 10, holder: 3, "another": 2}
    assert answer.details == {
        "a-server": f"pid {server}, 4 processes",
        holder: f"pid {lab.pid}",
        "another": f"pid {other}",
    }
    assert (answer.unattributed, answer.remarks) == ({NO_PROCESS: 2}, [])


def test_programs_of_one_name_are_one_owner_by_the_lowest_pid(lab: LabProcess) -> None:
    pids = [hold(lab, "a-server", 2, port) for port in (8443, 8444)]
    answer = who(lab, "established", "process")
    assert answer.owners == {"a-server": 8}
    assert answer.details == {"a-server": f"pid {min(pids)}, 2 processes"}


# Both ends of a connection each, as the descriptors of no process show them: a ring of io_uring has them without one,
# and a thread in a table of its own. Then the first thread ends.
BEYOND = """
import ctypes, os, pathlib, socket, struct, threading, time
pathlib.Path("/proc/self/comm").write_text("beyond")
libc = ctypes.CDLL(None, use_errno=True)
listener = socket.create_server(("127.0.0.1", 8443))
def connected():
    return socket.create_connection(("127.0.0.1", 8443)), listener.accept()[0]
ring = libc.syscall(425, 8, ctypes.create_string_buffer(120))  # io_uring_setup
ends = connected()
registered = ring >= 0 and libc.syscall(427, ring, 2, (ctypes.c_int * 2)(*(end.fileno() for end in ends)), 2) == 0
if registered:  # only the ring holds them now
    for end in ends:
        end.close()
begun = threading.Event()
def own():
    assert libc.unshare(0x400) == 0  # CLONE_FILES
    kept = connected()
    begun.set()
    time.sleep(600)
threading.Thread(target=own).start()
begun.wait()
threading.Thread(target=time.sleep, args=(600,)).start()
print("ring" if registered else "no ring", flush=True)
if os.environ.get("END_FIRST"):
    libc.syscall({"x86_64": 60}.get(os.uname().machine, 93), 0)  # exit(2): of this thread only
time.sleep(600)
"""


@pytest.mark.parametrize("first", ["lives", "ended"])
def test_sockets_are_found_where_the_descriptors_of_a_process_do_not_show_them(lab: LabProcess, first: str) -> None:
    environment = {} if first == "lives" else {"END_FIRST": "1"}
    program = lab.popen(
        ["env", *(f"{name}={value}" for name, value in environment.items()), sys.executable, "-c", BEYOND]
    )
    assert program.stdout is not None
    assert program.stdout.readline() in {"ring\n", "no ring\n"}
    if first == "ended":
        wait_for(lambda: psutil.Process(program.pid).status() == psutil.STATUS_ZOMBIE, "the first thread's end")
    answer = who(lab, "established", "process")
    assert (answer.owners, answer.unattributed) == ({"beyond": 4}, {})


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
def test_an_unprivileged_user_sees_the_own_processes_and_is_told_what_would_show_the_others(
    lab: LabProcess, python_with_psutil: str
) -> None:
    mine = hold(lab, "mine", 2, 8443, python=python_with_psutil, user=65534)
    hold(lab, "roots", 3, 8444)
    done = lab.run([python_with_psutil, "-c", WHO, "established", "process"], user=65534)
    answer = Answer(done)
    assert (answer.owners, answer.details) == ({"mine": 4}, {"mine": f"pid {mine}"})
    assert answer.unattributed == {REFUSED: 6}
    (remark,) = answer.remarks
    assert "processes could be read" in remark
    assert who(lab, "established", "process").owners == {"mine": 4, "roots": 6}


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes a process namespace here")
def test_sockets_of_processes_in_another_namespace_are_told_from_those_that_were_refused(lab: LabProcess) -> None:
    hold(lab, "elsewhere", 2, 8443)
    done = lab.run([sys.executable, "-c", ALONE, sys.executable, "-c", WHO, "established", "process"])
    if done.returncode == 77:
        pytest.skip("no process namespace with a /proc of its own on this machine")
    answer = Answer(done)
    assert (answer.owners, answer.unattributed, answer.remarks) == ({}, {NOT_FOUND: 4}, [])


@pytest.mark.parametrize(("state", "number"), [("syn_recv", 2), ("time_wait", 4), ("last_ack", 5)])
def test_half_open_and_closed_connections_have_no_process(lab: LabProcess, state: str, number: int) -> None:
    lab.make({state: number})
    answer = who(lab, state, "process")
    assert (answer.owners, answer.unattributed) == ({}, {NO_PROCESS: number})


def test_a_state_is_grouped_by_local_port_over_both_families(populated: LabProcess) -> None:
    expected = populated.expected()
    for state in ("close_wait", "time_wait", "last_ack"):
        answer = who(populated, state, "port")
        assert (answer.owners, answer.unattributed) == ({"443": expected[state]}, {})


def test_a_state_is_grouped_by_the_peers_address(populated: LabProcess) -> None:
    by_family = populated.expected_by_family()
    for state in ("close_wait", "time_wait", "syn_recv"):
        answer = who(populated, state, "remote")
        assert answer.owners == {
            "192.0.2.2": by_family["ipv4"][state],
            "2001:db8::1:2": by_family["ipv6"][state],
        }


def test_every_state_has_as_many_holders_by_any_grouping_as_sockets(populated: LabProcess) -> None:
    expected = populated.expected()
    for by in ("process", "port", "remote"):
        assert {state: who(populated, state, by).total for state in expected} == expected


def test_an_ipv4_peer_of_a_dual_stack_listener_is_grouped_with_the_others(lab: LabProcess) -> None:
    hold(lab, "a-server", 3, 8443)
    assert who(lab, "established", "remote").owners == {"127.0.0.1": 6}
    assert who(lab, "established", "port").owners["8443"] == 3


def test_listeners_have_no_peer(lab: LabProcess) -> None:
    hold(lab, "a-server", 0, 8443)
    hold(lab, "another", 0, 8444)
    assert who(lab, "listen", "remote").owners == {"no peer": 2}


def test_ten_thousand_more_are_counted_by_process(lab: LabProcess) -> None:
    lab.establish(10_000)
    assert who(lab, "established", "process").owners == {f"{psutil.Process(lab.pid).name()} -m tests.lab": 10_000}


REFUSING = [sys.executable, str(Path(__file__).parent / "refuse_netlink.py"), sys.executable, "-c"]


@pytest.mark.parametrize("by", ["process", "port", "remote"])
def test_where_netlink_is_refused_proc_tells_the_same(populated: LabProcess, by: str) -> None:
    hold(populated, "holder", 2, 8443)
    answers = [populated.run([*start, WHO, "established", by]).stdout for start in ([sys.executable, "-c"], REFUSING)]
    assert answers[0] == answers[1] != ""


def test_where_netlink_is_refused_units_cannot_be_told(lab: LabProcess) -> None:
    done = lab.run([*REFUSING, WHO, "established", "unit"])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "exporter.errors.SourceUnreadable: netlink: Permission denied (EACCES)"


@pytest.fixture
def service() -> Iterator[Path]:
    """A cgroup as a service has it."""
    mount_point = Cgroups().mount_point
    if mount_point is None:
        pytest.skip("no cgroup v2 here")
    path = Path(mount_point, f"tcp-who-{os.getpid()}.service")
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error.strerror}")
    yield path
    path.rmdir()


def test_sockets_are_counted_by_unit_without_privileges(service: Path, python_with_psutil: str) -> None:
    with LabProcess() as lab:  # ends before the cgroup is removed
        hold(lab, "a-server", 3, 8443, cgroup=str(service))
        lab.make({"time_wait": 2})
        for user in (None, 65534) if os.getuid() == 0 else (None,):
            answer = Answer(lab.run([python_with_psutil, "-c", WHO, "established", "unit"], user=user))
            assert (answer.owners, answer.unattributed) == ({service.name: 6}, {})
        assert who(lab, "time_wait", "unit").unattributed == {NO_CGROUP: 2}


@pytest.fixture(scope="session")
def python_with_psutil(anyones_python: str) -> str:
    """The Python that any user may run, with the one dependency that ``who`` has."""
    (site,) = Path(anyones_python).parents[1].glob("lib/python*/site-packages")
    shutil.copytree(Path(psutil.__file__).parent, site / "psutil", dirs_exist_ok=True)
    if subprocess.run([anyones_python, "-c", "import psutil"], check=False).returncode != 0:
        pytest.skip("psutil was built for another Python than the one that any user may run")
    return anyones_python
