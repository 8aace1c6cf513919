"""``make soak``: the load and the day at full size, printed as tables: ``python -m tests.soak [--output FILE]``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.lab import LabProcess, LabUnavailable
from tests.soak.day import DAY, Day, day
from tests.soak.load import CLIENTS, Load, Missing, load

MOST_GROWTH = {"resident": 1024, "descriptors": 2, "threads": 1}
"""That is none: KiB of memory within what the allocator moves up and down, the sockets of the two passes and the thread
of a reload that are there at one moment and not at another. What leaks, leaks by the hundred.
"""


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 where something failed or grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--samples", type=int, default=DAY, help="of the day (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=120, help="of the load (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="write the results as JSON to this file")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder, LabProcess() as lab:
            held = load(lab, Path(folder), options.seconds)
            _show_load(held)
        with tempfile.TemporaryDirectory() as folder, LabProcess() as lab:
            lived = day(lab, Path(folder), options.samples)
            _show_day(lived)
    except Missing as program:
        print(f"{program} is not installed", file=sys.stderr)
        return 2
    except LabUnavailable as error:
        print(error, file=sys.stderr)
        return 2
    if options.output:
        results = {"load": _summary_of_load(held), "day": _summary_of_day(lived)}
        options.output.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    grown = [name for name, most in MOST_GROWTH.items() if lived.growth[name] > most]
    return 1 if held.failed or held.refused or held.growth > MOST_GROWTH["resident"] or grown else 0


def _show_load(held: Load) -> None:
    print(f"LOAD: {sum(CLIENTS.values()) + 1} clients that have a connection or want one again, {held.seconds} s")
    print(
        f"{held.scrapes:>9}  scrapes by Prometheus, {held.failed} failed, the slowest took {held.slowest * 1000:.0f} ms"
    )
    for name, number in held.clients.items():
        print(f"{number:>9}  {name}")
    print(f"{held.resident[-1]:>9}  KiB of memory at the end; {held.growth:+} after the first third", flush=True)


def _show_day(lived: Day) -> None:
    last = lived.marks[-1]
    print(f"DAY: {last.samples} samples in {last.seconds:.0f} s, with churn")
    print(f"{lived.requests:>9}  requests, {lived.reloads} reloads, {lived.checks} checks by the plugin; none failed")
    print(f"{'SAMPLES':>9}{'SECONDS':>9}{'MEMORY':>12}{'DESCRIPTORS':>13}{'THREADS':>9}")
    for it in lived.marks[:: max(1, len(lived.marks) // 10)]:
        print(f"{it.samples:>9}{it.seconds:>9.0f}{it.resident:>8} KiB{it.descriptors:>13}{it.threads:>9}")
    grown = lived.growth
    print(f"{'growth':>18}{grown['resident']:>+8} KiB{grown['descriptors']:>+13}{grown['threads']:>+9}", flush=True)


def _summary_of_load(held: Load) -> dict[str, object]:
    return {
        "clients": CLIENTS, "seconds": held.seconds, "scrapes": held.scrapes, "failed": held.failed,
        "slowest_seconds": held.slowest, "growth_kib": held.growth, "resident_kib": held.resident[-1],
        "became": held.clients,
    }  # fmt: skip


def _summary_of_day(lived: Day) -> dict[str, object]:
    last = lived.marks[-1]
    return {
        "samples": last.samples, "seconds": last.seconds, "requests": lived.requests, "reloads": lived.reloads,
        "checks": lived.checks, "growth": lived.growth, "resident_kib": last.resident,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
