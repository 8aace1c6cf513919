"""The report in Markdown: the figures to reach first, then what every contender cost. Pure: results in, text out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from benchmarks.daemon import CLIENTS, ENCODINGS, ONE, scrape
from benchmarks.figures import Figure, figures
from benchmarks.plugin import WAYS
from benchmarks.results import ESTABLISHED, Key, Results, Spread
from benchmarks.units import count, digits, mebibytes, percent, seconds, times

LABELS = {
    "walk": "floor: bare hash walk",
    "copied_dump": "floor: dump of the states that the counting pass copies",
    "full_dump": "floor: full dump, thrown away",
    "daemon_counting": "**ours: counting pass, as the daemon reports it**",
    "counting": "part of ours: counting pass by itself",
    "daemon_sample": "**ours: the whole daemon, for a sample and its scrape**",
    "detail": "**ours: detail pass**",
    "detail_plain": "part of ours: detail pass without the sample of tcp_info",
    "detail_without_timers": "part of ours: the same without timers and tries",
    "quality": "part of ours: tcp_info of the sample",
    "detail_memory": "ours: detail pass with the memory of each socket, one in four",
    "daemon_detail": "ours: detail pass, as the daemon reports it",
    "node_exporter": "node_exporter, tcpstat",
    "node_exporter_more": "node_exporter, tcpstat, sysctl, sockstat, netstat",
    "psutil": "psutil.net_connections",
    "ss": "ss -tan \\| awk",
    "procfs": "/proc/net/tcp and tcp6 in Python",
    "collectd": "collectd, tcpconns",
    "bare": "python3 -I -c pass",
    "plugin": "**check_tcp_states**, by pip",
    "plugin_by_shell": "the same by /bin/sh, as NRPE does",
    "bare_system": "/usr/bin/python3 -I -c pass",
    "plugin_file": "**check_tcp_states** as one file",
    "plugin_package": "**check_tcp_states** of the Debian package",
    "psutil_check": "check with psutil",
}
"""The contenders, in the order in which they are shown."""

_NOT_MEASURED = "not measured"
_HOW = (
    "Times and memory are medians, with least and most in parentheses; all contenders took turns in one run.\n"
    "A ratio is the result; an absolute time only says what it is a ratio of."
)
_PLANS = {
    "full": "`make bench`",
    "quick": "`make bench QUICK=1`, which ends at 100,000 sockets: the rows name the size they were taken at",
    "smoke": "a smoke run, whose times mean nothing",
}


def markdown(results: Results) -> str:
    """The whole report."""
    parts = [
        "# Results",
        f"Written by {_PLANS[results.plan]}.\n{_HOW}",
        table(["Machine", ""], [[name, value] for name, value in results.machine.items()]),
        "## The figures to reach",
        figures_table(figures(results)),
        "## CPU time of a sample, by number of established sockets",
        _by_size(results, "cpu", seconds),
        "## CPU time of a sample, against the bare hash walk",
        _ratios(results),
        "## Wall time of a sample",
        _by_size(results, "wall", seconds),
        "## Peak resident memory",
        _by_size(results, "peak", mebibytes, growth=True),
        "## Other mixes, CPU time",
        _mixes(results),
        "## Scrapes",
        _scrapes(results),
        "## The daemon",
        _daemon(results),
        "## The plugin",
        _plugin(results),
    ]
    if results.missing:
        parts += ["## Not measured", "\n".join(f"* {what}: {why}" for what, why in results.missing.items())]
    return "\n\n".join(parts) + "\n"


def figures_table(rows: Iterable[Figure]) -> str:
    """The table of the figures to reach."""
    answers = {True: "yes", False: "**no**", None: _NOT_MEASURED}
    return table(
        ["What", "Figure", "Measured", "Reached"],
        [[row.what, row.asked, row.measured, answers[row.reached]] for row in rows],
    )


_SHORT = ("walk", "daemon_counting", "detail", "node_exporter", "ss", "procfs", "collectd", "psutil")


def summary(results: Results) -> str:
    """What a sample costs at the largest size, and the plugin, in a few lines: for docs/counting.md."""
    size = max(results.sizes())
    rows = []
    for what in _SHORT:
        cpu, walk = results.median(what, "cpu", size), results.median("walk", "cpu", size)
        peak = results.median("daemon_sample" if what == "daemon_counting" else what, "peak", size)
        cells = [seconds(cpu) if cpu else _NOT_MEASURED, times(cpu / walk) if cpu and walk else ""]
        rows.append([LABELS[what], *cells, "" if peak is None else mebibytes(peak)])
    head = [f"A sample of {count(size)} established sockets", "CPU", "against the walk", "peak memory"]
    return table(head, rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(spread: Spread | None, unit: Callable[[float], str]) -> str:
    if spread is None:
        return _NOT_MEASURED
    if spread.runs == 1:
        return f"{unit(spread.median)} (1 run)"
    return f"{unit(spread.median)} ({unit(spread.low)} .. {unit(spread.high)})"


def _contenders(results: Results, quantity: str, mix: str, sizes: Sequence[int]) -> list[str]:
    """Those with any value, and those that were to have one and failed."""
    found = {key.what for key in results.cells if key.quantity == quantity and key.mix == mix and key.size in sizes}
    return [what for what in LABELS if what in found or (what in results.missing and mix == ESTABLISHED)]


def _by_size(results: Results, quantity: str, unit: Callable[[float], str], *, growth: bool = False) -> str:
    sizes = results.sizes()
    samples = [what for what in _contenders(results, quantity, ESTABLISHED, sizes) if what not in _PLUGINS]
    rows = []
    for what in samples:
        spreads = [results.spread(what, quantity, size) for size in sizes]
        row = [LABELS[what], *(_cell(spread, unit) for spread in spreads)]
        if growth:
            first, last = spreads[0], spreads[-1]
            more = (last.median - first.median) / (sizes[-1] - sizes[0]) if first and last and len(sizes) > 1 else None
            row.append(_NOT_MEASURED if more is None else f"{digits(more)} bytes")
        rows.append(row)
    return table(["", *(count(size) for size in sizes), *(["each socket more"] if growth else [])], rows)


_PLUGINS = ("bare", "plugin", "plugin_by_shell", "bare_system", "plugin_file", "plugin_package", "psutil_check")


def _ratios(results: Results) -> str:
    sizes = results.sizes()
    rows = []
    for what in _contenders(results, "cpu", ESTABLISHED, sizes):
        if what in _PLUGINS or what == "walk":
            continue
        row = [LABELS[what]]
        for size in sizes:
            cost, walk = results.median(what, "cpu", size), results.median("walk", "cpu", size)
            row.append(times(cost / walk) if cost and walk else _NOT_MEASURED)
        rows.append(row)
    return table(["", *(count(size) for size in sizes)], rows)


def _mixes(results: Results) -> str:
    columns = [(mix, size) for mix in results.mixes() for size in results.sizes(mix)]
    shown = [what for what in LABELS if any(Key(what, "cpu", mix, size) in results.cells for mix, size in columns)]
    rows = []
    for what in shown:
        cells = [
            _cell(found, seconds) if (found := results.spread(what, "cpu", size, mix)) else "" for mix, size in columns
        ]
        rows.append([LABELS[what], *cells])
    return table(["", *(f"{mix}, {count(size)}" for mix, size in columns)], rows)


def _scrapes(results: Results) -> str:
    sizes = sorted({key.size for key in results.cells if key.quantity == scrape("p50", ONE, "gzip")})
    rows = []
    for size in sizes:
        for clients in CLIENTS:
            for encoding in ENCODINGS:
                for what, label in (
                    ("ours", "**ours**"),
                    ("node_exporter", "node_exporter, sysctl, sockstat, netstat"),
                ):
                    cells = [
                        results.spread(what, scrape(quantity, clients, encoding), size)
                        for quantity in ("p50", "p99", "late", "per_second", "generator_cpu")
                    ]
                    units = seconds, seconds, seconds, digits, seconds
                    shown = [_cell(cell, unit) for cell, unit in zip(cells, units, strict=True)]
                    if not clients.every:
                        shown[2] = ""
                    rows.append([count(size), str(clients), encoding, label, *shown])
    head = ["Sockets", "", "Encoding", "", "p50", "p99", "of which the generator is late, p99", "Answers a second",
            "Generator's own CPU an answer"]  # fmt: skip
    return table(head, rows)


def _daemon(results: Results) -> str:
    sizes = sorted({key.size for key in results.cells if key.what == "ours"})
    units: dict[str, Callable[[float], str]] = {
        "start": seconds,
        "resident after start": mebibytes,
        "peak resident after start": mebibytes,
        "resident after samples": mebibytes,
        "peak resident after samples": mebibytes,
        "counting passes before": digits,
        "detail passes before": digits,
        "idle": percent,
    }
    labels = {
        "start": "from start to ready",
        "counting passes before": "counting passes that these samples were",
        "detail passes before": "and detail passes beside them",
        "idle": "idle, share of a core",
    }
    rows = []
    for quantity, unit in units.items():
        cells = [results.spread("ours", quantity, size) for size in sizes]
        rows.append([labels.get(quantity, quantity), *("" if cell is None else _cell(cell, unit) for cell in cells)])
    return table(["", *(count(size) for size in sizes)], rows)


def _plugin(results: Results) -> str:
    sizes = sorted({key.size for key in results.cells if key.what == "plugin"})
    rows = []
    for size in sizes:
        for what in _contenders(results, "wall", ESTABLISHED, [size]):
            if what not in _PLUGINS:
                continue
            of = "bare_system" if what == "bare_system" else WAYS.get(what, "bare")
            row = [count(size), LABELS[what]]
            for quantity in ("wall", "cpu"):
                spread, bare = results.spread(what, quantity, size), results.median(of, quantity, size)
                row += [_cell(spread, seconds), times(spread.median / bare) if spread and bare else _NOT_MEASURED]
            rows.append(row)
    return table(["Sockets", "", "Wall", "against bare", "CPU", "against bare"], rows)
