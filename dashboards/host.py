"""The page of one host: from "is it well" at the top to the exporter itself at the bottom.

Limits are drawn beside the counts as dashed lines, peaks as dotted ones.
"""

from __future__ import annotations

from dashboards.grafana import (
    CRITICAL,
    GRAY,
    GREEN,
    LIMIT,
    LIMIT_DASH,
    ORANGE,
    PEAK,
    RED,
    WARNING,
    YELLOW,
    Annotation,
    Column,
    Dashboard,
    Line,
    Link,
    Meaning,
    Panel,
    Query,
    Row,
    Variable,
)
from exporter.health.forecast import HORIZON

UID, FLEET_UID = "tcp-exporter-host", "tcp-exporter-fleet"

STATUS = (Meaning(0, "OK", GREEN), Meaning(1, "WARNING", YELLOW), Meaning(2, "CRITICAL", RED),
          Meaning(3, "UNKNOWN", GRAY))  # fmt: skip
UP = (Meaning(0, "DOWN", RED), Meaning(1, "UP", GREEN))
FILLING = ((0.7, YELLOW), (0.9, RED))
AGE = ((60, YELLOW), (120, RED))  # four and eight scrapes, as far as deploy/prometheus/scrape.yml is followed
SOME = ((1, ORANGE),)
NOT_SOON = (Meaning(int(HORIZON), "> 30 days", GREEN),)
FULL_IN = ((0, RED), (14400, ORANGE), (86400, GREEN))  # seconds until a limit is full


def rate(*counters: tuple[str, str]) -> tuple[Query, ...]:
    """Counters a second, each with its legend."""
    return tuple(Query(f"rate({name}{{}}[$__rate_interval])", legend) for name, legend in counters)


def thresholds(measure: str) -> tuple[Query, ...]:
    """The plugin's limits of a measure; none is drawn where none is configured."""
    return tuple(
        Query(f'tcp_threshold{{measure="{measure}",severity="{severity}"}}', severity)
        for severity in ("warning", "critical")
    )


def state(name: str) -> tuple[Query, ...]:
    """How many sockets are in a state, the peak between scrapes, and the limits in force."""
    return (
        Query(f'tcp_connections{{state="{name}"}}', name),
        Query(f'tcp_connections_peak{{state="{name}"}}', f"{name} peak"),
        *thresholds(name),
    )


STATE_LINES = (PEAK, WARNING, CRITICAL)

RUNBOOK = "The runbook"


def firing_alerts(description: str, *columns: Column) -> Panel:
    """The alerts that fire, the latest first; *columns* name them and lead on."""
    since = "ALERTS_FOR_STATE{} * 1000"  # milliseconds, which Grafana's unit takes
    return Panel(
        "Firing alerts",
        description,
        (Query(f'topk(50, {since} and ignoring(alertstate) ALERTS{{alertstate="firing"}})'),),
        kind="table", unit="none", width=20, height=6, sort="Since",
        columns=(
            *columns, Column("severity", "Severity"), Column("measure", "Measure"),
            Column("Value", "Since", unit="dateTimeFromNow"),
        ),
    )  # fmt: skip


