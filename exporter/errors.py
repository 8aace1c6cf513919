"""Every exception that this package raises on purpose; the programs' entry points catch the root.

::

    ExporterError
    ├── SourceError            a source of the kernel could not be read; it names the source
    │   ├── SourceMissing      it does not exist on this kernel or in this namespace
    │   ├── SourceUnreadable   it exists and refused: permission, I/O error, an error message of netlink
    │   ├── SourceMalformed    it answered with what cannot be understood, or was cut short
    │   └── SourceTimeout      it did not answer in time
    ├── RangeError             a threshold is not a Monitoring Plugins range
    ├── ConfigError            the configuration file, with every mistake in it
    └── UsageError             a command line that cannot be carried out
"""

from __future__ import annotations

from exporter.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_QUOTED = 80  # characters of a line that an error repeats: below --path.procfs it may be any file's


class ExporterError(Exception):
    """The root: its text is fit to be shown to a person."""


class SourceError(ExporterError):
    """A source of the kernel could not be read.

    ``source`` names what was read, a file by its path; ``reason`` is the rest of the sentence.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason


class SourceMissing(SourceError):
    """The source does not exist on this kernel or in this network namespace."""


class SourceUnreadable(SourceError):
    """The source exists and refused to be read."""


class SourceMalformed(SourceError):
    """The source answered with something that cannot be understood: file, line number and text."""

    def __init__(self, source: str, lineno: int, text: str, expected: str) -> None:
        super().__init__(f"{source}:{lineno}", f"cannot read {text[:_QUOTED]!r}: expected {expected}")
        self.lineno = lineno
        self.text = text


class SourceTimeout(SourceError):
    """The source did not answer within its deadline."""


class RangeError(ExporterError):
    """A threshold is not a Monitoring Plugins range."""


class ConfigError(ExporterError):
    """The configuration file has mistakes: one line each, ``FILE:LINE:COLUMN: path: message``."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class UsageError(ExporterError):
    """A command line that cannot be carried out."""


def suggest(text: str, known: Iterable[str]) -> str:
    """The end of a message: the one of *known* that *text* was probably meant to be, or nothing.

    >>> suggest("Establishd", ["established", "listen"]), suggest("xyz", ["established"])
    ('; did you mean established?', '')
    """
    from difflib import get_close_matches  # noqa: PLC0415 - the plugin loads it only to complain

    close = get_close_matches(text.lower(), [*known], n=1)
    return f"; did you mean {close[0]}?" if close else ""
