"""Which system this is. Everything works on Linux; elsewhere psutil counts the sockets, and little else is known.

The only module that asks; others branch on these values. The plugin imports it, so it is light. A rim module.
"""

from __future__ import annotations

import os
import sys

from exporter.record import TYPE_CHECKING
from exporter.tcpstate import TcpState

if TYPE_CHECKING:
    from collections.abc import Collection

LINUX = sys.platform == "linux"
WINDOWS = sys.platform == "win32"
MACOS = sys.platform == "darwin"

NAME = {"linux": "Linux", "win32": "Windows", "darwin": "macOS"}.get(sys.platform, sys.platform)
"""What people call it."""

OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""For os.open of a file that is read, not inherited, and byte for byte what is on the disk."""

NONBLOCKING = getattr(os, "O_NONBLOCK", 0)
"""With OPEN_FLAGS, so that a pipe is opened at once; 0 where no path names a pipe."""

UNLISTED: Collection[TcpState] = (
    (
        TcpState.SYN_RECV,
        TcpState.FIN_WAIT1,
        TcpState.FIN_WAIT2,
        TcpState.TIME_WAIT,
        TcpState.LAST_ACK,
        TcpState.CLOSING,
    )
    if MACOS
    else ()
)
"""The states that psutil cannot count here. On macOS it goes through the descriptors of processes (psutil/_psosx.py,
net_connections), and before accept(2) and after close(2) a socket has none.
"""


_DYNAMIC_USERS = range(61184, 65520)
"""The user ids that systemd gives to services with DynamicUser= (its documents: "Users, Groups, UIDs and GIDs")."""


def release() -> str:
    """The kernel's release, as ``6.18.44``; "" where the kernel is not Linux."""
    return os.uname().release if LINUX else ""


def is_dynamic_user() -> bool:
    """Whether this process is a service with DynamicUser=: no file on the disk belongs to its user."""
    return LINUX and os.geteuid() in _DYNAMIC_USERS


def page_size() -> int:
    """Bytes of a page, in which Linux counts TCP's memory."""
    if LINUX:
        return os.sysconf("SC_PAGE_SIZE")
    import mmap  # noqa: PLC0415 - the plugin does without where sysconf has it

    return mmap.PAGESIZE
