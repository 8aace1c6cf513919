"""The daemon's endpoints: a request in, ready bytes out. No IO: the sample, the clock and the state are handed in."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

from exporter.prometheus.exposition import Pages
from exporter.prometheus.families import View
from exporter.snapshot import Sample
from exporter.web import api, page
from exporter.web.http import Handler, Request, Response, method_not_allowed, not_found, plain_text
from exporter.web.negotiation import accepts_gzip, choose_format


class Current(NamedTuple):
    """What is true at the moment of a request."""

    sample: Sample | None
    view: View
    now: float  # monotonic seconds, the clock of ``Sample.counted_at``
    telemetry_path: str


def application(current: Callable[[], Current]) -> Handler:
    """The handler of every request; *current* is asked at each."""
    pages = Pages()

    def handle(request: Request) -> Response:
        at = current()
        answer = _ANSWERS.get(request.path)
        if request.path == at.telemetry_path:
            answer = None
        elif answer is None:
            return not_found()
        if request.method not in {"GET", "HEAD"}:
            return method_not_allowed()
        return _metrics(pages, request, at) if answer is None else answer(at)

    return handle


def _metrics(pages: Pages, request: Request, at: Current) -> Response:
    form = choose_format(request.headers.get("accept"))
    compressed = accepts_gzip(request.headers.get("accept-encoding"))
    body = pages.page(at.sample, at.view, form, compressed=compressed)
    encoding = (("Content-Encoding", "gzip"),) if compressed else ()
    return Response(200, form.value, body, (*encoding, ("Vary", "Accept, Accept-Encoding")))


def _page(at: Current) -> Response:
    body = page.render(at.sample, at.view.thresholds, at.telemetry_path, stale=at.view.stale)
    headers = (
        ("Content-Security-Policy", page.CONTENT_SECURITY_POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
    )
    return Response(200, "text/html; charset=utf-8", body, headers)


def _snapshot(at: Current) -> Response:
    if at.sample is None:
        problem = {"api_version": api.API_VERSION, "error": "no sample yet"}
        return Response(503, "application/json", json.dumps(problem).encode() + b"\n", ())
    body = api.encode(api.sampled(at.sample, at.view.thresholds, at.now))
    return Response(200, "application/json", body, (("Cache-Control", "no-store"),))


def _healthy(_: Current) -> Response:
    return plain_text(200, "TCP exporter is healthy.")


def _ready(at: Current) -> Response:
    where = f", waiting for {at.view.hanging_on}" if at.view.hanging_on else ""
    if at.sample is None:
        return plain_text(503, f"TCP exporter is not ready: no sample yet{where}.")
    if at.view.stale:
        age = at.now - at.sample.counted_at
        return plain_text(503, f"TCP exporter is not ready: the last sample is {age:.0f} s old{where}.")
    if at.sample.snapshot.connections is None:
        return plain_text(503, "TCP exporter is not ready: no reader can count the sockets.")
    return plain_text(200, "TCP exporter is ready.")


_ANSWERS: dict[str, Callable[[Current], Response]] = {
    "/": _page,
    "/api/v1/snapshot": _snapshot,
    "/-/healthy": _healthy,
    "/-/ready": _ready,
}
