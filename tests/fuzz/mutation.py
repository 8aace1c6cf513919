"""Inputs near those that are known: the same ones for the same seed, so that a test is the same test tomorrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

_WORDS = (
    b"\0", b"\n", b"\r\n", b"\r\n\r\n", b"\xff", b"\xfe\xff", b" ", b"\t", b"|", b"'", b'"', b"\\", b"%", b"~", b"@",
    b":", b";", b"-", b"=", b",", b"#", b"{", b"}", b"[", b"]", b"<script>", b"\x1b[2J", "\u202e\u2028".encode(),
    b"\xed\xa0\x80", b"null", b"true", b"-1", b"0", b"1e400", b"NaN", b"Infinity", b"4294967295",
    b"18446744073709551616", b"9" * 5000, b"[" * 900, b"a" * 5000, b"\0\0\0\0", b"\xff\xff\xff\xff", b"HTTP/1.1",
    b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"Upgrade: h2c\r\n",
)  # fmt: skip


def mutants(seeds: Sequence[bytes], random: Random) -> Iterator[bytes]:
    """Without end: one of *seeds*, changed in one to four places."""
    while True:
        data = random.choice(seeds)
        for _ in range(random.randint(1, 4)):
            data = random.choice(_CHANGES)(data, seeds, random)
        yield data


def _flipped(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _written(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    at, word = random.randint(0, len(data)), random.choice(_WORDS)
    return data[:at] + word + data[at + random.choice((0, len(word))) :]


def _random(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    at, word = random.randint(0, len(data)), random.randbytes(random.randint(1, 8))
    return data[:at] + word + data[at + len(word) :]


def _cut(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    start, end = _span(data, random)
    return data[:start] + data[end:]


def _repeated(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    start, end = _span(data, random)
    times = min(random.choice((2, 3, 50)), 1 + 20_000 // (end - start or 1))
    return data[:start] + data[start:end] * times + data[end:]


def _spliced(data: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    other = random.choice(seeds)
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


def _moved(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    start, end = _span(data, random)
    rest, at = data[:start] + data[end:], random.randint(0, len(data) - (end - start))
    return rest[:at] + data[start:end] + rest[at:]


def _span(data: bytes, random: Random) -> tuple[int, int]:
    start, end = sorted((random.randint(0, len(data)), random.randint(0, len(data))))
    return start, end


_CHANGES: tuple[Callable[[bytes, Sequence[bytes], Random], bytes], ...] = (
    _flipped, _written, _written, _random, _cut, _repeated, _spliced, _moved,
)  # fmt: skip
