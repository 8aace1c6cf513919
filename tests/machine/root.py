"""The trees of minimal Debians, made by mmdebstrap from the mirror that this host's apt uses.

Each is made once and kept as a tar, under a name that says what is in it: 20 s the first time, 2 s later. debootstrap
needs a minute, because it calls dpkg for each package and waits for the disk.
``run`` runs commands in one that is not booted, with this host's network: it builds packages and fetches from PyPI.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from tests.machine.once import locked

SUITES = ("bookworm", "trixie")  # Debian 12 and 13
"""The Debians that the package is built, installed and booted on."""

INCLUDED = ("ca-certificates", "python3", "python3-venv", "systemd", "systemd-sysv")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
NO_ANSWER = ("Failed to fetch", "Could not connect", "Could not resolve")  # of apt, which mmdebstrap calls


class NoRootError(Exception):
    """There is no mirror, or it does not answer."""


def mirror() -> str:
    """The first site that apt gets Debian's own packages from; raises ``NoRootError`` where there is none."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE)", "Origin: Debian", "Component: main"],
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    sites = done.stdout.split()
    if not sites:
        raise NoRootError("apt has no mirror of Debian (apt-get indextargets): run apt-get update")
    return sites[0]


def tar(cache: Path, suite: str) -> Path:
    """The tar of the tree of *suite*, in the folder *cache*, where it is made if it is not there yet."""
    key = hashlib.sha256(" ".join((suite, *INCLUDED)).encode()).hexdigest()[:12]
    path = cache / f"{suite}-{key}.tar"
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            partial = path.with_suffix(".partial.tar")
            _make(partial, suite)
            partial.rename(path)
    return path


def _make(to: Path, suite: str) -> None:
    command = [
        "mmdebstrap", "--variant=minbase", f"--include={','.join(INCLUDED)}", "--dpkgopt=force-unsafe-io",
        "--customize-hook=: >$1/etc/machine-id",  # another one at each boot, and none of them the first
        suite, str(to), mirror(),
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-20:])
        if any(sign in done.stdout for sign in NO_ANSWER):
            raise NoRootError(f"the mirror of Debian does not answer: {last}")
        raise RuntimeError(f"mmdebstrap ended with {done.returncode}: {last}")


def run(tree: Path, script: str, checkout: Path, pip_settings: Path, *, keep: bool) -> None:
    """Run a script for /bin/sh as root in *tree*, in the folder *checkout*; it must succeed.

    What it writes outside of *checkout* is forgotten where *keep* is not set.
    """
    command = [
        "systemd-nspawn", "--quiet", "--directory", str(tree), "--register=no", "--keep-unit", "--console=pipe",
        *([] if keep else ["--volatile=overlay"]),
        f"--bind={checkout}:/mnt", f"--bind-ro={pip_settings}:/etc/pip.conf",
        f"--bind-ro={CERTIFICATES}:{CERTIFICATES}", "--setenv=DEBIAN_FRONTEND=noninteractive", "--chdir=/mnt",
        "/bin/sh", "-euc", script,
    ]  # fmt: skip
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:]
