"""What ``tcp-exporter dump --output`` does with the file that is there already."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.commands import dump
from exporter.errors import UsageError

_TERMINATED_WHILE_SYNCING = """
import os, signal, sys
from exporter.commands import dump
os.fsync = lambda _: os.kill(os.getpid(), int(sys.argv[2]))
dump._replace(sys.argv[1], b"new")
"""


def test_a_file_is_replaced_and_others_may_read_it(tmp_path: Path) -> None:
    file = tmp_path / "tcp.prom"
    for content in (b"old", b"new"):
        dump._replace(str(file), content)
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"new", 0o644)
    assert list(tmp_path.iterdir()) == [file]


def test_a_symbolic_link_stays_and_the_file_behind_it_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    file, link = tmp_path / "target" / "tcp.prom", tmp_path / "link"
    link.symlink_to("target/tcp.prom")
    for content in (b"old", b"new"):
        dump._replace(str(link), content)
    assert (os.readlink(link), file.read_bytes()) == ("target/tcp.prom", b"new")
    assert sorted(tmp_path.rglob("*")) == [link, tmp_path / "target", file]


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "link to a fifo"])
def test_what_is_not_a_regular_file_is_refused_and_stays(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "there"
    if kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/null")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        os.mkfifo(tmp_path / "fifo")
        path.symlink_to("fifo")
    before = path.lstat()
    with pytest.raises(UsageError) as caught:
        dump._replace(str(path), b"new")
    told = f"cannot write {path}: it exists and is not a regular file; redirect to it instead: > {path}"
    assert (str(caught.value), path.lstat().st_ino, path.lstat().st_mode) == (told, before.st_ino, before.st_mode)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_it_leaves_the_old_file_and_no_other(number: signal.Signals, tmp_path: Path) -> None:
    file = tmp_path / "tcp.prom"
    file.write_bytes(b"old")
    code = subprocess.run(
        [sys.executable, "-c", _TERMINATED_WHILE_SYNCING, str(file), str(number.value)], check=False, timeout=60
    ).returncode
    assert (code, file.read_bytes(), list(tmp_path.iterdir())) == (128 + number, b"old", [file])