WELL = Row(
    "Is the host well?",
    (
        Panel(
            "Status",
            "The worst of thresholds, findings and expected sysctls: the word at the top of the host's own page, to "
            "which the link above leads. CRITICAL is to be looked at now; UNKNOWN means that something cannot be "
            "judged.",
            (Query("tcp_host_status{}", "host", instant=True),),
            kind="stat", unit="none", width=4, height=6, meanings=STATUS,
        ),
        firing_alerts(
            "The alerts of alerts.yml that fire for this host now, and since when. A click on one opens its runbook, "
            "which the exporter serves. Empty is good news as long as Prometheus has that file loaded.",
            Column("alertname", "Alert", link="http://${instance}/runbooks/${__data.fields.Alert}", leads_to=RUNBOOK),
        ),
        Panel(
            "Thresholds",
            "What check_tcp_states says of every measure that has a threshold. CRITICAL is to be looked at now; "
            "UNKNOWN means that the number cannot be read: look at the sources on the right.",
            (Query("tcp_status{}", "{{measure}}", instant=True),),
            kind="stat", unit="none", width=12, height=4, meanings=STATUS, text="value_and_name",
        ),
        Panel(
            "Exporter",
            "Whether Prometheus could scrape the exporter the last time. While it is DOWN the rest of this page is "
            "old.",
            (Query("up{}", "scrape", instant=True),),
            kind="stat", unit="none", width=3, height=4, meanings=UP,
        ),
        Panel(
            "Age of the sample",
            "Time since the kernel was last read, by Prometheus's clock: the scrape interval at most. Beyond a minute "
            "the exporter hangs, its interval is that long (last row), or the clocks of the two hosts differ.",
            (Query("time() - tcp_exporter_sample_timestamp_seconds{}", "age", instant=True),),
            kind="stat", unit="s", width=3, height=4, steps=AGE,
        ),
        Panel(
            "Sources that fail",
            "How many kernel sources could not be read for the last sample. Above 0 some numbers are absent; "
            "the last row of this page says which source it is.",
            (Query("sum(tcp_exporter_source_up{} == bool 0)", "failing", instant=True),),
            kind="stat", unit="none", width=3, height=4, steps=SOME,
        ),
        Panel(
            "Drops",
            "SYNs and last ACKs that listeners drop in a second, for whatever cause. Anything above 0 is a client that "
            "waits; the rows about handshakes and accept queues say which queue is full.",
            (Query("rate(tcp_listen_drops_total{}[$__rate_interval])", "drops", instant=True),),
            kind="stat", unit="cps", width=3, height=4, steps=((0.001, RED),),
        ),
        Panel(
            "Findings",
            "Everything that is looked for, over time: green is not there, yellow and red are WARNING and CRITICAL, "
            "grey could not be judged. Where one lasts, its alert fires, and its runbook says what to do. A finding "
            "that cannot exist on this host has no line.",
            (Query("tcp_finding_status{}", "{{finding}}"),),
            kind="state-timeline", unit="none", width=24, height=10, meanings=STATUS,
        ),
        Panel(
            "Established connections against their thresholds",
            "ESTABLISHED now, its highest value between scrapes, and the limits that the plugin and the alerts use. "
            "Worry where the count stays above the warning line; a peak alone above it is a burst.",
            state("established"),
            unit="short", width=14, height=9, lines=STATE_LINES,
        ),
        Panel(
            "How full each limit is",
            "Each kernel limit with what is used of it. Full means that the kernel drops or refuses: plan at 70 %, act "
            "at 90 %, of orphans at 25 %. A limit that this host or container cannot see has no bar.",
            (Query("tcp_saturation_ratio{}", "{{resource}}", instant=True),),
            kind="bargauge", unit="percentunit", width=10, height=9, maximum=1, steps=FILLING,
        ),
        Panel(
            "Full in",
            "When each limit is full if it goes on like the last hour. 30 days stand for everything that does not rise "
            "steadily, or that the daemon has not watched for 20 minutes. Below a day look for what changed; below 4 "
            "hours the alert fires, unless yesterday looked the same.",
            (
                Query(
                    f"tcp_saturation_seconds_to_full{{}} or tcp_saturation_ratio{{}} * 0 + {HORIZON}", "{{resource}}",
                    instant=True,
                ),
            ),
            kind="stat", unit="s", width=24, height=4, text="value_and_name", meanings=NOT_SOON,
            steps=FULL_IN,
        ),
    ),
)  # fmt: skip

STATES = Row(
    "States",
    (
        Panel(
            "Sockets by state",
            "All sockets but listeners, stacked: the height is their number. Worry where one colour grows and does not "
            "come back: CLOSE-WAIT is a leak of the application, SYN-RECEIVED a flood or lost handshakes, FIN-WAIT and "
            "LAST-ACK peers that went away.",
            (Query('tcp_connections{state!="listen"}', "{{state}}"),),
            stacked=True, height=9,
        ),
        Panel(
            "Opening and closing states, and their peaks",
            "The states that should be short. Dotted is the highest value between scrapes: where it is far above the "
            "line, connections come in bursts that the scrapes do not meet.",
            (
                Query('tcp_connections{state=~"syn_sent|syn_recv|fin_wait1|fin_wait2|close_wait|last_ack|closing"}',
                      "{{state}}"),
                Query('tcp_connections_peak{state=~"syn_sent|syn_recv|fin_wait1|fin_wait2|close_wait|last_ack|closing"}',
                      "{{state}} peak"),
            ),
            height=9, lines=(PEAK,),
        ),
        Panel(
            "By unit",
            "The ten systemd units or containers with the most sockets, listeners left out: whose connections they "
            "are. `none` are half-open connections and TIME-WAIT, of which the kernel keeps no owner. Absent with the "
            "reader procfs.",
            (Query('topk(10, sum by (unit) (tcp_unit_connections{state!="listen"}))', "{{unit}}"),),
            width=8,
        ),
        Panel(
            "By local port",
            "The ten local ports with the most sockets, listeners left out; `other` are all ports that nobody listens "
            "on, those of outgoing connections among them. A service whose port grows alone is the one to look at.",
            (Query('topk(10, sum by (port) (tcp_port_connections{state!="listen"}))', "{{port}}"),),
            width=8,
        ),
        Panel(
            "By family",
            "The same sockets by the family of the socket, stacked. An IPv4 client of a dual-stack listener is an IPv6 "
            "socket. Worry where one family falls to nothing: its addresses or routes are gone.",
            (Query('sum by (family) (tcp_family_connections{state!="listen"})', "{{family}}"),),
            stacked=True, width=8,
        ),
    ),
)  # fmt: skip

