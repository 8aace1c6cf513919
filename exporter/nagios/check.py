"""``check_tcp_states``: the plugin's composition root, from arguments to one answer and an exit code.

It reads the kernel itself and needs no daemon, unless ``--url`` names one to ask. Nothing heavy is imported before an
option asks for it, and everything is imported inside the guard: whatever goes wrong is one line on standard output and
exit 3, never a traceback.
"""

from __future__ import annotations

import sys

from exporter import deadline
from exporter.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.document.read import Answer
    from exporter.health.thresholds import Range, Status, Threshold
    from exporter.nagios.arguments import Options
    from exporter.snapshot import Snapshot

EXIT_UNKNOWN = 3


def main() -> None:
    """Run as a program."""
    flags = [argument for argument in sys.argv[1:] if argument == "--verbose" or not argument.strip("-v")]
    verbose = sum(1 if flag == "--verbose" else flag.count("v") for flag in flags) >= 3
    try:
        code, text = run(sys.argv[1:])
    except KeyboardInterrupt:
        code, text = EXIT_UNKNOWN, "TCP STATES UNKNOWN: interrupted"
    except Exception as error:  # noqa: BLE001 - a bug must be UNKNOWN, and Python's own exit code is WARNING
        reason = " ".join(f"{type(error).__name__}: {error}".split()).replace("|", "/")
        code, text = EXIT_UNKNOWN, f"TCP STATES UNKNOWN: bug in check_tcp_states: {reason}"
        if verbose:
            import traceback  # noqa: PLC0415 - only for the developer who asked for it

            text += "\n" + traceback.format_exc().replace("|", "/")
    deadline.finish(1, text, code)


def run(arguments: Sequence[str]) -> tuple[int, str]:
    """The exit code and the text for *arguments*."""
    from exporter.errors import ExporterError  # noqa: PLC0415 - inside the guard, as all imports here
    from exporter.health.thresholds import Status  # noqa: PLC0415
    from exporter.nagios import arguments as command_line  # noqa: PLC0415
    from exporter.nagios import output  # noqa: PLC0415

    try:
        options = command_line.parse(arguments)
        if options.show == "help":
            return EXIT_UNKNOWN, command_line.HELP.rstrip()
        if options.show == "version":
            from exporter import __version__  # noqa: PLC0415

            return EXIT_UNKNOWN, f"check_tcp_states {__version__}"
        late = output.failure(options.timeout_status, f"no answer within {options.timeout:g} s")
        deadline.arm(options.timeout, descriptor=1, text=late, code=options.timeout_status.value)
        try:
            status, text = _check(options)
        finally:
            deadline.disarm()
    except ExporterError as error:
        return EXIT_UNKNOWN, output.failure(Status.UNKNOWN, " ".join(str(error).split("\n")))
    return status.value, text


def _check(options: Options) -> tuple[Status, str]:
    """Acquire, evaluate, present."""
    from exporter.health.thresholds import evaluate  # noqa: PLC0415
    from exporter.nagios import arguments as command_line  # noqa: PLC0415
    from exporter.nagios import output  # noqa: PLC0415
    from exporter.tcpstate import BY_LABEL  # noqa: PLC0415

    configured, expected = _configured(options)
    thresholds = command_line.judged(options, configured)
    names = [name for name in dict.fromkeys((*BY_LABEL, *thresholds)) if name != command_line.SYSCTL]
    read_sysctls = options.verbose > 0 or command_line.SYSCTL in thresholds
    snapshot, values, origin, answer = _acquire(options, names, read_sysctls=read_sysctls)
    drift = None
    if command_line.SYSCTL in thresholds:
        from exporter.health.sysctls.drift import drift_of  # noqa: PLC0415 - the profile and the catalogue

        drift = drift_of(snapshot, expected) if answer is None else answer.drift()
        values = {**values, command_line.SYSCTL: drift.value}

    results = evaluate({name: values[name] for name in thresholds}, thresholds)
    shown = evaluate(values, thresholds)

    details: list[str] = [] if drift is None else [*drift.lines.values()]
    if options.verbose or any(result.value is None for result in results):
        from exporter.nagios.details import explain, problems, provenance  # noqa: PLC0415

        details += explain(results, snapshot, expected, _release(options)) if options.verbose else ()
        details += (*origin, *provenance(snapshot)) if options.verbose > 1 else ()
        if any(result.value is None for result in results):
            reason = "; ".join(problems(snapshot)) or "not visible from this network namespace, or to this reader"
            return output.report(results, shown, details, reason)
    return output.report(results, shown, details, ", ".join(drift.lines) if drift is not None else "")


def _acquire(
    options: Options, names: Sequence[str], *, read_sysctls: bool
) -> tuple[Snapshot, Mapping[str, float | None], Sequence[str], Answer | None]:
    """The snapshot, the values of the measures *names*; where a daemon was asked also that, and its answer."""
    if options.url is not None:
        from exporter.client import Access  # noqa: PLC0415 - an HTTP client costs more than the whole check
        from exporter.document import read as remote  # noqa: PLC0415

        access = Access(options.ca_file, options.cert_file, options.key_file, options.credentials_file)
        answer = remote.ask(options.url, access)
        return answer.snapshot, answer.values(names, peak=options.peak), [answer.origin(peak=options.peak)], answer
    from exporter.health import measures  # noqa: PLC0415
    from exporter.sampling import once  # noqa: PLC0415

    needs = frozenset[str]().union(*(measures.BY_NAME[name].needs for name in names))
    wanted = None
    if measures.DETAIL in needs:
        from exporter.sampling.detailer import Wanted  # noqa: PLC0415

        wanted = Wanted()
    snapshot = once.snapshot(
        options.procfs,
        options.reader,
        netstat=False,
        sysctls=read_sysctls or measures.SYSCTLS in needs,
        queues=measures.LISTENERS in needs,
        conntrack=measures.CONNTRACK in needs,
        wanted=wanted,
        units=False,
        port=options.port,
    )
    return snapshot, measures.values(measures.readings(snapshot, names)), [], None


def _configured(options: Options) -> tuple[Mapping[str, Threshold], Mapping[str, Range | str]]:
    """The file's thresholds and expected sysctls, or the defaults; YAML is imported only where there is a file."""
    if options.config is None:
        from exporter.health.thresholds import DEFAULTS  # noqa: PLC0415

        return DEFAULTS, {}
    from exporter.config.file import load  # noqa: PLC0415

    settings = load(options.config, options.procfs)
    return settings.thresholds, settings.sysctl.expected


def _release(options: Options) -> str:
    """The release of the kernel that is judged; a daemon does not tell its own."""
    if options.url is not None:
        return ""
    from exporter.kernel.reader import Procfs  # noqa: PLC0415

    return Procfs(options.procfs).release()
