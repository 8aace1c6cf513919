"""One sample for a command that ends: what ``show``, ``dump`` and the plugin take. A rim module: it has the clocks."""

from __future__ import annotations

import mmap
import os
import time

from exporter.kernel.reader import Procfs
from exporter.sampling.sampler import Sampler, assemble, readers
from exporter.snapshot import Snapshot


def snapshot(procfs_root: str, reader: str, *, netstat: bool = True, sysctls: bool = True) -> Snapshot:
    """Sample this host once; *netstat* and *sysctls* may be left out where nobody asks for them."""
    procfs = Procfs(procfs_root)
    sampler = Sampler(procfs, readers(reader, procfs), os.uname().release, time.monotonic)
    counted = sampler.count(netstat=netstat)
    values, problem = sampler.sysctls() if sysctls else ({}, None)
    return assemble(counted, values, problem, taken_at=time.time(), page_size=mmap.PAGESIZE)
