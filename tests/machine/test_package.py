"""The Debian package: what is in it, and that a machine is as it was before once it has been purged."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter import __version__
from exporter.cli import COMMANDS
from tests.e2e.conftest import PROGRAM
from tests.machine.booted import Machine
from tests.machine.conftest import REPOSITORY, build, install, need
from tests.machine.documented import blocks

pytestmark = pytest.mark.e2e
PRIVATE = "./usr/lib/tcp-exporter/"
EXAMPLES = "./usr/share/doc/tcp-exporter/examples/"
DOCUMENTS = "./usr/share/doc/tcp-exporter/docs/"


def listed(package: Path) -> dict[str, str]:
    """Path to mode of what is in the package."""
    said = subprocess.run(["dpkg-deb", "--contents", package], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {line.split(None, 5)[5]: line.split()[0] for line in said.splitlines()}


def test_lintian_has_nothing_to_say(package: Path) -> None:
    need("lintian")
    done = subprocess.run(
        ["lintian", "--no-cfg", "--allow-root", "--fail-on", "error,warning", "--info", package],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_in_the_package(package: Path, golden: Callable[[str, str], None]) -> None:
    """All but the libraries, whose files are their own affair, the examples and the documents."""
    others = (PRIVATE, EXAMPLES, DOCUMENTS)
    mine = {path: mode for path, mode in listed(package).items() if not path.startswith(others)}
    golden("deb.txt", "".join(f"{mode} {path}\n" for path, mode in mine.items()))


def test_the_runbooks_are_inside(own_package: Path) -> None:
    pages = {path.name for path in (REPOSITORY / "exporter/web/page/runbooks").iterdir()}
    folder = f"{PRIVATE}exporter/web/page/runbooks/"
    assert {path.removeprefix(folder) for path in listed(own_package) if path.startswith(folder)} - {""} == pages


def test_the_examples_are_all_that_there_is_to_copy(own_package: Path) -> None:
    listing = [path for path in listed(own_package) if path.startswith(EXAMPLES) and not path.endswith("/")]
    copied = {
        str(path.relative_to(folder))
        for folder, pattern in ((REPOSITORY / "deploy", "*"), (REPOSITORY / "systemd", "*.d/*"))
        for path in folder.rglob(pattern)
        if path.is_file()
    }
    assert {path.removeprefix(EXAMPLES) for path in listing} == copied


def test_every_document_is_inside_and_can_be_read_as_it_is(own_package: Path) -> None:
    """None is packed, so that their links work: to each other, to README.md, and to deploy, which is the examples."""
    listing = [path for path in listed(own_package) if path.startswith(DOCUMENTS) and not path.endswith("/")]
    written = {
        str(path.relative_to(REPOSITORY / "docs")) for path in (REPOSITORY / "docs").rglob("*") if path.is_file()
    }
    assert {path.removeprefix(DOCUMENTS) for path in listing} == written


def test_every_library_of_the_lock_is_inside_and_nothing_else(own_package: Path) -> None:
    lock = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    locked = {
        name.replace("-", "_"): version for name, version in re.findall(r"^([\w-]+)==([\w.]+)", lock, re.MULTILINE)
    }
    folders = [path.removeprefix(PRIVATE) for path in listed(own_package) if path.startswith(PRIVATE)]
    found = re.findall(r"^(\w+)-([\w.]+)\.dist-info/$", "\n".join(folders), re.MULTILINE)
    assert {name.lower(): version for name, version in found} == locked


def test_the_copyright_names_every_library(own_package: Path) -> None:
    folders = {path.removeprefix(PRIVATE).partition("/")[0] for path in listed(own_package) if path.startswith(PRIVATE)}
    libraries = {folder for folder in folders if folder and not folder.endswith(".dist-info")} - {"exporter"}
    text = (REPOSITORY / "debian/copyright").read_text(encoding="utf-8")
    assert libraries - set(re.findall(r"^Files: (\w+)/\*$", text, re.MULTILINE)) == set()


def test_its_version_is_the_programs(own_package: Path) -> None:
    said = subprocess.run(
        ["dpkg-deb", "--field", own_package, "Version"], stdout=subprocess.PIPE, text=True, check=True
    )
    assert said.stdout.strip().rpartition("-")[0] == __version__


def test_a_second_build_is_the_same_to_the_byte(own_package: Path, tmp_path: Path) -> None:
    assert build(tmp_path).read_bytes() == own_package.read_bytes()


@pytest.fixture(scope="session")
def pages(own_package: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The manual pages by name."""
    folder = tmp_path_factory.mktemp("pages")
    subprocess.run(["dpkg-deb", "--extract", own_package, folder], check=True)
    return {path.name.partition(".")[0]: path for path in (folder / "usr/share/man/man1").iterdir()}