HANDSHAKES = Row(
    "Handshakes and SYN flood",
    (
        Panel(
            "Half-open connections by listener",
            "Handshakes that wait for the last ACK, of the ten listeners that have most, and the host's peak. Some "
            "tens are normal on a busy server. Worry where they stay high while opens do not: a SYN flood, or a path "
            "that loses packets.",
            (
                Query("topk(10, tcp_listener_syn_recv{})", "{{address}} port {{port}}"),
                Query('tcp_connections_peak{state="syn_recv"}', "host peak"),
                *thresholds("syn_recv"),
            ),
            lines=STATE_LINES,
        ),
        Panel(
            "Fullest SYN queue",
            "The most half-open connections of one listener against what its queue holds: the backlog + 1 or, with "
            "cookies off, three quarters of tcp_max_syn_backlog where that is less. At 100 % new SYNs are answered "
            "with cookies, or dropped where tcp_syncookies is 0.",
            (Query('tcp_saturation_ratio{resource="syn_queue"}', "syn_queue"),),
            unit="percentunit", steps=FILLING,
        ),
        Panel(
            "SYN cookies and SYN-queue drops",
            "Cookies sent, those that came back, and SYNs dropped because the queue was full. A well host has none. "
            "Many sent and few received is a SYN flood; as many received as sent is real load on a small backlog.",
            rate(
                ("tcp_syncookies_sent_total", "cookies sent"),
                ("tcp_syncookies_received_total", "cookies that came back"),
                ("tcp_syncookies_failed_total", "cookies that were invalid"),
                ("tcp_syn_queue_full_cookies_total", "queue full, cookie"),
                ("tcp_syn_queue_full_drops_total", "queue full, dropped"),
            ),
            unit="cps",
        ),
        Panel(
            "Opens and failed handshakes",
            "Connections opened from here and accepted from outside, and what went wrong with them. Worry where "
            "failures or SYN retransmissions rise with the opens: a peer refuses or does not answer.",
            rate(
                ("tcp_active_opens_total", "opened from here"),
                ("tcp_passive_opens_total", "accepted"),
                ("tcp_attempt_fails_total", "failed"),
                ("tcp_syn_retransmits_total", "SYN or SYN-ACK sent again"),
                ("tcp_embryonic_resets_total", "reset while half-open"),
            ),
            unit="cps",
        ),
    ),
)  # fmt: skip

ACCEPT = Row(
    "Accept queues",
    (
        Panel(
            "Connections that wait for accept, by listener",
            "Finished handshakes that the application has not accepted yet, of the ten longest queues. Near 0 is "
            "normal. A queue that stays is an application that is too slow or stuck.",
            (Query("topk(10, tcp_listener_accept_queue_length{})", "{{address}} port {{port}}"),),
        ),
        Panel(
            "Listeners and their limits",
            "Each listener's queue beside its limit, the smaller of listen()'s backlog and somaxconn. Sockets above 1 "
            "share the port by SO_REUSEPORT and their queues are summed. From 100 % on the kernel drops.",
            (
                Query("max by (address, port) (tcp_listener_accept_queue_length{})"),
                Query("max by (address, port) (tcp_listener_accept_queue_limit{})"),
                Query("max by (address, port) (tcp_listener_sockets{})"),
                Query(
                    "max by (address, port) (tcp_listener_accept_queue_length{}"
                    " / (tcp_listener_accept_queue_limit{} + tcp_listener_sockets{}))"
                ),
            ),
            kind="table", unit="none", sort="Full",
            columns=(
                Column("address", "Address", width=150), Column("port", "Port"), Column("Value #A", "Waiting"),
                Column("Value #B", "Limit"), Column("Value #C", "Sockets"),
                Column("Value #D", "Full", unit="percentunit", steps=FILLING),
            ),
        ),
        Panel(
            "Overflows and drops at listeners",
            "SYNs and last ACKs dropped because an accept queue was full, and all drops at listeners. Anything above 0 "
            "is a client that waits for a second or more: make the application accept faster, then raise the backlog.",
            rate(
                ("tcp_listen_overflows_total", "accept queue full"),
                ("tcp_listen_drops_total", "all drops"),
                ("tcp_fastopen_listen_overflows_total", "Fast Open limit"),
                ("tcp_requests_not_migrated_total", "not moved to another listener"),
            ),
            unit="cps", width=8,
        ),
        Panel(
            "Segments dropped by listener",
            "Segments that each listener dropped, of the ten that drop most: at a full queue, and stray ones. It names "
            "the listener behind the drops of the whole host; worry where it stays above 0.",
            (
                Query(
                    "topk(10, rate(tcp_listener_dropped_segments_total{}[$__rate_interval]))",
                    "{{address}} port {{port}}",
                ),
            ),
            unit="pps", width=8,
        ),
        Panel(
            "Connections that wait for accept, all listeners",
            "Finished handshakes that no application has accepted yet, of the whole network namespace. Near 0 is "
            "normal; the panel by listener names the service that is too slow.",
            (Query("tcp_accept_pending{}", "waiting"),),
            width=8,
        ),
    ),
)  # fmt: skip

