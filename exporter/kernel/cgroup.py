"""What a person calls the owner of a cgroup: the unit, container or pod that its path is made for.

``cgroupfs`` finds the paths and asks here for their names. Nothing here does IO: the mount table and the paths are
text.
"""

from __future__ import annotations

import re

from exporter.printable import shortened
from exporter.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = "root"
"""The root of the tree that is seen: processes that nobody put anywhere."""

GONE = "gone"
"""A cgroup that was removed; its sockets keep its id."""

OUTSIDE = "outside"
"""Not in the part of the tree that is seen: outside the own cgroup namespace, or beyond where a walk was ended."""

LONGEST = 80
"""How many characters a name has at most."""


class Mount(NamedTuple):
    """A mount of cgroup v2: what of the tree (``root``, ``/`` for all of it) is seen where (``point``)."""

    device: str  # major:minor, to tell whether another mount hides it
    root: str  # seen from the own cgroup namespace: begins with /.. where it is above or beside that
    point: str


def mounts(lines: Iterable[str]) -> Iterator[Mount]:
    r"""Read the mounts of cgroup v2 from the lines of /proc/PID/mountinfo, in their order.

    >>> list(mounts([r"41 31 0:39 / /sys/fs/cgroup/my\040tree rw,relatime shared:9 - cgroup2 cgroup2 rw"]))
    [Mount(device='0:39', root='/', point='/sys/fs/cgroup/my tree')]
    """
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if after.startswith("cgroup2 ") and len(fields) > 5:
            yield Mount(fields[2], _unescaped(fields[3]), _unescaped(fields[4]))


def unit_name(path: str) -> str:
    """The unit, container or pod of a cgroup path: printable, never empty, at most ``LONGEST`` characters.

    A container owns everything below it, also the units of a systemd that runs in it. Elsewhere it is the innermost
    unit, which owns what it makes below itself.

    >>> unit_name("/system.slice/nginx.service/payload")
    'nginx.service'
    >>> unit_name("/kubepods/burstable/pod6a1c1d3e-9b1f-4c57-8f5e-0d7a3c2b1e4f/" + "0123456789abcdef" * 4)
    'pod-6a1c1d3e-9b1f-4c57-8f5e-0d7a3c2b1e4f'
    >>> unit_name("/docker/" + "0123456789abcdef" * 4)
    'docker-0123456789ab'
    """
    parts = [part for part in path.split("/") if part not in {"", ".", ".."}]
    if not parts:
        return OUTSIDE if ".." in path else ROOT  # what is above the own namespace has no name there
    return shortened(_SHORTENED.sub(r"\1", _container("/" + "/".join(parts)) or _unit(parts) or parts[-1]), LONGEST)


_ID = r"[0-9a-f]{64}"
_POD = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32}"  # 32: a static pod's, the hash of its manifest
_RUNTIMES = {
    "docker": "docker",
    "libpod": "podman",
    "nerdctl": "nerdctl",
    "cri-containerd": "containerd",
    "crio": "crio",
}  # by how the cgroup is called; the last two are nearly always in a pod, which comes first

_CONTAINERS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (  # the systemd driver, its pods under containerd's cgroupfs driver (.slice:cri-containerd:ID), the cgroupfs driver
        re.compile(rf"/(?:[^/]*kubepods(?:-[a-z]+)?-)?pod({_POD})(?:\.slice(?::[^/]*)?)?(?![^/])"),
        lambda found: f"pod-{found[1].replace('_', '-')}",
    ),
    (
        re.compile(rf"/({'|'.join(_RUNTIMES)})-({_ID})(?:\.scope)?(?![^/])"),
        lambda found: f"{_RUNTIMES[found[1]]}-{found[2]}",
    ),
    (re.compile(r"/lxc\.payload\.([^/]+)"), lambda found: f"lxc-{found[1]}"),
    (re.compile(r"\A/lxc/([^/]+)"), lambda found: f"lxc-{found[1]}"),  # Proxmox, and LXC before 4.0
    (re.compile(r"/(systemd-nspawn@[^/]+\.service)(?![^/])"), lambda found: found[1]),
    # docker/ID, and containerd's NAMESPACE/ID. No dot: what a unit makes below itself stays the unit's.
    (re.compile(rf"/([^/.]+)/({_ID})(?![^/])"), lambda found: f"{found[1]}-{found[2]}"),
)
_SHORTENED = re.compile(r"(?<![0-9a-f])([0-9a-f]{12})[0-9a-f]{52}(?![0-9a-f])")  # an id as `docker ps` shows it
_ESCAPE = re.compile(r"\\([0-7]{3})", re.ASCII)


def _container(path: str) -> str | None:
    """The outermost container or pod of the path; where two rules find the same, the first."""
    found = [(match, name) for pattern, name in _CONTAINERS if (match := pattern.search(path))]
    if not found:
        return None
    match, name = min(found, key=lambda pair: pair[0].start())
    return name(match)


def _unit(parts: list[str]) -> str | None:
    """The innermost service or scope of systemd."""
    units = [part for part in parts if part.endswith((".service", ".scope"))]
    while len(units) > 1 and units[-1] == "init.scope":
        units.pop()  # a user's manager itself: its service says whose, and init.scope alone is the system's
    # One underscore is systemd's own, before names that the kernel would take for its files: _cpu.service.
    return units[-1].removeprefix("_") if units else None


def _unescaped(field: str) -> str:
    """A field of mountinfo with its blanks and backslashes, which the kernel writes in octal."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), field)