def rendered(page: Path) -> str:
    need("man")
    done = subprocess.run(
        ["man", "--local-file", "--warnings", "--encoding=UTF-8", page],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "100", "MANROFFSEQ": ""},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return re.sub(r"\s+", " ", re.sub(".\b", "", done.stdout))


def test_the_manual_of_the_daemon_has_every_command_and_every_option(pages: dict[str, Path]) -> None:
    page = rendered(pages["tcp-exporter"])
    for command in COMMANDS:
        asked = subprocess.run([*PROGRAM, command, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
        assert set(re.findall(r"^  (--[\w.-]+)", asked, re.MULTILINE)) <= set(page.split()), command


def test_the_manual_of_the_plugin_says_what_its_help_says(pages: dict[str, Path]) -> None:
    from exporter.nagios.arguments import help_text  # noqa: PLC0415 - only here

    page = rendered(pages["check_tcp_states"])
    paragraphs = help_text().partition("\n\n")[2]
    missing = [line.strip() for line in paragraphs.splitlines() if " ".join(line.split()) not in page]
    assert missing == []


def files(machine: Machine) -> set[str]:
    """Every path of the machine that its own work does not come and go with."""
    own = " -o ".join(
        f"-path {path}"
        for path in (
            "/tmp",
            "/var/tmp",
            "/var/log",
            "/var/cache/apt",
            "/var/cache/debconf",
            "/var/lib/apt",
            "/var/lib/systemd",
        )
    )
    return set(machine.shell(f"find / -xdev \\( {own} \\) -prune -o -print").splitlines())


def test_removed_it_leaves_its_configuration_and_purged_nothing_with_all_its_units_in_use(
    tree: Path, package: Path, tmp_path: Path
) -> None:
    need("systemd-nspawn", "nsenter")
    with Machine(tree, tmp_path / "console", package) as machine:
        machine.shell("useradd --system prometheus; mkdir -p /var/lib/prometheus/node-exporter")  # as Debian has it
        before = files(machine)
        said = install(machine)
        assert "Active: active (running)" in said
        assert "TCP STATES OK: " in said
        assert machine.run("systemctl", "is-active", "tcp-exporter") == "active\n"
        assert machine.run("systemctl", "is-enabled", "tcp-exporter") == "enabled\n"

        for block in blocks("The Debian package")[2:]:
            machine.shell("\n".join(block))
        units = ("tcp-exporter.service", "tcp-exporter.socket", "tcp-exporter-textfile.timer")
        assert machine.run("systemctl", "is-active", *units) == "active\n" * 3

        machine.run("apt-get", "remove", "--yes", "tcp-exporter")
        assert machine.run("systemctl", "is-active", *units, check=False) == "inactive\n" * 3
        left = {path for path in files(machine) - before if path.startswith("/etc/") and "/systemd/" not in path}
        assert left == {"/etc/default/tcp-exporter", "/etc/tcp-exporter.yml"}

        machine.run("apt-get", "purge", "--yes", "tcp-exporter")
        own = "/etc/systemd/system/tcp-exporter.service.d"  # the administrator's
        assert files(machine) == before | {own, f"{own}/socket.conf"}
        # Asking for a unit loads it, and systemd forgets it when it comes to that.
        listed_units = ("systemctl", "list-units", "--all", "--no-legend", "tcp-exporter*")
        machine.wait_for(lambda: machine.run(*listed_units) == "" or None, "the units to be gone")


def test_an_upgrade_restarts_the_service_and_keeps_what_was_changed(
    tree: Path, own_package: Path, package: Path, tmp_path: Path
) -> None:
    """On another Debian than this host's: from the package of this host to its own."""
    need("systemd-nspawn", "nsenter")
    with Machine(tree, tmp_path / "console", own_package, package) as machine:
        install(machine)
        machine.write("/etc/tcp-exporter.yml", "thresholds: {established: {warning: 7}}\n")
        machine.run("systemctl", "start", "tcp-exporter-textfile.timer")
        before = machine.properties("tcp-exporter", "MainPID")

        machine.shell("apt-get install --yes --reinstall /mnt/dist2/*.deb")
        assert machine.properties("tcp-exporter", "MainPID") != before
        assert machine.run("cat", "/etc/tcp-exporter.yml") == "thresholds: {established: {warning: 7}}\n"
        assert 'tcp_threshold{measure="established",severity="warning"} 7.0\n' in machine.get("/metrics")[1]
        assert machine.run("systemctl", "is-active", "tcp-exporter", "tcp-exporter-textfile.timer") == "active\n" * 2
