"""Ours: the passes of the daemon, once in this process between the floor's dumps, and once as the daemon has them.

In this process they are wired as ``exporter.sampling.assembly`` wires them. The daemon's own figures are the result,
because a user runs the daemon; those of this process show which part of it the passes are.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

from benchmarks.meter import Cost, Failed, in_thread, memory, process_cpu, stopped_between
from benchmarks.rounds import Contender
from benchmarks.server import our_daemon
from exporter.kernel.cgroupfs import Cgroups
from exporter.kernel.derivation import Trust
from exporter.kernel.detail import DetailDump
from exporter.kernel.inetdiag import ALL_STATES, Block
from exporter.kernel.reader import NetlinkReader, Procfs
from exporter.sampling.detailer import Detailer, Wanted
from exporter.sampling.infosample import InfoSample
from exporter.sampling.sampler import Sampler, readers
from exporter.tcpstate import TcpState

_INTERVAL = 0.15  # seconds between the daemon's samples: a second's would only make this wait
_TURN = 3  # samples, each with its scrape
_PATIENCE_SECONDS = 60.0
_COUNTING = """\
sample: {interval: 150ms, max_cpu_ratio: 1}
detail: {interval: 0}
"""


class _WithoutTimers(DetailDump):
    """A detail pass as if there were neither timers' tries nor inodes."""

    def add_waiting(self, block: Block, states: bytes, timers: bytes, received: list[bytes]) -> None:
        """Leave them out."""


class _WithoutTimersDetailer(Detailer):
    collector = _WithoutTimers


def in_process(*, parts: bool) -> list[Contender]:
    """A counting pass and a detail pass, as the daemon makes them; with *parts* also what is in the latter."""
    procfs, trust = Procfs(), Trust(os.uname().release)
    sampler = Sampler(procfs, readers("auto", procfs), trust, time.monotonic)
    detailer = Detailer(procfs, readers("auto", procfs), trust, Cgroups(procfs.root))

    plain, netlink = Wanted(quality="off"), NetlinkReader()
    without = _WithoutTimersDetailer(procfs, readers("auto", procfs), trust, Cgroups(procfs.root))

    def count() -> int:
        connections = sampler.count().connections
        if connections is None:
            raise Failed("the counting pass counted nothing")
        return sum(connections.counts)

    def count_established() -> int:
        connections = sampler.count().connections
        if connections is None:
            raise Failed("the counting pass counted nothing")
        return connections.counts[TcpState.ESTABLISHED]

    def detail(by: Detailer, wanted: Wanted) -> None:
        by.detail(wanted, time.time())

    def sample() -> Cost:
        established = count_established()
        dump = netlink.collect(ALL_STATES, lambda: DetailDump(frozenset(), picks=InfoSample().picks(established)()))
        return in_thread(lambda: detailer.quality(netlink, dump, Wanted(), time.time()) and None)

    passes = [
        Contender.single("counting", lambda: in_thread(count)),
        Contender.single("detail", lambda: in_thread(partial(detail, detailer, Wanted()))),
    ]
    if not parts:
        return passes
    return [
        *passes,
        Contender.single("detail_plain", lambda: in_thread(partial(detail, detailer, plain))),
        Contender.single("detail_without_timers", lambda: in_thread(partial(detail, without, plain))),
        Contender.single("detail_memory", lambda: in_thread(partial(detail, detailer, plain._replace(memory=True)))),
        Contender.single("quality", sample),
    ]


def daemon(stack: ExitStack, folder: str) -> Contender:
    """The daemon, without detail passes: what it says that a counting pass costs, and its whole process a sample."""
    running = stack.enter_context(our_daemon(folder, _COUNTING))
    running.wait_until(lambda: running.metrics().get(_VERIFIED, 0) > 0, "first verification of the kernel's sums")
    turn = stack.enter_context(stopped_between(running.pid))

    def after(before: Mapping[str, float]) -> Mapping[str, float]:
        """The metrics once there is another walk; usually one scrape shows it."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < end:
            time.sleep(_INTERVAL)
            metrics = running.metrics()
            if metrics[_TOTAL] > before[_TOTAL]:
                return metrics
        raise Failed(f"the daemon took no sample in {_PATIENCE_SECONDS:g} s")

    def sample() -> Mapping[str, Cost]:
        with turn():
            first = after(running.metrics())  # of a sample that may have begun before the turn
            cpu, passes = process_cpu(running.pid), [first]
            while len(passes) <= _TURN:
                passes.append(after(passes[-1]))
            used = process_cpu(running.pid) - cpu
        passes, last = passes[1:], passes[-1]
        samples = last[_TOTAL] - first[_TOTAL]
        used_memory = memory(running.pid)
        peak = used_memory and used_memory.peak
        counted = int(sum(value for series, value in last.items() if series.startswith("tcp_connections{")))
        return {
            "daemon_counting": Cost(
                cpu=statistics.median(sum(each[it] for it in _CPU) for each in passes),
                wall=statistics.median(sum(each[it] for it in _DURATION) for each in passes),
                counted=counted,
            ),
            "daemon_sample": Cost(used / samples, None, peak, counted),
        }

    return Contender("daemon_counting", sample)


_VERIFIED = 'tcp_exporter_samples_total{pass="detail"}'
_TOTAL = (
    'tcp_exporter_samples_total{pass="walk"}'  # with this configuration with every light pass, or as soon as can be
)
_CPU, _DURATION = (
    [f'tcp_exporter_sample_{name}_seconds{{pass="{kind}"}}' for kind in ("walk", "light")]
    for name in ("cpu", "duration")
)
