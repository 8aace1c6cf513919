"""The benchmarks' pure parts: who has a turn, how results are kept, what the report and the plots say; and the meter.

``.ci/run`` runs the whole suite at a small size. No time is asserted, here or there.
"""

from __future__ import annotations

import doctest
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import meter
from benchmarks.figures import Figure, figures
from benchmarks.load import Answer
from benchmarks.meter import Cost, Failed
from benchmarks.peers import csv_counted, csv_rows
from benchmarks.plot import Line, plot, plots
from benchmarks.report import figures_table, markdown, summary
from benchmarks.results import ESTABLISHED, Key, Results, of_json, to_json
from benchmarks.rounds import Contender, Taken, interleave
from benchmarks.units import seconds

MACHINE = {"processor": "A Processor", "cores": "2"}
NOTHING = Results(MACHINE, "full", {}, {})


@pytest.mark.parametrize("name", ["daemon", "load", "peers", "plot", "report", "results", "units"])
def test_the_examples_in_the_docstrings_are_true(name: str) -> None:
    tried = doctest.testmod(importlib.import_module(f"benchmarks.{name}"))
    assert (tried.failed, tried.attempted > 0) == (0, True)


# -- Rounds ------------------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes only while somebody has a turn."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns: list[str] = []

    def contender(self, name: str, *durations: float, fails: str = "") -> Contender:
        """One whose turns take so long, the last duration again and again; its cost is the number of the turn."""
        left = list(durations)

        def sample() -> Cost:
            self.turns.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]
            if fails:
                raise Failed(fails)
            return Cost(cpu=float(self.turns.count(name)))

        return Contender.single(name, sample)


def interleaved(clock: Clock, *contenders: Contender, rounds: int = 3, seconds: float = 10.0) -> Taken:
    return interleave(contenders, rounds=rounds, seconds=seconds, now=lambda: clock.now)


def test_contenders_take_turns_and_the_first_round_is_thrown_away() -> None:
    clock = Clock()
    taken = interleaved(clock, clock.contender("a", 1), clock.contender("b", 1), rounds=2)
    assert clock.turns == ["a", "b", "a", "b", "a", "b"]
    assert taken == Taken({"a": [Cost(2.0), Cost(3.0)], "b": [Cost(2.0), Cost(3.0)]}, {})


def test_a_contender_that_has_used_its_seconds_has_no_more_turns() -> None:
    clock = Clock()
    taken = interleaved(clock, clock.contender("dear", 6), clock.contender("cheap", 1))
    assert taken.costs == {"dear": [Cost(2.0)], "cheap": [Cost(2.0), Cost(3.0), Cost(4.0)]}


def test_a_contender_whose_first_sample_uses_its_seconds_keeps_that_one() -> None:
    clock = Clock()
    assert interleaved(clock, clock.contender("dearest", 60)).costs == {"dearest": [Cost(1.0)]}


def test_a_contender_that_fails_is_not_asked_again_and_says_why() -> None:
    clock = Clock()
    taken = interleaved(clock, clock.contender("a", 1, fails="it is not installed"), clock.contender("b", 1), rounds=1)
    assert (clock.turns, taken) == (["a", "b", "b"], Taken({"b": [Cost(2.0)]}, {"a": "it is not installed"}))


def test_nobody_has_a_turn_after_the_end_except_for_the_first_that_counts() -> None:
    clock = Clock()
    interleave([clock.contender("a", 1)], rounds=9, seconds=99.0, until=0.5, now=lambda: clock.now)
    assert clock.turns == ["a", "a"]


# -- The meter ---------------------------------------------------------------------------------------------------------


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-c", code]


def test_programs_in_a_pipe_are_measured_together() -> None:
    hungry = "kept = bytearray(64 << 20); kept[::4096] = bytes(len(kept[::4096]))"
    ended = meter.run(python(f"{hungry}; print('text')"), python("print(input().upper())"), watch_memory=True)
    assert ended.output == b"TEXT\n"
    assert ended.cost.cpu > 0
    assert ended.cost.peak is not None
    assert ended.cost.peak > 64 << 20


def test_a_program_that_fails_is_said() -> None:
    with pytest.raises(Failed) as raised:
        meter.run(python("raise SystemExit(3)"))
    assert str(raised.value) == f"{os.path.basename(sys.executable)} ended with 3"


