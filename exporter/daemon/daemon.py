"""The daemon: polling loop, server and signals in one process. A rim module; ``commands.serve`` runs it.

The sampling thread publishes samples and the asyncio loop serves them: no request waits for the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import faulthandler
import os
import platform
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING, Any

from exporter import __version__, system
from exporter.config.fields import parse_listen_address
from exporter.config.schema import Config
from exporter.daemon import log
from exporter.daemon.service import FIRST_SECONDS, ServiceNotifier
from exporter.daemon.systemd import NotifySocket, passed_sockets
from exporter.errors import ConfigError
from exporter.health.sysctls.used import exported
from exporter.kernel.reader import Procfs
from exporter.prometheus.families import View
from exporter.sampling.assembly import assemble_loop, schedule
from exporter.web.app import application
from exporter.web.current import Current
from exporter.web.page import RUNBOOKS_FOLDER, SCRIPT_FILE, STYLE_FILE, Assets
from exporter.web.server import Limits, Server

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from exporter.web.gate import Gate
    from exporter.web.protection import Protection

_WATCH_SECONDS = 0.5
_WATCH_AT_MOST_SECONDS = 5.0  # until a dead thread is noticed
_READ_SECONDS = 5.0  # for the configuration's files: then the disk hangs
_LOOK_SECONDS = 1.0  # between two looks at what the files and the clients' certificates do
_STOP_SECONDS = 2.0  # for the sample in progress when the process ends
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_SAY_AGAIN_SECONDS = 60.0


def serve(load: Callable[[], Config], procfs: str, *, systemd_socket: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. *load* reads the configuration, at the start and on SIGHUP.

    With *systemd_socket* it serves on the sockets that systemd passes, and ignores the configured addresses.
    """
    faulthandler.enable()  # the watchdog sends SIGABRT: the journal then has the stack of each thread
    notifier = NotifySocket(os.environ, os.getpid())
    settings = load()
    passed = passed_sockets(os.environ, os.getpid()) if systemd_socket else None
    logger = log.logger(settings.log.level, settings.log.format, sys.stderr, os.environ)
    protection = None
    if settings.web.config_file is not None:
        from exporter.web.protection import Protection  # noqa: PLC0415 - a megabyte, only with TLS or users

        protection = Protection(settings.web.config_file, logger)
    daemon = _Daemon(load, settings, Procfs(procfs), protection, logger, notifier)
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # also on Windows: the server adds readers
        return runner.run(daemon.run(passed))


def page_assets() -> Assets:
    """The status page's files, which are part of this package."""
    files = resources.files("exporter.web.page")
    style, script = (files.joinpath(name).read_text("utf-8") for name in (STYLE_FILE, SCRIPT_FILE))
    pages = sorted(files.joinpath(RUNBOOKS_FOLDER).iterdir(), key=lambda page: page.name)
    return Assets(style, script, {page.name.removesuffix(".html"): page.read_text("utf-8") for page in pages})