ENDINGS = Row(
    "TIME-WAIT, CLOSE-WAIT and ephemeral ports",
    (
        Panel(
            "TIME-WAIT against tcp_max_tw_buckets",
            "Mini-sockets in TIME-WAIT and FIN-WAIT-2, what the limit is compared with. Many are harmless by "
            "themselves; at the limit connections skip TIME-WAIT, and late segments may hit new connections.",
            (
                Query("tcp_timewait_sockets{}", "TIME-WAIT and FIN-WAIT-2"),
                Query('tcp_connections_peak{state="time_wait"}', "TIME-WAIT peak"),
                Query('tcp_sysctl_value{name="tcp_max_tw_buckets"}', "limit"),
                *thresholds("time_wait"),
            ),
            width=8, lines=(*STATE_LINES, LIMIT),
        ),
        Panel(
            "Coming into and out of TIME-WAIT",
            "How many began to wait, were taken over by a new connect(), or skipped the wait because the limit was "
            "reached. Skipped above 0: raise tcp_max_tw_buckets. Many begun: the side that closes first should keep "
            "its connections.",
            rate(
                ("tcp_timewait_started_total", "began to wait"),
                ("tcp_timewait_short_total", "began to wait, at most 4 s"),
                ("tcp_timewait_reused_total", "reused"),
                ("tcp_timewait_overflows_total", "skipped, limit reached"),
            ),
            unit="cps", width=8,
        ),
        Panel(
            "Ephemeral ports",
            "Local ports taken towards the busiest source, destination and port, against all that connect() may pick "
            "from. At the limit connect() fails with EADDRNOTAVAIL: pool connections, add addresses, or widen "
            "ip_local_port_range.",
            (
                Query("tcp_ephemeral_ports_used{}", "used towards the busiest destination"),
                Query("tcp_ephemeral_ports_available{}", "limit"),
            ),
            width=8, lines=(LIMIT,),
        ),
        Panel(
            "CLOSE-WAIT",
            "Connections that the peer has closed and the application here has not. It should be near 0; one that only "
            "grows is a leak of descriptors, and no sysctl mends it.",
            state("close_wait"),
            width=8, lines=STATE_LINES,
        ),
        Panel(
            "CLOSE-WAIT by unit",
            "The ten systemd units or containers that hold most connections in CLOSE-WAIT, each at least one: where "
            "close() is missing. Nobody is shown where there are none. Absent with the reader procfs.",
            (Query('topk(10, tcp_unit_connections{state="close_wait"} > 0)', "{{unit}}"),),
            width=8,
        ),
        Panel(
            "CLOSE-WAIT by local port",
            "The ten local ports with most connections in CLOSE-WAIT, each at least one: which service leaks; "
            "`other` is a client's side. Nobody is shown where there are none.",
            (Query('topk(10, tcp_port_connections{state="close_wait"} > 0)', "{{port}}"),),
            width=8,
        ),
    ),
)  # fmt: skip

