"""What a monitor has to survive, provoked for real: refused and broken sources, exhausted limits, signals, clocks.

In each: what is true stays served, what is not known is absent and never 0, a metric and one line of the log say why,
and when the fault is over everything is as before without anybody's help.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import situation_root
from tests.e2e import faulty_netlink
from tests.e2e.conftest import DEADLINE, PROGRAM, Daemon, by_state, wait_for
from tests.e2e.faulty_netlink import Netlink
from tests.lab import LabProcess

COUNTING = 'tcp_exporter_samples_total{pass="light"}'
DETAIL = 'tcp_exporter_samples_total{pass="detail"}'
INTERVAL = 0.2
FAST = "sample: {interval: 200ms, max_cpu_ratio: 1}\ndetail: {interval: 300ms, max_cpu_ratio: 1}\n"


def up(source: str) -> str:
    return f'tcp_exporter_source_up{{source="{source}"}}'


def errors(source: str) -> str:
    return f'tcp_exporter_sample_errors_total{{source="{source}"}}'


def reader(metrics: Mapping[str, float]) -> list[str]:
    return [series for series in metrics if series.startswith("tcp_exporter_reader_info")]


def metrics_when(daemon: Daemon, holds: Callable[[dict[str, float]], bool], what: str) -> dict[str, float]:
    """The first page of metrics of which *holds* is true."""

    def page() -> dict[str, float] | None:
        metrics = daemon.metrics()
        return metrics if holds(metrics) else None

    return wait_for(page, f"{what}; the daemon said: {daemon.said()}")


def some_samples_more(daemon: Daemon, number: int = 5) -> dict[str, float]:
    """The metrics after *number* samples that began after this call."""
    enough = daemon.metrics()[COUNTING] + number + 1
    return metrics_when(daemon, lambda metrics: metrics[COUNTING] >= enough, "samples")


@pytest.fixture
def fast(tmp_path: Path) -> str:
    file = tmp_path / "exporter.yml"
    file.write_text(FAST)
    return str(file)


@pytest.fixture
def netlink(tmp_path: Path) -> Iterator[Netlink]:
    if not faulty_netlink.IS_KNOWN:
        pytest.skip("the numbers of this machine's system calls are not in faulty_netlink.py")
    with Netlink(tmp_path) as kernel:
        yield kernel


STEADY = ("syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "close_wait", "last_ack", "closing")


def steady(counts: Mapping[str, int]) -> dict[str, int]:
    """The counts without the states that this test's own requests go through."""
    return {state: counts[state] for state in STEADY if state in counts}


# -- netlink -----------------------------------------------------------------------------------------------------------


@pytest.mark.lab
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"refused": errno.EACCES}, "netlink: Permission denied (EACCES)"),
        ({"refused": errno.EAFNOSUPPORT}, "netlink: Address family not supported by protocol (EAFNOSUPPORT)"),
        ({"fails_after": (1, errno.ECONNRESET)}, "netlink: Connection reset by peer (ECONNRESET)"),
        ({"fails_after": (0, errno.ENOBUFS)}, "netlink: No buffer space available (ENOBUFS)"),
    ],
    ids=["refused", "forbidden", "stops in the middle", "out of buffers"],
)
def test_netlink_that_fails_is_replaced_by_procfs_and_taken_again_when_it_works(
    populated: LabProcess, netlink: Netlink, fast: str, tmp_path: Path, fault: dict[str, object], reason: str
) -> None:
    expected = steady(populated.expected())
    with Daemon(tmp_path / "log", "--config.file", fast, lab=populated, under=netlink.command) as daemon:
        before = metrics_when(
            daemon.ready(), lambda metrics: steady(by_state(metrics)) == expected, "every socket that was made"
        )
        assert reader(before) == ['tcp_exporter_reader_info{reader="netlink"}']
        for attribute, value in fault.items():
            setattr(netlink, attribute, value)
        during = metrics_when(
            daemon, lambda metrics: metrics.get(up("netlink")) == 0 and up("procfs") in metrics, "procfs in its place"
        )
        assert (reader(during), during[up("procfs")]) == (['tcp_exporter_reader_info{reader="procfs"}'], 1)
        again = metrics_when(daemon, lambda metrics: steady(by_state(metrics)) == expected, "the same from procfs")
        assert again[errors("netlink")] >= 1
        assert [series for series in again if series.startswith("tcp_listener_accept_queue_length")] == []
        failed = f'msg="source failed" source=netlink error="{reason}"'
        wait_for(lambda: failed in daemon.said() or None, failed)
        netlink.go_on()
        after = metrics_when(daemon, lambda metrics: metrics[up("netlink")] == 1, "netlink to be taken again")
        assert reader(after) == ['tcp_exporter_reader_info{reader="netlink"}']
        wait_for(lambda: 'msg="source recovered" source=netlink' in daemon.said() or None, "the line that says so")
        assert daemon.said().count('msg="source failed" source=netlink') == 1
        assert "Traceback" not in daemon.said()


