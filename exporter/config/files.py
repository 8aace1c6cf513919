"""Reads small files that an operator named: bounded, and never waiting for a pipe. A rim module.

The configurations, certificates and credentials come through here, so all of them are refused in the same words.
"""

from __future__ import annotations

import errno
import os
import stat


def content(path: str, limit: int) -> bytes:
    """The first *limit* bytes of the regular file at *path*; OSError, whose strerror says why there are none.

    Opened without blocking, so that a pipe put in the file's place is refused and not waited for.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(kind):
            raise OSError(errno.EINVAL, "it is no regular file")
        pieces = []
        while limit > 0 and (piece := os.read(descriptor, limit)):
            pieces.append(piece)
            limit -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)
