"""The package on a booted machine: the service as systemd runs it, reloads it, watches it and ends it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.machine.booted import Machine

UNIT = "tcp-exporter.service"
CONFIGURATION = "/etc/tcp-exporter.yml"


@pytest.fixture
def service(machine: Machine) -> Iterator[Machine]:
    """The machine with the service started anew and ready, with the configuration that it came with."""
    kept = machine.run("cat", CONFIGURATION)
    machine.run("systemctl", "restart", UNIT)
    ready(machine)
    yield machine
    machine.write(CONFIGURATION, kept)


def ready(machine: Machine) -> None:
    machine.wait_for(lambda: machine.get("/-/ready")[0] == 200 or None, "readiness")


def metrics(machine: Machine) -> dict[str, float]:
    """The metrics page: series, as they are written, to value."""
    status, page = machine.get("/metrics")
    assert status == 200, page
    lines = (line.rpartition(" ") for line in page.splitlines() if line[:1] not in {"", "#"})
    return {series: float(value) for series, _, value in lines}


def test_the_package_starts_the_service_and_it_serves_what_the_kernel_has(service: Machine) -> None:
    """The machine's own network: it listens, and nobody is connected but who asks."""
    found = metrics(service)
    assert found['tcp_connections{state="listen"}'] == 1
    assert found['tcp_exporter_source_up{source="netlink"}'] == 1
    assert found['tcp_unit_connections{state="listen",unit="tcp-exporter.service"}'] == 1


def test_the_service_is_nobody_in_particular(service: Machine) -> None:
    shown = service.properties(UNIT, "MainPID", "ActiveState")
    status = service.run("cat", f"/proc/{shown['MainPID']}/status")
    uid = re.findall(r"^Uid:\t(\d+)", status, re.MULTILINE)[0]
    assert 61184 <= int(uid) <= 65519  # systemd's range for DynamicUser
    assert re.findall(r"^Cap(?:Eff|Prm|Bnd|Amb):\t(\w+)$", status, re.MULTILINE) == ["0000000000000000"] * 4


def test_the_plugin_is_where_nagios_looks_and_needs_no_rights(service: Machine) -> None:
    said = service.run(
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs",
        "/usr/lib/nagios/plugins/check_tcp_states",
    )  # fmt: skip
    assert said.startswith("TCP STATES OK: ")


def test_no_variable_of_the_environment_changes_what_the_plugin_runs(service: Machine) -> None:
    service.write("/mnt/evil/exporter/__init__.py", "raise SystemExit('not ours')")
    said = service.run("env", "PYTHONPATH=/mnt/evil", "PYTHONHOME=/nowhere", "check_tcp_states", "--version", check=False)
    assert re.fullmatch(r"check_tcp_states [\d.]+\n", said)


def test_every_module_is_compiled_when_it_is_installed(service: Machine) -> None:
    """The users who run the programs may not write here: they would compile everything at each start."""
    said = service.shell("find /usr/lib/tcp-exporter -name '*.py' -o -name '*.pyc'")
    sources = {path for path in said.split() if path.endswith(".py")}
    compiled = {re.sub(r"__pycache__/(\w+)\.cpython-\d+\.pyc$", r"\1.py", path) for path in said.split()} - sources
    assert sources != set()
    assert compiled == set()
    assert len(said.split()) == 2 * len(sources)


def test_a_reload_takes_a_good_configuration_and_refuses_a_bad_one(service: Machine) -> None:
    warning = 'tcp_threshold{measure="established",severity="warning"}'
    assert metrics(service)[warning] == 600

    service.write(CONFIGURATION, "thresholds: {established: {warning: 7}}\n")
    service.run("systemctl", "reload", UNIT)
    service.wait_for(lambda: metrics(service)[warning] == 7 or None, "the new threshold")
    assert metrics(service)["tcp_exporter_config_last_reload_successful"] == 1

    service.write(CONFIGURATION, "thresholds: {established: {warning: 7, crit: 8}}\n")
    service.run("systemctl", "reload", UNIT, check=False)
    failed = "tcp_exporter_config_last_reload_successful"
    service.wait_for(lambda: metrics(service)[failed] == 0 or None, "the refusal")
    assert metrics(service)[warning] == 7
    assert f"{CONFIGURATION}:1:40: thresholds.established.crit: " in service.journal(UNIT)
    assert service.properties(UNIT, "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}


def test_a_stop_is_a_clean_end(service: Machine) -> None:
    service.run("systemctl", "stop", UNIT)
    shown = service.properties(UNIT, "ActiveState", "Result", "ExecMainStatus")
    assert shown == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
    assert service.get("/metrics")[0] == 0
