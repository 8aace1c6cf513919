"""Answers for thousands of hosts, each at an address of loopback, with the page of a real daemon whose values change.

``many_hosts.py PAGE PORT``: counters rise, and counts of sockets and of bytes move around what the page has; limits,
sysctls, statuses and what only describes stay. It says "listening" once it does.
"""

import asyncio
import random
import re
import sys
import time

_CONSTANT = re.compile(
    rb"[a-z_]*(_info|_status|_limit|_limit_bytes|_up|_deviates|_since)\b|tcp_(sysctl|threshold)|process_|python_"
)


class Page:
    """The text of the page, between the values that change."""

    def __init__(self, page: bytes) -> None:
        self._parts: list[bytes] = []
        self._values: list[tuple[float, bool]] = []
        text = b""
        for line in page.splitlines(keepends=True):
            series, _, value = line.strip().rpartition(b" ")
            name = series.partition(b"{")[0]
            if line.startswith(b"#") or not series or _CONSTANT.match(name) or not _is_number(value):
                text += line
                continue
            self._parts.append(text + series + b" ")
            self._values.append((float(value), name.endswith((b"_total", b"_count", b"_sum", b"_bucket"))))
            text = b"\n"
        self._end = text
        self._began = time.monotonic()

    def render(self, host: random.Random) -> bytes:
        """The page of a host now."""
        factor = host.uniform(0.8, 1.2)
        seconds = time.monotonic() - self._began
        out: list[bytes] = []
        for part, (value, counts) in zip(self._parts, self._values, strict=True):
            now = value + seconds * (1 + value / 1000) if counts else value * factor
            out += (part, b"%d" % now if value.is_integer() else b"%.6g" % now)
        out.append(self._end)
        return b"".join(out)


def _is_number(value: bytes) -> bool:
    try:
        return abs(float(value)) < 1e18
    except ValueError:
        return False


class Host(asyncio.Protocol):
    """A connection of a scraper."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._random = random.Random()
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to answer."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request; none has a body."""
        self._got += data
        while b"\r\n\r\n" in self._got:
            self._got = self._got.partition(b"\r\n\r\n")[2]
            body = self._page.render(self._random)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n" % len(
                body
            )
            self._transport.write(head + body)


async def main(page: Page, port: str) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(lambda: Host(page), "0.0.0.0", int(port), backlog=4096)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        what = Page(file.read())
    asyncio.run(main(what, sys.argv[2]))
