"""Sockets in no state: counted where the whole host is seen, and unknown elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.errors import SourceMissing
from exporter.kernel.reader import Procfs
from exporter.kernel.stateless import count

INITIAL = "pid:[4026531836]"


def sockstat(inuse: int, orphan: int = 0, alloc: int = 0) -> str:
    return f"sockets: used 1\nTCP: inuse {inuse} orphan {orphan} tw 0 alloc {alloc} mem 0\n"


def process(root: Path, name: str, inuse: int, inuse6: int | None = 0, **numbers: int) -> None:
    """A process in a network namespace of its own."""
    (root / name / "net").mkdir(parents=True)
    (root / name / "net" / "sockstat").write_text(sockstat(inuse, **numbers), encoding="ascii")
    if inuse6 is not None:
        (root / name / "net" / "sockstat6").write_text(f"TCP6: inuse {inuse6}\n", encoding="ascii")


def host(root: Path, *, alloc: int, orphan: int = 0, pid_namespace: str = INITIAL) -> Procfs:
    """A host whose first process is this one."""
    process(root, "1", 10, 5, orphan=orphan, alloc=alloc)
    (root / "self").symlink_to("1")
    (root / "net").symlink_to("self/net")
    (root / "1" / "mountinfo").write_text("22 1 0:20 / /proc rw - proc proc rw\n", encoding="ascii")
    (root / "1" / "ns").mkdir()
    (root / "1" / "ns" / "pid").symlink_to(pid_namespace)
    return Procfs(str(root))


def test_what_is_allocated_beyond_the_sockets_of_every_namespace_is_in_no_state(tmp_path: Path) -> None:
    procfs = host(tmp_path, alloc=1000, orphan=20)
    process(tmp_path, "77", 300, None)
    process(tmp_path, "78", 200, 100)
    assert count(procfs) == 1000 - 20 - 15 - 300 - 300


def test_a_namespace_with_several_processes_counts_once(tmp_path: Path) -> None:
    procfs = host(tmp_path, alloc=1000)
    process(tmp_path, "77", 300)
    (tmp_path / "78").symlink_to("77")
    assert count(procfs) == 1000 - 15 - 300


@pytest.mark.parametrize("alloc", [15, 100, 114])
def test_a_few_are_none(tmp_path: Path, alloc: int) -> None:
    assert count(host(tmp_path, alloc=alloc)) == 0


def test_a_container_does_not_see_the_host(tmp_path: Path) -> None:
    assert count(host(tmp_path, alloc=1000, pid_namespace="pid:[4026532500]")) is None


def test_a_procfs_that_hides_processes_does_not_show_the_host(tmp_path: Path) -> None:
    procfs = host(tmp_path, alloc=1000)
    (tmp_path / "self").unlink()
    (tmp_path / "1").rename(tmp_path / "4711")
    (tmp_path / "self").symlink_to("4711")
    assert count(procfs) is None


def test_a_process_that_ends_meanwhile_is_left_out(tmp_path: Path) -> None:
    procfs = host(tmp_path, alloc=1000)
    (tmp_path / "99").mkdir()
    assert count(procfs) == 1000 - 15


def test_a_process_that_has_lost_its_first_thread_is_asked_by_another(tmp_path: Path) -> None:
    procfs = host(tmp_path, alloc=1000)
    (tmp_path / "50" / "task" / "50").mkdir(parents=True)
    process(tmp_path / "50" / "task", "51", 300)
    assert count(procfs) == 1000 - 15 - 300


def test_sockets_that_are_gone_a_moment_later_were_about_to_be_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    procfs = host(tmp_path, alloc=1000)

    def end_of_teardown(_: float) -> None:
        (tmp_path / "1" / "net" / "sockstat").write_text(sockstat(10, alloc=15), encoding="ascii")

    monkeypatch.setattr("exporter.kernel.stateless.time.sleep", end_of_teardown)
    assert count(procfs) == 0


def test_without_sockstat_it_is_an_error(tmp_path: Path) -> None:
    procfs = host(tmp_path, alloc=1000)
    (tmp_path / "1" / "net" / "sockstat").unlink()
    with pytest.raises(SourceMissing):
        count(procfs)


def test_without_a_procfs_it_is_not_told(tmp_path: Path) -> None:
    assert count(Procfs(str(tmp_path))) is None


def test_a_namespace_that_a_mount_holds_and_no_process_is_in_may_have_the_sockets(tmp_path: Path) -> None:
    procfs = host(tmp_path, alloc=1000)
    (tmp_path / "1" / "ns" / "net").symlink_to("net:[4026531840]")
    mounts = tmp_path / "1" / "mountinfo"
    own = "40 1 0:4 net:[4026531840] /run/docker/netns/default rw - nsfs nsfs rw\n"
    mounts.write_text(own, encoding="ascii")
    assert count(procfs) == 1000 - 15
    mounts.write_text(f"{own}41 1 0:4 net:[4026532500] /run/netns/blue rw shared:9 - nsfs nsfs rw\n", encoding="ascii")
    assert count(procfs) is None
    process(tmp_path, "77", 300)  # whose namespace is not told to this user
    assert count(procfs) == 1000 - 15 - 300
    (tmp_path / "77" / "ns").mkdir()
    (tmp_path / "77" / "ns" / "net").symlink_to("net:[4026532600]")
    assert count(procfs) is None
