"""The machine and the versions that figures were taken with: what kind it is, and nothing that tells which one."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import time

import psutil

from benchmarks.meter import Failed, program, run
from exporter import __version__
from exporter.kernel import procnet
from exporter.kernel.reader import Procfs


def sockets() -> int:
    """The TCP sockets of the whole host, in any network namespace and without the mini-sockets."""
    return procnet.parse_sockstat(Procfs().text("net/sockstat"), "net/sockstat").alloc


def describe(buckets: int, others: int) -> dict[str, str]:
    """Facts by name: of the kernel's table of TCP sockets its *buckets*, and what *others* were in it at the start."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory / 2**30:.1f} GiB",
        "kernel": f"Linux {os.uname().release}",
        "hash buckets": f"{buckets:,}",
        "other TCP sockets at the start": f"{others:,}",
        "Python": platform.python_version(),
        "tcp-exporter": __version__,
        "psutil": psutil.__version__,
        "node_exporter": _version("prometheus-node-exporter", "--version", r"version (\S+)"),
        "iproute2": _version("ss", "-V", r"iproute2-(\S+)"),
        "awk": _version("awk", "-Wversion", r"((?:mawk|GNU Awk) [^\s,]+)"),
        "collectd": _version("collectd", "-h", r"collectd (\d[\w.]*)"),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _version(name: str, option: str, pattern: str) -> str:
    with contextlib.suppress(Failed):
        said = run(["/bin/sh", "-c", f"{program(name, name)} {option} 2>&1"], codes=range(256)).output
        if found := re.search(pattern, said.decode(errors="replace")):
            return found[1]
        return "of an unknown version"
    return "not installed"