def test_a_program_that_is_not_installed_is_named_with_its_package() -> None:
    with pytest.raises(Failed) as raised:
        meter.program("no-such-program", "such-a-package")
    assert str(raised.value) == "no-such-program is not installed: apt-get install such-a-package"


def test_a_process_that_is_gone_has_no_cpu_time_and_no_memory() -> None:
    pid = os.spawnv(os.P_NOWAIT, sys.executable, python("pass"))
    assert meter.process_cpu(os.getpid()) > 0
    assert meter.memory(os.getpid()) is not None
    os.waitpid(pid, 0)
    assert meter.memory(pid) is None
    with pytest.raises(Failed):
        meter.process_cpu(pid)


# -- What the peers say ------------------------------------------------------------------------------------------------


def test_collectd_has_a_line_for_each_reading_and_a_file_for_each_state(tmp_path: Path) -> None:
    folder = tmp_path / "csv" / "host" / "tcpconns-all"
    folder.mkdir(parents=True)
    (folder / "tcp_connections-ESTABLISHED-2026-01-01").write_text("epoch,value\n1.000,5.0\n1.200,7.0\n")
    (folder / "tcp_connections-LISTEN-2026-01-01").write_text("epoch,value\n1.000,3.0\n")
    (folder / "tcp_connections-CLOSED-2026-01-01").write_text("epoch,value\n")
    assert csv_rows(str(tmp_path)) == ["1.000,5.0", "1.200,7.0"]
    assert csv_counted(str(tmp_path)) == 10


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
WHOLE = {
    "by length": HEAD + b"Content-Length: 21\r\n\r\n\r\n0\r\n\r\nis no end here",
    "by chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "empty, by chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("answer", WHOLE.values(), ids=WHOLE.keys())
@given(data=st.data())
def test_an_answer_is_whole_with_its_last_byte_however_it_comes(answer: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(answer) - 1))))
    pieces = [answer[first:last] for first, last in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
    taking = Answer()
    assert [taking.take(piece) for piece in pieces] == [False] * len(cuts) + [True]


def test_an_answer_that_is_an_error_is_no_answer() -> None:
    with pytest.raises(ValueError, match=r"expected an answer of status 200, got 'HTTP/1\.1 503 Busy'"):
        Answer().take(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")


# -- Results -----------------------------------------------------------------------------------------------------------


def cell(what: str, quantity: str, size: int, *values: float, mix: str = ESTABLISHED) -> tuple[Key, list[float]]:
    return Key(what, quantity, mix, size), list(values)


def results(*cells: tuple[Key, list[float]], missing: dict[str, str] | None = None) -> Results:
    return Results(MACHINE, "full", dict(cells), missing or {})


def test_results_are_a_line_a_cell_and_can_be_read_again() -> None:
    found = results(
        cell("walk", "cpu", 1000, 0.002, 0.001), cell("psutil", "peak", 10, 52428800), missing={"ss": "why"}
    )
    text = """\
{
 "plan": "full",
 "machine": {
  "processor": "A Processor",
  "cores": "2"
 },
 "missing": {
  "ss": "why"
 },
 "cells": [
  {"what": "walk", "quantity": "cpu", "mix": "established", "size": 1000, "median": 0.0015, "values": [0.002, 0.001]},
  {"what": "psutil", "quantity": "peak", "mix": "established", "size": 10, "median": 52428800, "values": [52428800]}
 ]
}
"""
    assert to_json(found) == text
    assert of_json(text) == found


# -- The figures to reach ----------------------------------------------------------------------------------------------


def test_what_was_not_measured_is_said_and_never_left_out() -> None:
    rows = figures(NOTHING)
    assert {(row.measured, row.reached) for row in rows} == {("not measured", None)}
    assert (
        "\n".join(row.what for row in rows)
        == """\
counting pass at 0 established sockets, CPU, against the bare hash walk
counting pass at 0 established sockets, CPU, against node_exporter's tcpstat
counting pass at 0 established sockets, CPU, against psutil
counting pass at 0 sockets, time_wait mix, CPU
detail pass at 0 sockets, CPU, against the full dump received and thrown away
resident memory of the daemon
resident memory at 0 sockets, against 0
scrape latency at 0 sockets, against 0, 1 client
scrape latency p50, against node_exporter with sysctl, sockstat and netstat, 1 client
scrape latency at 0 sockets, against 0, 40 clients
scrape latency p50, against node_exporter with sysctl, sockstat and netstat, 40 clients
idle CPU, default configuration, 0 sockets
the plugin, against a bare interpreter's start, 0 sockets
the plugin, against a psutil-based check, 0 sockets
the plugin, against a psutil-based check, 0 sockets"""
    )


def test_the_figures_are_a_table() -> None:
    rows = [Figure("a", "b", "c", reached=True), Figure("d", "e", "f", reached=False), Figure("g", "h", "i", None)]
    assert (
        figures_table(rows)
        == """\
| What | Figure | Measured | Reached |
| --- | --- | --- | --- |
| a | b | c | yes |
| d | e | f | **no** |
| g | h | i | not measured |"""
    )


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


def test_what_copied_states_cost_to_copy_is_allowed_beside_the_walk() -> None:
    costs = {"daemon_counting": 0.4, "walk": 0.08, "copied_dump": 0.3}
    assert one(3, *(cell(what, "cpu", MILLION, cost, mix="close_wait") for what, cost in costs.items())) == Figure(
        "counting pass at 1 million sockets, close_wait mix, CPU",
        "at most 1.25 x the walk, plus what the copying of the copied states costs",
        "5.00 x the walk, 1.25 x what is allowed: 400 ms; walk 80.0 ms, with copying 300 ms",
        reached=False,
    )


def test_memory_is_judged_by_the_most_that_was_resident() -> None:
    mebi = 2.0**20
    cells = [
        cell("ours", f"{kind} {when}", size, value * mebi)
        for size, values in ((1000, (30, 31)), (MILLION, (31, 34)))
        for when, value in zip(("after start", "after samples"), values, strict=True)
        for kind in ("resident", "peak resident")
    ]
    assert figures(results(*cells, cell("ours", "counting passes before", MILLION, 3600)))[5:7] == [
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
    assert figures(results(*cells))[7:9] == [
        Figure(
            "scrape latency at 1 million sockets, against 1,000, 1 client",
            "the same: p50 at most 1.25 x",
            "2.00 x: p50 1.00 ms and 2.00 ms, p99 1.00 ms and 2.00 ms (plain)",
            reached=False,
        ),
        Figure(
            "scrape latency p50, against node_exporter with sysctl, sockstat and netstat, 1 client",
            "at most 1.00 x",
            "2.00 x: 2.00 ms against 1.00 ms, at 1 million (plain)",
            reached=False,
        ),
    ]


def test_the_plugin_is_judged_by_the_worse_of_wall_and_cpu_time() -> None:
    runs = {"bare": (0.010, 0.008), "plugin": (0.020, 0.024), "psutil_check": (0.080, 0.060)}
    cells = [
        cell(what, quantity, 1000, value)
        for what, both in runs.items()
        for quantity, value in zip(("wall", "cpu"), both, strict=True)
    ]
    assert figures(results(*cells))[12:14] == [
        Figure(
            "the plugin, against a bare interpreter's start, 1,000 sockets",
            "at most 2.50 x",
            "wall 2.00 x (20.0 ms against 10.0 ms), CPU 3.00 x (24.0 ms against 8.00 ms)",
            reached=False,
        ),
        Figure(
            "the plugin, against a psutil-based check, 1,000 sockets",
            "at least 3.00 x faster",
            "wall 4.00 x (80.0 ms against 20.0 ms), CPU 2.50 x (60.0 ms against 24.0 ms)",
            reached=False,
        ),
    ]


# -- The report and the plots ------------------------------------------------------------------------------------------


def section(title: str) -> Callable[[Results], str]:
    return lambda found: markdown(found).partition(f"## {title}\n\n")[2].partition("\n\n##")[0]


COSTS = results(
    cell("walk", "cpu", 1000, 0.001, 0.002, 0.004),
    cell("walk", "cpu", 10000, 0.01),
    cell("psutil", "cpu", 1000, 0.04, 0.06),
    cell("psutil", "peak", 1000, 20 * 2**20),
    cell("ss", "peak", 1000, 6 * 2**20),
    cell("ss", "peak", 10000, 6 * 2**20 + 18000),
    missing={"collectd": "collectd is not installed: apt-get install collectd-core"},
)


def test_a_cost_is_shown_with_its_spread_for_every_size_and_every_peer() -> None:
    assert (
        section("CPU time of a sample, by number of established sockets")(COSTS)
        == """\
|  | 1,000 | 10,000 |
| --- | --- | --- |
| floor: bare hash walk | 2.00 ms (1.00 ms .. 4.00 ms) | 10.0 ms (1 run) |
| psutil.net_connections | 50.0 ms (40.0 ms .. 60.0 ms) | not measured |
| collectd, tcpconns | not measured | not measured |"""
    )


def test_a_cost_is_compared_with_the_walk_at_each_size() -> None:
    assert (
        section("CPU time of a sample, against the bare hash walk")(COSTS)
        == """\
|  | 1,000 | 10,000 |
| --- | --- | --- |
| psutil.net_connections | 25.0 x | not measured |
| collectd, tcpconns | not measured | not measured |"""
    )


def test_memory_is_shown_with_its_growth() -> None:
    assert (
        section("Peak resident memory")(COSTS)
        == """\
|  | 1,000 | 10,000 | each socket more |
| --- | --- | --- | --- |
| psutil.net_connections | 20.0 MiB (1 run) | not measured | not measured |
| ss -tan \\| awk | 6.00 MiB (1 run) | 6.02 MiB (1 run) | 2.00 bytes |
| collectd, tcpconns | not measured | not measured | not measured |"""
    )


def test_what_was_not_measured_has_its_reason_at_the_end() -> None:
    assert markdown(COSTS).endswith("""
## Not measured

* collectd: collectd is not installed: apt-get install collectd-core
""")


def test_a_plot_has_its_labels_at_the_lines_and_says_in_words_what_it_shows() -> None:
    lines = [Line("ours", "ours", [(1000, 0.001), (10000, 0.002)]), Line("a < b", "peer", [(1000, 0.01), (10000, 0.1)])]
    drawn = plot("Cost", lines, seconds)
    head, _, body = drawn.partition("<style>")
    assert (
        head
        == """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 920 540" width="920" height="540"
 role="img" aria-labelledby="title description">
<title id="title">Cost</title>
<desc id="description">ours: 2.00 ms at 10,000 sockets; a &lt; b: 100 ms at 10,000 sockets.</desc>
"""
    )
    assert (
        body.partition("</style>\n")[2]
        == """\
<text class="title" x="84" y="32">Cost</text>
<path class="grid" d="M84 482.0H670"/>
<text class="tick" x="74.0" y="487.0" text-anchor="end">1 ms</text>
<path class="grid" d="M84 273.0H670"/>
<text class="tick" x="74.0" y="278.0" text-anchor="end">10 ms</text>
<path class="grid" d="M84 64.0H670"/>
<text class="tick" x="74.0" y="69.0" text-anchor="end">100 ms</text>
<text class="tick" x="84.0" y="508.0" text-anchor="middle">1,000</text>
<text class="tick" x="670.0" y="508.0" text-anchor="middle">10,000</text>
<text class="tick" x="377.0" y="532.0" text-anchor="middle">sockets</text>
<g class="ours">
<path class="line" d="M84.0 482.0L670.0 419.1"/>
<circle class="dot" cx="84.0" cy="482.0" r="3.5"/>
<circle class="dot" cx="670.0" cy="419.1" r="3.5"/>
<path class="leader" d="M676.0 419.1L694.0 419.1"/>
<text x="698.0" y="424.1">ours</text>
</g>
<g class="peer">
<path class="line" d="M84.0 273.0L670.0 64.0"/>
<circle class="dot" cx="84.0" cy="273.0" r="3.5"/>
<circle class="dot" cx="670.0" cy="64.0" r="3.5"/>
<path class="leader" d="M676.0 64.0L694.0 64.0"/>
<text x="698.0" y="69.0">a &lt; b</text>
</g>
</svg>
"""
    )


def test_there_is_a_plot_of_time_and_one_of_memory_even_of_nothing() -> None:
    assert sorted(plots(NOTHING)) == ["cpu.svg", "memory.svg"]
    assert all("nothing was measured" in drawn for drawn in plots(NOTHING).values())


RESULTS = Path(__file__).parent.parent / "docs" / "performance" / "results.json"
SHOWN: dict[str, Callable[[Results], str]] = {
    "README.md": summary,
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
