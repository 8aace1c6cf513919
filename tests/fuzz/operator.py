"""Targets: what an operator writes, in the configuration file, in a threshold, on the plugin's command line."""

from __future__ import annotations

import os

from exporter.config import schema as config
from exporter.errors import ConfigError, RangeError, UsageError
from exporter.health.thresholds import DEFAULTS, Range, Status
from exporter.nagios import arguments, output
from exporter.web import tls, webconfig
from tests.fuzz import reference

_MOST_MISTAKES = 101


def configuration(data: bytes) -> None:
    """A configuration file: it is one, or each mistake is one line with its place, and there is an end of them."""
    try:
        found = config.parse(data, "f.yml")
    except ConfigError as error:
        _complained(error)
    else:
        assert found.sample.interval >= 0.1


def web_configuration(data: bytes) -> None:
    """The same of a web configuration, whose certificates and keys are the names of their files."""
    try:
        found = webconfig.parse(data, "f.yml", os.fsencode, tls.context)
    except ConfigError as error:
        _complained(error)
    else:
        assert all(name.isprintable() for name in found.http_server_config.headers.values())


def _complained(error: ConfigError) -> None:
    assert 0 < len(error.mistakes) <= _MOST_MISTAKES
    for mistake in error.mistakes:
        assert mistake.startswith("f.yml:")
        assert mistake.isprintable()
        assert len(mistake) < 10_000


def ranges(data: bytes) -> None:
    """A threshold: it is a range for both readings of the guidelines or for none, and both alert at the same values."""
    text = data.decode("utf-8", "replace")
    expected = reference.limits(text)
    try:
        found = Range.parse(text)
    except RangeError as error:
        assert expected is None, f"{text!r} is a range: {error}"
        return
    assert expected is not None, f"{text!r} is no range"
    start, end, inside = expected
    assert (found.start, found.end, found.inside) == expected
    for value in (0.0, -1.0, start, end, (start + end) / 2, start - 1, end + 1):
        if value == value:  # noqa: PLR0124 - infinity less infinity is no number
            assert found.alerts(value) == ((start <= value <= end) == inside)


def command_line(data: bytes) -> None:
    """The plugin's arguments, parted by NUL as in /proc/PID/cmdline: options, or one line that can be shown."""
    given = [os.fsdecode(word) for word in data.split(b"\0")]
    try:
        options = arguments.parse(given)
    except UsageError as error:
        line = output.failure(Status.UNKNOWN, " ".join(str(error).split("\n")))
        assert line.startswith("TCP STATES UNKNOWN: ")
        shown(line)
        return
    assert options.show in {None, "help", "version"}
    assert 0 < options.timeout <= 86400
    assert 0 <= options.port <= 65535
    assert arguments.judged(options, DEFAULTS) or options.show


def shown(text: str) -> None:
    """Whether Nagios and NRPE read *text* as it is meant."""
    first, *rest = text.split("\n")
    said, _, data = first.partition(" | ")
    assert "|" not in said + data + "".join(rest)
    assert all(line.isprintable() for line in (first, *rest))
    assert len(first.encode()) <= 1023
    assert len(text.encode()) <= output.MAX_OUTPUT
