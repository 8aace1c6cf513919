"""The load generator: clients that scrape without pause over connections that stay, in one tight loop of raw bytes.

``python -m benchmarks.load PORT CLIENTS SECONDS (gzip|plain)`` prints one line of JSON. It is a process of its own, the
same for every server, and says what CPU time it used itself.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from typing import NamedTuple

_HEAD = (
    "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Prometheus/2.42.0\r\n"
    "Accept: application/openmetrics-text;version=1.0.0;q=0.75,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=0.0.4;q=0.25,*/*;q=0.1\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n"
)
REQUESTS = {"gzip": f"{_HEAD}Accept-Encoding: gzip\r\n\r\n".encode(), "plain": f"{_HEAD}\r\n".encode()}
"""As Prometheus 2.42 asks, and the same uncompressed."""

_LAST_CHUNK = b"\r\n0\r\n\r\n"
_PATIENCE_SECONDS = 30.0


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


class Load(NamedTuple):
    """What came of a load; times in seconds."""

    p50: float
    p99: float
    per_second: float  # answers
    generator_cpu: float  # of this process, for one answer

    @classmethod
    def of(cls, latencies: list[float], seconds: float, cpu: float) -> Load:
        """From the latency of each answer, and the wall and CPU time of all.

        >>> Load.of([0.004, 0.001, 0.002, 0.003], 2.0, 0.4)
        Load(p50=0.002, p99=0.004, per_second=2.0, generator_cpu=0.1)
        """
        ordered = sorted(latencies)
        p50, p99 = (ordered[-(-len(ordered) * percent // 100) - 1] for percent in (50, 99))
        return cls(p50, p99, len(ordered) / seconds, cpu / len(ordered))


def generate(port: int, clients: int, seconds: float, request: bytes) -> Load:
    """Scrape with so many clients for so long, each asking anew as soon as it has its answer."""
    connections = [socket.create_connection(("127.0.0.1", port), _PATIENCE_SECONDS) for _ in range(clients)]
    by_descriptor = {connection.fileno(): connection for connection in connections}
    ready = select.epoll()
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ready.register(connection, select.EPOLLIN)
    answers = {descriptor: Answer() for descriptor in by_descriptor}
    asked = dict.fromkeys(by_descriptor, 0.0)
    latencies: list[float] = []
    clock = time.perf_counter
    began = clock()
    end = began + seconds
    cpu_began = time.process_time()
    for descriptor, connection in by_descriptor.items():
        asked[descriptor] = clock()
        connection.sendall(request)
    waiting = clients
    while waiting:
        events = ready.poll(_PATIENCE_SECONDS)
        if not events:
            raise TimeoutError(f"no answer within {_PATIENCE_SECONDS:g} s")
        for descriptor, _ in events:
            connection = by_descriptor[descriptor]
            data = connection.recv(262144)
            if not data:
                raise ConnectionError("the server ended a connection")
            if answers[descriptor].take(data):
                now = clock()
                latencies.append(now - asked[descriptor])
                if now >= end:
                    waiting -= 1
                    continue
                answers[descriptor] = Answer()
                asked[descriptor] = now
                connection.sendall(request)
    load = Load.of(latencies, clock() - began, time.process_time() - cpu_began)
    for connection in connections:
        connection.close()
    ready.close()
    return load


if __name__ == "__main__":
    print(json.dumps(generate(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), REQUESTS[sys.argv[4]])._asdict()))
