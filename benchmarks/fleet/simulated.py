"""As many hosts as the machine holds, at the level of series: the page of a real daemon, with values that change.

One process answers for all hosts, each at an address of loopback. A store is measured at several sizes, and what it
takes for ten thousand hosts is the straight line through them, with the error of that line.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from typing import NamedTuple

from benchmarks.fleet.queries import SCRAPE_SECONDS, number
from benchmarks.fleet.servers import RULES, Used, prometheus, resident, victoria_metrics, write
from benchmarks.meter import ROOT, Failed
from benchmarks.server import Server, free_port

FLEET = 10_000
_FIRST = int(IPv4Address("127.1.0.1"))


class Size(NamedTuple):
    """What a store took for so many hosts."""

    hosts: int
    series: float
    memory: float  # bytes
    cpu: float  # cores
    missed: float  # scrapes that failed, of all


class Line(NamedTuple):
    """A figure at ``FLEET`` hosts, and the standard error of its prediction."""

    value: float
    error: float


def extrapolated(sizes: Sequence[float], values: Sequence[float]) -> Line:
    """The straight line through the values, at ``FLEET`` hosts.

    >>> extrapolated([500, 1000, 2000, 4000], [1, 2, 4, 8])
    Line(value=20.0, error=0.0)
    """
    slope, intercept = statistics.linear_regression(sizes, values)
    rest = sum((value - slope * size - intercept) ** 2 for size, value in zip(sizes, values, strict=True))
    middle = statistics.fmean(sizes)
    spread = sum((size - middle) ** 2 for size in sizes)
    free = len(sizes) - 2
    error = math.sqrt(rest / free * (1 + 1 / len(sizes) + (FLEET - middle) ** 2 / spread))
    return Line(slope * FLEET + intercept, error)


@contextlib.contextmanager
def generator(folder: str, page: bytes) -> Iterator[int]:
    """The process that answers for all hosts; yields its port, which is the same at every address."""
    path = os.path.join(folder, "page")
    with open(path, "wb") as file:
        file.write(page)
    port = free_port()
    script = os.path.join(ROOT, "benchmarks", "scripts", "many_hosts.py")
    with open(os.path.join(folder, "generator.log"), "wb") as log:
        process = subprocess.Popen([sys.executable, script, path, str(port)], stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"listening\n":
            raise Failed("the simulated hosts do not answer")
        yield port
    finally:
        process.kill()
        process.wait()


def measured(folder: str, page: bytes, sizes: Sequence[int], store: str, scrapes: int) -> list[Size]:
    """Measure *store*, prometheus or victoria-metrics, over so many scrapes at each size, from empty each time."""
    found = []
    with generator(folder, page) as port:
        for size in sizes:
            own = os.path.join(folder, f"{store}-{size}")
            os.mkdir(own)
            with _store(own, store, size, port) as server:
                found.append(_size(server, store, size, scrapes))
    return found


@contextlib.contextmanager
def _store(folder: str, store: str, size: int, port: int) -> Iterator[Server]:
    targets = os.path.join(folder, "targets.json")
    write(targets, json.dumps([{"targets": [f"{IPv4Address(_FIRST + index)}:{port}" for index in range(size)]}]))
    scrapes = (
        f"global: {{scrape_interval: {SCRAPE_SECONDS}s}}\n"
        f"scrape_configs: [{{job_name: tcp-exporter, file_sd_configs: [{{files: [{targets}]}}]}}]\n"
    )
    if store == "prometheus":
        rules = f"rule_files: [{', '.join(RULES)}]\n"
        with prometheus(
            folder, "prometheus", scrapes.replace("}\n", ", evaluation_interval: 1m}\n", 1) + rules
        ) as server:
            yield server
        return
    path = os.path.join(folder, "scrape.yml")
    write(path, scrapes)
    with victoria_metrics(folder, f"-promscrape.config={path}", "-search.latencyOffset=1s") as server:
        yield server


def _size(server: Server, store: str, size: int, scrapes: int) -> Size:
    up = "count(up{job='tcp-exporter'})"
    server.wait_until(lambda: number(server, up) == size, f"scrape of {size} hosts")
    used = Used([server])
    time.sleep(scrapes * SCRAPE_SECONDS)
    cpu, memory = used.share(server), resident(server)
    metrics = server.metrics()
    if store == "prometheus":
        series = metrics["prometheus_tsdb_head_series"]
    else:
        series = metrics['vm_cache_entries{type="storage/hour_metric_ids"}']
    failed = number(server, f"1 - avg(avg_over_time(up{{job='tcp-exporter'}}[{scrapes * SCRAPE_SECONDS}s]))")
    return Size(size, series, memory, cpu, failed or 0.0)


def report(store: str, sizes: Sequence[Size]) -> list[str]:
    """A table of the sizes, and the line through them."""
    lines = [
        f"{store}, simulated hosts scraped every {SCRAPE_SECONDS} s",
        "",
        "| Hosts | Series | Memory | Cores | Scrapes that failed |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {it.hosts:,} | {it.series:,.0f} | {it.memory / 2**30:.2f} GiB | {it.cpu:.2f} | {it.missed:.1%} |"
        for it in sizes
    ]
    hosts = [float(it.hosts) for it in sizes]
    series, memory, cpu = (
        extrapolated(hosts, values)
        for values in ([it.series for it in sizes], [it.memory / 2**30 for it in sizes], [it.cpu for it in sizes])
    )
    lines.append(
        f"| {FLEET:,}, by the line | {series.value:,.0f} ± {series.error:,.0f} "
        f"| {memory.value:.1f} ± {memory.error:.1f} GiB | {cpu.value:.1f} ± {cpu.error:.1f} | |"
    )
    return lines
