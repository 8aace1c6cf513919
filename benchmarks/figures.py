"""The figures to reach, each with what was measured and whether that reaches it. Pure: results in, rows out.

A ratio is one of medians of the same run. Where a figure could be taken more than one way, the way that is worse for
us decides, and the row says it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from benchmarks.daemon import ENCODINGS, ONE, PACED, scrape
from benchmarks.documents import CODINGS, PATHS, request
from benchmarks.plugin import WAYS
from benchmarks.results import ESTABLISHED, Key, Results
from benchmarks.units import count, mebibytes, percent, seconds, times

_WALK = 1.25
_NODE_EXPORTER, _PSUTIL = 20.0, 100.0
_FULL_DUMP = 1.5
_TIMERS = 1.03
_SAMPLE = 1.3
_RESIDENT, _MORE = 40 * 2.0**20, 2 * 2.0**20
_SAME = 1.25
"""Latencies this near count as the same: two runs at one size differ by as much."""
_IDLE = 1.4
_AGE = 1.5  # seconds: the time between two light passes, and half as much for a machine that is busy
_COPY = 1.5
_BARE, _CHECK, _CHECK_MANY = 1.7, 3.0, 50.0


class Figure(NamedTuple):
    """A row: what, what is asked of it, what was measured; ``reached`` is None where it was not measured."""

    what: str
    asked: str
    measured: str
    reached: bool | None


def figures(results: Results) -> list[Figure]:
    """Every figure to reach, in order, measured or not."""
    return [*_counting(results), *_mixed(results), _detail(results), _timers(results), _sample(results),
            *_memory(results), *_scrapes(results), _age(results), _idle(results), *_plugin(results),
            _documents(results)]  # fmt: skip


def _counting(results: Results) -> Iterable[Figure]:
    size = _last(results.sizes())
    what = f"counting pass at {count(size)} established sockets, CPU"
    ours = results.median("daemon_counting", "cpu", size)
    sample = results.median("daemon_sample", "cpu", size)
    walk = results.median("walk", "cpu", size)
    measured = reached = None
    if ours and walk:
        part = results.median("counting", "cpu", size)
        without = f"; {times(part / walk)} by itself, outside the daemon" if part else ""
        measured = f"{times(ours / walk)}: {seconds(ours)} against {seconds(walk)}{without}"
        reached = ours <= _WALK * walk
    yield _figure(f"{what}, against the bare hash walk", f"at most {times(_WALK)}", measured, reached)
    for peer, label, least in (
        ("node_exporter", "node_exporter's tcpstat", _NODE_EXPORTER),
        ("psutil", "psutil", _PSUTIL),
    ):
        theirs, measured, reached = results.median(peer, "cpu", size), None, None
        if ours and theirs and sample:
            measured = (
                f"{times(theirs / ours)} cheaper: {seconds(theirs)} against {seconds(ours)}; "
                f"{times(theirs / sample)} with everything else that the daemon does for a sample and its scrape"
            )
            reached = theirs >= least * ours
        yield _figure(f"{what}, against {label}", f"at least {times(least)} cheaper", measured, reached)


def _mixed(results: Results) -> Iterable[Figure]:
    for mix in results.mixes() or ["time_wait"]:
        size = _last(results.sizes(mix))
        ours, walk, copied = (
            results.median(what, "cpu", size, mix) for what in ("daemon_counting", "walk", "copied_dump")
        )
        measured = reached = None
        if ours and walk and copied:
            allowed = _WALK * walk + max(0.0, copied - walk)
            measured = (
                f"{times(ours / walk)} the walk, {times(ours / allowed)} what is allowed: {seconds(ours)}; "
                f"walk {seconds(walk)}, with copying {seconds(copied)}"
            )
            reached = ours <= allowed
        yield _figure(
            f"counting pass at {count(size)} sockets, {mix} mix, CPU",
            f"at most {times(_WALK)} the walk, plus what the copying of the copied states costs",
            measured,
            reached,
        )


def _detail(results: Results) -> Figure:
    size = _last(results.sizes())
    ours, dump = results.median("detail", "cpu", size), results.median("full_dump", "cpu", size)
    measured = reached = None
    if ours and dump:
        measured, reached = f"{times(ours / dump)}: {seconds(ours)} against {seconds(dump)}", ours <= _FULL_DUMP * dump
    what = f"detail pass at {count(size)} sockets, CPU, against the full dump received and thrown away"
    return _figure(what, f"at most {times(_FULL_DUMP)}", measured, reached)


def _timers(results: Results) -> Figure:
    size = _last(results.sizes())
    ours, without = results.median("detail_plain", "cpu", size), results.median("detail_without_timers", "cpu", size)
    measured = reached = None
    if ours and without:
        measured = f"{times(ours / without)}: {seconds(ours)} against {seconds(without)}"
        reached = ours <= _TIMERS * without
    what = f"detail pass with timers and tries at {count(size)} sockets, CPU, against without"
    return _figure(what, f"at most {times(_TIMERS)}", measured, reached)


def _sample(results: Results) -> Figure:
    size = _last(results.sizes())
    ours, walk = results.median("quality", "cpu", size), results.median("walk", "cpu", size)
    measured = reached = None
    if ours and walk:
        measured = f"{times(ours / walk)}: {seconds(ours)} against {seconds(walk)}"
        reached = ours <= _SAMPLE * walk
    what = f"tcp_info of the sample at {count(size)} established sockets, CPU, against the bare hash walk"
    return _figure(what, f"at most {times(_SAMPLE)}", measured, reached)


def _memory(results: Results) -> Iterable[Figure]:
    small, large = _ends(results, "resident after start")
    kinds = ("resident after start", "resident after samples")
    found = {size: [results.median("ours", kind, size) for kind in kinds] for size in (small, large)}
    most, more = None, None
    reached: bool | None = None
    reached_more: bool | None = None
    values = [value for size in found.values() for value in size if value is not None]
    if len(values) == 4:
        passes = results.median("ours", "counting passes before", large) or 0
        peak = max(results.median("ours", f"peak {kind}", size) or 0 for kind in kinds for size in (small, large))
        after_start, after_samples = (found[large][index] or 0.0 for index in (0, 1))
        most = (
            f"{mebibytes(max(values))} at most; at {count(large)} sockets {mebibytes(after_start)} after start, "
            f"{mebibytes(after_samples)} after {count(int(passes))} samples; peak {mebibytes(peak)}"
        )
        reached = max(values) <= _RESIDENT
        differences = [(found[large][index] or 0.0) - (found[small][index] or 0.0) for index in (0, 1)]
        more = f"{mebibytes(differences[0])} more after start, {mebibytes(differences[1])} after the samples"
        reached_more = max(differences) <= _MORE
    yield _figure("resident memory of the daemon", f"at most {mebibytes(_RESIDENT)}", most, reached)
    yield _figure(
        f"resident memory at {count(large)} sockets, against {count(small)}",
        f"at most {mebibytes(_MORE)} more",
        more,
        reached_more,
    )


def _scrapes(results: Results) -> Iterable[Figure]:
    small, large = _ends(results, scrape("p50", ONE, "gzip"))
    for clients in (ONE, PACED):
        growth, against, worst = None, None, None
        rises, ratios = [], []
        for encoding in ENCODINGS:
            p50 = {
                (what, size): results.median(what, scrape("p50", clients, encoding), size)
                for what in ("ours", "node_exporter")
                for size in (small, large)
            }
            worst_rounds = (results.spread("ours", scrape("p99", clients, encoding), size) for size in (small, large))
            p99 = [spread.high if spread else None for spread in worst_rounds]
            ours_small, ours_large = p50["ours", small], p50["ours", large]
            if ours_small and ours_large and p99[0] and p99[1]:
                rises.append((ours_large / ours_small, ours_small, ours_large, p99[0], p99[1], encoding))
            for size in (small, large):
                ours, theirs = p50["ours", size], p50["node_exporter", size]
                if ours and theirs:
                    ratios.append((ours / theirs, ours, theirs, size, encoding))
        if len(rises) == len(ENCODINGS):
            rise, low, high, low99, high99, encoding = max(rises)
            growth = (
                f"{times(rise)}: p50 {seconds(low)} and {seconds(high)}, "
                f"p99 in the worst round {seconds(low99)} and {seconds(high99)} ({encoding})"
            )
        if len(ratios) == 2 * len(ENCODINGS):
            worst = max(ratios)
            against = (
                f"{times(worst[0])}: {seconds(worst[1])} against {seconds(worst[2])}, at {count(worst[3])} ({worst[4]})"
            )
        yield _figure(
            f"scrape latency at {count(large)} sockets, against {count(small)}, {clients}",
            f"the same: p50 at most {times(_SAME)}",
            growth,
            max(rises)[0] <= _SAME if growth else None,
        )
        yield _figure(
            f"scrape latency p50, against node_exporter with sysctl, sockstat and netstat, {clients}",
            f"at most {times(1)}",
            against,
            worst[0] <= 1 if worst else None,
        )


def _idle(results: Results) -> Figure:
    size = next((key.size for key in results.cells if key.quantity == "idle"), 0)
    ours, walks = (results.cells.get(Key(what, "idle", ESTABLISHED, size), ()) for what in ("ours", "walk"))
    windows = [share / walk for share, walk in zip(ours, walks, strict=False)]
    measured = reached = None
    if windows:
        measured = f"{times(max(windows))}, {times(min(windows))} in the best window; {percent(max(ours))} of a core"
        reached = max(windows) <= _IDLE
    what = f"idle CPU, default configuration, {count(size)} sockets, against one bare walk a second, in windows of 15 s"
    return _figure(what, f"at most {times(_IDLE)}", measured, reached)


def _age(results: Results) -> Figure:
    _, size = _ends(results, "age")
    age, walk, light = (results.median("ours", quantity, size) for quantity in ("age", "age of the walk", "light pass"))
    measured = reached = None
    if age and walk and light:
        measured = f"{seconds(age)}, by light passes of {seconds(light)}; the other states {seconds(walk)}"
        reached = age <= _AGE
    what = f"age of accept queues, drops, ESTABLISHED, TIME-WAIT, orphans and memory{_at(size, 'sockets')}"
    return _figure(what, f"at most {seconds(_AGE)}", measured, reached)


def _plugin(results: Results) -> Iterable[Figure]:
    small, large = _ends(results, "wall", "plugin")
    bare = [_slower(results, plugin, interpreter, small) for plugin, interpreter in WAYS.items()]
    yield _worst_way(f"the plugin, against a bare interpreter's start, {count(small)} sockets", bare, most=_BARE)
    for size, least in ((small, _CHECK), (large, _CHECK_MANY)):
        check = [_slower(results, "psutil_check", plugin, size, worst=min) for plugin in WAYS]
        yield _worst_way(f"the plugin, against a psutil-based check, {count(size)} sockets", check, least=least)


def _slower(
    results: Results, one: str, other: str, size: int, worst: Callable[[Iterable[float]], float] = max
) -> tuple[float, str] | None:
    """By how much *one* is slower than *other*, by the *worst* of wall and CPU time, and both in words."""
    ratios, words = [], []
    for quantity, name in (("wall", "wall"), ("cpu", "CPU")):
        slow, fast = results.median(one, quantity, size), results.median(other, quantity, size)
        if not (slow and fast):
            return None
        ratios.append(slow / fast)
        words.append(f"{name} {times(slow / fast)} ({seconds(slow)} against {seconds(fast)})")
    return worst(ratios), ", ".join(words)


def _worst_way(
    what: str, ways: Sequence[tuple[float, str] | None], most: float | None = None, least: float | None = None
) -> Figure:
    """The figure of the way to install the plugin that is worst for us, with the ratios of the others."""
    named = [(*found, way) for found, way in zip(ways, ("by pip", "as one file", "as a package"), strict=True) if found]
    asked = f"at least {times(least)} faster" if least else f"at most {times(most or 0)}"
    if not named:
        return _figure(what, asked, None, None)
    named.sort(key=lambda way: way[0], reverse=least is None)
    (ratio, words, way), *others = named
    beside = "".join(f"; {name} {times(other)}" for other, _, name in others)
    reached = ratio >= least if least else ratio <= (most or 0)
    return _figure(what, asked, f"{way} {words}{beside}", reached)


def _documents(results: Results) -> Figure:
    size = next((key.size for key in results.cells if key.what == "ready_bytes"), 0)
    ratios = []
    for path in PATHS:
        for coding in CODINGS:
            ours, copy = (results.median(what, request(path, coding), size) for what in ("ours", "ready_bytes"))
            if ours and copy:
                ratios.append((ours / copy, ours, copy, path, coding))
    measured = reached = None
    if len(ratios) == len(PATHS) * len(CODINGS):
        ratio, ours, copy, path, coding = max(ratios)
        measured, reached = (
            f"{times(ratio)}: {seconds(ours)} against {seconds(copy)} ({path}, {coding})",
            ratio <= _COPY,
        )
    what = f"a request for the JSON or the page{_at(size, 'listeners')}, CPU, against copying the same bytes"
    return _figure(f"{what} out by the same server", f"at most {times(_COPY)}", measured, reached)


def _figure(what: str, asked: str, measured: str | None, reached: bool | None) -> Figure:  # noqa: FBT001 - a field
    return Figure(what, asked, measured or "not measured", None if measured is None else reached)


def _at(size: int, what: str) -> str:
    """The size in words; nothing where it was not measured at any."""
    return f" at {count(size)} {what}" if size else ""


def _last(sizes: list[int]) -> int:
    return sizes[-1] if sizes else 0


def _ends(results: Results, quantity: str, what: str = "ours") -> tuple[int, int]:
    """The smallest and the largest size at which something was measured."""
    sizes = [key.size for key in results.cells if (key.what, key.quantity, key.mix) == (what, quantity, ESTABLISHED)]
    return (min(sizes), max(sizes)) if sizes else (0, 0)
