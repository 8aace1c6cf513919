"""The reader of netlink against the kernel: what goes wrong on this side of the socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from exporter.errors import SourceMissing, SourceUnreadable
from exporter.kernel.inetdiag import ALL_STATES
from exporter.kernel.reader import KeptProcfs, NetlinkReader, Procfs
from tests.lab import LabProcess

# Reserve every second port, by writes of less than a page each, and read them: in the lab's namespace.
RESERVE = """
import json, os
from exporter.kernel.reader import Procfs
from exporter.kernel.sysctl import parse_ports

ports = [str(port) for port in range(1, 65536, 2)]
writer = os.open("/proc/sys/net/ipv4/ip_local_reserved_ports", os.O_WRONLY)
for at in range(0, len(ports), 600):
    os.write(writer, (",".join(ports[at : at + 600]) + "," * (at + 600 < len(ports))).encode())
text = Procfs().sysctl("net/ipv4/ip_local_reserved_ports")
print(json.dumps([len(text), len(parse_ports("ip_local_reserved_ports", text))]))
"""


class Hungry:
    """A collector that finds no memory for what it is given."""

    def add(self, reply: bytes) -> bool:
        raise MemoryError


def test_a_want_of_memory_is_a_failed_source_so_that_another_reader_can_count() -> None:
    with pytest.raises(SourceUnreadable, match=r"^netlink: there is no memory left for the dump$"):
        NetlinkReader().collect(ALL_STATES, Hungry)


@pytest.mark.lab
def test_the_longest_list_of_reserved_ports_is_read_whole() -> None:
    with LabProcess() as lab:
        done = lab.run([sys.executable, "-c", RESERVE])
    assert done.returncode == 0, done.stderr
    length, ports = json.loads(done.stdout)
    assert (length > 16384, ports) == (True, 32768)


def test_a_sysctl_that_is_too_long_to_be_read_whole_is_unreadable_and_never_cut(tmp_path: Path) -> None:
    file = tmp_path / "sys" / "net" / "long"
    file.parent.mkdir(parents=True)
    file.write_text("1" * 300_000)
    with pytest.raises(SourceUnreadable, match=r"/sys/net/long: longer than 262144 bytes$"):
        Procfs(str(tmp_path)).sysctl("net/long")


def test_a_file_that_is_kept_open_is_read_whole_and_as_it_is_now(tmp_path: Path) -> None:
    kept, file = KeptProcfs(str(tmp_path)), tmp_path / "numbers"
    for text in ("1 2 3\n", "4\n", "5 " * 30_000, ""):
        file.write_text(text)
        assert kept.text("numbers") == text


def test_a_kept_file_whose_subject_is_gone_is_missing_each_time() -> None:
    kept = KeptProcfs("/proc")
    with subprocess.Popen(["sleep", "600"]) as child:
        path = f"{child.pid}/stat"
        assert kept.text(path).startswith(f"{child.pid} ")
        child.kill()
    for _ in range(2):
        with pytest.raises(SourceMissing):
            kept.text(path)


def test_threads_that_read_one_kept_file_each_get_it_whole() -> None:
    kept = KeptProcfs("/proc")
    with ThreadPoolExecutor(4) as pool:
        texts = [*pool.map(kept.text, ["net/netstat"] * 400)]
    assert {len(text.splitlines()) for text in texts} == {len(Procfs().text("net/netstat").splitlines())}


def test_what_was_kept_open_is_closed_in_the_end(tmp_path: Path) -> None:
    (tmp_path / "number").write_text("1")
    kept = KeptProcfs(str(tmp_path))
    kept.text("number")
    targets = [os.path.realpath(f"/proc/self/fd/{it}") for it in os.listdir("/proc/self/fd")]
    del kept
    after = [os.path.realpath(f"/proc/self/fd/{it}") for it in os.listdir("/proc/self/fd")]
    assert (targets.count(str(tmp_path / "number")), after.count(str(tmp_path / "number"))) == (1, 0)
