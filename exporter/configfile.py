"""Brings the configuration file's bytes to ``config``: the rim's part of it, and all of its IO."""

from __future__ import annotations

from exporter import config
from exporter.errors import ConfigError
from exporter.yamlnodes import MAX_BYTES


def load(path: str) -> config.Config:
    """Read the file at *path*; ConfigError says what is wrong with the file or in it."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)  # one more than is accepted: enough for parse to refuse it
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    return config.parse(data, path)
