"""The one cache of the endpoints: an answer is rendered once for all who ask while it stays the same.

What a request costs is then bounded by how often something changes, whatever number of clients asks. Pure.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable

_GZIP_LEVEL = 1  # a tenth of the time of level 9 for a few kilobytes more


class RenderedOnce:
    """Keeps the bytes of one answer, plain and gzip, until its key changes.

    A key that consists of what the answer is made of also keeps that alive. Immutable values compare fast: two samples
    differ in the time at which they were taken, which is compared first.
    """

    def __init__(self) -> None:
        self._key: object = object()  # equal to no other
        self._bodies: dict[bool, bytes] = {}

    def body(self, key: object, render: Callable[[], bytes], *, compressed: bool) -> bytes:
        """The bytes for *key*: the same object to everyone who asks, made by *render* where they are not there yet."""
        if key != self._key:
            self._key, self._bodies = key, {}
        if compressed not in self._bodies:
            if compressed:
                plain = self.body(key, render, compressed=False)
                self._bodies[True] = gzip.compress(plain, _GZIP_LEVEL, mtime=0)
            else:
                self._bodies[False] = render()
        return self._bodies[compressed]
