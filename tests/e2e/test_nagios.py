"""A real Nagios 4 with a real NRPE, on the files of deploy/nagios as they are shipped, over real connections."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter.measures import STATES
from tests.e2e.conftest import Daemon, wait_for
from tests.lab import LabProcess
from tests.nagios4 import NAGIOS, PLUGINS, SERVER_FILES, SHIPPED, Service, Site

NRPE = shutil.which("nrpe", path="/usr/sbin:/usr/bin")
CHECK_NRPE = f"{PLUGINS}/check_nrpe"
PORT = 19293  # the daemon's, which the shipped lines name; free in a namespace of our own
WAIT = 150.0  # seconds for a few checks that take one each: only a hang reaches it
OWN = 2  # check_nrpe's own connection is established, and both its ends are in the namespace
OK, WARNING, CRITICAL, UNKNOWN = range(4)

# Beside what is shipped: a host whose procfs is not to be read.
UNREADABLE = """\
define service {
    use                     tcp-service
    host_name               with-nrpe
    service_description     TCP unreadable
    check_command           check_nrpe_tcp!check_tcp_unreadable
}
"""


class Running:
    """A Nagios in the lab, waited for by its status file."""

    def __init__(self, site: Site, log: Path) -> None:
        self.site = site
        self._log = log

    def wait(self, found: Callable[[dict[tuple[str, str], Service]], bool], what: str) -> dict[tuple[str, str], Service]:
        try:
            return wait_for(lambda: services if found(services := self.site.services()) else None, what, WAIT)
        except AssertionError as error:
            raise AssertionError(f"{error}; status: {self.site.services()}; it said: {self._log.read_text()}") from None

    def says(self, service: str, output: str, *, hard: bool = False) -> Service:
        """The state of *service* of the host with NRPE once its output is the given one, without the data."""
        key = ("with-nrpe", service)
        found = self.wait(
            lambda it: key in it and it[key].output == output and (it[key].hard or not hard), f"{service}: {output}"
        )
        return found[key]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that the user nagios may read and, in its ``var``, write."""
    if NAGIOS is None or NRPE is None or not os.path.exists(CHECK_NRPE):
        pytest.skip("nagios4-core, nagios-nrpe-server and nagios-nrpe-plugin are not all installed")
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    return tmp_path


@pytest.fixture
def plugins(folder: Path, anyones_python: str) -> Path:
    """What $USER1$ is on a host where both plugins are installed."""
    plugins = folder / "plugins"
    plugins.mkdir()
    (plugins / "check_nrpe").symlink_to(CHECK_NRPE)
    plugin = plugins / "check_tcp_states"
    plugin.write_text(f"#!{anyones_python} -I\nfrom exporter.nagios.check import main\n\nmain()\n")
    plugin.chmod(0o755)
    return plugins


@pytest.fixture
def daemon(lab: LabProcess, tmp_path: Path) -> Iterator[Daemon]:
    config = tmp_path / "tcp-exporter.yml"
    config.write_text("sysctl:\n  expected:\n    tcp_fin_timeout: 60\n")
    address = ("--web.listen-address", f"127.0.0.1:{PORT}")
    with Daemon(tmp_path / "daemon.log", "--config.file", str(config), *address, lab=lab) as daemon:
        yield daemon.ready()


@pytest.fixture
def nrpe(lab: LabProcess, folder: Path, plugins: Path) -> Iterator[None]:
    """NRPE with the shipped file, on its own port, with TLS as Debian has it."""
    shipped = (SHIPPED / "nrpe.cfg").read_text(encoding="utf-8").replace(PLUGINS, str(plugins))
    unreadable = f"command[check_tcp_unreadable]={plugins}/check_tcp_states --path.procfs /nowhere\n"
    config = folder / "nrpe.cfg"
    config.write_text(
        "server_address=127.0.0.1\nallowed_hosts=127.0.0.1\nnrpe_user=nagios\nnrpe_group=nagios\ndont_blame_nrpe=0\n"
        f"pid_file={folder}/nrpe.pid\n{shipped}\n{unreadable}"
    )
    with (folder / "nrpe.log").open("w") as log:
        process = lab.popen([str(NRPE), "-c", str(config), "-f"], stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: lab.run([CHECK_NRPE, "-H", "127.0.0.1"]).returncode == 0 or None, "NRPE")
        yield
    finally:
        process.kill()
        process.wait(WAIT)


