"""The web configuration in force, and how it changes while the daemon runs. A rim module: it reads and watches files.

Changed files are read after a second without a change, so that none is read half written, nor a certificate without its
key. A file with mistakes leaves the previous configuration in force. A reload never takes TLS, all passwords, the
demand for client certificates or the list of their names away: switching one off takes a restart.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from exporter.config import files
from exporter.config.yamlnodes import MAX_BYTES
from exporter.errors import ConfigError
from exporter.web import tls
from exporter.web.webconfig import REQUIRED, ServerTls, WebConfig, parse

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

LOOK_SECONDS = 1.0
_Looks = dict[str, tuple[int, ...] | None]


def load(path: str, seen: Callable[[str], None] = lambda _: None) -> WebConfig:
    """Read the file at *path* and those that it names, relative to its folder; *seen* is called with each path.

    ConfigError has every mistake.
    """

    def read(name: str) -> bytes:
        named = os.path.join(os.path.dirname(path), name)
        seen(named)
        content = files.content(named, MAX_BYTES + 1)
        if len(content) > MAX_BYTES:  # the authorities at its end would be missing silently
            raise OSError(errno.EFBIG, f"it is larger than {MAX_BYTES} bytes")
        return content

    seen(path)
    try:
        return parse(files.content(path, MAX_BYTES + 1), path, read, tls.context)
    except OSError as error:  # of *path* itself: files that it names raise ConfigError
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from None


class Protection:
    """Holds the configuration in force. ``watch`` runs in a thread of its own, the rest in the event loop."""

    def __init__(self, path: str, logger: FilteringBoundLogger) -> None:
        """Read the file at *path*; raises ``ConfigError`` with every mistake in it."""
        self.path = path
        self._log = logger
        self._seen: _Looks = {}  # as the files were when they were last read or looked at
        self._changing = False
        self._asked = threading.Event()
        self._mistakes: list[str] = []
        self._watcher: object = None  # whose reading counts
        self._taking = threading.Lock()  # so that a watcher that was given up takes nothing from then on
        self.reading_since: float | None = None  # time.monotonic; None while no file is read or looked at
        self.config = load(path, partial(_note, self._seen))

    @property
    def successful(self) -> bool:
        """Whether the last reading of the files succeeded."""
        return not self._mistakes

    def tls(self) -> ServerTls:
        """TLS for a new connection; only where ``config.tls_server_config`` is set."""
        assert self.config.tls_server_config is not None  # noqa: S101 - a reload never takes it away
        return self.config.tls_server_config

    def ask(self) -> None:
        """Request a reload, whether or not files have changed."""
        self._asked.set()

    def watch(self) -> None:
        """Check the files every second, until another thread watches them: this one may hang on a disk."""
        watcher = object()
        with self._taking:
            self._watcher = watcher
        while True:
            asked = self._asked.wait(LOOK_SECONDS)
            with self._taking:
                if self._watcher is not watcher:
                    return
                self._asked.clear()
                self.reading_since = time.monotonic()
            try:
                self.reload() if asked else self.look()
            except Exception as error:  # noqa: BLE001 - a bug must not end the watch: changes would be missed silently
                self._log.error("web configuration cannot be watched", exc_info=error)
            with self._taking:
                if self._watcher is watcher:
                    self.reading_since = None

    def look(self) -> None:
        """Reload files that have changed or could not be used, once they stay the same from one look to the next."""
        watcher = self._watcher
        now: _Looks = {path: _stat(path) for path in self._seen}
        with self._taking:
            if self._watcher is not watcher:
                return
            changing, self._seen = now != self._seen, now
            if changing or not (self._changing or self._mistakes):
                self._changing = changing
                return
        self.reload(again=bool(self._mistakes))

    def reload(self, *, again: bool = False) -> None:
        """Read the files and put the new configuration in force as a whole, or log why not.

        *again*: mistakes that were logged the last time are not repeated. Whatever a watcher finds after it was given
        up is dropped: the files may be others by then.
        """
        watcher, seen = self._watcher, _Looks()
        try:
            fresh, mistakes = load(self.path, partial(_note, seen)), list[str]()
        except ConfigError as error:
            fresh, mistakes = None, error.mistakes
        with self._taking:
            if self._watcher is not watcher:
                return
            self._changing = False
            known, self._mistakes = self._mistakes, mistakes
            if fresh is None:
                self._seen |= seen  # a change of the files in force may mend it too
            else:
                self._seen = seen
                self.config = self._never_less(fresh)
        if fresh is not None:
            self._log.info("web configuration reloaded")
        for mistake in () if again and mistakes == known else mistakes:
            self._log.error("web configuration rejected; keeping the previous one", error=mistake)

    def _never_less(self, fresh: WebConfig) -> WebConfig:
        """*fresh*, but with the previous value of what only a restart may change."""
        now = self.config
        if (now.tls_server_config is None) != (fresh.tls_server_config is None):
            self._log.warning("TLS switched on or off on disk; restart to apply", key="tls_server_config")
            fresh = replace(fresh, tls_server_config=now.tls_server_config)
        elif now.tls_server_config is not None and fresh.tls_server_config is not None:
            kept = self._no_more_clients(now.tls_server_config, fresh.tls_server_config)
            fresh = replace(fresh, tls_server_config=kept)
        if now.basic_auth_users and not fresh.basic_auth_users:
            self._log.warning("authentication switched off on disk; restart to apply", key="basic_auth_users")
            fresh = replace(fresh, basic_auth_users=now.basic_auth_users)
        return fresh

    def _no_more_clients(self, now: ServerTls, fresh: ServerTls) -> ServerTls:
        """*fresh*, but with the previous value of what would admit clients that nobody lists."""
        if now.client_auth_type == REQUIRED and fresh.client_auth_type != REQUIRED:
            self._log.warning("client certificates not required on disk; restart to apply", key="client_auth_type")
            return now
        if now.allowed_sans is not None and fresh.allowed_sans is None:
            self._log.warning("names of clients not listed on disk; restart to apply", key="client_allowed_sans")
            return fresh._replace(allowed_sans=now.allowed_sans)
        return fresh


def _note(seen: _Looks, path: str) -> None:
    seen[path] = _stat(path)


def _stat(path: str) -> tuple[int, ...] | None:
    """The identity of a file's content without reading it; None where there is no file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
