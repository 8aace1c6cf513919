"""The load generator: clients that scrape over connections that stay, in one tight loop of raw bytes.

``python -m benchmarks.load PORT CLIENTS SECONDS (gzip|plain) EVERY`` prints one line of JSON. Each client asks every so
many seconds, however long the answers take, and all of them evenly spread; or, where EVERY is 0, without pause. It is a
process of its own, the same for every server, and says what CPU time it used itself and how late it asked.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from collections import deque
from typing import NamedTuple

_HEAD = (
    "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Prometheus/2.42.0\r\n"
    "Accept: application/openmetrics-text;version=1.0.0;q=0.75,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=0.0.4;q=0.25,*/*;q=0.1\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n"
)
REQUESTS = {"gzip": f"{_HEAD}Accept-Encoding: gzip\r\n\r\n".encode(), "plain": f"{_HEAD}\r\n".encode()}
"""As Prometheus 2.42 asks, and the same uncompressed."""

RESET = struct.pack("=ii", 1, 0)
"""For SO_LINGER: a connection that is closed leaves no TIME_WAIT, which would be in the table of the next round."""

_LAST_CHUNK = b"\r\n0\r\n\r\n"
_PATIENCE_SECONDS = 30.0
_SETTLING_SECONDS = 0.25  # from the connecting to the first request that has its time
_AWAKE_SECONDS = 0.002  # before the next request it looks again and again: epoll wakes up by whole milliseconds


class Answer:
    """How far an answer has come: by its stated length, or by chunks."""

    def __init__(self) -> None:
        self._left: int | None = None  # bytes; None while the head is not whole, -1 where there are chunks
        self._tail = b""

    def take(self, data: bytes) -> bool:
        """Take what came; True when the answer is whole.

        >>> Answer().take(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
        True
        """
        if self._left is None:
            data = self._tail + data
            head, end, body = data.partition(b"\r\n\r\n")
            if not end:
                self._tail = data
                return False
            if not head.startswith(b"HTTP/1.1 200 "):
                raise ValueError(
                    f"expected an answer of status 200, got {head.splitlines()[0].decode(errors='replace')!r}"
                )
            _, found, length = head.lower().partition(b"\r\ncontent-length:")
            self._left = int(length.split(b"\r\n", 1)[0]) if found else -1
            self._tail, data = b"\r\n", body
        if self._left >= 0:
            self._left -= len(data)
            return self._left == 0
        self._tail = (self._tail + data)[-len(_LAST_CHUNK) :]
        return self._tail == _LAST_CHUNK


_clock = time.perf_counter


class Load(NamedTuple):
    """What came of a load; times in seconds."""

    p50: float  # of the latency, from the time at which it was to be asked
    p99: float
    per_second: float  # answers
    generator_cpu: float  # of this process, for one answer
    late: float  # p99 of how late this process asked; it is in the latencies

    @classmethod
    def of(cls, latencies: list[float], late: list[float], seconds: float, cpu: float) -> Load:
        """From the latency of each answer, and the wall and CPU time of all.

        >>> Load.of([0.004, 0.001, 0.002, 0.003], [0.0, 0.5], 2.0, 0.4)
        Load(p50=0.002, p99=0.004, per_second=2.0, generator_cpu=0.1, late=0.5)
        """
        ordered = sorted(latencies)
        p50, p99 = _percentile(ordered, 50), _percentile(ordered, 99)
        return cls(p50, p99, len(ordered) / seconds, cpu / len(ordered), _percentile(sorted(late), 99))


def _percentile(ordered: list[float], percent: int) -> float:
    return ordered[-(-len(ordered) * percent // 100) - 1]


class _Clients:
    """Clients with a connection each. A request whose client still waits for an answer is asked after it."""

    def __init__(self, port: int, number: int, request: bytes) -> None:
        connections = [socket.create_connection(("127.0.0.1", port), _PATIENCE_SECONDS) for _ in range(number)]
        self._request = request
        self._connections = {connection.fileno(): connection for connection in connections}
        self._ready = select.epoll()
        for descriptor, connection in self._connections.items():
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._ready.register(descriptor, select.EPOLLIN)
        self._answers: dict[int, Answer] = {}
        self._behind = {descriptor: deque[float]() for descriptor in self._connections}
        self.names = list(self._connections)
        self.waiting: dict[int, float] = {}  # since when each was to be asked
        self.latencies: list[float] = []

    def ask(self, client: int, at: float) -> None:
        """Ask, of what was to be asked at that time."""
        if client in self.waiting:
            self._behind[client].append(at)
            return
        self._answers[client], self.waiting[client] = Answer(), at
        self._connections[client].sendall(self._request)

    def answered(self, seconds: float) -> list[int]:
        """Wait for answers for so long; those that have one."""
        found = []
        for client, _ in self._ready.poll(seconds):
            data = self._connections[client].recv(262144)
            if not data:
                raise ConnectionError("the server ended a connection")
            if self._answers[client].take(data):
                self.latencies.append(_clock() - self.waiting.pop(client))
                found.append(client)
                if self._behind[client]:
                    self.ask(client, self._behind[client].popleft())
        return found

    def end(self) -> None:
        """Close every connection."""
        for connection in self._connections.values():
            connection.close()
        self._ready.close()


def generate(port: int, number: int, seconds: float, request: bytes, every: float) -> Load:
    """Scrape with so many clients for so long, each *every* so many seconds or, of 0, as soon as it has its answer."""
    clients = _Clients(port, number, request)
    began = _clock() + (_SETTLING_SECONDS if every else 0.0)
    due = deque(
        (began + turn * every + position * every / number, client)
        for turn in range(max(1, round(seconds / every)) if every else 1)
        for position, client in enumerate(clients.names)
    )
    late = []
    cpu_began = time.process_time()
    while due or clients.waiting:
        while due and due[0][0] <= (now := _clock()):
            at, client = due.popleft()
            late.append(now - at)
            clients.ask(client, at)
        answered = clients.answered(max(0.0, due[0][0] - _clock() - _AWAKE_SECONDS) if due else _PATIENCE_SECONDS)
        if not answered and not due and _clock() > began + seconds + _PATIENCE_SECONDS:
            raise TimeoutError(f"no answer within {_PATIENCE_SECONDS:g} s")
        if not every and (now := _clock()) < began + seconds:
            for client in answered:
                clients.ask(client, now)
    load = Load.of(clients.latencies, late, _clock() - began, time.process_time() - cpu_began)
    clients.end()
    return load


if __name__ == "__main__":
    _port, _clients, _seconds, _coding, _every = sys.argv[1:]
    _load = generate(int(_port), int(_clients), float(_seconds), REQUESTS[_coding], float(_every))
    print(json.dumps(_load._asdict()))
