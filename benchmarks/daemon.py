"""The daemon as a whole: how soon it is ready, what memory it keeps, what it uses when left alone, how fast it answers.

All with the default configuration, except for the hour's worth of samples, which would take an hour.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import product
from typing import NamedTuple

from benchmarks.floor import NO_STATE, dump
from benchmarks.load import Load
from benchmarks.meter import ROOT, Failed, apart, in_thread, memory, process_cpu, run
from benchmarks.peers import BESIDE
from benchmarks.plan import Plan
from benchmarks.server import Server, node_exporter, our_daemon


class Clients(NamedTuple):
    """Clients that scrape at once, each every so many seconds; 0: without pause."""

    number: int
    every: float = 0.0

    def __str__(self) -> str:
        """In words.

        >>> [str(clients) for clients in CLIENTS]
        ['1 client', '40 clients, each every 250 ms', '40 clients without pause']
        """
        if self.number == 1:
            return "1 client"
        return f"{self.number} clients" + (f", each every {self.every * 1e3:g} ms" if self.every else " without pause")


ONE, PACED, SATURATED = CLIENTS = Clients(1), Clients(40, 0.25), Clients(40)
"""One, whose latency is that of an answer; many at a pace that leaves the server idle for most of the time, as those
of users do; and what it can answer at most, where the latency is the queue of the clients."""

ENCODINGS = ("gzip", "plain")
_SAMPLES = 'tcp_exporter_samples_total{pass="%s"}'
_DETAIL_CPU, _LIGHT_CPU = (f'tcp_exporter_sample_cpu_seconds{{pass="{kind}"}}' for kind in ("detail", "light"))
_LIGHT_STAMP, _WALK_STAMP = (f"tcp_exporter_{kind}_timestamp_seconds" for kind in ("sample", "walk"))
_PAUSE = 0.2
_SETTLED_SECONDS = 2.0
_WINDOW_SECONDS = 15.0  # of rest: one detail pass is in each
_HOUR_SAMPLES = 3600  # one a second
_HURRIED = os.path.join(ROOT, "benchmarks", "scripts", "hurried_daemon.py")

Value = tuple[str, str, float]
"""Of what, which quantity, and how much of it."""


def scrape(quantity: str, clients: Clients, encoding: str) -> str:
    """The name of a quantity of scrapes.

    >>> scrape("p50", ONE, "gzip")
    'scrape p50, 1 client, gzip'
    """
    return f"scrape {quantity}, {clients}, {encoding}"


def life(folder: str, plan: Plan) -> Iterator[Value]:
    """Starts and the memory after them; then an hour's worth of samples, or as many as the plan has time for."""
    for _ in range(plan.starts):
        with our_daemon(folder) as server:
            yield "ours", "start", server.wait_for("/-/ready")
            _until(server, lambda counts: counts["detail"] >= 1)
            yield "daemon_detail", "cpu", server.metrics()[_DETAIL_CPU]
            time.sleep(_SETTLED_SECONDS)
            yield from _memory(server, "after start")
    with our_daemon(folder, script=_HURRIED) as server:
        server.wait_for("/-/ready")
        end = time.monotonic() + plan.hour_seconds
        counts = _until(server, lambda counts: counts["light"] >= _HOUR_SAMPLES or time.monotonic() > end)
        yield from _memory(server, "after samples")
        yield "ours", "counting passes before", counts["light"]
        yield "ours", "detail passes before", counts["detail"]


def idle(folder: str, plan: Plan) -> Iterator[Value]:
    """The share of one core that the daemon uses when nobody asks it anything, and that of one bare walk a second.

    Both are of the same windows, because how cold a second of rest leaves the caches differs between machines.
    """
    with our_daemon(folder) as server:
        server.wait_for("/-/ready")
        time.sleep(_SETTLED_SECONDS)
        for _ in range(max(1, round(plan.idle_seconds / _WINDOW_SECONDS))):
            started, cpu, walks = time.monotonic(), process_cpu(server.pid), 0.0
            for second in range(1, max(1, round(min(plan.idle_seconds, _WINDOW_SECONDS))) + 1):
                time.sleep(max(0.0, started + second - time.monotonic()))
                walks += in_thread(partial(dump, NO_STATE)).cpu
            elapsed = time.monotonic() - started
            yield "ours", "idle", (process_cpu(server.pid) - cpu) / elapsed
            yield "walk", "idle", walks / elapsed


def ages(folder: str, plan: Plan) -> Iterator[Value]:
    """How old the numbers of a scrape are at most: those of light passes, and the states that only a walk counts."""
    with our_daemon(folder) as server:
        server.wait_for("/-/ready")
        end = time.monotonic() + plan.age_seconds
        light, walk, cost = [0.0], [0.0], [0.0]
        while time.monotonic() < end:
            metrics = server.metrics()
            now = time.time()
            light.append(now - metrics[_LIGHT_STAMP])
            walk.append(now - metrics[_WALK_STAMP])
            cost.append(metrics[_LIGHT_CPU])
            time.sleep(_PAUSE)
        yield "ours", "age", max(light)
        yield "ours", "age of the walk", max(walk)
        yield "ours", "light pass", statistics.median(cost)


def scrapes(folder: str, plan: Plan) -> Iterator[Value]:
    """Scrapes of ours and of node_exporter, in turns; the first of each is thrown away."""
    with ExitStack() as stack:
        servers: dict[str, Server] = {"ours": stack.enter_context(our_daemon(folder))}
        servers["ours"].wait_for("/-/ready")
        servers["node_exporter"] = stack.enter_context(node_exporter(folder, *BESIDE))
        for number in range(plan.load_rounds + 1):
            for clients, encoding in product((ONE, SATURATED), ENCODINGS):
                for what, server in servers.items():
                    load = _load(server, clients, plan.load_seconds, encoding)
                    if number > 0:
                        yield from _scraped(what, clients, encoding, load)
        for _, encoding in product(range(plan.load_rounds), ENCODINGS):
            for what, server in servers.items():
                with apart(server.pid):
                    load = _load(server, PACED, plan.paced_seconds, encoding)
                yield from _scraped(what, PACED, encoding, load)


def _load(server: Server, clients: Clients, seconds: float, encoding: str) -> Load:
    arguments = (server.port, clients.number, seconds, encoding, clients.every)
    return Load(**json.loads(run([sys.executable, "-m", "benchmarks.load", *map(str, arguments)]).output))


def _scraped(what: str, clients: Clients, encoding: str, load: Load) -> Iterator[Value]:
    for quantity, value in load._asdict().items():
        yield what, scrape(quantity, clients, encoding), value


def _memory(server: Server, when: str) -> Iterator[Value]:
    found = memory(server.pid)
    if found is None:
        raise Failed("the daemon has ended")
    yield "ours", f"resident {when}", found.resident
    yield "ours", f"peak resident {when}", found.peak


def _until(server: Server, enough: Callable[[Mapping[str, float]], bool]) -> dict[str, float]:
    """Wait until there have been enough passes of both kinds; how many there were."""
    while True:
        metrics = server.metrics()
        counts = {kind: metrics.get(_SAMPLES % kind, 0.0) for kind in ("light", "detail")}
        if enough(counts):
            return counts
        time.sleep(_PAUSE)
