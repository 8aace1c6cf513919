"""The configuration file: every key with its type, its limits and its default, each written once, in the classes below.

The daemon and the plugin read the same file through ``parse``, which is strict and reports every mistake with its line.
``fields`` is the vocabulary of the annotations, ``file`` brings the bytes. No other module repeats a default.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Optional, Union

from exporter import defaults
from exporter.config import yamlnodes
from exporter.config.fields import (
    INTEGER,
    FieldReader,
    boolean,
    choice,
    duration,
    duration_within,
    foreign,
    integer,
    key_of,
    of,
    optional,
    parse_listen_address,
    parsed,
    readers_of,
    section,
    share,
    table,
    unique,
    unknown,
)
from exporter.config.yamlnodes import Mistakes, Node, wrong
from exporter.errors import ConfigError, UsageError, suggest
from exporter.health.measures import BY_NAME
from exporter.health.sysctls.verdicts import nearest
from exporter.health.thresholds import DEFAULTS, Range, Threshold, contradiction
from exporter.kernel import READERS
from exporter.kernel.catalogue import BOOL, CATALOGUE, INT, PORTS, TEXT, VECTOR, Sysctl
from exporter.kernel.sysctl import is_secret
from exporter.tcpstate import of_name

EXPORTS = ("all", "used")
LOG_LEVELS = ("debug", "info", "warn", "error")
LOG_FORMATS = ("auto", "logfmt", "json", "console")

_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+")  # no %: a request's path is decoded before it is compared
_SYSCTL = re.compile(r"tcp_[a-z0-9_]+|net(?:\.[A-Za-z0-9_/-]+){2,}")
_RANGE = re.compile(r"@.*|[-+~.0-9eE]*:[-+.0-9eE]*")

# -- Values ------------------------------------------------------------------------------------------------------------

parse_interval: Callable[[str], float] = duration_within("100ms", "1h")
"""Seconds between two samples."""


def parse_telemetry_path(text: str) -> str:
    """The path that the metrics are served on, or UsageError when it is none or belongs to another endpoint."""
    if not _PATH.fullmatch(text):
        raise UsageError(f"expected a path such as /metrics, got {text!r}")
    if f"{text}/".startswith(("/api/", "/-/", "/runbooks/")):  # all of each: a later endpoint breaks no configuration
        raise UsageError(f"expected a path outside /api, /runbooks and /-, which are taken, got {text!r}")
    return text


def _listen_address(text: str) -> str:
    parse_listen_address(text)
    return text


def _file(text: str) -> str:
    if not text or "\0" in text:
        raise UsageError(f"expected the path of a file, got {text!r}")
    return text


def _measure(text: str) -> str:
    """The name of a measure; a state may be spelled as people read it."""
    state = of_name(text)
    name = text if state is None else state.label
    if name not in BY_NAME:
        raise UsageError(unknown("measure", text, BY_NAME))
    return name


# -- What may be expected of a sysctl ----------------------------------------------------------------------------------


def expectations(present: Collection[str]) -> FieldReader[Mapping[str, Range | str]]:
    """Sysctls and what they should be. Known are those of the catalogue and those *present* on this host."""
    return table(partial(sysctl_name, present), lambda name: parsed(partial(_expectation, CATALOGUE.get(name))))


def sysctl_name(present: Collection[str], text: str) -> str:
    """The short name of a sysctl, or ``UsageError`` where it is unknown, a secret, or nothing can be told of it."""
    name = text.removeprefix("net.ipv4.") if text.startswith("net.ipv4.tcp_") else text
    if not _SYSCTL.fullmatch(name):
        raise UsageError("expected a sysctl such as tcp_fin_timeout or net.core.somaxconn")
    if is_secret(name):
        raise UsageError("is a secret, which is never read")
    entry = CATALOGUE.get(name)
    if entry is not None and entry.kind == PORTS:
        raise UsageError("is a list of which only the length is read, so no value can be expected")
    if entry is not None or name in present:
        return name
    if name.startswith("tcp_"):
        raise UsageError(f"unknown sysctl: neither this version nor this host knows it{suggest(name, CATALOGUE)}")
    others = ", ".join(known for known in CATALOGUE if not known.startswith("tcp_"))
    hint = suggest(name, CATALOGUE)
    raise UsageError(f"is not read by this version: expected net.ipv4.tcp_* or one of {others}{hint}")


def _expectation(entry: Sysctl | None, text: str) -> Range | str:
    """A range, or a text that the value has to be; what no value of the sysctl could ever be is a mistake."""
    # A number alone is that number: as a range, `tcp_syncookies: 1` would be content with 0.
    words = text.split()
    kind = "" if entry is None else entry.kind
    if not _RANGE.fullmatch(text):
        if entry is not None and kind == VECTOR:
            check_vector(entry, text)
        elif kind in {INT, BOOL} and not (len(words) == 1 and INTEGER.fullmatch(words[0])):
            raise UsageError(f"expected an integer or a range, got {text!r}")
        elif kind == BOOL and int(text) not in {0, 1}:
            raise UsageError(f"expected 0 or 1, got {text!r}")
        return " ".join(str(int(word)) if kind in {INT, BOOL, VECTOR} else word for word in words)
    if kind == VECTOR and entry is not None:
        raise UsageError(
            f"expected {len(entry.fields)} integers, {' '.join(entry.fields)}: a range is for a single number"
        )
    if kind == TEXT:
        raise UsageError("expected a text: a range is for numbers")
    limits = Range.parse(text)
    if kind == BOOL and limits.alerts(0) and limits.alerts(1):
        raise UsageError(f"{text!r} matches neither 0 nor 1, the only possible values")
    if nearest(limits, 0) is None:
        raise UsageError(f"{text!r} matches no integer")
    return limits


def check_vector(entry: Sysctl, text: str) -> None:
    """``UsageError`` where *text* cannot be the numbers of a vector."""
    words = text.split()
    if len(words) != len(entry.fields) or not all(map(INTEGER.fullmatch, words)):
        raise UsageError(f"expected {len(entry.fields)} integers, {' '.join(entry.fields)}, got {text!r}")
    numbers = [int(word) for word in words]
    if numbers != sorted(numbers):
        raise UsageError(f"expected {' <= '.join(entry.fields)}, got {text!r}")


# -- The schema --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SampleSettings:
    """The counting pass."""

    interval: Annotated[float, parsed(parse_interval)] = defaults.INTERVAL
    peak_window: Annotated[float, duration("100ms", "1h")] = defaults.PEAK_WINDOW
    max_cpu_ratio: Annotated[float, share] = defaults.MAX_CPU_RATIO
    reader: Annotated[str, choice(*READERS)] = "auto"


@dataclass(frozen=True)
class DetailSettings:
    """The detail pass; an interval of 0 switches it off."""

    interval: Annotated[float, duration("100ms", "1h", or_zero=True)] = defaults.DETAIL_INTERVAL
    max_cpu_ratio: Annotated[float, share] = defaults.MAX_CPU_RATIO
    ports: Annotated[tuple[int, ...], unique(integer(1, 65535))] = ()
    remote_ports: Annotated[tuple[int, ...], unique(integer(1, 65535))] = ()
    max_series: Annotated[int, integer(1)] = defaults.MAX_SERIES
    namespaces: Annotated[bool, boolean] = False
    closes: Annotated[bool, boolean] = False
    quality: Annotated[str, choice("sampled", "full", "off")] = defaults.QUALITY


@dataclass(frozen=True)
class SysctlSettings:
    """What the operator expects of sysctls, a range or exactly a text, and which of them become series."""

    expected: Annotated[Mapping[str, Union[Range, str]], expectations(())] = field(default_factory=dict)  # noqa: UP007 - evaluated, by Python 3.9 too
    export: Annotated[str, choice(*EXPORTS)] = "all"


@dataclass(frozen=True)
class WebSettings:
    """The server. ``webconfig`` reads ``config_file``; ``max_requests`` are served at a time, 0 is no limit."""

    listen_address: Annotated[tuple[str, ...], unique(parsed(_listen_address), least=1)] = (":19293",)
    telemetry_path: Annotated[str, parsed(parse_telemetry_path)] = "/metrics"
    config_file: Annotated[Optional[str], optional(parsed(_file))] = None  # noqa: UP045 - as above
    max_requests: Annotated[int, integer(0)] = 40


@dataclass(frozen=True)
class LogSettings:
    """The daemon's log; ``auto`` is ``console`` on a terminal and ``logfmt`` elsewhere."""

    level: Annotated[str, choice(*LOG_LEVELS)] = "info"
    format: Annotated[str, choice(*LOG_FORMATS)] = "auto"


