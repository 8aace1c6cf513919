"""The tree of cgroup v2 on this host: which unit a cgroup id of ``inet_diag`` belongs to. A rim module.

An id is the inode number of the cgroup's directory, so one walk of the directories answers for all sockets. The names
come from ``cgroup``; the dump that counts sockets by unit calls it once, from one thread.
"""

from __future__ import annotations

import os
import time
from collections import deque

from exporter.kernel.cgroup import GONE, OUTSIDE, Mount, labels, mounts, owner
from exporter.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ROOT_ID = 1  # of the whole tree's root, on every host
_BETWEEN_WALKS = 10.0
_WALK_SHARE = 0.01  # of the time goes into walks at most, however large the tree
_MOST_DIRECTORIES = 100_000  # about 2 s and 20 MB, at the 17 us and 210 bytes measured for each


class Cgroups:
    """Unit names by cgroup id, from a walk that is taken again when an id is not known, within limits.

    Ids are inode numbers on 64-bit kernels only: on others nothing would be found.
    """

    def __init__(
        self,
        procfs: str = "/proc",
        *,
        clock: Callable[[], float] = time.monotonic,
        between_walks: float = _BETWEEN_WALKS,
        most_directories: int = _MOST_DIRECTORIES,
        root_id: int = _ROOT_ID,
    ) -> None:
        self._procfs = procfs
        self._clock = clock
        self._between_walks = between_walks
        self._most_directories = most_directories
        self._root_id = root_id
        self._paths: dict[int, str] = {}
        self._next_walk = -float("inf")
        self.truncated = False
        """Whether the last walk ended at the limit of directories, the deepest left out."""
        self.whole = False
        """Whether the tree is the whole host's: False in a container with a cgroup namespace of its own."""
        self.mount_point: str | None = None
        """Where the tree is mounted."""
        self._find()

    @property
    def available(self) -> bool:
        """Whether cgroup v2 is mounted here, alone or beside v1."""
        return self.mount_point is not None

    def units(self, ids: Iterable[int]) -> dict[int, str] | None:
        """The label of the unit of each id, the same for two ids only if one unit owns both; None without cgroup v2.

        What is in no walk is ``gone``, or ``outside`` where the walk did not see everything. A cgroup that is younger
        than the last walk is called so too, until the next walk is due.
        """
        wanted = frozenset(ids)
        if not wanted <= self._paths.keys() and self._clock() >= self._next_walk:
            self._walk()
        if not self.available:
            return None
        paths = self._paths
        missing = GONE if self.whole and not self.truncated else OUTSIDE
        owners = {number: owner(paths[number]) for number in wanted if number in paths}
        shown = labels(owners.values())
        return {number: shown[owners[number].path] if number in owners else missing for number in wanted}

    def _walk(self) -> None:
        """Take all directories anew, those near the root first: when it is too many, units are still found.

        A dangling id would ask for this each time; the clock decides.
        """
        begun = self._clock()
        paths: dict[int, str] = {}
        self.truncated = False
        top = self._find()  # again: an overlaid or unmounted tree must not be answered for from memory
        if top is not None:
            inode, path = top
            paths[inode] = path
            self._descend(path, paths)
        self._paths = paths
        ended = self._clock()
        self._next_walk = ended + max(self._between_walks, (ended - begun) / _WALK_SHARE)

    def _descend(self, top: str, paths: dict[int, str]) -> None:
        waiting = deque([("", top.rstrip("/"))])  # where it is below the mount point, and its path as a cgroup
        while waiting:
            below, path = waiting.popleft()
            try:
                with os.scandir(f"{self.mount_point}{below}") as entries:
                    for entry in entries:
                        if not entry.is_dir(follow_symlinks=False):
                            continue
                        if len(paths) >= self._most_directories:
                            self.truncated = True
                            return
                        child = f"{path}/{entry.name}"
                        paths[entry.inode()] = child
                        waiting.append((f"{below}/{entry.name}", child))
            except OSError:  # removed meanwhile, or closed to us: what it has below is then not known
                continue

    def _find(self) -> tuple[int, str] | None:
        """Find the mount point that shows most: the inode number and the cgroup path of its directory."""
        self.mount_point = None
        self.whole = False
        top: tuple[int, str] | None = None
        for mount in self._mounts():
            try:
                status = os.stat(mount.point)
            except OSError:
                continue
            if f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}" != mount.device:
                continue  # another mount hides it
            if status.st_ino == self._root_id:
                self.mount_point = mount.point
                self.whole = True
                return status.st_ino, "/"  # whatever it is called in the own cgroup namespace
            if top is None:
                self.mount_point = mount.point
                top = status.st_ino, mount.root
        return top

    def _mounts(self) -> list[Mount]:
        try:
            # Paths are bytes: surrogates carry what is no UTF-8 through to stat, and no line ends but at its \n.
            with open(
                f"{self._procfs}/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n"
            ) as file:
                return list(mounts(file))
        except OSError:
            return []
