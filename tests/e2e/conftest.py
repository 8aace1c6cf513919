"""The lab with a population, and programs beside it: what the end-to-end tests start from."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import pytest
import yaml

import exporter
from tests.lab import KINDS, LabProcess

T = TypeVar("T")
DEADLINE = 120.0  # seconds for what takes a fraction of one: only a hang reaches it, on a busy machine too
PROGRAM = [sys.executable, "-m", "exporter"]
PLUGIN = [sys.executable, "-c", "from exporter.nagios.check import main; main()"]


@pytest.fixture
def populated(lab: LabProcess) -> LabProcess:
    """Every kind of socket, in numbers that differ, both families."""
    for offset, family in ((1, socket.AF_INET), (3, socket.AF_INET6)):
        lab.make({kind: offset + position % 4 for position, kind in enumerate(KINDS)}, family)
    return lab


def wait_for(found: Callable[[], T | None], what: str, seconds: float = DEADLINE) -> T:
    """Ask *found* until it has an answer; fail after so many *seconds* with *what* was waited for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = found()
        if answer is not None:
            return answer
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds:g} s in vain for {what}")


def free_port(lab: LabProcess | None = None) -> int:
    """A port of 127.0.0.1, here or in a lab, for a program that does not say which one it was given.

    It is below those that the kernel gives to clients, so none of them has it by the time that the program listens.
    """
    for port in random.sample(range(10_000, 30_000), 100):
        with lab.socket() if lab is not None else socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("none of a hundred ports is free")


def get(
    port: int, path: str, lab: LabProcess | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Status and body of a GET from 127.0.0.1, here or in a lab's namespace."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    with contextlib.closing(connection):
        if lab is not None:
            connection.sock = lab.connect("127.0.0.1", port)
        connection.request("GET", path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


class Daemon:
    """The real daemon as a process, here or in a lab's namespace, on a free port; ended with the ``with`` block.

    *under* makes a command line of the daemon's: one that becomes it, under other circumstances.
    """

    def __init__(
        self,
        log: Path,
        *arguments: str,
        lab: LabProcess | None = None,
        env: Mapping[str, str] | None = None,
        under: Callable[[list[str]], list[str]] = list,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._lab = lab
        self.log = log
        command = [*program, "--web.listen-address", "127.0.0.1:0", "--log.format", "logfmt", *arguments]
        command = under(command)
        environ = {**os.environ, **(env or {})}
        with log.open("w") as stderr:
            if lab is not None:
                self.process = lab.popen(command, stdout=subprocess.DEVNULL, stderr=stderr, env=environ)
            else:
                self.process = subprocess.Popen(
                    command, stdout=subprocess.DEVNULL, stderr=stderr, env=environ, text=True
                )
        self.port = wait_for(self._port, f"the daemon's address in {log}")

    def _port(self) -> int | None:
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self.process.returncode}: {self.said()}")
        match = re.search(r"msg=listening address=https?://127\.0\.0\.1:(\d+)", self.said())
        return int(match[1]) if match else None

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)

    def said(self) -> str:
        return self.log.read_text()

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Status and body of a GET."""
        return get(self.port, path, self._lab, headers)

    def metrics(self) -> dict[str, float]:
        """The metrics page: series, as they are written, to value."""
        status, page = self.get("/metrics")
        assert status == 200
        return {
            series: float(value)
            for series, _, value in (line.rpartition(" ") for line in page.splitlines() if line[:1] not in {"", "#"})
        }

    def ready(self) -> Daemon:
        wait_for(lambda: self.get("/-/ready")[0] == 200 or None, f"readiness; the daemon said: {self.said()}")
        return self

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)


def by_state(metrics: Mapping[str, float], family: str = "tcp_connections") -> dict[str, int]:
    """The values of a family with the one label ``state``."""
    pattern = re.compile(rf'{family}{{state="(\w+)"}}')
    matches = ((pattern.fullmatch(series), value) for series, value in metrics.items())
    return {match[1]: int(value) for match, value in matches if match}


@pytest.fixture(scope="session")
def anyones_python() -> Iterator[str]:
    """A Python that any user may run and that has this package: the interpreter may be under a closed home."""
    python = next((path for path in ("/usr/bin/python3", sys.executable) if _is_anyones(path)), None)
    if python is None:
        pytest.skip("no Python 3.11 or newer that every user may run")
    with anyones_folder() as home:
        subprocess.run([python, "-m", "venv", "--without-pip", str(home / "venv")], check=True)
        (site,) = home.glob("venv/lib/python*/site-packages")
        package = Path(exporter.__file__).parent
        shutil.copytree(package, site / "exporter", ignore=shutil.ignore_patterns("*.pyc"))
        library = Path(yaml.__file__).parent  # which is for this interpreter, but for its part in C
        shutil.copytree(library, site / "yaml", ignore=shutil.ignore_patterns("*.pyc", "*.so"))
        yield str(home / "venv" / "bin" / "python")


def documented(program: str) -> tuple[str, list[str]]:
    """The output that docs/plugin.md shows of the monitoring server's *program*, and its command in words."""
    from tests.test_readme import blocks, commands  # noqa: PLC0415 - the guests of tests/kernels have no documents

    (block,) = [text for text in blocks("docs/plugin.md", "text") if f"/{program} -H " in text]
    shown = commands(block)[-1]
    return "\n".join(shown.output) + "\n", shlex.split(shown.command)


def without_numbers(line: str) -> str:
    return re.sub(r"\d+", "N", line)


@contextlib.contextmanager
def anyones_folder() -> Iterator[Path]:
    """A folder that everybody can reach and only this user can write to: pytest's are closed anew by each session."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


def _is_anyones(path: str) -> bool:
    """Whether *path* is new enough and its whole path is open to others."""
    real = Path(path).resolve()
    if not real.exists() or any(not folder.stat().st_mode & stat.S_IXOTH for folder in real.parents):
        return False
    version = subprocess.run(
        [path, "-c", "import sys, venv; print(sys.version_info >= (3, 11))"],
        capture_output=True,
        text=True,
        check=False,
    )
    return version.stdout.strip() == "True"
