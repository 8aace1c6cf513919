"""``check_tcp_states``: the plugin's composition root, from arguments to one answer and an exit code.

It reads the kernel itself and needs no daemon, unless ``--url`` names one to ask. Nothing heavy is imported before an
option asks for it, and everything is imported inside the guard: whatever goes wrong is one line on standard output and
exit 3, never a traceback.
"""

from __future__ import annotations

import gc
import sys

from exporter import deadline
from exporter.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from exporter.health.finding import Judgement, NotJudged
    from exporter.health.sysctls.drift import Drift
    from exporter.health.sysctls.verdicts import Expectations
    from exporter.health.thresholds import Status, Threshold
    from exporter.nagios.arguments import Options
    from exporter.snapshot import Snapshot

EXIT_UNKNOWN = 3
_APART = 1.0  # seconds between the two samples that the findings are concluded from, as for tcp-exporter advise


def main() -> None:
    """Run as a program."""
    gc.disable()  # it ends before a collection pays
    flags = [argument for argument in sys.argv[1:] if argument == "--verbose" or not argument.strip("-v")]
    verbose = sum(1 if flag == "--verbose" else flag.count("v") for flag in flags) >= 3
    try:
        code, text = run(sys.argv[1:])
    except KeyboardInterrupt:
        code, text = EXIT_UNKNOWN, "TCP STATES UNKNOWN: interrupted"
    except Exception as error:  # noqa: BLE001 - a bug must be UNKNOWN, and Python's own exit code is WARNING
        reason = "".join(it if it.isprintable() else " " for it in f"{type(error).__name__}: {error}")
        reason = " ".join(reason.split()).replace("|", "/")
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
            return EXIT_UNKNOWN, command_line.help_text().rstrip()
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


class Seen(NamedTuple):
    """What was read, of this host or from a daemon, and what is judged of it."""

    snapshot: Snapshot
    thresholds: Mapping[str, Threshold]  # of each measure that is judged
    values: Mapping[str, float | None]  # of the states and of each measure that is judged
    why: Callable[[str], str]  # by a measure that is not known: the reason
    drift: Drift | None  # where sysctls are judged
    findings: tuple[Sequence[Judgement], Sequence[NotJudged]] | None  # where findings are asked for
    origin: tuple[str, ...] = ()


def _check(options: Options) -> tuple[Status, str]:
    """Acquire, evaluate, present."""
    from exporter.health.measures import BY_NAME, SECONDS_TO_FULL  # noqa: PLC0415
    from exporter.health.thresholds import Status, evaluate  # noqa: PLC0415
    from exporter.nagios import output  # noqa: PLC0415
    from exporter.nagios.arguments import SYSCTL  # noqa: PLC0415

    configured, expected = _configured(options)
    seen = _from_daemon(options, configured) if options.url is not None else _from_kernel(options, configured, expected)
    results = evaluate({name: seen.values[name] for name in seen.thresholds}, seen.thresholds)
    shown = evaluate(seen.values, seen.thresholds)
    reasons = {result.measure: seen.why(result.measure) for result in results if result.value is None}
    outlook = BY_NAME[SECONDS_TO_FULL].read(seen.snapshot) if SECONDS_TO_FULL in seen.thresholds else None
    if outlook is not None:
        reasons[SECONDS_TO_FULL] = outlook.place
    found, details = None, list[str]()
    if seen.drift is not None:
        details += seen.drift.lines.values()
        if seen.drift.lines and seen.drift.problem is None:
            reasons[SYSCTL] = ", ".join(seen.drift.lines)
    if seen.findings is not None:
        from exporter.nagios import findings  # noqa: PLC0415 - the rules

        found = findings.item(seen.findings[0])
        details += findings.explain(*seen.findings) if options.verbose else ()
    if options.verbose:
        from exporter.nagios.details import explain, provenance  # noqa: PLC0415

        alerting = [result for result in results if result.status in {Status.WARNING, Status.CRITICAL}]
        is_found = found is not None and found.status in {Status.WARNING, Status.CRITICAL}
        explained = alerting if is_found else alerting or results
        details += explain(explained, seen.snapshot, expected, _release(options))
        details += (*seen.origin, *provenance(seen.snapshot)) if options.verbose > 1 else ()
    return output.report(results, shown, details, reasons, found)


def _from_daemon(options: Options, configured: Mapping[str, Threshold] | None) -> Seen:
    """Ask the daemon. Where -s all finds no thresholds of our own, those of the daemon decide."""
    from exporter.client import Access  # noqa: PLC0415 - an HTTP client costs more than the whole check
    from exporter.document import read as remote  # noqa: PLC0415
    from exporter.health.thresholds import DEFAULTS  # noqa: PLC0415
    from exporter.nagios.arguments import SYSCTL, judged  # noqa: PLC0415

    access = Access(options.ca_file, options.cert_file, options.key_file, options.credentials_file)
    answer = remote.ask(options.url or "", access)
    concluded = answer.conclusions() if options.findings else None
    if configured is None:
        configured = concluded.thresholds if concluded is not None and options.everything else DEFAULTS
    thresholds = judged(options, configured, drift=answer.expectations > 0)
    drift = answer.drift() if SYSCTL in thresholds else None

    def why(name: str) -> str:
        told = answer.reason(name, peak=options.peak)
        return told or _why(name, answer.snapshot, drift, options.port)

    values = answer.values(_shown(thresholds), peak=options.peak) | _value(drift)
    if options.port:  # what the daemon counts is not of this port
        values = _of_port(options.port, thresholds, answer.snapshot)
    return Seen(
        snapshot=answer.snapshot,
        thresholds=thresholds,
        values=values,
        why=why,
        drift=drift,
        findings=None if concluded is None else (concluded.judgements, concluded.not_judged),
        origin=(answer.origin(peak=options.peak),),
    )


