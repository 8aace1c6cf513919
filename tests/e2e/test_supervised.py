"""The real daemon under a service manager: a real notification socket in systemd's place, and socket activation."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import situation_root
from tests.e2e.conftest import DEADLINE, PROGRAM, Daemon, free_port, get, wait_for

WORKING = "STATUS=counting by procfs, 656 established"


class Manager:
    """Listens as systemd does."""

    def __init__(self, path: Path) -> None:
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind(str(path))
        self._channel.settimeout(DEADLINE)
        self.environ = {"NOTIFY_SOCKET": str(path)}

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def message(self) -> list[str]:
        """The lines of the next message."""
        return self._channel.recv(4096).decode().split("\n")

    def until(self, line: str) -> list[list[str]]:
        """The messages to the first that has *line*, with it."""
        messages = [self.message()]
        while line not in messages[-1]:
            messages.append(self.message())
        return messages

    def rest(self) -> list[list[str]]:
        """What has arrived and was not read yet."""
        messages = []
        self._channel.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                messages.append(self.message())
        self._channel.settimeout(DEADLINE)
        return messages


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(tmp_path / "notify") as listening:
        yield listening


@pytest.fixture
def procfs(tmp_path: Path) -> Path:
    """A procfs that a test may change."""
    return Path(shutil.copytree(situation_root("busy"), tmp_path / "proc"))


def hang(file: Path) -> str:
    """From now on a read of *file* waits for a writer; returns what was in it.

    To be mended, it has to be a file that one thread alone reads: two would share what is written.
    """
    content = file.read_text()
    aside = file.with_name("aside")
    os.mkfifo(aside)
    aside.replace(file)
    return content


def mend(file: Path, content: str) -> None:
    """Let the read that hangs have *content*, and those after it too."""
    with file.open("w") as pipe:  # waits for the reader, which is there or comes with the next sample
        aside = file.with_name("aside")
        aside.write_text(content)
        aside.replace(file)
        pipe.write(content)


def wakes_again(daemon: Daemon, times: int) -> None:
    """Wait until the main thread, which has nothing to do but to look after the others, has gone to sleep so often."""
    status = Path(f"/proc/{daemon.process.pid}/status")

    def slept() -> int:
        return int(status.read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    before = slept()
    wait_for(lambda: slept() >= before + times or None, f"it to wake {times} times")


def daemon(tmp_path: Path, procfs: Path, env: Mapping[str, str]) -> Daemon:
    return Daemon(tmp_path / "log", "--path.procfs", str(procfs), env=env)


def test_it_is_ready_when_it_has_counted_and_not_before(tmp_path: Path, manager: Manager, procfs: Path) -> None:
    content = hang(procfs / "net" / "snmp")
    with daemon(tmp_path, procfs, manager.environ) as it:
        before = manager.until("STATUS=no sample yet, waiting for snmp")
        assert [line for message in before for line in message if not line.startswith("STATUS=")] == []
        mend(procfs / "net" / "snmp", content)
        assert manager.until("READY=1")[-1] == ["READY=1", WORKING]
        assert it.get("/-/ready")[0] == 200


def test_where_nothing_can_be_counted_it_starts_all_the_same_and_is_left_alive(
    tmp_path: Path, manager: Manager
) -> None:
    environ = manager.environ | {"WATCHDOG_USEC": "1000000"}
    with daemon(tmp_path, Path(situation_root("truncated")), environ) as it:
        assert manager.until("READY=1")[-1] == ["READY=1", "WATCHDOG=1"]
        assert manager.until("WATCHDOG=1") == [["WATCHDOG=1"]]
        assert it.get("/-/ready") == (503, "TCP exporter is not ready: no reader can count the sockets.\n")
        assert it.terminate() == 0


def test_the_watchdog_hears_of_life_until_a_read_hangs_and_again_after_it(
    tmp_path: Path, manager: Manager, procfs: Path
) -> None:
    with daemon(tmp_path, procfs, manager.environ | {"WATCHDOG_USEC": "1000000"}) as it:
        assert manager.until("READY=1")[-1] == ["READY=1", "WATCHDOG=1", WORKING]
        for _ in range(3):
            manager.until("WATCHDOG=1")
        content = hang(procfs / "net" / "snmp")
        manager.until("STATUS=no sample in time, waiting for snmp")
        wakes_again(it, times=6)  # at each it would give a sign of life
        assert manager.rest() == []
        mend(procfs / "net" / "snmp", content)
        assert manager.until("WATCHDOG=1")[-1] == ["WATCHDOG=1", WORKING]
        manager.until("WATCHDOG=1")


def test_the_watchdog_of_another_process_hears_nothing(tmp_path: Path, manager: Manager, procfs: Path) -> None:
    with daemon(tmp_path, procfs, manager.environ | {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}) as it:
        assert manager.until("READY=1")[-1] == ["READY=1", WORKING]
        assert it.terminate() == 0
        assert manager.rest() == [["STOPPING=1", "STATUS=stopping"]]


def test_what_the_watchdog_kills_leaves_the_stack_of_each_thread(
    tmp_path: Path, manager: Manager, procfs: Path
) -> None:
    with daemon(tmp_path, procfs, manager.environ) as it:
        manager.until("READY=1")
        hang(procfs / "net" / "snmp")
        manager.until("STATUS=no sample in time, waiting for snmp")
        it.process.send_signal(signal.SIGABRT)
        assert it.process.wait(DEADLINE) == -signal.SIGABRT
        assert "Fatal Python error: Aborted" in it.said()
        assert 'loop.py", line' in it.said()
        assert 'daemon.py", line' in it.said()


def test_a_reload_is_told_from_its_beginning_to_its_end(tmp_path: Path, manager: Manager, procfs: Path) -> None:
    with daemon(tmp_path, procfs, manager.environ) as it:
        manager.until("READY=1")
        before = time.monotonic_ns() // 1000
        it.process.send_signal(signal.SIGHUP)
        [_, at] = manager.until("RELOADING=1")[-1]
        assert before <= int(at.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
        assert manager.message() == ["READY=1"]


def test_a_reload_that_is_refused_ends_too(tmp_path: Path, manager: Manager, procfs: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("{}\n")
    arguments = ["--path.procfs", str(procfs), "--config.file", str(file)]
    with Daemon(tmp_path / "log", *arguments, env=manager.environ) as it:
        manager.until("READY=1")
        file.write_text("sample: {}\nbananas: 1\n")
        it.process.send_signal(signal.SIGHUP)
        manager.until("RELOADING=1")
        rejected = f"; configuration rejected: {file}:2:1: bananas: unknown key"
        ready, status = manager.message()
        assert (ready, status.startswith(WORKING + rejected)) == ("READY=1", True), status
        assert "configuration rejected" in it.said()


WITHOUT_MEMORY_AT_THE_FIRST_RELOAD = """
from exporter import cli
from exporter.config import file as configfile

