"""``tcp-exporter``, or ``tcp-exporter serve``: the daemon. Flags go on top of the configuration file."""

from __future__ import annotations

import argparse
import dataclasses
import platform
import sys

from exporter import __version__
from exporter.commands.options import (
    DEFAULTS,
    Parser,
    add_config,
    add_reading,
    argument,
    count,
    given,
    interval,
    listen_address,
    settings_of,
)
from exporter.config.schema import LOG_FORMATS, LOG_LEVELS, Config, parse_telemetry_path
from exporter.errors import ConfigError

BAD_CONFIGURATION = 78
"""The exit code, EX_CONFIG of sysexits(3): another start does not help before somebody has mended the file."""

_EPILOG = """\
commands:
  serve          run the daemon (the default command); its options are above
  show           print one sample as a table, or redraw the table with each sample
  who            show which processes, units, ports or peers hold the sockets in a state
  advise         report what is wrong, which sysctls to change, and what to do
  dump           write one sample as metrics or JSON, to standard output or to a file
  check-config   report every mistake in a configuration file, with its line
  healthcheck    exit with 0 if a running daemon is ready, for container health checks
  help           print this text, or with the name of a command its options
"""


def parser() -> Parser:
    """The parser of the daemon, which also describes the commands."""
    parser = Parser(
        prog="tcp-exporter",
        usage="%(prog)s [COMMAND] [OPTION]...",
        description="Samples TCP sockets by state and the sysctls behind them, and serves them to Prometheus.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    web, add = DEFAULTS.web, parser.add_argument
    add_config(parser)
    add("--config.check", dest="check", action="store_true",
        help="read the configuration as the daemon would and exit: 0 when it can use it, 78 when not")  # fmt: skip
    add(
        "--web.listen-address", dest="listen", action="append", type=listen_address, metavar="ADDRESS",
        help="[HOST]:PORT or unix:/PATH to listen on; repeatable; port 0 picks a free port "
        f"(default: {' '.join(web.listen_address)})",
    )  # fmt: skip
    add("--web.systemd-socket", dest="systemd_socket", action="store_true",
        help="serve on the sockets passed by systemd instead of the listen addresses")  # fmt: skip
    add("--web.telemetry-path", dest="path", type=argument(parse_telemetry_path), metavar="PATH",
        help=f"path of the metrics (default: {web.telemetry_path})")  # fmt: skip
    add("--web.config.file", dest="web_file", metavar="FILE",
        help="TLS and authentication, in the file format of the Prometheus exporters (default: neither)")  # fmt: skip
    add("--web.max-requests", dest="max_requests", type=count, metavar="N",
        help=f"concurrent requests, 0 for no limit (default: {web.max_requests})")  # fmt: skip
    add("--sample.interval", dest="interval", type=interval, metavar="DURATION",
        help=f"time between samples (default: {DEFAULTS.sample.interval:g}s)")  # fmt: skip
    add_reading(parser, reader=None)
    log = DEFAULTS.log
    add("--log.level", choices=LOG_LEVELS, dest="level", help=f"lowest level to log (default: {log.level})")
    add("--log.format", choices=LOG_FORMATS, dest="format", help=f"format of the log (default: {log.format})")
    version = f"tcp-exporter {__version__} (Python {platform.python_version()})"
    add("--version", action="version", version=version)
    return parser


def run(options: argparse.Namespace) -> int:
    """Serve until a signal ends it, or check what it would be served by; 78 where a configuration has mistakes."""

    def load() -> Config:
        return _with_flags(settings_of(options), options)

    try:
        if options.check:
            return _check(load())
        from exporter.daemon import daemon

        return daemon.serve(load, options.procfs, systemd_socket=options.systemd_socket)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return BAD_CONFIGURATION


def _check(settings: Config) -> int:
    """Read also the web configuration; ``ConfigError`` has its mistakes."""
    if settings.web.config_file is not None:
        from exporter.web import protection

        protection.load(settings.web.config_file)
    print("configuration: valid")
    return 0


def _with_flags(settings: Config, options: argparse.Namespace) -> Config:
    """The configuration with the flags that were given on top."""
    sample, web, log = settings.sample, settings.web, settings.log
    return dataclasses.replace(
        settings,
        sample=dataclasses.replace(
            sample, interval=given(options.interval, sample.interval), reader=given(options.reader, sample.reader)
        ),
        web=dataclasses.replace(
            web,
            listen_address=tuple(given(options.listen, web.listen_address)),
            telemetry_path=given(options.path, web.telemetry_path),
            config_file=given(options.web_file, web.config_file) or None,
            max_requests=given(options.max_requests, web.max_requests),
        ),
        log=dataclasses.replace(log, level=given(options.level, log.level), format=given(options.format, log.format)),
    )
