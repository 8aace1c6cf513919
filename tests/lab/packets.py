"""TCP segments as values, to and from the bytes of IPv4 and IPv6 packets.

Only what a scripted peer needs: no options, no data, and no fragments, because nothing in the lab sends any.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
ETHERTYPES = {socket.AF_INET: 0x0800, socket.AF_INET6: 0x86DD}

_VERSION_4, _VERSION_6 = 4, 6


class Endpoint(NamedTuple):
    """An address, packed, and a port."""

    address: bytes
    port: int


class Segment(NamedTuple):
    """A TCP segment without options and data."""

    source: Endpoint
    destination: Endpoint
    flags: int
    sequence: int
    acknowledgement: int = 0

    @property
    def family(self) -> socket.AddressFamily:
        """The family of both addresses."""
        return socket.AF_INET if len(self.source.address) == 4 else socket.AF_INET6


def encode(segment: Segment) -> bytes:
    """The IP packet that carries the segment, checksums included."""
    source, destination = segment.source, segment.destination
    tcp = struct.pack(
        "!HHIIBBHHH",
        source.port,
        destination.port,
        segment.sequence,
        segment.acknowledgement,
        5 << 4,
        segment.flags,
        65535,
        0,
        0,
    )
    pseudo_header = source.address + destination.address + struct.pack("!HH", socket.IPPROTO_TCP, len(tcp))
    tcp = tcp[:16] + _checksum(pseudo_header + tcp) + tcp[18:]
    if segment.family == socket.AF_INET6:
        ip = struct.pack("!IHBB", _VERSION_6 << 28, len(tcp), socket.IPPROTO_TCP, 64)
        return ip + source.address + destination.address + tcp
    ip = struct.pack("!BBHHHBBH", _VERSION_4 << 4 | 5, 0, 20 + len(tcp), 0, 0, 64, socket.IPPROTO_TCP, 0)
    ip += source.address + destination.address
    return ip[:10] + _checksum(ip) + ip[12:] + tcp


def decode(packet: bytes) -> Segment | None:
    """The segment in an IP packet; nothing if it carries no TCP."""
    version = packet[0] >> 4 if packet else 0
    if version == _VERSION_4 and packet[9] == socket.IPPROTO_TCP:
        source, destination, start = packet[12:16], packet[16:20], (packet[0] & 15) * 4
    elif version == _VERSION_6 and packet[6] == socket.IPPROTO_TCP:
        source, destination, start = packet[8:24], packet[24:40], 40
    else:
        return None
    source_port, destination_port, sequence, acknowledgement, flags = struct.unpack_from("!HHIIxB", packet, start)
    return Segment(
        Endpoint(source, source_port), Endpoint(destination, destination_port), flags, sequence, acknowledgement
    )


def _checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)
