"""Clients that are slow, silent or do not read, against the server with its own limits: the rows of docs/security.md.

``python -m tests.slow_clients`` measures and prints them; ``tests/test_slow_clients.py`` holds them to their bounds.
The server runs as a process of its own, so that its memory and descriptors can be told apart from the clients'.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from exporter.web.http import Request, Response, plain_text
from exporter.web.protection import load
from exporter.web.server import Server
from tests.certificates import Authority

BIG = bytes(8 * 1024 * 1024)
PATIENCE = 180.0  # seconds for one measurement; only a hang reaches it
_GET = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Probe(NamedTuple):
    """The server under test."""

    port: int
    pid: int
    tls: ssl.SSLContext | None  # how a good client trusts it

    def resident(self) -> int:
        """Bytes of memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if "VmRSS" in line).split()[1]) * 1024

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    async def open(self, *, tls: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection; without *tls* a bare one, of a client that has said nothing yet."""
        narrow = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named: no Nagle in asyncio
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # the kernel would grow it to 8 MiB
        narrow.setblocking(False)
        await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", self.port))
        context = self.tls if tls else None
        return await asyncio.open_connection(sock=narrow, ssl=context, server_hostname="127.0.0.1" if context else None)

    async def good(self) -> float:
        """Seconds until a good request on a new connection is answered."""
        begun = time.monotonic()
        reader, writer = await self.open()
        writer.write(_GET % b"page")
        head = await reader.readuntil(b"\r\n")
        assert head == b"HTTP/1.1 200 OK\r\n", head
        took = time.monotonic() - begun
        writer.transport.abort()
        return took

    async def until_closed(self, sent: bytes = b"", trickle: float = 0.0) -> float:
        """Seconds until the server ends a bare connection that sends *sent*, with *trickle* a byte each so often."""
        reader, writer = await self.open(tls=False)
        begun = time.monotonic()

        async def send() -> None:
            with contextlib.suppress(OSError):
                for byte in sent:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(trickle)

        sending = asyncio.create_task(send())
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                pass
        took = time.monotonic() - begun
        sending.cancel()
        await asyncio.wait([sending])
        writer.transport.abort()
        return took


@contextlib.asynccontextmanager
async def probing(web_config: Path | None = None, trusting: ssl.SSLContext | None = None) -> AsyncIterator[Probe]:
    """A server in a process of its own, with the limits that the daemon has."""
    command = [sys.executable, "-m", "tests.slow_clients", "serve", *([str(web_config)] if web_config else [])]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = int(await asyncio.wait_for(process.stdout.readline(), PATIENCE))
        probe = Probe(port, process.pid, trusting)
        await probe.good()
        yield probe
    finally:
        process.kill()
        await process.wait()


async def serve(web_config: str | None) -> None:
    """The server under test: a small page and one of 8 MiB."""

    def handler(request: Request) -> Response:
        return Response(200, "application/octet-stream", BIG) if request.path == "/big" else plain_text(200)

    tls = load(web_config).tls_server_config if web_config is not None else None
    server = Server(handler, on_error=lambda error: print(error, file=sys.stderr), tls=(lambda: tls) if tls else None)
    [url] = await server.start([("127.0.0.1", 0)])
    print(url.rpartition(":")[2], flush=True)
    await asyncio.Event().wait()


class Slow(NamedTuple):
    """What was measured without TLS, as in conventions of the field: seconds and bytes."""

    idle: float
    half: float
    trickled: float
    good_beside_80: float
    memory_of_80: int
    good_beside_stuck: float
    memory_of_stuck: int


async def measure_slow(probe: Probe) -> Slow:
    """Everything but the idle connection that is kept; the three deadlines run at the same time."""
    idle, half, trickled = await asyncio.gather(
        probe.until_closed(),
        probe.until_closed(b"GET /page HTTP/1.1\r\nHost:"),
        probe.until_closed(b"GET /page HTTP/1.1\r\nX: " + b"x" * 1000, trickle=0.25),
    )
    before = probe.resident()
    half_open = [await probe.open(tls=False) for _ in range(80)]
    for _, writer in half_open:
        writer.write(b"GET /page HTTP/1.1\r\nHost:")
    good_beside_80 = await probe.good()
    memory_of_80 = probe.resident() - before
    for _, writer in half_open:
        writer.transport.abort()
    good_beside_stuck, memory_of_stuck = await _stuck(probe)
    return Slow(idle, half, trickled, good_beside_80, memory_of_80, good_beside_stuck, memory_of_stuck)


async def _stuck(probe: Probe) -> tuple[float, int]:
    """A good request beside 8 clients that ask for 8 MiB and do not read, and what those cost in memory."""
    before = probe.resident()
    stuck = [await probe.open() for _ in range(8)]
    for _, writer in stuck:
        assert isinstance(writer.transport, asyncio.ReadTransport)
        writer.transport.pause_reading()
        writer.write(_GET % b"big")
    good = max([await probe.good() for _ in range(20)])  # by then the server has filled all that it is given
    memory = probe.resident() - before
    for _, writer in stuck:
        writer.transport.abort()
    return good, memory


async def measure_idle(probe: Probe) -> float:
    """Seconds that a connection is kept between two requests."""
    reader, writer = await probe.open()
    writer.write(_GET % b"page")
    await reader.readuntil(b"OK\n")
    begun = time.monotonic()
    assert await reader.read() == b""
    writer.transport.abort()
    return time.monotonic() - begun


class Silent(NamedTuple):
    """What was measured with TLS and clients that connect and send nothing."""

    good_beside_1: float
    good_beside_21: float
    handshake: float
    many: int
    good_beside_many: float
    descriptors_of_many: int
    memory_of_many: int
    good_beside_stuck: float
    memory_of_stuck: int


async def measure_silent(probe: Probe, many: int = 10_000) -> Silent:
    """Everything of the second table, and many more silent clients than a process has descriptors."""
    handshake, good_beside_1 = await asyncio.gather(probe.until_closed(), probe.good())
    silent = [await probe.open(tls=False) for _ in range(21)]
    good_beside_21 = await probe.good()
    memory, descriptors = probe.resident(), probe.descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = min(many, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    good_beside_many, most = 0.0, 0
    for count in range(many):
        silent.append(await probe.open(tls=False))
        if count % 500 == 499:
            good_beside_many = max(good_beside_many, await probe.good())
            most = max(most, probe.descriptors())
    memory = probe.resident() - memory
    for _, writer in silent:
        writer.transport.abort()
    await asyncio.sleep(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return Silent(
        good_beside_1,
        good_beside_21,
        handshake,
        many,
        good_beside_many,
        most - descriptors,
        memory,
        *await _stuck(probe),
    )


@contextlib.asynccontextmanager
async def probing_tls(folder: Path) -> AsyncIterator[Probe]:
    """As ``probing``, with TLS by a web configuration in *folder*."""
    authority = Authority(folder, "ca")
    authority.issue("server")
    (folder / "web.yml").write_text("tls_server_config: {cert_file: server.pem, key_file: server.key}\n")
    async with probing(folder / "web.yml", ssl.create_default_context(cafile=authority.cert)) as probe:
        yield probe


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run it, and end it where it hangs."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario()

    asyncio.run(bounded())


async def report() -> None:
    """Print both rows."""
    async with probing() as probe:
        slow, idle = await asyncio.gather(measure_slow(probe), measure_idle(probe))
    stuck = f"ok {_ms(slow.good_beside_stuck)}, {_mib(slow.memory_of_stuck)}"
    cells = [f"{slow.idle:.1f} s", f"{slow.half:.1f} s", f"{slow.trickled:.1f} s", f"{idle:.0f} s",
             f"ok {_ms(slow.good_beside_80)}, {_mib(slow.memory_of_80)}", stuck]  # fmt: skip
    print("| **tcp-exporter** |", " | ".join(cells), "|")
    with tempfile.TemporaryDirectory() as folder:
        async with probing_tls(Path(folder)) as probe:
            silent = await measure_silent(probe)
    many = f"ok {_ms(silent.good_beside_many)}, {silent.descriptors_of_many} descriptors, {_mib(silent.memory_of_many)}"
    cells = [f"ok {_ms(silent.good_beside_1)}", f"ok {_ms(silent.good_beside_21)}", many, f"{silent.handshake:.1f} s",
             f"ok {_ms(silent.good_beside_stuck)}, {_mib(silent.memory_of_stuck)}"]  # fmt: skip
    print("| **tcp-exporter** |", " | ".join(cells), "|")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _mib(size: int) -> str:
    return f"+{size / 2**20:.1f} MiB"


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(sys.argv[2] if len(sys.argv) > 2 else None))
    else:
        run(report)
