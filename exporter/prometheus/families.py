"""Every metric of the product, in the order of the page: from a sample to prometheus_client's families.

Names are literals, so a metric is found by searching for it. HELP ends with the kernel source of the number. What the
sample does not have is left out; what it knows to be none is 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from exporter import __version__, measures
from exporter.prometheus.counters import COUNTERS
from exporter.snapshot import Sample, Snapshot, by_label
from exporter.thresholds import Threshold, evaluate


class View(NamedTuple):
    """What the page says beside the sample: the thresholds in force and the daemon's own state."""

    thresholds: Mapping[str, Threshold]
    python: str  # the interpreter's version
    stale: bool = False  # the sample is too old to be shown
    hanging_on: str | None = None  # the source that a stale loop waits for
    reload_successful: bool = True


def families(sample: Sample | None, view: View) -> Iterator[Metric]:
    """The page without the sysctls. Of a stale sample only what the daemon says of itself is left."""
    current = None if sample is None or view.stale else sample.snapshot
    if sample is not None and current is not None:
        yield from _connections(sample)
        yield from _memory(current)
        yield from _counters(current)
    yield from _statuses(current, view.thresholds)
    yield from _thresholds(view.thresholds)
    yield from _exporter(sample, view)


def _connections(sample: Sample) -> Iterator[Metric]:
    if sample.snapshot.connections is not None:
        yield _by_state(
            "tcp_connections",
            "TCP sockets in the state, IPv4 and IPv6, at the last sample (inet_diag or /proc/net/tcp, snmp, sockstat).",
            by_label(sample.snapshot.connections.counts),
        )
    if sample.peaks is not None:
        yield _by_state(
            "tcp_connections_peak",
            "Highest of the samples of tcp_connections in the last peak window, 60 s unless configured (as there).",
            by_label(sample.peaks),
        )


def _memory(snapshot: Snapshot) -> Iterator[Metric]:
    if snapshot.sockstat is not None:
        yield GaugeMetricFamily(
            "tcp_orphans",
            "Sockets that no process holds any more, of the whole host (/proc/net/sockstat TCP: orphan).",
            snapshot.sockstat.orphan,
        )
        yield GaugeMetricFamily(
            "tcp_timewait_sockets",
            "TIME-WAIT and FIN-WAIT-2 mini-sockets, what tcp_max_tw_buckets limits (/proc/net/sockstat TCP: tw).",
            snapshot.sockstat.tw,
        )
        yield GaugeMetricFamily(
            "tcp_memory_bytes",
            "Memory of TCP buffers, of the whole host (/proc/net/sockstat TCP: mem, in pages).",
            snapshot.sockstat.mem * snapshot.page_size,
        )
    if snapshot.memory_limits is not None:
        limits = GaugeMetricFamily(
            "tcp_memory_limit_bytes",
            "Limits of tcp_memory_bytes, of the whole host (/proc/sys/net/ipv4/tcp_mem, in pages).",
            labels=["level"],
        )
        for level, limit in snapshot.memory_limits.items():
            limits.add_metric([level], limit)
        yield limits


def _counters(snapshot: Snapshot) -> Iterator[Metric]:
    for counter in COUNTERS:
        if counter.field in snapshot.counters:
            value = snapshot.counters[counter.field]
            yield CounterMetricFamily(
                counter.name, counter.documentation, value if counter.scale == 1 else value * counter.scale
            )


def _statuses(snapshot: Snapshot | None, thresholds: Mapping[str, Threshold]) -> Iterator[Metric]:
    status = GaugeMetricFamily(
        "tcp_status",
        "What check_tcp_states would exit with: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (as the measure itself).",
        labels=["measure"],
    )
    values = dict.fromkeys(thresholds) if snapshot is None else measures.read(snapshot, thresholds)
    for result in evaluate(values, thresholds):
        status.add_metric([result.measure], result.status.value)
    yield status


def _thresholds(thresholds: Mapping[str, Threshold]) -> Iterator[Metric]:
    limits = GaugeMetricFamily(
        "tcp_threshold",
        "Upper limit in force, above which the measure alerts; absent where it has none (configuration file).",
        labels=["measure", "severity"],
    )
    for measure, threshold in thresholds.items():
        for severity, limit in zip(("warning", "critical"), threshold, strict=True):
            if limit is not None and limit.upper is not None:
                limits.add_metric([measure, severity], limit.upper)
    yield limits


