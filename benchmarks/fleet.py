"""What a fleet costs its Prometheus: many targets, all of them one daemon, scraped by a real Prometheus.

``python -m benchmarks.fleet [TARGETS]`` prints series, bytes and memory for each host; ``docs/performance.md`` has it.
Each target is an address of 127.0.0.0/8, so that to Prometheus they are as many hosts. Linux answers on all of them.
"""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
import time
import urllib.request
from ipaddress import IPv4Address

from benchmarks.meter import Failed, memory, process_cpu, program
from benchmarks.population import enter_namespace
from benchmarks.server import Server, free_port, our_daemon, started
from tests.lab.namespace import LabError

_SCRAPES = 12  # of each target: head chunks are filled, not just begun
_INTERVAL = 5  # seconds
_SETTLED_SECONDS = 5.0
_FIRST = int(IPv4Address("127.0.1.1"))


def main(arguments: list[str]) -> int:
    """Measure and print; the exit code."""
    targets = int(arguments[0]) if arguments else 200
    try:
        enter_namespace()
        with tempfile.TemporaryDirectory() as folder, our_daemon(folder, address="0.0.0.0") as daemon:
            daemon.wait_for("/-/ready")
            time.sleep(_SETTLED_SECONDS)
            page = _page(daemon)
            bare, _, _ = _prometheus(folder, daemon.port, 0)
            full, series, cpu = _prometheus(folder, daemon.port, targets)
    except (Failed, LabError) as error:
        print(f"fleet: {error}", file=sys.stderr)
        return 1
    per_host, each = series / targets, (full - bare) / series
    print(f"{per_host:.0f} series a host, beside the five that Prometheus adds itself included")
    print(f"{len(page)} bytes a scrape, {len(gzip.compress(page))} gzipped")
    print(f"Prometheus: {bare / 2**20:.0f} MiB with no target, {full / 2**20:.0f} MiB with {targets}:")
    print(f"{each:.0f} bytes a series, {(full - bare) / targets / 2**20:.2f} MiB a host")
    print(f"{cpu / targets / _SCRAPES * 1e3:.2f} ms of its CPU time a scrape, storage and all")
    print(f"at 10,000 hosts: {per_host * 1e4:,.0f} series, {(full - bare) / targets * 1e4 / 2**30:.1f} GiB")
    return 0


def _page(daemon: Server) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}/metrics", timeout=10) as answer:
        return bytes(answer.read())


def _prometheus(folder: str, port: int, targets: int) -> tuple[float, float, float]:
    """Resident bytes, series and CPU seconds of a Prometheus that has scraped so many *targets* long enough."""
    name = os.path.join(folder, f"prometheus-{targets}")
    addresses = [f"'{IPv4Address(_FIRST + number)}:{port}'" for number in range(targets)]
    with open(f"{name}.yml", "w", encoding="ascii") as file:
        file.write(
            f"global: {{scrape_interval: {_INTERVAL}s}}\n"
            f"scrape_configs: [{{job_name: tcp, static_configs: [{{targets: [{', '.join(addresses)}]}}]}}]\n"
        )
    own = free_port()
    command = [program("prometheus", "prometheus"), f"--config.file={name}.yml", f"--storage.tsdb.path={name}",
               f"--web.listen-address=127.0.0.1:{own}"]  # fmt: skip
    with started(command, f"{name}.log") as server:
        server.port = own
        server.wait_for("/-/ready")
        cpu = process_cpu(server.pid)
        time.sleep(_INTERVAL * (_SCRAPES + 1) if targets else _SETTLED_SECONDS)
        used = memory(server.pid)
        if used is None:
            raise Failed("Prometheus has ended")
        return used.resident, server.metrics().get("prometheus_tsdb_head_series", 0.0), process_cpu(server.pid) - cpu


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
