"""The configuration: every key with its type, its limits and its default, each said once, in the classes below.

The daemon and the plugin read the same file through ``parse``, which is strict and reports every mistake with its line;
``configfile`` brings the bytes. What a flag and a key have in common (durations, addresses) is parsed here for both.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, TypeAlias, TypeVar, get_args, get_type_hints

from exporter.config import yamlnodes
from exporter.config.yamlnodes import Collector, Node, Scalar, expected, wrong
from exporter.errors import ConfigError, ExporterError, UsageError
from exporter.health.measures import MEASURES
from exporter.health.sysctls.verdicts import nearest
from exporter.health.thresholds import DEFAULTS, Range, Threshold
from exporter.kernel.catalogue import BOOL, CATALOGUE, INT, PORTS, TEXT, VECTOR, Sysctl
from exporter.kernel.sysctl import is_secret

T = TypeVar("T")
Reader: TypeAlias = Callable[[Node], T]
"""Turns a node into a value, or raises MistakesError with everything that is wrong with it."""

_DURATION = re.compile(
    r"(?:(?P<d>[0-9]{1,6})d)?(?:(?P<h>[0-9]{1,6})h)?(?:(?P<m>[0-9]{1,6})m)?(?:(?P<s>[0-9]{1,9})s)?(?:(?P<ms>[0-9]{1,9})ms)?"
)
_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_ADDRESS = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[A-Za-z0-9._-]*)):(?P<port>[0-9]{1,5})")
_V6 = re.compile(r"(?:[0-9A-Fa-f]*:){2,}[0-9A-Fa-f:.]*")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)+")
_UNIX_PATH = 107  # sun_path of unix(7), without its NUL
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(?:[0-9]{1,18}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,3})?")
_MAX_LENGTH = 4096  # of a text: a path can be that long, and a message that repeats it stays bearable
_SYSCTL = re.compile(r"tcp_[a-z0-9_]+|net(?:\.[A-Za-z0-9_/-]+){2,}")
MIN_INTERVAL, MAX_INTERVAL = 0.1, 3600.0  # seconds between samples
_RANGE = re.compile(r"@.*|[-+~.0-9eE]*:[-+.0-9eE]*")


# -- What the command line shares ------------------------------------------------------------------------------------


def parse_duration(text: str) -> float:
    """The seconds of a duration as Prometheus writes it, units from large to small, or UsageError.

    >>> parse_duration("500ms"), parse_duration("1m30s"), parse_duration("0")
    (0.5, 90.0, 0.0)
    """
    if text == "0":
        return 0.0
    match = _DURATION.fullmatch(text)
    if not match or not text:
        hint = f": add the unit, such as {text}s" if text.isdecimal() else ""
        raise UsageError(f"expected a duration such as 500ms, 15s or 1m30s, got {text!r}{hint}")
    return sum(int(count) * _MILLISECONDS[unit] for unit, count in match.groupdict("0").items()) / 1000


def parse_listen_address(text: str) -> tuple[str, int] | str:
    """Host and port of ``host:port``, ``[v6]:port`` or ``:port``; the path of ``unix:/path``; or UsageError.

    No host means all addresses.

    >>> parse_listen_address(":19293"), parse_listen_address("[::1]:0"), parse_listen_address("unix:/run/tcp.sock")
    (('', 19293), ('::1', 0), '/run/tcp.sock')
    """
    scheme, _, path = text.partition(":")
    if scheme == "unix":
        if not path.startswith("/") or "\0" in path or len(path.encode("utf-8", "surrogateescape")) > _UNIX_PATH:
            raise UsageError(f"expected unix: and an absolute path of at most {_UNIX_PATH} bytes, got {text!r}")
        return path
    match = _ADDRESS.fullmatch(text)
    if not match:
        hint = f": write :{text}" if text.isdecimal() else ": put brackets around IPv6" if _V6.fullmatch(text) else ""
        raise UsageError(f"expected an address such as :19293, 127.0.0.1:19293 or [::1]:19293, got {text!r}{hint}")
    if int(match["port"]) > 65535:
        raise UsageError(f"expected a port from 0 to 65535, got {match['port']}")
    if match["v6"] is not None:
        try:
            ipaddress.IPv6Address(match["v6"])
        except ValueError:
            raise UsageError(f"expected an IPv6 address in the brackets, got {match['v6']!r}") from None
    return match["v6"] or match["host"] or "", int(match["port"])


def parse_telemetry_path(text: str) -> str:
    """The path that the metrics are served on, or UsageError when it is none or belongs to another endpoint."""
    if not _PATH.fullmatch(text):
        raise UsageError(f"expected a path such as /metrics, got {text!r}")
    if f"{text}/".startswith(("/api/", "/-/")):  # all of both, so that a later endpoint breaks no configuration
        raise UsageError(f"expected a path outside /api and /-, which are taken, got {text!r}")
    return text


# -- Readers: the vocabulary of the schema -----------------------------------------------------------------------------


def parsed(parse: Callable[[str], T]) -> Reader[T]:
    """A scalar, in quotes or not, that *parse* understands."""

    def read(node: Node) -> T:
        if not isinstance(node, Scalar) or node.is_null:
            raise expected(node, "a value")
        if len(node.text) > _MAX_LENGTH:
            raise wrong(node, f"expected at most {_MAX_LENGTH} characters, got {len(node.text)}")
        try:
            return parse(node.text)
        except ExporterError as error:
            raise wrong(node, str(error)) from None

    return read


def duration(low: str, high: str, *, or_zero: bool = False) -> Reader[float]:
    """A duration in seconds, from *low* to *high*; with *or_zero* also 0, which switches off."""
    least, most = parse_duration(low), parse_duration(high)

    def parse(text: str) -> float:
        seconds = parse_duration(text)
        if not (least <= seconds <= most or (or_zero and seconds == 0)):
            zero = "0 or " if or_zero else ""
            raise UsageError(f"expected {zero}a duration from {low} to {high}, got {text!r}")
        return seconds

    return parsed(parse)


def integer(low: int, high: int | None = None) -> Reader[int]:
    """An integer without quotes, from *low* to *high*."""

    def read(node: Node) -> int:
        if isinstance(node, Scalar) and node.plain and _INTEGER.fullmatch(node.text):
            number = int(node.text)
            if low <= number and (high is None or number <= high):
                return number
        raise expected(node, f"an integer >= {low}" if high is None else f"an integer from {low} to {high}")

    return read


def share(node: Node) -> float:
    """A number above 0, and 1 at most."""
    if isinstance(node, Scalar) and node.plain and _DECIMAL.fullmatch(node.text) and 0 < float(node.text) <= 1:
        return float(node.text)
    raise expected(node, "a number above 0 and at most 1")


def boolean(node: Node) -> bool:
    """``true`` or ``false``; what else YAML takes for a boolean is a mistake here."""
    if isinstance(node, Scalar) and node.plain and node.text in {"true", "false"}:
        return node.text == "true"
    raise expected(node, "true or false")


def choice(*options: str) -> Reader[str]:
    """One of *options*."""

    def read(node: Node) -> str:
        if isinstance(node, Scalar) and node.text in options:
            return node.text
        hint = _suggest(node.text, options) if isinstance(node, Scalar) else ""
        raise wrong(node, f"expected one of {', '.join(options)}, got {node.found}{hint}")

    return read


def optional(read: Reader[T]) -> Reader[T | None]:
    """Null, or what *read* reads."""
    return lambda node: None if node.is_null else read(node)


def unique(read: Reader[T], *, least: int = 0) -> Reader[tuple[T, ...]]:
    """A list of at least *least* different values."""

    def read_all(node: Node) -> tuple[T, ...]:
        if not isinstance(node, yamlnodes.Items):
            raise expected(node, "a list")
        if len(node.items) < least:
            raise wrong(node, f"expected at least {least} in the list, got {len(node.items)}")
        values: dict[T, Node] = {}
        found = Collector()
        for item in node.items:
            if found.full:
                break
            with found:
                value = read(item)
                if (first := values.setdefault(value, item)) is not item:
                    raise wrong(item, f"is already in the list, as {first.path}")
        found.done()
        return tuple(values)

    return read_all


def table(check: Callable[[str], str], read: Reader[T]) -> Reader[Mapping[str, T]]:
    """A mapping from names that *check* has no complaint about."""

    def read_all(node: Node) -> Mapping[str, T]:
        if not isinstance(node, yamlnodes.Mapping):
            raise expected(node, "a mapping, or {} for none at all")
        values: dict[str, T] = {}
        found = Collector()
        for key, value in node.items:
            if found.full:
                break
            with found:
                if complaint := check(key.text):
                    raise wrong(key, complaint)
                values[key.text] = read(value)
        found.done()
        return values

    return read_all


def section(make: Callable[..., T], **readers: Reader[object]) -> Reader[T]:
    """A mapping with the keys of *readers*, all of them optional; one without content is all defaults."""

    def read_all(node: Node) -> T:
        if node.is_null:
            return make()
        if not isinstance(node, yamlnodes.Mapping):
            raise expected(node, f"a mapping with the keys {', '.join(readers)}")
        values: dict[str, object] = {}
        found = Collector()
        for key, value in node.items:
            if found.full:
                break
            with found:
                if key.text not in readers:
                    raise wrong(key, _unknown("key", key.text, readers))
                values[key.text] = readers[key.text](value)
        found.done()
        return make(**values)

    return read_all


def of(cls: type[T]) -> Reader[T]:
    """The section that a class of this module describes: the readers stand in the annotations of its fields."""
    return section(cls, **readers_of(cls))


def readers_of(cls: type[object]) -> dict[str, Reader[object]]:
    """The readers of the fields of such a class."""
    return {name: get_args(hint)[1] for name, hint in get_type_hints(cls, include_extras=True).items()}


def _suggest(text: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(text.lower(), known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    return f"unknown {what}" + (_suggest(name, known) or f"; known are {', '.join(known)}")


def _check_measure(name: str) -> str:
    return "" if name in MEASURES else _unknown("measure", name, MEASURES)


def _listen_address(text: str) -> str:
    parse_listen_address(text)
    return text


def _file(text: str) -> str:
    if not text or "\0" in text:
        raise UsageError(f"expected the path of a file, got {text!r}")
    return text


def expectations(present: Collection[str]) -> Reader[Mapping[str, Range | str]]:
    """Sysctls and what they should be. Known are those of the catalogue and those *present* on this host."""

    def read_all(node: Node) -> Mapping[str, Range | str]:
        if not isinstance(node, yamlnodes.Mapping):
            raise expected(node, "a mapping, or {} for none at all")
        values: dict[str, Range | str] = {}
        found = Collector()
        for key, value in node.items:
            if found.full:
                break
            with found:
                name = key.text.removeprefix("net.ipv4.") if key.text.startswith("net.ipv4.tcp_") else key.text
                if complaint := _check_sysctl(name, present):
                    raise wrong(key, complaint)
                if name in values:
                    raise wrong(key, f"{name} is already in the mapping, under its other spelling")
                values[name] = parsed(partial(_expectation, CATALOGUE.get(name)))(value)
        found.done()
        return values

    return read_all


def _check_sysctl(name: str, present: Collection[str]) -> str:
    if not _SYSCTL.fullmatch(name):
        return "expected a sysctl such as tcp_fin_timeout or net.core.somaxconn"
    if is_secret(name):
        return "is a secret, which is never read"
    entry = CATALOGUE.get(name)
    if entry is not None and entry.kind == PORTS:
        return "is a list of which only the length is known, so nothing can be expected of it"
    if entry is not None or name in present:
        return ""
    if name.startswith("tcp_"):
        return f"unknown sysctl: neither this version nor this host knows it{_suggest(name, CATALOGUE)}"
    others = ", ".join(known for known in CATALOGUE if not known.startswith("tcp_"))
    return f"is not read by this version: expected net.ipv4.tcp_* or one of {others}{_suggest(name, CATALOGUE)}"


def _expectation(entry: Sysctl | None, text: str) -> Range | str:
    """A range, or a text that the value has to be; what no value of the sysctl could ever be is a mistake."""
    # A number alone is that number: as a range, `tcp_syncookies: 1` would be content with 0.
    words = text.split()
    kind = "" if entry is None else entry.kind
    if not _RANGE.fullmatch(text):
        if entry is not None and kind == VECTOR:
            _check_vector(entry, text)
        elif kind in {INT, BOOL} and not (len(words) == 1 and _INTEGER.fullmatch(words[0])):
            raise UsageError(f"expected an integer or a range, got {text!r}")
        elif kind == BOOL and int(text) not in {0, 1}:
            raise UsageError(f"expected 0 or 1, got {text!r}")
        return " ".join(str(int(word)) if kind in {INT, BOOL, VECTOR} else word for word in words)
    if kind == VECTOR and entry is not None:
        raise UsageError(f"expected {len(entry.fields)} integers, {' '.join(entry.fields)}: a range is of one number")
    if kind == TEXT:
        raise UsageError("expected the text that it should be: a range is of numbers")
    limits = Range.parse(text)
    if kind == BOOL and limits.alerts(0) and limits.alerts(1):
        raise UsageError(f"{text!r} is met by neither 0 nor 1, and it can be nothing else")
    if nearest(limits, 0) is None:
        raise UsageError(f"{text!r} is met by no integer")
    return limits


def _check_vector(entry: Sysctl, text: str) -> None:
    words = text.split()
    if len(words) != len(entry.fields) or not all(map(_INTEGER.fullmatch, words)):
        raise UsageError(f"expected {len(entry.fields)} integers, {' '.join(entry.fields)}, got {text!r}")
    numbers = [int(word) for word in words]
    if numbers != sorted(numbers):
        raise UsageError(f"expected {' <= '.join(entry.fields)}, got {text!r}")


# -- The schema --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """The counting pass."""

    interval: Annotated[float, duration("100ms", "1h")] = 1.0
    peak_window: Annotated[float, duration("100ms", "1h")] = 60.0
    max_cpu_ratio: Annotated[float, share] = 0.01
    reader: Annotated[str, choice("auto", "netlink", "procfs", "psutil")] = "auto"


@dataclass(frozen=True, slots=True)
class Detail:
    """The detail pass; an interval of 0 switches it off."""

    interval: Annotated[float, duration("100ms", "1h", or_zero=True)] = 15.0
    max_cpu_ratio: Annotated[float, share] = 0.01
    ports: Annotated[tuple[int, ...], unique(integer(1, 65535))] = ()
    remote_ports: Annotated[tuple[int, ...], unique(integer(1, 65535))] = ()
    max_series: Annotated[int, integer(1)] = 100
    namespaces: Annotated[bool, boolean] = False


@dataclass(frozen=True, slots=True)
class SysctlExpectations:
    """What the operator expects of sysctls, beside the built-in recommendations: a range, or exactly a text."""

    expected: Annotated[Mapping[str, Range | str], expectations(())] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Web:
    """The server; ``config_file`` is the one of ``webconfig``, ``max_requests`` is at once, 0 for no limit."""

    listen_address: Annotated[tuple[str, ...], unique(parsed(_listen_address), least=1)] = (":19293",)
    telemetry_path: Annotated[str, parsed(parse_telemetry_path)] = "/metrics"
    config_file: Annotated[str | None, optional(parsed(_file))] = None
    max_requests: Annotated[int, integer(0)] = 40


@dataclass(frozen=True, slots=True)
class Log:
    """The daemon's log; ``auto`` is ``console`` on a terminal and ``logfmt`` elsewhere."""

    level: Annotated[str, choice("debug", "info", "warn", "error")] = "info"
    format: Annotated[str, choice("auto", "logfmt", "json", "console")] = "auto"


