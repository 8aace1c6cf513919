"""A real Icinga 2 on the files of deploy/icinga: it takes them as they are shipped, and its checks show real counts."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from exporter.tcpstate import BY_LABEL
from tests.e2e.conftest import anyones_folder, wait_for
from tests.e2e.test_advice import FULL, STANDING_QUEUE, hold
from tests.e2e.test_nagios import running_daemon, running_nrpe
from tests.lab import LabProcess
from tests.nagios4 import PLUGINS, install_plugins, open_to_nagios
from tests.test_deploy_icinga import SHIPPED

ICINGA = shutil.which("icinga2", path="/usr/sbin:/usr/bin")
WAIT = 150.0  # seconds for a few checks that take one each: only a hang reaches it
FEW = 60  # the checks' own connections are established too
BY_PLUGIN = ("local", "agent", "daemon")

# What a site has of its own: Icinga's library, hosts and, for the tests, where the results go.
SITE = """\
const NodeName = "localhost"
const ZoneName = NodeName
const PluginDir = "{plugins}"
const PluginContribDir = "{plugins}"
include <itl>
include <plugins>
object Endpoint NodeName {{ }}
object Zone ZoneName {{ endpoints = [ NodeName ] }}
object Endpoint "agent1" {{ }}
object Zone "agent1" {{
  endpoints = [ "agent1" ]
  parent = ZoneName
}}
object CheckerComponent "checker" {{ }}
object PerfdataWriter "results" {{
  service_perfdata_path = "{var}/result"
  service_temp_path = "{var}/next-result"
  host_perfdata_path = "{var}/host"
  host_temp_path = "{var}/next-host"
  service_format_template = "$host.name$\\t$service.name$\\t$service.state_id$\\t$service.output$\\t$service.perfdata$"
  rotation_interval = 1
}}
{hosts}
include "{folder}/tcp-states-command.conf"
include "{folder}/tcp-states-services.conf"
"""
HOST = """\
object Host "by-{by}" {{
  check_command = "dummy"
  address = "127.0.0.1"
  vars.tcp_states_by = "{by}"
  {more}
}}
"""


_RESULT = re.compile(r"^(by-\w+)\t([\w-]+)\t(\d)\t([^\t\n]+)(?:\n[^\t]*)?\t([^\t\n]*)$", re.MULTILINE)


class Result(NamedTuple):
    """The result of one check, as Icinga has it: ``output`` is its first line."""

    state: int
    output: str
    data: str


class Site(NamedTuple):
    """A folder with an Icinga's whole configuration and, once it runs, the results of its checks."""

    folder: Path

    def write(self, by: Mapping[str, str], plugins: str = PLUGINS, change: Callable[[str], str] = str) -> None:
        """Write it for a host *by* each way, with what else it says; *change* changes the shipped files."""
        var = self.folder / "var"
        var.mkdir()
        open_to_nagios(self.folder)
        shutil.chown(var, "nagios", "nagios")
        for file in SHIPPED.glob("*.conf"):
            (self.folder / file.name).write_text(change(file.read_text(encoding="utf-8")))
        hosts = "".join(HOST.format(by=name, more=more) for name, more in by.items())
        text = SITE.format(plugins=plugins, var=var, folder=self.folder, hosts=hosts)
        (self.folder / "icinga2.conf").write_text(text)

    def command(self, *options: str) -> list[str]:
        """The daemon's command line, with everything that it writes in our folder."""
        var = self.folder / "var"
        places = {"DataDir": var, "LogDir": var, "CacheDir": var, "SpoolDir": var, "InitRunDir": var}
        defined = [f"-DConfiguration.{name}={place}" for name, place in places.items()]
        return [str(ICINGA), "daemon", "-c", str(self.folder / "icinga2.conf"), *defined, *options]

    def results(self) -> dict[tuple[str, str], Result]:
        """The last result by host and service."""
        found = {}
        for file in sorted((self.folder / "var").glob("result*"), key=lambda path: path.stat().st_mtime_ns):
            for host, service, state, output, data in _RESULT.findall(file.read_text(encoding="utf-8")):
                found[host, service] = Result(int(state), output, data)
        return found


@pytest.fixture
def site() -> Iterator[Site]:
    if ICINGA is None:
        pytest.skip("icinga2-bin is not installed")
    if os.getuid() != 0:
        pytest.skip("only root may start Icinga as the user nagios")
    with anyones_folder() as folder:
        yield Site(folder)


def validate(site: Site) -> tuple[int, list[str]]:
    """The exit code of ``icinga2 daemon -C``, and its lines of warning and worse."""
    done = subprocess.run(site.command("-C"), capture_output=True, text=True, timeout=WAIT, check=False)
    return done.returncode, re.findall(r"\] (?:warning|critical)/.+", done.stdout + done.stderr)


