"""``tcp-exporter``: the composition root. Reads the command line, wires the parts in the order of the flow, and runs.

Only this module and the plugin's ``check`` know all the others; a command is one function from options to an exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import platform
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from exporter import __version__, deadline
from exporter.config import fields
from exporter.config import file as configfile
from exporter.config import schema as config
from exporter.errors import ConfigError, ExporterError, UsageError
from exporter.health.judge import Advisor
from exporter.kernel import READERS
from exporter.kernel.reader import Procfs
from exporter.sampling import once
from exporter.sampling.detailer import Wanted
from exporter.snapshot import Advice, Snapshot
from exporter.tcpstate import BY_LABEL
from exporter.terminal import who

T = TypeVar("T")
_Execute = Callable[[argparse.Namespace], int]

_COULD_NOT_TELL = 2  # of advise
_DEADLINE_SECONDS = 60.0  # for one sample of a command
DEFAULT_URL = "http://127.0.0.1:19293"

_EPILOG = """\
commands:
  serve          the daemon (what runs when no command is given); its options are above
  show           one sample as a table, or the table of each sample from now on
  who            who holds the sockets in a state: process, unit, port or remote address
  advise         what is wrong, what the sysctls should be, and what to do
  dump           one sample as metrics or JSON, to standard output or atomically to a file
  check-config   every mistake of a configuration file, each with its line
  healthcheck    0 when a running daemon is ready, for container health checks

