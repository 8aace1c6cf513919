"""What the benchmarks publish: the documents show the last full run, and a figure is judged by what is worse for us.

``.ci/run`` runs the whole suite at a small size, which tries everything else. No time is asserted, here or there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.documents import CODINGS, PATHS, request
from benchmarks.figures import Figure, figures
from benchmarks.fleet.simulated import Line, extrapolated
from benchmarks.report import figures_table, markdown, summary
from benchmarks.results import ESTABLISHED, Key, Results, of_json

RESULTS = Path(__file__).parent.parent / "docs" / "performance" / "results.json"
SHOWN: dict[str, Callable[[Results], str]] = {
    "docs/counting.md": summary,
    "docs/performance.md": lambda results: figures_table(figures(results)),
}


@pytest.mark.parametrize("document", SHOWN)
def test_a_document_shows_what_the_last_full_run_found(document: str, request: pytest.FixtureRequest) -> None:
    """``--update-golden`` copies the results there."""
    path = Path(__file__).parent.parent / document
    text = path.read_text(encoding="utf-8")
    begin, end = "<!-- from docs/performance/results.json -->\n", "<!-- end of the results -->\n"
    head, _, rest = text.partition(begin)
    shown, _, tail = rest.partition(end)
    expected = SHOWN[document](of_json(RESULTS.read_text(encoding="utf-8"))) + "\n"
    if request.config.getoption("--update-golden"):
        path.write_text(head + begin + expected + end + tail, encoding="utf-8")
        return
    assert shown == expected


def test_the_report_is_the_one_of_the_results() -> None:
    results = of_json(RESULTS.read_text(encoding="utf-8"))
    assert results.plan == "full"
    assert RESULTS.with_name("results.md").read_text(encoding="utf-8") == markdown(results)


# -- The figures to reach ----------------------------------------------------------------------------------------------


def cell(what: str, quantity: str, size: int, *values: float, mix: str = ESTABLISHED) -> tuple[Key, list[float]]:
    return Key(what, quantity, mix, size), list(values)


def results(*cells: tuple[Key, list[float]]) -> Results:
    return Results({}, "full", dict(cells), {})


def test_what_was_not_measured_is_said_and_never_left_out() -> None:
    rows = figures(results())
    assert {(row.measured, row.reached) for row in rows} == {("not measured", None)}
    assert (
        "\n".join(row.what for row in rows)
        == """\
