"""Brings the configuration file's bytes to ``config``: the rim's part of it, and all of its IO."""

from __future__ import annotations

import os
import stat

from exporter import config
from exporter.errors import ConfigError
from exporter.yamlnodes import MAX_BYTES


def load(path: str, procfs: str = "/proc") -> config.Config:
    """Read the file at *path*; ConfigError says what is wrong with the file or in it.

    Sysctls that this version does not know may be named if they exist below *procfs*.
    """
    try:
        # Not blocking, so that a pipe put in the file's place is refused and not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            kind = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):  # reading a directory has its own error
                raise ConfigError([f"{path}: cannot be read: it is no regular file"])
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(MAX_BYTES + 1)  # one more than is accepted: enough for parse to refuse it
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    return config.parse(data, path, _sysctls(procfs))


def _sysctls(procfs: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(f"{procfs}/sys/net/ipv4"))
    except OSError:
        return frozenset()
