"""The plugin as Nagios runs it: exit codes, one line, quick to start; and through a real NRPE."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.tcpstate import KNOWN_STATES
from pyz.__main__ import write
from tests.conftest import situation_root
from tests.e2e.conftest import DEADLINE, PLUGIN, documented, free_port, wait_for, without_numbers
from tests.lab import LabProcess
from tests.test_readme import blocks

NRPE = shutil.which("nrpe", path="/usr/sbin:/usr/bin")
CHECK_NRPE = "/usr/lib/nagios/plugins/check_nrpe"
HEAVY = {"dataclasses", "logging", "asyncio", "psutil", "yaml", "structlog", "prometheus_client", "argparse", "inspect",
         "typing", "re", "json", "gettext", "socket", "selectors", "enum", "collections", "functools", "operator",
         "struct", "types"}  # fmt: skip
CONCLUSIONS = (
    "exporter.details",
    "exporter.health.fi",
    "exporter.health.j",
    "exporter.health.sysctls",
    "exporter.nagios.f",
)


def plugin(*arguments: str, **keywords: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PLUGIN, *arguments], capture_output=True, text=True, check=False, **keywords)  # type: ignore[call-overload,no-any-return]  # passed on


@pytest.mark.lab
@pytest.mark.parametrize(
    ("number", "code", "word"), [(0, 0, "OK"), (600, 0, "OK"), (601, 1, "WARNING"), (801, 2, "CRITICAL")]
)
def test_the_default_thresholds_in_a_real_namespace(lab: LabProcess, number: int, code: int, word: str) -> None:
    lab.establish(number)
    done = lab.run(PLUGIN)
    reason = {1: " (> 600)", 2: " (> 800)"}.get(code, "")
    zeros = " ".join(f"{state.label}=0;;;0;" for state in KNOWN_STATES[1:])
    data = f"established={number};600;800;0; {zeros}"
    assert (done.returncode, done.stdout, done.stderr) == (
        code,
        f"TCP STATES {word}: established {number}{reason} | {data}\n",
        "",
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--bogus"], "TCP STATES UNKNOWN: option --bogus not recognized; see --help"),
        (
            ["-w", "x"],
            "TCP STATES UNKNOWN: -w: 'x' is not a range: expected [@][start:][end], such as 10, 10:, ~:10 or @5:8",
        ),
        (["--config", "nowhere.yml"], "TCP STATES UNKNOWN: nowhere.yml: cannot be read: No such file or directory"),
        (["--config", "tests"], "TCP STATES UNKNOWN: tests: cannot be read: Is a directory"),
        (
            ["--config", "tests/config/open-quote.bad.yml"],
            "TCP STATES UNKNOWN: tests/config/"
            + Path(__file__).parents[1].joinpath("config/open-quote.bad.txt").read_text().strip(),
        ),
        (
            ["--path.procfs", "nowhere"],
            "TCP STATES UNKNOWN: established unknown: nowhere/net/snmp: No such file or directory (ENOENT); "
            "nowhere/net/sockstat: No such file or directory (ENOENT); "
            "nowhere/net/tcp: No such file or directory (ENOENT)",
        ),
    ],
)
def test_what_cannot_be_answered_is_unknown_in_one_line(arguments: list[str], line: str) -> None:
    done = plugin(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (3, line.replace("|", " ") + "\n", "")


@pytest.mark.parametrize("option", ["-h", "--help", "-V", "--version"])
def test_help_and_version_exit_3(option: str) -> None:
    done = plugin(option)
    assert (done.returncode, done.stdout != "", done.stderr) == (3, True, "")


def test_a_read_that_hangs_is_cut_by_the_timeout_with_its_state(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    os.mkfifo(tmp_path / "net" / "snmp")
    done = plugin("--path.procfs", str(tmp_path), "-t", "0.3:critical", timeout=DEADLINE)
    assert (done.returncode, done.stdout, done.stderr) == (2, "TCP STATES CRITICAL: no answer within 0.3 s\n", "")


def test_a_bug_is_unknown_in_one_line_and_a_traceback_only_for_vvv() -> None:
    broken = "import exporter.health.measures as m; m.readings = None; from exporter.nagios.check import main; main()"
    done = subprocess.run([sys.executable, "-c", broken], capture_output=True, text=True, check=False)
    line = "TCP STATES UNKNOWN: bug in check_tcp_states: TypeError: 'NoneType' object is not callable\n"
    assert (done.returncode, done.stdout, done.stderr) == (3, line, "")
    done = subprocess.run([sys.executable, "-c", broken, "-vvv"], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(line + "Traceback")


def test_the_line_of_a_bug_has_no_control_character_and_no_bar() -> None:
    broken = """
