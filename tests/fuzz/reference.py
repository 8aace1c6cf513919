"""Slow and obvious answers to compare the product's fast ones with: one message, one line, one range at a time."""

from __future__ import annotations

import math
import re
import struct
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

_KINDS = (18, 20)
_LISTEN, _SYN_RECV = 10, 3
_SHUTDOWN = 8  # the first attribute of every full socket
_NOT_SEEN = -1


class Broken(Exception):
    """The bytes are no dump, or end it."""


class Socket(NamedTuple):
    """What one message says."""

    family: int
    state: int
    timer: int
    tries: int
    port: int
    remote_port: int
    source: bytes
    destination: bytes
    device: int
    receive_queue: int
    send_queue: int
    inode: int
    first_attribute: int
    cgroup: int
    memory: int | None  # bytes of buffers; None where that is not told, or is nothing that can be
    structure: tuple[bytes, ...]  # what messages of one kind have in common: their start, and their attributes' headers


def sockets(reply: bytes) -> Iterator[Socket]:
    """The sockets of a reply that says of nothing else; ``Broken`` for any other."""
    at = 0
    while at < len(reply):
        if len(reply) - at < 16:
            raise Broken
        length, kind, flags = struct.unpack_from("=IHH", reply, at)
        if length < 88 or length % 4 or at + length > len(reply) or flags & 0x10 or kind not in _KINDS:
            raise Broken
        yield _socket(reply[at : at + length])
        at += length


def _socket(message: bytes) -> Socket:
    family, state, timer, tries = message[16:20]
    port, remote_port, source, destination = struct.unpack_from("!HH16s16s", message, 20)
    (device,) = struct.unpack_from("=I", message, 56)
    _, receive_queue, send_queue, _, inode = struct.unpack_from("=5I", message, 68)
    return Socket(
        family, state, timer, tries, port, remote_port, source, destination, device, receive_queue, send_queue, inode,
        struct.unpack_from("=H", message, 90)[0] & 0xFF if len(message) >= 92 else 0, *_attributes(message),
    )  # fmt: skip


def _attributes(message: bytes) -> tuple[int, int | None, tuple[bytes, ...]]:
    """The cgroup, the memory, and the structure."""
    cgroup, headers, at = 0, [message[:8]], 88
    memory: int | None = _NOT_SEEN
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if length < 4 or at + length > len(message):
            break
        headers.append(message[at : at + 4])
        if (length, kind) == (12, 21) and not cgroup:
            cgroup = struct.unpack_from("=Q", message, at + 4)[0]
        if kind == 7 and memory == _NOT_SEEN:
            memory = _memory(message[at + 4 : at + length])
        at += (length + 3) & ~3
    return cgroup, None if memory == _NOT_SEEN else memory, tuple(headers)


def _memory(words: bytes) -> int | None:
    if len(words) < 32:
        return None
    received, _, _, _, reserved, to_send, _, backlog = struct.unpack_from("=8i", words)
    total = received + reserved + to_send + backlog
    return None if min(received, to_send, backlog, total) < 0 else total


def is_regular(found: list[Socket]) -> bool:
    """Whether messages that start alike have the same attributes, as all that the kernel sends."""
    structures = {it.structure for it in found}
    return len(structures) == len({structure[0] for structure in structures})


Local = tuple[int, int, bytes, int]


def local(socket: Socket) -> Local:
    """Family, port, address and device of the local end; IPv4 within IPv6 is IPv4's."""
    mapped = bytes(10) + b"\xff\xff"
    if socket.family == 10 and socket.source.startswith(mapped):
        return 2, socket.port, socket.source[12:] + bytes(12), socket.device
    return socket.family, socket.port, socket.source, socket.device


def half_open(found: list[Socket]) -> Counter[Local]:
    """Half-open connections by their local end, but for full sockets."""
    return Counter(local(it) for it in found if it.state == _SYN_RECV and it.first_attribute != _SHUTDOWN)


def listening(found: list[Socket]) -> Counter[tuple[Local, int, int]]:
    """Listeners, with what waits and what may."""
    return Counter((local(it), it.receive_queue, it.send_queue) for it in found if it.state == _LISTEN)


_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_RANGE = re.compile(rf"(?P<at>@)?(?:(?P<start>~|{_NUMBER})?(?P<colon>:))?(?P<end>{_NUMBER})?", re.ASCII)


def limits(text: str) -> tuple[float, float, bool] | None:
    """Start, end and whether a Monitoring Plugins range alerts inside; None for a text that is none."""
    match = _RANGE.fullmatch(text.strip(" \t"))
    if not match or (match["end"] is None and not match["colon"]):
        return None
    start = 0.0 if match["start"] is None else -math.inf if match["start"] == "~" else float(match["start"])
    end = math.inf if match["end"] is None else float(match["end"])
    finite = (match["start"] in {None, "~"} or math.isfinite(start)) and (match["end"] is None or math.isfinite(end))
    return (start, end, bool(match["at"])) if finite and start <= end else None


_RESPONSE = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [A-Z][A-Za-z -]+\r\n((?:[A-Za-z-]+: [\x20-\x7e]*\r\n)+)\r\n")


def responses(received: bytes, *, heads: bool) -> list[int]:
    """The statuses of what a server said: whole responses, one after the other, and nothing between or behind.

    Only where *heads* may there be one without its body.
    """
    statuses = []
    while received:
        match = _RESPONSE.match(received)
        assert match, f"no response: {received[:200]!r}"
        headers = dict(line.split(b": ", 1) for line in match[2].lower().splitlines())
        assert headers[b"server"] == b"tcp-exporter"
        length, rest = int(headers[b"content-length"]), received[match.end() :]
        bodiless = heads and (not rest or rest.startswith(b"HTTP/1.1 "))
        assert bodiless or len(rest) >= length, f"{len(rest)} of {length} bytes: {received[:200]!r}"
        received = rest if bodiless else rest[length:]
        statuses.append(int(match[1]))
    return statuses


def memory(found: list[Socket]) -> tuple[Counter[int], Counter[int]] | None:
    """The memory of the full sockets by local port and by cgroup; None where one of them does not tell it."""
    full = [it for it in found if it.first_attribute == _SHUTDOWN]
    by_port: Counter[int] = Counter()
    by_cgroup: Counter[int] = Counter()
    for it in full:
        if it.memory is None:
            return None
        by_port[it.port] += it.memory
        by_cgroup[it.cgroup] += it.memory
    return by_port, by_cgroup
