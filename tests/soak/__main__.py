"""``make soak``: what the daemon bears, at full size, printed as tables: ``python -m tests.soak [--output FILE]``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.lab import LabProcess, LabUnavailable
from tests.soak.day import DAY, Day, day
from tests.soak.far import RATE, ROUND_TRIP, Far, far
from tests.soak.large import Held, large
from tests.soak.load import CLIENTS, Load, Missing, load

MOST_GROWTH = {"resident": 1024, "descriptors": 2, "threads": 1}
"""That is none: KiB of memory within what the allocator moves up and down, the sockets of the two passes and the thread
of a reload that are there at one moment and not at another. What leaks, leaks by the hundred.
"""


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 where something failed or grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--samples", type=int, default=DAY, help="of the day (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=int, default=120, help="of the load, and of hurried passes (default: %(default)s)"
    )
    parser.add_argument("--scrapes", type=int, default=30, help="beside each flood (default: %(default)s)")
    parser.add_argument(
        "--part", dest="parts", action="append", choices=PARTS, help="run this; repeatable (default: all)"
    )
    parser.add_argument("--output", type=Path, help="write the results as JSON to this file; other parts in it stay")
    options = parser.parse_args(arguments)
    results: dict[str, object] = {}
    if options.output and options.output.exists():
        results = json.loads(options.output.read_text("utf-8"))
    bad = []
    try:
        for name in options.parts or PARTS:
            results[name], is_good = PARTS[name](options)
            bad += [] if is_good else [name]
    except Missing as program:
        print(f"{program} is not installed", file=sys.stderr)
        return 2
    except LabUnavailable as error:
        print(error, file=sys.stderr)
        return 2
    if options.output:
        options.output.write_text(
            json.dumps({name: results[name] for name in PARTS if name in results}, indent=2) + "\n"
        )
    if bad:
        print("failed:", *bad, file=sys.stderr)
    return 1 if bad else 0


def _load(options: argparse.Namespace) -> tuple[object, bool]:
    with tempfile.TemporaryDirectory() as folder, LabProcess() as lab:
        held = load(lab, Path(folder), options.seconds)
    _show_load(held)
    return _summary_of_load(held), not held.failed and not held.refused and held.growth <= MOST_GROWTH["resident"]


def _far(options: argparse.Namespace) -> tuple[object, bool]:
    with tempfile.TemporaryDirectory() as folder, LabProcess() as lab:
        floods = far(lab, Path(folder), options.scrapes)
    _show_far(floods)
    return _summary_of_far(floods), not any(it.failed for it in floods)


def _large(options: argparse.Namespace) -> tuple[object, bool]:
    hosts = []
    for seconds in (0, options.seconds):
        with tempfile.TemporaryDirectory() as folder, LabProcess() as lab:
            hosts.append(large(lab, Path(folder), seconds=seconds))
    _show_large(hosts)
    summary = [it._asdict() | {"size": it.size._asdict(), "slowest": round(it.slowest, 4)} for it in hosts]
    return summary, not any(it.killed or max(it.peak, it.charged) >= it.limit for it in hosts)


def _day(options: argparse.Namespace) -> tuple[object, bool]:
    with tempfile.TemporaryDirectory() as folder, LabProcess() as lab:
        lived = day(lab, Path(folder), options.samples)
    _show_day(lived)
    return _summary_of_day(lived), all(lived.growth[name] <= most for name, most in MOST_GROWTH.items())


PARTS = {"load": _load, "far": _far, "large": _large, "day": _day}
"""What there is, by its name in the results; each returns its results and whether they are as they should be."""


def _show_load(held: Load) -> None:
    print(f"LOAD: {sum(CLIENTS.values()) + 1} clients that have a connection or want one again, {held.seconds} s")
    print(
        f"{held.scrapes:>9}  scrapes by Prometheus, {held.failed} failed, the slowest took {held.slowest * 1000:.0f} ms"
    )
    for name, number in held.clients.items():
        print(f"{number:>9}  {name}")
    print(f"{held.resident[-1]:>9}  KiB of memory at the end; {held.growth:+} after the first third", flush=True)


def _show_far(floods: Sequence[Far]) -> None:
    print(f"FAR: a scraper {ROUND_TRIP * 1000:.0f} ms away, beside {RATE} new silent connections a second")
    for it in floods:
        print(f"{it.scrapes:>9}  {it.scheme}, {it.flood} ({it.per_second:.0f} a second): {len(it.failed)} failed, "
              f"the slowest took {it.slowest:.2f} s")  # fmt: skip
    print(flush=True)


def _show_large(hosts: Sequence[Held]) -> None:
    for it in hosts:
        print("LARGE:", ", ".join(f"{number:,} {name}" for name, number in it.size._asdict().items()))
        print(f"{it.peak // 2**20:>9}  MiB of resident memory at most, the limit is {it.limit // 2**20}; "
              f"{it.charged // 2**20} charged to the cgroup; {it.passes} detail passes")  # fmt: skip
        print(f"{it.slowest * 1000:>9.0f}  ms for the slowest answer beside the unread", flush=True)


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


def _summary_of_far(floods: Sequence[Far]) -> dict[str, object]:
    return {
        "round_trip_seconds": ROUND_TRIP,
        "connections_per_second": RATE,
        "scrapes": sum(it.scrapes for it in floods),
        "failed": sum(len(it.failed) for it in floods),
        "slowest_seconds": round(max(it.slowest for it in floods), 3),
        "floods": [it._asdict() | {"slowest": round(it.slowest, 3)} for it in floods],
    }


def _summary_of_day(lived: Day) -> dict[str, object]:
    last = lived.marks[-1]
    return {
        "samples": last.samples, "seconds": last.seconds, "requests": lived.requests, "reloads": lived.reloads,
        "checks": lived.checks, "growth": lived.growth, "resident_kib": last.resident,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
