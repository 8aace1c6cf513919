"""Reads the configuration file and hands its bytes to ``schema``: all IO of the configuration. A rim module."""

from __future__ import annotations

import dataclasses
import os

from exporter.config import files
from exporter.config import schema as config
from exporter.config.yamlnodes import MAX_BYTES
from exporter.errors import ConfigError


def load(path: str, procfs: str = "/proc") -> config.Config:
    """Read the file at *path*; ConfigError says what is wrong with the file or in it.

    Sysctls that this version does not know may be named if they exist below *procfs*. ``web.config_file`` is relative
    to the file's own directory, as paths are in Prometheus's configuration.
    """
    try:
        data = files.content(path, MAX_BYTES + 1)  # one more than is accepted: enough for parse to refuse it
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    settings = config.parse(data, path, _sysctls(procfs))
    if settings.web.config_file is None:
        return settings
    resolved = os.path.join(os.path.dirname(path), settings.web.config_file)
    return dataclasses.replace(settings, web=dataclasses.replace(settings.web, config_file=resolved))


def _sysctls(procfs: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(f"{procfs}/sys/net/ipv4"))
    except OSError:
        return frozenset()
