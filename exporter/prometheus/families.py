"""Every metric of the product, in the order of the page: from a sample to prometheus_client's families.

Names are literals, so a metric is found by searching for it. HELP ends with the kernel source of the number. What the
sample does not have is left out; what it knows to be none is 0.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from exporter import __version__
from exporter.defaults import MAX_SERIES
from exporter.details import CLOSED_RTT_BOUNDS, IDLE_BOUNDS, RTT_BOUNDS, Closes, Detail, Memory, Quality
from exporter.health.forecast import HORIZON, LEAST_MINUTES
from exporter.health.judge import Health
from exporter.health.measures import RATIOS
from exporter.health.thresholds import NO_THRESHOLD, Status, Threshold
from exporter.kernel.derivation import FEW
from exporter.prometheus.counters import COUNTERS
from exporter.sampling.sample import Sample
from exporter.snapshot import Listener, Snapshot, by_label
from exporter.tcpstate import KNOWN_STATES, StateCounts

if TYPE_CHECKING:
    from exporter.health.sysctls.verdicts import Verdict


class View(NamedTuple):
    """What the page says beside the sample: the thresholds in force and the daemon's own state."""

    thresholds: Mapping[str, Threshold]
    python: str  # the interpreter's version
    stale: bool = False  # the sample is too old to be shown
    hanging_on: str | None = None  # the source that a stale loop waits for
    reload_successful: bool = True
    max_series: int = MAX_SERIES  # label values that one metric may have
    exported: Collection[str] | None = None  # the sysctls that are series; None: all


def families(sample: Sample | None, view: View) -> Iterator[Metric]:
    """The page without the sysctls. Of a stale sample only what the daemon says of itself is left."""
    current = None if sample is None or view.stale else sample.snapshot
    if sample is not None and current is not None:
        yield from _connections(sample)
        yield from _memory(current)
        yield from _counters(current)
        yield from _conntrack(current)
        yield from _saturations(sample.health)
        yield from _to_full(current.to_full or {})
        if current.listeners is not None:
            yield from _listeners(current.listeners, view.max_series)
        if current.detail is not None:
            yield from _detail(current.detail)
            if current.detail.quality is not None:
                yield from _quality(current.detail.quality)
        if current.namespaces is not None:
            yield _namespaces(current.namespaces, view.max_series)
        if current.closes is not None:
            yield from _closes(current.closes)
        yield from _folded(current, view.max_series)
    yield from _statuses(None if sample is None else sample.health, view)
    yield from _thresholds(view.thresholds)
    yield from _exporter(sample, view)


def _connections(sample: Sample) -> Iterator[Metric]:
    connections = sample.snapshot.connections
    unlisted = () if connections is None else connections.unlisted
    if connections is not None:
        yield _by_state(
            "tcp_connections",
            "TCP sockets in the state, IPv4 and IPv6: ESTABLISHED, TIME-WAIT and LISTEN at the last sample, all others "
            "at the last walk, which is the same unless it is stretched (inet_diag or /proc/net/tcp, snmp, sockstat).",
            by_label(connections.counts, unlisted),
        )
    if sample.peaks is not None:
        yield _by_state(
            "tcp_connections_peak",
            "Highest value of tcp_connections in the last peak window, by default 60 s (same sources).",
            by_label(sample.peaks, unlisted),
        )