class _Daemon:
    def __init__(
        self,
        load: Callable[[], Config],
        settings: Config,
        procfs: Procfs,
        protection: Protection | None,
        logger: FilteringBoundLogger,
        notifier: NotifySocket,
    ) -> None:
        self._load = load
        self._settings = settings
        self._protection = protection
        self._gate: Gate | None = None
        self._log = logger
        self._reload_successful = True
        self._reading_since: float | None = None  # time.monotonic
        self._read_again = False
        self._read_number = 0  # of the latest read: what one that was given up finds is ignored
        self._waiting: set[str] = set()  # files whose disk hangs
        self._said_handshake = -_SAY_AGAIN_SECONDS
        self._unsaid_handshakes = 0
        self._started = time.monotonic()
        self._said_exhausted = -_SAY_AGAIN_SECONDS
        self._service = ServiceNotifier(notifier.send, self._started, watched=notifier.watchdog is not None)
        self._look_within = min(_WATCH_AT_MOST_SECONDS, (notifier.watchdog or float("inf")) / 2)
        self._loop = assemble_loop(settings, procfs, system.release(), time.monotonic, logger)

    async def run(self, passed: list[socket.socket] | None) -> int:
        stop = asyncio.Event()
        events = asyncio.get_running_loop()
        events.set_exception_handler(self._unexpected)
        self._handle_signals(events, stop)
        server = self._server()
        if passed is None:
            urls = await server.start([parse_listen_address(text) for text in self._settings.web.listen_address])
        else:
            urls = await server.take(passed)
        try:
            self._log.info("starting", version=__version__, python=platform.python_version(), pid=os.getpid())
            self._loop.start()
            for url in urls:
                self._log.info("listening", address=url)
            self._watch_protection()
            code = await self._watch(stop, server)
        finally:
            self._service.stopping()
            await server.close()
            if self._gate is not None:
                self._gate.close()
            self._loop.stop(_STOP_SECONDS)
        return code

    def _handle_signals(self, events: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
        """SIGTERM and SIGINT, on Windows Ctrl-C and Ctrl-Break, set *stop*; SIGHUP, which Windows has not, reloads."""
        if not system.WINDOWS:
            for number in (signal.SIGTERM, signal.SIGINT):
                events.add_signal_handler(number, stop.set)
            events.add_signal_handler(signal.SIGHUP, self._reload, events)
            return
        reading, woken = socket.socketpair()  # the loop has none for signals there, and select(2) would sleep on
        for each in (reading, woken):
            each.settimeout(0)
        signal.set_wakeup_fd(woken.fileno())
        events.add_reader(reading, reading.recv, 64)
        self._waking = (reading, woken)
        numbers = {getattr(signal, name, signal.SIGINT) for name in ("SIGTERM", "SIGINT", "SIGBREAK")}
        for number in numbers:
            signal.signal(number, lambda *_: stop.set())

    def _server(self) -> Server:
        """The server, with the gate and TLS of the web configuration."""
        tls = None
        if (protection := self._protection) is not None:
            from exporter.web.gate import Gate  # noqa: PLC0415 - as in serve
            from exporter.web.passwords import Passwords, check  # noqa: PLC0415

            self._gate = Gate(lambda: protection.config, Passwords(check), time.monotonic)
            tls = protection.tls if protection.config.tls_server_config is not None else None
        return Server(
            application(self._current, page_assets()),
            limits=Limits(max_requests=self._settings.web.max_requests),
            on_error=lambda error: self._failed("request failed", error),
            on_starved=lambda error: self._log.error("connections cannot be accepted", error=repr(error)),
            on_handshake=self._handshake_failed,
            gate=self._gate,
            tls=tls,
        )

    def _watch_protection(self) -> None:
        """Follow the files of the web configuration, in a thread because a disk may hang."""
        if self._protection is None:
            return
        if self._protection.config.basic_auth_users and self._protection.config.tls_server_config is None:
            self._log.warning("basic authentication without TLS sends passwords in clear text")
        threading.Thread(target=self._protection.watch, name="protection", daemon=True).start()

    async def _watch(self, stop: asyncio.Event, server: Server) -> int:
        """Log when sampling stalls and resumes, until *stop* is set (0) or the polling loop has died (1).

        systemd is notified from here as well, so that a dead or stuck event loop sends no sign of life.
        """
        silent, wait = False, _WATCH_SECONDS
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait)
            server.end_unadmitted()
            self._observe_reload()
            if not self._loop.is_alive:
                self._log.error("the polling loop has died")
                return 1
            sample, now = self._loop.sample, time.monotonic()
            was_silent, silent, wait = silent, now - self._started > FIRST_SECONDS, _WATCH_SECONDS
            if sample is not None:
                silent = sample.is_stale(now)
                if not silent:  # nothing changes before it is stale, and every look costs CPU
                    wait = sample.counted_at + sample.stale_after - now + _WATCH_SECONDS
            self._service.observe(sample, now, self._loop.asking)
            wait = min(wait, self._look_within)
            if self._protection is not None or self._reading_since is not None:
                wait = min(wait, _LOOK_SECONDS)
            if silent and not was_silent:
                self._log.warning("no sample in time", waiting_for=self._loop.asking or "nothing")
            elif was_silent and not silent:
                self._log.info("sampling resumed")
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
            reload_successful=self._reload_successful
            and not self._waiting
            and (self._protection is None or self._protection.successful),
            max_series=self._settings.detail.max_series,
            exported=exported(self._settings.sysctl.export, self._settings.sysctl.expected),
        )
        return Current(
            sample, view, now, self._settings.web.telemetry_path, socket.gethostname(), self._loop.history.points
        )

    def _reload(self, events: asyncio.AbstractEventLoop) -> None:
        """Read the configuration again, in a thread because a disk may hang."""
        self._observe_reload()
        if self._protection is not None:
            if "web configuration" in self._waiting:
                self._watch_protection()
            self._protection.ask()
        if self._reading_since is not None and "configuration" not in self._waiting:
            self._read_again = True
            return
        self._reading_since = time.monotonic()  # one that hangs is given up: the file may be another by now
        self._read_number += 1
        self._service.reloading(time.monotonic())
        arguments = (events, self._read_number)
        try:
            threading.Thread(target=self._read, args=arguments, name="configuration", daemon=True).start()
        except RuntimeError as error:  # no memory for it
            self._take(*arguments, self._settings, [f"it cannot be read: {error}"])

    def _read(self, events: asyncio.AbstractEventLoop, number: int) -> None:
        settings, mistakes = self._settings, list[str]()
        try:
            settings = self._load()
        except ConfigError as error:
            mistakes = error.mistakes
        except Exception as error:  # noqa: BLE001 - also for want of memory: else no reload would ever follow
            mistakes = [f"it cannot be read: {type(error).__name__} {error}".rstrip()]
        with contextlib.suppress(RuntimeError):  # the event loop closed while the file was being read
            events.call_soon_threadsafe(self._take, events, number, settings, mistakes)

    def _take(self, events: asyncio.AbstractEventLoop, number: int, settings: Config, mistakes: list[str]) -> None:
        """Put the configuration in force as a whole, or keep the previous one and log why."""
        if number != self._read_number:
            return
        self._reading_since = None
        self._reload_successful = not mistakes
        for mistake in mistakes:
            self._log.error("configuration rejected; keeping the previous one", error=mistake)
        if not mistakes:
            for key, before, after in _fixed(self._settings, settings):
                self._log.warning("setting changed on disk; restart to apply", key=key, now=before, file=after)
            self._settings = _in_force(self._settings, settings)
            self._loop.reschedule(schedule(settings))
            self._log.info("configuration reloaded")
        self._service.reloaded(mistakes)
        if self._read_again:
            self._read_again = False
            self._reload(events)

    def _observe_reload(self) -> None:
        """Log once when a file is not read in time: the disk hangs, and what the file says is not in force."""
        waiting = {name for name, since in self._reads() if time.monotonic() - since >= _READ_SECONDS}
        for name in sorted(waiting - self._waiting):
            self._log.error("reload is waiting for the disk; keeping the previous configuration", source=name)
        self._waiting = waiting
        if self._read_again and "configuration" in waiting:  # a SIGHUP came while nobody knew yet that the disk hangs
            self._read_again = False
            self._reload(asyncio.get_running_loop())

    def _reads(self) -> list[tuple[str, float]]:
        """What is being read at this moment, and since when (``time.monotonic``)."""
        web = None if self._protection is None else self._protection.reading_since
        found = (("configuration", self._reading_since), ("web configuration", web))
        return [(name, since) for name, since in found if since is not None]

    def _handshake_failed(self, address: str, reason: str) -> None:
        """Log why a client's handshake failed, once a minute, with the number of those that were left out."""
        now = time.monotonic()
        if now - self._said_handshake < _SAY_AGAIN_SECONDS:
            self._unsaid_handshakes += 1
            return
        left_out, self._unsaid_handshakes, self._said_handshake = self._unsaid_handshakes, 0, now
        self._log.warning("TLS handshake failed", client=address, error=reason, others_before=left_out)

    def _unexpected(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._failed("unexpected error", context.get("exception"), error=context.get("message"))

    def _failed(self, event: str, cause: BaseException | None, **fields: object) -> None:
        """Log a bug each time, but exhausted memory or descriptors once a minute, because then everything fails."""
        if not (isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno in _EXHAUSTED)):
            self._log.error(event, exc_info=cause, **fields)
        elif time.monotonic() - self._said_exhausted >= _SAY_AGAIN_SECONDS:
            self._said_exhausted = time.monotonic()
            reason = cause.strerror if isinstance(cause, OSError) else "Cannot allocate memory"
            self._log.error("clients are not served: a limit of this process is reached", error=reason)


_FIXED = (
    ("sample", "reader"),
    ("web", "listen_address"),
    ("web", "config_file"),
    ("web", "max_requests"),
    ("log", "level"),
    ("log", "format"),
)
"""The settings that are only read at the start: section and name."""


def _fixed(before: Config, after: Config) -> list[tuple[str, str, str]]:
    """The settings of _FIXED that differ: key, value in force, value in the file."""
    found = []
    for section, name in _FIXED:
        was, now = (_shown(getattr(getattr(it, section), name)) for it in (before, after))
        if was != now:
            found.append((f"{section}.{name}", was, now))
    return found


def _in_force(before: Config, after: Config) -> Config:
    """*after*, but with those of _FIXED as they are in force."""
    for section, name in _FIXED:
        kept = replace(getattr(after, section), **{name: getattr(getattr(before, section), name)})
        after = replace(after, **{section: kept})
    return after


def _shown(value: str | int | tuple[str, ...] | None) -> str:
    return ", ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
