"""The vocabulary of both schemas: readers that turn a YAML node into a value, and texts that the command line has too.

A ``FieldReader`` is strict and names what it expected, found and suggests. ``schema`` and ``web.webconfig`` are written
in these; durations and addresses are parsed here for the flags as well. Pure.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar, get_args, get_type_hints

from exporter.config import yamlnodes
from exporter.config.yamlnodes import Mistakes, MistakesError, Node, Scalar, expected, quoted, wrong
from exporter.errors import ExporterError, UsageError, suggest

if TYPE_CHECKING:
    from typing import TypeAlias

T = TypeVar("T")
FieldReader: TypeAlias = Callable[[Node], T]
"""Turns a node into a value, or raises MistakesError with everything that is wrong with it."""

_DURATION = re.compile(
    r"(?:(?P<d>[0-9]{1,6})d)?(?:(?P<h>[0-9]{1,6})h)?(?:(?P<m>[0-9]{1,6})m)?(?:(?P<s>[0-9]{1,9})s)?(?:(?P<ms>[0-9]{1,9})ms)?"
)
_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_ADDRESS = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[A-Za-z0-9._-]*)):(?P<port>[0-9]{1,5})")
_V6 = re.compile(r"(?:[0-9A-Fa-f]*:){2,}[0-9A-Fa-f:.]*")
_UNIX_PATH = 107  # sun_path of unix(7), without its NUL
_DECIMAL = re.compile(r"[-+]?(?:[0-9]{1,18}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,3})?")
_MOST_KEYS = 100  # of a whole file that are compared with those that are known
_MAX_LENGTH = 4096  # of a text: a path can be that long, and a message that repeats it stays bearable

INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
"""An integer in decimal, as every field and sysctl takes it: YAML's 010 and 1_000 are none."""


# -- Texts that the command line shares --------------------------------------------------------------------------------


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


def duration_within(low: str, high: str, *, or_zero: bool = False) -> Callable[[str], float]:
    """What ``parse_duration`` does, and a UsageError for seconds outside *low* to *high*; *or_zero* also takes 0.

    >>> duration_within("1s", "1h")("1m")
    60.0
    """
    least, most = parse_duration(low), parse_duration(high)

    def parse(text: str) -> float:
        seconds = parse_duration(text)
        if not (least <= seconds <= most or (or_zero and seconds == 0)):
            zero = "0 or " if or_zero else ""
            raise UsageError(f"expected {zero}a duration from {low} to {high}, got {text!r}")
        return seconds

    return parse


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


# -- Readers -----------------------------------------------------------------------------------------------------------


def parsed(parse: Callable[[str], T]) -> FieldReader[T]:
    """A scalar, in quotes or not, that *parse* understands."""

    def read(node: Node) -> T:
        if not isinstance(node, Scalar) or node.is_null:
            raise expected(node, "a value")
        if len(node.text) > _MAX_LENGTH:
            raise wrong(node, f"expected at most {_MAX_LENGTH} characters, got {len(node.text)}")
        try:
            return parse(node.text)
        except ExporterError as error:
            raise wrong(node, str(error).replace(repr(node.text), quoted(node.text))) from None

    return read


def duration(low: str, high: str, *, or_zero: bool = False) -> FieldReader[float]:
    """A duration in seconds, from *low* to *high*; with *or_zero* also 0, which switches off."""
    return parsed(duration_within(low, high, or_zero=or_zero))


def integer(low: int, high: int | None = None) -> FieldReader[int]:
    """An integer without quotes, from *low* to *high*."""

    def read(node: Node) -> int:
        if isinstance(node, Scalar) and node.plain and INTEGER.fullmatch(node.text):
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


def choice(*options: str) -> FieldReader[str]:
    """One of *options*."""

    def read(node: Node) -> str:
        if isinstance(node, Scalar) and node.text in options:
            return node.text
        hint = suggest(node.text, options) if isinstance(node, Scalar) else ""
        raise wrong(node, f"expected one of {', '.join(options)}, got {node.found}{hint}")

    return read


