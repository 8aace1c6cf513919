"""The lab's wire: a veth pair set up by rtnetlink, so that iproute2 need not be installed.

One end, ``lab0``, has the addresses; the other, ``peer0``, has none and is only written and read as packets. Both ends
are in the one namespace and no other interface but ``lo`` is up, so that nothing can leave it.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

from tests.lab.namespace import LabUnavailable

LAB_INTERFACE = "lab0"
PEER_INTERFACE = "peer0"
LAB_MAC = bytes.fromhex("020000000001")  # the first octet says: locally administered

_RTM_NEWLINK, _RTM_NEWADDR = 16, 20
_REQUEST_AND_ACK, _CREATE, _EXCLUSIVE = 0x5, 0x400, 0x200
_IFF_UP, _IFF_NOARP = 0x1, 0x80
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINKINFO = 1, 3, 18
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_F_NODAD = 1, 2, 2


class Address(NamedTuple):
    """The addresses of one family on the wire, all of a range reserved for documentation."""

    lab: str
    peers: tuple[str, ...]
    prefix_length: int


ADDRESSES = {
    socket.AF_INET: Address("192.0.2.1", tuple(f"192.0.2.{n}" for n in range(2, 128)), 24),
    socket.AF_INET6: Address("2001:db8::1", tuple(f"2001:db8::1:{n:x}" for n in range(2, 128)), 64),
}


def wire_up() -> None:
    """Create the pair and bring both ends up."""
    # Without ARP the kernel resolves no neighbours and does not wait for duplicate address detection. It addresses each
    # frame to lab0's own hardware address, so peer0 takes it for somebody else's and no second stack looks at it.
    up = _IFF_UP | _IFF_NOARP
    peer = _interface(0) + _attribute(_IFLA_IFNAME, PEER_INTERFACE.encode() + b"\0")
    kind = _attribute(_IFLA_INFO_KIND, b"veth\0")
    info = kind + _attribute(_IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER, peer))
    veth = _interface(up) + _attribute(_IFLA_IFNAME, LAB_INTERFACE.encode() + b"\0")
    veth += _attribute(_IFLA_ADDRESS, LAB_MAC) + _attribute(_IFLA_LINKINFO, info)
    _ask(_RTM_NEWLINK, _CREATE | _EXCLUSIVE, veth, "a veth pair")
    # The far end follows: it is refused while the near end does not exist yet.
    _ask(_RTM_NEWLINK, 0, _interface(up, socket.if_nametoindex(PEER_INTERFACE)), "a far end of the veth pair")


def address_up(family: socket.AddressFamily) -> None:
    """Give ``lab0`` its address of the family, and with it the route to the peers."""
    address = ADDRESSES[family]
    packed = socket.inet_pton(family, address.lab)
    index = socket.if_nametoindex(LAB_INTERFACE)
    body = struct.pack("=BBBBI", family, address.prefix_length, _IFA_F_NODAD, 0, index)
    body += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
    _ask(_RTM_NEWADDR, _CREATE | _EXCLUSIVE, body, f"the address {address.lab}")


def _interface(flags: int, index: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, flags)


def _attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def _ask(kind: int, flags: int, body: bytes, for_what: str) -> None:
    header = struct.pack("=IHHII", 16 + len(body), kind, _REQUEST_AND_ACK | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(header + body)
        (negative_errno,) = struct.unpack_from("=i", netlink.recv(4096), 16)
    if negative_errno:
        raise LabUnavailable(f"the kernel refuses the lab {for_what}: {os.strerror(-negative_errno)}")
