"""The plugin as one file: the same answers as the installed one, on every Python from 3.9, without any package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import vermin  # type: ignore[import-untyped]  # it has no types
import yaml

import exporter
import pyz
from pyz.__main__ import sources, write
from tests.conftest import situation_root
from tests.e2e.conftest import PLUGIN, Daemon, anyones_folder, documented, free_port, wait_for, without_numbers
from tests.lab import LabProcess

VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
BACKPORTS = ("itertools.pairwise", "zip(strict)")  # what pyz/python39.py gives to Python 3.9
ONLY_FOR_TYPES = ("typing.TypeAlias",)  # imported by type checkers alone
SSHD = shutil.which("sshd", path="/usr/sbin")
CHECK_BY_SSH = "/usr/lib/nagios/plugins/check_by_ssh"


def python_of(version: str) -> str | None:
    """The interpreter of this version, as .ci/run finds it."""
    candidates = [f"python{version}", *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))]
    for candidate in filter(shutil.which, candidates):
        done = subprocess.run(
            [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.stdout.strip() == version:
            return candidate
    return None


@pytest.fixture(scope="session")
def plugin_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, compiled for every Python of this machine."""
    target = tmp_path_factory.mktemp("dist") / "check_tcp_states.pyz"
    write(target, [sys.executable, *filter(None, map(python_of, VERSIONS))])
    return target


@pytest.fixture(params=VERSIONS)
def python(request: pytest.FixtureRequest) -> str:
    """Each Python in turn."""
    found = python_of(request.param)
    if found is None:
        pytest.skip(f"Python {request.param} is not on this machine")
    return found


def answer(command: list[str], **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"LC_ALL": "C.UTF-8", **environment}
    )
    return done.returncode, done.stdout, done.stderr


def installed(*arguments: str) -> tuple[int, str, str]:
    return answer([*PLUGIN, *arguments], PYTHONPATH=str(Path(exporter.__file__).parents[1]))


@pytest.mark.lab
def test_a_bare_interpreter_counts_the_sockets_of_this_host(lab: LabProcess, python: str, plugin_file: Path) -> None:
    lab.establish(601)
    arguments = ["-w", "600", "-c", "800"]
    bare, full = (lab.run([*command, *arguments]) for command in ([python, "-IS", str(plugin_file)], PLUGIN))
    assert (bare.stdout, bare.returncode, bare.stderr) == (full.stdout, 1, "")
    assert bare.stdout.startswith("TCP STATES WARNING: established 601 (> 600) | ")


@pytest.mark.lab
def test_every_kind_of_socket_is_judged_without_a_mistake(
    populated: LabProcess, python: str, plugin_file: Path
) -> None:
    lab = populated
    lab.establish(1200)  # enough for the patterns of large replies
    done = lab.run([python, "-IS", str(plugin_file), "-vvv", "-s", "all", "-s", "leaked_descriptors", "-t", "60"])
    assert (done.returncode in {0, 1, 2, 3}, done.stderr) == (True, "")
    assert done.stdout.startswith("TCP STATES ")
    assert "bug in check_tcp_states" not in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["-V"],
        ["-h"],
        ["-w", "2:1"],
        ["--bogus"],
        ["-v", "-s", "time_wait_ratio,listen"],
        ["-v", "-s", "all", "-t", "1"],
        ["-vvv", "-s", "findings", "-t", "1"],
        ["-s", "listen_drops", "-t", "1", "-p", "80"],
        ["--reader", "procfs", "-p", "443"],
    ],
    ids=" ".join,
)
def test_it_answers_as_the_installed_plugin(arguments: list[str], python: str, plugin_file: Path) -> None:
    recorded = [*arguments, "--path.procfs", situation_root("busy")]
    assert answer([python, "-IS", str(plugin_file), *recorded]) == installed(*recorded)


def test_it_asks_a_daemon_as_the_installed_plugin(tmp_path: Path, python: str, plugin_file: Path) -> None:
    with Daemon(tmp_path / "log", "--path.procfs", situation_root("busy")) as daemon:
        daemon.ready()
        asked = ["--url", f"http://127.0.0.1:{daemon.port}", "-s", "all", "-v", "-w", "established=600"]

        def same() -> str | None:  # as soon as no sample comes between the two
            found = answer([python, "-IS", str(plugin_file), *asked])
            return found[1] if found == installed(*asked) else None

        assert wait_for(same, "the same answer").startswith("TCP STATES WARNING: established 656 (> 600)")


def test_a_configuration_needs_pyyaml_and_nothing_else(tmp_path: Path, python: str, plugin_file: Path) -> None:
    file = tmp_path / "tcp.yml"
    file.write_text("thresholds: {listen: {warning: 5}}\nsysctl: {expected: {tcp_syncookies: 1}}\n")
    arguments = ["--config", str(file), "-v", "-s", "all", "-t", "1", "--path.procfs", situation_root("busy")]
    line = "--config: expected the package PyYAML beside the plugin: this Python does not have it"
    assert answer([python, "-IS", str(plugin_file), *arguments]) == (3, f"TCP STATES UNKNOWN: {line}\n", "")
    # Without its part in C, which is for one Python, the package runs on all of them.
    shutil.copytree(Path(yaml.__file__).parent, tmp_path / "yaml", ignore=shutil.ignore_patterns("*.so", "*.pyc"))
    found = answer([python, "-S", str(plugin_file), *arguments], PYTHONPATH=str(tmp_path))
    assert found[1].startswith("TCP STATES WARNING: listen 12 (> 5)")
    assert found == installed(*arguments)


