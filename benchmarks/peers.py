"""The peers: how others count TCP sockets, each made to count these, as its users would.

A peer that cannot be measured here is never left out in silence: it is a contender whose sample raises the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from benchmarks.meter import ROOT, Cost, Failed, memory, process_cpu, program, run, stopped_between
from benchmarks.rounds import Contender
from benchmarks.server import node_exporter, started

BESIDE = ("sysctl", "sockstat", "netstat")
"""The collectors of node_exporter that together say what ours says beside the states."""

_AWK = "NR > 1 { n[$1]++ } END { for (s in n) print s, n[s] }"
_INTERVAL = 0.2  # seconds between collectd's readings: it reads by itself, and cannot be asked to
_READINGS = 2
_PATIENCE_SECONDS = 120.0
_COLLECTD = """\
BaseDir "{folder}"
PIDFile "{folder}/pid"
Interval {interval}
ReadThreads 1
WriteThreads 1
LoadPlugin tcpconns
<Plugin tcpconns>
  ListeningPorts false
  AllPortsSummary true
</Plugin>
LoadPlugin csv
<Plugin csv>
  DataDir "{folder}/csv"
</Plugin>
"""


def contenders(stack: ExitStack, folder: str) -> list[Contender]:
    """All of them, started as far as they stay."""
    return [
        made("node_exporter", lambda: _scraped(stack, folder, "tcpstat")),
        made("node_exporter_more", lambda: _scraped(stack, folder, "tcpstat", *BESIDE)),
        made("psutil", lambda: _script("count_psutil.py")),
        made("ss", _ss),
        made("procfs", lambda: _script("count_procfs.py")),
        made("collectd", lambda: stack.enter_context(_collectd(folder))),
    ]


def made(name: str, make: Callable[[], Callable[[], Cost]]) -> Contender:
    """The contender that *make* makes a sample of; where that is ``Failed``, one whose sample raises the reason."""
    try:
        return Contender.single(name, make())
    except Failed as error:
        reason = str(error)

    def fail() -> Cost:
        raise Failed(reason)

    return Contender.single(name, fail)


def script(name: str) -> list[str]:
    """The command that runs one of the programs that people write."""
    return [sys.executable, os.path.join(ROOT, "benchmarks", "scripts", name)]


def _script(name: str) -> Callable[[], Cost]:
    """A program in a fresh process, that says itself what the counting cost: its interpreter's start is not in it."""

    def sample() -> Cost:
        return Cost(**json.loads(run(script(name)).output))

    return sample


def _ss() -> Callable[[], Cost]:
    ss, awk = program("ss", "iproute2"), program("awk", "mawk")

    def sample() -> Cost:
        ended = run([ss, "-tan"], [awk, _AWK], watch_memory=True)
        return ended.cost._replace(counted=ss_counted(ended.output.decode()))

    return sample


def ss_counted(printed: str) -> int:
    """The sum of what the awk program prints: lines of a state and a number.

    >>> ss_counted("ESTAB 10\\nLISTEN 3\\n")
    13
    """
    return sum(int(line.split()[1]) for line in printed.splitlines())


def _scraped(stack: ExitStack, folder: str, *collectors: str) -> Callable[[], Cost]:
    server = stack.enter_context(node_exporter(folder, *collectors))

    def sample() -> Cost:
        begun, cpu = time.monotonic(), process_cpu(server.pid)
        status, page = server.get("/metrics")
        used, wall = process_cpu(server.pid) - cpu, time.monotonic() - begun
        if status != 200:
            raise Failed(f"node_exporter answered {status}")
        found = memory(server.pid)
        return Cost(used, wall, found and found.peak, node_counted(page))

    return sample


def node_counted(page: str) -> int:
    """The sockets in node_exporter's page; two of its states are no states but bytes in queues.

    >>> node_counted('node_tcp_connection_states{state="established"} 7\\n'
    ...              'node_tcp_connection_states{state="rx_queued_bytes"} 99\\n')
    7
    """
    lines = (line for line in page.splitlines() if line.startswith("node_tcp_connection_states{"))
    return int(sum(float(line.rpartition(" ")[2]) for line in lines if "_queued_bytes" not in line))


@contextlib.contextmanager
def _collectd(folder: str) -> Iterator[Callable[[], Cost]]:
    """It reads by itself at each interval, so it is stopped while the others have their turns."""
    path = program("collectd", "collectd-core")
    with tempfile.TemporaryDirectory(dir=folder) as own, ExitStack() as stack:
        configuration = os.path.join(own, "collectd.conf")
        with open(configuration, "w", encoding="ascii") as file:
            file.write(_COLLECTD.format(folder=own, interval=_INTERVAL))
        server = stack.enter_context(started([path, "-f", "-C", configuration], os.path.join(own, "log")))
        server.wait_until(lambda: bool(csv_rows(own)), "first reading of collectd")
        turn = stack.enter_context(stopped_between(server.pid))

        def sample() -> Cost:
            before, end = csv_rows(own), time.monotonic() + _PATIENCE_SECONDS
            cpu = process_cpu(server.pid)
            with turn():
                while len(now := csv_rows(own)) < len(before) + _READINGS:
                    if time.monotonic() > end:
                        raise Failed(f"collectd took less than {_READINGS} readings in {_PATIENCE_SECONDS:g} s")
                    time.sleep(_INTERVAL / 20)
            readings = len(now) - len(before)
            used = memory(server.pid)
            cost = (process_cpu(server.pid) - cpu) / readings
            return Cost(cost, None, used and used.peak, csv_counted(own))

        yield sample


def _csv_files(folder: str) -> Iterator[str]:
    for path, _, names in os.walk(os.path.join(folder, "csv")):
        yield from (os.path.join(path, name) for name in names if "tcp_connections-" in name)


def csv_rows(folder: str) -> list[str]:
    """What collectd has written of established connections: a line for each reading."""
    for path in _csv_files(folder):
        if "tcp_connections-ESTABLISHED" in path:
            with open(path, encoding="ascii") as file:
                return file.read().splitlines()[1:]
    return []


def csv_counted(folder: str) -> int:
    """The last value of every state together."""
    total = 0.0
    for path in _csv_files(folder):
        with open(path, encoding="ascii") as file:
            last = file.read().splitlines()[-1]
        with contextlib.suppress(ValueError):  # only the header yet
            total += float(last.rpartition(",")[2])
    return int(total)
