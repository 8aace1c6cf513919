"""A fleet: many daemons, each in a network namespace as on a host of its own, and one Prometheus for all of them.

``python -m benchmarks.fleet [--hosts N] [--seconds S]`` runs the rules of ``deploy/prometheus`` and times the queries
of the fleet dashboard; ``docs/performance.md`` has what it prints. To Prometheus each host is an address of loopback.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from typing import NamedTuple

from benchmarks.meter import ROOT, Failed, environment, memory, process_cpu, program
from benchmarks.population import enter_namespace
from benchmarks.server import Server, free_port, started
from tests.lab.namespace import LabError

_SCRAPE_SECONDS = 15
_FIRST = int(IPv4Address("127.0.1.1"))
_PORT = 19293
_SAMPLES = "sample: {interval: 15s}\n"  # two cores run the whole fleet; what is scraped is the same
_ESTABLISHED = (40, 90, 250, 400, 650, 900)  # some hosts are above the thresholds
_TIMES = 7  # that each query is asked
_PATIENCE_SECONDS = 300.0
_VARIABLES = {
    "$__rate_interval": "1m",
    "$__interval": "15s",
    "$__range": "1h",
    "$job": "tcp-exporter",
    "$instance": ".+",
    "$sysctl": "tcp_fin_timeout",
}


class Query(NamedTuple):
    """An expression of a panel, its variables filled in."""

    panel: str
    expression: str
    instant: bool


class Timed(NamedTuple):
    """How long a query took, in seconds, and how many series answered it."""

    query: Query
    seconds: float
    series: int


class Fleet(NamedTuple):
    """What there was to measure."""

    page: bytes  # of a host
    bare: float  # bytes that a Prometheus takes without a target
    full: float  # and with all of them
    series: float
    cpu: float  # of Prometheus, a second
    queries: Sequence[Timed]


def main(arguments: Sequence[str]) -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=200, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=180.0, metavar="S", help="of scraping (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        enter_namespace()
        with tempfile.TemporaryDirectory() as folder, hosts(folder, options.hosts) as addresses:
            fleet = _measured(folder, addresses, options.seconds)
    except (Failed, LabError) as error:
        print(f"fleet: {error}", file=sys.stderr)
        return 1
    print(_report(fleet, options.hosts), end="")
    return 0


@contextlib.contextmanager
def hosts(folder: str, number: int) -> Iterator[list[str]]:
    """So many daemons, all of them ready; yields the addresses at which they are scraped."""
    configuration = os.path.join(folder, "tcp-exporter.yml")
    with open(configuration, "w", encoding="ascii") as file:
        file.write(_SAMPLES)
    launcher = [sys.executable, os.path.join(ROOT, "benchmarks", "scripts", "host.py")]
    daemon = [sys.executable, "-m", "exporter", "serve", "--web.systemd-socket", f"--config.file={configuration}"]
    with contextlib.ExitStack() as stack:
        addresses = []
        for index in range(number):
            address = str(IPv4Address(_FIRST + index))
            with socket.create_server((address, _PORT)) as listening:
                log = stack.enter_context(open(os.path.join(folder, f"{address}.log"), "wb"))
                process = subprocess.Popen(
                    [*launcher, str(listening.fileno()), str(_ESTABLISHED[index % len(_ESTABLISHED)]), *daemon],
                    pass_fds=[listening.fileno()],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                    env={**environment(), "PYTHONPATH": ROOT},
                )  # fmt: skip
                stack.callback(_end, process)
            addresses.append(f"{address}:{_PORT}")
        for address in addresses:
            _wait_for(address)
        yield addresses


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _wait_for(address: str) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/-/ready", timeout=10):
            return
        if time.monotonic() > end:
            raise Failed(f"the daemon at {address} is not ready after {_PATIENCE_SECONDS:g} s")
        time.sleep(0.1)


def _measured(folder: str, addresses: Sequence[str], seconds: float) -> Fleet:
    with urllib.request.urlopen(f"http://{addresses[0]}/metrics", timeout=10) as answer:
        page = bytes(answer.read())
    with _prometheus(folder, "bare", ()) as server:
        time.sleep(5)
        bare = _resident(server)
    with _prometheus(folder, "fleet", addresses) as server:
        up = f"sum(up{{job='tcp-exporter'}}) == {len(addresses)}"
        server.wait_until(lambda: bool(_ask(server, "query", query=up)), "scrape of every host")
        cpu, at = process_cpu(server.pid), time.monotonic()
        time.sleep(seconds)
        cpu, at = process_cpu(server.pid) - cpu, time.monotonic() - at
        series = server.metrics().get("prometheus_tsdb_head_series", 0.0)
        timed = [_timed(server, query) for query in queries()]
        return Fleet(page, bare, _resident(server), series, cpu / at, timed)


@contextlib.contextmanager
def _prometheus(folder: str, name: str, addresses: Sequence[str]) -> Iterator[Server]:
    """A Prometheus that finds its targets in a file and runs the rules that are shipped."""
    own = os.path.join(folder, name)
    with open(f"{own}-targets.json", "w", encoding="ascii") as file:
        json.dump([{"targets": list(addresses)}], file)
    rules = [os.path.join(ROOT, "deploy", "prometheus", each) for each in ("rules.yml", "alerts.yml")]
    with open(f"{own}.yml", "w", encoding="ascii") as file:
        file.write(
            f"global: {{scrape_interval: {_SCRAPE_SECONDS}s, evaluation_interval: {_SCRAPE_SECONDS}s}}\n"
            f"rule_files: [{', '.join(rules)}]\n"
            f"scrape_configs: [{{job_name: tcp-exporter, file_sd_configs: [{{files: [{own}-targets.json]}}]}}]\n"
        )
    port = free_port()
    command = [program("prometheus", "prometheus"), f"--config.file={own}.yml", f"--storage.tsdb.path={own}",
               f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    with started(command, f"{own}.log") as server:
        server.port = port
        server.wait_for("/-/ready")
        yield server


def queries() -> Iterator[Query]:
    """Every query of the fleet dashboard."""
    with open(os.path.join(ROOT, "deploy", "grafana", "tcp-fleet.json"), encoding="utf-8") as file:
        dashboard = json.load(file)
    for panel in dashboard["panels"]:
        for inner in (panel, *panel.get("panels", ())):
            for target in inner.get("targets", ()):
                expression = target["expr"]
                for variable, value in _VARIABLES.items():
                    expression = expression.replace(variable, value)
                yield Query(inner["title"], expression, bool(target.get("instant")))


def _timed(server: Server, query: Query) -> Timed:
    """Ask as Grafana does: at one moment, or for the last hour in steps of a scrape."""
    seconds, answer = [], list[object]()
    for _ in range(_TIMES):
        now = time.time()
        started_at = time.monotonic()
        if query.instant:
            answer = _ask(server, "query", query=query.expression)
        else:
            span = {"start": f"{now - 3600:.0f}", "end": f"{now:.0f}", "step": str(_SCRAPE_SECONDS)}
            answer = _ask(server, "query_range", query=query.expression, **span)
        seconds.append(time.monotonic() - started_at)
    return Timed(query, statistics.median(seconds), len(answer))


def _ask(server: Server, what: str, **parameters: str) -> list[object]:
    url = f"http://127.0.0.1:{server.port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        document: Mapping[str, Mapping[str, list[object]]] = json.load(answer)
    return document["data"]["result"]


def _resident(server: Server) -> float:
    used = memory(server.pid)
    if used is None:
        raise Failed("Prometheus has ended")
    return used.resident


def _report(fleet: Fleet, number: int) -> str:
    each = fleet.full - fleet.bare
    lines = [
        f"{number} daemons in network namespaces of their own, one Prometheus with file discovery and all rules",
        f"{fleet.series / number:.0f} series a host, rules and what Prometheus adds included",
        f"{len(fleet.page)} bytes a scrape, {len(gzip.compress(fleet.page))} gzipped",
        f"Prometheus: {fleet.bare / 2**20:.0f} MiB without targets, {fleet.full / 2**20:.0f} MiB with {number}:",
        f"{each / fleet.series:.0f} bytes a series, {each / number / 2**20:.2f} MiB a host",
        f"{fleet.cpu / number * _SCRAPE_SECONDS * 1e3:.2f} ms of its CPU time a scrape, rules and storage included",
        f"at 10,000 hosts: {fleet.series / number * 1e4:,.0f} series, {each / number * 1e4 / 2**30:.1f} GiB",
        "",
        "| Panel of the fleet dashboard | Query | Series | Median |",
        "| --- | --- | --- | --- |",
    ]
    for query, seconds, series in fleet.queries:
        kind = "now" if query.instant else "an hour"
        lines.append(f"| {query.panel} | {kind} | {series} | {seconds * 1e3:.1f} ms |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
