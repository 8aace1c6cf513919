"""``python -m release.debian OUTPUT [SUITE...]``: the Debian package of each suite, by `make deb` inside that Debian.

debootstrap makes the Debian, for which one has to be root. For the suite that this host is, and where none is named,
`make deb` runs here. The suite is in the file's name, because each Debian's tools build it their way.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from release.address import ROOT

TOOLS = "build-essential,ca-certificates,debhelper,dh-python,make,python3,python3-venv"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def here() -> str:
    """The suite that this host is."""
    release = Path("/etc/os-release").read_text(encoding="utf-8")
    return "".join(re.findall(r"^VERSION_CODENAME=(\w+)$", release, re.MULTILINE))


def named(package: Path, suite: str) -> str:
    """The file's name with the suite.

    >>> named(Path("tcp-exporter_0.1.0-1_amd64.deb"), "bookworm")
    'tcp-exporter_0.1.0-1_bookworm_amd64.deb'
    """
    stem, _, architecture = package.name.rpartition("_")
    return f"{stem}_{suite}_{architecture}"


def build(suite: str, output: Path) -> None:
    """Build the package of *suite* into *output*."""
    with tempfile.TemporaryDirectory() as folder:
        if suite == here():
            subprocess.run(["make", "deb", f"DIST={folder}"], cwd=ROOT, check=True)
            packages = Path(folder)
        else:
            packages = _build_inside(Path(folder), suite)
        (package,) = packages.glob("*.deb")
        shutil.copy(package, output / named(package, suite))


def _build_inside(debian: Path, suite: str) -> Path:
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={TOOLS}", suite, str(debian), *_mirror()],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    (debian / "tree").mkdir()
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    tar = subprocess.run(["tar", "-c", "--null", "-T", "-"], cwd=ROOT, input=files, stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "-x", "--no-same-owner"], cwd=debian / "tree", input=tar.stdout, check=True)
    # The network is this host's: its names, the authorities that it trusts, and the index that its pip asks.
    for file in (Path("/etc/resolv.conf"), CERTIFICATES):
        shutil.copy(file, debian / file.relative_to("/"))
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root", **_index()}
    environment["SOURCE_DATE_EPOCH"] = os.environ["SOURCE_DATE_EPOCH"]
    (debian / "proc").mkdir(exist_ok=True)
    inside = ["unshare", "--mount", "--pid", "--fork", f"--mount-proc={debian}/proc", "chroot", str(debian)]
    subprocess.run([*inside, "make", "-C", "/tree", "deb"], env=environment, check=True)
    return debian / "tree" / "dist"


def _mirror() -> list[str]:
    """The mirror that this host's apt has for Debian; without one, debootstrap knows its own."""
    command = ["apt-get", "indextargets", "--format", "$(SITE)", "Origin: Debian", "Component: main"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[:1]


def _index() -> dict[str, str]:
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    index = re.findall(r"\.index-url='(.+)'$", said, re.MULTILINE)
    return {"PIP_CERT": str(CERTIFICATES), **({"PIP_INDEX_URL": index[-1]} if index else {})}


def main(output: str, *suites: str) -> None:
    """Build for each suite, or for this host's."""
    for suite in suites or (here(),):
        build(suite, Path(output))


if __name__ == "__main__":
    main(*sys.argv[1:])
