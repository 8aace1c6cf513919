"""What several workers of pytest-xdist need and one of them makes: the others wait for it, by a lock on a file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of the file *path*; the kernel releases it if the process ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Path]) -> Path:
    """The file that *make* makes in an empty folder: one *name*, one file, for all workers of this session."""
    session = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent  # each worker has its own below that of the session
    with locked(session / f"{name}.lock"):
        made = session / f"{name}.made"
        if not made.is_symlink():
            made.symlink_to(make(Path(tempfile.mkdtemp(prefix=f"{name}-", dir=session))))
        return made.resolve()
