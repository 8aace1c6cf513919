"""What the commands share: parsers and types of arguments, the configuration, a deadline, the terminal's colour.

Each command is a module with ``parser()`` and ``run(options)``, which returns the exit code. Defaults that the
configuration has are taken from it, in help texts too. A rim module.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

from exporter import client, deadline, system
from exporter.config import file as configfile
from exporter.config.fields import duration_within, parse_listen_address
from exporter.config.schema import Config, parse_interval
from exporter.errors import ExporterError, UsageError, suggest
from exporter.kernel import READERS
from exporter.printable import printable
from exporter.tcpstate import BY_LABEL, TcpState, of_name
from exporter.urls import checked

T = TypeVar("T")

DEFAULTS = Config()
DEFAULT_URL = "http://127.0.0.1:19293"
_DEADLINE_SECONDS = 60.0  # for one sample of a command


# -- Parsers -----------------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line: what is wrong, and where the options are explained."""

    def error(self, message: str) -> NoReturn:
        """Print *message* and end the process with 2."""
        text = message.removeprefix("argument ")
        self.exit(2, f"{self.prog}: {text}{' See' if text.endswith('?') else '; see'} {self.prog} --help\n")


def command_parser(command: str, description: str) -> Parser:
    """The parser of ``tcp-exporter COMMAND``."""
    return Parser(prog=f"tcp-exporter {command}", description=description, allow_abbrev=False)


def add_config(parser: argparse.ArgumentParser, purpose: str = "") -> None:
    """Add the configuration file, under the plugin's name for it and under Prometheus's."""
    what = f"configuration file, for {purpose}" if purpose else "configuration file; flags override it"
    parser.add_argument("--config", "--config.file", dest="file", metavar="FILE", help=what)


def add_reading(parser: argparse.ArgumentParser, reader: str | None = DEFAULTS.sample.reader) -> None:
    """Add how the kernel is read; *reader* is what counts where none is named."""
    parser.add_argument("--reader", choices=READERS, default=reader,
                        help=f"how the sockets are counted (default: {DEFAULTS.sample.reader})")  # fmt: skip
    parser.add_argument("--path.procfs", dest="procfs", default="/proc", metavar="DIR",
                        help="where procfs is mounted (default: %(default)s)")  # fmt: skip


def add_interval(parser: argparse.ArgumentParser) -> None:
    """Add the time between two counts."""
    parser.add_argument("--interval", type=argument(duration_within("0", "1h")), default=1.0, metavar="DURATION",
                        help="time between the two counts; 0 counts once (default: 1s)")  # fmt: skip


def add_access(parser: argparse.ArgumentParser, what: str, default: str | None = DEFAULT_URL) -> None:
    """Add the URL of *what*, and TLS and credentials for it."""
    parser.add_argument("--url", default=default, help=f"URL of {what} (default: {DEFAULT_URL})")
    parser.add_argument("--ca-file", metavar="FILE", help="trust the certificates in FILE, not the system's")
    parser.add_argument("--cert-file", metavar="FILE", help="present the client certificate in FILE")
    parser.add_argument("--key-file", metavar="FILE", help="its private key (default: in the certificate's file)")
    parser.add_argument(
        "--credentials-file", metavar="FILE", help="read user:password for basic authentication from FILE"
    )


def access_of(options: argparse.Namespace) -> client.Access:
    """TLS and credentials of the command line."""
    return client.Access(options.ca_file, options.cert_file, options.key_file, options.credentials_file)


def base_url(text: str) -> str:
    """The URL without a slash at its end; ``UsageError`` where it is none, or has a password."""
    if not text.startswith(("http://", "https://")):
        raise UsageError(f"--url: expected an http or https URL, got {text!r}")
    return checked("--url", text).rstrip("/")


# -- Types of arguments ------------------------------------------------------------------------------------------------


def argument(parse: Callable[[str], T]) -> Callable[[str], T]:
    """*parse* as argparse wants it: its complaint becomes the usage error."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ExporterError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


interval = argument(parse_interval)
"""Seconds between samples."""


@argument
def listen_address(text: str) -> str:
    """An address to listen on, as it was written."""
    parse_listen_address(text)
    return text


@argument
def count(text: str) -> int:
    """An integer that is not negative."""
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"expected an integer >= 0, got {text!r}")
    return int(text)


@argument
def state(text: str) -> TcpState:
    """A state, in any spelling."""
    found = of_name(text)
    if found is None:
        raise UsageError(
            f"unknown state {text!r}" + (suggest(text, BY_LABEL) or f": expected one of {', '.join(BY_LABEL)}")
        )
    return found


def given(flag: T | None, setting: T) -> T:
    """The flag, or the setting where the flag was not given."""
    return setting if flag is None else flag


# -- Running -----------------------------------------------------------------------------------------------------------


def settings_of(options: argparse.Namespace) -> Config:
    """The configuration of the file that was named, or the defaults; ``ConfigError`` has every mistake."""
    return DEFAULTS if options.file is None else configfile.load(options.file, options.procfs)


@contextlib.contextmanager
def in_time(code: int = 1, more: float = 0.0) -> Iterator[None]:
    """End the process with a line and *code* where the kernel does not answer in time, *more* seconds included."""
    late = f"tcp-exporter: no answer from the kernel within {_DEADLINE_SECONDS:g} s"
    deadline.arm(_DEADLINE_SECONDS + more, descriptor=2, text=late, code=code)
    try:
        yield
    finally:
        deadline.disarm()


def refused(text: str) -> int:
    """The exit code of a command line that is wrong, after saying why."""
    print(f"tcp-exporter {text}", file=sys.stderr)
    return 2


def complain(text: str) -> None:
    """Print a problem to standard error, after the program's name."""
    print(printable(f"tcp-exporter: {text}", keep="\n"), file=sys.stderr)  # it may quote another host


def write(data: bytes) -> None:
    """Write *data* to standard output, now."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def wants_color() -> bool:
    """Whether standard output is a terminal whose user has nothing against colours (https://no-color.org).

    Not all terminals of Windows know the sequences.
    """
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and not system.WINDOWS
