"""Reads small files that an operator named: bounded, and without blocking on a pipe. A rim module.

Configurations, certificates and credentials are all read here, so their errors use the same words.
"""

from __future__ import annotations

import errno
import os
import stat

from exporter import system


def content(path: str, limit: int) -> bytes:
    """The first *limit* bytes of the regular file at *path*; OSError, whose strerror is the reason.

    The file is opened without blocking, so that a pipe in its place is rejected at once.
    """
    descriptor = os.open(path, system.OPEN_FLAGS | system.NONBLOCKING)
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
