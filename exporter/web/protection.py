"""The web configuration in force, and how it changes while the daemon runs. A rim module: it reads and watches files.

A second without a change is waited for before files that changed are read, so none is read half written and no
certificate without its key. A file with mistakes leaves what was in force, and a reload never takes TLS or all
passwords away: switching either off takes a restart.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from exporter.config import files
from exporter.config.yamlnodes import MAX_BYTES
from exporter.errors import ConfigError
from exporter.web import tls
from exporter.web.webconfig import ServerTls, WebConfig, parse

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

LOOK_SECONDS = 1.0
_Looks = dict[str, tuple[int, ...] | None]


def load(path: str, seen: Callable[[str], None] = lambda _: None) -> WebConfig:
    """Read the file at *path* and those that it names, relative to its folder; *seen* is told the path of each.

    ConfigError has every mistake.
    """

    def read(name: str) -> bytes:
        named = os.path.join(os.path.dirname(path), name)
        seen(named)
        content = files.content(named, MAX_BYTES + 1)
        if len(content) > MAX_BYTES:  # the authorities behind would be missing without a word
            raise OSError(errno.EFBIG, f"it is larger than {MAX_BYTES} bytes")
        return content

    seen(path)
    try:
        return parse(files.content(path, MAX_BYTES + 1), path, read, tls.context)
    except OSError as error:  # what is wrong with a file that it names is a ConfigError by now
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from None


class Protection:
    """Holds what is in force. ``watch`` is for a thread of its own, the rest for the loop."""

    def __init__(self, path: str, logger: FilteringBoundLogger) -> None:
        """Read the file at *path*; ConfigError where the daemon must not start with it."""
        self.path = path
        self._log = logger
        self._seen: _Looks = {}  # as the files were when they were last read or looked at
        self._changing = False
        self._asked = threading.Event()
        self._mistakes: list[str] = []
        self.config = load(path, self._note)

    @property
    def successful(self) -> bool:
        """Whether the files are in force as they were last read."""
        return not self._mistakes

    def tls(self) -> ServerTls:
        """What a new connection begins with; only where ``config.tls_server_config`` is there."""
        assert self.config.tls_server_config is not None  # noqa: S101 - a reload never takes it away
        return self.config.tls_server_config

    def ask(self) -> None:
        """Reload soon, changed or not."""
        self._asked.set()

    def watch(self) -> NoReturn:
        """Look at the files each second, for as long as the process lasts."""
        while True:
            asked = self._asked.wait(LOOK_SECONDS)
            self._asked.clear()
            try:
                self.reload() if asked else self.look()
            except Exception as error:  # noqa: BLE001 - a bug must not end the watch: it would look like no change
                self._log.error("web configuration cannot be watched", exc_info=error)

    def look(self) -> None:
        """Reload if the files have changed, or could not be used, and have not changed since the last look."""
        now: _Looks = {path: _stat(path) for path in self._seen}
        changing, self._seen = now != self._seen, now
        if (self._changing or self._mistakes) and not changing:
            self.reload(again=bool(self._mistakes))
        else:
            self._changing = changing

    def reload(self, *, again: bool = False) -> None:
        """Read the files, and put the new configuration in force as a whole or say why not.

        *again*: what has been said the last time is not repeated.
        """
        self._changing = False
        before, self._seen = self._seen, {}
        try:
            fresh = load(self.path, self._note)
        except ConfigError as error:
            self._seen = before | self._seen  # a change of what is in force mends it too
            for mistake in () if again and error.mistakes == self._mistakes else error.mistakes:
                self._log.error("web configuration rejected; keeping the previous one", error=mistake)
            self._mistakes = error.mistakes
        else:
            self.config = self._never_less(fresh)
            self._mistakes = []
            self._log.info("web configuration reloaded")

    def _note(self, path: str) -> None:
        self._seen[path] = _stat(path)

    def _never_less(self, fresh: WebConfig) -> WebConfig:
        """*fresh*, with what waits for a restart as it was."""
        now = self.config
        if (now.tls_server_config is None) != (fresh.tls_server_config is None):
            self._log.warning("TLS switched on or off on disk; restart to apply", key="tls_server_config")
            fresh = replace(fresh, tls_server_config=now.tls_server_config)
        if now.basic_auth_users and not fresh.basic_auth_users:
            self._log.warning("authentication switched off on disk; restart to apply", key="basic_auth_users")
            fresh = replace(fresh, basic_auth_users=now.basic_auth_users)
        return fresh


def _stat(path: str) -> tuple[int, ...] | None:
    """What tells one content of a file from another without reading it; None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