LOSS = Row(
    "Retransmissions, timeouts and resets",
    (
        Panel(
            "Retransmitted per sent segment",
            "Segments sent again against those sent the first time. Below 0.1 % is usual inside a data centre; above "
            "1 % for minutes users notice: loss on a path, or a peer that is overloaded. No traffic is no ratio.",
            (
                Query(
                    "rate(tcp_segments_retransmitted_total{}[$__rate_interval])"
                    " / (rate(tcp_segments_sent_total{}[$__rate_interval]) > 0)",
                    "retransmitted",
                ),
            ),
            unit="percentunit", width=8,
        ),
        Panel(
            "Retransmissions and timeouts by kind",
            "Fast retransmissions cost a round trip; timeouts cost 200 ms and more, and are what users feel. Lost "
            "retransmissions mean loss that lasts. Worry where timeouts are a large part.",
            rate(
                ("tcp_segments_retransmitted_total", "all retransmissions"),
                ("tcp_fast_retransmits_total", "fast"),
                ("tcp_slow_start_retransmits_total", "in slow start"),
                ("tcp_lost_retransmits_total", "lost again"),
                ("tcp_timeouts_total", "timeouts"),
                ("tcp_spurious_timeouts_total", "needless timeouts"),
            ),
            unit="pps", width=8,
        ),
        Panel(
            "Connections that ended badly",
            "Connections reset or given up. Timeouts are peers that vanished; closed with unread data is an "
            "application that stops reading early. Worry where they rise against the opens.",
            rate(
                ("tcp_established_resets_total", "reset while established"),
                ("tcp_resets_sent_total", "resets sent"),
                ("tcp_aborts_on_timeout_total", "given up after timeouts"),
                ("tcp_aborts_on_close_total", "closed with unread data"),
                ("tcp_aborts_on_data_total", "late data or no linger"),
            ),
            unit="cps", width=8,
        ),
        Panel(
            "ESTABLISHED by timer",
            "What each established connection waits for, stacked. `none` is idle without keepalive: a dead peer is "
            "never noticed, and tcp_keepalive_time does nothing for it. Worry where `retransmit` or `probe` stays "
            "high: peers do not acknowledge, or do not read.",
            (Query("tcp_timer_connections{}", "{{timer}}"),),
            stacked=True,
        ),
        Panel(
            "Connections without an answer",
            "Established connections whose last three tries or more got no answer: keepalive probes and "
            "retransmissions go to dead peers or a broken path, window probes are dropped on their way. 0 is normal.",
            (Query('tcp_unanswered_connections{tries="3"}', "{{kind}}, 3 or more"),
             Query('tcp_unanswered_connections{tries="8"}', "{{kind}}, 8 or more")),
        ),
    ),
)  # fmt: skip

QUALITY = Row(
    "Connections by port: round trips, loss, idle time",
    (
        Panel(
            "Round trips by port",
            "The 90th percentile of the smoothed round trips of sampled ESTABLISHED sockets, by local port. Worry "
            "where one port moves alone: its clients, or the way to them, have changed. Absent with the reader procfs.",
            (Query("histogram_quantile(0.9, tcp_port_rtt_seconds_bucket{})", "{{port}}"),),
            unit="s", width=12,
        ),
        Panel(
            "Retransmitting by port",
            "The share of sampled ESTABLISHED sockets with segments in flight that were sent again, by local port. A "
            "few percent is normal on the internet; worry where it stays above a tenth.",
            (Query("tcp_port_retransmitting_ratio{}", "{{port}}"),),
            unit="percentunit", width=12,
        ),
        Panel(
            "Limited transfers by port",
            "Which share of the time with data in flight sampled sockets waited for the peer's window or for their own "
            "send buffer, by local port. Worry above a fifth on long paths: buffer_limits names the sysctl.",
            (Query('tcp_port_limited_ratio{by!="path"}', "{{port}} {{by}}"),),
            unit="percentunit", width=12, maximum=1,
        ),
        Panel(
            "Idle connections by port",
            "For how long the middle one of the sampled ESTABLISHED sockets has sent and received nothing, by local "
            "port. Worry where it only grows: connections that nobody uses or closes, or peers that are gone. Absent "
            "with the reader procfs.",
            (Query("histogram_quantile(0.5, tcp_port_idle_seconds_bucket{})", "{{port}}"),),
            unit="s",
        ),
    ),
)  # fmt: skip