def _memory(snapshot: Snapshot) -> Iterator[Metric]:
    if snapshot.sockstat is not None:
        yield GaugeMetricFamily(
            "tcp_orphans",
            "Sockets that no process holds any more, of the whole host (/proc/net/sockstat TCP: orphan).",
            snapshot.sockstat.orphan,
        )
        yield GaugeMetricFamily(
            "tcp_allocated_sockets",
            "Allocated TCP sockets of the whole host, including those in no state (/proc/net/sockstat TCP: alloc).",
            snapshot.sockstat.alloc,
        )
        yield GaugeMetricFamily(
            "tcp_timewait_sockets",
            "TIME-WAIT and FIN-WAIT-2 mini-sockets, which tcp_max_tw_buckets limits (/proc/net/sockstat TCP: tw).",
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


def _conntrack(snapshot: Snapshot) -> Iterator[Metric]:
    tracked = snapshot.conntrack
    if tracked is None:
        return
    yield GaugeMetricFamily(
        "tcp_conntrack_entries",
        "Connections that netfilter tracks in this namespace (/proc/sys/net/netfilter/nf_conntrack_count).",
        tracked.entries,
    )
    yield GaugeMetricFamily(
        "tcp_conntrack_entries_limit",
        "Connections that netfilter may track in each namespace; 0 means no limit "
        "(/proc/sys/net/netfilter/nf_conntrack_max).",
        tracked.limit,
    )
    if tracked.insert_failed is not None:
        yield CounterMetricFamily(
            "tcp_conntrack_insert_failed",
            "Connections that could not be added to the table of netfilter "
            "(/proc/net/stat/nf_conntrack: insert_failed).",
            tracked.insert_failed,
        )
    if tracked.drops is not None:
        yield CounterMetricFamily(
            "tcp_conntrack_drops",
            "Packets dropped because netfilter could not track their connection (/proc/net/stat/nf_conntrack: drop).",
            tracked.drops,
        )


def _saturations(health: Health) -> Iterator[Metric]:
    definitions = "; ".join(f"{measure.resource}: {measure.definition.partition(': ')[0]}" for measure in RATIOS)
    ratios = GaugeMetricFamily(
        "tcp_saturation_ratio",
        f"How full a limit is, absent where it is not visible. {definitions} "
        "(/proc/net/sockstat, sysctls, inet_diag, nf_conntrack).",
        labels=["resource"],
    )
    for measure in RATIOS:
        share = measure.value_of(health.readings[measure.name])
        if share is not None:
            ratios.add_metric([measure.resource], share)
    yield ratios


def _to_full(seconds: Mapping[str, int]) -> Iterator[Metric]:
    """Of those limits that are going to be full: without a series for each that is not."""
    family = GaugeMetricFamily(
        "tcp_saturation_seconds_to_full",
        "Seconds until tcp_saturation_ratio is 1 at the rate of the last hour: absent where it does not rise steadily, "
        f"or not to 1 within {HORIZON // 86400} days, and in the first {LEAST_MINUTES} minutes of the daemon "
        "(as tcp_saturation_ratio).",
        labels=["resource"],
    )
    for resource, left in seconds.items():
        if left < HORIZON:
            family.add_metric([resource], left)
    if family.samples:
        yield family


_OTHER_LISTENERS = ("other", "other")


def _listeners(listeners: Sequence[Listener], max_series: int) -> Iterator[Metric]:
    """Each listener by itself, and what is beyond the cap together as ``other``."""
    length = GaugeMetricFamily(
        "tcp_listener_accept_queue_length",
        "Connections that wait for accept(2) (inet_diag: idiag_rqueue).",
        labels=["address", "port"],
    )
    limit = GaugeMetricFamily(
        "tcp_listener_accept_queue_limit",
        "Connections that may wait for accept(2): the backlog, capped by somaxconn (inet_diag: idiag_wqueue).",
        labels=["address", "port"],
    )
    half_open = GaugeMetricFamily(
        "tcp_listener_syn_recv",
        "Half-open connections to the listener at the last walk (inet_diag: request sockets by address and port).",
        labels=["address", "port"],
    )
    sockets = GaugeMetricFamily(
        "tcp_listener_sockets",
        "Sockets that share the address and port by SO_REUSEPORT; their queues are summed (inet_diag).",
        labels=["address", "port"],
    )
    dropped = CounterMetricFamily(
        "tcp_listener_dropped_segments",
        "Segments that the listener dropped: at a full queue, and stray ones (inet_diag: SK_MEMINFO_DROPS).",
        labels=["address", "port"],
    )
    # In the order of ports, and not of queues: which series there are must not change with the load.
    groups: dict[tuple[str, str], list[Listener]] = {}
    for it in listeners:  # those of several devices are one series
        name = (it.address, str(it.port))
        groups.setdefault(name if name in groups or len(groups) < max_series else _OTHER_LISTENERS, []).append(it)
    for labels, group in groups.items():
        length.add_metric(labels, sum(it.accept_queue for it in group))
        limit.add_metric(labels, sum(it.accept_limit for it in group))
        half_open.add_metric(labels, sum(it.syn_recv for it in group))
        sockets.add_metric(labels, sum(it.sockets for it in group))
        known = [it.dropped for it in group if it.dropped is not None]
        if known and labels != _OTHER_LISTENERS:  # their sum falls when one of them closes: a reset to rate()
            dropped.add_metric(labels, sum(known))
    yield from (length, limit, half_open, sockets, dropped)


def _namespaces(namespaces: Mapping[str, tuple[int | None, ...]], max_series: int) -> Metric:
    """Namespaces by themselves, the largest where there are too many; a state that cannot be told is left out."""
    family = GaugeMetricFamily(
        "tcp_netns_connections",
        "TCP sockets by state and by network namespace, if detail.namespaces is on (inet_diag or /proc/PID/net).",
        labels=["netns", "state"],
    )
    largest = sorted(namespaces, key=lambda name: (-sum(number or 0 for number in namespaces[name]), name))
    shown = {name: namespaces[name] for name in largest[:max_series]}
    if len(largest) > max_series:
        columns = zip(*(namespaces[name] for name in largest[max_series:]), strict=True)
        shown["other"] = tuple(None if None in column else sum(filter(None, column)) for column in columns)
    for name, counts in shown.items():
        for state in KNOWN_STATES:
            number = counts[state]
            if number is not None:
                family.add_metric([name, state.label], number)
    return family


def _folded(snapshot: Snapshot, max_series: int) -> Iterator[Metric]:
    folded = dict(snapshot.detail.folded) if snapshot.detail is not None else {}
    if snapshot.detail is not None and snapshot.detail.memory is not None:
        folded |= snapshot.detail.memory.folded
    if snapshot.listeners is not None:
        names = {(it.address, it.port) for it in snapshot.listeners}
        folded["tcp_listener_sockets"] = max(0, len(names) - max_series)
    if snapshot.namespaces is not None:
        folded["tcp_netns_connections"] = max(0, len(snapshot.namespaces) - max_series)
    if snapshot.closes is not None:
        folded["tcp_port_closed_connections_total"] = snapshot.closes.folded
    family = GaugeMetricFamily(
        "tcp_exporter_folded",
        "Label values in the metric's other: beyond detail.max_series, or listeners' ports in the ephemeral range.",
        labels=["metric"],
    )
    for metric, number in folded.items():
        family.add_metric([metric], number)
    yield family


def _detail(detail: Detail) -> Iterator[Metric]:
    yield _by_label_and_state(
        "tcp_family_connections",
        "TCP sockets by state and by the family of the socket (inet_diag or /proc/net/tcp).",
        "family",
        detail.families,
    )
    yield _by_label_and_state(
        "tcp_port_connections",
        "TCP sockets by state and by local port, if it has a listener or is configured (inet_diag or /proc/net/tcp).",
        "port",
        detail.ports,
    )
    if detail.remote_ports:
        yield _by_label_and_state(
            "tcp_remote_port_connections",
            "TCP sockets by state and by remote port, if it is configured (inet_diag or /proc/net/tcp).",
            "port",
            detail.remote_ports,
        )
    if detail.units is not None:
        yield _by_label_and_state(
            "tcp_unit_connections",
            "TCP sockets by state and by the systemd unit or container in whose cgroup they were created (inet_diag).",
            "unit",
            detail.units,
        )
    if detail.memory is not None:
        yield from _held(detail.memory)
    yield GaugeMetricFamily(
        "tcp_receive_queue_bytes",
        "Bytes received and not yet read, of all sockets but listeners (inet_diag: idiag_rqueue).",
        detail.receive_queue,
    )
    yield GaugeMetricFamily(
        "tcp_send_queue_bytes",
        "Bytes written and not yet acknowledged, of all sockets but listeners (inet_diag: idiag_wqueue).",
        detail.send_queue,
    )
    if detail.ephemeral_used is not None and detail.ephemeral_available is not None:
        yield GaugeMetricFamily(
            "tcp_ephemeral_ports_used",
            "Local ports of the ephemeral range taken towards the busiest source, destination and port, or of a source "
            "where bind() picked them; without TIME-WAIT that tcp_tw_reuse lets connect() take over (inet_diag).",
            detail.ephemeral_used,
        )
        yield GaugeMetricFamily(
            "tcp_ephemeral_ports_available",
            "Local ports that connect() may pick: the range less reserved ports and those with a listener or a bound "
            "socket (sysctls ip_local_port_range, ip_local_reserved_ports; inet_diag).",
            detail.ephemeral_available,
        )
    yield from _waiting(detail)


def _waiting(detail: Detail) -> Iterator[Metric]:
    if detail.timers is not None:
        timers = GaugeMetricFamily(
            "tcp_timer_connections",
            "ESTABLISHED sockets by the timer that runs; none is idle and without keepalive (inet_diag: idiag_timer, "
            "or /proc/net/tcp: tr).",
            labels=["timer"],
        )
        for timer, number in detail.timers.items():
            timers.add_metric([timer], number)
        yield timers
    if detail.unanswered is not None:
        unanswered = GaugeMetricFamily(
            "tcp_unanswered_connections",
            "ESTABLISHED sockets with at least so many tries of a kind in a row without an answer (inet_diag: "
            "idiag_retrans, or /proc/net/tcp: retrnsmt, timeout).",
            labels=["kind", "tries"],
        )
        for kind, by_tries in detail.unanswered.items():
            for least, number in by_tries.items():
                unanswered.add_metric([kind, str(least)], number)
        yield unanswered
    if detail.accept_pending is not None:
        yield GaugeMetricFamily(
            "tcp_accept_pending",
            "ESTABLISHED sockets that accept(2) has not taken yet (inet_diag: idiag_inode, or /proc/net/tcp: inode, "
            "is 0).",
            detail.accept_pending,
        )


def _closes(closes: Closes) -> Iterator[Metric]:
    connections = CounterMetricFamily(
        "tcp_port_closed_connections",
        "Connections that were seen to end, if detail.closes is on, by local port as in tcp_port_connections; "
        "without those aborted by SO_LINGER 0 (sock_diag destroy events).",
        labels=["port"],
    )
    received = CounterMetricFamily(
        "tcp_port_received_bytes",
        "Bytes that those connections received; a FIN counts as one (sock_diag destroy events: tcpi_bytes_received).",
        labels=["port"],
    )
    sent = CounterMetricFamily(
        "tcp_port_sent_bytes",
        "Bytes that those connections sent, each once (sock_diag destroy events: tcpi_bytes_sent less "
        "tcpi_bytes_retrans).",
        labels=["port"],
    )
    retransmitted = CounterMetricFamily(
        "tcp_port_retransmitted_segments",
        "Segments that those connections sent again (sock_diag destroy events: tcpi_total_retrans).",
        labels=["port"],
    )
    rtt = HistogramMetricFamily(
        "tcp_port_connection_rtt_seconds",
        "Smoothed round-trip time of those connections when they ended (sock_diag destroy events: tcpi_rtt).",
        labels=["port"],
    )
    bounds = [*map(str, CLOSED_RTT_BOUNDS), "+Inf"]
    for port, it in closes.ports.items():
        connections.add_metric([port], it.connections)
        received.add_metric([port], it.received)
        if it.sent is not None:
            sent.add_metric([port], it.sent)
        retransmitted.add_metric([port], it.retransmitted)
        rtt.add_metric([port], [*zip(bounds, accumulate(it.rtt), strict=True)], it.rtt_sum)
    yield from (connections, received, sent, retransmitted, rtt)
    yield GaugeMetricFamily(
        "tcp_exporter_close_events_ratio",
        "Share of the last 10 s of close events that was received, by the time listened and what was lost: divide "
        "rates of the counters by its average (sock_diag destroy events; /proc/net/snmp ActiveOpens, PassiveOpens).",
        closes.ratio,
    )
    yield CounterMetricFamily(
        "tcp_exporter_close_events_lost",
        "Close events that the receive buffer had no room for, net.core.rmem_max (SO_MEMINFO: SK_MEMINFO_DROPS).",
        closes.lost,
    )


def _held(memory: Memory) -> Iterator[Metric]:
    yield _by_label(
        "tcp_port_memory_bytes",
        "Buffer memory of the sockets by local port, as tcp_port_connections, read less often (inet_diag: "
        "SK_MEMINFO_RMEM_ALLOC, FWD_ALLOC, WMEM_QUEUED and BACKLOG).",
        "port",
        memory.ports,
    )
    if memory.units is not None:
        yield _by_label(
            "tcp_unit_memory_bytes",
            "Buffer memory of the sockets by systemd unit or container, as tcp_unit_connections, read less often "
            "(inet_diag: as tcp_port_memory_bytes).",
            "unit",
            memory.units,
        )


def _quality(quality: Quality) -> Iterator[Metric]:
    """The sampled sockets by local port. The buckets are cumulative, as those of a histogram, and gauges."""
    rtt = GaugeMetricFamily(
        "tcp_port_rtt_seconds_bucket",
        "Sampled ESTABLISHED sockets with a smoothed round trip of at most le, by local port; a gauge, so never "
        "rate() it (inet_diag: tcpi_rtt).",
        labels=["port", "le"],
    )
    idle = GaugeMetricFamily(
        "tcp_port_idle_seconds_bucket",
        "Sampled ESTABLISHED sockets that sent or received data at most le ago, by local port; a gauge, so never "
        "rate() it (inet_diag: tcpi_last_data_sent, tcpi_last_data_recv).",
        labels=["port", "le"],
    )
    retransmitting = GaugeMetricFamily(
        "tcp_port_retransmitting_ratio",
        "Share of the sampled ESTABLISHED sockets with segments in flight that were sent again, by local port "
        "(inet_diag: tcpi_retrans).",
        labels=["port"],
    )
    limited = GaugeMetricFamily(
        "tcp_port_limited_ratio",
        "Share of the time with data in flight for which the peer's window, the local send buffer, or neither of them, "
        "so the path, limited the sampled ESTABLISHED sockets, over their whole life, by local port "
        "(inet_diag: tcpi_rwnd_limited, tcpi_sndbuf_limited, tcpi_busy_time).",
        labels=["port", "by"],
    )
    for port, found in quality.ports.items():
        for family, bounds, buckets in ((rtt, RTT_BOUNDS, found.rtt), (idle, IDLE_BOUNDS, found.idle)):
            for bound, number in zip((*bounds, math.inf), accumulate(buckets), strict=True):
                family.add_metric([port, "+Inf" if bound == math.inf else str(bound)], number)
        retransmitting.add_metric([port], found.retransmitting / found.sockets)
        for limit, share in found.limited().items():
            limited.add_metric([port, limit], share)
    yield from (rtt, idle, retransmitting, limited)
    if quality.sampled is not None:
        yield GaugeMetricFamily(
            "tcp_exporter_sampled_ratio",
            "Share of the ESTABLISHED sockets whose tcp_info the last detail pass read; it reads others in the next "
            "(inet_diag).",
            quality.sampled,
        )


def _statuses(health: Health | None, view: View) -> Iterator[Metric]:
    """What was concluded. Of a stale sample everything is UNKNOWN, and what does not exist here stays absent."""
    current = None if view.stale else health
    measures = {name: Status.UNKNOWN for name, threshold in view.thresholds.items() if threshold != NO_THRESHOLD}
    if current is not None:
        measures |= {result.measure: result.status for result in current.results if result.measure in measures}
    status = GaugeMetricFamily(
        "tcp_status",
        "What check_tcp_states would exit with: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (as the measure itself).",
        labels=["measure"],
    )
    for measure, judged in measures.items():
        status.add_metric([measure], judged.value)
    yield status
    found = GaugeMetricFamily(
        "tcp_finding_status",
        "Whether the finding is there: 0 no, 1 WARNING, 2 CRITICAL, 3 could not be judged; absent where it cannot "
        "exist (docs/findings.md).",
        labels=["finding"],
    )
    for judgement in () if health is None else health.judgements:
        found.add_metric([judgement.name], (judgement.status if current is not None else Status.UNKNOWN).value)
    yield found
    yield GaugeMetricFamily(
        "tcp_host_status",
        "The worst of tcp_status, tcp_finding_status and sysctl.expected: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN, "
        "which is worse than OK and better than WARNING (as those).",
        (Status.UNKNOWN if current is None else current.status).value,
    )


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


def sysctls(
    snapshot: Snapshot, verdicts: Sequence[Verdict], exported: Collection[str] | None = None
) -> Iterator[Metric]:
    """The sysctls that are *exported*, None for all.

    They change seldom, so the result may be kept for the same arguments.
    """
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
        if exported is not None and value.name not in exported:
            continue
        for field, number in value.fields:
            values.add_metric([value.name, field, value.unit], number)
        if value.text is not None:
            texts.add_metric([value.name, value.text], 1)
    yield values
    yield texts
    if verdicts:
        yield from _verdicts(verdicts)


def _verdicts(verdicts: Sequence[Verdict]) -> Iterator[Metric]:
    """What the profile and the configuration say; an entry that only explains accepts anything and has no series."""
    recommended = GaugeMetricFamily(
        "tcp_sysctl_recommended_value",
        "The recommended or expected value nearest to tcp_sysctl_value: the same number where that is right "
        "(profile in docs/sysctls.md and sysctl.expected of the configuration file).",
        labels=["name", "field"],
    )
    deviates = GaugeMetricFamily(
        "tcp_sysctl_deviates",
        "1 if the sysctl is outside of what is recommended or expected, else 0 (as tcp_sysctl_recommended_value).",
        labels=["name", "field"],
    )
    for verdict in verdicts:
        if verdict.accepted:
            if isinstance(verdict.recommended, int):
                recommended.add_metric([verdict.name, verdict.field], verdict.recommended)
            deviates.add_metric([verdict.name, verdict.field], int(verdict.deviates))
    yield recommended
    yield deviates


def _exporter(sample: Sample | None, view: View) -> Iterator[Metric]:
    build = GaugeMetricFamily(
        "tcp_exporter_build_info", "1, with the versions of this program and its Python.", labels=["version", "python"]
    )
    build.add_metric([__version__, view.python], 1)
    yield build
    yield GaugeMetricFamily(
        "tcp_exporter_config_last_reload_successful",
        "1 if the configuration and the web configuration were accepted when last read, else 0.",
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
        "1 if the source could be read for the last sample, else 0; absent where it does not exist.",
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
            f"1 when TIME-WAIT, and ESTABLISHED above {FEW:,} while few change or between two walks, come from the "
            "kernel's counters, 0 when every socket was counted.",
            int(snapshot.connections.derived),
        )
        yield GaugeMetricFamily(
            "tcp_exporter_walk_timestamp_seconds",
            "When the last walk of the sockets ended, Unix time: so old are the states that only a walk counts.",
            round(
                snapshot.taken_at - snapshot.connections.walk_age, 3
            ),  # of two clocks that are read one after the other
        )
    yield GaugeMetricFamily(
        "tcp_exporter_sample_timestamp_seconds", "When the last sample was taken, Unix time.", snapshot.taken_at
    )


def _passes(sample: Sample) -> Iterator[Metric]:
    duration = GaugeMetricFamily(
        "tcp_exporter_sample_duration_seconds",
        "Wall time of the last pass of the kind; a light pass without the walk just before it.",
        labels=["pass"],
    )
    cpu = GaugeMetricFamily(
        "tcp_exporter_sample_cpu_seconds", "CPU time of the last pass of the kind, likewise.", labels=["pass"]
    )
    interval = GaugeMetricFamily(
        "tcp_exporter_sample_interval_seconds",
        "Time from the last pass of the kind to the next: as configured, or longer to stay within the CPU share.",
        labels=["pass"],
    )
    configured = GaugeMetricFamily(
        "tcp_exporter_sample_configured_interval_seconds",
        "Configured time between two passes of the kind (configuration file).",
        labels=["pass"],
    )
    total = CounterMetricFamily("tcp_exporter_samples", "Passes of the kind since the start.", labels=["pass"])
    for kind, run in sample.passes.items():
        duration.add_metric([kind], run.duration)
        cpu.add_metric([kind], run.cpu)
        if math.isfinite(run.interval):
            interval.add_metric([kind], run.interval)
            configured.add_metric([kind], run.configured)
        total.add_metric([kind], run.total)
    yield from (duration, cpu, interval, configured, total)
    errors = CounterMetricFamily(
        "tcp_exporter_sample_errors", "Samples for which the source could not be read.", labels=["source"]
    )
    for source, number in sample.source_errors.items():
        errors.add_metric([source], number)
    yield errors
    yield CounterMetricFamily(
        "tcp_exporter_sample_overruns", "Passes that ended after the next one was due.", sample.overruns
    )


def _by_label_and_state(name: str, documentation: str, label: str, counts: Mapping[str, StateCounts]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=[label, "state"])
    for value, by_state in counts.items():
        for state, number in by_label(by_state).items():
            family.add_metric([value, state], number)
    return family


def _by_label(name: str, documentation: str, label: str, numbers: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=[label])
    for value, number in numbers.items():
        family.add_metric([value], number)
    return family


def _by_state(name: str, documentation: str, counts: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=["state"])
    for label, number in counts.items():
        family.add_metric([label], number)
    return family
