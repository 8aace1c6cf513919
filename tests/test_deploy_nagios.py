"""What a Nagios operator copies works as it is: the NRPE commands; and Nagios takes the commands and services."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.config.schema import Config
from exporter.nagios import arguments
from tests.nagios4 import DAEMONS_FILE, NAGIOS, PLUGINS, ROOT, SERVER_FILES, SHIPPED, Site
from tests.test_readme import blocks

NETLINK_ONLY = {"accept_queue_ratio", "syn_queue_ratio"}  # a recorded /proc does not have them
PLUGIN = f"{PLUGINS}/check_tcp_states"
DEBIANS = Path("/etc/nagios4/objects")
PLUGIN_COMMANDS = Path("/etc/nagios-plugins/config")
NASTY = set("|`&><'\\[]{};\r\n")  # what NRPE refuses in a request


def nrpe_commands() -> dict[str, str]:
    lines = (SHIPPED / "nrpe.cfg").read_text(encoding="utf-8").splitlines()
    settings = [line for line in lines if line and not line.startswith("#")]
    found = [re.fullmatch(r"command\[(\w+)\]=(.+)", line) for line in settings]
    assert None not in found
    return {match[1]: match[2] for match in found if match}


def runs(line: str) -> list[str]:
    """The command lines of the plugin of which a line runs one: the second where the daemon's file is not there."""
    either = re.fullmatch(rf"if \[ -e {re.escape(DAEMONS_FILE)} \]; then (.+); else (.+); fi", line)
    return [line] if either is None else list(either.groups())


def options(line: str) -> arguments.Options:
    """What a line asks for where the daemon has no file."""
    *_, (program, *given) = (shlex.split(run) for run in runs(line))
    assert program == PLUGIN
    return arguments.parse(given)


def is_answered_by_procfs(line: str) -> bool:
    return options(line).url is None and NETLINK_ONLY.isdisjoint(options(line).measures)


