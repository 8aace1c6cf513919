"""A flood of new connections that never ask for anything: so many a second, from one address or from many.

``python -m tests.soak.flood PORT RATE FROM`` runs until SIGTERM, then prints one line of JSON. FROM is a key of
``SOURCES``; ``begun`` after it also sends the first byte of a TLS handshake.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

_TICK_SECONDS = 0.01
_MOST = 600  # open at a time; the server has 100 of them
_BEGIN = 500  # connections until the server is full of them
_IPV6_FREEBIND = 78  # include/uapi/linux/in6.h
_PREFIX = "fd00:bad"
_chance = random.Random(1)


def _bits(number: int) -> int:
    return _chance.getrandbits(number)


SOURCES: Mapping[str, Callable[[], str]] = {
    "one address": lambda: "127.0.0.66",
    "many addresses": lambda: f"127.{1 + _bits(6)}.{_bits(8)}.{1 + _bits(7)}",
    "a /64 of IPv6": lambda: f"{_PREFIX}::{_bits(16):x}:{_bits(16):x}:{_bits(16):x}:{_bits(16):x}",
}
"""An address of this host's loopback to connect from."""


def _opened(port: int, source: str) -> socket.socket:
    is_6 = ":" in source
    made = socket.socket(socket.AF_INET6 if is_6 else socket.AF_INET)
    made.setblocking(False)
    if is_6:
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    made.bind((source, 0))
    error = made.connect_ex(("::1" if is_6 else "127.0.0.1", port))
    if error not in {0, errno.EINPROGRESS}:
        raise OSError(error, os.strerror(error))
    return made


def run(port: int, rate: float, source: Callable[[], str], first: bytes) -> dict[str, float]:
    """Flood until SIGTERM; how many connections were begun, and how many a second that was.

    Where the server cannot keep up, because others use the processor, the flood waits: a queue that is full would keep
    everybody out whom the server would let in.
    """
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    held: dict[int, socket.socket] = {}
    ready = select.epoll()
    began, made = time.monotonic(), 0
    while not ended:
        for descriptor, _ in ready.poll(_TICK_SECONDS):
            held.pop(descriptor).close()
        while not ended and made < (time.monotonic() - began) * rate and len(held) < _MOST:
            opened = _opened(port, source())
            with contextlib.suppress(OSError):  # it has ended
                opened.send(first)
            held[opened.fileno()] = opened
            ready.register(opened, select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR)
            made += 1
            if made == _BEGIN:
                print("flooding", flush=True)
    return {"connections": made, "per_second": made / (time.monotonic() - began)}


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    subprocess.run(["ip", "-6", "route", "replace", "local", f"{_PREFIX}::/64", "dev", "lo"], check=True)
    begun = b"\x16" if sys.argv[4:] == ["begun"] else b""
    print(json.dumps(run(int(sys.argv[1]), float(sys.argv[2]), SOURCES[sys.argv[3]], begun)))
