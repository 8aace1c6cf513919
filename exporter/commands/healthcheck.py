"""``tcp-exporter healthcheck``: whether a running daemon is ready, for the health checks of containers."""

from __future__ import annotations

import argparse

from exporter import __version__, client, deadline
from exporter.commands.options import access_of, add_access, argument, base_url, command_parser
from exporter.document import READY
from exporter.errors import UsageError
from exporter.printable import shortened

_LONGEST = 300  # characters of an answer that are shown


@argument
def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise UsageError(f"expected seconds above 0 and at most 3600, got {text!r}")
    return seconds


def parser() -> argparse.ArgumentParser:
    """The parser of ``healthcheck``."""
    parser = command_parser(
        "healthcheck", "Checks whether a running daemon is ready. Exit code 0: ready, 1: not ready."
    )
    add_access(parser, "the daemon")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="time to wait for the answer (default: %(default)s)",
    )
    return parser


def run(options: argparse.Namespace) -> int:
    """Print the daemon's answer; ``UsageError`` or ``SourceError`` where it is not ready."""
    url = base_url(options.url)
    url += "" if url.endswith("/-/ready") else "/-/ready"
    late = f"tcp-exporter: {url}: no answer within {options.timeout:g} s"
    deadline.arm(options.timeout, descriptor=2, text=late, code=1)
    try:
        # A daemon of this host is not behind the proxy of the environment.
        status, _, body = client.get(
            url, access_of(options), {"User-Agent": f"tcp-exporter/{__version__}"}, 1000, proxies=False
        )
    finally:
        deadline.disarm()
    answer = shortened(
        body.decode("utf-8", "replace").strip(), _LONGEST
    )  # a terminal may show it, and the answer is not trusted
    if status != 200:
        raise UsageError(f"{url}: {status} {answer}")
    if answer != READY:
        raise UsageError(f"{url}: not a daemon of tcp-exporter: expected {READY!r}, got {answer!r}")
    print(answer)
    return 0
