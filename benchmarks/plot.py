"""A line plot of cost against number of sockets, both axes logarithmic, as SVG for light and dark pages. Pure.

Each line has its label at its end, in its colour; there is no legend to look things up in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from benchmarks.results import Results
from benchmarks.units import count, mebibytes, seconds

WIDTH, HEIGHT = 920, 540
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 250, 64, 58
_LABEL_HEIGHT = 20.0

_STYLE = """\
text { font: 15px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
.title { font-size: 19px; font-weight: 600; }
.tick { fill: #59636e; }
.grid { stroke: #d1d9e0; stroke-width: 1; }
.line { fill: none; stroke-width: 2; }
.ours .line { stroke-width: 4; }
.ours text { font-weight: 600; }
.floor .line { stroke-dasharray: 6 5; }
.ours .line, .ours .leader { stroke: #0969da; } .ours text, .ours .dot { fill: #0969da; }
.floor .line, .floor .leader { stroke: #59636e; } .floor text, .floor .dot { fill: #59636e; }
.peer .line, .peer .leader { stroke: #bc4c00; } .peer text, .peer .dot { fill: #bc4c00; }
.leader { stroke-width: 1; opacity: 0.5; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .tick { fill: #9198a1; }
  .grid { stroke: #3d444d; }
  .ours .line, .ours .leader { stroke: #4493f8; } .ours text, .ours .dot { fill: #4493f8; }
  .floor .line, .floor .leader { stroke: #9198a1; } .floor text, .floor .dot { fill: #9198a1; }
  .peer .line, .peer .leader { stroke: #f0883e; } .peer text, .peer .dot { fill: #f0883e; }
}"""


class Line(NamedTuple):
    """One contender: its label, its kind (``ours``, ``floor`` or ``peer``) and its points, by number of sockets."""

    label: str
    kind: str
    points: Sequence[tuple[int, float]]


_CPU = {
    "psutil": ("psutil", "peer"),
    "ss": ("ss | awk", "peer"),
    "procfs": ("/proc/net/tcp in Python", "peer"),
    "node_exporter": ("node_exporter tcpstat", "peer"),
    "collectd": ("collectd tcpconns", "peer"),
    "detail": ("tcp-exporter, detail", "ours"),
    "full_dump": ("full dump, thrown away", "floor"),
    "daemon_counting": ("tcp-exporter, counting", "ours"),
    "walk": ("bare hash walk", "floor"),
}
_MEMORY = {
    "node_exporter": ("node_exporter tcpstat", "peer"),
    "psutil": ("psutil", "peer"),
    "ss": ("ss | awk", "peer"),
    "procfs": ("/proc/net/tcp in Python", "peer"),
    "collectd": ("collectd tcpconns", "peer"),
    "daemon_sample": ("tcp-exporter", "ours"),
}


def plots(results: Results) -> dict[str, str]:
    """The plots of a run, by name of file."""
    cpu, memory = _lines(results, "cpu", _CPU), _lines(results, "peak", _MEMORY)
    return {
        "cpu.svg": plot("CPU time of a sample, by number of established TCP sockets", cpu, seconds),
        "memory.svg": plot("Peak resident memory, by number of established TCP sockets", memory, mebibytes, base=2**20),
    }


def _lines(results: Results, quantity: str, shown: dict[str, tuple[str, str]]) -> list[Line]:
    lines = []
    for what, (label, kind) in shown.items():
        medians = [(size, results.median(what, quantity, size)) for size in results.sizes()]
        points = [(size, value) for size, value in medians if value]
        if points:
            lines.append(Line(label, kind, points))
    return lines


def plot(title: str, lines: Sequence[Line], unit: Callable[[float], str], *, base: float = 1.0) -> str:
    """An SVG document. The vertical axis has a line at every power of ten of *base*, written by *unit*."""
    values = [value for line in lines for _, value in line.points]
    sizes = sorted({size for line in lines for size, _ in line.points})
    if not values:
        return _document(title, "nothing was measured", [])
    low = math.floor(math.log10(min(values) / base))
    high = max(low + 1, math.ceil(math.log10(max(values) / base)))
    first, last = math.log10(sizes[0]), math.log10(sizes[-1])

    def x(size: int) -> float:
        return _LEFT + (math.log10(size) - first) / ((last - first) or 1) * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (math.log10(value / base) - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    right, bottom, middle = WIDTH - _RIGHT, HEIGHT - _BOTTOM, (_LEFT + WIDTH - _RIGHT) / 2
    body = []
    for power in range(low, high + 1):
        height = y(base * 10.0**power)
        body.append(f'<path class="grid" d="M{_LEFT} {height:.1f}H{right}"/>')
        body.append(_tick(_LEFT - 10, height + 5, "end", _round_unit(unit(base * 10.0**power))))
    body += [_tick(x(size), bottom + 26, "middle", count(size)) for size in sizes]
    body.append(_tick(middle, HEIGHT - 8, "middle", "sockets"))
    ends = [y(line.points[-1][1]) for line in lines]
    for line, end, height in zip(lines, ends, apart(ends, _LABEL_HEIGHT, _TOP, HEIGHT - _BOTTOM), strict=True):
        path = "L".join(f"{x(size):.1f} {y(value):.1f}" for size, value in line.points)
        edge = x(line.points[-1][0])
        body += [
            f'<g class="{line.kind}">',
            f'<path class="line" d="M{path}"/>',
            *(f'<circle class="dot" cx="{x(size):.1f}" cy="{y(value):.1f}" r="3.5"/>' for size, value in line.points),
            f'<path class="leader" d="M{edge + 6:.1f} {end:.1f}L{edge + 24:.1f} {height:.1f}"/>',
            f'<text x="{edge + 28:.1f}" y="{height + 5:.1f}">{escape(line.label)}</text>',
            "</g>",
        ]
    said = "; ".join(
        f"{line.label}: {unit(line.points[-1][1])} at {count(line.points[-1][0])} sockets" for line in lines
    )
    return _document(title, f"{said}.", body)


def _tick(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def apart(wanted: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Places in the order of *wanted*, near to them, at least so far apart and, if they fit, between *low* and *high*.

    >>> apart([50.0, 10.0, 52.0], 20.0, 0.0, 100.0)
    [50.0, 10.0, 70.0]
    >>> apart([90.0, 95.0], 20.0, 0.0, 100.0)
    [80.0, 100.0]
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    places = [0.0] * len(wanted)
    floor = low
    for index in order:
        places[index] = max(wanted[index], floor)
        floor = places[index] + least
    ceiling = high
    for index in reversed(order):
        places[index] = min(places[index], ceiling)
        ceiling = places[index] - least
    return places


def _round_unit(text: str) -> str:
    """An axis has whole numbers.

    >>> _round_unit("10.0 ms"), _round_unit("100 ms"), _round_unit("1.00 s")
    ('10 ms', '100 ms', '1 s')
    """
    number, _, unit = text.partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"


def _document(title: str, description: str, body: Sequence[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}',
        ' role="img" aria-labelledby="title description">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(description)}</desc>',
        f"<style>\n{_STYLE}\n</style>",
        f'<text class="title" x="{_LEFT}" y="32">{escape(title)}</text>',
    ]
    return "\n".join([*head, *body, "</svg>", ""])
