"""``tcp-exporter advise``: what is wrong, which sysctls are not as they should be, and what to do."""

from __future__ import annotations

import argparse
import shutil
import sys
import time

from exporter import deadline
from exporter.commands.options import (
    DEFAULT_URL,
    access_of,
    add_access,
    add_config,
    add_interval,
    add_reading,
    base_url,
    command_parser,
    complain,
    given,
    refused,
    settings_of,
    wants_color,
    write,
)
from exporter.commands.sample import judged, judging, release, window_of
from exporter.config.schema import Config
from exporter.errors import ConfigError, ExporterError, UsageError
from exporter.health.sysctls.verdicts import sysctl_conf
from exporter.printable import printable

COULD_NOT_TELL = 2
_REMOTE_SECONDS = 60.0  # a Prometheus looks through a week


def parser() -> argparse.ArgumentParser:
    """The parser of ``advise``."""
    parser = command_parser(
        "advise",
        "Reports what is wrong on this host and which sysctls to change, with reasons and remedies. Changes nothing. "
        "Counts twice, a moment apart, because some problems show only as a change. Exit code 0: nothing to change, "
        "1: something to change, 2: could not tell.",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument(
        "--sysctl-conf", dest="fragment", action="store_true",
        help="print a sysctl.d fragment that corrects the sysctls, with the reasons as comments; for sysctl -p -",
    )  # fmt: skip
    form.add_argument(
        "--thresholds", action="store_true",
        help="print a thresholds block for the configuration file, from the peaks that the daemon or the Prometheus at "
        "--url has recorded, with the reasons as comments",
    )  # fmt: skip
    parser.add_argument(
        "--what-if", dest="what_if", metavar="NAME=VALUE[,...]",
        help="print what these values would change on this host, from its current numbers; sets nothing. "
        "Exit code 0, or 2 for a wrong name or value",
    )  # fmt: skip
    parser.add_argument(
        "--all", dest="everything", action="store_true", help="also print the sysctls that need no change"
    )
    add_access(parser, "the daemon or the Prometheus of --thresholds", None)
    add_interval(parser)
    add_config(parser, "its sysctl.expected")
    add_reading(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Print what was asked for; 2 where that could not be."""
    if options.what_if is not None and (options.fragment or options.everything or options.thresholds):
        return refused("advise: --what-if cannot be combined with --sysctl-conf, --thresholds or --all")
    remote = (options.url, *access_of(options))
    if not options.thresholds and any(it is not None for it in remote):
        return refused("advise: --url and its options work only with --thresholds")
    try:
        if options.thresholds:
            return _thresholds(options)
        return (_advise if options.what_if is None else _what_if)(options, settings_of(options))
    except ConfigError as error:
        print(printable(str(error), keep="\n"), file=sys.stderr)
        return COULD_NOT_TELL
    except ExporterError as error:
        complain(str(error))
        return COULD_NOT_TELL


def _advise(options: argparse.Namespace, settings: Config) -> int:
    """Print the advice; 1 where there is any, 2 where there could not be."""
    interval = 0.0 if options.fragment else options.interval
    snapshot, health = judged(options, settings, interval, COULD_NOT_TELL)
    if options.fragment:
        ports = [it.port for it in snapshot.listeners or ()]
        reserved = None if snapshot.detail is None else snapshot.detail.ephemeral_reserved
        print(sysctl_conf(health.verdicts, ports, reserved), end="")
        unread = snapshot.sources.get("sysctl")
        if unread is not None:
            complain(unread)
        return 1 if any(it.deviates for it in health.verdicts) else COULD_NOT_TELL if unread is not None else 0
    if options.json:
        from exporter.document import write as document

        problems, everything = snapshot.problems, options.everything
        write(
            document.encode(
                document.advised(health, release(options), snapshot.taken_at, problems, everything=everything)
            )
        )
    else:
        from exporter.terminal import report

        width = shutil.get_terminal_size((100, 24)).columns
        color = wants_color()
        print(report.render(health, snapshot.problems, width, everything=options.everything, color=color), end="")
    if health.findings or health.deviations:
        return 1
    return COULD_NOT_TELL if health.unknown or snapshot.connections is None else 0


def _thresholds(options: argparse.Namespace) -> int:
    """Print thresholds for the configuration; ``SourceError`` where nothing was observed."""
    from exporter.document.observed import observe
    from exporter.health import proposal

    url = base_url(given(options.url, DEFAULT_URL))
    late = f"tcp-exporter: {url}: no answer within {_REMOTE_SECONDS:g} s"
    deadline.arm(_REMOTE_SECONDS, descriptor=2, text=late, code=COULD_NOT_TELL)
    try:
        observed = observe(url, access_of(options))
    finally:
        deadline.disarm()
    print(proposal.block(observed, time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())), end="")
    return 0


def _what_if(options: argparse.Namespace, settings: Config) -> int:
    """Print what the values would change; ``UsageError`` where they are none."""
    from exporter.config.assignments import assignments
    from exporter.health import whatif

    window = window_of(options, settings, options.interval, COULD_NOT_TELL)
    try:
        values = assignments(options.what_if, window.now.sysctls)
    except UsageError as error:
        raise UsageError(f"--what-if: {error}") from None
    outcome = whatif.outcome(window, values, judging(options, settings))
    for problem in window.now.problems:
        complain(problem)
    if options.json:
        from exporter.document import write as document

        write(document.encode(document.what_if(outcome, window.now.taken_at)))
    else:
        from exporter.terminal import whatif as terminal

        print(terminal.render(outcome, shutil.get_terminal_size((100, 24)).columns), end="")
    return 0