_THRESHOLD = section(Threshold, warning=optional(parsed(Range.parse)), critical=optional(parsed(Range.parse)))


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file. ``thresholds`` in a file replace the defaults, they do not add to them."""

    sample: Annotated[Sample, of(Sample)] = field(default_factory=Sample)
    detail: Annotated[Detail, of(Detail)] = field(default_factory=Detail)
    thresholds: Annotated[Mapping[str, Threshold], table(_check_measure, _THRESHOLD)] = field(
        default_factory=lambda: DEFAULTS
    )
    sysctl: Annotated[SysctlExpectations, of(SysctlExpectations)] = field(default_factory=SysctlExpectations)
    web: Annotated[Web, of(Web)] = field(default_factory=Web)
    log: Annotated[Log, of(Log)] = field(default_factory=Log)


_READERS = readers_of(Config)


def parse(data: bytes, source: str, present: Collection[str] = ()) -> Config:
    """Read a configuration file's bytes; ConfigError has every mistake, with *source* as the name of the file.

    *present* are the ``tcp_*`` sysctls of this host: one of a newer kernel than this version is no mistake.

    >>> parse(b"sample: {interval: 500ms}", "tcp-exporter.yml").sample.interval
    0.5
    """
    found = Collector()
    with found:
        document, refused = yamlnodes.compose(data)
        found.mistakes += refused
        sysctl = section(SysctlExpectations, expected=expectations(present))
        config = section(Config, **_READERS | {"sysctl": sysctl})(document)
        if not refused:
            return config
    raise ConfigError(yamlnodes.shown(found.mistakes, source))
