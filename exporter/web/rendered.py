"""The caches of the endpoints: an answer is rendered once for all who ask while it stays the same.

What a request costs is then bounded by how often something changes, whatever number of clients asks. An answer that has
its own age in it is rendered and compressed around the age, which is put in each second. Pure.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from functools import cached_property

_GZIP_LEVEL = 1  # a tenth of the time of level 9 for a few kilobytes more
_GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # RFC 1952: deflate, no time, no system


def _gzip(plain: bytes) -> bytes:
    return gzip.compress(plain, _GZIP_LEVEL, mtime=0)


class RenderedOnce:
    """Keeps the bytes of one answer, plain and gzip, until its key changes.

    A key that consists of what the answer is made of also keeps that alive. Immutable values compare fast: two samples
    differ in the time at which they were taken, which is compared first.
    """

    def __init__(self) -> None:
        self._key: object = object()  # equal to no other
        self._bodies: dict[bool, bytes] = {}

    def body(
        self,
        key: object,
        render: Callable[[], bytes],
        *,
        compressed: bool,
        compress: Callable[[bytes], bytes] = _gzip,
    ) -> bytes:
        """The bytes for *key*: the same object to everyone who asks, made by *render* where they are not there yet."""
        if key != self._key:
            self._key, self._bodies = key, {}
        if compressed not in self._bodies:
            if compressed:
                self._bodies[True] = compress(self.body(key, render, compressed=False))
            else:
                self._bodies[False] = render()
        return self._bodies[compressed]


class Around:
    """An answer without a few bytes in its middle, which change more often than the rest."""

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after

    def plain(self, middle: bytes) -> bytes:
        """The answer with its middle, which is shorter than 64 KiB."""
        return b"".join((self._before, middle, self._after))

    def gzip(self, plain: bytes) -> bytes:
        """As ``plain`` made it, compressed but for the middle: the ends are compressed once.

        Each end is a run of deflate blocks that looks back at nothing before it, the middle is a stored block. Source:
        RFC 1951, 3.2.4; RFC 1952, 2.3.
        """
        middle = plain[len(self._before) : len(plain) - len(self._after)]
        before, after = self._packed
        length = len(middle).to_bytes(2, "little")
        complement = (len(middle) ^ 0xFFFF).to_bytes(2, "little")
        sums = (zlib.crc32(plain).to_bytes(4, "little"), (len(plain) & 0xFFFFFFFF).to_bytes(4, "little"))
        return b"".join((_GZIP_HEAD, before, b"\0", length, complement, middle, after, *sums))

    @cached_property
    def _packed(self) -> tuple[bytes, bytes]:
        first, last = (zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS) for _ in range(2))
        before = first.compress(self._before) + first.flush(zlib.Z_SYNC_FLUSH)  # ends on a byte
        return before, last.compress(self._after) + last.flush()


class RenderedAround:
    """Keeps an answer around its middle until its key changes, and the whole of it until its moment does."""

    def __init__(self) -> None:
        self._key: object = object()
        self._around = Around(b"", b"")
        self._whole = RenderedOnce()

    def body(
        self,
        key: object,
        render: Callable[[], Around],
        moment: object,
        middle: Callable[[], bytes],
        *,
        compressed: bool,
    ) -> bytes:
        """The bytes for *key* at *moment*: *render* is called once for each key, *middle* once for each moment."""
        if key != self._key:
            self._key, self._around = key, render()
        around = self._around
        return self._whole.body(
            (key, moment), lambda: around.plain(middle()), compressed=compressed, compress=around.gzip
        )
