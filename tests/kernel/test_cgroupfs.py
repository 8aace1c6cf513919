"""The tree of cgroups: fake trees for the rules, the kernel's for the truth."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from exporter.kernel import inetdiag
from exporter.kernel.cgroup import GONE, OUTSIDE, ROOT
from exporter.kernel.cgroupfs import Cgroups
from exporter.kernel.reader import NetlinkReader

ID = "0123456789abcdef" * 4


class Clock:
    def __init__(self, tick: float = 0.0) -> None:
        self.now = 1000.0
        self._tick = tick

    def __call__(self) -> float:
        self.now += self._tick
        return self.now


class Host:
    """A procfs with a mount table, and a folder that stands for the tree."""

    def __init__(self, folder: Path) -> None:
        self.procfs = folder / "proc"
        self.tree = folder / "cgroup"
        self.clock = Clock()
        (self.procfs / "self").mkdir(parents=True)
        self.tree.mkdir()
        (self.tree / "cgroup.procs").write_text("")
        self.mount(self.line())

    def line(self, tree: Path | None = None, root: str = "/") -> str:
        device = os.stat(self.tree).st_dev
        point = str(tree or self.tree).replace("\\", "\\134").replace(" ", "\\040")
        return f"41 31 {os.major(device)}:{os.minor(device)} {root} {point} rw,relatime - cgroup2 cgroup2 rw\n"

    def mount(self, *lines: str) -> None:
        (self.procfs / "self" / "mountinfo").write_text(
            "".join(("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n", *lines))
        )

    def make(self, path: str) -> int:
        """Make a cgroup and return its id."""
        folder = self.tree / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.procs").write_text("")
        return folder.stat().st_ino

    def cgroups(
        self, *, root_id: int | None = None, most_directories: int = 1000, clock: Clock | None = None
    ) -> Cgroups:
        return Cgroups(
            str(self.procfs),
            clock=clock or self.clock,
            between_walks=10,
            most_directories=most_directories,
            root_id=self.tree.stat().st_ino if root_id is None else root_id,
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The walks of any tree, as they are taken."""
    taken: list[int] = []
    walk = Cgroups._walk

    def count(self: Cgroups) -> None:
        taken.append(1)
        walk(self)

    monkeypatch.setattr(Cgroups, "_walk", count)
    return taken


def names(cgroups: Cgroups, *ids: int) -> list[str] | None:
    units = cgroups.units(ids)
    return None if units is None else [units[number] for number in ids]


def test_each_id_has_the_name_of_its_unit_and_two_may_share_one(host: Host) -> None:
    nginx, payload = host.make("system.slice/nginx.service"), host.make("system.slice/nginx.service/payload")
    docker, root = host.make(f"docker/{ID}"), host.tree.stat().st_ino
    cgroups = host.cgroups()
    assert names(cgroups, nginx, payload, docker, root) == [
        "nginx.service",
        "nginx.service",
        "docker-0123456789ab",
        ROOT,
    ]
    assert (cgroups.available, cgroups.whole, cgroups.truncated) == (True, True, False)
    assert cgroups.mount_point == str(host.tree)


def test_without_ids_there_is_no_walk(host: Host, walks: list[int]) -> None:
    assert (host.cgroups().units([]), walks) == ({}, [])


def test_files_are_not_cgroups(host: Host) -> None:
    assert names(host.cgroups(), (host.tree / "cgroup.procs").stat().st_ino) == [GONE]


def test_links_are_not_followed(host: Host) -> None:
    (host.tree / "loop").symlink_to(host.tree)
    assert names(host.cgroups(), host.make("a.service")) == ["a.service"]


@pytest.mark.parametrize("mountinfo", ["nothing", "unreadable", "stale", "hidden"])
def test_without_cgroup_v2_there_are_no_units(host: Host, mountinfo: str) -> None:
    if mountinfo == "unreadable":
        (host.procfs / "self" / "mountinfo").unlink()
    else:
        stale = host.line(host.tree / "missing")
        hidden = host.line().replace(host.line().split(" ")[2], "0:99999")
        host.mount({"nothing": "", "stale": stale, "hidden": hidden}[mountinfo])
    cgroups = host.cgroups()
    assert (cgroups.available, cgroups.units([1]), cgroups.units([])) == (False, None, None)


def test_a_tree_mounted_later_is_found_and_one_unmounted_is_not_answered_for(host: Host) -> None:
    number = host.make("a.service")
    host.mount()
    cgroups = host.cgroups()
    assert cgroups.units([number]) is None
    host.mount(host.line())
    host.clock.now += 10
    assert cgroups.units([number]) == {number: "a.service"}
    host.mount()
    host.clock.now += 10
    assert cgroups.units([number, 1]) is None


