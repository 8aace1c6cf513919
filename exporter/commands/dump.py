"""``tcp-exporter dump``: one sample as metrics or JSON, printed or put in the place of a file."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import stat
import tempfile
from types import FrameType

from exporter.commands.options import add_config, add_interval, add_reading, command_parser, settings_of, write
from exporter.commands.sample import judged
from exporter.errors import UsageError

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has no SIGHUP


def parser() -> argparse.ArgumentParser:
    """The parser of ``dump``."""
    parser = command_parser(
        "dump",
        "Takes one sample and writes it, for node_exporter's textfile collector or for a script. Counts twice, a "
        "moment apart, because some findings show only as a change.",
    )
    parser.add_argument("--format", choices=("prometheus", "openmetrics", "json"), default="prometheus",
                        help="output format (default: prometheus, which is text format 0.0.4)")  # fmt: skip
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="replace FILE atomically instead of printing; follows a symbolic link",
    )
    add_interval(parser)
    add_config(parser, "its thresholds")
    add_reading(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Write the sample; ``UsageError`` where no reader could count, or the file cannot be written."""
    settings = settings_of(options)
    snapshot, health = judged(options, settings, options.interval)
    if snapshot.connections is None:
        reasons = [problem for source, problem in snapshot.sources.items() if problem and source != "detail"]
        raise UsageError("no reader could count the sockets: " + "; ".join(reasons))
    if options.format == "json":
        from exporter.document import write as document

        content = document.encode(document.document(snapshot, health))
    else:
        from exporter.health.sysctls.used import exported
        from exporter.prometheus.exposition import page
        from exporter.prometheus.families import View
        from exporter.prometheus.formats import Format
        from exporter.sampling.sample import Sample

        form = Format.TEXT if options.format == "prometheus" else Format.OPENMETRICS
        view = View(
            settings.thresholds,
            python=platform.python_version(),
            max_series=settings.detail.max_series,
            exported=exported(settings.sysctl.export, settings.sysctl.expected),
        )
        content = page(Sample.single(snapshot, health), view, form)
    if options.output is not None:
        _replace(options.output, content)
    else:
        write(content)
    return 0


def _replace(path: str, content: bytes) -> None:
    """Write *content* to a file beside *path* and put it in its place: a reader sees the old file or the new one.

    A symbolic link stays, and the file that it leads to is replaced. A device, a FIFO or a socket is refused: nothing
    can be put in its place without destroying it. SIGTERM and the end of the terminal leave nothing behind.
    """
    target = os.path.realpath(path)
    try:
        if not stat.S_ISREG(os.stat(target).st_mode):
            raise UsageError(
                f"cannot write {path}: it exists and is not a regular file; redirect to it instead: > {path}"
            )
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None

    def terminate(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in _ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup
            signal.signal(number, terminate)
    temporary = None
    try:
        # The name must not end in .prom: node_exporter reads every such file of the directory.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(target)}.", dir=os.path.dirname(target))
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.chmod(temporary, 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        for number, handler in before.items():
            signal.signal(number, handler)