CLOSES = Row(
    "How connections ended (detail.closes)",
    (
        Panel(
            "Connections that ended by local port",
            "The ten local ports with the most connections that ended, of the events that were received: the share is "
            "tcp_exporter_close_events_ratio. Worry where a port stops, or ends many more than it did.",
            (Query("topk(10, rate(tcp_port_closed_connections_total{}[$__rate_interval]))", "{{port}}"),),
            unit="cps",
        ),
        Panel(
            "Bytes by local port",
            "Payload that the ended connections received and sent, booked when they end: long connections show as "
            "spikes. Worry where a service's bytes fall while its connections do not.",
            (
                Query("topk(10, rate(tcp_port_received_bytes_total{}[$__rate_interval]))", "{{port}} received"),
                Query("topk(10, rate(tcp_port_sent_bytes_total{}[$__rate_interval]))", "{{port}} sent"),
            ),
            unit="Bps",
        ),
        Panel(
            "Retransmitted segments for each connection that ended",
            "Segments sent again, by local port, for each connection. Worry where one port has many more than the "
            "others: its clients are behind a path that loses.",
            (
                Query(
                    "topk(10, rate(tcp_port_retransmitted_segments_total{}[$__rate_interval])"
                    " / (rate(tcp_port_closed_connections_total{}[$__rate_interval]) > 0))",
                    "{{port}}",
                ),
            ),
        ),
        Panel(
            "Round-trip time at the end, 99 % and half of the connections",
            "Quantiles of the smoothed round-trip time of the connections that ended, by local port. Worry where the "
            "upper one leaves the lower: some clients are on a slow path.",
            tuple(
                Query(
                    f"histogram_quantile({quantile}, sum by (port, le)"
                    " (rate(tcp_port_connection_rtt_seconds_bucket{}[$__rate_interval]))) >= 0",
                    f"{{{{port}}}} {quantile}",
                )
                for quantile in ("0.99", "0.5")
            ),
            unit="s",
        ),
    ),
)  # fmt: skip

MEMORY = Row(
    "Memory and orphans",
    (
        Panel(
            "Memory of TCP buffers against tcp_mem",
            "Buffer memory of the whole host. Above the pressure line the kernel shrinks windows, at max it drops. A "
            "container that does not see the host's tcp_mem has no lines.",
            (Query("tcp_memory_bytes{}", "used"), Query("tcp_memory_limit_bytes{}", "limit {{level}}")),
            unit="bytes",
            lines=(
                Line("limit pressure", LIMIT_DASH, YELLOW), Line("limit max", LIMIT_DASH, RED),
                Line("limit min", LIMIT_DASH, GREEN),
            ),
        ),
        Panel(
            "Memory by unit",
            "The ten systemd units or containers whose sockets hold the most buffer memory, of this network namespace. "
            "A unit that grows while others do not is the one to look at. Absent with the reader procfs.",
            (Query("topk(10, sum by (unit) (tcp_unit_memory_bytes{}))", "{{unit}}"),),
            unit="bytes",
        ),
        Panel(
            "Memory by local port",
            "The ten local ports whose sockets hold the most buffer memory; `other` are all ports that nobody listens "
            "on, those of outgoing connections among them. Absent with the reader procfs.",
            (Query("topk(10, sum by (port) (tcp_port_memory_bytes{}))", "{{port}}"),),
            unit="bytes",
        ),
        Panel(
            "Orphans against tcp_max_orphans",
            "Sockets that no process holds any more, of the whole host. From a quarter of the limit on the kernel may "
            'reset them, and logs "too many orphaned sockets". Growth means peers that vanish while connections close.',
            (Query("tcp_orphans{}", "orphans"), Query('tcp_sysctl_value{name="tcp_max_orphans"}', "limit")),
            lines=(LIMIT,),
        ),
        Panel(
            "Connection tracking",
            "Entries of the conntrack table against nf_conntrack_max, of every protocol. At the limit the kernel drops "
            "packets of new connections. Absent where nothing tracks connections.",
            (Query("tcp_conntrack_entries{}", "entries"), Query("tcp_conntrack_entries_limit{}", "limit")),
            width=8, lines=(LIMIT,),
        ),
        Panel(
            "Connection tracking failures",
            "Packets dropped and entries refused because the conntrack table was full or a name clashed. Anything "
            "above 0 is a connection that fails: raise nf_conntrack_max, or track less.",
            rate(
                ("tcp_conntrack_drops_total", "dropped"),
                ("tcp_conntrack_insert_failed_total", "not inserted"),
            ),
            unit="pps", width=8,
        ),
        Panel(
            "Bytes in queues",
            "Received and not yet read by the applications; written and not yet acknowledged by the peers. A receive "
            "queue that stays is an application that does not read, a send queue a slow peer or path.",
            (
                Query("tcp_receive_queue_bytes{}", "to be read"),
                Query("tcp_send_queue_bytes{}", "to be acknowledged"),
            ),
            unit="bytes", width=8,
        ),
        Panel(
            "Short of memory",
            "What the kernel does when buffers run out. Collapses and prunes are slow applications; pressure, drops "
            "and killed orphans are the whole host: raise tcp_mem or find who holds the queues.",
            rate(
                ("tcp_memory_pressures_total", "memory pressure began"),
                ("tcp_aborts_on_memory_total", "orphans killed"),
                ("tcp_receive_collapses_total", "segments collapsed"),
                ("tcp_prune_calls_total", "receive buffer pruned"),
                ("tcp_receive_prunes_total", "pruning was not enough"),
                ("tcp_backlog_drops_total", "dropped, backlog full"),
                ("tcp_receive_queue_drops_total", "dropped, receive queue full"),
            ),
            unit="cps", width=24,
        ),
    ),
)  # fmt: skip

