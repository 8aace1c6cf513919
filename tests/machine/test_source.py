"""An installation from source, by the commands of docs/install.md, on a Debian that has nothing but Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.booted import Machine
from tests.machine.conftest import need, unpacked
from tests.machine.documented import blocks
from tests.machine.root import INCLUDED, run

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def installed(
    tree_tar: Path, checkout: Path, pip_settings: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A tree with what pip is to do done: it needs a network, and a machine here has none."""
    need("systemd-nspawn")
    (packages, *commands) = blocks("From source")[0]
    assert set(packages.removeprefix("apt-get install ").split()) <= set(INCLUDED)  # as in the tree
    script = "\n".join(command for command in commands if "systemctl" not in command)
    with unpacked(tree_tar, tmp_path_factory) as folder:
        run(folder, script, checkout, pip_settings, keep=True)
        yield folder


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
