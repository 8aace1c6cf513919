"""A request and its response as plain values: the interface between the server and request handlers.

Handlers take the one and return the other, so pages, metrics and authentication are tested without a socket.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

PLAIN_TEXT = "text/plain; charset=utf-8"


class Request(NamedTuple):
    """A complete request. It has no body: the server rejects requests with one."""

    method: str
    path: str  # percent-decoded, without the query
    query: str  # as it was sent
    headers: Mapping[str, str]  # lower-case names; repeated ones joined by ", "
    address: str = ""  # of the client; a unix socket's clients have none
    peer: str = ""  # the same with its port


class Response(NamedTuple):
    """An answer. ``body`` may be shared between requests: the server does not copy it.

    For HEAD, answer as for GET: the server leaves the body out.
    """

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Request], Response]

Middleware = Callable[[Request, Handler], Awaitable[Response]]
"""Runs before a handler: answers in its place, or passes the request on to it."""


def plain_text(status: int, text: str | None = None, *headers: tuple[str, str]) -> Response:
    r"""A line of plain text, by default the status in words.

    >>> plain_text(400).body, plain_text(503, "no sample yet").body
    (b'Bad Request\n', b'no sample yet\n')
    """
    line = HTTPStatus(status).phrase if text is None else text
    return Response(status, PLAIN_TEXT, f"{line}\n".encode(), headers)


def not_found() -> Response:
    """The answer for an unknown path."""
    return plain_text(404)


def method_not_allowed() -> Response:
    """The answer to every method but GET and HEAD."""
    return plain_text(405, None, ("Allow", "GET, HEAD"))
