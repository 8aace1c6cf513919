"""A host with very many listeners, cgroups and network namespaces, and clients that ask for all and read nothing.

The daemon runs as root with ``detail.namespaces``, which is the most that it can be asked to keep, in a memory cgroup
with the limit of the systemd unit and the DaemonSet. As a script, ``python -m tests.soak.large LISTENERS CGROUPS
NAMESPACES`` is that host: it makes all of it around itself, writes a line, and ends with its standard input.
"""

from __future__ import annotations

import contextlib
import ctypes
import gzip
import http.client
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.e2e.conftest import DEADLINE, Daemon, wait_for
from tests.lab import LabProcess, LabUnavailable
from tests.lab.namespace import join_command

PATHS = ("/metrics", "/api/v1/snapshot", "/api/v1/history", "/")
_ROOT = Path(__file__).parents[2]
_UNIT = _ROOT / "systemd" / "tcp-exporter.service"
_DAEMON_SET = _ROOT / "deploy" / "kubernetes" / "base" / "daemonset.yaml"
_OPENMETRICS = "application/openmetrics-text;version=1.0.0"
_USUAL = """\
sample: {max_cpu_ratio: 0.1}
detail: {namespaces: true, closes: true, quality: full}
"""
"""At the usual share of the CPU the next sample, which has the detail, would come in a minute."""

_HURRIED = """\
sample: {max_cpu_ratio: 0.5}
detail: {interval: 1s, max_cpu_ratio: 0.5, namespaces: true, closes: true, quality: full}
"""
"""Passes follow one another, so the minute of snapshots that the daemon keeps is full."""

_PASSES = 'tcp_exporter_samples_total{pass="detail"}'
_MIB = 2**20

_CLONE_NEWNS, _CLONE_NEWNET = 0x20000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_NAMED = "/run/netns"


class Size(NamedTuple):
    """How much of everything there is."""

    listeners: int
    cgroups: int
    namespaces: int
    unread: int  # clients that ask and do not read


FULL = Size(20_000, 5_000, 3_000, 40)


class Held(NamedTuple):
    """What came of it; memory in bytes."""

    size: Size
    passes: int  # detail passes of the daemon by the end
    limit: int
    peak: int  # resident memory of the daemon (VmHWM)
    charged: int  # the most that the cgroup was charged, the kernel's part included
    killed: int  # processes that the cgroup's limit ended
    units: int  # that the daemon told apart or folded
    namespaces: int
    slowest: float  # seconds, of an answer beside the clients that do not read


def limits() -> dict[str, int]:
    """The memory limits that we ship, in bytes, by file."""
    unit = re.search(r"^MemoryMax=(\d+)M$", _UNIT.read_text("utf-8"), re.MULTILINE)
    (container,) = yaml.safe_load(_DAEMON_SET.read_text("utf-8"))["spec"]["template"]["spec"]["containers"]
    assert unit is not None
    pod = container["resources"]["limits"]["memory"]
    return {_UNIT.name: int(unit[1]) * _MIB, _DAEMON_SET.name: int(pod.removesuffix("Mi")) * _MIB}


class MemoryCgroup:
    """A memory cgroup of its own, of v1 or v2, for the length of a ``with`` block."""

    def __init__(self, limit: int) -> None:
        for top, limiting in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
            self._folder = Path(top, f"tcp-exporter-test-{os.getpid()}")
            with contextlib.suppress(OSError):
                self._folder.mkdir()
                (self._folder / limiting).write_text(str(limit))
                self._is_v2 = limiting == "memory.max"
                return
        raise LabUnavailable("no memory cgroup can be made here")

    def __enter__(self) -> MemoryCgroup:
        return self

    def __exit__(self, *_: object) -> None:
        wait_for(self._removed, f"the end of the processes in {self._folder}")

    def under(self, command: list[str]) -> list[str]:
        """A command line that becomes *command* in the cgroup."""
        return ["sh", "-c", f'echo $$ > {self._folder}/cgroup.procs && exec "$@"', "sh", *command]

    @property
    def charged(self) -> int:
        return int((self._folder / ("memory.peak" if self._is_v2 else "memory.max_usage_in_bytes")).read_text())

    @property
    def killed(self) -> int:
        events = (self._folder / ("memory.events" if self._is_v2 else "memory.oom_control")).read_text()
        return int(events.split("oom_kill ")[1].split()[0])

    def _removed(self) -> bool | None:
        with contextlib.suppress(OSError):
            self._folder.rmdir()
            return True
        return None


def large(lab: LabProcess, folder: Path, size: Size = FULL, *, seconds: float = 0.0) -> Held:
    """Run the daemon on such a host until it has seen all of it, and ask for everything.

    With *seconds*, passes follow one another for so long. Raises ``LabUnavailable`` where the host cannot be made.
    """
    limit = min(limits().values())
    settings = folder / "exporter.yml"
    settings.write_text(_HURRIED if seconds else _USUAL)
    with _host(lab, size) as host, MemoryCgroup(limit) as cgroup:

        def under(command: list[str]) -> list[str]:
            return cgroup.under(["nsenter", f"--mount=/proc/{host}/ns/mnt", *command])

        with Daemon(folder / "daemon.log", "--config.file", str(settings), lab=lab, under=under) as daemon:
            daemon.ready()
            units, namespaces = wait_for(lambda: _seen(daemon, size), "a sample that has everything", 3 * DEADLINE)
            slowest, end = 0.0, time.monotonic() + seconds
            with _unread(lab, daemon.port, size.unread):
                while True:
                    for path in PATHS:
                        slowest = max(slowest, _ask_all_ways(lab, daemon.port, path))
                    if time.monotonic() >= end:
                        break
                passes = int(daemon.metrics()[_PASSES])
                peak = _peak(daemon.process.pid)
            assert daemon.process.poll() is None, daemon.said()
            return Held(size, passes, limit, peak, cgroup.charged, cgroup.killed, units, namespaces, slowest)


