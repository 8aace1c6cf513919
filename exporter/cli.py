"""``tcp-exporter``: finds the command, runs it, and turns what happened into an exit code. A rim module.

A command is a module of ``exporter.commands``, imported when it runs: none pays for another.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from exporter import system
from exporter.errors import ConfigError, ExporterError, suggest
from exporter.printable import printable

COMMANDS = ("serve", "show", "advise", "dump", "who", "check-config", "healthcheck")

_OF_LINUX = {"advise", "who"}
"""Those about what only Linux tells; elsewhere they are refused before they are imported."""

_Command = tuple[argparse.ArgumentParser, Callable[[argparse.Namespace], int]]


def main() -> None:
    """Run as a program."""
    if sys.stdout is None or sys.stderr is None:  # the caller closed them
        os._exit(_failed())
    if isinstance(sys.stdout, io.TextIOWrapper):  # as standard error: a name may have what the locale has not
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has gone, and nobody is left to tell
        code = _failed()
    except OSError as error:
        print(f"tcp-exporter: {error.strerror or error}", file=sys.stderr)
        code = _failed()
    except KeyboardInterrupt:
        code = 130
    if code:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered must not fail once more at exit
    sys.exit(code)


def _failed() -> int:
    """The exit code where the output could not be written: of advise, 1 is an answer."""
    return 2 if sys.argv[1:2] == ["advise"] else 1


def run(arguments: Sequence[str]) -> int:
    """The exit code of *arguments*: 0, 1 when it failed or found something, 2 for a wrong command line.

    The daemon's is 78 for a bad configuration.
    """
    name, rest = "serve", list(arguments)
    if rest[:1] == ["help"]:
        rest = [*rest[1:], "--help"]
    if rest and rest[0] in COMMANDS:
        name, rest = rest[0], rest[1:]
    elif rest and not rest[0].startswith("-"):
        expected = suggest(rest[0], COMMANDS) or f": expected one of {', '.join((*COMMANDS, 'help'))}"
        print(f"tcp-exporter: unknown command {rest[0]!r}{expected}", file=sys.stderr)
        return 2
    if name in _OF_LINUX and not system.LINUX:
        print(f"tcp-exporter: {name} needs Linux, and this is {system.NAME}", file=sys.stderr)
        return 2
    parser, execute = command(name)
    options, unknown = parser.parse_known_args(rest)
    if unknown:
        parser.error(_unexpected(name, unknown))
    try:
        return execute(options)
    except ExporterError as error:
        said = str(error) if isinstance(error, ConfigError) else f"tcp-exporter: {error}"
        print(printable(said, keep="\n"), file=sys.stderr)  # it may quote a file, or another host
    return 1


def _unexpected(name: str, unknown: Sequence[str]) -> str:
    """The complaint about arguments of the command *name* that its parser does not know."""
    late = next((it for it in unknown if it in COMMANDS), None)
    if name == "serve" and late is not None:
        return f"{late}: a command comes before its options: tcp-exporter {late} [OPTION]..."
    return f"unexpected arguments: {' '.join(unknown)}"


def command(name: str) -> _Command:
    """The parser of the command *name*, and what runs it with the parsed options."""
    module = import_module("exporter.commands." + name.replace("-", "_"))
    return module.parser(), module.run
