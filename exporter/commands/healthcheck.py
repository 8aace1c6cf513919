"""``tcp-exporter healthcheck``: whether a running daemon is ready, for the health checks of containers."""

from __future__ import annotations

import argparse

from exporter import __version__, client, deadline
from exporter.commands.options import argument, command_parser
from exporter.errors import UsageError

DEFAULT_URL = "http://127.0.0.1:19293"


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
    parser = command_parser("healthcheck", "Asks a running daemon whether it is ready: 0 when it is, 1 when not.")
    parser.add_argument("--url", default=DEFAULT_URL, help="where the daemon is (default: %(default)s)")
    parser.add_argument("--ca-file", metavar="FILE", help="trust the certificates in FILE, not the system's")
    parser.add_argument("--cert-file", metavar="FILE", help="present the client certificate in FILE")
    parser.add_argument("--key-file", metavar="FILE", help="its key (default: in the file of the certificate)")
    parser.add_argument("--credentials-file", metavar="FILE", help="for basic authentication: one line, user:password")
    parser.add_argument("--timeout", type=_seconds, default=5.0, metavar="SECONDS", help="(default: %(default)s)")
    return parser


def run(options: argparse.Namespace) -> int:
    """Print the daemon's answer; ``UsageError`` or ``SourceError`` where it is not ready."""
    if not options.url.startswith(("http://", "https://")):
        raise UsageError(f"--url: expected an http or https URL, got {options.url!r}")
    url = options.url.rstrip("/")
    url += "" if url.endswith("/-/ready") else "/-/ready"
    access = client.Access(options.ca_file, options.cert_file, options.key_file, options.credentials_file)
    late = f"tcp-exporter: {url}: no answer within {options.timeout:g} s"
    deadline.arm(options.timeout, descriptor=2, text=late, code=1)
    try:
        # A daemon of this host is not behind the proxy of the environment.
        status, _, body = client.get(url, access, {"User-Agent": f"tcp-exporter/{__version__}"}, 1000, proxies=False)
    finally:
        deadline.disarm()
    answer = body.decode("utf-8", "replace").strip()
    if status != 200:
        raise UsageError(f"{url}: {status} {answer}")
    print(answer)
    return 0
