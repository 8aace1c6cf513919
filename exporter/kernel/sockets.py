"""What one dump says of each socket beside its state: local port, peer, inode and cgroup, read in columns.

``inetdiag`` cuts the replies into blocks, ``owners`` counts by one of these while ``reader`` takes the dump. Pure;
no more is kept than a number for each distinct value.
"""

from __future__ import annotations

import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from itertools import chain
from typing import Generic, TypeVar

from exporter.kernel.inetdiag import AF_INET, BARE, MAPPED, Block, Dump, packed

K = TypeVar("K")

Peer = tuple[int, bytes]
"""A family and the sixteen bytes of the address, of which IPv4 uses the first four."""

ATTRIBUTE_CGROUP_ID = 21  # INET_DIAG_CGROUP_ID: of full sockets
CGROUP_ID_SINCE = "5.8"
"""The Linux release that brought the cgroup id of a socket ("inet_diag: Add cgroup id attribute")."""

NO_PEER = "no peer"

_PORT, _INODE = "!20xH", "=84xI"  # where they are, from the netlink header
_PEER = "=16xB23x16s"
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_CGROUP_HEADER = _ATTRIBUTE.pack(12, ATTRIBUTE_CGROUP_ID)


class Counting(Dump, Generic[K]):
    """Collects how many sockets of a dump have each value of a column."""

    def __init__(self, column: Callable[[Block], Iterable[K]]) -> None:
        super().__init__()
        self.sockets: Counter[K] = Counter()
        self._column = column

    def take(self, block: Block) -> None:
        """Count the values of a block."""
        self.sockets.update(self._column(block))


def ports(block: Block) -> Iterable[int]:
    """The local port of every socket."""
    return chain.from_iterable(_layout(_PORT, block.length).iter_unpack(block.data))


def peers(block: Block) -> Iterable[Peer]:
    """The remote address of every socket."""
    return _layout(_PEER, block.length).iter_unpack(block.data)


def inodes(block: Block) -> Iterable[int]:
    """The inode of every socket; 0 where no descriptor was ever made for it or none is left."""
    return chain.from_iterable(_layout(_INODE, block.length).iter_unpack(block.data))


def cgroup_columns(block: Block) -> list[bytes]:
    """The cgroup v2 id of every socket as eight columns, the lowest byte first; 0 where the kernel does not say."""
    headers = attributes(block.data[: block.length])
    offset = next((offset for offset, header in headers.items() if header == _CGROUP_HEADER), 0)
    for start, header in ({offset: _CGROUP_HEADER} if offset else headers).items():
        if any(block.column(start + i).count(byte) != block.number for i, byte in enumerate(header)):
            ids = b"".join(_cgroup_id(message).to_bytes(8, "little") for message in block.messages())
            return [ids[i::8] for i in range(8)]
    if not offset:
        return [bytes(block.number)] * 8
    columns = [block.column(offset + 4 + i) for i in range(8)]
    return columns if sys.byteorder == "little" else columns[::-1]


def cgroup_ids(block: Block) -> Iterable[int]:
    """The cgroup v2 id of every socket; 0 where the kernel does not say."""
    return packed(*cgroup_columns(block))


def address(peer: Peer) -> str:
    """The text of a remote address; that of an IPv4 peer of an IPv6 socket is IPv4's. A listener has none.

    >>> address((10, bytes(10) + bytes([255, 255, 192, 0, 2, 1]))), address((10, bytes(15) + bytes([1])))
    ('192.0.2.1', '::1')
    """
    family, packed = peer
    return address_text(family, packed) if any(packed) else NO_PEER


@lru_cache(maxsize=4096)
def address_text(family: int, packed: bytes) -> str:
    """An address as people write it, one of IPv4 that is mapped into IPv6 as what it is.

    >>> address_text(2, bytes([192, 0, 2, 1]) + bytes(12)), address_text(10, bytes(16))
    ('192.0.2.1', '::')
    """
    if family == AF_INET:
        return str(IPv4Address(packed[:4]))
    return str(IPv4Address(packed[12:]) if packed.startswith(MAPPED) else IPv6Address(packed))


def _cgroup_id(message: bytes) -> int:
    for offset, header in attributes(message).items():
        if header == _CGROUP_HEADER:
            return int.from_bytes(message[offset + 4 : offset + 12], sys.byteorder)
    return 0


def attributes(message: bytes) -> dict[int, bytes]:
    """The header, length and type, of each attribute by its offset; what is cut or makes no sense ends them."""
    headers = {}
    offset = BARE
    while offset + _ATTRIBUTE.size <= len(message):
        length, _ = _ATTRIBUTE.unpack_from(message, offset)
        if length < _ATTRIBUTE.size or offset + length > len(message):
            break
        headers[offset] = message[offset : offset + _ATTRIBUTE.size]
        offset += (length + 3) & ~3
    return headers


@lru_cache(maxsize=64)
def _layout(fields: str, length: int) -> struct.Struct:
    """*fields* at the front of a message of *length* bytes."""
    return struct.Struct(f"{fields}{length - struct.calcsize(fields)}x")
