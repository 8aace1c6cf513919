"""The part of YAML that a configuration needs: bytes in, nodes out, every scalar still the text that was written.

YAML's own guesses would turn the range ``10:20`` into 620 and ``on`` into a boolean, so nothing is resolved here:
``schema`` knows what each value should be. Built on the parser's events, because on deep nesting PyYAML's own composers
raise RecursionError (the Python one) or end the process (the C one).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import yaml

from exporter.printable import shortened

if TYPE_CHECKING:
    from typing import TypeAlias

MAX_BYTES = 1 << 20
MAX_DEPTH = 16
MAX_MISTAKES = 100
"""The most that are looked for in one list or mapping, and shown of a file: a person mends them one by one."""

_QUOTED = 60  # characters of a text that a message repeats
_LONGEST_KEY = 48  # characters of a key that a message repeats: no key or sysctl is longer
_LONGEST_PROBLEM = 150  # characters of what PyYAML says
_LONGEST_NAME = 30  # characters of an anchor or a tag that a message repeats

_BOM = b"\xef\xbb\xbf"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one where PyYAML was built with it
_NULLS = ("", "~", "null")


class Mistake(NamedTuple):
    """A mistake and its place: line and column count from 1; the line 0 means the file as a whole."""

    line: int
    column: int
    path: str
    message: str

    def show(self, source: str) -> str:
        """The mistake as one line: ``FILE:LINE:COLUMN: path: message``, without the parts that it lacks."""
        where = f"{source}:{self.line}:{self.column}" if self.line else source
        return ": ".join(part for part in (where, self.path, self.message) if part)


class MistakesError(Exception):
    """Carries mistakes to where they are collected; ``schema`` turns it into a ConfigError."""

    def __init__(self, *mistakes: Mistake) -> None:
        super().__init__(*mistakes)
        self.mistakes = mistakes


class Mistakes:
    """``with mistakes:`` keeps the mistakes of its block and goes on; ``done()`` raises them all together."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []

    @property
    def full(self) -> bool:
        """Whether there are too many to look for more: a megabyte may have 400,000."""
        return len(self.mistakes) >= MAX_MISTAKES

    def __enter__(self) -> Mistakes:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, MistakesError):
            self.mistakes += error.mistakes
        return isinstance(error, MistakesError)

    def done(self) -> None:
        """Raise the collected mistakes, if there are any."""
        if self.mistakes:
            raise MistakesError(*self.mistakes)


def shown(mistakes: Iterable[Mistake], source: str) -> list[str]:
    """A line for each mistake of the file *source*, in their order; where there are too many, the last line says so."""
    lines = [mistake.show(source) for mistake in sorted(mistakes)]
    return lines if len(lines) <= MAX_MISTAKES else [*lines[:MAX_MISTAKES], f"{source}: more mistakes follow"]


class Scalar(NamedTuple):
    """A single value or a key, as the text that was written; ``plain`` when without quotes."""

    line: int
    column: int
    path: str
    text: str
    plain: bool

    @property
    def is_null(self) -> bool:
        """Whether it is empty: ``~``, ``null`` or no text at all."""
        return self.plain and self.text in _NULLS

    @property
    def found(self) -> str:
        """Its text for a message."""
        return "nothing" if self.is_null else quoted(self.text) if self.plain else f"{quoted(self.text)} in quotes"

    @property
    def kind(self) -> str:
        """What it is, for a message that must not repeat its text."""
        return "nothing" if self.is_null else "a single value"


class Items(NamedTuple):
    """A list."""

    line: int
    column: int
    path: str
    items: list[Node]
    found: str = "a list"
    kind: str = "a list"
    is_null: bool = False


class Mapping(NamedTuple):
    """A mapping: its keys, each with its value; a key has the path of its value."""

    line: int
    column: int
    path: str
    items: list[tuple[Scalar, Node]]
    found: str = "a mapping"
    kind: str = "a mapping"
    is_null: bool = False


Node: TypeAlias = "Scalar | Items | Mapping"


def quoted(text: str) -> str:
    """*text* in quotes for a message: printable, and its beginning only where it is long."""
    return repr(text if len(text) <= _QUOTED else text[:_QUOTED] + "…")


def wrong(node: Node, message: str) -> MistakesError:
    """The error that says *message* about *node*."""
    return MistakesError(Mistake(node.line, node.column, node.path, message))


def expected(node: Node, what: str) -> MistakesError:
    """The error that says what was expected, and what *node* is instead."""
    return wrong(node, f"expected {what}, got {node.found}")


def compose(data: bytes) -> tuple[Node, list[Mistake]]:
    """The one document in *data*, and what it uses that is not supported; MistakesError when it cannot be read at all.

    A document without content is a null.

    >>> compose(b"sample: {interval: 1s}")[0].items[0][1].items[0][1]
    Scalar(line=1, column=20, path='sample.interval', text='1s', plain=True)
    """
    text = _decode(data)
    composer = _Composer(text)
    try:
        root = composer.document()
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # an absurd escape reaches chr() in the Python loader
        raise MistakesError(*composer.mistakes, _syntax_mistake(text, error)) from None
    return root, composer.mistakes


