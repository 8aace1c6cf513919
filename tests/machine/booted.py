"""A booted Debian: systemd-nspawn with a network of its own; commands run in it through nsenter."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import psutil

from tests.machine.once import locked

T = TypeVar("T")
DEADLINE = 120.0  # seconds for what takes a few: only a hang reaches it
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
FETCH = """\
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
connection.request("GET", sys.argv[2])
answer = connection.getresponse()
print(json.dumps([answer.status, answer.read().decode()]))
"""


class Machine:
    """Boots *tree*, whose files stay as they are: what is written is forgotten when the ``with`` block ends.

    One at a time on this host: the systemds of two would share a cgroup, and each removes what it does not know there.
    Each of *packages* is in a folder of its own: the first in /mnt/dist, the others in /mnt/dist2 and so on.
    """

    def __init__(self, tree: Path, log: Path, *packages: Path):
        self.log = log
        command = [
            "systemd-nspawn", "--quiet", "--directory", str(tree), "--volatile=overlay", "--register=no", "--keep-unit",
            "--private-network", "--link-journal=no", "--console=pipe",
            *(
                f"--bind-ro={package}:/mnt/dist{'' if number == 1 else number}/{package.name}"
                for number, package in enumerate(packages, 1)
            ),
            "--boot",
        ]  # fmt: skip
        self._turn = contextlib.ExitStack()
        self._turn.enter_context(locked(Path(tempfile.gettempdir(), "tcp-exporter-machine.lock")))
        with log.open("w") as output:
            self._nspawn = psutil.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            self._leader: int = self.wait_for(self._find_leader, "PID 1")
            self.wait_for(self._is_up, "the end of the boot")
        except BaseException:
            self._nspawn.kill()
            self._nspawn.wait()
            self._turn.close()
            raise

    def _find_leader(self) -> int | None:
        for child in self._nspawn.children():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{child.pid}/status").read_text(encoding="utf-8")
                inner = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
                if inner[2:] == ["1"]:
                    return int(child.pid)
        return None

    def _is_up(self) -> str | None:
        """systemd's word for it; degraded is up as well: what failed is for the tests to say."""
        said = self.run("systemctl", "is-system-running", check=False).strip()
        return said if said in {"running", "degraded"} else None

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._turn:
            self.run("systemctl", "poweroff", "--force", "--force", check=False)
            try:
                self._nspawn.wait(DEADLINE)
            finally:
                if self._nspawn.is_running():
                    self._nspawn.kill()
                    self._nspawn.wait()

    def wait_for(self, found: Callable[[], T | None], what: str) -> T:
        """Ask *found* until it has an answer; fail after the deadline with *what* was waited for."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            answer = found()
            if answer is not None:
                return answer
            if self._nspawn.poll() is not None:
                raise AssertionError(f"the machine ended, waiting for {what}: {self.log.read_text()[-4000:]}")
            time.sleep(0.1)
        raise AssertionError(
            f"waited {DEADLINE:g} s in vain for {what}; the console said {self.log.read_text()[-4000:]}"
        )

    def run(self, *command: str, check: bool = True) -> str:
        """The standard output of *command*, run by root in the machine; it must succeed where *check* is not False."""
        done = subprocess.run(
            ["nsenter", "--target", str(self._leader), "--all", "--root", "--wd", "--", *command],
            stdin=subprocess.DEVNULL, capture_output=True, env=ENVIRONMENT, timeout=DEADLINE, text=True, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def shell(self, script: str) -> str:
        """What a script for /bin/sh says; it ends with the first command that fails, and then so does the test."""
        return self.run("/bin/sh", "-euc", script)

    def write(self, path: str, text: str) -> None:
        """Make or replace a file of the machine."""
        self.run("/bin/sh", "-euc", 'mkdir -p "$(dirname "$1")"; printf %s "$2" > "$1"', "write", path, text)

    def get(self, path: str, port: int = 19293) -> tuple[int, str]:
        """Status and body of a GET from the machine's own loopback; status 0 where nothing answers."""
        said = self.run("/usr/bin/python3", "-c", FETCH, str(port), path, check=False)
        try:
            status, body = json.loads(said)
        except ValueError:
            return 0, said
        return status, body

    def journal(self, unit: str) -> str:
        """What the journal has of a unit, without times and names."""
        return self.run("journalctl", "--unit", unit, "--output=cat", "--no-pager")

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit, as systemctl shows them."""
        said = self.run("systemctl", "show", unit, *(f"--property={name}" for name in names))
        return dict(line.split("=", 1) for line in said.splitlines())
