"""The daemon's endpoints: a request in, ready bytes out. No IO: the sample, the clock and the state are handed in."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial

from exporter.document import API_VERSION, READY
from exporter.document import write as api
from exporter.prometheus.exposition import Exposition
from exporter.prometheus.formats import Format
from exporter.web.current import Current
from exporter.web.http import Handler, Request, Response, method_not_allowed, not_found, plain_text
from exporter.web.negotiation import accepts_gzip, choose_format
from exporter.web.page import Assets, StatusPage
from exporter.web.page.runbook import Runbooks
from exporter.web.rendered import Around, RenderedAround, RenderedOnce

_Answer = Callable[[Request, Current], Response]


def application(current: Callable[[], Current], assets: Assets) -> Handler:
    """The handler of every request; *current* is called for each, *assets* are the status page's files."""
    metrics = partial(_metrics, Exposition(), {form: RenderedOnce() for form in Format})
    page = StatusPage(assets)
    runbooks = Runbooks(assets.runbooks, page.style)
    answers: dict[str, _Answer] = {
        "/": partial(_page, page),
        **{path: partial(_runbook, runbooks, RenderedOnce(), name) for path, name in runbooks.paths()},
        "/api/v1/snapshot": partial(_snapshot, RenderedAround()),
        "/api/v1/history": partial(_history, RenderedOnce()),
        "/-/healthy": _healthy,
        "/-/ready": _ready,
    }

    def handle(request: Request) -> Response:
        at = current()
        answer = metrics if request.path == at.telemetry_path else answers.get(request.path)
        if answer is None:
            return not_found()
        if request.method not in {"GET", "HEAD"}:
            return method_not_allowed()
        return answer(request, at)

    return handle


def _metrics(exposition: Exposition, kept: Mapping[Format, RenderedOnce], request: Request, at: Current) -> Response:
    form = choose_format(request.headers.get("accept"))
    compressed = accepts_gzip(request.headers.get("accept-encoding"))
    page = partial(exposition.page, at.sample, at.view, form)
    body = kept[form].body((at.sample, at.view), page, compressed=compressed)
    return Response(200, form.value, body, (*_encoding(compressed=compressed), ("Vary", "Accept, Accept-Encoding")))


def _snapshot(kept: RenderedAround, request: Request, at: Current) -> Response:
    """The sample, rendered once, with its age in it, which is put in once a second."""
    sample, now = at.sample, at.now
    if sample is None:
        problem = {"api_version": API_VERSION, "error": "no sample yet"}
        return Response(503, "application/json", json.dumps(problem).encode() + b"\n", ())
    compressed = accepts_gzip(request.headers.get("accept-encoding"))
    body = kept.body(
        sample,
        lambda: Around(*api.encode_around_age(sample, now)),
        (int(now - sample.counted_at), sample.is_stale(now)),
        lambda: api.age_bytes(sample, now),
        compressed=compressed,
    )
    return _json(body, compressed=compressed)


def _history(kept: RenderedOnce, request: Request, at: Current) -> Response:
    """The history, which is rendered once for each point."""
    compressed = accepts_gzip(request.headers.get("accept-encoding"))
    body = kept.body(at.points, lambda: api.encode_compact(api.history(at.points)), compressed=compressed)
    return _json(body, compressed=compressed)


def _json(body: bytes, *, compressed: bool) -> Response:
    headers = (*_encoding(compressed=compressed), ("Cache-Control", "no-store"), ("Vary", "Accept-Encoding"))
    return Response(200, "application/json", body, headers)


def _page(page: StatusPage, request: Request, at: Current) -> Response:
    compressed = accepts_gzip(request.headers.get("accept-encoding"))
    answer = _html(page.page(at, compressed=compressed), page.content_security_policy, compressed=compressed)
    # The page is the same for everyone, so what is the client's own is beside it.
    return answer._replace(headers=(*answer.headers, ("Client-Address", request.peer))) if request.peer else answer


def _runbook(runbooks: Runbooks, kept: RenderedOnce, name: str, request: Request, _: Current) -> Response:
    compressed = accepts_gzip(request.headers.get("accept-encoding"))
    body = kept.body(name, lambda: runbooks.page(name), compressed=compressed)
    return _html(body, runbooks.content_security_policy, compressed=compressed)


def _html(body: bytes, policy: str, *, compressed: bool) -> Response:
    headers = (
        *_encoding(compressed=compressed),
        ("Content-Security-Policy", policy),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
        ("Vary", "Accept-Encoding"),
    )
    return Response(200, "text/html; charset=utf-8", body, headers)


def _encoding(*, compressed: bool) -> tuple[tuple[str, str], ...]:
    return (("Content-Encoding", "gzip"),) if compressed else ()


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
    return plain_text(200, READY)
