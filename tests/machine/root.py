"""The trees of minimal Debians, made by debootstrap from the mirror that this host's apt uses.

Each is made once and kept as a tar, under a name that says what is in it: a minute the first time, seconds later.
``run`` runs commands in one that is not booted, with this host's network: it builds packages and fetches from PyPI.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

SUITES = ("bookworm", "trixie")  # Debian 12 and 13
"""The Debians that the package is built, installed and booted on."""

INCLUDED = ("ca-certificates", "python3", "python3-venv", "systemd", "systemd-sysv")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
NO_ANSWER = ("Failed getting release file", "Couldn't download packages", "Invalid Release file")  # of debootstrap


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
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            _make(Path(folder), suite)
            partial = path.with_suffix(".partial")
            subprocess.run(["tar", "--create", "--one-file-system", "--file", partial, "-C", folder, "."], check=True)
            partial.rename(path)
    return path


def _make(to: Path, suite: str) -> None:
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(INCLUDED)}", suite, str(to), mirror()]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-20:])
        if any(sign in done.stdout for sign in NO_ANSWER):
            raise NoRootError(f"the mirror of Debian does not answer: {last}")
        raise RuntimeError(f"debootstrap ended with {done.returncode}: {last}")
    for leftover in ("var/cache/apt", "var/lib/apt/lists", "var/log"):
        shutil.rmtree(to / leftover)
        (to / leftover).mkdir()
    (to / "etc/machine-id").write_text("", encoding="ascii")  # another one at each boot


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