def test_a_mount_point_with_a_blank_and_a_backslash_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "a b\\c"
    folder.mkdir()
    assert Host(folder).cgroups().available


def test_the_mount_that_shows_the_whole_tree_is_preferred(host: Host) -> None:
    number = host.make("system.slice/a.service")
    part = host.tree / "system.slice"
    host.mount(host.line(part, "/system.slice"), host.line(root="/../.."))
    cgroups = host.cgroups()
    assert (cgroups.mount_point, cgroups.whole) == (str(host.tree), True)
    assert names(cgroups, number, host.tree.stat().st_ino) == ["a.service", ROOT]


def test_what_is_not_in_a_part_of_the_tree_is_outside_and_the_parts_own_path_counts(host: Host) -> None:
    inner = host.make("nested")
    host.mount(host.line(root=f"/docker/{ID}"))
    cgroups = host.cgroups(root_id=1)
    assert names(cgroups, inner, host.tree.stat().st_ino, 1) == ["docker-0123456789ab", "docker-0123456789ab", OUTSIDE]
    assert (cgroups.available, cgroups.whole) == (True, False)


def test_in_a_cgroup_namespace_the_own_cgroup_is_the_root(host: Host) -> None:
    assert names(host.cgroups(root_id=1), host.tree.stat().st_ino, 999_999_999) == [ROOT, OUTSIDE]


def test_a_new_cgroup_is_found_as_soon_as_a_walk_is_due(host: Host, walks: list[int]) -> None:
    old = host.make("old.service")
    cgroups = host.cgroups()
    assert names(cgroups, old) == ["old.service"]
    new = host.make("new.service")
    host.clock.now += 9.9
    assert names(cgroups, old, new) == ["old.service", GONE]
    host.clock.now += 0.1
    assert names(cgroups, old, new) == ["old.service", "new.service"]
    assert len(walks) == 2


def test_known_ids_ask_for_no_walk_however_late(host: Host, walks: list[int]) -> None:
    cgroups, number = host.cgroups(), host.make("a.service")
    for _ in range(5):
        assert names(cgroups, number) == ["a.service"]
        host.clock.now += 3600
    assert len(walks) == 1


def test_dangling_ids_ask_for_one_walk_each_interval_and_no_more(host: Host, walks: list[int]) -> None:
    cgroups = host.cgroups()
    for _ in range(100):  # a minute and 40 seconds
        assert names(cgroups, 999_999_999) == [GONE]
        host.clock.now += 1
    assert len(walks) == 10


def test_a_walk_that_takes_long_is_not_taken_again_soon(host: Host, walks: list[int]) -> None:
    clock = Clock(tick=1)  # each look at the clock is a second later: a walk takes one
    cgroups = host.cgroups(clock=clock)
    names(cgroups, 999_999_999)
    clock.now += 97
    names(cgroups, 999_999_999)
    assert len(walks) == 1
    clock.now += 3
    names(cgroups, 999_999_999)
    assert len(walks) == 2


def test_a_walk_forgets_what_was_removed(host: Host) -> None:
    cgroups, kept, removed = host.cgroups(), host.make("kept.service"), host.make("removed.service")
    assert names(cgroups, kept, removed) == ["kept.service", "removed.service"]
    (host.tree / "removed.service" / "cgroup.procs").unlink()
    (host.tree / "removed.service").rmdir()
    host.clock.now += 10
    assert names(cgroups, kept, removed, 999_999_999) == ["kept.service", GONE, GONE]
    assert set(cgroups._paths.values()) == {"/", "/kept.service"}


def test_the_limit_leaves_out_the_deepest_and_says_so(host: Host) -> None:
    units = [host.make(f"{name}.service") for name in "abc"]
    deep = host.make("a.service/payload")
    cgroups = host.cgroups(most_directories=4)
    assert names(cgroups, *units, deep) == ["a.service", "b.service", "c.service", OUTSIDE]
    assert cgroups.truncated
    assert not host.cgroups(most_directories=5).truncated


def test_a_tree_of_exactly_the_limit_is_not_truncated(host: Host) -> None:
    host.make("a.service")
    cgroups = host.cgroups(most_directories=2)
    assert names(cgroups, 999_999_999) == [GONE]
    assert not cgroups.truncated