def sysctls(snapshot: Snapshot) -> Iterator[Metric]:
    """The sysctls: they change seldom, so whoever renders them may keep the result for one ``snapshot.sysctls``."""
    values = GaugeMetricFamily(
        "tcp_sysctl_value",
        "Numeric sysctls that bear on TCP, as the kernel prints them (/proc/sys/net/ipv4/tcp_* and a few others).",
        labels=["name", "field", "unit"],
    )
    texts = GaugeMetricFamily(
        "tcp_sysctl_info",
        "Textual sysctls that bear on TCP (/proc/sys/net/ipv4/tcp_*).",
        labels=["name", "value"],
    )
    for value in snapshot.sysctls.values():
        for field, number in value.fields:
            values.add_metric([value.name, field, value.unit], number)
        if value.text is not None:
            texts.add_metric([value.name, value.text], 1)
    yield values
    yield texts


def _exporter(sample: Sample | None, view: View) -> Iterator[Metric]:
    build = GaugeMetricFamily(
        "tcp_exporter_build_info", "1, with the versions of this program and its Python.", labels=["version", "python"]
    )
    build.add_metric([__version__, view.python], 1)
    yield build
    yield GaugeMetricFamily(
        "tcp_exporter_config_last_reload_successful",
        "1 when the configuration file was accepted the last time it was read, 0 when the one before it is in force.",
        int(view.reload_successful),
    )
    yield from _sources(sample, view)
    if sample is None:
        return
    yield from _reading(sample.snapshot)
    if sample.passes:
        yield from _passes(sample)


def _sources(sample: Sample | None, view: View) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "tcp_exporter_source_up",
        "1 when the source could be read for the last sample, 0 when not; one that does not exist here is absent.",
        labels=["source"],
    )
    states = {} if sample is None else {source: problem is None for source, problem in sample.snapshot.sources.items()}
    if view.hanging_on is not None:
        states[view.hanging_on] = False
    for source, is_up in states.items():
        up.add_metric([source], int(is_up))
    yield up


def _reading(snapshot: Snapshot) -> Iterator[Metric]:
    if snapshot.connections is not None:
        reader = GaugeMetricFamily(
            "tcp_exporter_reader_info",
            "1, with the reader that counted the last sample's sockets.",
            labels=["reader"],
        )
        reader.add_metric([snapshot.connections.reader], 1)
        yield reader
        yield GaugeMetricFamily(
            "tcp_exporter_sample_derived",
            "1 when ESTABLISHED and TIME-WAIT of the last sample come from the kernel's own counters, "
            "0 when every socket was counted.",
            int(snapshot.connections.derived),
        )
    yield GaugeMetricFamily(
        "tcp_exporter_sample_timestamp_seconds", "When the last sample was taken, Unix time.", snapshot.taken_at
    )


def _passes(sample: Sample) -> Iterator[Metric]:
    duration = GaugeMetricFamily(
        "tcp_exporter_sample_duration_seconds", "Wall time of the last pass of the kind.", labels=["pass"]
    )
    cpu = GaugeMetricFamily(
        "tcp_exporter_sample_cpu_seconds", "CPU time of the last pass of the kind.", labels=["pass"]
    )
    interval = GaugeMetricFamily(
        "tcp_exporter_sample_interval_seconds",
        "Time from the last pass of the kind to its next: as configured, or longer to keep the CPU share.",
        labels=["pass"],
    )
    total = CounterMetricFamily("tcp_exporter_samples", "Passes of the kind so far.", labels=["pass"])
    for kind, run in sample.passes.items():
        duration.add_metric([kind], run.duration)
        cpu.add_metric([kind], run.cpu)
        if math.isfinite(run.interval):
            interval.add_metric([kind], run.interval)
        total.add_metric([kind], run.total)
    yield from (duration, cpu, interval, total)
    errors = CounterMetricFamily(
        "tcp_exporter_sample_errors", "Samples that had to do without the source.", labels=["source"]
    )
    for source, number in sample.source_errors.items():
        errors.add_metric([source], number)
    yield errors
    yield CounterMetricFamily(
        "tcp_exporter_sample_overruns", "Passes that ended after the next one was due.", sample.overruns
    )


def _by_state(name: str, documentation: str, counts: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=["state"])
    for label, number in counts.items():
        family.add_metric([label], number)
    return family
