"""A program that serves HTTP on 127.0.0.1, from its start to its end: our daemon, and node_exporter beside it."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks.installed import virtualenv
from benchmarks.load import RESET
from benchmarks.meter import ROOT, Failed, environment, program

_PATIENCE_SECONDS = 60.0
_PAUSE = 0.001
_SCRAPE_SECONDS = 300.0
_LISTENING = re.compile(r"msg=listening address=http://[0-9.]+:(\d+)")
_SYSCTLS = """
    tcp_fin_timeout tcp_keepalive_intvl tcp_keepalive_probes tcp_keepalive_time tcp_max_orphans tcp_max_syn_backlog
    tcp_max_tw_buckets tcp_orphan_retries tcp_retries1 tcp_retries2 tcp_sack tcp_syn_retries tcp_synack_retries
    tcp_syncookies tcp_timestamps tcp_tw_reuse tcp_window_scaling
"""
"""A list as an operator would write it."""


class Server:
    """A running server. ``started`` is the monotonic time at which it was."""

    def __init__(self, process: subprocess.Popen[bytes], started: float) -> None:
        self._process = process
        self.started = started
        self.port = 0

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_SCRAPE_SECONDS)
        with contextlib.closing(connection):
            connection.connect()
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def metrics(self) -> dict[str, float]:
        """The page of metrics: series, as they are written, to value."""
        _, page = self.get("/metrics")
        pairs = (line.rpartition(" ") for line in page.splitlines() if line[:1] not in {"", "#"})
        return {series: float(value) for series, _, value in pairs}

    def wait_for(self, path: str) -> float:
        """Wait until *path* answers 200; the seconds since the start."""

        def answers() -> bool:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self.get(path)[0] == 200
            return False

        self.wait_until(answers, f"an answer to {path}")
        return time.monotonic() - self.started

    def wait_until(self, reached: Callable[[], bool], what: str) -> None:
        """Ask again and again; Failed when the program ends or time is up."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while not reached():
            if (code := self._process.poll()) is not None:
                raise Failed(f"{self._process.args[0]!r} ended with {code} before {what}")  # type: ignore[index]  # a list
            if time.monotonic() > end:
                raise Failed(f"no {what} within {_PATIENCE_SECONDS:g} s")
            time.sleep(_PAUSE)


@contextlib.contextmanager
def started(command: Sequence[str], log: str) -> Iterator[Server]:
    """Run a program, what it says in the file *log*, and end it with the block."""
    with open(log, "wb") as file:
        at = time.monotonic()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=ROOT, env=environment()
        )
    try:
        yield Server(process, at)
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at this moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def our_daemon(
    folder: str,
    configuration: str = "",
    *,
    script: str = "",
    address: str = "127.0.0.1",
) -> Iterator[Server]:
    """The daemon as it is installed, on a free port, with a configuration file only if there is something to say.

    A *script* of Python starts it in another way.
    """
    programs = virtualenv(folder)
    launcher = [os.path.join(programs, "python"), script] if script else [os.path.join(programs, "tcp-exporter")]
    command = [*launcher, "serve", f"--web.listen-address={address}:0", "--log.format=logfmt"]
    with tempfile.TemporaryDirectory(dir=folder) as own:
        log = os.path.join(own, "log")
        if configuration:
            command.append(f"--config.file={os.path.join(own, 'tcp-exporter.yml')}")
            with open(os.path.join(own, "tcp-exporter.yml"), "w", encoding="ascii") as file:
                file.write(configuration)
        with started(command, log) as server:

            def listening() -> bool:
                with open(log, encoding="utf-8") as file:
                    found = _LISTENING.search(file.read())
                server.port = int(found[1]) if found else 0
                return found is not None

            server.wait_until(listening, "address in the daemon's log")
            yield server


@contextlib.contextmanager
def node_exporter(folder: str, *collectors: str) -> Iterator[Server]:
    """Debian's node_exporter with nothing but these collectors."""
    port = free_port()
    command = [
        program("prometheus-node-exporter", "prometheus-node-exporter"),
        f"--web.listen-address=127.0.0.1:{port}",
        "--collector.disable-defaults",
        *(f"--collector.{name}" for name in collectors),
    ]
    if "sysctl" in collectors:
        command += [f"--collector.sysctl.include=net.ipv4.{name}" for name in _SYSCTLS.split()]
    with tempfile.TemporaryDirectory(dir=folder) as own, started(command, os.path.join(own, "log")) as server:
        server.port = port
        server.wait_for("/")
        yield server