counting pass at 0 established sockets, CPU, against the bare hash walk
counting pass at 0 established sockets, CPU, against node_exporter's tcpstat
counting pass at 0 established sockets, CPU, against psutil
counting pass at 0 sockets, time_wait mix, CPU
detail pass at 0 sockets, CPU, against the full dump received and thrown away
detail pass with timers and tries at 0 sockets, CPU, against without
tcp_info of the sample at 0 established sockets, CPU, against the bare hash walk
resident memory of the daemon
resident memory at 0 sockets, against 0
scrape latency at 0 sockets, against 0, 1 client
scrape latency p50, against node_exporter with sysctl, sockstat and netstat, 1 client
scrape latency at 0 sockets, against 0, 40 clients, each every 250 ms
scrape latency p50, against node_exporter with sysctl, sockstat and netstat, 40 clients, each every 250 ms
age of accept queues, drops, ESTABLISHED, TIME-WAIT, orphans and memory
idle CPU, default configuration, 0 sockets, against one bare walk a second, in windows of 15 s
the plugin, against a bare interpreter's start, 0 sockets
the plugin, against a psutil-based check, 0 sockets
the plugin, against a psutil-based check, 0 sockets
a request for the JSON or the page, CPU, against copying the same bytes out by the same server"""
    )


def test_of_the_page_and_the_json_the_worse_in_the_worse_coding_decides() -> None:
    costs = {("/api/v1/snapshot", "identity"): 0.0013, ("/api/v1/snapshot", "gzip"): 0.0011, ("/", "identity"): 0.001}
    cells = [cell("ours", request(*asked), 5000, cost) for asked, cost in costs.items()]
    copies = [cell("ready_bytes", request(path, coding), 5000, 0.001) for path in PATHS for coding in CODINGS]
    assert figures(results(*cells, *copies))[-1].reached is None
    row = figures(results(*cells, cell("ours", request("/", "gzip"), 5000, 0.0016), *copies))[-1]
    assert (row.measured, row.reached) == ("1.60 x: 1.60 ms against 1.00 ms (/, gzip)", False)
    row = figures(results(*cells, cell("ours", request("/", "gzip"), 5000, 0.0012), *copies))[-1]
    assert (row.measured, row.reached) == ("1.30 x: 1.30 ms against 1.00 ms (/api/v1/snapshot, identity)", True)


MILLION = 1_000_000


def counted(**cpu: float) -> list[tuple[Key, list[float]]]:
    return [cell(what, "cpu", MILLION, value) for what, value in cpu.items()]


def one(row: int, *cells: tuple[Key, list[float]]) -> Figure:
    return figures(results(*cells))[row]


def test_the_counting_pass_is_what_the_daemon_says_and_the_limit_itself_is_reached() -> None:
    cells = counted(walk=0.08, daemon_counting=0.1, counting=0.09, daemon_sample=0.104, node_exporter=1.9, psutil=26.0)
    assert [one(row, *cells) for row in range(3)] == [
        Figure(
            "counting pass at 1 million established sockets, CPU, against the bare hash walk",
            "at most 1.25 x",
            "1.25 x: 100 ms against 80.0 ms; 1.12 x by itself, outside the daemon",
            reached=True,
        ),
        Figure(
            "counting pass at 1 million established sockets, CPU, against node_exporter's tcpstat",
            "at least 20.0 x cheaper",
            "19.0 x cheaper: 1.90 s against 100 ms; "
            "18.3 x with everything else that the daemon does for a sample and its scrape",
            reached=False,
        ),
        Figure(
            "counting pass at 1 million established sockets, CPU, against psutil",
            "at least 100 x cheaper",
            "260 x cheaper: 26.0 s against 100 ms; "
            "250 x with everything else that the daemon does for a sample and its scrape",
            reached=True,
        ),
    ]


def test_memory_is_judged_by_the_most_that_was_resident() -> None:
    mebi = 2.0**20
    cells = [
        cell("ours", f"{kind} {when}", size, value * mebi)
        for size, values in ((1000, (30, 31)), (MILLION, (31, 34)))
        for when, value in zip(("after start", "after samples"), values, strict=True)
        for kind in ("resident", "peak resident")
    ]
    assert figures(results(*cells, cell("ours", "counting passes before", MILLION, 3600)))[7:9] == [
        Figure(
            "resident memory of the daemon",
            "at most 40.0 MiB",
            "34.0 MiB at most; at 1 million sockets 31.0 MiB after start, 34.0 MiB after 3,600 samples; peak 34.0 MiB",
            reached=True,
        ),
        Figure(
            "resident memory at 1 million sockets, against 1,000",
            "at most 2.00 MiB more",
            "1.00 MiB more after start, 3.00 MiB after the samples",
            reached=False,
        ),
    ]


def test_a_scrape_is_judged_by_the_encoding_and_the_size_that_are_worse_for_us() -> None:
    cells = [
        cell(what, f"scrape {quantity}, 1 client, {encoding}", size, value)
        for what, size, encoding, value in (
            ("ours", 1000, "gzip", 0.001),
            ("ours", 1000, "plain", 0.001),
            ("ours", MILLION, "gzip", 0.001),
            ("ours", MILLION, "plain", 0.002),
            ("node_exporter", 1000, "gzip", 0.004),
            ("node_exporter", 1000, "plain", 0.004),
            ("node_exporter", MILLION, "gzip", 0.004),
            ("node_exporter", MILLION, "plain", 0.001),
        )
        for quantity in ("p50", "p99")
    ]
    assert figures(results(*cells))[9:11] == [
        Figure(
            "scrape latency at 1 million sockets, against 1,000, 1 client",
            "the same: p50 at most 1.25 x",
            "2.00 x: p50 1.00 ms and 2.00 ms, p99 in the worst round 1.00 ms and 2.00 ms (plain)",
            reached=False,
        ),
        Figure(
            "scrape latency p50, against node_exporter with sysctl, sockstat and netstat, 1 client",
            "at most 1.00 x",
            "2.00 x: 2.00 ms against 1.00 ms, at 1 million (plain)",
            reached=False,
        ),
    ]


def test_idle_is_judged_by_the_worst_window() -> None:
    cells = [cell("ours", "idle", 10_000, 0.006, 0.0072, 0.0065), cell("walk", "idle", 10_000, 0.005, 0.005, 0.005)]
    assert one(14, *cells) == Figure(
        "idle CPU, default configuration, 10,000 sockets, against one bare walk a second, in windows of 15 s",
        "at most 1.40 x",
        "1.44 x, 1.20 x in the best window; 0.72 % of a core",
        reached=False,
    )


def test_age_is_judged_at_the_largest_size() -> None:
    values = {"age": (1.1, 1.3), "age of the walk": (1.1, 14.2), "light pass": (0.0008, 0.0009)}
    sizes = (1000, MILLION)
    cells = [
        cell("ours", what, size, value)
        for what, found in values.items()
        for size, value in zip(sizes, found, strict=True)
    ]
    assert one(13, *cells) == Figure(
        "age of accept queues, drops, ESTABLISHED, TIME-WAIT, orphans and memory at 1 million sockets",
        "at most 1.50 s",
        "1.30 s, by light passes of 900 µs; the other states 14.2 s",
        reached=True,
    )


def test_the_plugin_is_judged_by_the_worse_of_wall_and_cpu_time_of_the_worst_way_to_install_it() -> None:
    runs = {
        "bare": (0.010, 0.008),
        "plugin": (0.015, 0.016),
        "bare_system": (0.010, 0.008),
        "plugin_file": (0.020, 0.012),
        "psutil_check": (0.080, 0.030),
    }
    cells = [
        cell(what, quantity, 1000, value)
        for what, both in runs.items()
        for quantity, value in zip(("wall", "cpu"), both, strict=True)
    ]
    assert figures(results(*cells))[15:17] == [
        Figure(
            "the plugin, against a bare interpreter's start, 1,000 sockets",
            "at most 1.70 x",
            "by pip wall 1.50 x (15.0 ms against 10.0 ms), CPU 2.00 x (16.0 ms against 8.00 ms); as one file 2.00 x",
            reached=False,
        ),
        Figure(
            "the plugin, against a psutil-based check, 1,000 sockets",
            "at least 3.00 x faster",
            "by pip wall 5.33 x (80.0 ms against 15.0 ms), CPU 1.88 x (30.0 ms against 16.0 ms); as one file 2.50 x",
            reached=False,
        ),
    ]


# -- A fleet -----------------------------------------------------------------------------------------------------------


def test_what_lies_on_a_line_is_extrapolated_without_error_and_else_the_error_is_said() -> None:
    assert extrapolated([500, 1000, 2000, 4000], [1, 2, 4, 8]) == Line(value=20.0, error=0.0)
    line = extrapolated([500, 1000, 2000, 4000], [1.1, 1.9, 4.1, 7.9])
    assert (round(line.value, 1), round(line.error, 2)) == (19.7, 0.4)