@pytest.fixture
def nagios(lab: LabProcess, folder: Path, plugins: Path, daemon: Daemon, nrpe: None) -> Iterator[Running]:
    site = Site(folder / "nagios")
    hosts = {"localhost": "", "with-nrpe": "tcp-hosts,tcp-daemons", "without-nrpe": "tcp-by-daemon"}
    site.write(SERVER_FILES, hosts, more=UNREADABLE, plugins=str(plugins), unit=1)
    for path in (site.folder / "var", site.folder / "var" / "results"):
        shutil.chown(path, "nagios", "nagios")
    log = folder / "nagios.out"
    with log.open("w") as said:
        process = lab.popen([str(NAGIOS), str(site.main)], stdout=said, stderr=subprocess.STDOUT)
    try:
        yield Running(site, log)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(WAIT)


def data(text: str) -> dict[str, str]:
    """Performance data by label."""
    return dict(item.split("=", 1) for item in text.split())


@pytest.mark.lab
@pytest.mark.e2e
def test_nagios_shows_what_the_kernel_has_and_what_cannot_be_read(
    lab: LabProcess, daemon: Daemon, nagios: Running
) -> None:
    lab.establish(100)
    says = nagios.says
    ok = says("TCP states", f"TCP STATES OK: established {100 + OWN}")
    assert ok.state == OK

    # Every service that is shipped has its answer. The limits of orphans and memory are the host's: a namespace does not
    # see them, and what is not known is not fine.
    everything = nagios.wait(lambda it: all(one.state >= 0 for one in it.values()) and it != {}, "all services")
    assert {key: one.state for key, one in everything.items()} == {
        ("localhost", "TCP states"): OK,
        ("localhost", "TCP queues"): OK,
        ("with-nrpe", "TCP states"): OK,
        ("with-nrpe", "TCP trouble"): OK,
        ("with-nrpe", "TCP limits"): UNKNOWN,
        ("with-nrpe", "TCP queues"): OK,
        ("with-nrpe", "TCP listeners"): OK,
        ("with-nrpe", "TCP peak"): OK,
        ("with-nrpe", "TCP sysctls"): OK,
        ("with-nrpe", "TCP unreadable"): UNKNOWN,
        ("without-nrpe", "TCP peak"): OK,
        ("without-nrpe", "TCP limits"): UNKNOWN,
        ("without-nrpe", "TCP queues"): OK,
        ("without-nrpe", "TCP sysctls"): OK,
    }
    assert everything["with-nrpe", "TCP unreadable"].output.startswith(
        "TCP STATES UNKNOWN: established unknown: /nowhere/net/snmp: No such file or directory"
    )

    # The performance data arrives whole: eleven states, with the thresholds.
    assert list(data(ok.data)) == list(STATES)
    assert data(ok.data)["established"] == f"{100 + OWN};600;800;0;"
    assert data(ok.data)["closing"] == "0;;;0;"

    lab.establish(600)
    warning = says("TCP states", f"TCP STATES WARNING: established {700 + OWN} (> 600)", hard=True)
    assert (warning.state, data(warning.data)["established"]) == (WARNING, f"{700 + OWN};600;800;0;")

    lab.establish(200)
    critical = says("TCP states", f"TCP STATES CRITICAL: established {900 + OWN} (> 800)", hard=True)
    assert (critical.state, data(critical.data)["established"]) == (CRITICAL, f"{900 + OWN};600;800;0;")

    # What is over is OK at once, and stays in the daemon's peaks for a minute.
    peaks = nagios.wait(lambda it: it["with-nrpe", "TCP peak"].state == CRITICAL, "a critical peak")
    assert re.match(r"TCP STATES CRITICAL: established 9\d\d \(> 800\)$", peaks["with-nrpe", "TCP peak"].output)
    lab.release(800)
    assert says("TCP states", f"TCP STATES OK: established {100 + OWN}").state == OK

    # A daemon that is gone is UNKNOWN, and nothing else changes.
    assert daemon.terminate() == 0
    gone = nagios.wait(lambda it: it["with-nrpe", "TCP peak"].state == UNKNOWN, "the daemon to be missed")
    assert gone["with-nrpe", "TCP peak"].output.startswith(f"TCP STATES UNKNOWN: http://127.0.0.1:{PORT}")
    assert gone["with-nrpe", "TCP states"].state == OK
