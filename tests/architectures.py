"""Runs the unit tests of the pure parts on a big-endian and on a 32-bit Debian: ``make architectures``.

debootstrap fetches each Debian, and its packages are unpacked, not installed, so nothing has to run while that is done.
A foreign Python runs under qemu's user emulation, which has no ``NETLINK_SOCK_DIAG``: tests that ask this host's kernel
are of no use there. pytest is the one of this virtual environment, because Debian's is too old; it is pure Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

SUITE = "bookworm"
PACKAGES = (
    "python3-minimal python3 python3-pytest python3-psutil python3-yaml python3-h11 python3-structlog "
    "python3-prometheus-client python3-cffi-backend python3-bcrypt python3-hypothesis"
).replace(" ", ",")
OURS = (
    "pytest",
    "pytest-xdist",
    "execnet",
    "pluggy",
    "iniconfig",
    "packaging",
    "pygments",
)  # distributions without compiled code
FOLDERS = ("tests/kernel", "tests/health", "tests/document", "tests/prometheus", "tests/nagios")
OF_THIS_KERNEL = ("drops_of_each_listener", "did_not_ask_for_drops", "want_of_memory_is_a_failed_source")


class Architecture(NamedTuple):
    """A Debian architecture, what it is here for, and qemu's name of it."""

    name: str
    why: str
    emulated: str


ARCHITECTURES = (Architecture("s390x", "big-endian", "s390x"), Architecture("i386", "32 bits", "i386"))


def unpack(architecture: Architecture, root: Path) -> None:
    """The packages of a Debian with our dependencies, below *root*."""
    command = ["debootstrap", "--foreign", f"--arch={architecture.name}", "--variant=minbase", f"--include={PACKAGES}"]
    subprocess.run([*command, SUITE, str(root)], check=True, stdout=subprocess.DEVNULL)
    for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as opened:
            unpacking = ["tar", "-x", "--keep-directory-symlink", "-C", str(root)]
            subprocess.run(unpacking, check=True, stdin=opened.stdout)


def lend(folder: Path) -> None:
    """Copy this environment's pytest into *folder*."""
    for name in OURS:
        for file in metadata.files(name) or ():
            source = Path(str(file.locate()))
            if source.suffix != ".pyc" and ".." not in file.parts:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, folder / file)


def run(architecture: Architecture, root: Path, lent: Path) -> int:
    """The exit code of pytest there."""
    python = [f"qemu-{architecture.emulated}-static", "-L", str(root), str(root / "usr/bin/python3.11")]
    environ = os.environ | {"PYTHONPATH": str(lent), "PYTHONDONTWRITEBYTECODE": "1"}
    what = "import platform, struct, sys; print(platform.machine(), sys.byteorder, 8 * struct.calcsize('P'), 'bits')"
    subprocess.run([*python, "-c", what], check=True, env=environ)
    chosen = ["-m", "not lab and not e2e", "-k", " and ".join(f"not {name}" for name in OF_THIS_KERNEL)]
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, *FOLDERS]
    return subprocess.run([*python, *words], check=False, env=environ).returncode


def main() -> int:
    """Test on each architecture, or on those that are named; 1 where a test failed."""
    named, failed = sys.argv[1:], False
    for architecture in ARCHITECTURES:
        if not named or architecture.name in named:
            print(f"== {architecture.name}: {architecture.why}", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                root, lent = Path(folder) / "root", Path(folder) / "lent"
                unpack(architecture, root)
                lend(lent)
                failed |= run(architecture, root, lent) != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
