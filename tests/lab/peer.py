"""The scripted other side: it says the segments it is given and waits for the answers it is told to expect.

It keeps no connections and answers nothing by itself, so a state it leaves a socket in is a state the socket stays in.
What gets lost (a full queue on a busy machine) is said again until the deadline.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping

from tests.lab.link import LAB_MAC, PEER_INTERFACE
from tests.lab.namespace import LabError
from tests.lab.packets import ETHERTYPES, Endpoint, Segment, decode, encode

PATIENCE_SECONDS = 60.0
"""How long the kernel may take for any one step before the lab gives up."""

_SAY_AGAIN_SECONDS = 0.4
_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_LOST = (errno.ENOBUFS, errno.EAGAIN)


class Peer:
    """Every host but the lab's own, on the far end of the wire."""

    def __init__(self) -> None:
        # Protocol 0 until it is bound: no packet of another interface gets in.
        self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self._wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._wire.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self._wire.bind((PEER_INTERFACE, _ETH_P_ALL))
        self._wire.setblocking(False)
        self._ears = select.poll()  # select() knows no descriptors above 1023
        self._ears.register(self._wire, select.POLLIN)

    def close(self) -> None:
        """Leave the wire."""
        self._wire.close()

    def say(self, segment: Segment) -> None:
        """Send one segment to the lab's sockets."""
        try:
            self._wire.sendto(encode(segment), (PEER_INTERFACE, ETHERTYPES[segment.family], 0, 0, LAB_MAC))
        except OSError as error:
            if error.errno not in _LOST:
                raise

    def converse(
        self,
        lines: Mapping[Endpoint, Segment | None],
        is_answer: Callable[[Segment], bool],
        awaited: str,
        say_again_after: float = _SAY_AGAIN_SECONDS,
    ) -> dict[Endpoint, Segment]:
        """Say each endpoint's line, if it has one, and return the first fitting answer that each one got."""
        answers: dict[Endpoint, Segment] = {}
        silent = dict(lines)
        deadline = time.monotonic() + PATIENCE_SECONDS
        self._forget_what_was_heard()
        while silent:
            if time.monotonic() > deadline:
                raise LabError(f"expected {awaited} on {len(lines)} connections, saw it on {len(answers)}")
            for line in silent.values():
                if line is not None:
                    self.say(line)
            for segment in self._hear(say_again_after):
                if segment.destination in silent and is_answer(segment):
                    answers[segment.destination] = segment
                    del silent[segment.destination]
                    if not silent:
                        break
        return answers

    def _hear(self, seconds: float) -> Iterator[Segment]:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not self._ears.poll(left * 1000):
                return
            segment = decode(self._wire.recv(2048))
            if segment is not None:
                yield segment

    def _forget_what_was_heard(self) -> None:
        # Sockets that wait for the peer in vain repeat themselves, and could fill the queue between two populations.
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            try:
                self._wire.recv(1)
            except BlockingIOError:
                return
