"""What the tests of installing share: the tree of a Debian, the package, and a machine that has it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import root
from tests.machine.booted import Machine
from tests.machine.documented import blocks

REPOSITORY = Path(__file__).parents[2]
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def need(*programs: str, as_root: bool = False) -> None:
    """Skip the test, and say why, where a program or the rights are missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if as_root and os.geteuid() != 0:
        pytest.skip("only root may make and boot a machine")


@pytest.fixture(scope="session")
def tree_tar(request: pytest.FixtureRequest) -> Path:
    """A minimal Debian, packed."""
    need("debootstrap", "apt-get", as_root=True)
    try:
        return root.tar(request.config.cache.mkdir("debian"))
    except root.NoRootError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def tree(tree_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A minimal Debian; the tests of a session share it, so they leave it as it is."""
    folder = tmp_path_factory.mktemp("debian")
    subprocess.run(["tar", "--extract", "--file", tree_tar, "-C", folder], check=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def pip_settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pip.conf with the index and the certificates of this host, for a Debian that knows neither."""
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    index = re.findall(r"\.index-url='(.+)'$", said, re.MULTILINE)
    lines = ["[global]", f"cert = {CERTIFICATES}", *(f"index-url = {url}" for url in index[-1:])]
    file = tmp_path_factory.mktemp("pip") / "pip.conf"
    file.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, as `make deb` builds it."""
    return build(tmp_path_factory.mktemp("deb"))


def build(folder: Path) -> Path:
    """The package that `make deb` puts into *folder*."""
    need("make", "dpkg-buildpackage", "dh", "dh_python3")
    done = subprocess.run(
        ["make", "deb", f"DIST={folder}"], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:]
    (package,) = folder.iterdir()
    return package


@pytest.fixture(scope="module")
def machine(tree: Path, package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A booted machine with the package installed; a test leaves the service as it found it."""
    need("systemd-nspawn", "nsenter")
    with Machine(tree, tmp_path_factory.mktemp("machine") / "console", package) as machine:
        install(machine)
        yield machine


def install(machine: Machine) -> str:
    """What the commands of docs/install.md say that install the package."""
    return machine.shell("\n".join(["cd /mnt", *blocks("The Debian package")[1]]))
