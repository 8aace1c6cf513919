"""Clients that keep a server from its work, and some that do theirs: many in one process and one thread.

``python -m tests.soak.clients PORT SECONDS KIND=NUMBER...`` runs until it is told to end by SIGTERM, then prints one
line of JSON. Who is cut off comes again after so many seconds: as many connections are held or wanted at any time.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import resource
import select
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Mapping

_TICK_SECONDS = 0.05
_TRICKLE_SECONDS = 0.5  # between two bytes
_SCRAPE_SECONDS = 5.0  # between two scrapes of a good one
_PATIENCE_SECONDS = 10.0  # of a good one, for an answer: Prometheus's own, unless configured
_HEAD = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n"
_MUCH = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 100  # some megabytes of answers
_END = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR

KINDS = ("silent", "half", "trickling", "unread", "good")
"""Nothing sent; half a head; a head without end, byte by byte; answers that nobody reads; scrapes as they should be."""

CUT_OFF = "good that was cut off before the first answer"


class Client:
    """One of them, over all its connections. ``due`` is when it does something of its own accord."""

    def __init__(self, kind: str, port: int, again: float, said: Counter[str], due: float) -> None:
        self.due = due
        self._again = again
        self.socket: socket.socket | None = None
        self._kind = kind
        self._port = port
        self._said = said
        self._received = b""
        self._asks = False
        self._answered = False  # this connection has brought an answer before

    def act(self, now: float) -> None:
        """Do what is due."""
        self.due = math.inf
        if self.socket is None:
            self.socket = self._connected()
        elif self._kind == "trickling":
            self._send(b"x")
            self.due = now + _TRICKLE_SECONDS
        elif self._asks:
            self._said["good that waited in vain"] += 1
            self._asks = False
            self.due = now + _SCRAPE_SECONDS
        else:
            self._send(_HEAD + b"\r\n")
            self._asks, self._received = True, b""
            self.due = now + _PATIENCE_SECONDS

    @property
    def events(self) -> int:
        """What epoll looks for once the connection stands."""
        return _END if self._kind == "unread" else _END | select.EPOLLIN

    def begin(self, now: float) -> None:
        """The connection stands."""
        begins = {"half": _HEAD, "trickling": _HEAD + b"X: ", "unread": _MUCH}
        if self._kind in begins:
            self._send(begins[self._kind])
        if self._kind in {"trickling", "good"}:
            self.act(now)

    def take(self, now: float) -> bool:
        """Take what the server sends; whether the connection goes on."""
        assert self.socket is not None
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._received += data
        if self._asks and (status := _status(self._received)):
            self._said["good answers" if status == 200 else f"good that got {status}"] += 1
            self._asks, self._answered = False, True
            self.due = now + _SCRAPE_SECONDS
        return bool(data)

    def end(self, now: float) -> None:
        """The connection is over: one that waited for its next scrape connects then, one that asked anew asks again."""
        assert self.socket is not None
        self.socket.close()
        self.socket = None
        self._said[f"{self._kind} cut off"] += 1
        if self._asks and not self._answered:
            self._said[CUT_OFF] += 1
        if not self._answered:
            self.due = now + self._again
        elif self._asks:
            self.due = now  # as Go's client does
        self._asks = self._answered = False

    def _connected(self) -> socket.socket:
        made = socket.socket()
        made.setblocking(False)
        if self._kind == "unread":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        error = made.connect_ex(("127.0.0.1", self._port))
        if error not in {0, errno.EINPROGRESS}:
            raise OSError(error, os.strerror(error))
        self._said[f"{self._kind} connections"] += 1
        return made

    def _send(self, data: bytes) -> None:
        assert self.socket is not None
        with contextlib.suppress(OSError):  # epoll tells of the end
            self.socket.send(data)


def _status(received: bytes) -> int:
    """The status of a whole response; 0 where it is not whole yet."""
    head, _, body = received.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return int(head[9:12]) if length and len(body) >= int(length) else 0


def run(port: int, again: float, wanted: Mapping[str, int]) -> dict[str, int]:
    """Be all of them until SIGTERM, who is cut off after *again* seconds again; what happened."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    said: Counter[str] = Counter()
    kinds = [kind for _, kind in sorted((n / number, kind) for kind, number in wanted.items() for n in range(number))]
    now = time.monotonic()
    clients = [Client(kind, port, again, said, now + position / len(kinds)) for position, kind in enumerate(kinds)]
    connected: dict[int, Client] = {}
    most, tick = 0, now
    ready = select.epoll()
    while not ended:
        now = time.monotonic()
        if now >= tick:
            tick = now + _TICK_SECONDS
            for client in clients:
                if client.due <= now:
                    began = client.socket is None
                    client.act(now)
                    if began and client.socket is not None:
                        connected[client.socket.fileno()] = client
                        ready.register(client.socket, select.EPOLLOUT | _END)
            most = max(most, len(connected))
        for descriptor, events in ready.poll(max(0.0, tick - now)):
            client, goes_on = connected[descriptor], True
            if events & select.EPOLLOUT:
                ready.modify(descriptor, client.events)
                client.begin(now)
            if events & select.EPOLLIN:
                goes_on = client.take(now)
            if events & _END or not goes_on:
                ready.unregister(descriptor)
                del connected[descriptor]
                client.end(now)
    return {"most at a time": most, **dict(sorted(said.items()))}


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    numbers = {kind: int(number) for kind, number in (argument.split("=") for argument in sys.argv[3:])}
    print(json.dumps(run(int(sys.argv[1]), float(sys.argv[2]), numbers)))
