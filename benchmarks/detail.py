"""What the detail pass costs beside the dump that it reads: CPU, as ratios of one run, interleaved.

Run it in the lab, which makes the sockets::

    .venv/bin/python -m tests.lab --family 4 --establish 15000 --time-wait 4000 -- .venv/bin/python benchmarks/detail.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from exporter.kernel import inetdiag
from exporter.kernel.detail import DetailDump, EphemeralPorts
from exporter.kernel.reader import NetlinkReader

ROUNDS = 15


class Thrown:
    """Takes the replies and looks at nothing but whether the dump is complete."""

    def add(self, reply: bytes) -> bool:
        last = reply[-20:]
        return last[:6] == b"\x14\x00\x00\x00\x03\x00"


def main() -> None:
    """Measure and print."""
    reader = NetlinkReader()
    listening = frozenset({443})

    def begin() -> DetailDump:
        return DetailDump(listening, listening, frozenset(), EphemeralPorts(32768, 60999))

    def detail() -> None:
        dump = reader.collect(inetdiag.ALL_STATES & ~inetdiag.MINI_STATES, begin)
        dump.merge(reader.collect(inetdiag.MINI_STATES, begin))

    measured: dict[str, Callable[[], object]] = {
        "bare hash walk": lambda: reader.collect(1 << 7, Thrown),
        "full dump, thrown away": lambda: reader.collect(inetdiag.ALL_STATES, Thrown),
        "detail pass, dump and parsing": detail,
        "counting pass, two states left out": lambda: reader.dump(inetdiag.COPIED_STATES),
    }
    costs: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(ROUNDS):
        for name, run in measured.items():
            started = time.process_time()
            run()
            costs[name].append(time.process_time() - started)
    medians = {name: statistics.median(values) for name, values in costs.items()}
    sockets = reader.dump(inetdiag.ALL_STATES).total()
    print(f"{sockets} sockets, CPU milliseconds, median of {ROUNDS}, and against the dump that is thrown away")
    for name, cost in medians.items():
        print(f"{name:36} {cost * 1e3:8.2f} {cost / medians['full dump, thrown away']:6.2f}")


if __name__ == "__main__":
    main()
