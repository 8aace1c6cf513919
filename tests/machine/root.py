"""The tree of a minimal Debian, made by debootstrap from the mirror that this host's apt uses.

It is made once and kept as a tar, under a name that says what is in it: a minute the first time, seconds later.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

SUITE = "bookworm"
INCLUDED = ("ca-certificates", "python3", "python3-venv", "systemd", "systemd-sysv")
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


def tar(cache: Path) -> Path:
    """The tar of the tree, in the folder *cache*, where it is made if it is not there yet."""
    key = hashlib.sha256(" ".join((SUITE, *INCLUDED)).encode()).hexdigest()[:12]
    path = cache / f"{SUITE}-{key}.tar"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            _make(Path(folder))
            partial = path.with_suffix(".partial")
            subprocess.run(["tar", "--create", "--one-file-system", "--file", partial, "-C", folder, "."], check=True)
            partial.rename(path)
    return path


def _make(to: Path) -> None:
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(INCLUDED)}", SUITE, str(to), mirror()]
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
