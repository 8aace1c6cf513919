"""``python -m benchmarks``: makes the sockets, lets everybody count them in turns, and writes what that cost.

It enters a network namespace of its own and leaves nothing behind. The results are written at the end, all or none:
results.md, results.json and the plots. Exit status 1 means that a run failed, or that a smoke run left a row empty.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from benchmarks import daemon, documents, floor, machine, ours, peers, plugin
from benchmarks.figures import figures
from benchmarks.installed import virtualenv
from benchmarks.meter import ROOT, Failed
from benchmarks.plan import PLANS, Plan
from benchmarks.plot import plots
from benchmarks.population import Population, beside, enter_namespace, population
from benchmarks.report import figures_table, markdown
from benchmarks.results import ESTABLISHED, Key, Results, of_json, to_json
from benchmarks.rounds import Contender, Taken, interleave
from exporter.errors import SourceError
from tests.lab.namespace import LabError, LabUnavailable

_FAILED, _INTERRUPTED = 1, 130
_TIME_WAIT_SECONDS = 40.0  # of the 60 that a TIME_WAIT lasts
_LEFT_SECONDS = 65.0  # what others left behind is gone by then: a TIME_WAIT lasts 60
_LOOK_AGAIN_SECONDS = 0.05


class Run:
    """One run of a plan; ``results`` is what it has found so far."""

    def __init__(self, plan: Plan, folder: str) -> None:
        self._plan = plan
        self._folder = folder
        self._started = time.monotonic()
        self._cells: dict[Key, list[float]] = {}
        self._missing: dict[str, str] = {}
        self._machine: dict[str, str] = {}

    @property
    def results(self) -> Results:
        """What was found so far."""
        return Results(self._machine, self._plan.name, self._cells, self._missing)

    def everything(self) -> None:
        """All that the plan has. Raises ``LabError`` where the sockets cannot be made at all."""
        plan = self._plan
        others = machine.sockets()
        with population(ESTABLISHED, plan.sizes[0]) as filled:
            self._machine = machine.describe(filled.buckets, others)
            self._at(filled)
            self._whole_daemon(plan.sizes[0])
            for size in plan.sizes[1:]:
                if not self._grown(filled, size):
                    break
                self._at(filled)
            self._whole_daemon(filled.size)
        self._say(f"{plan.listeners:,} listeners: requests for the page and the JSON")
        self._values(plan.listeners, documents.documents(self._folder, plan))
        for mix, size in plan.mixed:
            self._beside(mix, size)
        self._machine["taken in"] = f"{(time.monotonic() - self._started) / 60:.1f} minutes"

    def _grown(self, filled: Population, size: int) -> bool:
        try:
            filled.grow(size)
        except LabError as error:
            self._missing[f"{size:,} established sockets"] = f"{error}; the largest size is {filled.size:,}"
            self._say(f"{size:,} sockets cannot be made: {error}; the largest size is {filled.size:,}")
            filled.refresh()  # raises if some were made all the same
            return False
        return True

    def _at(self, filled: Population) -> None:
        """Everything of samples at one size, and what has its own sizes."""
        plan, size = self._plan, filled.size
        # Ours with the floor first, then the peers: one that takes a minute would part what is to be held side by side.
        for who, contenders in (("ours", self._own), ("peers", self._peers)):
            with ExitStack() as stack:
                self._say(f"{size:,} established: {who} in turns")
                before = self._nothing_beside(ESTABLISHED, size, f", {who} in turns")
                taken = interleave(contenders(stack), rounds=plan.rounds, seconds=plan.seconds, before=before)
                self._keep(ESTABLISHED, size, taken)
        if size == plan.idle_size:
            self._say(f"{size:,} established: the daemon left alone for {plan.idle_seconds:g} s")
            self._nothing_beside(ESTABLISHED, size, ", the daemon left alone")()
            self._values(size, daemon.idle(self._folder, plan))
        if size in plan.plugin_sizes:
            self._say(f"{size:,} established: the plugin")
            runs = plugin.contenders(self._folder)
            before = self._nothing_beside(ESTABLISHED, size, ", the plugin")
            taken = interleave(runs, rounds=plan.plugin_runs, seconds=plan.plugin_seconds, before=before)
            self._keep(ESTABLISHED, size, taken)

    def _whole_daemon(self, size: int) -> None:
        self._say(f"{size:,} established: the daemon's start, memory and scrapes")
        self._values(size, daemon.life(self._folder, self._plan))
        self._values(size, daemon.scrapes(self._folder, self._plan))
        self._say(f"{size:,} established: the age of the daemon's numbers")
        self._values(size, daemon.ages(self._folder, self._plan))

    def _beside(self, mix: str, size: int) -> None:
        self._say(f"{size:,} {mix}")
        plan = self._plan
        self._nothing_beside(mix, 0, f" before the {size:,} are made")()
        before = self._nothing_beside(mix, size)
        try:
            with population(mix, size) as filled, ExitStack() as stack:
                contenders = self._ours(stack, parts=False)  # so that there are several rounds before TIME_WAIT ends
                if (mix, size) in plan.peers_beside:
                    contenders += peers.contenders(stack, self._folder)
                filled.refresh()
                until = time.monotonic() + _TIME_WAIT_SECONDS
                taken = interleave(
                    contenders, rounds=plan.rounds, seconds=plan.mixed_seconds, until=until, before=before
                )
                self._keep(mix, size, taken)
        except LabError as error:
            self._missing[f"{size:,} {mix} sockets"] = str(error)
            self._say(f"not measured: {error}")

    def _nothing_beside(self, mix: str, size: int, when: str = "") -> Callable[[], None]:
        """What waits until only the sockets of the mix and listeners are there, and says so where others stay.

        They are measured with it then. Listeners are in a table of their own, which no walk of connections enters.
        """
        what = f"nothing but the {size:,} {mix} sockets{when}"

        def wait() -> None:
            end = time.monotonic() + _LEFT_SECONDS
            while (left := beside(mix, size)) and what not in self._missing:
                if left < 0 or time.monotonic() > end:
                    self._missing[what] = f"there were {left:+,} others"
                    self._say(f"not measured: {what}: {self._missing[what]}")
                time.sleep(_LOOK_AGAIN_SECONDS)

        return wait

    def _peers(self, stack: ExitStack) -> list[Contender]:
        return peers.contenders(stack, self._folder)

    def _own(self, stack: ExitStack) -> list[Contender]:
        return self._ours(stack, parts=True)

    def _ours(self, stack: ExitStack, *, parts: bool) -> list[Contender]:
        return [*floor.contenders(), *ours.in_process(parts=parts), ours.daemon(stack, self._folder)]

    def _keep(self, mix: str, size: int, taken: Taken) -> None:
        for what, costs in taken.costs.items():
            for quantity in ("cpu", "wall", "peak", "counted"):
                values = [value for cost in costs if (value := getattr(cost, quantity)) is not None]
                if values:
                    self._cells[Key(what, quantity, mix, size)] = values
        for what, reason in taken.failed.items():
            self._missing[what] = reason
            self._say(f"not measured: {what}: {reason}")

    def _values(self, size: int, values: Iterable[daemon.Value]) -> None:
        try:
            for what, quantity, value in values:
                self._cells.setdefault(Key(what, quantity, ESTABLISHED, size), []).append(value)
        except Failed as error:
            self._missing["daemon"] = str(error)
            self._say(f"not measured: {error}")

    def _say(self, what: str) -> None:
        print(f"{time.monotonic() - self._started:6.0f} s  {what}", file=sys.stderr, flush=True)


def write(results: Results, folder: str) -> list[str]:
    """Write the report, the results and the plots, each whole or not at all; the paths."""
    os.makedirs(folder, exist_ok=True)
    files = {"results.md": markdown(results), "results.json": to_json(results), **plots(results)}
    for name, text in files.items():
        with open(os.path.join(folder, f"{name}.new"), "w", encoding="utf-8") as file:
            file.write(text)
    for name in files:
        os.replace(os.path.join(folder, f"{name}.new"), os.path.join(folder, name))
    return [os.path.join(folder, name) for name in files]


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Ours and its peers side by side, in one run, by number of sockets.",
        allow_abbrev=False,
    )
    plans = parser.add_mutually_exclusive_group()
    plans.add_argument(
        "--quick", dest="plan", action="store_const", const="quick", help="to 100,000 sockets, in 5 minutes"
    )
    plans.add_argument(
        "--smoke", dest="plan", action="store_const", const="smoke", help="300 sockets: does it all work?"
    )
    plans.add_argument("--show", metavar="FILE", help="write the report and the plots of a results.json anew")
    parser.add_argument("--output", metavar="DIR", required=True, help="where the results are written")
    parser.set_defaults(plan="full")
    options = parser.parse_args(arguments)
    if options.show:
        with open(options.show, encoding="utf-8") as file:
            return _finish(of_json(file.read()), options.output)
    return _guarded(lambda: _measure(PLANS[options.plan], options.output))


def _measure(plan: Plan, output: str) -> int:
    output = os.path.abspath(output)
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        virtualenv(folder)  # as long as there is a network
        enter_namespace()
        run = Run(plan, folder)
        run.everything()
    return _finish(run.results, output, strict=plan.name == "smoke")


def _finish(results: Results, output: str, *, strict: bool = False) -> int:
    results = of_json(to_json(results))  # rounded as they are kept, so that the report can be made of them again
    rows = figures(results)
    print(figures_table(rows), end="\n\n")
    for what, why in results.missing.items():
        print(f"not measured: {what}: {why}")
    print("written:", *(os.path.relpath(path) for path in write(results, output)))
    empty = [row.what for row in rows if row.reached is None]
    if strict and (empty or results.missing):
        print(f"benchmarks: not measured: {'; '.join([*empty, *results.missing])}", file=sys.stderr)
        return _FAILED
    return 0


def _guarded(work: Callable[[], int]) -> int:
    """Errors in one line; SIGTERM ends as Ctrl-C does, so that what was started is ended."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        return work()
    except KeyboardInterrupt:
        print("benchmarks: interrupted; nothing was written", file=sys.stderr)
        return _INTERRUPTED
    except LabUnavailable as error:
        print(
            f"benchmarks: a network namespace is needed, and root or user namespaces for it: {error}", file=sys.stderr
        )
    except (LabError, SourceError, Failed, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
    return _FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
