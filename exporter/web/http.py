"""A request and its response as plain values: the interface between the server and request handlers.

Handlers take the one and return the other, so pages, metrics and authentication are tested without a socket.
"""

from __future__ import annotations

import ipaddress
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


def place_of(address: str) -> str:
    """Whom an address stands for where clients share places: of IPv6 its /64, because one host has all of that.

    >>> place_of("2001:db8::1:2:3:4"), place_of("fe80::1%eth0"), place_of("::ffff:192.0.2.1"), place_of("192.0.2.1")
    ('20010db800000000/64', 'fe80000000000000/64', '192.0.2.1', '192.0.2.1')
    """
    if ":" not in address:
        return address
    mapped = address.removeprefix("::ffff:")
    return mapped if "." in mapped else f"{int(ipaddress.IPv6Address(address)) >> 64:016x}/64"


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