DEVIATING = "and on (job, instance, name, field) (tcp_sysctl_deviates{} == 1)"

SYSCTLS = Row(
    "Sysctls",
    (
        Panel(
            "Deviations",
            "How many sysctls are outside of what is recommended or, in the configuration file, expected. 0 is as it "
            "should be; more are named in the table beside, and `tcp-exporter advise` says why.",
            (Query("sum(tcp_sysctl_deviates{})", "deviations", instant=True),),
            kind="stat", unit="none", width=4, height=9, steps=SOME,
        ),
        Panel(
            "Sysctls that deviate",
            "The live value beside the nearest one that is recommended or expected; docs/sysctls.md has the reasons. "
            "Texts have no numbers here. An empty table is good news if the number on the left is 0.",
            (
                Query("max by (name, field) (tcp_sysctl_deviates{} == 1)"),
                Query(f"max by (name, field) (tcp_sysctl_value{{}} {DEVIATING})"),
                Query(f"max by (name, field) (tcp_sysctl_recommended_value{{}} {DEVIATING})"),
            ),
            kind="table", unit="none", width=10, height=9,
            columns=(
                Column("name", "Sysctl", width=230), Column("field", "Field"), Column("Value #B", "Live"),
                Column("Value #C", "Recommended"),
            ),
        ),
        Panel(
            "All sysctls",
            "Every number of net.ipv4.tcp_* and the few others that bear on TCP, as the kernel prints them: to look "
            "one up without logging in. A surprise here is to be compared with docs/sysctls.md.",
            (Query("max by (name, field, unit) (tcp_sysctl_value{})"),),
            kind="table", unit="none", width=10, height=9,
            columns=(
                Column("name", "Sysctl", width=230), Column("field", "Field"), Column("Value", "Live"),
                Column("unit", "Unit"),
            ),
        ),
    ),
)  # fmt: skip

