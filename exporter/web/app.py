"""The daemon's endpoints: a request in, ready bytes out. No IO: the sample, the clock and the state are handed in."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

from exporter.document import API_VERSION
from exporter.document import write as api
from exporter.prometheus.exposition import Pages
from exporter.sampling.history import Points
from exporter.web.current import Current
from exporter.web.http import Handler, Request, Response, method_not_allowed, not_found, plain_text
from exporter.web.negotiation import accepts_gzip, choose_format
from exporter.web.page import Assets, StatusPage

_GZIP_LEVEL = 1
_Answer = Callable[[Request, Current], Response]


def application(current: Callable[[], Current], assets: Assets) -> Handler:
    """The handler of every request; *current* is asked at each, *assets* are the status page's files."""
    metrics, history, page = Pages(), _History(), StatusPage(assets)
    answers: dict[str, _Answer] = {
        "/": lambda request, at: _page(page, request, at),
        "/api/v1/snapshot": _snapshot,
        "/api/v1/history": history.answer,
        "/-/healthy": _healthy,
        "/-/ready": _ready,
    }

    def handle(request: Request) -> Response:
        at = current()
        answer = answers.get(request.path)
        if request.path == at.telemetry_path:
            answer = None
        elif answer is None:
            return not_found()
        if request.method not in {"GET", "HEAD"}:
            return method_not_allowed()
        return _metrics(metrics, request, at) if answer is None else answer(request, at)

    return handle


def _metrics(pages: Pages, request: Request, at: Current) -> Response:
    form = choose_format(request.headers.get("accept"))
    compressed = accepts_gzip(request.headers.get("accept-encoding"))
    body = pages.page(at.sample, at.view, form, compressed=compressed)
    return Response(200, form.value, body, (*_encoding(compressed=compressed), ("Vary", "Accept, Accept-Encoding")))


def _encoding(*, compressed: bool) -> tuple[tuple[str, str], ...]:
    return (("Content-Encoding", "gzip"),) if compressed else ()


def _page(page: StatusPage, request: Request, at: Current) -> Response:
    compressed = accepts_gzip(request.headers.get("accept-encoding"))
    headers = (
        *_encoding(compressed=compressed),
        ("Content-Security-Policy", page.content_security_policy),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
        ("Vary", "Accept-Encoding"),
    )
    return Response(200, "text/html; charset=utf-8", page.page(at, compressed=compressed), headers)


class _History:
    """Renders the history once for each point, in the codings that are asked for."""

    def __init__(self) -> None:
        self._points: Points | None = None
        self._bodies: dict[bool, bytes] = {}

    def answer(self, request: Request, at: Current) -> Response:
        compressed = accepts_gzip(request.headers.get("accept-encoding"))
        if at.points is not self._points:
            self._points, self._bodies = at.points, {}
        if compressed not in self._bodies:
            plain = api.encode_compact(api.history(at.points))
            self._bodies[compressed] = gzip.compress(plain, _GZIP_LEVEL, mtime=0) if compressed else plain
        headers = (*_encoding(compressed=compressed), ("Cache-Control", "no-store"), ("Vary", "Accept-Encoding"))
        return Response(200, "application/json", self._bodies[compressed], headers)


def _snapshot(_: Request, at: Current) -> Response:
    if at.sample is None:
        problem = {"api_version": API_VERSION, "error": "no sample yet"}
        return Response(503, "application/json", json.dumps(problem).encode() + b"\n", ())
    body = api.encode(api.sampled(at.sample, at.now))
    return Response(200, "application/json", body, (("Cache-Control", "no-store"),))


def _healthy(_: Request, __: Current) -> Response:
    return plain_text(200, "TCP exporter is healthy.")


def _ready(_: Request, at: Current) -> Response:
    where = f", waiting for {at.view.hanging_on}" if at.view.hanging_on else ""
    if at.sample is None:
        return plain_text(503, f"TCP exporter is not ready: no sample yet{where}.")
    if at.view.stale:
        age = at.now - at.sample.counted_at
        return plain_text(503, f"TCP exporter is not ready: the last sample is {age:.0f} s old{where}.")
    if at.sample.snapshot.connections is None:
        return plain_text(503, "TCP exporter is not ready: no reader can count the sockets.")
    return plain_text(200, "TCP exporter is ready.")
