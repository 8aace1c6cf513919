"""Who holds the memory: a known hog in a known cgroup, against what the kernel charges to TCP."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.situations.world import Socket, World, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.alone]

_BIN = Path(sys.executable).parent
_PORT, _CONNECTIONS = 7443, 40
_BOUND = 0.02
_LEAST = 32 << 20  # bytes that the hog must hold: more than what anything else on the machine does meanwhile
_READ = """
import json
from exporter.kernel.cgroupfs import Cgroups
from exporter.kernel.derivation import Trust
from exporter.kernel.reader import NetlinkReader, Procfs
from exporter.sampling.detailer import Detailer, Wanted
detailer = Detailer(Procfs(), [NetlinkReader()], Trust("6.18"), Cgroups())
detail = detailer.detail(Wanted(memory=True, stateless=False), 0.0)
assert detail.memory is not None, detail.memory_problem
print(json.dumps(detail.memory._asdict()))
"""


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A cgroup of a name of its own, and its directory; where none is mounted, the tree is mounted for the test."""
    name = f"hog-{os.getpid()}.service"
    mounted = next(
        (Path(line.split()[1]) for line in Path("/proc/mounts").read_text("utf-8").splitlines() if " cgroup2 " in line),
        None,
    )
    if mounted is None:
        subprocess.run(["mount", "-t", "cgroup2", "none", str(tmp_path)], check=True)
    tree = mounted or tmp_path
    (tree / name).mkdir()
    try:
        yield name, tree / name
    finally:
        wait_until(lambda: not (tree / name / "cgroup.procs").read_text(), "the cgroup to be empty")
        (tree / name).rmdir()
        if mounted is None:
            subprocess.run(["umount", str(tmp_path)], check=True)


@contextlib.contextmanager
def within(cgroup: Path, pid: int) -> Iterator[None]:
    """The process in *cgroup* while the block runs: a socket belongs to the cgroup of the process that made it."""
    lines = Path(f"/proc/{pid}/cgroup").read_text("utf-8").splitlines()
    before = next(line for line in lines if line.startswith("0::")).removeprefix("0::/")
    (cgroup / "cgroup.procs").write_text(str(pid))
    try:
        yield
    finally:
        (cgroup.parent / before / "cgroup.procs").write_text(str(pid))


def charged() -> int:
    """What the kernel charges to TCP, of the whole host, in bytes."""
    line = next(it for it in Path("/proc/net/sockstat").read_text("ascii").splitlines() if it.startswith("TCP:"))
    fields = line.split()
    return int(fields[fields.index("mem") + 1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def hog(world: World, cgroup: Path, server: Socket) -> Iterator[None]:
    """Servers' ends that nobody reads, with as much in their buffers and in those of their peers as fits."""
    with contextlib.ExitStack() as held:
        with within(cgroup, world.lab.pid):
            clients = world.connect(_PORT, _CONNECTIONS)
        for it in (*world.accept(server, _CONNECTIONS), *clients):
            it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
            held.enter_context(it)
        for client in clients:
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    client.send(bytes(65536))
        yield


def test_the_hog_is_named_and_its_memory_is_what_the_kernel_charges(world: World, unit: tuple[str, Path]) -> None:
    name, cgroup = unit
    world.sysctl("net.ipv4.tcp_rmem", "4096 4194304 4194304")
    with within(cgroup, world.lab.pid):
        server = world.listen(_PORT, _CONNECTIONS)
    told: dict[str, dict[str, int]] = {}
    by_unit: dict = {}  # type: ignore[type-arg]  # JSON
    by_port: dict = {}  # type: ignore[type-arg]

    def agrees(before: int) -> bool:
        """Whether all is said of the same moment: buffers settle for a while, and what is charged is the host's."""
        told.update(json.loads(world.run(sys.executable, "-c", _READ)))
        by_unit.update(who(world, "--by", "unit"))
        by_port.update(who(world, "--by", "port"))
        total = sum(told["ports"].values())
        same = {total, by_unit["memory_bytes"], by_port["memory_bytes"], who(world)["memory_bytes"]}
        return len(same) == 1 and total > _LEAST and abs(total / (charged() - before) - 1) <= _BOUND

    def agrees_on_a_hog() -> bool:
        """A new hog each time: others on the machine may have taken memory since the last one, and kept it."""
        before = charged()
        with hog(world, cgroup, server):
            return any(agrees(before) for _ in range(5))

    wait_until(agrees_on_a_hog, "every answer to be the same, and within 2 % of what the kernel charges")
    assert sum(told["units"].values()) == sum(told["ports"].values())
    assert told["units"][name] == sum(told["units"].values())
    assert told["ports"][str(_PORT)] > _LEAST / 2  # the clients' ends are on ports of the ephemeral range: in other
    assert [(it["owner"], it["memory_bytes"]) for it in by_unit["owners"]] == [(name, by_unit["memory_bytes"])]
    assert by_port["owners"][0]["owner"] == str(_PORT)
    assert by_port["owners"][0]["received_bytes"] > by_port["owners"][0]["to_send_bytes"]


def who(world: World, *arguments: str) -> dict:  # type: ignore[type-arg]  # JSON
    """The answer of ``tcp-exporter who --by-memory``."""
    return dict(json.loads(world.run(str(_BIN / "tcp-exporter"), "who", "--by-memory", "--json", *arguments)))
