"""What a person calls the owner of a cgroup: the unit, container or pod that its path is made for.

``cgroupfs`` finds the paths and asks here for their names. Nothing here does IO: the mount table and the paths are
text.
"""

from __future__ import annotations

import re

from exporter.printable import printable, shortened
from exporter.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = "root"
"""The root of the tree that is seen: processes that nobody put anywhere."""

GONE = "gone"
"""A cgroup that was removed; its sockets keep its id."""

OUTSIDE = "outside"
"""Not in the part of the tree that is seen: outside the own cgroup namespace, or beyond where a walk was ended."""

NO_UNIT = "none"
"""The unit of sockets that the kernel keeps no cgroup of: half-open, TIME-WAIT, FIN-WAIT-2 after close()."""

RESERVED = frozenset({ROOT, GONE, OUTSIDE, NO_UNIT, "other"})
"""Labels that stand for no unit; a cgroup of such a name is shown by its path."""

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


class Owner(NamedTuple):
    """The unit, container or pod that owns a cgroup: the path is the identity, the name is only shown."""

    path: str
    name: str


def owner(path: str) -> Owner:
    """The owner of a cgroup path. Its name is printable, never empty, and has at most ``LONGEST`` characters.

    A container owns everything below it, also the units of a systemd that runs in it. Elsewhere it is the innermost
    unit, which owns what it makes below itself. A system unit can delegate its cgroup to a user, who may choose any
    name below it: what is found there is named after that unit too. A ``/`` in front marks a path that is shown whole
    because its last part alone could pass for something else.

    >>> owner("/system.slice/nginx.service/payload")
    Owner(path='/system.slice/nginx.service', name='nginx.service')
    >>> owner("/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service").name
    'user@1000.service/nginx.service'
    >>> owner("/kubepods/burstable/pod6a1c1d3e-9b1f-4c57-8f5e-0d7a3c2b1e4f/" + "0123456789abcdef" * 4).name
    'pod-6a1c1d3e-9b1f-4c57-8f5e-0d7a3c2b1e4f'
    >>> owner("/docker/" + "0123456789abcdef" * 4).name
    'docker-0123456789ab'
    """
    named = [part for part in path.split("/") if part not in {"", "."}]
    parts = [part for part in named if part != ".."]
    if not parts:
        return Owner("/..", OUTSIDE) if named else Owner("/", ROOT)  # above the own namespace nothing has a name
    above = "/.." * (len(named) - len(parts))
    found = _container("/" + "/".join(parts)) or _unit(parts)
    if found is None:
        whole = "/" + "/".join(parts)
        plain = parts[-1] not in RESERVED and all(part.endswith(".slice") for part in parts[:-1])
        found = Owner(whole, parts[-1] if plain else whole)
    identity = above + found.path
    if found.name.startswith("/"):
        return Owner(identity, _whole(identity))
    return Owner(identity, shortened(_SHORTENED.sub(r"\1", found.name), LONGEST))


def unit_name(path: str) -> str:
    """The name of the owner of a cgroup path."""
    return owner(path).name


def labels(owners: Iterable[Owner]) -> dict[str, str]:
    """A label for each owner by its path, no two alike and each at most ``LONGEST`` characters.

    Of owners that share a name, that of the system's slice or else the one nearest to the root has it; the others are
    called by their paths.

    >>> labels([Owner("/b.slice/a.service", "a.service"), Owner("/system.slice/a.service", "a.service")])
    {'/system.slice/a.service': 'a.service', '/b.slice/a.service': '/b.slice/a.service'}
    """
    given: dict[str, str] = {}
    taken: set[str] = set()
    for path, name in sorted(set(owners), key=_precedence):
        given[path] = name if name not in taken else _whole(path)
        taken.add(name)
    return given


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
        re.compile(rf"/(?:[^/]*kubepods(?:-[a-z]+)?-)?pod({_POD})(?:\.slice)?(?![^/:])"),
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
_UNITS = (".service", ".scope")
_DELEGATES = re.compile(r"[^/]*\.(?:service|scope)|user-[0-9]+\.slice").fullmatch  # what can be a user's below itself
_RUNTIME_SERVICES = {f"/system.slice/{name}.service" for name in ("containerd", "k3s", "k3s-agent")}
"""Services of the system that keep pods below themselves."""
_DIGEST = 16  # hexadecimal digits
_SHORTENED = re.compile(r"(?<![0-9a-f])([0-9a-f]{12})[0-9a-f]{52}(?![0-9a-f])")  # an id as `docker ps` shows it
_ESCAPE = re.compile(r"\\([0-7]{3})", re.ASCII)


def _container(path: str) -> Owner | None:
    """The outermost container or pod of the path; where two rules find the same, the first."""
    found = [(match, name) for pattern, name in _CONTAINERS if (match := pattern.search(path))]
    if not found:
        return None
    match, name = min(found, key=lambda pair: pair[0].start())
    before = path[: match.start()]
    within = [] if before in _RUNTIME_SERVICES else [_plain(part) for part in before.split("/") if _DELEGATES(part)]
    if within and not all(part.endswith(".slice") for part in within):
        within = [part for part in within if not part.endswith(".slice")]  # the unit alone says whose it is
    return Owner(path[: match.end()], "/".join([*within, name(match)]))


def _unit(parts: list[str]) -> Owner | None:
    """The innermost service or scope of systemd, behind those that it is in."""
    units = [at for at, part in enumerate(parts) if part.endswith(_UNITS)]
    while len(units) > 1 and parts[units[-1]] == "init.scope":
        units.pop()  # a user's manager itself: its service says whose, and init.scope alone is the system's
    if not units:
        return None
    path = "/" + "/".join(parts[: units[-1] + 1])
    if not all(part.endswith(".slice") for part in parts[: units[0]]):
        return Owner(path, _plain(parts[units[-1]]))  # systemd puts its units into slices: root made this one by hand
    return Owner(path, "/".join(_plain(parts[at]) for at in units))


def _plain(part: str) -> str:
    return part.removeprefix("_")  # systemd's own, before names that the kernel would take for its files: _cpu.service


def _precedence(of: Owner) -> tuple[bool, int, str]:
    return not of.path.startswith("/system.slice/"), of.path.count("/"), of.path


def _whole(path: str) -> str:
    """A path as a label that no other path has: with a digest where it cannot be shown as it is."""
    if path.isprintable() and len(path) <= LONGEST and "~" not in path:
        return path
    from hashlib import sha256  # noqa: PLC0415 - rare, and the plugin starts faster without it

    digest = sha256(path.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{printable(path)[: LONGEST - _DIGEST - 1]}~{digest}"


def _unescaped(field: str) -> str:
    """A field of mountinfo with its blanks and backslashes, which the kernel writes in octal."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), field)