def optional(read: FieldReader[T]) -> FieldReader[T | None]:
    """Null, or what *read* reads."""
    return lambda node: None if node.is_null else read(node)


def unique(read: FieldReader[T], *, least: int = 0) -> FieldReader[tuple[T, ...]]:
    """A list of at least *least* different values."""

    def read_all(node: Node) -> tuple[T, ...]:
        if not isinstance(node, yamlnodes.Items):
            raise expected(node, "a list")
        if len(node.items) < least:
            raise wrong(node, f"expected at least {least} in the list, got {len(node.items)}")
        values: dict[T, Node] = {}
        found = Mistakes()
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


def table(
    canonical: Callable[[str], str], value_reader: Callable[[str], FieldReader[T]]
) -> FieldReader[Mapping[str, T]]:
    """A mapping with names as keys, each value by the reader for its name.

    *canonical* returns the one spelling of a name, or raises ``UsageError``; two spellings of a name are a mistake.
    """

    def read_all(node: Node) -> Mapping[str, T]:
        if not isinstance(node, yamlnodes.Mapping):
            raise expected(node, "a mapping, or {} for none at all")
        values: dict[str, T] = {}
        found = Mistakes()
        for key, value in node.items:
            if found.full:
                break
            with found:
                try:
                    name = canonical(key.text)
                except UsageError as error:
                    raise wrong(key, str(error)) from None
                if name in values:
                    raise wrong(key, f"{name} is already in the mapping, under its other spelling")
                values[name] = value_reader(name)(value)
        found.done()
        return values

    return read_all


def section(make: Callable[..., T], **readers: FieldReader[object]) -> FieldReader[T]:
    """A mapping with the keys of *readers*, all of them optional; one without content is all defaults."""

    def read_all(node: Node) -> T:
        if node.is_null:
            return make()
        if not isinstance(node, yamlnodes.Mapping):
            raise wrong(node, f"expected a mapping with the keys {', '.join(readers)}, got {node.kind}")
        values: dict[str, object] = {}
        found = Mistakes()
        for key, value in node.items:
            if found.full:
                break
            with found:
                if key.text not in readers:
                    raise wrong(key, unknown("key", key.text, readers))
                values[key.text] = readers[key.text](value)
        found.done()
        return make(**values)

    return read_all


def foreign(node: Node, known: Collection[str]) -> MistakesError | None:
    """The one mistake of a file that is another's: a whole one without any key that is *known*, or nearly so.

    It repeats nothing of the file, because a user who names a file need not be allowed to read it: a line of a password
    file would be a key.
    """
    if node.is_null:
        return None
    if not isinstance(node, yamlnodes.Mapping):
        return wrong(node, f"expected a mapping with the keys {', '.join(known)}, got {node.kind}")
    if not node.items or any(key.text in known or suggest(key.text, known) for key, _ in node.items[:_MOST_KEYS]):
        return None
    number = len(node.items)
    keys = "its only key is unknown" if number == 1 else f"none of its {number} keys is known"
    return wrong(node, f"not a configuration of this program: {keys}; known are {', '.join(known)}")


def of(cls: type[T]) -> FieldReader[T]:
    """The section that the dataclass *cls* describes: its fields are annotated with their readers."""
    return section(cls, **readers_of(cls))


def readers_of(cls: type[object]) -> dict[str, FieldReader[object]]:
    """The readers in the annotations of the fields of *cls*, by field."""
    return {name: get_args(hint)[1] for name, hint in get_type_hints(cls, include_extras=True).items()}


def key_of(node: Node, *keys: str) -> Node:
    """The first of *keys* that the mapping *node* has, to point a message at; else *node* itself."""
    found = {key.text: key for key, _ in node.items} if isinstance(node, yamlnodes.Mapping) else {}
    return next((found[key] for key in keys if key in found), node)


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The message about a *name* that is not one of *known*; *what* says of what kind they are."""
    return f"unknown {what}" + (suggest(name, known) or f"; known are {', '.join(known)}")