tcp-exporter COMMAND --help describes a command.
"""


def main() -> None:
    """Run as a program."""
    if sys.stdout is None or sys.stderr is None:  # closed by whoever started us
        os._exit(_failed())
    if isinstance(sys.stdout, io.TextIOWrapper):  # as standard error: a name may have what the locale has not
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone; so is the point of saying so
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
    return _COULD_NOT_TELL if sys.argv[1:2] == ["advise"] else 1


def run(arguments: Sequence[str]) -> int:
    """The exit code of *arguments*: 0, 1 when it failed or found something, 2 for a wrong command line."""
    command, rest = "serve", list(arguments)
    if rest and rest[0] in COMMANDS:
        command, rest = rest[0], rest[1:]
    elif rest and not rest[0].startswith("-"):
        print(f"tcp-exporter: unknown command {rest[0]!r}: expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    parser, execute = _PARSERS[command]()
    options = parser.parse_args(rest)
    try:
        return execute(options)
    except ConfigError as error:
        print(error, file=sys.stderr)
    except ExporterError as error:
        print(f"tcp-exporter: {error}", file=sys.stderr)
    return 1


# -- serve -------------------------------------------------------------------------------------------------------------


def _serve_parser() -> tuple[argparse.ArgumentParser, _Execute]:
    parser = argparse.ArgumentParser(
        prog="tcp-exporter",
        description="Samples TCP sockets by state and the sysctls behind them, and serves them to Prometheus.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config.file", dest="file", metavar="FILE", help="configuration file; a flag beats it")
    add(
        "--web.listen-address", dest="listen", action="append", type=_listen_address, metavar="ADDRESS",
        help="[HOST]:PORT or unix:/PATH to listen on; repeatable; port 0 takes a free one (default: :19293)",
    )  # fmt: skip
    add("--web.systemd-socket", dest="systemd_socket", action="store_true",
        help="serve on the sockets that systemd passes, and not on the listen addresses")  # fmt: skip
    add("--web.telemetry-path", dest="path", type=_argument(config.parse_telemetry_path), metavar="PATH",
        help="path of the metrics (default: /metrics)")  # fmt: skip
    add("--web.config.file", dest="web_file", metavar="FILE",
        help="TLS and authentication, in the format of Prometheus's exporters (default: neither)")  # fmt: skip
    add("--web.max-requests", dest="max_requests", type=_count, metavar="N",
        help="requests at a time, 0 for no limit (default: 40)")  # fmt: skip
    add("--sample.interval", dest="interval", type=_interval, metavar="DURATION",
        help="time between samples (default: 1s)")  # fmt: skip
    _add_reading(parser, default=None)
    add("--log.level", choices=config.LOG_LEVELS, dest="level", help="least level to log (default: info)")
    add("--log.format", choices=config.LOG_FORMATS, dest="format", help="format of the log (default: auto)")
    add("--version", action="version", version=_version())
    return parser, _serve


def _serve(options: argparse.Namespace) -> int:
    from exporter.daemon import daemon  # noqa: PLC0415 - asyncio and the web are the daemon's alone

    def load() -> config.Config:
        return _with_flags(_settings(options), options)

    return daemon.serve(load, options.procfs, systemd_socket=options.systemd_socket)


def _with_flags(settings: config.Config, options: argparse.Namespace) -> config.Config:
    """The configuration with the flags that were given on top."""
    sample, web, logging = settings.sample, settings.web, settings.log
    return dataclasses.replace(
        settings,
        sample=dataclasses.replace(
            sample, interval=_given(options.interval, sample.interval), reader=_given(options.reader, sample.reader)
        ),
        web=dataclasses.replace(
            web,
            listen_address=tuple(_given(options.listen, web.listen_address)),
            telemetry_path=_given(options.path, web.telemetry_path),
            config_file=_given(options.web_file, web.config_file) or None,
            max_requests=_given(options.max_requests, web.max_requests),
        ),
        log=dataclasses.replace(
            logging, level=_given(options.level, logging.level), format=_given(options.format, logging.format)
        ),
    )


def _given(flag: T | None, setting: T) -> T:
    return setting if flag is None else flag


# -- show and dump -----------------------------------------------------------------------------------------------------


def _show_parser() -> tuple[argparse.ArgumentParser, _Execute]:
    parser = _parser("show", "Takes one sample and prints it as a table.")
    parser.add_argument("--json", action="store_true", help="print it as JSON, as /api/v1/snapshot does")
    parser.add_argument("--watch", action="store_true",
                        help="go on sampling as the daemon does, and draw the table again with each sample until q or "
                        "Ctrl-C; with --json print each sample on a line")  # fmt: skip
    parser.add_argument("--interval", type=_interval, metavar="DURATION",
                        help="with --watch: time between samples (default: 1s)")  # fmt: skip
    parser.add_argument("--config.file", dest="file", metavar="FILE",
                        help="configuration file, for its thresholds and, with --watch, its intervals")  # fmt: skip
    _add_reading(parser, default="auto")
    return parser, _show


def _show(options: argparse.Namespace) -> int:
    if options.interval is not None and not options.watch:
        return _refused("show: --interval is for --watch")
    if options.watch:
        return _watch(options)
    settings = _settings(options)
    snapshot, advice = _advised(options, settings)
    if options.json:
        from exporter.document import write as api  # noqa: PLC0415 - json only where it is asked for

        sys.stdout.buffer.write(api.encode(api.document(snapshot, settings.thresholds, advice)))
    else:
        from exporter.terminal import table  # noqa: PLC0415 - as above

        color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        when = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(snapshot.taken_at))
        print(table.render(snapshot, settings.thresholds, advice, socket.gethostname(), when, color=color), end="")
    return 0 if snapshot.connections is not None else 1


def _watch(options: argparse.Namespace) -> int:
    from exporter.sampling.assembly import assemble_loop  # noqa: PLC0415
    from exporter.terminal import watch  # noqa: PLC0415 - threads and signals only where they are asked for

    if not options.json and not sys.stdout.isatty():
        return _refused("show --watch: standard output is no terminal; with --json it is a line for each sample")
    if not options.json and os.environ.get("TERM") in {None, "", "dumb"}:
        return _refused("show --watch: this terminal cannot move its cursor (TERM); with --json nothing has to")
    settings = _settings(options)
    settings = dataclasses.replace(
        settings,
        sample=dataclasses.replace(
            settings.sample,
            interval=_given(options.interval, settings.sample.interval),
            reader=options.reader,
        ),
        detail=dataclasses.replace(settings.detail, namespaces=False),  # as in show, they are not in the table
    )
    heard = watch.Heard()
    loop = assemble_loop(settings, Procfs(options.procfs), os.uname().release, time.monotonic, heard)
    if options.json:
        watch.stream(loop, heard, settings.thresholds, _write_line, _complain)
    return watch.draw(loop, heard, settings.thresholds, socket.gethostname(), color="NO_COLOR" not in os.environ)


def _refused(text: str) -> int:
    """The exit code of a command line that is wrong."""
    print(f"tcp-exporter {text}", file=sys.stderr)
    return 2


def _complain(text: str) -> None:
    print(f"tcp-exporter: {text}", file=sys.stderr)


def _write_line(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def _dump_parser() -> tuple[argparse.ArgumentParser, _Execute]:
    parser = _parser("dump", "Takes one sample and writes it, for node_exporter's textfile directory or for a script.")
    parser.add_argument("--format", choices=("prometheus", "openmetrics", "json"), default="prometheus",
                        help="(default: prometheus, text format 0.0.4)")  # fmt: skip
    parser.add_argument("--output", metavar="PATH", help="replace this file atomically instead of printing")
    parser.add_argument("--config.file", dest="file", metavar="FILE", help="configuration file, for its thresholds")
    _add_reading(parser, default="auto")
    return parser, _dump


def _dump(options: argparse.Namespace) -> int:
    from exporter.document import write as api  # noqa: PLC0415
    from exporter.prometheus.exposition import page  # noqa: PLC0415 - prometheus_client only where it is used
    from exporter.prometheus.families import View  # noqa: PLC0415
    from exporter.prometheus.formats import Format  # noqa: PLC0415
    from exporter.snapshot import Sample  # noqa: PLC0415

    settings = _settings(options)
    snapshot, advice = _advised(options, settings)
    if snapshot.connections is None:
        reasons = [problem for source, problem in snapshot.sources.items() if problem and source != "detail"]
        raise UsageError("no reader could count the sockets: " + "; ".join(reasons))
    if options.format == "json":
        content = api.encode(api.document(snapshot, settings.thresholds, advice))
    else:
        form = Format.TEXT if options.format == "prometheus" else Format.OPENMETRICS
        view = View(settings.thresholds, python=platform.python_version(), max_series=settings.detail.max_series)
        content = page(Sample.single(snapshot, advice), view, form)
    if options.output is not None:
        _replace(options.output, content)
    else:
        sys.stdout.buffer.write(content)
    return 0


def _replace(path: str, content: bytes) -> None:
    """Write *content* to a file beside *path* and put it in its place: a reader sees the old file or the new one."""
    directory = os.path.dirname(path) or "."
    temporary = None
    try:
        # The name must not end in .prom: node_exporter reads every such file of the directory.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=directory)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def _settings(options: argparse.Namespace) -> config.Config:
    return config.Config() if options.file is None else configfile.load(options.file, options.procfs)


def _advised(
    options: argparse.Namespace, settings: config.Config, past: Sequence[Snapshot] = (), late: int = 1
) -> tuple[Snapshot, Advice]:
    """A sample, and what is to be said of it and of the *past*."""
    snapshot = _sample(options, settings, late)
    advisor = Advisor(Procfs(options.procfs).release())
    return snapshot, advisor.advise(snapshot, past, settings.sysctl.expected)


def _sample(options: argparse.Namespace, settings: config.Config, late: int) -> Snapshot:
    detail = settings.detail
    wanted = Wanted(detail.ports, detail.remote_ports, detail.max_series)
    with _in_time(late):
        return once.snapshot(options.procfs, options.reader, wanted=wanted)


@contextlib.contextmanager
def _in_time(code: int = 1) -> Iterator[None]:
    """End the process with a line and *code* where the kernel does not answer in time."""
    late = f"tcp-exporter: no answer from the kernel within {_DEADLINE_SECONDS:g} s"
    deadline.arm(_DEADLINE_SECONDS, descriptor=2, text=late, code=code)
    try:
        yield
    finally:
        deadline.disarm()


# -- advise ------------------------------------------------------------------------------------------------------------


def _advise_parser() -> tuple[argparse.ArgumentParser, _Execute]:
    parser = _parser(
        "advise",
        "Says what is wrong on this host, and which sysctls are not as they should be: why, and what to do. It changes "
        "nothing. Counts twice, a moment apart, since some of it only a change can tell. Exit code 0: nothing to "
        "change, 1: something to change, 2: could not tell.",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print it as JSON")
    form.add_argument(
        "--sysctl-conf", dest="fragment", action="store_true",
        help="print a fragment for sysctl.d that mends the sysctls, its reasons as comments: for sysctl -p -",
    )  # fmt: skip
    parser.add_argument("--all", dest="everything", action="store_true", help="also the sysctls that are right")
    parser.add_argument("--interval", type=_pause, default=1.0, metavar="DURATION",
                        help="time between the two counts, 0 for only one (default: 1s)")  # fmt: skip
    parser.add_argument("--config.file", dest="file", metavar="FILE",
                        help="configuration file, for its sysctl.expected")  # fmt: skip
    _add_reading(parser, default="auto")
    return parser, _advise


def _advise(options: argparse.Namespace) -> int:
    from exporter.health.findings import is_blind, unseen  # noqa: PLC0415
    from exporter.health.sysctls.verdicts import sysctl_conf  # noqa: PLC0415
    from exporter.terminal import report  # noqa: PLC0415 - only this command prints it

    try:
        settings = _settings(options)
        past = []
        if options.interval and not options.fragment:
            with _in_time(_COULD_NOT_TELL):
                past.append(once.snapshot(options.procfs, options.reader, sysctls=False, queues=False))
            time.sleep(options.interval)
        snapshot, advice = _advised(options, settings, past, _COULD_NOT_TELL)
    except ExporterError as error:
        print(error if isinstance(error, ConfigError) else f"tcp-exporter: {error}", file=sys.stderr)
        return _COULD_NOT_TELL
    if options.fragment:
        print(sysctl_conf(advice.verdicts), end="")
        unread = snapshot.sources.get("sysctl")
        if unread is not None:
            print(f"tcp-exporter: {unread}", file=sys.stderr)
        return 1 if any(it.deviates for it in advice.verdicts) else _COULD_NOT_TELL if unread is not None else 0
    if options.json:
        from exporter.document import write as api  # noqa: PLC0415 - json only where it is asked for

        release = Procfs(options.procfs).release()
        answer = api.advised(advice, release, snapshot.taken_at, unseen(snapshot), everything=options.everything)
        sys.stdout.buffer.write(api.encode(answer))
    else:
        color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        width = shutil.get_terminal_size((100, 24)).columns
        told = not is_blind(snapshot)
        text = report.render(advice, unseen(snapshot), width, everything=options.everything, color=color, told=told)
        print(text, end="")
    if advice.findings or any(it.deviates for it in advice.verdicts):
        return 1
    return _COULD_NOT_TELL if is_blind(snapshot) else 0


# -- check-config and healthcheck --------------------------------------------------------------------------------------


def _check_config_parser() -> tuple[argparse.ArgumentParser, _Execute]:
    parser = _parser(
        "check-config",
        "Reads a configuration file, and the web configuration that it names: 0 when valid, 1 with every mistake.",
    )
    parser.add_argument("file", metavar="FILE", nargs="?")
    parser.add_argument("--web.config.file", dest="web_file", metavar="FILE",
                        help="a web configuration, instead of the one that FILE names or without any FILE")  # fmt: skip
    return parser, _check_config


def _check_config(options: argparse.Namespace) -> int:
    if options.file is None and options.web_file is None:
        return _refused("check-config: expected a FILE, or --web.config.file FILE")
    mistakes, web_file, valid = list[str](), options.web_file, list[str]()
    if options.file is not None:
        try:
            web_file = _given(web_file, configfile.load(options.file).web.config_file)
            valid.append(options.file)
        except ConfigError as error:
            mistakes += error.mistakes
    if web_file:
        from exporter.web import protection  # noqa: PLC0415 - TLS only for who has it

        try:
            protection.load(web_file)
            valid.append(web_file)
        except ConfigError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigError(mistakes)
    print("\n".join(f"{file}: valid" for file in valid))
    return 0


def _healthcheck_parser() -> tuple[argparse.ArgumentParser, _Execute]:
    parser = _parser("healthcheck", "Asks a running daemon whether it is ready: 0 when it is, 1 when not.")
    parser.add_argument("--url", default=DEFAULT_URL, help="where the daemon is (default: %(default)s)")
    parser.add_argument("--ca-file", metavar="FILE", help="trust the certificates in FILE, not the system's")
    parser.add_argument("--cert-file", metavar="FILE", help="present the client certificate in FILE")
    parser.add_argument("--key-file", metavar="FILE", help="its key (default: in the file of the certificate)")
    parser.add_argument("--credentials-file", metavar="FILE", help="for basic authentication: one line, user:password")
    parser.add_argument("--timeout", type=_seconds, default=5.0, metavar="SECONDS", help="(default: %(default)s)")
    return parser, _healthcheck


def _healthcheck(options: argparse.Namespace) -> int:
    from exporter import client  # noqa: PLC0415 - only this command is a client

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
    said = body.decode("utf-8", "replace").strip()
    if status != 200:
        raise UsageError(f"{url}: {status} {said}")
    print(said)
    return 0


# -- who ---------------------------------------------------------------------------------------------------------------


def _who_parser() -> tuple[argparse.ArgumentParser, _Execute]:
    parser = _parser("who", "Says who holds the sockets in a state: the owners, counted. Reads the kernel once.")
    parser.add_argument("state", nargs="?", default="established", choices=tuple(BY_LABEL), metavar="STATE",
                        help="(default: established) " + " ".join(BY_LABEL))  # fmt: skip
    parser.add_argument("--by", choices=who.GROUPS, default="process", help="(default: process)")
    parser.add_argument("--top", type=_count, default=20, metavar="N", help="rows to show, 0 for all (default: 20)")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    return parser, _who


def _who(options: argparse.Namespace) -> int:
    from exporter.kernel import owners  # noqa: PLC0415 - psutil only where it is used

    with _in_time():
        holders = owners.hold(BY_LABEL[options.state], options.by)
    if options.json:
        print(json.dumps(who.document(holders, options.top), indent=2))
    else:
        color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        print(who.render(holders, options.top, color=color), end="")
    return 0


# -- what the commands share -------------------------------------------------------------------------------------------


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"tcp-exporter {command}", description=description, allow_abbrev=False)


def _add_reading(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument("--reader", choices=READERS, default=default, help="who counts the sockets (default: auto)")
    parser.add_argument("--path.procfs", dest="procfs", default="/proc", metavar="DIR",
                        help="where procfs is mounted (default: %(default)s)")  # fmt: skip


def _version() -> str:
    return f"tcp-exporter {__version__} (Python {platform.python_version()})"


def _argument(parse: Callable[[str], T]) -> Callable[[str], T]:
    """*parse* as argparse wants it: its complaint becomes the usage error."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ExporterError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


@_argument
def _listen_address(text: str) -> str:
    fields.parse_listen_address(text)
    return text


@_argument
def _interval(text: str) -> float:
    seconds = fields.parse_duration(text)
    if not 0.1 <= seconds <= 3600:
        raise UsageError(f"expected a duration from 100ms to 1h, got {text!r}")
    return seconds


@_argument
def _pause(text: str) -> float:
    seconds = fields.parse_duration(text)
    if seconds > 3600:
        raise UsageError(f"expected a duration of at most 1h, got {text!r}")
    return seconds


@_argument
def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise UsageError(f"expected seconds above 0 and at most 3600, got {text!r}")
    return seconds


@_argument
def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"expected an integer >= 0, got {text!r}")
    return int(text)


_PARSERS: dict[str, Callable[[], tuple[argparse.ArgumentParser, _Execute]]] = {
    "serve": _serve_parser,
    "show": _show_parser,
    "advise": _advise_parser,
    "dump": _dump_parser,
    "who": _who_parser,
    "check-config": _check_config_parser,
    "healthcheck": _healthcheck_parser,
}
COMMANDS = tuple(_PARSERS)
