"""Targets: what comes by network. Raw bytes to the real server, and a server's raw bytes to the real plugin."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import threading

import pytest

from exporter.daemon.daemon import page_assets
from exporter.health.thresholds import DEFAULTS
from exporter.nagios import check
from exporter.prometheus.families import View
from exporter.sampling.sample import Sample
from exporter.web.app import application
from exporter.web.current import Current
from exporter.web.server import Limits, Server
from tests.conftest import judged, sample_situation
from tests.fuzz import reference
from tests.fuzz.operator import shown

_PATIENCE = 120.0  # seconds: far above every deadline of the server and of the plugin
_STATUSES = {200, 400, 404, 405, 413, 421, 431, 501, 503, 505}
_COMMANDS = (
    (), ("-v",), ("-vv",), ("--peak",), ("-s", "sysctl"), ("-v", "-s", "sysctl", "-s", "total"),
    ("-vv", "-s", "syn_queue_ratio", "-s", "accept_queue_ratio", "-s", "ephemeral_ports_ratio", "-c", "0"),
    ("-v", "-s", "time_wait_ratio,orphans_ratio,memory_ratio", "-w", "0.5"),
)  # fmt: skip


class _Front:
    """The daemon's HTTP front in a thread of its own, as it stands for the whole process."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.port = 0
        ready = threading.Event()
        threading.Thread(target=asyncio.run, args=(self._serve(ready),), daemon=True).start()
        assert ready.wait(_PATIENCE)

    async def _serve(self, ready: threading.Event) -> None:
        snapshot = sample_situation("quiet")
        sample = Sample.single(snapshot, judged(snapshot))._replace(stale_after=1e9)
        current = Current(sample, View(DEFAULTS, python="3.11.0"), 1.0, "/metrics", "host.example")
        server = Server(
            application(lambda: current, page_assets()),
            limits=Limits(head=2.0, write=5.0, idle=2.0),
            on_error=self.errors.append,
        )
        (url,) = await server.start([("127.0.0.1", 0)])
        self.port = int(url.rpartition(":")[2])
        ready.set()
        await asyncio.Event().wait()


@functools.cache
def _front() -> _Front:
    return _Front()


def http(data: bytes) -> None:
    """What a client says before it stops: it gets whole, well-formed responses or none, and the connection ends."""
    front = _front()
    received = b""
    with socket.create_connection(("127.0.0.1", front.port), _PATIENCE) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while more := client.recv(1 << 16):
                received += more
        except (ConnectionResetError, BrokenPipeError):
            received = b""  # it closed on what it had not read; what it said before may be lost
    statuses = reference.responses(received, heads=b"HEAD" in data)
    assert set(statuses) <= _STATUSES, statuses
    assert front.errors == []


class _Daemon:
    """Whatever listens where the plugin expects a daemon: it says what it is told to, once to each who asks."""

    def __init__(self) -> None:
        self.says = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with client:
                try:
                    client.recv(65536)
                    client.sendall(self.says)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65536):
                        pass
                except OSError:
                    pass  # the plugin has heard enough


@functools.cache
def _daemon() -> _Daemon:
    return _Daemon()


def snapshot(data: bytes) -> None:
    """A daemon's answer, the first byte chooses the plugin's options: a status and a text that Nagios reads as meant.

    What begins as JSON is the body of a good response, anything else the whole of what is said.
    """
    options, said = _COMMANDS[(data[0] if data else 0) % len(_COMMANDS)], data[1:]
    if said.startswith(b"{"):
        said = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said)
    daemon = _daemon()
    daemon.says = said
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", os.devnull)  # a hundred certificates would be read for each answer
        environment.setenv("SSL_CERT_DIR", os.devnull)
        code, text = check.run(["--url", f"http://127.0.0.1:{daemon.port}", *options])
    assert code in {0, 1, 2, 3}
    assert text.startswith(f"TCP STATES {('OK', 'WARNING', 'CRITICAL', 'UNKNOWN')[code]}: ")
    shown(text)
