"""What a user copies works as it is: the unit, the scrape configuration, the commands for NRPE and Nagios."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "systemd" / "tcp-exporter.service"
PLUGINS = "/usr/lib/nagios/plugins"
EXPOSURE = "20"  # of systemd-analyze security, times ten: what is left is what the daemon needs


def installed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def run(*command: str) -> tuple[int, str]:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False, cwd=ROOT
    )
    return done.returncode, done.stdout


def exec_start() -> list[str]:
    (line,) = re.findall(r"^ExecStart=(.+)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    return str(line).split()


def test_systemd_has_no_complaint_about_the_unit(tmp_path: Path) -> None:
    systemd_analyze = installed("systemd-analyze")
    # It wants the program to exist, which is installed on a user's host and perhaps not here.
    copy = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8")
    assert text.count(exec_start()[0]) == 1
    copy.write_text(text.replace(exec_start()[0], "/bin/true"), encoding="utf-8")
    assert run(systemd_analyze, "verify", "--man=no", str(copy)) == (0, "")


def test_the_unit_is_as_closed_as_its_comments_say() -> None:
    systemd_analyze = installed("systemd-analyze")
    code, said = run(systemd_analyze, "security", "--offline=true", f"--threshold={EXPOSURE}", str(UNIT))
    assert code == 0, said


def test_the_unit_runs_the_program_and_flags_that_exist() -> None:
    assert exec_start() == ["/usr/bin/tcp-exporter", "$ARGS"]
    assert Path(sys.executable).with_name("tcp-exporter").exists()
    (flag,) = re.findall(r'^#     ARGS="([^="]+)=', UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    assert flag in run(sys.executable, "-m", "exporter", "--help")[1]


def test_prometheus_accepts_the_scrape_configuration() -> None:
    promtool = installed("promtool")
    code, said = run(promtool, "check", "config", "deploy/prometheus/scrape.yml")
    assert code == 0, said


def test_the_scrape_interval_is_within_the_peak_window() -> None:
    from exporter.config import Config, parse_duration  # noqa: PLC0415 - only here

    text = (ROOT / "deploy/prometheus/scrape.yml").read_text(encoding="utf-8")
    (interval,) = re.findall(r"scrape_interval: (\S+)", text)
    assert parse_duration(interval) <= Config().sample.peak_window


def nrpe_commands() -> dict[str, str]:
    lines = (ROOT / "deploy/nagios/nrpe.cfg").read_text(encoding="utf-8").splitlines()
    settings = [line for line in lines if line and not line.startswith("#")]
    found = [re.fullmatch(r"command\[(\w+)\]=(.+)", line) for line in settings]
    assert None not in found
    return {match[1]: match[2] for match in found if match}


def answer(line: str) -> tuple[int, str]:
    """What a command line answers on a quiet host when a shell runs it as NRPE does, with almost no environment."""
    plugin = Path(sys.executable).with_name("check_tcp_states")
    assert line.startswith(f"{PLUGINS}/check_tcp_states")
    command = line.replace(f"{PLUGINS}/check_tcp_states", f"'{plugin}'") + " --path.procfs tests/fixtures/proc/quiet"
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NRPE_MULTILINESUPPORT": "1"}
    done = subprocess.run(
        ["/bin/sh", "-c", command], env=environment, cwd=ROOT, timeout=60, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", nrpe_commands())
def test_every_nrpe_command_finds_a_quiet_host_fine(name: str) -> None:
    code, said = answer(nrpe_commands()[name])
    assert code == 0, said
    assert said.startswith("TCP STATES OK: ")


@pytest.mark.parametrize("name", nrpe_commands())
def test_every_nrpe_command_is_one_that_nrpe_accepts(name: str) -> None:
    """NRPE cuts lines at 2,047 bytes and reads a dollar as the beginning of a macro."""
    line = nrpe_commands()[name]
    assert len(f"command[{name}]={line}") < 2048
    assert "$" not in line


def nagios_objects() -> list[dict[str, str]]:
    text = (ROOT / "deploy/nagios/commands.cfg").read_text(encoding="utf-8")
    objects = []
    for kind, body in re.findall(r"^define (\w+) \{\n(.*?)^\}$", text, re.MULTILINE | re.DOTALL):
        pairs = (line.split(None, 1) for line in body.splitlines())
        objects.append({"define": kind} | {key: value.strip() for key, value in pairs})
    assert len(objects) == text.count("define ")
    return objects


def test_every_nagios_service_uses_a_command_that_exists() -> None:
    commands = {entry["command_name"]: entry for entry in nagios_objects() if entry["define"] == "command"}
    checks = [entry["check_command"] for entry in nagios_objects() if "check_command" in entry]
    assert checks
    for check in checks:
        command, *arguments = check.split("!")
        line = commands[command]["command_line"]
        assert set(re.findall(r"\$ARG\d+\$", line)) == {f"$ARG{number}$" for number in range(1, len(arguments) + 1)}
        if "check_nrpe " in line:
            assert arguments[0] in nrpe_commands()


def test_every_nagios_command_that_runs_the_plugin_gets_an_answer() -> None:
    commands = {entry["command_name"]: entry["command_line"] for entry in nagios_objects() if "command_line" in entry}
    local = [entry["check_command"] for entry in nagios_objects() if "local" in entry.get("check_command", "")]
    assert local
    for check in local:
        name, *arguments = check.split("!")
        line = commands[name].replace("$USER1$", PLUGINS)
        for number, argument in enumerate(arguments, start=1):
            line = line.replace(f"$ARG{number}$", argument)
        assert answer(line)[0] == 0


def test_the_image_is_made_of_files_that_exist_and_is_not_root() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [name for names in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for name in names.split()]
    assert sorted(f"!{name}" for name in copied) == sorted(line for line in ignored if line.startswith("!"))
    assert [name for name in copied if name != "exporter" and not (ROOT / name).exists()] == []
    assert "USER 65534:65534" in text
    assert 'ENTRYPOINT ["tcp-exporter"]' in text
