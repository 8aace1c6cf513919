"""Podman as it runs on a server, with a store of its own, and a network namespace of its own to run containers in.

What this host lacks is given to it: one tree of cgroup v2, and limits that need no rights of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from tests.machine.booted import DEADLINE, FETCH

CONTAINERS = """\
[containers]
cgroups = "disabled"  # no systemd and no delegated tree to make one in
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]  # root without CAP_SYS_RESOURCE may only lower them
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
"""
STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/root"
runroot = "{folder}/run"
"""
# crun refuses the hybrid of cgroup v1 and v2. The namespaces, and every mount in them, end with standard input.
HOLD = "ip link set lo up && mount -t cgroup2 none /sys/fs/cgroup && echo held && exec cat"


class Engine:
    """Podman until the end of the ``with`` block, which also ends its containers and deletes its store."""

    def __enter__(self) -> Engine:
        self._folder = tempfile.mkdtemp(prefix="tcp-exporter-")  # short: it has sockets, whose paths have a limit
        for name, text in (("containers.conf", CONTAINERS), ("storage.conf", STORAGE.format(folder=self._folder))):
            Path(self._folder, name).write_text(text, encoding="utf-8")
        self._environ = {
            **os.environ,
            "CONTAINERS_CONF": f"{self._folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{self._folder}/storage.conf",
        }
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", "-c", HOLD],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "held\n":
            raise RuntimeError(f"no namespace for containers: {self._holder.communicate()[1]}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.podman("rm", "--all", "--force", check=False)
        finally:
            self._holder.communicate("")
            shutil.rmtree(self._folder)

    def enter(self, *command: str, network: bool = False, check: bool = True) -> tuple[int, str]:
        """Exit code and standard output of *command* beside the containers; with *network*, in the host's network."""
        namespaces = ["--mount"] if network else ["--mount", "--net"]
        done = subprocess.run(
            ["nsenter", "--target", str(self._holder.pid), *namespaces, "--", *command],
            env=self._environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=5 * DEADLINE,
            check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.returncode, done.stdout

    def podman(self, *arguments: str, network: bool = False, check: bool = True) -> str:
        """What podman says on standard output."""
        return self.enter("podman", *arguments, network=network, check=check)[1]

    def get(self, path: str, port: int = 19293) -> tuple[int, str]:
        """Status and body of a GET from the loopback that containers with the host's network have; 0: no answer."""
        code, said = self.enter(sys.executable, "-c", FETCH, str(port), path, check=False)
        if code:
            return 0, ""
        status, body = json.loads(said)
        return status, body