def test_a_directory_that_vanishes_during_the_walk_is_no_error(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    vanishing, staying = host.make("a.service"), host.make("b.service/inner")
    scandir: Callable[[str], Iterator[os.DirEntry[str]]] = os.scandir

    def vanish(path: str) -> Iterator[os.DirEntry[str]]:
        if path.endswith("/a.service"):
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", vanish)
    assert names(host.cgroups(), vanishing, staying) == ["a.service", "b.service"]


def test_the_name_of_a_directory_need_not_be_text(host: Host) -> None:
    path = os.fsencode(host.tree) + b"/\xff.service"
    os.mkdir(path)
    assert names(host.cgroups(), os.stat(path).st_ino) == ["?.service"]


# --- the kernel ---

LISTENER = """
import os, socket, sys
with open(sys.argv[1], "w") as procs:
    procs.write(str(os.getpid()))
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()
"""


class CgroupIds(inetdiag.Dump):
    """Collects INET_DIAG_CGROUP_ID by the local port."""

    def __init__(self) -> None:
        super().__init__()
        self.by_port: dict[int, int] = {}

    def take(self, block: inetdiag.Block) -> None:
        for message in block.messages():
            self._socket(message)

    def _socket(self, message: bytes) -> None:
        (port,) = struct.unpack_from(">H", message, 20)
        at = inetdiag.BARE
        while at + 4 <= len(message):
            length, kind = struct.unpack_from("=HH", message, at)
            if kind == 21:
                (self.by_port[port],) = struct.unpack_from("=Q", message, at + 4)
            at += (length + 3) & ~3


def cgroup_ids() -> dict[int, int]:
    return NetlinkReader().collect(inetdiag.ALL_STATES, CgroupIds).by_port


def system_call(done: int, what: str) -> None:
    if done != 0:
        pytest.skip(f"{what} is refused: {os.strerror(ctypes.get_errno())}")


@contextmanager
def writable_tree(folder: Path) -> Iterator[Path]:
    """The tree where it is mounted, or mounted for the test; a folder of our own in it is the proof."""
    mounted = Cgroups().mount_point
    name = f"tcp-exporter-test-{os.getpid()}.slice"
    with ExitStack() as stack:
        if mounted is None or not os.access(mounted, os.W_OK):
            libc = ctypes.CDLL(None, use_errno=True)
            point = folder / "cgroup2"
            point.mkdir()
            system_call(libc.mount(b"cgroup2", os.fsencode(point), b"cgroup2", 0, None), "mounting cgroup v2")
            stack.callback(libc.umount2, os.fsencode(point), 2)  # MNT_DETACH
            mounted = str(point)
        tree = Path(mounted) / name
        try:
            tree.mkdir()
        except OSError as error:
            pytest.skip(f"no cgroup can be made in {mounted}: {error.strerror}")
        stack.callback(tree.rmdir)
        yield tree


@contextmanager
def listener_in(cgroup: Path) -> Iterator[tuple[int, int]]:
    """A process that listens in a new cgroup: its id and its port. Both are removed afterwards, if they still are."""
    cgroup.mkdir()
    try:
        with subprocess.Popen(
            [sys.executable, "-S", "-c", LISTENER, str(cgroup / "cgroup.procs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                yield process.pid, int(process.stdout.readline())
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait()
    finally:
        if cgroup.exists():
            cgroup.rmdir()


@pytest.mark.lab
def test_the_kernels_ids_of_sockets_lead_to_the_units_that_made_them(tmp_path: Path) -> None:
    with (
        writable_tree(tmp_path) as tree,
        listener_in(tree / "alpha.service") as (_, alpha),
        listener_in(tree / f"docker-{ID}.scope") as (_, docker),
    ):
        ids = cgroup_ids()
        assert ids[alpha] == (tree / "alpha.service").stat().st_ino
        assert names(Cgroups(), ids[alpha], ids[docker]) == ["alpha.service", "docker-0123456789ab"]


@pytest.mark.lab
def test_a_socket_keeps_the_id_of_its_removed_cgroup_which_is_gone(tmp_path: Path) -> None:
    with (
        writable_tree(tmp_path) as tree,
        listener_in(tree / "beta.service"),
        listener_in(tree / "alpha.service") as (process, port),
    ):
        clock = Clock()
        cgroups = Cgroups(clock=clock)
        before = cgroup_ids()[port]
        assert names(cgroups, before) == ["alpha.service"]
        (tree / "beta.service" / "cgroup.procs").write_text(str(process))
        (tree / "alpha.service").rmdir()
        clock.now += 3600
        assert cgroup_ids()[port] == before
        assert names(cgroups, 999_999_999_999) == names(cgroups, before) == [GONE if cgroups.whole else OUTSIDE]