import exporter.nagios.check as check
def run(_): raise ValueError("a|b" + chr(27) + "[2J")
check.run = run
check.main()
"""
    done = subprocess.run([sys.executable, "-c", broken], capture_output=True, text=True, check=False)
    line = "TCP STATES UNKNOWN: bug in check_tcp_states: ValueError: a/b [2J\n"
    assert (done.returncode, done.stdout, done.stderr) == (3, line, "")


def test_nobody_reading_the_answer_is_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run(PLUGIN, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")


def test_an_environment_without_a_locale_is_enough() -> None:
    done = plugin("--path.procfs", situation_root("busy"), env={})
    assert (done.returncode, done.stdout.split(" | ")[0]) == (1, "TCP STATES WARNING: established 656 (> 600)")


def test_the_files_thresholds_are_used(tmp_path: Path) -> None:
    file = tmp_path / "thresholds.yml"
    file.write_text("thresholds:\n  listen: {warning: '1:5'}\n  close_wait: {critical: 5}\n")
    done = plugin("--path.procfs", situation_root("busy"), "--config", str(file))
    assert (done.returncode, done.stdout.split(" | ")[0]) == (
        2,
        "TCP STATES CRITICAL: close_wait 6 (> 5), listen 12 (> 5)",
    )


def test_a_file_without_thresholds_shows_and_never_alerts(tmp_path: Path) -> None:
    file = tmp_path / "none.yml"
    file.write_text("thresholds: {}\n")
    done = plugin("--path.procfs", situation_root("busy"), "--config", str(file))
    assert (done.returncode, done.stdout.split(" | ")[0]) == (0, "TCP STATES OK: established 656")


@pytest.mark.lab
def test_it_imports_nothing_heavy(lab: LabProcess) -> None:
    lab.establish(1000)  # for which one by one is sooner than by patterns
    script = (
        "import os, sys; own = set(sys.modules);"  # of the interpreter, and of what its site-packages start
        "os._exit = lambda code: (print(sorted(set(sys.modules) - own)), sys.stdout.flush(), sys.exit(code));"
        "from exporter.nagios.check import main; main()"
    )
    done = lab.run([sys.executable, "-I", "-c", script])
    assert "established=1000;" in done.stdout
    modules = set(eval(done.stdout.splitlines()[-1]))  # a list that we printed
    assert modules & HEAVY == set()
    assert [name for name in modules if name.startswith(CONCLUSIONS)] == []
    assert "exporter.kernel.reader" in modules


@pytest.mark.lab
@pytest.mark.e2e
@pytest.mark.parametrize("is_file", [False, True], ids=["installed", "as one file"])
def test_a_real_nrpe_returns_the_plugins_line_and_code(
    lab: LabProcess, tmp_path: Path, anyones_python: str, *, is_file: bool
) -> None:
    if NRPE is None or not os.path.exists(CHECK_NRPE):
        pytest.skip("nagios-nrpe-server and nagios-nrpe-plugin are not installed")
    port = free_port(lab)
    command = f"{anyones_python} -I -c 'from exporter.nagios.check import main; main()'"
    if is_file:
        target = Path(anyones_python).parent / "check_tcp_states.pyz"
        write(target, [anyones_python])
        (line,) = [text for text in blocks("docs/plugin.md", "text") if text.startswith("command[")]
        _, _, command = line.strip().partition("=")
        command = f"/usr/bin/env PATH={target.parent}:/bin {command.replace('/usr/local/lib', str(target.parent))}"
    tmp_path.chmod(0o755)
    config = tmp_path / "nrpe.cfg"
    config.write_text(
        f"server_port={port}\nserver_address=127.0.0.1\nallowed_hosts=127.0.0.1\nnrpe_user=nagios\nnrpe_group=nagios\n"
        f"pid_file={tmp_path}/nrpe.pid\ncommand[check_tcp_states]={command}\n"
        f"command[check_listen]={command} -s listen -w '~:99'\n"
    )
    # In the foreground and without TLS: -f keeps it our child, -n matches check_nrpe's.
    with lab.popen([NRPE, "-c", str(config), "-f", "-n"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as nrpe:
        try:
            check = [CHECK_NRPE, "-n", "-H", "127.0.0.1", "-p", str(port), "-c"]
            wait_for(lambda: lab.run(check[:-1]).returncode == 0 or None, "NRPE")
            answers, line = [], ""
            for number in (801, 601, 0):
                lab.release()
                lab.establish(number)
                done = lab.run([*check, "check_tcp_states"])
                line = done.stdout
                answers.append((done.returncode, line.split(" | ")[0]))
            # Both ends of check_nrpe's own connection are in the namespace, and count.
            assert answers == [
                (2, "TCP STATES CRITICAL: established 803 (> 800)"),
                (1, "TCP STATES WARNING: established 603 (> 600)"),
                (0, "TCP STATES OK: established 2"),
            ]
            assert without_numbers(line) == without_numbers(documented("check_nrpe")[0])
            assert lab.run([*check, "check_listen"]).stdout.startswith("TCP STATES OK: listen ")
        finally:
            nrpe.kill()
