"""What the tests of installing share: the trees of the Debians, their packages, and a machine that has one of them.

A test that needs ``suite``, be it through ``tree``, ``package`` or ``machine``, runs on each Debian.
"""

from __future__ import annotations

import contextlib
import os
import platform
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
from tests.machine.once import once

REPOSITORY = Path(__file__).parents[2]
# For apt in a tree that only builds: no questions, no recommended packages, no waiting for the disk.
QUICK = """\
echo 'APT::Get::Assume-Yes "true"; APT::Install-Recommends "false";' >/etc/apt/apt.conf.d/quick
echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/quick
"""


def need(*programs: str, as_root: bool = False) -> None:
    """Skip the test, and say why, where a program or the rights are missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if as_root and os.geteuid() != 0:
        pytest.skip("only root may make and boot a machine")


def debian(config: pytest.Config, suite: str) -> Path:
    """The minimal Debian *suite*, packed."""
    need("mmdebstrap", "apt-get", as_root=True)
    try:
        return root.tar(config.cache.mkdir("debian"), suite)
    except root.NoRootError as error:
        pytest.skip(str(error))


@contextlib.contextmanager
def unpacked(tar: Path, factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tree of *tar* in a folder, after which systemd-nspawn names its machine, until the end of the block."""
    folder = factory.mktemp(f"debian-{os.getpid()}-")
    subprocess.run(["tar", "--extract", "--file", tar, "-C", folder], check=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session", params=root.SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    """A Debian, by its name."""
    return str(request.param)


@pytest.fixture(scope="session")
def tree_tar(pytestconfig: pytest.Config, suite: str) -> Path:
    """The suite, packed."""
    return debian(pytestconfig, suite)


@pytest.fixture(scope="session")
def tree(tree_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The suite; the tests of a worker share it, so they leave it as it is."""
    with unpacked(tree_tar, tmp_path_factory) as folder:
        yield folder


@pytest.fixture(scope="session")
def pip_settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pip.conf with the index and the certificates of this host, for a Debian that knows neither."""
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    index = re.findall(r"\.index-url='(.+)'$", said, re.MULTILINE)
    lines = ["[global]", f"cert = {root.CERTIFICATES}", *(f"index-url = {url}" for url in index[-1:])]
    file = tmp_path_factory.mktemp("pip") / "pip.conf"
    file.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of this repository, as they are now, without what a developer's work leaves among them."""
    need("git")
    folder = tmp_path_factory.mktemp("source") / "checkout"
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    for name in filter(None, names.split("\0")):
        to = folder / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, to)
    return folder


@pytest.fixture(scope="session")
def own_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, as `make deb` builds it on this host."""
    return once(tmp_path_factory, "own-package", build)


@pytest.fixture(scope="session")
def package(request: pytest.FixtureRequest, suite: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What docs/install.md builds on the suite: on this host where it is that Debian, else in a tree of it."""
    if platform.freedesktop_os_release().get("VERSION_CODENAME") == suite:
        own: Path = request.getfixturevalue("own_package")
        return own
    need("systemd-nspawn")

    def build_inside(folder: Path) -> Path:
        tree, checkout, pip_settings = (request.getfixturevalue(name) for name in ("tree", "checkout", "pip_settings"))
        script = "\n".join([QUICK, *blocks("The Debian package")[0]])
        root.run(tree, script, checkout, pip_settings, keep=False)
        (built,) = (checkout / "dist").iterdir()
        return Path(shutil.move(built, folder))

    return once(tmp_path_factory, f"package-{suite}", build_inside)


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