@pytest.mark.lab
def test_netlink_that_says_nothing_costs_one_deadline_and_procfs_counts(
    populated: LabProcess, netlink: Netlink, fast: str, tmp_path: Path
) -> None:
    expected = steady(populated.expected())
    with Daemon(tmp_path / "log", "--config.file", fast, lab=populated, under=netlink.command) as daemon:
        daemon.ready()
        netlink.silent = True
        daemon_waits = 'msg="no sample in time" waiting_for=netlink'
        wait_for(lambda: daemon_waits in daemon.said() or None, daemon_waits)
        metrics_when(daemon, lambda metrics: reader(metrics) == ['tcp_exporter_reader_info{reader="procfs"}'], "procfs")
        metrics = metrics_when(daemon, lambda metrics: steady(by_state(metrics)) == expected, "what procfs counts")
        assert metrics[up("netlink")] == 0
        assert 'msg="source failed" source=netlink error="netlink: no reply within 5 s"' in daemon.said()
        assert some_samples_more(daemon)[up("netlink")] == 0  # it is not asked each time: that would cost 5 s each


@pytest.mark.lab
def test_a_dump_that_never_returns_makes_the_numbers_go_and_they_come_again_with_it(
    lab: LabProcess, netlink: Netlink, fast: str, tmp_path: Path
) -> None:
    with Daemon(tmp_path / "log", "--config.file", fast, lab=lab, under=netlink.command) as daemon:
        daemon.ready()
        netlink.hang()
        stale = "waiting for netlink"
        wait_for(lambda: stale in daemon.get("/-/ready")[1] or None, "the sample to be stale")
        assert by_state(daemon.metrics()) == {}
        netlink.go_on()
        daemon.ready()
        metrics_when(
            daemon,
            lambda metrics: metrics[up("netlink")] == 1 and by_state(metrics).get("listen", 0) >= 1,
            "the counts to come again",
        )


# -- /proc -------------------------------------------------------------------------------------------------------------


def in_mounts_of_its_own(command: list[str]) -> list[str]:
    return ["unshare", "--mount", "--propagation", "private", *command]


