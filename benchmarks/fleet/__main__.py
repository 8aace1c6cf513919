"""``python -m benchmarks.fleet``: what a fleet costs and how it behaves; ``docs/performance.md`` has what it prints.

Each part is a section of the output: one Prometheus for all daemons, the sharded servers with a failure, and simulated
hosts. It enters a network namespace of its own and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence

from benchmarks.fleet import sharded, simulated, single
from benchmarks.fleet.hosts import hosts, page
from benchmarks.fleet.queries import Timed
from benchmarks.meter import Failed
from benchmarks.population import enter_namespace
from tests.lab.namespace import LabError

_STORES = "prometheus", "victoria-metrics"


def main(arguments: Sequence[str]) -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=200, metavar="N", help="real daemons (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=180.0, metavar="S", help="one Prometheus scrapes (default: %(default)s)"
    )
    parser.add_argument(
        "--brief", action="store_true", help="alerts wait for seconds instead of minutes, as no fleet's do"
    )
    parser.add_argument(
        "--simulated", type=_sizes, default=[500, 1000, 2000, 4000], metavar="N,...",
        help="sizes in hosts, at least three, or 0 for none (default: 500,1000,2000,4000)",
    )  # fmt: skip
    parser.add_argument(
        "--scrapes", type=int, default=8, metavar="N", help="of each simulated host (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        enter_namespace()
        with tempfile.TemporaryDirectory() as folder:
            with hosts(folder, options.hosts) as addresses:
                example = page(addresses[0])
                one = single.measured(folder, addresses, options.seconds)
                _say(single.report(one, options.hosts))
                many = sharded.measured(folder, addresses, brief=options.brief)
                _say(sharded.report(many))
                _say(_queries(one.queries, many.federated, many.written))
            for store in _STORES if options.simulated else ():
                _say(
                    simulated.report(
                        store, simulated.measured(folder, example, options.simulated, store, options.scrapes)
                    )
                )
    except (Failed, LabError) as error:
        print(f"fleet: {error}", file=sys.stderr)
        return 1
    return 0


def _sizes(text: str) -> list[int]:
    sizes = [int(size) for size in text.split(",")]
    if sizes == [0]:
        return []
    if len(sizes) < 3 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected at least three sizes, or 0")
    return sizes


def _say(lines: Sequence[str]) -> None:
    print(*lines, "", sep="\n", flush=True)


def _queries(one: Sequence[Timed], federated: Sequence[Timed], written: Sequence[Timed]) -> list[str]:
    lines = [
        "| Panel of the fleet dashboard | Query | One Prometheus | Global, by federation | VictoriaMetrics |",
        "| --- | --- | --- | --- | --- |",
    ]
    for timed in zip(one, federated, written, strict=True):
        query = timed[0].query
        cells = " | ".join(f"{it.seconds * 1e3:.1f} ms, {it.series} series" for it in timed)
        lines.append(f"| {query.panel} | {'now' if query.instant else 'an hour'} | {cells} |")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