def answer(line: str, root: str = "tests/fixtures/proc/quiet") -> tuple[int, str]:
    """What a line answers on a quiet host when a shell runs it as NRPE does, with almost no environment."""
    plugin = Path(sys.executable).with_name("check_tcp_states")
    command = line.replace(PLUGIN, f"'{plugin}' --path.procfs {root}")
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NRPE_MULTILINESUPPORT": "1"}
    done = subprocess.run(
        ["/bin/sh", "-c", command], env=environment, cwd=ROOT, timeout=60, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", [name for name, line in nrpe_commands().items() if is_answered_by_procfs(line)])
def test_every_nrpe_command_finds_a_quiet_host_fine(name: str) -> None:
    """Those that need netlink or a daemon are run by tests/e2e/test_nagios.py."""
    code, said = answer(nrpe_commands()[name])
    assert code == 0, said
    assert said.startswith("TCP STATES OK: ")


@pytest.mark.parametrize(("name", "also"), [("check_tcp_states", []), ("check_tcp_all", ["-v", "-s", "all"])])
def test_the_thresholds_are_the_daemons_where_its_file_is_there(name: str, also: list[str], tmp_path: Path) -> None:
    file, line = tmp_path / "tcp-exporter.yml", nrpe_commands()[name]
    here, elsewhere = ([PLUGIN, *also, "--config", DAEMONS_FILE], [PLUGIN, *also])
    assert [shlex.split(run) for run in runs(line)] == [here, elsewhere]
    line = line.replace(DAEMONS_FILE, str(file))
    assert answer(line)[1].startswith("TCP STATES OK: established 0")
    file.write_text("thresholds: {listen: {critical: 0}}\n")
    code, said = answer(line)
    assert (code, said.startswith("TCP STATES CRITICAL: listen 1 (> 0)")) == (2, True)
    file.write_text("thresholds: 7\n")
    code, said = answer(line)
    assert (code, said.startswith(f"TCP STATES UNKNOWN: {file}:1:13: thresholds: ")) == (3, True)


def test_the_daemons_file_is_where_the_package_and_the_documents_have_it() -> None:
    assert f"--config.file={DAEMONS_FILE}" in (ROOT / "debian" / "tcp-exporter.default").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", nrpe_commands())
def test_every_nrpe_command_is_fixed_and_one_that_nrpe_accepts(name: str) -> None:
    """NRPE cuts lines at 2,047 bytes, reads a dollar as a macro's beginning, and is asked by the command's name."""
    line = nrpe_commands()[name]
    assert options(line).show is None
    assert len(f"command[{name}]={line}") < 2048
    assert "$" not in line
    assert NASTY.isdisjoint(name)


def objects() -> list[dict[str, str]]:
    """The objects of all files for the Nagios server, as they are written."""
    found = []
    for name in SERVER_FILES:
        text = (SHIPPED / name).read_text(encoding="utf-8")
        bodies = re.findall(r"^define (\w+) \{\n(.*?)^\}$", text, re.MULTILINE | re.DOTALL)
        assert len(bodies) == text.count("define ")
        for kind, body in bodies:
            pairs = (line.split(None, 1) for line in body.splitlines())
            found.append({"define": kind} | {key: value.strip() for key, value in pairs})
    return found


def commands() -> dict[str, str]:
    return {entry["command_name"]: entry["command_line"] for entry in objects() if entry["define"] == "command"}


def checks() -> list[str]:
    return [entry["check_command"] for entry in objects() if "check_command" in entry]


def template(name: str) -> dict[str, str]:
    """A service template with what it inherits."""
    (found,) = [entry for entry in objects() if entry.get("name") == name]
    return (template(found["use"]) if "use" in found else {}) | found


def expanded(check: str) -> str:
    """The command line of a ``check_command``; arguments that it does not give are empty, as in Nagios."""
    command, *given = check.split("!")
    line = commands()[command].replace("$USER1$", PLUGINS).replace("$HOSTADDRESS$", "127.0.0.1")
    for number in range(1, 33):
        line = line.replace(f"$ARG{number}$", given[number - 1] if number <= len(given) else "")
    assert "$" not in line
    return line


def test_every_service_uses_a_command_that_takes_its_arguments() -> None:
    for check in checks():
        command, *given = check.split("!")
        taken = set(re.findall(r"\$ARG\d+\$", commands()[command]))
        assert {f"$ARG{number}$" for number in range(1, len(given) + 1)} <= taken, check
        if "check_nrpe " in commands()[command]:
            assert given[0] in nrpe_commands()


def test_every_service_that_runs_the_plugin_gives_it_a_command_line_that_it_takes() -> None:
    lines = [expanded(check) for check in checks() if "check_tcp_states" in commands()[check.split("!")[0]]]
    assert [line for line in lines if options(line).show] == []
    local = [line for line in lines if is_answered_by_procfs(line)]
    assert [answer(line)[0] for line in local] == [0] * len(local) != []


def test_every_command_and_template_is_used() -> None:
    assert {check.split("!")[0] for check in checks()} == set(commands())
    names = {entry["name"] for entry in objects() if "name" in entry}
    assert {entry["use"] for entry in objects() if "use" in entry} == names


def test_the_plugin_gives_up_before_check_nrpe_does() -> None:
    (line,) = [line for line in commands().values() if "check_nrpe " in line]
    (seconds,) = re.findall(r" -t (\d+):UNKNOWN ", line)
    assert [options(command).timeout < int(seconds) for command in nrpe_commands().values()] == [True] * len(
        nrpe_commands()
    )


def test_the_peak_window_covers_the_time_between_two_checks() -> None:
    assert int(template("tcp-service")["check_interval"]) * 60 <= Config().sample.peak_window


def test_trouble_is_told_to_more_people_an_hour_after_it_was_first_told() -> None:
    (escalation,) = [entry for entry in objects() if entry["define"] == "serviceescalation"]
    until = (int(escalation["first_notification"]) - 1) * int(template("tcp-service")["notification_interval"])
    assert (until, int(escalation["notification_interval"])) == (60, 15)
    assert template("tcp-service")["contact_groups"] in escalation["contact_groups"].split(",")


def verify(main: Path) -> tuple[int, list[str]]:
    """The exit code of ``nagios4 -v``, and its lines that speak of trouble and of totals."""
    if NAGIOS is None:
        pytest.skip("nagios4 is not installed")
    done = subprocess.run([NAGIOS, "-v", str(main)], capture_output=True, text=True, timeout=60, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return done.returncode, [line for line in lines if re.match(r"(Error|Warning|Total )", line)]


@pytest.mark.e2e
def test_nagios_accepts_all_that_is_shipped(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.write(SERVER_FILES, {"localhost": "", "with-nrpe": "tcp-hosts,tcp-daemons", "without-nrpe": "tcp-by-daemon"})
    assert verify(site.main) == (0, ["Total Warnings: 0", "Total Errors:   0"])


@pytest.mark.e2e
def test_debians_nagios_accepts_its_own_checks_as_they_are_copied(tmp_path: Path) -> None:
    """The contact group, the time period and the host that we name are those of Debian's own files."""
    if not DEBIANS.exists() or not any(PLUGIN_COMMANDS.glob("ping.cfg")):
        pytest.skip("nagios4-core and monitoring-plugins-basic are not installed")
    site = Site(tmp_path)
    site.write(["commands.cfg", "templates.cfg", "localhost.cfg"], {})
    (tmp_path / "objects" / "site.cfg").unlink()
    with site.main.open("a") as main:
        names = ("commands", "contacts", "timeperiods", "templates", "localhost")
        main.writelines(f"cfg_file={DEBIANS}/{name}.cfg\n" for name in names)
        main.write(f"cfg_dir={PLUGIN_COMMANDS}\n")
    assert verify(site.main) == (0, ["Total Warnings: 0", "Total Errors:   0"])


@pytest.mark.e2e
def test_the_block_of_the_plugins_page_makes_a_configuration_that_debians_nagios_accepts(tmp_path: Path) -> None:
    if not DEBIANS.exists() or not any(PLUGIN_COMMANDS.glob("ping.cfg")):
        pytest.skip("nagios4-core and monitoring-plugins-basic are not installed")
    site = Site(tmp_path)
    site.write([], {})
    (tmp_path / "objects" / "site.cfg").unlink()
    (block,) = [text for text in blocks("docs/plugin.md", "sh") if "nagios4 -v " in text]
    packages, _, rest = block.partition("\n")
    copying, _, _ = rest.partition("nagios4 -v ")
    assert packages.startswith("apt-get install nagios4 ")
    script = copying.replace("/etc/nagios4/conf.d", str(tmp_path / "objects"))
    subprocess.run(["/bin/sh", "-euc", script], cwd=ROOT, check=True)
    with site.main.open("a") as main:
        main.writelines(
            f"cfg_file={DEBIANS}/{name}.cfg\n" for name in ("commands", "contacts", "timeperiods", "templates")
        )
        main.write(f"cfg_dir={PLUGIN_COMMANDS}\n")
    assert verify(site.main) == (0, ["Total Warnings: 0", "Total Errors:   0"])


@pytest.mark.e2e
def test_nagios_refuses_what_is_broken(tmp_path: Path) -> None:
    """So that the tests above mean something."""
    site = Site(tmp_path)
    site.write([name for name in SERVER_FILES if name != "commands.cfg"], {"localhost": ""})
    code, said = verify(site.main)
    assert (code, said != []) == (1, True)