_RANGES = section(Threshold, warning=optional(parsed(Range.parse)), critical=optional(parsed(Range.parse)))


def _threshold(node: Node) -> Threshold:
    threshold = _RANGES(node)
    if complaint := contradiction(threshold):
        raise wrong(key_of(node, "warning"), complaint)
    return threshold


_THRESHOLDS = table(_measure, lambda _: _threshold)


@dataclass(frozen=True)
class Config:
    """The whole file. ``thresholds`` in a file replace the defaults, they do not add to them."""

    sample: Annotated[SampleSettings, of(SampleSettings)] = field(default_factory=SampleSettings)
    detail: Annotated[DetailSettings, of(DetailSettings)] = field(default_factory=DetailSettings)
    thresholds: Annotated[Mapping[str, Threshold], _THRESHOLDS] = field(default_factory=lambda: DEFAULTS)
    sysctl: Annotated[SysctlSettings, of(SysctlSettings)] = field(default_factory=SysctlSettings)
    web: Annotated[WebSettings, of(WebSettings)] = field(default_factory=WebSettings)
    log: Annotated[LogSettings, of(LogSettings)] = field(default_factory=LogSettings)


_READERS = readers_of(Config)


def parse(data: bytes, source: str, present: Collection[str] = ()) -> Config:
    """Read a configuration file's bytes; ConfigError has every mistake, with *source* as the name of the file.

    *present* are the ``tcp_*`` sysctls of this host: one that only a newer kernel has is not a mistake.

    >>> parse(b"sample: {interval: 500ms}", "tcp-exporter.yml").sample.interval
    0.5
    """
    found = Mistakes()
    with found:
        document, refused = yamlnodes.compose(data)
        if strange := foreign(document, _READERS):
            raise strange
        found.mistakes += refused
        sysctl = section(SysctlSettings, **readers_of(SysctlSettings) | {"expected": expectations(present)})
        config = section(Config, **_READERS | {"sysctl": sysctl})(document)
        if not refused:
            return config
    raise ConfigError(yamlnodes.shown(found.mistakes, source))
