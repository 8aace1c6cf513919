"""``check_tcp_states``: the plugin's composition root, from arguments to one answer and an exit code.

It reads the kernel itself and needs no daemon. Nothing heavy is imported before an option asks for it, and everything
is imported inside the guard: whatever goes wrong is one line on standard output and exit 3, never a traceback.
"""

from __future__ import annotations

import os
import signal
import sys

from exporter.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

    from exporter.nagios.arguments import Options
    from exporter.snapshot import Snapshot
    from exporter.thresholds import Status, Threshold

EXIT_UNKNOWN = 3


def main() -> None:
    """Run as a program."""
    verbose = any(argument.startswith("-vvv") for argument in sys.argv[1:])
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
    _finish(code, text)


def run(arguments: Sequence[str]) -> tuple[int, str]:
    """The exit code and the text for *arguments*."""
    from exporter.errors import ExporterError  # noqa: PLC0415 - inside the guard, as all imports here
    from exporter.nagios import arguments as command_line  # noqa: PLC0415
    from exporter.nagios import output  # noqa: PLC0415
    from exporter.thresholds import Status  # noqa: PLC0415

    try:
        options = command_line.parse(arguments)
        if options.show == "help":
            return EXIT_UNKNOWN, command_line.HELP.rstrip()
        if options.show == "version":
            from exporter import __version__  # noqa: PLC0415

            return EXIT_UNKNOWN, f"check_tcp_states {__version__}"
        late = output.failure(options.timeout_status, f"no answer within {options.timeout:g} s")
        _arm(options.timeout, options.timeout_status.value, late)
        try:
            status, text = _check(options)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except ExporterError as error:
        return EXIT_UNKNOWN, output.failure(Status.UNKNOWN, " ".join(str(error).split("\n")))
    return status.value, text


def _check(options: Options) -> tuple[Status, str]:
    """Acquire, evaluate, present."""
    from exporter import measures  # noqa: PLC0415
    from exporter.nagios import arguments as command_line  # noqa: PLC0415
    from exporter.nagios import output  # noqa: PLC0415
    from exporter.thresholds import evaluate  # noqa: PLC0415

    thresholds = command_line.judged(options, _thresholds(options.config))
    with_sysctls = options.verbose > 0 or any(name.endswith("_ratio") for name in thresholds)
    snapshot = _snapshot(options, with_sysctls=with_sysctls)

    results = evaluate(measures.read(snapshot, thresholds), thresholds)
    shown = evaluate(measures.read(snapshot, dict.fromkeys((*measures.STATES, *thresholds))), thresholds)

    details: list[str] = []
    if options.verbose or any(result.value is None for result in results):
        from exporter.nagios.details import explain, problems, provenance  # noqa: PLC0415

        details += explain(results, snapshot) if options.verbose else ()
        details += provenance(snapshot) if options.verbose > 1 else ()
        if any(result.value is None for result in results):
            return output.report(results, shown, details, "; ".join(problems(snapshot)))
    return output.report(results, shown, details)


def _thresholds(config: str | None) -> Mapping[str, Threshold]:
    """The thresholds of the file, or the defaults; YAML is imported only where there is a file."""
    if config is None:
        from exporter.thresholds import DEFAULTS  # noqa: PLC0415

        return DEFAULTS
    from exporter.configfile import load  # noqa: PLC0415

    return load(config).thresholds


def _snapshot(options: Options, *, with_sysctls: bool) -> Snapshot:
    import mmap  # noqa: PLC0415
    import time  # noqa: PLC0415

    from exporter.kernel.reader import Procfs  # noqa: PLC0415
    from exporter.sampling.sampler import Sampler, assemble, readers  # noqa: PLC0415

    procfs = Procfs(options.procfs)
    sampler = Sampler(procfs, readers(options.reader, procfs), os.uname().release, time.monotonic)
    counted = sampler.count(netstat=False)
    sysctls, problem = sampler.sysctls() if with_sysctls else ({}, None)
    return assemble(counted, sysctls, problem, taken_at=time.time(), page_size=mmap.PAGESIZE)


def _arm(seconds: float, code: int, text: str) -> None:
    """End the process with *text* after *seconds*, whatever it is doing: nothing can catch or delay this."""

    def expire(_signal: int, _frame: FrameType | None) -> None:
        _finish(code, text)

    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _finish(code: int, text: str) -> None:
    try:
        os.write(1, text.encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        code = EXIT_UNKNOWN  # nobody can have read the answer
    os._exit(code)