def _from_kernel(options: Options, configured: Mapping[str, Threshold] | None, expected: Expectations) -> Seen:
    """Read this host: once, or for the findings twice; only what is asked for."""
    from exporter.health import measures  # noqa: PLC0415
    from exporter.health.thresholds import DEFAULTS  # noqa: PLC0415
    from exporter.nagios.arguments import SYSCTL, judged  # noqa: PLC0415
    from exporter.sampling import once  # noqa: PLC0415
    from exporter.tcpstate import TcpState  # noqa: PLC0415

    thresholds = judged(options, DEFAULTS if configured is None else configured, drift=bool(expected))
    names = _shown(thresholds)
    needs = frozenset[str]().union(*(measures.BY_NAME[name].needs for name in names))
    pause = min(_APART, options.timeout / 4)
    wanted, findings = None, None
    # A person who reads -v wants to know how many of the established connections have no keepalive.
    explains = options.verbose > 0 and not options.port and TcpState.ESTABLISHED.label in thresholds
    if options.findings or measures.DETAIL in needs or explains:
        from exporter.defaults import QUALITY  # noqa: PLC0415
        from exporter.sampling.detailer import Wanted  # noqa: PLC0415

        quality = QUALITY if options.findings else "off"
        wanted = Wanted(stateless=options.findings or measures.PROCESSES in needs, quality=quality)
    if options.findings and wanted is not None:
        from exporter.health.findings import RULES  # noqa: PLC0415
        from exporter.health.judge import judge_findings  # noqa: PLC0415
        from exporter.health.window import Window  # noqa: PLC0415

        older, snapshot = once.apart(pause, options.procfs, options.reader, wanted)
        findings = judge_findings(Window(snapshot, (older,)), RULES)
    elif measures.RATES in needs:
        _, snapshot = once.apart(pause, options.procfs, options.reader, wanted, port=options.port, units=False)
    else:
        snapshot = once.snapshot(
            options.procfs,
            options.reader,
            netstat=False,
            sysctls=options.verbose > 0 or SYSCTL in thresholds or measures.SYSCTLS in needs,
            queues=measures.LISTENERS in needs,
            conntrack=measures.CONNTRACK in needs,
            wanted=wanted,
            units=False,
            port=options.port,
        )
    drift = None
    if SYSCTL in thresholds:
        from exporter.health.sysctls.drift import drift_of  # noqa: PLC0415 - the profile and the catalogue

        drift = drift_of(snapshot, expected)
    return Seen(
        snapshot=snapshot,
        thresholds=thresholds,
        values=measures.values(measures.readings(snapshot, names))
        | (_of_port(options.port, names, snapshot) if options.port else {})
        | _value(drift),
        why=lambda name: _why(name, snapshot, drift, options.port),
        drift=drift,
        findings=findings,
    )


def _shown(thresholds: Iterable[str]) -> list[str]:
    """The measures of the performance data: every state, then what else is judged."""
    from exporter.nagios.arguments import SYSCTL  # noqa: PLC0415
    from exporter.tcpstate import BY_LABEL  # noqa: PLC0415

    return [name for name in dict.fromkeys((*BY_LABEL, *thresholds)) if name != SYSCTL]


def _value(drift: Drift | None) -> dict[str, float | None]:
    from exporter.nagios.arguments import SYSCTL  # noqa: PLC0415

    return {} if drift is None else {SYSCTL: drift.value}


def _of_port(port: int, names: Iterable[str], snapshot: Snapshot) -> dict[str, float | None]:
    """The values of those measures that can be told of one local port beside its sockets."""
    from exporter.health.measures import BY_NAME  # noqa: PLC0415

    asked = (BY_NAME[name] for name in names if name in BY_NAME)
    return {it.name: it.value_of(it.of_port(snapshot, port)) for it in asked if it.of_port is not None}


def _why(name: str, snapshot: Snapshot, drift: Drift | None, port: int) -> str:
    from exporter.health.measures import BY_NAME, no_drops_of  # noqa: PLC0415

    if port and name in BY_NAME and BY_NAME[name].of_port is not None:
        return no_drops_of(snapshot, port)
    return BY_NAME[name].unknown(snapshot) if name in BY_NAME else (drift and drift.problem) or "not told"


def _configured(options: Options) -> tuple[Mapping[str, Threshold] | None, Expectations]:
    """The file's thresholds and expected sysctls; YAML is imported only where there is a file."""
    if options.config is None:
        return None, {}
    from exporter.errors import UsageError  # noqa: PLC0415

    try:
        from exporter.config.file import load  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "yaml":
            raise
        raise UsageError(
            "--config: expected the package PyYAML beside the plugin: this Python does not have it"
        ) from None

    settings = load(options.config, options.procfs)
    return settings.thresholds, settings.sysctl.expected


def _release(options: Options) -> str:
    """The release of the kernel that is judged; a daemon does not tell its own."""
    if options.url is not None:
        return ""
    from exporter.kernel.reader import Procfs  # noqa: PLC0415

    return Procfs(options.procfs).release()
