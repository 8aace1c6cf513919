"""Reads small files that an operator named: bounded, and without blocking on a pipe. A rim module.

Configurations, certificates and credentials are all read here, so their errors use the same words.
"""

from __future__ import annotations

import errno
import os
import stat

from exporter import system

_HINT = (
    "the service runs as a user of its own (DynamicUser=): let all read the file (chmod o+r), or a group that "
    "SupplementaryGroups= gives the service; /home and /root are hidden from it"
)


def content(path: str, limit: int) -> bytes:
    """The first *limit* bytes of the regular file at *path*; OSError, whose strerror is the reason and may have a hint.

    The file is opened without blocking, so that a pipe in its place is rejected at once.
    """
    try:
        descriptor = os.open(path, system.OPEN_FLAGS | system.NONBLOCKING)
    except PermissionError as error:
        if not system.is_dynamic_user():
            raise
        raise PermissionError(error.errno, f"{error.strerror}: {_HINT}") from None
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(kind):
            raise OSError(errno.EINVAL, "it is not a regular file")
        pieces = []
        while limit > 0 and (piece := os.read(descriptor, limit)):
            pieces.append(piece)
            limit -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)
