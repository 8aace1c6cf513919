"""A long path: a relay that delays every packet between the lab's namespace and a far one, where a sink reads all.

Run as a script in the lab's namespace, as root: kernels without netem have TUN. It makes a device there and one in a
namespace of its own, writes a line once the sink listens, and ends with its standard input. Arguments: seconds of delay
each way, the path's bytes a second, and the far host's tcp_rmem or nothing.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time

NEAR, FAR, PORT = "198.18.0.1", "198.18.0.2", 5001

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x1, 0x1000
_QUEUED = 400_000  # bytes that wait for the path before it drops, as a router does
_MTU = 9000


def _device(address: str) -> int:
    """A TUN device of the namespace that this thread is in."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", b"path0", _IFF_TUN | _IFF_NO_PI))
    for command in (
        f"ip address add {address}/30 dev path0",
        f"ip link set path0 mtu {_MTU} txqueuelen 10000",
        "ip link set path0 up",
    ):
        subprocess.run(command.split(), check=True)
    return tun


def _sink(server: socket.socket) -> None:
    def read(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while connection.recv(1 << 20):
                pass

    while True:
        threading.Thread(target=read, args=(server.accept()[0],), daemon=True).start()


class _Way:
    """The packets under way in one direction."""

    def __init__(self, source: int, target: int, delay: float, rate: float) -> None:
        self.source, self.target, self.delay, self.rate = source, target, delay, rate
        self.packets: collections.deque[tuple[float, bytes]] = collections.deque()
        self.free_at = 0.0  # when the path has carried what was sent so far

    def take(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, now = os.read(self.source, 65536), time.monotonic()
                if (self.free_at - now) * self.rate < _QUEUED:
                    self.free_at = max(self.free_at, now) + len(packet) / self.rate
                    self.packets.append((self.free_at + self.delay, packet))

    def give(self) -> None:
        while self.packets and self.packets[0][0] <= time.monotonic():
            with contextlib.suppress(OSError):  # a queue that is full loses packets
                os.write(self.target, self.packets.popleft()[1])


def main(delay: str, rate: str, rmem: str = "") -> None:
    """Relay until standard input ends."""
    near = _device(NEAR)
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        sys.exit(os.strerror(ctypes.get_errno()))
    if rmem:
        with open("/proc/sys/net/ipv4/tcp_rmem", "w", encoding="ascii") as file:
            file.write(rmem)
    far = _device(FAR)
    threading.Thread(target=_sink, args=(socket.create_server((FAR, PORT)),), daemon=True).start()
    print("ready", flush=True)
    ways = [_Way(near, far, float(delay), float(rate)), _Way(far, near, float(delay), float(rate))]
    while True:
        due = min((way.packets[0][0] for way in ways if way.packets), default=time.monotonic() + 1)
        readable, _, _ = select.select([near, far, 0], [], [], max(0.0, due - time.monotonic()))
        if 0 in readable:
            return
        for way in ways:
            way.give()
            if way.source in readable:
                way.take()


if __name__ == "__main__":
    main(*sys.argv[1:])
