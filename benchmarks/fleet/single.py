"""One Prometheus for all hosts, with the rules that are shipped: what a host costs it, and how fast it answers."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.fleet.hosts import host, page
from benchmarks.fleet.queries import SCRAPE_SECONDS, Timed, number, timed
from benchmarks.fleet.servers import RULES, Used, prometheus, resident, write

_EXPORT_USED = "sample: {interval: 15s}\nsysctl: {export: used}\n"


class Page(NamedTuple):
    """What is fetched from a host: series, bytes, and bytes with gzip."""

    series: int
    size: int
    compressed: int


class Single(NamedTuple):
    """What there was to measure."""

    page: Page
    page_used: Page  # with sysctl.export: used
    bare: float  # bytes that a Prometheus takes without a target
    full: float  # and with all of them
    series: float
    cpu: float  # cores
    queries: Sequence[Timed]


def measured(folder: str, addresses: Sequence[str], seconds: float) -> Single:
    """Let a Prometheus scrape the hosts for so many seconds."""
    configuration = os.path.join(folder, "used.yml")
    write(configuration, _EXPORT_USED)
    with host(folder, len(addresses), configuration) as other:
        pages = _page(page(addresses[0])), _page(page(other))
    with prometheus(folder, "bare", _configuration(folder, ())) as server:
        time.sleep(5)
        bare = resident(server)
    with prometheus(folder, "one", _configuration(folder, addresses)) as server:
        up = "sum(up{job='tcp-exporter'})"
        server.wait_until(lambda: number(server, up) == len(addresses), "scrape of every host")
        used = Used([server])
        time.sleep(seconds)
        cpu = used.share(server)
        series = server.metrics().get("prometheus_tsdb_head_series", 0.0)
        queries = timed(server)
        return Single(*pages, bare, resident(server), series, cpu, queries)


def _page(content: bytes) -> Page:
    series = sum(not line.startswith(b"#") for line in content.splitlines())
    return Page(series, len(content), len(gzip.compress(content)))


def _configuration(folder: str, addresses: Sequence[str]) -> str:
    targets = os.path.join(folder, f"targets-{len(addresses)}.json")
    write(targets, json.dumps([{"targets": list(addresses)}]))
    return (
        f"global: {{scrape_interval: {SCRAPE_SECONDS}s, evaluation_interval: {SCRAPE_SECONDS}s}}\n"
        f"rule_files: [{', '.join(RULES)}]\n"
        f"scrape_configs: [{{job_name: tcp-exporter, file_sd_configs: [{{files: [{targets}]}}]}}]\n"
    )


def report(single: Single, hosts: int) -> list[str]:
    """What was measured, as lines."""
    each = single.full - single.bare
    saved = single.page.series - single.page_used.series
    return [
        f"One Prometheus with file discovery and all rules, {hosts} daemons",
        f"{single.series / hosts:.0f} series a host, rules and what Prometheus adds included",
        f"{single.page.size} bytes a scrape, {single.page.compressed} gzipped",
        f"sysctl.export: used saves {saved} of {single.page.series} series of a page",
        f"{single.page_used.size} bytes a scrape with it, {single.page_used.compressed} gzipped",
        f"{single.bare / 2**20:.0f} MiB without targets, {single.full / 2**20:.0f} MiB with {hosts}",
        f"{each / single.series:.0f} bytes a series, {each / hosts / 2**20:.2f} MiB a host",
        f"{single.cpu / hosts * SCRAPE_SECONDS * 1e3:.2f} ms of its CPU time a scrape, rules and storage included",
    ]