def _decode(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise MistakesError(Mistake(0, 0, "", f"is larger than {MAX_BYTES >> 20} MiB"))
    bom = len(_BOM) if data.startswith(_BOM) else 0
    try:
        text = data[bom:].decode()
    except UnicodeDecodeError as error:
        at = bom + error.start
        message = f"not UTF-8: byte 0x{data[at]:02x} at offset {at}"
        raise MistakesError(_mistake_at(data[bom:at].decode(), message)) from None
    if control := yaml.reader.Reader.NON_PRINTABLE.search(text):
        raise MistakesError(_mistake_at(text[: control.start()], f"control character {control[0]!r}"))
    return text


def _mistake_at(before: str, message: str) -> Mistake:
    """The mistake at the end of *before*."""
    return Mistake(before.count("\n") + 1, len(before) - before.rfind("\n"), "", message)


def _syntax_mistake(text: str, error: Exception) -> Mistake:
    """PyYAML's complaint at its mark, with a hint where a range, an address or a tab is the likely cause."""
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return Mistake(0, 0, "", f"not YAML: {shortened(' '.join(str(error).split()), _LONGEST_PROBLEM)}")
    message = f"not YAML: {shortened(str(error.problem), _LONGEST_PROBLEM)}"  # it may have the name of a tag
    if error.context and error.context_mark and error.context_mark.line != mark.line:
        message += f", {error.context} that begins in line {error.context_mark.line + 1}"
    first = text[mark.index : mark.index + 1]
    if first == "\t":
        message += "; indent with spaces, not with a tab"
    elif first in {"@", "`", "%"}:
        message += f"; put a value that begins with {first} in quotes"
    elif first == ":":
        message += "; check the indentation, and put a value such as '10:' or '*:80' in quotes"
    return Mistake(mark.line + 1, mark.column + 1, "", message)


class _Composer:
    """Builds nodes from the parser's events, and collects what it refuses on the way."""

    def __init__(self, text: str) -> None:
        self.events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
        self.mistakes: list[Mistake] = []

    def refuse(self, event: yaml.Event, path: str, message: str) -> None:
        if len(self.mistakes) <= MAX_MISTAKES:
            self.mistakes.append(Mistake(*_position(event), path, message))

    def document(self) -> Node:
        root: Node | None = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.NodeEvent):
                root = self.node(event, "", 0)
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.refuse(event, "", "a second document begins here; a configuration is one")
                    break
        return root or Scalar(1, 1, "", "", plain=True)

    def node(self, event: yaml.Event, path: str, depth: int) -> Node | None:
        """The node that begins with *event*; None for an alias, which stands for nothing here."""
        at = _position(event)
        if depth > MAX_DEPTH:
            raise MistakesError(*self.mistakes, Mistake(*at, "", f"nested more than {MAX_DEPTH} levels deep"))
        if not isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)):  # an AliasEvent
            if not depth:
                raise MistakesError(Mistake(*at, "", "expected a mapping, got an alias"))
            self.refuse(
                event,
                path,
                f"aliases are not supported: put *{_name(getattr(event, 'anchor', ''))} in quotes, or write it out",
            )
            return None
        if event.anchor is not None:
            self.refuse(
                event, path, f"anchors are not supported: put &{_name(event.anchor)} in quotes, or leave it out"
            )
        if event.tag is not None:
            self.refuse(event, path, f"tags are not supported: leave {_name(event.tag)} out")
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(*at, path, event.value, plain=not event.style)
        if isinstance(event, yaml.SequenceStartEvent):
            return Items(*at, path, list(self.items(path, depth + 1)))
        return Mapping(*at, path, list(self.entries(path, depth + 1)))

    def items(self, path: str, depth: int) -> Iterator[Node]:
        for index, event in enumerate(self.events):
            if isinstance(event, yaml.SequenceEndEvent):
                return
            if node := self.node(event, f"{path}[{index}]", depth):
                yield node

    def entries(self, path: str, depth: int) -> Iterator[tuple[Scalar, Node]]:
        seen: dict[str, Scalar] = {}
        for event in self.events:
            if isinstance(event, yaml.MappingEndEvent):
                return
            key = self.node(event, path, depth)
            if isinstance(key, Scalar):
                key = key._replace(path=_join(path, key.text))
            elif key:
                self.refuse(event, path, f"expected a key, got {key.found}")
            value = self.node(next(self.events), key.path if key else path, depth)
            if not isinstance(key, Scalar):
                continue
            first = seen.setdefault(key.text, key)
            if key.plain and key.text == "<<":
                self.refuse(event, path, "merge keys are not supported: write the values out")
                continue
            if first is not key:
                self.refuse(event, key.path, f"duplicate key, first in line {first.line}")
            if value:
                yield key, value


def _position(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _name(text: str) -> str:
    return text if len(text) <= _LONGEST_NAME else text[:_LONGEST_NAME] + "…"


def _join(path: str, key: str) -> str:
    """The path of *key* in the mapping at *path*; one that is too long may be a secret, and is not repeated."""
    shown = repr(key) if not key.isprintable() or " " in key or not key else key
    if len(key) > _LONGEST_KEY:
        shown = f"(a key of {len(key)} characters)"
    return f"{path}.{shown}" if path else shown