def in_mounts_of(daemon: Daemon, *command: str) -> None:
    done = subprocess.run(
        ["nsenter", "--target", str(daemon.process.pid), "--mount", *command],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def own_mounts() -> Callable[[list[str]], list[str]]:
    for program in ("unshare", "nsenter", "mount", "umount"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if subprocess.run(in_mounts_of_its_own(["true"]), capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace for this user")
    return in_mounts_of_its_own


PROC_SOURCES = ("netstat", "snmp", "sockstat", "sysctl")


@pytest.mark.lab
def test_when_proc_is_unmounted_netlink_counts_on_and_all_comes_back_with_proc(
    populated: LabProcess, fast: str, tmp_path: Path, own_mounts: Callable[[list[str]], list[str]]
) -> None:
    expected = steady(populated.expected())
    with Daemon(tmp_path / "log", "--config.file", fast, lab=populated, under=own_mounts) as daemon:
        before = metrics_when(daemon.ready(), lambda metrics: metrics.get(up("detail")) == 1, "a detail pass")
        in_mounts_of(daemon, "umount", "--lazy", "/proc")
        during = metrics_when(
            daemon,
            lambda metrics: [metrics.get(up(source)) for source in PROC_SOURCES] == [0] * 4,
            "every source of /proc to be missed",
        )
        assert (by_state(during).keys(), during["tcp_exporter_sample_derived"]) == (by_state(before).keys(), 0)
        metrics_when(daemon, lambda metrics: steady(by_state(metrics)) == expected, "every socket, counted by netlink")
        gone = ("tcp_sysctl_", "tcp_orphans", "tcp_timewait_sockets", "tcp_memory_", "tcp_active_opens", "tcp_listen_o")
        assert [series for series in during if series.startswith(gone)] == []
        assert [series for series in before if series.startswith(gone)] != []
        in_mounts_of(daemon, "mount", "-t", "proc", "proc", "/proc")
        after = metrics_when(
            daemon,
            lambda metrics: (
                [metrics[up(source)] for source in PROC_SOURCES] == [1] * 4
                and metrics["tcp_exporter_sample_derived"] == 1
            ),
            "everything to be read again",
        )
        assert {series for series in before if series.startswith(gone)} <= after.keys()
        said = daemon.said()
        lines = [
            (said.count(f'"source failed" source={it}'), said.count(f'"source recovered" source={it}'))
            for it in PROC_SOURCES
        ]
        assert lines == [(1, 1)] * 4
        assert "Traceback" not in said


@pytest.mark.lab
def test_a_dump_without_any_proc_has_the_states_and_names_what_is_missing(
    populated: LabProcess, own_mounts: Callable[[list[str]], list[str]]
) -> None:
    script = 'umount --lazy /proc && exec "$@"'
    command = own_mounts(["sh", "-c", script, "sh", *PROGRAM, "dump", "--format", "json"])
    done = populated.run(command)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert (document["connections"], document["reader"]) == (populated.expected(), "netlink")
    problems = {it["source"]: it["problem"] for it in document["sources"]}
    assert problems["snmp"] == "/proc/net/snmp: No such file or directory (ENOENT)"
    assert (document["sysctls"], document["counters"]) == ({}, {})


def test_half_of_proc_is_half_of_the_page(fast: str, tmp_path: Path) -> None:
    root = tmp_path / "proc"
    shutil.copytree(situation_root("busy"), root)
    with Daemon(tmp_path / "log", "--config.file", fast, "--path.procfs", str(root)) as daemon:
        whole = metrics_when(daemon.ready(), lambda metrics: metrics.get(up("detail")) == 1, "a detail pass")
        (root / "net").rename(root / "elsewhere")
        missing = ("netstat", "procfs", "snmp", "sockstat")
        half = metrics_when(
            daemon, lambda metrics: [metrics.get(up(it)) for it in missing] == [0] * 4, "the missing half to be said"
        )
        assert by_state(half) == {}
        assert half['tcp_status{measure="established"}'] == 3
        sysctls = {series: value for series, value in whole.items() if series.startswith("tcp_sysctl_value")}
        assert {series: half.get(series) for series in sysctls} == sysctls
        assert daemon.get("/-/ready") == (503, "TCP exporter is not ready: no reader can count the sockets.\n")
        (root / "elsewhere").rename(root / "net")
        metrics_when(daemon, lambda metrics: by_state(metrics) == by_state(whole), "the counts to come again")
        assert daemon.ready().said().count("source failed source") == 0
        assert [daemon.said().count(f'"source failed" source={it}') for it in missing] == [1] * 4


def test_sysctls_that_vanish_between_listing_and_reading_are_absent_and_nothing_else_is(
    fast: str, tmp_path: Path
) -> None:
    root = tmp_path / "proc"
    shutil.copytree(situation_root("busy"), root)
    folder = root / "sys" / "net" / "ipv4"
    with Daemon(tmp_path / "log", "--config.file", fast, "--path.procfs", str(root)) as daemon:
        vanishing = 'tcp_sysctl_value{field="",name="tcp_synack_retries",unit="retries"}'
        whole = daemon.ready().metrics()
        assert vanishing in whole
        # Names are read in their order: a reader that has opened the first has listed all.
        first = folder / "tcp_aaa"
        os.mkfifo(first)
        writer = wait_for(lambda: _opened(first), "the first sysctl to be opened")
        (folder / "tcp_synack_retries").rename(root / "kept")
        os.write(writer, b"1\n")
        first.unlink()
        os.close(writer)
        without = metrics_when(daemon, lambda metrics: vanishing not in metrics, "the sysctl to be absent")
        others = {series for series in whole if series.startswith("tcp_sysctl_value") and series != vanishing}
        assert {
            series for series in without if series.startswith("tcp_sysctl_value") and "tcp_aaa" not in series
        } == others
        assert by_state(without) == by_state(whole)
        # One that vanishes between the list and the reading is not a problem.
        metrics_when(daemon, lambda metrics: metrics[up("sysctl")] == 1, "the next pass")
        problems = re.findall(r'"source failed" source=sysctl error=(.+)', daemon.said())
        assert problems == []
        (root / "kept").rename(folder / "tcp_synack_retries")
        assert metrics_when(daemon, lambda metrics: vanishing in metrics, "its return")[vanishing] == whole[vanishing]
        assert "Traceback" not in daemon.said()


def _opened(fifo: Path) -> int | None:
    """The writing end, as soon as somebody has the other one."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


# -- limits of the process ---------------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_without_a_descriptor_left_nothing_spins_and_all_comes_back(fast: str, tmp_path: Path) -> None:
    missed = ("netlink", "procfs", "netstat", "snmp", "sockstat", "sysctl")
    with Daemon(tmp_path / "log", "--config.file", fast) as daemon:
        pid = daemon.ready().process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (4, hard))
        with socket.create_connection(("127.0.0.1", daemon.port)) as waiting:
            waiting.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            for source in missed:
                line = f'msg="source failed" source={source} '
                wait_for(lambda line=line: line in daemon.said() or None, line)  # type: ignore[misc]
            began, used = time.monotonic(), cpu_seconds(pid)
            wait_for(lambda: time.monotonic() > began + 3 or None, "what it does in three seconds")
            assert cpu_seconds(pid) - used < (time.monotonic() - began) / 2
            said = daemon.said()
            assert [said.count(f'msg="source failed" source={source} ') for source in missed] == [1] * len(missed)
            assert said.count("\n") < 20
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
            waiting.settimeout(DEADLINE)
            assert waiting.recv(65536).startswith(b"HTTP/1.1 200 ")
        left = [source for source in missed if source != "procfs"]  # which is not asked where netlink answers
        after = metrics_when(
            daemon, lambda metrics: [metrics.get(up(it)) for it in left] == [1] * len(left), "everything to be read"
        )
        assert min(after[errors(source)] for source in left) > 1
        assert by_state(after)["listen"] >= 1
        assert "Traceback" not in daemon.said()


def virtual_memory(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[0]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_without_memory_to_be_had_it_lives_on_and_says_so_in_few_lines(fast: str, tmp_path: Path) -> None:
    reloaded = "tcp_exporter_config_last_reload_successful"
    with Daemon(tmp_path / "log", "--config.file", fast) as daemon:
        pid = daemon.ready().process.pid
        metrics_when(daemon, lambda metrics: metrics.get(up("detail")) == 1, "a detail pass")
        # Below what it has already: from here on the kernel gives it no page more.
        resource.prlimit(pid, resource.RLIMIT_AS, (virtual_memory(pid) // 2, resource.RLIM_INFINITY))
        daemon.process.send_signal(signal.SIGHUP)
        refused = 'error="it cannot be read: can\'t start new thread"'
        wait_for(lambda: refused in daemon.said() or None, refused)
        answers = []
        for path in ["/metrics", "/", "/api/v1/history", "/api/v1/snapshot", "/-/healthy"] * 20:
            with contextlib.suppress(OSError, http.client.HTTPException):  # or an answer is not to be had
                answers.append(daemon.get(path)[0])
        assert set(answers) <= {200, 500}
        assert daemon.process.poll() is None
        resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert daemon.ready().metrics()[reloaded] == 0
        daemon.process.send_signal(signal.SIGHUP)
        metrics = metrics_when(daemon, lambda metrics: metrics[reloaded] == 1, "the configuration to be read again")
        assert [metrics[up(source)] for source in ("netlink", "snmp", "netstat", "sockstat", "sysctl")] == [1] * 5
        some_samples_more(daemon)
        assert daemon.said().count("level=error") <= 4  # the thread, the clients, and one for each kind of pass


# -- the process -------------------------------------------------------------------------------------------------------

DYING = """
import ctypes, signal, threading
from exporter.cli import main

def die(*_):
    thread = next(each for each in threading.enumerate() if each.name == "{name}")
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))

signal.signal(signal.SIGUSR1, die)
main()
"""


@pytest.mark.parametrize("name", ["counting", "detail"])
def test_when_a_thread_of_the_loop_dies_the_process_ends_so_that_it_is_started_anew(
    fast: str, tmp_path: Path, name: str
) -> None:
    program = [sys.executable, "-c", DYING.format(name=name)]
    with Daemon(tmp_path / "log", "--config.file", fast, program=program) as daemon:
        daemon.ready()
        daemon.process.send_signal(signal.SIGUSR1)
        assert daemon.process.wait(DEADLINE) == 1
        assert 'level=error msg="the polling loop has died"' in daemon.said()
        assert "Traceback" not in daemon.said()


FILL = """
folder=$1; shift
mount -t tmpfs -o size=1m tmpfs "$folder" || exit 9
"$@" && before=$(cksum < "$folder/tcp.prom")
cat /dev/zero > "$folder/filler" 2>/dev/null
"$@"; echo "exit $?" $(ls -A "$folder")
[ "$before" = "$(cksum < "$folder/tcp.prom")" ] && echo "the file from before"
rm "$folder/filler"
"$@"; echo "exit $?" $(ls -A "$folder")
"""


def test_a_full_disk_leaves_the_file_from_before_and_no_rest(
    tmp_path: Path, own_mounts: Callable[[list[str]], list[str]]
) -> None:
    dump = [*PROGRAM, "dump", "--path.procfs", situation_root("busy"), "--output", f"{tmp_path}/tcp.prom"]
    done = subprocess.run(
        own_mounts(["sh", "-c", FILL, "sh", str(tmp_path), *dump]), capture_output=True, text=True, check=False
    )
    assert done.stdout == "exit 1 filler tcp.prom\nthe file from before\nexit 0 tcp.prom\n"
    assert done.stderr == f"tcp-exporter: cannot write {tmp_path}/tcp.prom: No space left on device\n"


def test_a_process_that_was_stopped_makes_up_for_no_samples(fast: str, tmp_path: Path) -> None:
    with Daemon(tmp_path / "log", "--config.file", fast) as daemon:
        began, before = time.monotonic(), some_samples_more(daemon.ready())
        daemon.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: _state(daemon.process.pid) == "T" or None, "the process to be stopped")
        stopped = time.monotonic()
        wait_for(lambda: time.monotonic() > stopped + 3 or None, "15 samples not to be taken")
        stood = time.monotonic() - stopped
        daemon.process.send_signal(signal.SIGCONT)
        after = some_samples_more(daemon.ready())
        ran = time.monotonic() - began - stood
        assert after[COUNTING] - before[COUNTING] <= ran / INTERVAL + 3
        assert after["tcp_exporter_sample_overruns_total"] > 0
        metrics_when(daemon, lambda metrics: metrics[up("netlink")] == 1, "it to be as before")
        assert "Traceback" not in daemon.said()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_after_a_hundred_hangups_in_a_row_the_last_file_is_in_force(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("thresholds: {established: {warning: 1000}}\n")
    limit = 'tcp_threshold{measure="established",severity="warning"}'
    good = "tcp_exporter_config_last_reload_successful"
    with Daemon(tmp_path / "log", "--config.file", str(file), "--path.procfs", situation_root("busy")) as daemon:
        assert daemon.ready().metrics()[limit] == 1000
        folder = Path(f"/proc/{daemon.process.pid}")
        descriptors, threads = len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir()))
        new = tmp_path / "new.yml"
        for number in range(100):
            new.write_text(f"thresholds: {{established: {{warning: {number}}}}}\n" if number % 2 else "sample: [1]\n")
            new.rename(file)
            daemon.process.send_signal(signal.SIGHUP)
        metrics_when(daemon, lambda metrics: (metrics[limit], metrics[good]) == (99, 1), "the last file")
        new.write_text("sample: [1]\n")
        new.rename(file)  # a reload that is still under way must not meet it empty, which is a valid file
        daemon.process.send_signal(signal.SIGHUP)
        refused = metrics_when(daemon, lambda metrics: metrics[good] == 0, "the refusal")
        assert refused[limit] == 99
        wait_for(
            lambda: len(list((folder / "task").iterdir())) == threads or None, "the threads to be as many as before"
        )
        wait_for(lambda: len(list((folder / "fd").iterdir())) <= descriptors + 1 or None, "descriptors to be as before")
        assert "Traceback" not in daemon.said()
        assert daemon.terminate() == 0


@pytest.mark.lab
def test_a_scrape_that_is_being_answered_is_completed_after_sigterm(lab: LabProcess, tmp_path: Path) -> None:
    lab.sysctl("net.ipv4.tcp_wmem", "4096 4096 4096")  # so that most of the page has to wait for its reader
    with Daemon(tmp_path / "log", lab=lab) as daemon:
        daemon.ready()
        connection = lab.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(DEADLINE)
        connection.connect(("127.0.0.1", daemon.port))
        with connection, connection.makefile("rb") as answer:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert answer.readline() == b"HTTP/1.1 200 OK\r\n"
            daemon.process.send_signal(signal.SIGTERM)
            wait_for(lambda: "msg=stopping" in daemon.said() or None, "the daemon to begin its end")
            assert daemon.process.poll() is None
            headers = dict(line.decode().strip().split(": ") for line in iter(answer.readline, b"\r\n"))
            body = answer.read()
            assert len(body) == int(headers["Content-Length"])
            assert b'tcp_connections{state="closing"}' in body
        assert daemon.process.wait(DEADLINE) == 0


# -- the clock ---------------------------------------------------------------------------------------------------------


# Its file holds the seconds by which the clock of the system is set forward: eight bytes, mapped, so that setting it is
# seen at once and costs no call of it anything. libfaketime reads a file at each call, and breaks time.sleep() besides.
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static const volatile int64_t *forward;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("CLOCK_FORWARD"), O_RDONLY);
    forward = mmap(NULL, sizeof *forward, PROT_READ, MAP_SHARED, file, 0);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*kernels)(clockid_t, struct timespec *);
    if (!kernels)
        kernels = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = kernels(clock, now);
    if (!failed && clock == CLOCK_REALTIME && forward)
        now->tv_sec += *forward;
    return failed;
}
"""


class Clock(NamedTuple):
    """The system's clock as programs see it that run with *environment*."""

    file: Path
    environment: dict[str, str]

    def set_forward(self, seconds: int) -> None:
        with self.file.open("r+b") as file:
            file.write(struct.pack("q", seconds))


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("cc is not installed")
    library, file = tmp_path / "clock.so", tmp_path / "clock"
    file.write_bytes(struct.pack("q", 0))
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-o", str(library), "-", "-ldl"]
    done = subprocess.run(command, input=CLOCK, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return Clock(file, {"LD_PRELOAD": str(library), "CLOCK_FORWARD": str(file)})


def unmoved(metrics: Mapping[str, float]) -> dict[str, float]:
    """What no clock changes."""
    families = ("tcp_connections", "tcp_connections_peak", "tcp_status", "tcp_exporter_source_up", "tcp_sysctl_value")
    return {series: value for series, value in metrics.items() if series.startswith(families)}


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_clock_that_is_set_moves_the_timestamp_and_nothing_else(tmp_path: Path, clock: Clock, hours: int) -> None:
    config = tmp_path / "exporter.yml"
    config.write_text(FAST)
    stamp = "tcp_exporter_sample_timestamp_seconds"
    arguments = ("--config.file", str(config), "--path.procfs", situation_root("busy"))
    with Daemon(tmp_path / "log", *arguments, env=clock.environment) as daemon:
        daemon.ready()
        before = metrics_when(daemon, lambda metrics: metrics.get(up("detail")) == 1, "a detail pass")
        assert abs(before[stamp] - time.time()) < DEADLINE
        clock.set_forward(hours * 3600)
        after = metrics_when(daemon, lambda metrics: abs(metrics[stamp] - before[stamp]) > 3600, "the clock to be set")
        assert abs(after[stamp] - time.time() - hours * 3600) < DEADLINE
        some_samples_more(daemon)
        metrics_when(daemon, lambda metrics: unmoved(metrics) == unmoved(before), "what was there before")
        daemon.ready()  # by the other clock a sample would be too old for two hours, or never
        assert "Traceback" not in daemon.said()
