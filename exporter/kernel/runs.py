"""The regular expression by which ``inetdiag`` splits a large reply into its messages, at C speed. Pure.

A module of its own, because the plugin does without ``re`` where the replies are small.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from functools import lru_cache


@lru_cache(maxsize=64)
def pattern(starts: Sequence[bytes]) -> re.Pattern[bytes]:
    """A group for each of *starts*: whole messages, one after another, that start so and have the length it states."""
    length = {start: int.from_bytes(start[:4], sys.byteorder) for start in starts}
    run = (
        b"(?s:((?:%b.{%d})+" + (b"+" if sys.version_info >= (3, 11) else b"") + b"))"
    )  # older ones cannot say: keep it
    return re.compile(b"|".join(run % (re.escape(it), length[it] - len(it)) for it in starts))
