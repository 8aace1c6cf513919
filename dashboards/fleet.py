"""The page of all hosts: how many are well, which are not, and what differs between them.

It stays cheap at ten thousand hosts: numbers and tables ask for the last value only, lists end at twenty or fifty, and
what is drawn over time are the recording rules of ``deploy/prometheus/rules.yml``. What names a host leads to its page.
"""

from __future__ import annotations

from dashboards.grafana import (
    GRAY,
    GREEN,
    LIMIT_DASH,
    ORANGE,
    PEAK_DASH,
    RED,
    YELLOW,
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
from dashboards.host import FILLING, FLEET_UID, FULL_IN, RUNBOOK, SOME, UID, firing_alerts
from exporter.health.sysctls.profile import BY_SYSCTL


def host_page(labels: str) -> str:
    """Where a click on a host leads; *labels* is where Grafana finds those of the row or the series."""
    chosen = "&".join(f"var-{name}=${{{labels}.{name}}}" for name in ("job", "instance"))
    return f"/d/{UID}?${{datasource:queryparam}}&{chosen}&${{__url_time_range}}"


FROM_ROW, FROM_SERIES = host_page("__data.fields"), host_page("__field.labels")

RANK = (
    Meaning(3, "CRITICAL", RED),
    Meaning(2, "WARNING", YELLOW),
    Meaning(1, "UNKNOWN", GRAY),
    Meaning(0, "OK", GREEN),
)
"""Statuses in the order of the plugin, OK < UNKNOWN < WARNING < CRITICAL: the worst is the largest."""
RANKED = (
    "(tcp_host_status{} == 2) + 1 or (tcp_host_status{} == 1) + 1 or (tcp_host_status{} == 3) - 2"
    " or tcp_host_status{} == 0"
)

HOST_COLUMNS = (Column("instance", "instance", link=FROM_ROW), Column("job", "job"))
FEW = ((1, RED),)


def with_status(status: int) -> str:
    """How many hosts have it: by the recording rules, which a server above the shards has, or by each host's series."""
    recorded = f'sum(job:tcp_host_status:count{{status="{status}"}}) or 0 * sum(job:up:count{{}})'
    return f"{recorded} or sum(tcp_host_status{{}} == bool {status})"


def number(title: str, description: str, expression: str, steps: tuple[tuple[float, str], ...]) -> Panel:
    """A number of all hosts together, in the first line of the page."""
    return Panel(title, description, (Query(expression, title, instant=True),), kind="stat", unit="none", width=3,
                 height=4, steps=steps)  # fmt: skip


WELL = Row(
    "Are the hosts well?",
    (
        number(
            "Hosts",
            "Targets that Prometheus scrapes. Worry where it is fewer than the hosts that you have: discovery lost "
            "some.",
            "sum(job:up:count{}) or count(up{})",
            (),
        ),
        number(
            "Down",
            "Hosts whose exporter did not answer the last scrape: nobody watches their TCP.",
            "sum(job:up:count{}) - sum(job:up:sum{}) or sum(up{} == bool 0)",
            FEW,
        ),
        number(
            "Stale",
            "Hosts whose exporter answers and has no fresh sample: it hangs, or can read nothing.",
            'sum(up{}) - (count(tcp_connections{state="listen"}) or 0 * sum(up{}))',
            FEW,
        ),
        number(
            "Degraded",
            "Hosts where a source of the last sample failed: some numbers are absent there.",
            "sum(min without (source) (tcp_exporter_source_up{}) == bool 0)",
            SOME,
        ),
        number(
            "Critical",
            "Hosts with a critical finding or threshold: the table below names them. To be looked at now.",
            with_status(2),
            FEW,
        ),
        number(
            "Warning",
            "Hosts where the worst finding, threshold or expected sysctl is a warning.",
            with_status(1),
            ((1, YELLOW),),
        ),
        number(
            "Unknown",
            "Hosts that cannot judge a finding or a threshold, and have nothing worse. Stale hosts are among them.",
            with_status(3),
            SOME,
        ),
        number(
            "Deviations",
            "Sysctls outside of what is recommended or expected, of all hosts together. See the last row of this page.",
            "sum(job:tcp_sysctl_deviates:sum{})",
            SOME,
        ),
        firing_alerts(
            "The alerts that fire now, on all hosts, up to fifty, the latest first. A click on an alert opens its "
            "runbook, which the exporter of its host serves; one on a host leads to its page. One alert on many hosts "
            "has one cause.",
            Column("alertname", "Alert", link="http://${__data.fields.instance}/runbooks/${__data.fields.Alert}",
                   leads_to=RUNBOOK),
            *HOST_COLUMNS,
        )._replace(width=24),
        Panel(
            "Worst hosts",
            "The twenty hosts whose status is worst, worst first: CRITICAL is to be looked at now. A click on the "
            "host leads to its page, which names the findings. All OK means that all is well everywhere.",
            (Query(f"topk(20, {RANKED})"),),
            kind="table", unit="none", width=12, height=10, sort="Status",
            columns=(*HOST_COLUMNS, Column("Value", "Status", meanings=RANK)),
        ),
        Panel(
            "Exporters that do not tell all",
            "Up to fifty exporters that are down, stale or cannot read a source; their hosts are not watched, or not "
            "wholly. Empty is good news as long as the number of hosts above is right.",
            (
                Query(
                    'topk(50, label_replace(up{} == 0, "problem", "down", "", "")'
                    ' or label_replace(up{} == 1 unless ignoring(state) tcp_connections{state="listen"},'
                    ' "problem", "stale", "", "")'
                    ' or label_replace(tcp_exporter_source_up{} == 0, "problem", "cannot read $1", "source", "(.+)"))'
                ),
            ),
            kind="table", unit="none", width=12, height=10,
            columns=(*HOST_COLUMNS, Column("problem", "Problem")),
        ),
    ),
)  # fmt: skip

LIMITS = Row(
    "Near a limit",
    (
        Panel(
            "Established against the critical threshold",
            "The twenty hosts nearest to their critical limit of established connections, or beyond it. 100 % alerts. "
            "Many hosts near it together are load; one alone is a leak or an uneven balancer.",
            (
                Query(
                    'topk(20, tcp_connections{state="established"} / ignoring(state, measure, severity)'
                    ' tcp_threshold{measure="established",severity="critical"})',
                    "{{instance}}",
                    instant=True,
                ),
            ),
            kind="bargauge", unit="percentunit", height=10, maximum=1, steps=((0.75, YELLOW), (1, RED)),
            link=FROM_SERIES,
        ),
        Panel(
            "Fullest limits",
            "The twenty fullest kernel limits of all hosts, whichever it is: a full one drops or refuses. Plan at 70 "
            "%, act at 90 %.",
            (Query("topk(20, tcp_saturation_ratio{})"),),
            kind="table", unit="none", height=10, sort="Full",
            columns=(
                *HOST_COLUMNS, Column("resource", "Limit"), Column("Value", "Full", unit="percentunit", steps=FILLING),
            ),
        ),
        Panel(
            "Full soonest",
            "The twenty limits that are full soonest if they go on like the last hour, soonest first. Below a day look "
            "for what changed; below 4 hours the alert fires. Limits that do not rise are not listed.",
            (Query("bottomk(20, tcp_saturation_seconds_to_full{})"),),
            kind="table", unit="none", height=10, sort="Full in", ascending=True,
            columns=(
                *HOST_COLUMNS, Column("resource", "Limit"), Column("Value", "Full in", unit="s", steps=FULL_IN),
            ),
        ),
        Panel(
            "Hosts that drop",
            "The twenty hosts that drop most at listeners, in drops a second. Anything "
            "above 0 are clients that wait; the host's page says whether a SYN queue or an accept queue is full.",
            (Query("topk(20, rate(tcp_listen_drops_total{}[$__rate_interval]))", "{{instance}}", instant=True),),
            kind="bargauge", unit="cps", height=10, steps=((0.001, ORANGE), (1, RED)), link=FROM_SERIES,
        ),
        Panel(
            "Fullest of each limit over time",
            "Each kernel limit on the host where it is fullest; dotted is what 99 of 100 hosts are below. A line that "
            "climbs for days is to be planned for; one that jumps alone is one host: the table above names it.",
            (
                Query("max by (resource) (job:tcp_saturation_ratio:max{})", "{{resource}}"),
                Query("max by (resource) (job:tcp_saturation_ratio:p99{})", "{{resource}}, 99 of 100"),
            ),
            unit="percentunit", width=24, lines=(Line(".*99 of 100", PEAK_DASH),),
        ),
    ),
)  # fmt: skip

TRAFFIC = Row(
    "All hosts over time",
    (
        Panel(
            "Hosts that answer, and their status",
            "How many exporters answer, of all that are scraped, and how many hosts are not OK. "
            "Worry where their number jumps: one cause for many hosts. A line that is missing is none.",
            (
                Query("sum(job:up:count{})", "hosts"),
                Query("sum(job:up:sum{})", "hosts that answer"),
                Query('sum(job:tcp_host_status:count{status="2"})', "hosts CRITICAL"),
                Query('sum(job:tcp_host_status:count{status="1"})', "hosts WARNING"),
                Query('sum(job:tcp_host_status:count{status="3"})', "hosts UNKNOWN"),
            ),
            width=8, lines=(Line("hosts", LIMIT_DASH, GRAY),),
        ),
        Panel(
            "Findings",
            "On how many hosts each finding is there, as WARNING or CRITICAL. A line that is missing is none. One "
            "finding that rises on many hosts at once has one cause: an attack, a deployment, a dependency.",
            (Query('sum by (finding) (job:tcp_finding_status:count{status=~"1|2"})', "{{finding}}"),),
            width=8,
        ),
        Panel(
            "Sockets by state",
            "All sockets of all hosts but listeners, stacked. Worry where one colour grows against the others.",
            (Query('sum by (state) (job:tcp_connections:sum{state!="listen"})', "{{state}}"),),
            stacked=True, width=8,
        ),
        Panel(
            "Drops and cookies",
            "What all hosts together drop at listeners, and SYN cookies that they send, over five minutes. 0 is "
            "normal; cookies on many hosts at once are a SYN flood against the whole service.",
            (
                Query("sum(job:tcp_listen_overflows:rate5m{})", "accept queue full"),
                Query("sum(job:tcp_listen_drops:rate5m{})", "all drops at listeners"),
                Query("sum(job:tcp_syncookies_sent:rate5m{})", "SYN cookies sent"),
                Query("sum(job:tcp_syn_queue_full_drops:rate5m{})", "SYN queue full, dropped"),
            ),
            unit="cps",
        ),
        Panel(
            "Retransmitted per sent segment",
            "Segments sent again against those sent the first time, all hosts of a job together, over five minutes. A "
            "step that all hosts share is the network and not a host.",
            (Query("job:tcp_segments_retransmitted_per_sent:ratio_rate5m{}", "{{job}}"),),
            unit="percentunit",
        ),
    ),
)  # fmt: skip

SAMENESS = Row(
    "What differs between hosts",
    (
        Panel(
            "Sysctls: hosts that deviate, and values",
            "On how many hosts a sysctl is outside of what is recommended or expected, and how many values it has "
            "across hosts. A few hosts of many are drift; all of them are a decision that belongs into "
            "sysctl.expected.",
            (
                Query("sum by (name, field) (job:tcp_sysctl_deviates:sum{})"),
                Query("max by (name, field) (job:tcp_sysctl_values:count{})"),
            ),
            kind="table", unit="none", width=8, sort="Deviating",
            columns=(
                Column("name", "Sysctl", width=200), Column("field", "Field"),
                Column("Value #A", "Deviating", steps=SOME),
                Column("Value #B", "Values", steps=((2, YELLOW),)),
            ),
        ),
        Panel(
            "Values of $sysctl",
            "The values that the sysctl chosen above has, and on how many hosts. More than one row of a field is a "
            "fleet that is not of one piece.",
            (Query('count_values by (field) ("setting", tcp_sysctl_value{name="$sysctl"})'),),
            kind="table", unit="none", width=8, sort="Hosts",
            columns=(Column("field", "Field"), Column("setting", "Setting"), Column("Value", "Hosts")),
        ),
        Panel(
            "Versions and readers",
            "The exporter's versions and how they count, with the number of hosts. Old versions are an update that did "
            "not arrive; procfs instead of netlink costs more and tells less.",
            (
                Query(
                    "count by (version, reader) (tcp_exporter_build_info{}"
                    " * ignoring(reader, version, python) group_left(reader) tcp_exporter_reader_info{}"
                    " or ignoring(reader) tcp_exporter_build_info{})"
                ),
            ),
            kind="table", unit="none", width=8, sort="Hosts",
            columns=(Column("version", "Version"), Column("reader", "Reader"), Column("Value", "Hosts")),
        ),
    ),
)  # fmt: skip

DASHBOARD = Dashboard(
    uid=FLEET_UID,
    title="TCP exporter / Fleet",
    description="All hosts' TCP health: how many are well, which are not, and what differs between them.",
    scope='job=~"$job"',
    variables=(
        Variable("job", "Job", "label_values(tcp_exporter_build_info, job)", several=True),
        Variable("sysctl", "Sysctl", options=tuple(BY_SYSCTL)),
    ),
    links=(Link("Host", f"/d/{UID}"),),
    rows=(WELL, LIMITS, TRAFFIC, SAMENESS),
    refresh="1m",
)
