"""The endpoints that make their answer once and hand it out often: the history and the page."""

from __future__ import annotations

import gzip
import json
from array import array

import pytest

from exporter.daemon.daemon import page_assets
from exporter.health.thresholds import DEFAULTS
from exporter.prometheus.families import View
from exporter.sampling.history import HOLE, Points
from exporter.tcpstate import KNOWN_STATES, TcpState
from exporter.web.app import application
from exporter.web.current import Current
from exporter.web.http import Handler, Request, Response

VIEW = View(DEFAULTS, python="3.11.0")


class Daemon:
    """What is current, and the application that is asked about it."""

    def __init__(self, points: Points | None) -> None:
        self.points = points
        self.handler: Handler = application(self._current, page_assets())

    def _current(self) -> Current:
        return Current(None, VIEW, 0.0, "/metrics", "host.example", self.points)

    def get(self, path: str, method: str = "GET", **headers: str) -> Response:
        return self.handler(Request(method, path, "", {name.replace("_", "-"): it for name, it in headers.items()}))


def points(*numbers: int) -> Points:
    return Points(1_700_000_010.0, *((array("i", numbers),) * len(TcpState) for _ in range(2)))


def test_the_history_is_the_points_with_null_for_what_was_not_counted() -> None:
    answer = Daemon(points(3, HOLE, 5)).get("/api/v1/history")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert json.loads(answer.body) == {
        "api_version": 1,
        "step_seconds": 10.0,
        "end": 1_700_000_010.0,
        "states": {state.label: {"min": [3, None, 5], "max": [3, None, 5]} for state in KNOWN_STATES},
    }


def test_before_the_first_point_the_history_is_empty() -> None:
    document = json.loads(Daemon(None).get("/api/v1/history").body)
    assert (document["end"], document["states"]["listen"]) == (None, {"min": [], "max": []})


def test_the_history_is_rendered_once_for_each_point() -> None:
    daemon = Daemon(points(3))
    first = daemon.get("/api/v1/history").body
    assert daemon.get("/api/v1/history").body is first
    daemon.points = points(3, 4)
    assert daemon.get("/api/v1/history").body != first


@pytest.mark.parametrize("path", ["/", "/api/v1/history"])
def test_who_takes_gzip_gets_it(path: str) -> None:
    daemon = Daemon(points(3, 4))
    plain, packed = daemon.get(path), daemon.get(path, accept_encoding="gzip, br")
    assert ("Content-Encoding", "gzip") in packed.headers
    assert "Content-Encoding" not in dict(plain.headers)
    assert gzip.decompress(packed.body) == plain.body
    assert dict(plain.headers)["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize("path", ["/", "/api/v1/history"])
def test_they_are_read_and_nothing_else(path: str) -> None:
    assert Daemon(None).get(path, "POST").status == 405
    assert Daemon(None).get(path, "HEAD").status == 200


def test_the_page_goes_out_with_its_policy() -> None:
    headers = dict(Daemon(None).get("/").headers)
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
    assert headers["Cache-Control"] == "no-store"
