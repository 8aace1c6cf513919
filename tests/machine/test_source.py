"""An installation from source, by the commands of docs/install.md, on a Debian that has nothing but Python."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.booted import Machine
from tests.machine.conftest import CERTIFICATES, REPOSITORY, need
from tests.machine.documented import blocks
from tests.machine.root import INCLUDED

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def installed(
    tree_tar: Path, checkout: Path, pip_settings: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A tree with what pip is to do done: it needs a network, and a machine here has none."""
    need("systemd-nspawn")
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(["tar", "--extract", "--file", tree_tar, "-C", folder], check=True)
    (packages, *commands) = blocks("From source")[0]
    assert set(packages.removeprefix("apt-get install ").split()) <= set(INCLUDED)  # as in the tree
    done = subprocess.run(
        [
            "systemd-nspawn", "--quiet", "--directory", str(folder), "--register=no", "--keep-unit", "--console=pipe",
            f"--bind={checkout}:/mnt", f"--bind-ro={pip_settings}:/etc/pip.conf",
            f"--bind-ro={CERTIFICATES}:{CERTIFICATES}", "--chdir=/mnt",
            "/bin/sh", "-euc", "\n".join(command for command in commands if "systemctl" not in command),
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    yield folder
    shutil.rmtree(folder)


def test_installed_from_source_the_service_runs_and_removed_nothing_is_left(installed: Path, tmp_path: Path) -> None:
    need("nsenter")
    install, remove = blocks("From source")
    with Machine(installed, tmp_path / "console") as machine:
        machine.shell("\n".join(command for command in install if command.startswith("systemctl")))
        assert machine.run("systemctl", "is-active", "tcp-exporter") == "active\n"
        assert machine.get("/-/ready") == (200, "TCP exporter is ready.\n")
        assert machine.run("check_tcp_states").startswith("TCP STATES OK: ")

        machine.shell("\n".join(remove))
        left = machine.shell(
            "find / -xdev -path /var/log -prune -o -name '*tcp*exporter*' -print -o -name 'check_tcp*' -print"
        )
        assert left == ""
        assert machine.get("/-/ready")[0] == 0