EXPORTER = Row(
    "The exporter on itself",
    (
        Panel(
            "Sources",
            "Each kernel source and whether it could be read for the last sample. What depends on a source that is "
            "DOWN is absent, never 0; the exporter's log has the reason.",
            (Query("tcp_exporter_source_up{}", "{{source}}", instant=True),),
            kind="stat", unit="none", width=10, height=4, meanings=UP, text="value_and_name",
        ),
        Panel(
            "Reader",
            "Who counts the sockets. netlink is exact and cheap; procfs is the replacement where netlink is refused, "
            "without listeners' limits and units; psutil is for systems without either.",
            (Query("tcp_exporter_reader_info{}", "{{reader}}", instant=True),),
            kind="stat", unit="none", width=3, height=4, text="name",
        ),
        Panel(
            "Derived",
            "YES: TIME-WAIT, and ESTABLISHED above 1,000, come from the kernel's own counters, cheap at any size. "
            "NO for long means that every socket is walked: an old kernel, or counters that disagreed; the "
            "log says which.",
            (Query("tcp_exporter_sample_derived{}", "derived", instant=True),),
            kind="stat", unit="none", width=3, height=4, meanings=(Meaning(0, "NO", YELLOW), Meaning(1, "YES", GREEN)),
        ),
        Panel(
            "Configuration",
            "Whether the configuration, and that of the web, were accepted when last read. REFUSED: those before are "
            "in force; `tcp-exporter check-config` names every mistake.",
            (Query("tcp_exporter_config_last_reload_successful{}", "reload", instant=True),),
            kind="stat", unit="none", width=4, height=4,
            meanings=(Meaning(0, "REFUSED", RED), Meaning(1, "IN FORCE", GREEN)),
        ),
        Panel(
            "Version",
            "The exporter's version on this host. It should be that of its neighbours; the fleet's page compares them.",
            (Query("tcp_exporter_build_info{}", "{{version}}", instant=True),),
            kind="stat", unit="none", width=4, height=4, text="name",
        ),
        Panel(
            "Duration and CPU of a pass",
            "Wall and CPU time of the last pass of each kind. Those of walk and detail pass grow with the sockets, "
            "those of the light pass do not; wall time far above CPU time is a host that has no processor to give.",
            (
                Query("tcp_exporter_sample_duration_seconds{}", "{{pass}} wall"),
                Query("tcp_exporter_sample_cpu_seconds{}", "{{pass}} CPU"),
            ),
            unit="s", width=6,
        ),
        Panel(
            "CPU share",
            "CPU time of a pass against its interval: the share of one core that it takes. Each pass keeps itself to "
            "max_cpu_ratio, 1 % unless configured, by stretching its interval.",
            (
                Query(
                    "tcp_exporter_sample_cpu_seconds{} / tcp_exporter_sample_interval_seconds{}",
                    "{{pass}}",
                ),
            ),
            unit="percentunit", width=6,
        ),
        Panel(
            "Interval against the configured one",
            "Time from a pass to the next, and dashed as it is configured. Longer is stretched, to keep the CPU "
            "share: the numbers are right and older, and bursts shorter than it may be missed.",
            (
                Query("tcp_exporter_sample_interval_seconds{}", "{{pass}}"),
                Query("tcp_exporter_sample_configured_interval_seconds{}", "{{pass}} configured"),
            ),
            unit="s", width=6, lines=(Line(".*configured", LIMIT_DASH),),
        ),
        Panel(
            "Errors and overruns",
            "Samples that had to do without a source, and passes that ended after the next was due. Both are 0 on a "
            "well host; overruns that last mean that a pass is slower than its interval.",
            (
                Query("rate(tcp_exporter_sample_errors_total{}[$__rate_interval])", "without {{source}}"),
                *rate(("tcp_exporter_sample_overruns_total", "overruns")),
            ),
            unit="cps", width=6,
        ),
        Panel(
            "Folded into other",
            "Label values that a metric has no series of its own for. Above 0 a part of the units, ports or listeners "
            "is only in `other`: raise detail.max_series if that part is the one you look for.",
            (Query("tcp_exporter_folded{}", "{{metric}}", instant=True),),
            kind="stat", unit="none", width=18, height=4, text="value_and_name",
        ),
        Panel(
            "Sampled sockets",
            "The share of ESTABLISHED sockets whose details the last pass read, for the panels by port. Below 100 % "
            "the next pass reads others, so every connection has its turn.",
            (Query("tcp_exporter_sampled_ratio{}", "sampled", instant=True),),
            kind="stat", unit="percentunit", width=6, height=4,
        ),
    ),
)  # fmt: skip

NOT_BEFORE = "tcp_finding_status{} offset 2m"
ANNOTATIONS = (
    Annotation(
        "Sysctl changed",
        "sum by (name, field) (changes(tcp_sysctl_value{}[2m])) > 0",
        "{{name}} {{field}}", ORANGE,
    ),
    Annotation(
        "Exporter restarted",
        'resets(tcp_exporter_samples_total{pass="light"}[2m]) > 0',
        "{{instance}}", GRAY,
    ),
    Annotation(
        "Finding appeared",
        f"(tcp_finding_status{{}} == 1 or tcp_finding_status{{}} == 2) unless ({NOT_BEFORE} == 1 or {NOT_BEFORE} == 2)",
        "{{finding}}", RED,
    ),
)  # fmt: skip
"""Events of two minutes each, so that two scrapes are within and Grafana's step of a minute misses none."""

DASHBOARD = Dashboard(
    uid=UID,
    title="TCP exporter / Host",
    description="One host's TCP health: sockets by state, the limits beside them, whose they are.",
    scope='job=~"$job",instance=~"$instance"',
    variables=(
        Variable("job", "Job", "label_values(tcp_exporter_build_info, job)", several=True),
        Variable("instance", "Instance", 'label_values(tcp_exporter_build_info{job=~"$job"}, instance)'),
    ),
    links=(Link("Fleet", f"/d/{FLEET_UID}"), Link("Status page", "http://${instance}/", outside=True)),
    rows=(WELL, STATES, HANDSHAKES, ACCEPT, ENDINGS, LOSS, QUALITY, CLOSES, MEMORY, SYSCTLS, EXPORTER),
    annotations=ANNOTATIONS,
)