def test_as_a_command_it_answers_as_the_installed_plugin(tmp_path: Path, python: str, plugin_file: Path) -> None:
    (tmp_path / "python3").symlink_to(python)
    for arguments in (["-V"], ["-w", "2:1"], ["-v", "-s", "time_wait_ratio,listen", "-w", "listen=~:11"]):
        recorded = [*arguments, "--path.procfs", situation_root("busy")]
        assert answer([str(plugin_file), *recorded], PATH=f"{tmp_path}:/bin") == installed(*recorded)


def test_as_a_command_it_finds_the_packages_of_its_python(tmp_path: Path, plugin_file: Path) -> None:
    file = tmp_path / "tcp.yml"
    file.write_text("thresholds: {listen: {warning: 5}}\n")
    arguments = ["--config", str(file), "--path.procfs", situation_root("busy")]
    found = answer([str(plugin_file), *arguments], PATH=f"{Path(sys.executable).parent}:/bin")
    assert found[1].startswith("TCP STATES WARNING: listen 12 (> 5)")
    assert found == installed(*arguments)


def test_a_missing_psutil_is_a_reason(python: str, plugin_file: Path) -> None:
    line = "TCP STATES UNKNOWN: established unknown: psutil: this Python does not have the package\n"
    assert answer([python, "-IS", str(plugin_file), "--reader", "psutil"]) == (3, line, "")


def test_a_python_that_it_was_not_compiled_for_runs_the_sources(tmp_path: Path, python: str) -> None:
    target = tmp_path / "check_tcp_states.pyz"
    write(target, [])
    recorded = ["-v", "-s", "time_wait_ratio", "--path.procfs", situation_root("busy")]
    assert answer([python, "-IS", str(target), *recorded]) == installed(*recorded)


def test_an_older_python_is_unknown_in_one_line() -> None:
    start = Path(pyz.__file__).with_name("start.py")
    script = f"import sys; sys.version_info = (3, 8, 0); exec(open({str(start)!r}).read())"
    line = "TCP STATES UNKNOWN: expected Python 3.9 or newer, this is 3.8\n"
    assert answer([sys.executable, "-c", script]) == (3, line, "")


def test_zip_is_as_strict_on_python_3_9_as_later(python: str) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(Path(pyz.__file__).parent)!r}); import python39, itertools\n"
        "print(list(zip('ab', 'c')), list(zip('ab', iter('cd'), strict=True)), list(itertools.pairwise('abc')))\n"
        "zip('ab', 'c', strict=True)"
    )
    code, out, errors = answer([python, "-c", script])
    assert (code, out) == (1, "[('a', 'c')] [('a', 'c'), ('b', 'd')] [('a', 'b'), ('b', 'c')]\n")
    assert errors.endswith("ValueError: zip() arguments have different lengths\n")


def test_no_module_of_the_plugin_needs_more_than_python_3_9_and_the_backports() -> None:
    config = vermin.Config()
    for each in (*BACKPORTS, *ONLY_FOR_TYPES):
        config.add_exclusion(each)
    needs = {}
    for _, path, text in sources().values():
        visitor = vermin.visit(text.decode(), config)
        needs[path] = visitor.minimum_versions()[1] or (3, 0)
    assert {path: needed for path, needed in needs.items() if needed > (3, 9)} == {}


def test_it_has_the_modules_that_the_plugin_imports_and_no_others() -> None:
    modules = set(sources())
    assert modules >= {"exporter.nagios.check", "exporter.client", "exporter.config.schema", "exporter.health.findings"}
    assert [name for name in modules if name.startswith(("exporter.daemon", "exporter.web", "exporter.commands"))] == []


def test_the_same_sources_make_the_same_bytes(tmp_path: Path, plugin_file: Path) -> None:
    again = tmp_path / "again.pyz"
    write(again, [sys.executable, *filter(None, map(python_of, VERSIONS))])
    assert again.read_bytes() == plugin_file.read_bytes()
    assert zipfile.ZipFile(again).testzip() is None


@pytest.mark.lab
def test_check_by_ssh_runs_it_on_a_host_without_an_agent(lab: LabProcess, plugin_file: Path) -> None:
    if SSHD is None or not os.path.exists(CHECK_BY_SSH):
        pytest.skip("openssh-server and monitoring-plugins-basic are not installed")
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd keeps its privileges separate
    with anyones_folder() as home:
        for key in ("host", "client"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / key)], check=True)
        port = free_port(lab)
        config = home / "sshd_config"
        config.write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host\nAuthorizedKeysFile {home}/client.pub\n"
            f"PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
        )
        ssh = f"StrictHostKeyChecking=no -o UserKnownHostsFile={home}/known -o IdentityFile={home}/client".split(" -o ")
        check = [CHECK_BY_SSH, "-H", "127.0.0.1", "-p", str(port), "-t", "60"]
        check += [word for each in (*ssh, "LogLevel=ERROR") for word in ("-o", each)]
        _, shown = documented("check_by_ssh")
        command = shown[shown.index("-C") + 1].replace("./check_tcp_states.pyz", str(plugin_file))
        command = f"PATH={Path(sys.executable).parent}:/bin {command}"
        lab.establish(601)
        with lab.popen([SSHD, "-D", "-f", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sshd:
            try:
                wait_for(lambda: lab.run([*check, "-C", "true"]).returncode == 0 or None, "sshd")
                done = lab.run([*check, "-C", command])
                lab.release()
                few = lab.run([*check, "-C", command])
            finally:
                sshd.kill()
    line, _ = documented("check_by_ssh")
    assert without_numbers(few.stdout) == without_numbers(line)
    # Both ends of the connection of ssh are in the namespace, and count.
    assert (done.returncode, done.stdout.split(" | ")[0]) == (1, "TCP STATES WARNING: established 603 (> 600)")
