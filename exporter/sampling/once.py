"""One sample for a command that ends: what ``show``, ``dump`` and the plugin take. A rim module: it has the clocks."""

from __future__ import annotations

import time

from exporter import system
from exporter.errors import SourceError
from exporter.kernel.derivation import Trust
from exporter.kernel.reader import Procfs
from exporter.record import TYPE_CHECKING
from exporter.sampling.sampler import Counted, Sampler, assemble, readers

if TYPE_CHECKING:
    from exporter.details import Detail
    from exporter.sampling.detailer import Wanted
    from exporter.snapshot import Snapshot


def snapshot(
    procfs_root: str,
    reader: str,
    *,
    netstat: bool = True,
    sysctls: bool = True,
    queues: bool = True,
    conntrack: bool = True,
    wanted: Wanted | None = None,
    units: bool = True,
    port: int = 0,
    sampler: Sampler | None = None,
) -> Snapshot:
    """Sample this host once, and leave out what nobody asks for.

    That is *netstat*, *sysctls*, *queues*, *conntrack*, and the detail *wanted*, with the memory of sockets also where
    much of TCP's is used.

    With a local *port* the states are those of its sockets. A *sampler* remembers what it has sampled before.
    """
    procfs, trust = Procfs(procfs_root), Trust(system.release())
    sampler = sampler or Sampler(procfs, readers(reader, procfs), trust, time.monotonic)
    counted = sampler.count(netstat=netstat, queues=queues, conntrack=conntrack)
    taken_at = time.time()  # of the counters, which rates are made of: what is read below takes seconds on large hosts
    if port:
        by_port = sampler.count_port(port)
        counted = counted._replace(connections=by_port.connections, sources=counted.sources | by_port.sources)
    values, problem = sampler.sysctls() if sysctls else ({}, None)

    def taken(detail: Detail | None = None) -> Snapshot:
        return assemble(counted, values, problem, taken_at=taken_at, page_size=system.page_size(), detail=detail)

    if wanted is None or not procfs.is_expected:
        return taken()
    return taken(_detail(procfs, reader, trust, wanted, counted, taken(), units=units))


def apart(
    seconds: float, procfs_root: str, reader: str, wanted: Wanted | None, *, port: int = 0, units: bool = True
) -> tuple[Snapshot, Snapshot]:
    """Two samples, *seconds* apart, for what only a change tells: the older has no sysctls and no detail."""
    from exporter.health.window import Window  # noqa: PLC0415 - only rates are made of two

    procfs = Procfs(procfs_root)
    # One sampler, because it knows the listening sockets apart, which come and go.
    sampler = Sampler(procfs, readers(reader, procfs), Trust(system.release()), time.monotonic)
    older = snapshot(procfs_root, reader, sysctls=False, sampler=sampler)
    time.sleep(seconds)
    newer = snapshot(procfs_root, reader, wanted=wanted, port=port, units=units, sampler=sampler)
    return older, newer._replace(drops=Window(newer, (older,)).drop_rates())


def _detail(
    procfs: Procfs, reader: str, trust: Trust, wanted: Wanted, counted: Counted, without: Snapshot, *, units: bool
) -> Detail | None:
    """The detail that is to be added to the snapshot *without* it."""
    from exporter.kernel.cgroupfs import Cgroups  # noqa: PLC0415 - the plugin does without unless asked
    from exporter.sampling.detailer import Detailer, is_tight  # noqa: PLC0415

    cgroups = Cgroups(procfs.root) if units else None
    wanted = wanted._replace(memory=wanted.memory or is_tight(without))
    try:
        detail = Detailer(procfs, readers(reader, procfs), trust, cgroups).detail(wanted, time.time())
    except SourceError as error:
        counted.sources["detail"] = str(error)
        return None
    if detail.quality is not None:
        counted.sources["quality"] = detail.quality.problem
    if detail.problem is not None:
        counted.sources["detail"] = detail.problem
    return detail
