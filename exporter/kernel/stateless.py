"""TCP sockets in no state: closed, or never connected, but still held by a descriptor. A rim module: it walks /proc.

The kernel counts what is allocated for the host and what is in its tables by network namespace, so the difference can
be told only where every process of the host, and with it every namespace that has sockets, is seen. Source:
net/ipv4/proc.c, sockstat_seq_show.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterable

from exporter.errors import SourceError, SourceMissing
from exporter.kernel import procnet
from exporter.kernel.reader import Procfs, places

_INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h
_AGAIN_SECONDS = 0.2
_FEW = 100  # so many may be on their way through the kernel


def count(procfs: Procfs) -> int | None:
    """At least how many there are; None where some of the host's processes or namespaces cannot be seen.

    Orphans are left out twice where their namespace is seen, because that of others has ended. Counted a second time
    where there are many, because a namespace that is being torn down has none that is seen. Raises ``SourceError``
    where sockstat cannot be read.
    """
    try:
        if os.readlink(f"{procfs.root}/self/ns/pid") != _INITIAL_PID_NAMESPACE:
            return None
        os.stat(f"{procfs.root}/1")  # hidepid hides it
        if not _count(procfs, ["self"]):
            return 0
        first = _count(procfs, _of_each_namespace(procfs))
        if not first:
            return 0
        time.sleep(_AGAIN_SECONDS)
        processes = _of_each_namespace(procfs)
        if not (second := _count(procfs, processes)):
            return 0
        return None if _is_one_without_process(procfs, processes) else min(first, second)
    except OSError:
        return None


def _count(procfs: Procfs, processes: Iterable[str]) -> int:
    """How many are allocated beyond those in use in the namespaces of *processes*; 0 where that is a few."""
    before = procnet.parse_sockstat(procfs.text("net/sockstat"), f"{procfs.root}/net/sockstat")
    in_use = sum(_in_use(procfs, process) for process in processes)
    after = procnet.parse_sockstat(procfs.text("net/sockstat"), f"{procfs.root}/net/sockstat")
    found = min(before.alloc, after.alloc) - max(before.orphan, after.orphan) - in_use
    return found if found >= _FEW else 0


def _of_each_namespace(procfs: Procfs) -> list[str]:
    """A process, or a thread, of each network namespace; ``OSError`` where one may not be looked at."""
    processes = ["self", *(name for name in os.listdir(procfs.root) if name.isdigit())]
    found: dict[int, str] = {}
    for process in processes:
        for place in places(procfs.root, process):
            try:
                found.setdefault(os.stat(f"{procfs.root}/{place}/net/sockstat").st_ino, place)
                break
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
            except OSError as error:
                if error.errno != errno.EINVAL:  # it ends at this moment
                    raise
    return list(found.values())


def _is_one_without_process(procfs: Procfs, processes: Iterable[str]) -> bool:
    """Whether a mount (``ip netns add``) holds a network namespace in which none of *processes* is, as far as is seen.

    Sockets made there by a thread that has left it again are in use, and nobody's sockstat shows them. Which namespace
    a process is in is told to its own user and to root; of the others only their number can be compared.
    """
    held = set(re.findall(r"^(?:[^ ]+ ){3}(net:\[[0-9]+\]) ", procfs.text("self/mountinfo"), re.MULTILINE))
    hidden = 0
    for process in processes:
        try:
            held.discard(os.readlink(f"{procfs.root}/{process}/ns/net"))
        except OSError:
            hidden += 1
    return len(held) > hidden


def _in_use(procfs: Procfs, process: str) -> int:
    """The hashed sockets, IPv4 and IPv6, of the network namespace of *process*; 0 where it has ended."""
    path, used = f"{process}/net/sockstat", 0
    try:
        used = procnet.parse_sockstat(procfs.text(path), f"{procfs.root}/{path}").inuse
        used += procnet.parse_sockstat6(procfs.text(f"{path}6"), f"{procfs.root}/{path}6")
    except SourceMissing:  # there is no IPv6, or the process has ended
        return used
    except SourceError as error:
        raise OSError(str(error)) from None
    return used
