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

from exporter.tcpstate import BY_LABEL
from tests.e2e.conftest import Daemon, anyones_folder, wait_for
from tests.e2e.test_advice import FULL, STANDING_QUEUE, hold
from tests.lab import LabProcess
from tests.nagios4 import (
    DAEMONS_FILE,
    NAGIOS,
    PLUGINS,
    SERVER_FILES,
    SHIPPED,
    Service,
    Site,
    install_plugins,
)

NRPE = shutil.which("nrpe", path="/usr/sbin:/usr/bin")
CHECK_NRPE = f"{PLUGINS}/check_nrpe"
PORT = 19293  # the daemon's, which the shipped lines name; free in a namespace of our own
WAIT = 150.0  # seconds for a few checks that take one each: only a hang reaches it
FEW = 60  # the checks' own connections are established too, and both ends of each are in the namespace
CODES = {"OK": 0, "WARNING": 1, "CRITICAL": 2, "UNKNOWN": 3}
OK, WARNING, CRITICAL, UNKNOWN = CODES.values()

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
        self._site = site
        self._log = log

    def wait(
        self, found: Callable[[dict[tuple[str, str], Service]], bool], what: str
    ) -> dict[tuple[str, str], Service]:
        try:
            return wait_for(lambda: services if found(services := self._site.services()) else None, what, WAIT)
        except AssertionError as error:
            raise AssertionError(
                f"{error}; status: {self._site.services()}; it said: {self._log.read_text()}"
            ) from None

    def shows(self, status: str, least: int, *, hard: bool = False) -> None:
        """Wait until "TCP states" by NRPE is *status* with *least* connections and a few of the checks."""
        key = ("with-nrpe", "TCP states")
        found = self.wait(
            lambda it: key in it and least <= established(it[key]) <= least + FEW and (it[key].hard or not hard),
            f"{least} connections",
        )[key]
        text, number = found.output, established(found)
        reason = {"WARNING": " (> 600)", "CRITICAL": " (> 800)"}.get(status, "")
        assert (found.state, text) == (CODES[status], f"TCP STATES {status}: established {number}{reason}")
        # The performance data arrives whole: eleven states, with the thresholds.
        assert list(data(found.data)) == list(BY_LABEL)
        assert data(found.data)["established"] == f"{number};600;800;0;"
        assert data(found.data)["closing"] == "0;;;0;"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the user nagios may read, also while another session of pytest begins."""
    if NAGIOS is None:
        pytest.skip("nagios4-core is not installed")
    if os.getuid() != 0:
        pytest.skip("only root may start Nagios and NRPE as the user nagios")
    with anyones_folder() as folder:
        yield folder


@pytest.fixture
def plugins(folder: Path, anyones_python: str) -> Path:
    return install_plugins(folder, anyones_python)


@contextlib.contextmanager
def running_daemon(lab: LabProcess, folder: Path, fin_timeout: int) -> Iterator[Daemon]:
    """The daemon on the port that the shipped files name; it expects *fin_timeout* of the sysctl, which is 60."""
    config = folder / "tcp-exporter.yml"
    config.write_text(f"sysctl:\n  expected:\n    tcp_fin_timeout: {fin_timeout}\n")
    address = ("--web.listen-address", f"127.0.0.1:{PORT}")
    with Daemon(folder / "daemon.log", "--config.file", str(config), *address, lab=lab) as daemon:
        yield daemon.ready()


@contextlib.contextmanager
def running_nrpe(
    lab: LabProcess, folder: Path, plugins: Path, more: str = "", daemons_file: Path | None = None
) -> Iterator[None]:
    """NRPE with the shipped file and *more* commands, on its own port, with TLS as Debian has it.

    It looks for the daemon's configuration at *daemons_file*, and not at a file that this machine may have.
    """
    if NRPE is None or not os.path.exists(CHECK_NRPE):
        pytest.skip("nagios-nrpe-server and nagios-nrpe-plugin are not installed")
    shipped = (SHIPPED / "nrpe.cfg").read_text(encoding="utf-8").replace(PLUGINS, str(plugins))
    shipped = shipped.replace(DAEMONS_FILE, str(daemons_file or folder / "none.yml"))
    config = folder / "nrpe.cfg"
    config.write_text(
        "server_address=127.0.0.1\nallowed_hosts=127.0.0.1\nnrpe_user=nagios\nnrpe_group=nagios\ndont_blame_nrpe=0\n"
        f"pid_file={folder}/nrpe.pid\n{shipped}\n{more}"
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
def daemon(lab: LabProcess, tmp_path: Path) -> Iterator[Daemon]:
    with running_daemon(lab, tmp_path, fin_timeout=60) as daemon:
        yield daemon


@pytest.fixture
def nrpe(lab: LabProcess, folder: Path, plugins: Path) -> Iterator[None]:
    unreadable = f"command[check_tcp_unreadable]={plugins}/check_tcp_states --path.procfs /nowhere\n"
    with running_nrpe(lab, folder, plugins, unreadable):
        yield


@pytest.fixture
def nagios(lab: LabProcess, folder: Path, plugins: Path, daemon: Daemon, nrpe: None) -> Iterator[Running]:
    site = Site(folder / "nagios")
    hosts = {"localhost": "", "with-nrpe": "tcp-hosts,tcp-daemons", "without-nrpe": "tcp-by-daemon"}
    site.write(SERVER_FILES, hosts, more=UNREADABLE, plugins=str(plugins), unit=2)
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


def established(service: Service) -> int:
    """How many it found; -1 where it found none."""
    found = re.search(r" established (\d+)", service.output)
    return int(found[1]) if found else -1


@pytest.mark.lab
@pytest.mark.e2e
@pytest.mark.long
def test_nagios_shows_what_the_kernel_has_and_what_cannot_be_read(
    lab: LabProcess, daemon: Daemon, nagios: Running
) -> None:
    lab.establish(100)
    nagios.shows("OK", 100)

    # Every service that is shipped has its answer. The limits of orphans and memory are the host's: a namespace does
    # not see them, and what is not known is not fine.
    expected = {
        ("localhost", "TCP states"): OK,
        ("localhost", "TCP findings"): OK,
        ("localhost", "TCP queues"): OK,
        ("with-nrpe", "TCP states"): OK,
        ("with-nrpe", "TCP findings"): OK,
        ("with-nrpe", "TCP trouble"): OK,
        ("with-nrpe", "TCP limits"): UNKNOWN,
        ("with-nrpe", "TCP queues"): OK,
        ("with-nrpe", "TCP listeners"): OK,
        ("with-nrpe", "TCP health"): OK,
        ("with-nrpe", "TCP peak"): OK,
        ("with-nrpe", "TCP sysctls"): OK,
        ("with-nrpe", "TCP unreadable"): UNKNOWN,
        ("without-nrpe", "TCP health"): OK,
        ("without-nrpe", "TCP findings"): OK,
        ("without-nrpe", "TCP peak"): OK,
        ("without-nrpe", "TCP limits"): UNKNOWN,
        ("without-nrpe", "TCP queues"): OK,
        ("without-nrpe", "TCP sysctls"): OK,
    }
    everything = nagios.wait(lambda it: {key: one.state for key, one in it.items()} == expected, f"{expected}")
    assert everything["with-nrpe", "TCP unreadable"].output.startswith(
        "TCP STATES UNKNOWN: established unknown: /nowhere/net/snmp: No such file or directory"
    )

    lab.establish(600)
    nagios.shows("WARNING", 700, hard=True)
    lab.establish(200)
    nagios.shows("CRITICAL", 900, hard=True)

    # What is over is OK at once, and stays in the daemon's peaks for a minute.
    peak = nagios.wait(lambda it: established(it["with-nrpe", "TCP peak"]) >= 900, "the peak")
    assert peak["with-nrpe", "TCP peak"].state == CRITICAL
    lab.release(800)
    nagios.shows("OK", 100)

    # A full accept queue is a finding for every consumer; and the daemon's own verdict.
    hold(lab, STANDING_QUEUE.format(backlog=16))
    findings = [("localhost", "TCP findings"), ("with-nrpe", "TCP findings"), ("without-nrpe", "TCP findings")]
    found = nagios.wait(
        lambda it: all(it[key].output.startswith(f"TCP STATES WARNING: findings 1 ({FULL}") for key in findings),
        "the finding everywhere",
    )
    (line,) = {found[key].output for key in findings}
    assert [found[key].state for key in findings] == [WARNING] * 3
    assert {data(found[key].data)["findings"] for key in findings} == {"1;;;0;"}
    nagios.wait(lambda it: it["with-nrpe", "TCP health"].output == line, "the daemon's verdict")

    # A daemon that is gone is UNKNOWN, and nothing else changes.
    assert daemon.terminate() == 0
    gone = nagios.wait(lambda it: it["with-nrpe", "TCP peak"].state == UNKNOWN, "the daemon to be missed")
    assert gone["with-nrpe", "TCP peak"].output.startswith(f"TCP STATES UNKNOWN: http://127.0.0.1:{PORT}")
    assert gone["with-nrpe", "TCP states"].state == OK
