"""The floor: what the kernel alone needs to walk its table of sockets, and to hand all of them over.

Nothing of the exporter is used here, so that no change of it moves what it is measured against. All requests are the
legacy TCPDIAG_GETSOCK, one dump of both families, as include/uapi/linux/inet_diag.h has it.
"""

from __future__ import annotations

import socket
import struct
from functools import partial

from benchmarks.meter import in_thread
from benchmarks.rounds import Contender

_NETLINK_SOCK_DIAG = 4
_REQUEST = struct.Struct("=IHHII4x2s2s32x3I2I")  # nlmsghdr and inet_diag_req
_GETSOCK, _DUMP = 18, 0x301
_ANY_COOKIE = 0xFFFFFFFF
_DONE = b"\x14\x00\x00\x00\x03\x00"  # of the last 20 bytes: a message of 20 bytes, NLMSG_DONE
NO_STATE = 1 << 7  # CLOSE: no socket of the table is in it
EVERY_STATE = 0xFFE
COPIED_STATES = EVERY_STATE & ~(1 << 1 | 1 << 6)  # without ESTABLISHED and TIME_WAIT
_BUFFER = bytearray(65536)


def dump(states: int) -> None:
    """Have the sockets in the mask of *states* dumped, and throw away what comes."""
    request = _REQUEST.pack(
        _REQUEST.size, _GETSOCK, _DUMP, 1, 0, bytes(2), bytes(2), 0, _ANY_COOKIE, _ANY_COOKIE, states, 0
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(60.0)
        netlink.sendto(request, (0, 0))
        while True:
            size = netlink.recv_into(_BUFFER)
            if _BUFFER[size - 20 : size - 14] == _DONE:
                return


def contenders() -> list[Contender]:
    """The bare walk, the dump of what the counting pass has copied, and the full dump."""
    masks = {"walk": NO_STATE, "copied_dump": COPIED_STATES, "full_dump": EVERY_STATE}
    return [Contender.single(name, partial(in_thread, partial(dump, states))) for name, states in masks.items()]
