"""The reader of netlink against the kernel: what goes wrong on this side of the socket."""

from __future__ import annotations

import pytest

from exporter.errors import SourceUnreadable
from exporter.kernel.inetdiag import ALL_STATES
from exporter.kernel.reader import NetlinkReader


class Hungry:
    """A collector that finds no memory for what it is given."""

    def add(self, reply: bytes) -> bool:
        raise MemoryError


def test_a_want_of_memory_is_a_failed_source_so_that_another_reader_can_count() -> None:
    with pytest.raises(SourceUnreadable, match=r"^netlink: there is no memory left for the dump$"):
        NetlinkReader().collect(ALL_STATES, Hungry)
