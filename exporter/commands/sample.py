"""The sample of the commands that end: a snapshot and its health."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from exporter.commands.options import in_time
from exporter.config.schema import Config
from exporter.health.judge import Health, Judge
from exporter.health.window import Window
from exporter.kernel.reader import Procfs
from exporter.sampling import once
from exporter.sampling.detailer import Wanted
from exporter.snapshot import Snapshot


def judged(
    options: argparse.Namespace, settings: Config, interval: float = 0.0, late: int = 1
) -> tuple[Snapshot, Health]:
    """A sample and what it means, as ``window_of``."""
    window = window_of(options, settings, interval, late)
    return window.now, judging(options, settings)(window)


def judging(options: argparse.Namespace, settings: Config) -> Callable[[Window], Health]:
    """What judges windows of this host by the configuration."""
    judge = Judge(release(options))
    return lambda window: judge.judge(window, settings.thresholds, settings.sysctl.expected)


def window_of(options: argparse.Namespace, settings: Config, interval: float = 0.0, late: int = 1) -> Window:
    """A sample; the process ends with the exit code *late* where the kernel hangs.

    With an *interval* in seconds it is the second of two counts, for what only a change tells.
    """
    detail = settings.detail
    wanted = Wanted(detail.ports, detail.remote_ports, detail.max_series, quality=detail.quality)
    with in_time(late, interval):
        if interval:
            *past, snapshot = once.apart(interval, options.procfs, options.reader, wanted)
        else:
            past, snapshot = [], once.snapshot(options.procfs, options.reader, wanted=wanted)
    return Window(snapshot, past)


def release(options: argparse.Namespace) -> str:
    """The release of the kernel whose procfs is read."""
    return Procfs(options.procfs).release()
