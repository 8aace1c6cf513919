"""``tcp-exporter show``: one sample as a table or JSON, or with ``--watch`` every sample from now on."""

from __future__ import annotations

import argparse
import dataclasses
import os
import socket
import sys
import time

from exporter import system
from exporter.commands.options import (
    DEFAULTS,
    add_config,
    add_reading,
    command_parser,
    complain,
    given,
    interval,
    refused,
    settings_of,
    wants_color,
    write,
)
from exporter.commands.sample import judged
from exporter.kernel.reader import Procfs


def parser() -> argparse.ArgumentParser:
    """The parser of ``show``."""
    parser = command_parser("show", "Takes one sample and prints it as a table.")
    parser.add_argument("--json", action="store_true", help="print JSON, the same document as /api/v1/snapshot")
    parser.add_argument("--watch", action="store_true",
                        help="keep sampling as the daemon does, and redraw the table with each sample until q or "
                        "Ctrl-C; with --json print one line for each sample")  # fmt: skip
    parser.add_argument("--interval", type=interval, metavar="DURATION",
                        help="with --watch: time between samples "
                        f"(default: {DEFAULTS.sample.interval:g}s)")  # fmt: skip
    add_config(parser, "its thresholds and, with --watch, its intervals")
    add_reading(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Print the sample; 1 where no reader could count."""
    if options.interval is not None and not options.watch:
        return refused("show: --interval is for --watch")
    if options.watch:
        return _watch(options)
    settings = settings_of(options)
    snapshot, health = judged(options, settings)
    if options.json:
        from exporter.document import write as document

        write(document.encode(document.document(snapshot, health)))
    else:
        from exporter.terminal import table

        when = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(snapshot.taken_at))
        text = table.render(snapshot, health, socket.gethostname(), when, color=wants_color())
        print(text, end="")
    return 0 if snapshot.connections is not None else 1


def _watch(options: argparse.Namespace) -> int:
    if not system.LINUX:
        return refused("show --watch: needs Linux; show prints the table once on any system")
    from exporter.sampling.assembly import assemble_loop
    from exporter.terminal import watch

    if not options.json and not sys.stdout.isatty():
        return refused("show --watch: standard output is not a terminal; --json prints a line for each sample")
    if not options.json and os.environ.get("TERM") in {None, "", "dumb"}:
        return refused(
            "show --watch: this terminal cannot move its cursor (TERM); --json prints a line for each sample"
        )
    settings = settings_of(options)
    settings = dataclasses.replace(
        settings,
        sample=dataclasses.replace(
            settings.sample, interval=given(options.interval, settings.sample.interval), reader=options.reader
        ),
        detail=dataclasses.replace(settings.detail, namespaces=False),  # as in show, they are not in the table
    )
    log = watch.NullLog()
    loop = assemble_loop(settings, Procfs(options.procfs), system.release(), time.monotonic, log)
    if options.json:
        watch.stream(loop, log, write, complain)
    return watch.draw(loop, log, socket.gethostname(), color=wants_color())
