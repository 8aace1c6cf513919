"""The unix socket that the server listens on: its file, its mode and its owner. A rim module."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from functools import partial

_MODE = 0o660  # the daemon's user and group; a proxy's group is for the unit to give


def bind(path: str) -> tuple[socket.socket, Callable[[], None]]:
    """A socket bound to *path*, replacing one that no process listens on, and a function that removes its file.

    OSError where another process listens there, or the path is something else than a socket.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise OSError(errno.EAFNOSUPPORT, "this system has no unix sockets")
    _clear(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(path)
        os.chmod(path, _MODE)  # whatever the umask; before listen(2) no client can connect
        status = os.lstat(path)
    except BaseException:
        bound.close()
        raise
    return bound, partial(_remove, path, (status.st_dev, status.st_ino))


def _clear(path: str) -> None:
    """Remove the file that a process left behind."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "something is there that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)  # EAGAIN: a socket whose queue is full is in use as well
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except BlockingIOError:
            raise OSError(errno.EADDRINUSE, "another process listens there") from None
        else:
            raise OSError(errno.EADDRINUSE, "another process listens there")


def _remove(path: str, identity: tuple[int, int]) -> None:
    """Remove the file if it is still the one that was made here."""
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        if (status.st_dev, status.st_ino) == identity:
            os.unlink(path)
