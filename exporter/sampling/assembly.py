"""The polling loop as a configuration asks for it: what the daemon serves from, and what ``show --watch`` draws."""

from __future__ import annotations

from collections.abc import Callable

from exporter import system
from exporter.config.schema import Config
from exporter.defaults import DETAIL_INTERVAL
from exporter.health.judge import Judge
from exporter.kernel.cgroupfs import Cgroups
from exporter.kernel.derivation import Trust, has_netns_tw
from exporter.kernel.netnsfs import Namespaces
from exporter.kernel.reader import KeptProcfs, NetlinkReader, Procfs
from exporter.sampling.closing import Closing
from exporter.sampling.detailer import Detailer, Wanted
from exporter.sampling.loop import Loop, PassSchedule, Schedule
from exporter.sampling.samplelog import Logger
from exporter.sampling.sampler import Sampler, readers

_SYSCTL_SECONDS = DETAIL_INTERVAL  # between two readings of the sysctls where the detail pass is switched off


def assemble_loop(settings: Config, procfs: Procfs, release: str, clock: Callable[[], float], logger: Logger) -> Loop:
    """A loop that is not started yet, on the running kernel's *release*; *clock* is monotonic seconds."""
    trust = Trust(release)
    chain = readers(settings.sample.reader, procfs)
    kept = KeptProcfs(procfs.root) if system.LINUX and procfs.root == "/proc" else procfs
    sampler = Sampler(kept, chain, trust, clock)
    detailer = Detailer(procfs, readers(settings.sample.reader, procfs), trust, Cgroups(procfs.root))
    namespaces = Namespaces(procfs.root, derivable=has_netns_tw(release))
    closing = Closing(procfs, clock) if any(isinstance(reader, NetlinkReader) for reader in chain) else None
    return Loop(sampler, detailer, namespaces, schedule(settings), logger, Judge(procfs.release()), closing)


def schedule(settings: Config) -> Schedule:
    """What of the configuration the loop goes by."""
    detail = settings.detail
    return Schedule(
        PassSchedule(settings.sample.interval, settings.sample.max_cpu_ratio),
        PassSchedule(settings.detail.interval or _SYSCTL_SECONDS, settings.detail.max_cpu_ratio),
        settings.sample.peak_window,
        full_dumps=settings.detail.interval > 0 and system.LINUX,
        wanted=Wanted(detail.ports, detail.remote_ports, detail.max_series, detail.namespaces, quality=detail.quality),
        closes=detail.closes,
        thresholds=settings.thresholds,
        expected=settings.sysctl.expected,
    )
