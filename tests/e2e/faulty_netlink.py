"""A kernel whose netlink fails when a test says so, and works again: real system calls with real errors.

A seccomp filter hands the program's netlink calls to the test (SECCOMP_RET_USER_NOTIF, seccomp_unotify(2)), which lets
each of them go on, ends it with an error, or leaves it waiting. ``Netlink`` is the test's end; a program is started by
``python faulty_netlink.py SOCKET COMMAND ARGUMENT...``, which hands the filter's descriptor over and becomes it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER, NEW_LISTENER = 1, 1 << 3
NOTIFICATION, ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")  # seccomp_notif, seccomp_notif_resp
RECEIVE, SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND
GO_ON = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ASK = 0x7FFF0000, 0x7FC00000
NUMBERS = {"x86_64": (41, 44, 47, 317), "aarch64": (198, 206, 212, 277)}
IS_KNOWN = platform.machine() in NUMBERS  # whether the numbers of system calls here are
SOCKET, SENDTO, RECVMSG, SECCOMP = NUMBERS.get(platform.machine(), (0, 0, 0, 0))

FILTER = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (LOAD, 0, 0, 0),  # the system call
        (JUMP_IF_EQUAL, 7, 0, RECVMSG),  # nothing else in the program receives so
        (JUMP_IF_EQUAL, 3, 0, SENDTO),
        (JUMP_IF_EQUAL, 0, 4, SOCKET),
        (LOAD, 0, 0, 16),  # socket's first argument
        (JUMP_IF_EQUAL, 3, 2, socket.AF_NETLINK),
        (LOAD, 0, 0, 48),  # sendto's fifth: an address, which nothing else in the program gives
        (JUMP_IF_EQUAL, 0, 1, 0),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, ASK),
    )
)


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


class Netlink:
    """What the kernel answers to one program's netlink, to be changed while it runs; it begins by working."""

    def __init__(self, folder: Path) -> None:
        self.refused = 0  # an errno for socket(2)
        self.silent = False  # requests are lost
        self.fails_after: tuple[int, int] | None = None  # replies of a dump that still come, and the errno after them
        self._goes_on = threading.Event()  # clear: what is asked for waits
        self._goes_on.set()
        self._replies = 0
        self._path = str(folder / "netlink")
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(self._path)
        self._door.listen()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._goes_on.set()
        self._thread.join()
        self._door.close()

    def command(self, command: Sequence[str]) -> list[str]:
        """The command line of the program under this kernel."""
        return [sys.executable, __file__, self._path, *command]

    def hang(self) -> None:
        """From now on every call of netlink waits."""
        self._goes_on.clear()

    def go_on(self) -> None:
        """What waits goes on, and netlink works again."""
        self.refused, self.silent, self.fails_after = 0, False, None
        self._goes_on.set()

    def _serve(self) -> None:
        while not self._closed.is_set():
            if not select.select([self._door], [], [], 0.1)[0]:
                continue
            connection, _ = self._door.accept()
            with connection:
                _, (listener, *_), _, _ = socket.recv_fds(connection, 1, 1)
            try:
                self._answer_all(listener)
            finally:
                os.close(listener)

    def _answer_all(self, listener: int) -> None:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        while not self._closed.is_set():
            for _, event in poll.poll(100):
                if event & select.POLLHUP:
                    return  # the program has ended
                request = bytearray(NOTIFICATION.size)
                try:
                    fcntl.ioctl(listener, RECEIVE, request)
                    identity, _, _, number, *_, length, _, _, _ = NOTIFICATION.unpack(request)
                    self._goes_on.wait()
                    fcntl.ioctl(listener, SEND, self._answer(identity, number, length))
                except OSError as error:
                    if error.errno != errno.ENOENT:  # the thread that asked has ended meanwhile
                        raise

    def _answer(self, identity: int, number: int, length: int) -> bytes:
        if number == SOCKET:
            self._replies = 0
            if self.refused:
                return ANSWER.pack(identity, 0, -self.refused, 0)
        elif number == SENDTO and self.silent:
            return ANSWER.pack(identity, length, 0, 0)
        elif number == RECVMSG and self.fails_after is not None:
            self._replies += 1
            if self._replies > self.fails_after[0]:
                return ANSWER.pack(identity, 0, -self.fails_after[1], 0)
        return ANSWER.pack(identity, 0, 0, GO_ON)


def main() -> None:
    """Install the filter, hand it over and become the program."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = ctypes.byref(Program(len(FILTER) // 8, FILTER))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            sys.exit("no seccomp")
        listener = libc.syscall(SECCOMP, SECCOMP_SET_MODE_FILTER, NEW_LISTENER, program)
        if listener < 0:
            sys.exit(f"no seccomp: {os.strerror(ctypes.get_errno())}")
        socket.send_fds(connection, [b"!"], [listener])
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
