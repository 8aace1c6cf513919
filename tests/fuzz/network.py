"""Targets: what comes by network. Raw bytes to the real server, and a server's raw bytes to the real plugin."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import os
import resource
import socket
import threading

import pytest

from exporter import cli
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
    """Whatever listens where a daemon is expected: it says what it is told to, the next to each who asks."""

    def __init__(self) -> None:
        self.says = [b""]  # the last to all that follow
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with client:
                try:
                    client.recv(65536)
                    client.sendall(self.says.pop(0) if len(self.says) > 1 else self.says[0])
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
    daemon.says = [said]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", os.devnull)  # a hundred certificates would be read for each answer
        environment.setenv("SSL_CERT_DIR", os.devnull)
        code, text = check.run(["--url", f"http://127.0.0.1:{daemon.port}", *options])
    _answered(code, text)


def _answered(code: int, text: str) -> None:
    assert code in {0, 1, 2, 3}
    assert text.startswith(f"TCP STATES {('OK', 'WARNING', 'CRITICAL', 'UNKNOWN')[code]}: ")
    shown(text)


_NEXT = b"\n--next--\n"
_ASKING: tuple[tuple[str, ...], ...] = (
    ("check_tcp_states",), ("check_tcp_states", "-vv", "--all"), ("healthcheck",), ("advise", "--thresholds"),
)  # fmt: skip
_MORE_MEMORY = 256 << 10  # KiB that this process may have gained by then: an input has 16


def hostile_server(data: bytes) -> None:
    """A server that wants to harm who asks: every command ends with one line, bounded and printable, or an answer.

    The first byte chooses the command. The rest is told to one connection after the other; the second byte says how
    what begins as JSON is sent: by its length, in chunks or until the end of the connection.
    """
    command = _ASKING[(data[0] if data else 0) % len(_ASKING)]
    framing = data[1] if len(data) > 1 else 0
    before = _memory_before()
    daemon = _daemon()
    daemon.says = [_framed(part, framing) for part in data[2:].split(_NEXT)]
    url = f"http://127.0.0.1:{daemon.port}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", os.devnull)
        environment.setenv("SSL_CERT_DIR", os.devnull)
        if command[0] == "check_tcp_states":
            _answered(*check.run(["--url", url, *command[1:]]))
        else:
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = cli.run([*command, "--url", url])
            _printed(code, out.getvalue(), err.getvalue())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < _MORE_MEMORY + before


def _printed(code: int, out: str, err: str) -> None:
    """An answer on standard output, or one line of complaint."""
    assert code in {0, 1, 2}
    assert all(line.isprintable() for line in (*out.split("\n"), *err.split("\n")))
    assert len(err) < 4096
    assert (bool(out), err.count("\n")) == ((True, 0) if code == 0 else (False, 1)), (code, out, err)


def _framed(said: bytes, framing: int) -> bytes:
    if not said.startswith((b"{", b"[")):
        return said
    head = b"HTTP/1.1 200 OK\r\n"
    if framing % 3 == 0:
        return head + b"Content-Length: %d\r\n\r\n%b" % (len(said), said)
    if framing % 3 == 1:
        return head + b"Connection: close\r\n\r\n" + said
    pieces = (said[at : at + 1 + framing] for at in range(0, len(said), 1 + framing))
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@functools.cache
def _memory_before() -> int:
    """The memory of this process, in KiB, when it was first asked for."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