@pytest.mark.e2e
def test_icinga_accepts_the_files_as_they_are_shipped(site: Site) -> None:
    site.write({"local": "", "agent": 'zone = ZoneName\n  vars.agent_endpoint = "agent1"', "nrpe": "", "daemon": ""})
    assert validate(site) == (0, [])
    listed = subprocess.run(
        [str(ICINGA), "object", "list", "--type", "Service", f"-DConfiguration.CacheDir={site.folder / 'var'}"],
        capture_output=True, text=True, timeout=WAIT, check=False,
    ).stdout  # fmt: skip
    services = ("tcp-findings", "tcp-limits", "tcp-queues", "tcp-states", "tcp-trouble")
    assert sorted(re.findall(r"^Object '(\S+)' of type 'Service'", listed, re.MULTILINE)) == sorted(
        [f"by-{by}!{service}" for by in (*BY_PLUGIN, "nrpe") for service in services]
        + ["by-daemon!tcp-health", "by-daemon!tcp-sysctls"]
    )
    assert re.findall(r'^  \* command_endpoint = "(\w+)"', listed, re.MULTILINE) == ["agent1"] * 5


@pytest.mark.e2e
def test_icinga_refuses_what_is_broken(site: Site) -> None:
    """So that the test above means something."""
    site.write(
        {"local": ""}, change=lambda text: text.replace('check_command = "tcp_states"', 'check_command = "tcp_staets"')
    )
    code, said = validate(site)
    assert (code, said != []) == (1, True)


@pytest.fixture
def icinga(lab: LabProcess, site: Site, anyones_python: str) -> Iterator[Site]:
    """It runs beside a daemon and NRPE, with the intervals of its services in seconds."""
    plugins = install_plugins(site.folder, anyones_python)
    site.write(
        {"local": "", "daemon": "", "nrpe": ""},
        plugins=str(plugins),
        change=lambda text: re.sub(r"_interval = \d+[mh]", "_interval = 2s", text),
    )
    log = site.folder / "icinga2.out"
    with (
        running_daemon(lab, site.folder, fin_timeout=30),
        running_nrpe(lab, site.folder, plugins),
        log.open("w") as out,
    ):
        process = lab.popen(site.command(), stdout=out, stderr=subprocess.STDOUT)
        try:
            yield site
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(WAIT)


@pytest.mark.lab
@pytest.mark.e2e
def test_icinga_shows_what_the_kernel_has(lab: LabProcess, icinga: Site) -> None:
    def shows(status: str, least: int) -> None:
        def found() -> Result | None:
            result = icinga.results().get(("by-local", "tcp-states"))
            number = re.search(r" established (\d+)", result.output if result else "")
            return result if number and least <= int(number[1]) <= least + FEW else None

        try:
            result = wait_for(found, f"{least} connections", WAIT)
        except AssertionError as error:
            said = (icinga.folder / "icinga2.out").read_text()
            raise AssertionError(f"{error}; results: {icinga.results()}; it said: {said}") from None
        assert result.state == ("OK", "WARNING", "CRITICAL").index(status)
        assert result.output.startswith(f"TCP STATES {status}: established ")
        labels = [item.partition("=")[0] for item in result.data.split()]
        assert labels == list(BY_LABEL)
        assert re.match(rf"established={least // 100}\d\d;600;800;0", result.data)

    lab.establish(100)
    shows("OK", 100)
    lab.establish(600)
    shows("WARNING", 700)
    lab.establish(200)
    shows("CRITICAL", 900)

    # A namespace does not see the limits of orphans and memory, which are the host's.
    states = {"tcp-states": 2, "tcp-findings": 1, "tcp-trouble": 0, "tcp-limits": 3, "tcp-queues": 2}
    expected = {(f"by-{by}", service): state for by in ("local", "daemon", "nrpe") for service, state in states.items()}
    expected |= {("by-daemon", "tcp-sysctls"): 1, ("by-daemon", "tcp-health"): 2}
    hold(lab, STANDING_QUEUE.format(backlog=16))

    def all_as_expected() -> dict[tuple[str, str], Result] | None:
        found = icinga.results()
        return found if {key: result.state for key, result in found.items()} == expected else None

    results = wait_for(all_as_expected, f"{expected}", WAIT)
    (line,) = {results[f"by-{by}", "tcp-findings"].output.rstrip() for by in ("local", "daemon", "nrpe")}
    assert line.startswith(f"TCP STATES WARNING: findings 1 ({FULL}")
    drift = results["by-daemon", "tcp-sysctls"]
    assert drift.output.rstrip() == "TCP STATES WARNING: sysctl 1 (> 0): tcp_fin_timeout"
