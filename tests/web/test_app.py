"""The endpoints that make their answer once and hand it out often: the metrics, the snapshot, the history, the page."""

from __future__ import annotations

import gzip
import json
import pkgutil
from array import array
from typing import Any

import pytest

from exporter.daemon.daemon import page_assets
from exporter.health.judge import Judge
from exporter.health.thresholds import DEFAULTS
from exporter.health.window import Window
from exporter.prometheus.families import View
from exporter.sampling.history import HOLE, TOTAL, Points
from exporter.sampling.sample import Sample
from exporter.tcpstate import KNOWN_STATES, StateCounts, TcpState
from exporter.web.app import application
from exporter.web.current import Current
from exporter.web.http import Handler, Request, Response
from tests.conftest import sample_situation

VIEW = View(DEFAULTS, python="3.11.0")


class Daemon:
    """What is current, and the application that is asked about it."""

    def __init__(self, points: Points | None, sample: Sample | None = None) -> None:
        self.points = points
        self.sample = sample
        self.now = 0.0
        self.handler: Handler = application(self._current, page_assets())

    def _current(self) -> Current:
        return Current(self.sample, VIEW, self.now, "/metrics", "host.example", self.points)

    def get(self, path: str, method: str = "GET", **headers: str) -> Response:
        return self.handler(Request(method, path, "", {name.replace("_", "-"): it for name, it in headers.items()}))


def points(*numbers: int) -> Points:
    series = array("i", numbers)
    return Points(1_700_000_010.0, (series,) * (TOTAL + 1), (series,) * (TOTAL + 1), series)


def test_the_history_is_the_points_with_null_for_what_was_not_counted() -> None:
    answer = Daemon(points(3, HOLE, 5)).get("/api/v1/history")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert json.loads(answer.body) == {
        "api_version": 1,
        "step_seconds": 10.0,
        "end": 1_700_000_010.0,
        "states": {state.label: {"min": [3, None, 5], "max": [3, None, 5]} for state in KNOWN_STATES},
        "total": {"min": [3, None, 5], "max": [3, None, 5]},
        "dropped": [3, None, 5],
    }


def test_before_the_first_point_the_history_is_empty() -> None:
    document = json.loads(Daemon(None).get("/api/v1/history").body)
    assert (document["end"], document["states"]["listen"]) == (None, {"min": [], "max": []})
    assert (document["total"], document["dropped"]) == ({"min": [], "max": []}, [])


def test_the_history_is_rendered_once_for_each_point() -> None:
    daemon = Daemon(points(3))
    first = daemon.get("/api/v1/history").body
    assert daemon.get("/api/v1/history").body is first
    daemon.points = points(3, 4)
    assert daemon.get("/api/v1/history").body != first


PATHS = ["/", "/metrics", "/api/v1/snapshot", "/api/v1/history"]


def sample(peaks: StateCounts | None = None) -> Sample:
    snapshot = sample_situation("quiet")
    health = Judge("6.1.0").judge(Window(snapshot, []), DEFAULTS, {})
    return Sample.single(snapshot, health)._replace(stale_after=3.0, peaks=peaks)


def test_the_snapshot_has_the_age_of_each_second() -> None:
    daemon = Daemon(None, sample())
    bodies = []
    for daemon.now in (0.1, 0.9, 1.0, 1.99, 3.0, 3.1, 3.2):  # stale above 3.0
        bodies.append(daemon.get("/api/v1/snapshot").body)
    read = [json.loads(body) for body in bodies]
    assert [(it["age_seconds"], it["stale"]) for it in read] == [
        *((0.1, False), (0.1, False), (1.0, False), (1.0, False), (3.0, False)),
        *((3.1, True), (3.1, True)),
    ]
    assert len({id(body) for body in bodies}) == 4
    assert [{**it, "age_seconds": 0, "stale": False} for it in read] == [{**read[0], "age_seconds": 0}] * len(read)


def counted(monkeypatch: pytest.MonkeyPatch, path: str) -> list[str]:
    """From now on, a line for each call of the function or method at *path*."""
    module, _, name = path.rpartition(".")
    owner, calls = pkgutil.resolve_name(module), list[str]()
    original = getattr(owner, name)

    def call(*arguments: Any, **named: Any) -> Any:
        calls.append(path)
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, call)
    return calls


@pytest.mark.parametrize(
    ("path", "renderer", "rendered", "wholes", "ends"),  # compressed as a whole, or as two ends around the age
    [
        ("/", "exporter.web.page.StatusPage._render", 1, 0, 2),
        ("/metrics", "exporter.prometheus.exposition.families", 2, 2, 0),  # once for each format
        ("/api/v1/snapshot", "exporter.document.write.document", 1, 0, 2),
        ("/api/v1/history", "exporter.document.write.history", 1, 1, 0),
    ],
)
def test_an_answer_is_rendered_and_compressed_once_a_sample_whoever_asks_when_and_how(
    path: str, renderer: str, rendered: int, wholes: int, ends: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [counted(monkeypatch, it) for it in (renderer, "gzip.compress", "zlib.compressobj")]
    daemon = Daemon(points(3, 4), sample())
    for daemon.now in (0.0, 0.5, 1.0, 1.5, 2.9):
        for query in ("", "name[]=up", "name%5B%5D=up&x=1"):
            for method in ("GET", "HEAD"):
                for accept in ("*/*", "text/plain", "application/openmetrics-text"):
                    for coding in ("identity", "gzip", "gzip;q=0.5, identity;q=0.1"):
                        request = Request(method, path, query, {"accept": accept, "accept-encoding": coding})
                        assert daemon.handler(request).status == 200
    assert [len(it) for it in calls] == [rendered, wholes, ends]


def test_a_new_sample_is_a_new_snapshot_and_a_new_page_of_metrics() -> None:
    daemon = Daemon(None, sample())
    before = [daemon.get(path).body for path in PATHS]
    assert [daemon.get(path).body is body for path, body in zip(PATHS, before, strict=True)] == [True] * len(PATHS)
    daemon.sample = sample(peaks=tuple(range(len(TcpState))))
    same = [daemon.get(path).body == body for path, body in zip(PATHS, before, strict=True)]
    assert same == [False, False, False, True]


def test_without_a_sample_the_snapshot_is_not_there_yet() -> None:
    answer = Daemon(None).get("/api/v1/snapshot", accept_encoding="gzip")
    assert (answer.status, json.loads(answer.body)) == (503, {"api_version": 1, "error": "no sample yet"})


@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_takes_gzip_gets_it(path: str) -> None:
    daemon = Daemon(points(3, 4), sample())
    plain, packed = daemon.get(path), daemon.get(path, accept_encoding="gzip, br")
    assert ("Content-Encoding", "gzip") in packed.headers
    assert "Content-Encoding" not in dict(plain.headers)
    assert gzip.decompress(packed.body) == plain.body
    assert dict(plain.headers)["Vary"].endswith("Accept-Encoding")
    assert dict(packed.headers)["Vary"] == dict(plain.headers)["Vary"]


@pytest.mark.parametrize("path", PATHS)
def test_they_are_read_and_nothing_else(path: str) -> None:
    daemon = Daemon(None, sample())
    assert daemon.get(path, "POST").status == 405
    assert daemon.get(path, "HEAD").status == 200


def test_the_page_goes_out_with_its_policy() -> None:
    headers = dict(Daemon(None).get("/").headers)
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
    assert headers["Cache-Control"] == "no-store"