load, asked = configfile.load, []


def fail_once(*arguments):
    asked.append(arguments)
    if len(asked) == 2:
        raise MemoryError
    return load(*arguments)


configfile.load = fail_once
cli.main()
"""


def test_a_reload_that_fails_by_a_want_of_memory_ends_too_and_the_next_one_succeeds(
    tmp_path: Path, manager: Manager, procfs: Path
) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("{}\n")
    arguments = ["--path.procfs", str(procfs), "--config.file", str(file)]
    program = [sys.executable, "-c", WITHOUT_MEMORY_AT_THE_FIRST_RELOAD]
    with Daemon(tmp_path / "log", *arguments, env=manager.environ, program=program) as it:
        manager.until("READY=1")
        for said in ("configuration rejected", "configuration reloaded"):
            it.process.send_signal(signal.SIGHUP)
            manager.until("RELOADING=1")
            assert manager.message()[0] == "READY=1"
            assert said in it.said()
        assert "it cannot be read: MemoryError" in it.said()
        assert "Traceback" not in it.said()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_its_end_is_told(tmp_path: Path, manager: Manager, procfs: Path, number: signal.Signals) -> None:
    with daemon(tmp_path, procfs, manager.environ) as it:
        manager.until("READY=1")
        it.process.send_signal(number)
        assert it.process.wait(DEADLINE) == 0
        assert manager.rest() == [["STOPPING=1", "STATUS=stopping"]]


def test_a_manager_that_has_gone_ends_nothing(tmp_path: Path, procfs: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "100000"}
    with daemon(tmp_path, procfs, environ) as it:
        it.ready()
        samples = 'tcp_exporter_samples_total{pass="light"}'
        enough = it.metrics()[samples] + 1
        wait_for(lambda: it.metrics()[samples] > enough or None, "samples")
        assert it.terminate() == 0
        assert "Traceback" not in it.said()


def test_nothing_of_the_manager_is_left_in_the_environment(tmp_path: Path) -> None:
    """As it is for programs that it would start: /proc/PID/environ is what it was given and shows nothing."""
    code = (
        "import os, exporter.daemon.daemon as d, exporter.config.schema as c\n"
        "d.log.logger = lambda *_: (print(sorted(n for n in os.environ if n in given), flush=True), os._exit(0))\n"
        "given = {'NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID', 'PATH'}\n"
        "d.serve(c.Config, '/proc')\n"
    )
    environ = os.environ | {"NOTIFY_SOCKET": str(tmp_path), "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    done = subprocess.run([PROGRAM[0], "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("['PATH']\n", "")


# -- Sockets that are passed, and those that are paths -----------------------------------------------------------------


def unix_get(path: Path, target: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("localhost", timeout=DEADLINE)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.closing(connection):
        connection.sock.settimeout(DEADLINE)
        connection.sock.connect(str(path))
        connection.request("GET", target)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_every_socket_that_systemd_passes_is_served(tmp_path: Path) -> None:
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("systemd-socket-activate is not installed")
    port, path = free_port(), tmp_path / "socket"
    command = [activate, "-l", f"127.0.0.1:{port}", "-l", str(path), *PROGRAM, "--web.systemd-socket",
               "--web.listen-address", "127.0.0.1:1", "--path.procfs", situation_root("busy")]  # fmt: skip
    log = tmp_path / "log"
    with log.open("w") as stderr, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr) as process:
        try:
            # It listens, and becomes the daemon with the first connection.
            wait_for(lambda: path.exists() or None, "the sockets")
            wait_for(lambda: get(port, "/-/ready")[0] == 200 or None, "readiness")
            status, page = unix_get(path, "/metrics")
            assert (status, 'tcp_connections{state="established"} 656.0\n' in page) == (200, True)
            for address in (f"http://127.0.0.1:{port}", f"unix:{path}"):
                assert f"msg=listening address={address}\n" in log.read_text()
            assert "127.0.0.1:1\n" not in log.read_text()
        finally:
            process.terminate()
        assert process.wait(DEADLINE) == 0


def test_without_a_passed_socket_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "--web.systemd-socket"], capture_output=True, text=True, check=False, timeout=DEADLINE
    )
    message = "tcp-exporter: no socket activation file descriptors found\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


def test_a_unix_socket_is_scraped_replaced_after_a_kill_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    arguments = ["--path.procfs", situation_root("busy"), "--web.listen-address", f"unix:{path}"]
    with Daemon(tmp_path / "log", *arguments) as first:
        first.ready()
        assert 'tcp_connections{state="established"} 656.0\n' in unix_get(path, "/metrics")[1]
        second = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=DEADLINE)
        message = f"tcp-exporter: cannot listen on unix:{path}: another process listens there\n"
        assert (second.returncode, second.stderr) == (1, message)
    assert path.exists()  # it was killed
    with Daemon(tmp_path / "log2", *arguments) as third:
        third.ready()
        assert unix_get(path, "/-/healthy")[0] == 200
        assert third.terminate() == 0
    assert not path.exists()