def _seen(daemon: Daemon, size: Size) -> tuple[int, int] | None:
    """How many units and namespaces the daemon knows, once a sample has all."""
    metrics = daemon.metrics()

    def known(family: str) -> int:
        names = {re.search(r'(?:unit|netns)="([^"]*)"', it)[1] for it in metrics if it.startswith(family + "{")}  # type: ignore[index]
        folded = metrics.get(f'tcp_exporter_folded{{metric="{family}"}}', 0)
        return len(names - {"other"}) + int(folded)

    listening = metrics.get('tcp_connections{state="listen"}', 0)
    units, namespaces = known("tcp_unit_connections"), known("tcp_netns_connections")
    time.sleep(0.3)
    whole = listening >= size.listeners and units >= size.cgroups and namespaces >= size.namespaces
    return (units, namespaces) if whole else None


def _ask_all_ways(lab: LabProcess, port: int, path: str) -> float:
    """Ask in each format and coding; the seconds of the slowest answer."""
    slowest = 0.0
    for accept in ("*/*", _OPENMETRICS):
        for coding in ("identity", "gzip"):
            began = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", port)
            with contextlib.closing(connection):
                connection.sock = lab.connect("127.0.0.1", port)
                connection.request("GET", path, headers={"Accept": accept, "Accept-Encoding": coding})
                answer = connection.getresponse()
                body = answer.read()
            assert (answer.status, answer.headers.get("Content-Encoding", "identity")) == (200, coding)
            assert gzip.decompress(body) if coding == "gzip" else body
            slowest = max(slowest, time.monotonic() - began)
    return slowest


@contextlib.contextmanager
def _unread(lab: LabProcess, port: int, number: int) -> Iterator[None]:
    """Clients that ask for everything, one after the other, and read nothing."""
    with contextlib.ExitStack() as stack:
        for turn in range(number):
            client = stack.enter_context(lab.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            client.sendall(f"GET {PATHS[turn % len(PATHS)]} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            time.sleep(0.1)  # so that each gets the answer of another moment
        yield


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


# -- The host ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _host(lab: LabProcess, size: Size) -> Iterator[int]:
    """The process whose mount namespace has the names of the network namespaces."""
    command = [sys.executable, "-m", "tests.soak.large", *map(str, size[:3])]
    with subprocess.Popen(
        join_command(lab.pid, command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as host:
        assert host.stdin is not None
        assert host.stdout is not None
        assert host.stderr is not None
        try:
            if host.stdout.readline() != "ready\n":
                raise LabUnavailable(f"no such host here: {host.stderr.read()[-200:].strip()}")
            yield host.pid
        finally:
            host.stdin.close()


def main(listeners: int, cgroups: int, namespaces: int) -> None:
    """Be the host until standard input ends."""
    root = _cgroup2()
    top = root / f"tcp-exporter-test-{os.getpid()}.slice"
    top.mkdir()
    places = [top / f"service-{number}.service" for number in range(cgroups)]
    children: list[int] = []
    try:
        for place in places:
            place.mkdir()
        _name_namespaces(namespaces)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        each = min(hard - 50, -(-listeners // 2))
        for first in range(0, listeners, each):
            children += [_listen(range(first, min(listeners, first + each)), places, root)]
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        for place in places:
            with contextlib.suppress(OSError):
                place.rmdir()
        top.rmdir()


def _cgroup2() -> Path:
    for line in Path("/proc/self/mounts").read_text("utf-8", "surrogateescape").splitlines():
        _, point, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(point)
    sys.exit("cgroup v2 is not mounted")


def _name_namespaces(number: int) -> None:
    """Make so many, each mounted by its name as ``ip netns`` does it, in a mount namespace of this process."""
    libc = ctypes.CDLL(None, use_errno=True)

    def do(result: int) -> None:
        if result:
            sys.exit(os.strerror(ctypes.get_errno()))

    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    do(libc.unshare(_CLONE_NEWNS))
    do(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    os.makedirs(_NAMED, exist_ok=True)
    do(libc.mount(b"tmpfs", _NAMED.encode(), b"tmpfs", 0, None))
    for turn in range(number):
        path = f"{_NAMED}/pod-{turn}"
        with open(path, "w", encoding="ascii"):
            do(libc.unshare(_CLONE_NEWNET))
        do(libc.mount(b"/proc/self/ns/net", path.encode(), None, _MS_BIND, None))
        with socket.socket() as used:  # so that a namespace is not merely its name
            used.bind(("127.0.0.1", 0))
    do(libc.setns(home, _CLONE_NEWNET))
    os.close(home)


def _listen(numbers: range, places: list[Path], root: Path) -> int:
    """A process that has these listeners, in cgroups by turns: a socket is its creator's cgroup's."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        if not os.read(reading, 1):
            sys.exit("listeners cannot be made")
        os.close(reading)
        return child
    held, me = [], str(os.getpid())
    share = -(-len(numbers) // max(1, len(places)))
    for turn, number in enumerate(numbers):
        if turn % share == 0:
            (places[turn // share] / "cgroup.procs").write_text(me)
        listening = socket.socket()
        listening.bind((f"127.0.{1 + number // 5000}.1", 10_000 + number % 5000))
        listening.listen(5)
        held.append(listening)
    (root / "cgroup.procs").write_text(me)
    os.write(writing, b"+")
    while True:
        signal.pause()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
