"""One sample for a command that ends: what ``show``, ``dump`` and the plugin take. A rim module: it has the clocks."""

from __future__ import annotations

import mmap
import os
import time

from exporter.kernel.reader import Procfs
from exporter.record import TYPE_CHECKING
from exporter.sampling.sampler import Sampler, Wanted, assemble, readers

if TYPE_CHECKING:
    from exporter.kernel.cgroupfs import Cgroups
    from exporter.snapshot import Snapshot


def snapshot(
    procfs_root: str,
    reader: str,
    *,
    netstat: bool = True,
    sysctls: bool = True,
    queues: bool = True,
    wanted: Wanted | None = None,
    port: int = 0,
) -> Snapshot:
    """Sample this host once, and leave out what nobody asks for: *netstat*, *sysctls*, *queues*, the detail *wanted*.

    With a local *port* the states are those of its sockets.
    """
    procfs = Procfs(procfs_root)
    cgroups = None if wanted is None else _cgroups(procfs)
    sampler = Sampler(procfs, readers(reader, procfs), os.uname().release, time.monotonic, cgroups)
    counted = sampler.count(netstat=netstat, queues=queues)
    if port:
        by_port = sampler.count_port(port)
        counted = counted._replace(connections=by_port.connections, sources=counted.sources | by_port.sources)
    values, problem = sampler.sysctls() if sysctls else ({}, None)
    detail = None if wanted is None else sampler.detail(wanted, time.time())
    return assemble(counted, values, problem, taken_at=time.time(), page_size=mmap.PAGESIZE, detail=detail)


def _cgroups(procfs: Procfs) -> Cgroups:
    from exporter.kernel.cgroupfs import Cgroups  # noqa: PLC0415 - the plugin does without unless asked

    return Cgroups(procfs.root)
