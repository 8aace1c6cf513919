"""What the fleet dashboard asks, and how long a server takes to answer: of Prometheus or of whatever speaks its API."""

from __future__ import annotations

import json
import os
import statistics
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from benchmarks.meter import ROOT
from benchmarks.server import Server

SCRAPE_SECONDS = 15
_TIMES = 7  # that each query is asked
_VARIABLES = {
    "$__rate_interval": "1m",
    "$__interval": "15s",
    "$__range": "1h",
    "$job": "tcp-exporter",
    "$instance": ".+",
    "$sysctl": "tcp_fin_timeout",
}


class Query(NamedTuple):
    """An expression of a panel, its variables filled in."""

    panel: str
    expression: str
    instant: bool


class Timed(NamedTuple):
    """How long a query took, in seconds, and how many series answered it."""

    query: Query
    seconds: float
    series: int


def queries() -> Iterator[Query]:
    """Every query of the fleet dashboard."""
    with open(os.path.join(ROOT, "deploy", "grafana", "tcp-fleet.json"), encoding="utf-8") as file:
        dashboard = json.load(file)
    for panel in dashboard["panels"]:
        for inner in (panel, *panel.get("panels", ())):
            for target in inner.get("targets", ()):
                expression = target["expr"]
                for variable, value in _VARIABLES.items():
                    expression = expression.replace(variable, value)
                yield Query(inner["title"], expression, bool(target.get("instant")))


def timed(server: Server) -> list[Timed]:
    """Ask everything as Grafana does: at one moment, or for the last hour in steps of a scrape."""
    return [_timed(server, query) for query in queries()]


def _timed(server: Server, query: Query) -> Timed:
    seconds, answer = [], list[Mapping[str, object]]()
    for _ in range(_TIMES):
        now = time.time()
        started_at = time.monotonic()
        if query.instant:
            answer = ask(server, "query", query=query.expression)
        else:
            span = {"start": f"{now - 3600:.0f}", "end": f"{now:.0f}", "step": str(SCRAPE_SECONDS)}
            answer = ask(server, "query_range", query=query.expression, **span)
        seconds.append(time.monotonic() - started_at)
    return Timed(query, statistics.median(seconds), len(answer))


def ask(server: Server, what: str, **parameters: str) -> list[Mapping[str, object]]:
    """The series of an answer."""
    url = f"http://127.0.0.1:{server.port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        document: Mapping[str, Mapping[str, list[Mapping[str, object]]]] = json.load(answer)
    return document["data"]["result"]


def number(server: Server, expression: str) -> float | None:
    """The one number that *expression* is; None where nothing is known."""
    answer = ask(server, "query", query=expression)
    if not answer:
        return None
    (series,) = answer
    value = series["value"]
    assert isinstance(value, list)
    return float(value[1])
