"""What a request for the page or the JSON costs the daemon beside the copying of the same bytes, at many listeners.

The floor is ``scripts/ready_bytes.py``: our server without a daemon, that hands the same bytes out. Both serve one
request after the other over one connection, in turns. Of both it is the thread that answers: it also renders.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.load import RESET
from benchmarks.meter import ROOT, main_thread_cpu
from benchmarks.plan import Plan
from benchmarks.server import Server, our_daemon, started

PATHS = ("/api/v1/snapshot", "/")
CODINGS = ("identity", "gzip")
_EACH_ADDRESS = 5000  # listeners
_FIRST_PORT = 20_000


def request(path: str, coding: str) -> str:
    """The name of a quantity: CPU seconds of the server for one request.

    >>> request("/", "gzip")
    'cpu of a request, /, gzip'
    """
    return f"cpu of a request, {path}, {coding}"


def documents(folder: str, plan: Plan) -> Iterator[tuple[str, str, float]]:
    """The CPU seconds of a request, of ours and of the ready bytes, for each path and coding."""
    with ExitStack() as stack:
        for number in range(plan.listeners):
            listening = stack.enter_context(socket.socket())
            listening.bind((f"127.0.0.{1 + number // _EACH_ADDRESS}", _FIRST_PORT + number % _EACH_ADDRESS))
            listening.listen()
        ours = stack.enter_context(our_daemon(folder))
        ours.wait_for("/-/ready")
        for path in PATHS:
            for coding in CODINGS:
                with _ready_bytes(folder, _asked(ours.port, path, coding)) as floor:
                    for turn in range(plan.document_rounds + 1):
                        for what, server in (("ours", ours), ("ready_bytes", floor)):
                            cost = _cost(server, path, coding, plan.document_requests)
                            if turn > 0:
                                yield what, request(path, coding), cost


def _cost(server: Server, path: str, coding: str, number: int) -> float:
    before = main_thread_cpu(server.pid)
    _asked(server.port, path, coding, number)
    return (main_thread_cpu(server.pid) - before) / number


def _asked(port: int, path: str, coding: str, number: int = 1) -> bytes:
    """The last body of so many requests over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    body = b""
    with contextlib.closing(connection):
        connection.connect()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        for _ in range(number):
            connection.request("GET", path, headers={"Accept-Encoding": coding})
            body = connection.getresponse().read()
    return body


@contextlib.contextmanager
def _ready_bytes(folder: str, body: bytes) -> Iterator[Server]:
    script = os.path.join(ROOT, "benchmarks", "scripts", "ready_bytes.py")
    with tempfile.TemporaryDirectory(dir=folder) as own:
        path, log = os.path.join(own, "body"), os.path.join(own, "log")
        with open(path, "wb") as file:
            file.write(body)
        with started([sys.executable, script, path], log) as server:

            def listening() -> bool:
                with open(log, encoding="ascii") as file:
                    said = file.read()
                server.port = int(said) if said.endswith("\n") else 0
                return server.port > 0

            server.wait_until(listening, "port of the ready bytes")
            yield server
