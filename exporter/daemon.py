"""The daemon: loop, server and signals in one process. A rim module, wired by ``cli``.

The sampling thread publishes samples, the asyncio loop serves them; nothing in a request waits for the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from exporter import __version__, log
from exporter.advice.advisor import Advisor
from exporter.config import Config, parse_listen_address
from exporter.errors import ConfigError
from exporter.kernel.cgroupfs import Cgroups
from exporter.kernel.derivation import Trust, has_netns_tw
from exporter.kernel.netnsfs import Namespaces
from exporter.kernel.reader import Procfs
from exporter.prometheus.families import View
from exporter.sampling.detailer import Detailer, Wanted
from exporter.sampling.loop import Beat, Loop, Schedule
from exporter.sampling.sampler import Sampler, readers
from exporter.web.app import Current, application
from exporter.web.server import Limits, Server

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

_WATCH_SECONDS = 0.5
_WATCH_AT_MOST_SECONDS = 5.0  # that a thread may be dead before it is noticed
_FIRST_SECONDS = 10.0  # for the first sample, after which its absence is worth a line
_SYSCTL_SECONDS = 15.0  # between two readings of the sysctls where the detail pass is switched off
_STOP_SECONDS = 2.0  # for the sample in progress, when the process is told to end


def serve(load: Callable[[], Config], procfs: str) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. *load* reads the configuration, at the start and on SIGHUP."""
    settings = load()
    logger = log.logger(settings.log.level, settings.log.format, sys.stderr, os.environ)
    return asyncio.run(_Daemon(load, settings, Procfs(procfs), logger).run())


class _Daemon:
    def __init__(
        self, load: Callable[[], Config], settings: Config, procfs: Procfs, logger: FilteringBoundLogger
    ) -> None:
        self._load = load
        self._settings = settings
        self._log = logger
        self._reload_successful = True
        self._reading = self._read_again = False
        self._started = time.monotonic()
        release = os.uname().release
        trust = Trust(release)
        sampler = Sampler(procfs, readers(settings.sample.reader, procfs), trust, time.monotonic)
        detailer = Detailer(procfs, readers(settings.sample.reader, procfs), trust, Cgroups(procfs.root))
        namespaces = Namespaces(procfs.root, derivable=has_netns_tw(release))
        advisor = Advisor(procfs.release())
        self._loop = Loop(sampler, detailer, namespaces, _schedule(settings), logger, advisor)

    async def run(self) -> int:
        stop = asyncio.Event()
        events = asyncio.get_running_loop()
        events.set_exception_handler(self._unexpected)
        for number in (signal.SIGTERM, signal.SIGINT):
            events.add_signal_handler(number, stop.set)
        events.add_signal_handler(signal.SIGHUP, self._reload, events)
        server = Server(
            application(self._current),
            limits=Limits(max_requests=self._settings.web.max_requests),
            on_error=lambda error: self._log.error("request failed", exc_info=error),
        )
        addresses = [parse_listen_address(text) for text in self._settings.web.listen_address]
        urls = await server.start(addresses)
        try:
            self._log.info("starting", version=__version__, python=platform.python_version(), pid=os.getpid())
            self._loop.start()
            for url in urls:
                self._log.info("listening", address=url)
            code = await self._watch(stop)
        finally:
            await server.close()
            self._loop.stop(_STOP_SECONDS)
        return code

    async def _watch(self, stop: asyncio.Event) -> int:
        """Until told to stop: say when samples stop coming and when they come again; end when the loop is dead."""
        silent, wait = False, _WATCH_SECONDS
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait)
            if not self._loop.is_alive:
                self._log.error("the polling loop has died")
                return 1
            sample, now = self._loop.sample, time.monotonic()
            was_silent, silent, wait = silent, now - self._started > _FIRST_SECONDS, _WATCH_SECONDS
            if sample is not None:
                silent = sample.is_stale(now)
                if not silent:  # before it is stale there is nothing to say of it, and every look costs
                    wait = min(_WATCH_AT_MOST_SECONDS, sample.counted_at + sample.stale_after - now + _WATCH_SECONDS)
            if silent and not was_silent:
                self._log.warning("no sample in time", waiting_for=self._loop.asking or "nothing")
            elif was_silent and not silent:
                self._log.info("samples come again")
        self._log.info("stopping")
        return 0

    def _current(self) -> Current:
        sample, now = self._loop.sample, time.monotonic()
        stale = sample is not None and sample.is_stale(now)
        view = View(
            self._settings.thresholds,
            platform.python_version(),
            stale=stale,
            hanging_on=self._loop.asking if stale or sample is None else None,
            reload_successful=self._reload_successful,
            max_series=self._settings.detail.max_series,
        )
        return Current(sample, view, now, self._settings.web.telemetry_path)

    def _reload(self, events: asyncio.AbstractEventLoop) -> None:
        """Read the configuration again, in a thread that may hang: the disk may."""
        if self._reading:
            self._read_again = True
            return
        self._reading = True
        threading.Thread(target=self._read, args=(events,), name="configuration", daemon=True).start()

    def _read(self, events: asyncio.AbstractEventLoop) -> None:
        settings, mistakes = self._settings, list[str]()
        try:
            settings = self._load()
        except ConfigError as error:
            mistakes = error.mistakes
        with contextlib.suppress(RuntimeError):  # the process ends while the file was being read
            events.call_soon_threadsafe(self._take, events, settings, mistakes)

    def _take(self, events: asyncio.AbstractEventLoop, settings: Config, mistakes: list[str]) -> None:
        """Put the configuration in force whole, or keep the one before it and say why."""
        self._reading = False
        self._reload_successful = not mistakes
        for mistake in mistakes:
            self._log.error("configuration refused, the one before it stays in force", error=mistake)
        if not mistakes:
            for key, before, after in _fixed(self._settings, settings):
                self._log.warning("a changed setting waits for a restart", key=key, now=before, file=after)
            self._settings = settings
            self._loop.reschedule(_schedule(settings))
            self._log.info("configuration reloaded")
        if self._read_again:
            self._read_again = False
            self._reload(events)

    def _unexpected(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._log.error("unexpected error", error=context.get("message"), exc_info=context.get("exception"))


def _schedule(settings: Config) -> Schedule:
    detail = settings.detail
    return Schedule(
        Beat(settings.sample.interval, settings.sample.max_cpu_ratio),
        Beat(settings.detail.interval or _SYSCTL_SECONDS, settings.detail.max_cpu_ratio),
        settings.sample.peak_window,
        full_dumps=settings.detail.interval > 0,
        wanted=Wanted(detail.ports, detail.remote_ports, detail.max_series, detail.namespaces),
        thresholds=settings.thresholds,
        expected=settings.sysctl.expected,
    )


def _fixed(before: Config, after: Config) -> list[tuple[str, str, str]]:
    """The settings that are only read at the start and differ."""
    pairs = [
        ("sample.reader", before.sample.reader, after.sample.reader),
        ("web.listen_address", ", ".join(before.web.listen_address), ", ".join(after.web.listen_address)),
        ("web.max_requests", str(before.web.max_requests), str(after.web.max_requests)),
        ("log.level", before.log.level, after.log.level),
        ("log.format", before.log.format, after.log.format),
    ]
    return [pair for pair in pairs if pair[1] != pair[2]]
