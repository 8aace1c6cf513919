"""The package on a booted machine: the service as systemd runs it, reloads it, watches it and ends it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.machine.booted import Machine

pytestmark = pytest.mark.e2e
UNIT = "tcp-exporter.service"
CONFIGURATION = "/etc/tcp-exporter.yml"


@pytest.fixture
def service(machine: Machine) -> Iterator[Machine]:
    """The machine with the service started anew and ready, with the configuration that it came with."""
    kept = machine.run("cat", CONFIGURATION)
    machine.run("systemctl", "reset-failed", UNIT)  # many starts in a row are here no sign of trouble
    machine.run("systemctl", "restart", UNIT)
    assert machine.get("/-/ready") == (200, "TCP exporter is ready.\n")  # Type=notify: started is ready
    yield machine
    machine.write(CONFIGURATION, kept)
    machine.run("chmod", "644", CONFIGURATION)
    machine.shell("systemctl stop tcp-exporter.socket tcp-exporter-textfile.timer")
    machine.shell("rm -rf /run/systemd/system/tcp-exporter*; systemctl daemon-reload")


def drop_in(machine: Machine, unit: str, text: str) -> None:
    """Change a unit until the end of the test."""
    machine.write(f"/run/systemd/system/{unit}.d/test.conf", text)
    machine.run("systemctl", "daemon-reload")


def exit_code(machine: Machine, command: str, unit: str) -> int:
    """The exit code of a command of systemctl about a unit."""
    return int(machine.shell(f"{command} {unit} && echo 0 || echo $?"))


def has_status(machine: Machine, text: str) -> None:
    """Wait for a text in the status line of the service."""
    machine.wait_for(lambda: text in machine.properties(UNIT, "StatusText")["StatusText"] or None, text)


def gave_up(machine: Machine, code: int) -> bool:
    """Whether systemd leaves the service ended, after a start that failed with *code*: it plans no other."""
    shown = machine.properties(UNIT, "ActiveState", "SubState", "Result", "ExecMainStatus", "NRestarts")
    return shown == {
        "ActiveState": "failed",
        "SubState": "failed",  # auto-restart: it would try again
        "Result": "exit-code",
        "ExecMainStatus": str(code),
        "NRestarts": "0",
    }


def metrics(machine: Machine) -> dict[str, float]:
    """The metrics page: series, as they are written, to value."""
    status, page = machine.get("/metrics")
    assert status == 200, page
    lines = (line.rpartition(" ") for line in page.splitlines() if line[:1] not in {"", "#"})
    return {series: float(value) for series, _, value in lines}


def test_the_package_starts_the_service_and_it_serves_what_the_kernel_has(service: Machine) -> None:
    """The machine's own network: nobody listens there but the daemon."""
    found = metrics(service)
    assert found['tcp_connections{state="listen"}'] == 1
    assert found['tcp_listener_accept_queue_length{address="::",port="19293"}'] == 0
    assert found['tcp_exporter_reader_info{reader="netlink"}'] == 1
    sources = {series: value for series, value in found.items() if series.startswith("tcp_exporter_source_up")}
    assert set(sources.values()) == {1}, sources


def test_the_service_is_nobody_in_particular(service: Machine) -> None:
    shown = service.properties(UNIT, "MainPID")
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
    said = service.run(
        "env", "PYTHONPATH=/mnt/evil", "PYTHONHOME=/nowhere", "check_tcp_states", "--version", check=False
    )
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
    assert exit_code(service, "systemctl reload", UNIT) == 1
    failed = "tcp_exporter_config_last_reload_successful"
    service.wait_for(lambda: metrics(service)[failed] == 0 or None, "the refusal")
    assert metrics(service)[warning] == 7
    reason = f"{CONFIGURATION}:1:40: thresholds.established.crit: "
    assert f"\n{reason}" in service.journal(UNIT)
    has_status(service, f"; configuration rejected: {reason}")
    shown = service.run("systemctl", "status", "--full", "--no-pager", UNIT)
    assert re.search(r"^ +Process: .* ExecReload=.* --config.check \(code=exited, status=78\)$", shown, re.MULTILINE)
    assert reason in shown
    assert service.properties(UNIT, "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}

    service.write(CONFIGURATION, "thresholds: {established: {warning: 8}}\n")
    assert exit_code(service, "systemctl reload", UNIT) == 0
    service.wait_for(lambda: metrics(service)[warning] == 8 or None, "the mended threshold")
    service.wait_for(
        lambda: "rejected" not in service.properties(UNIT, "StatusText")["StatusText"] or None, "its status"
    )


def test_a_configuration_that_the_service_may_not_read_is_refused_with_the_way_out(service: Machine) -> None:
    """At a reload, at a start, and not to root, who may read it."""
    hint = f"{CONFIGURATION}: cannot be read: Permission denied: the service runs as a user of its own (DynamicUser=)"
    service.run("chmod", "600", CONFIGURATION)
    assert exit_code(service, "systemctl reload", UNIT) == 1
    assert f"\n{hint}: " in service.journal(UNIT)
    has_status(service, hint)
    assert service.run("tcp-exporter", "check-config", CONFIGURATION) == f"{CONFIGURATION}: valid\n"

    assert exit_code(service, "systemctl restart", UNIT) == 1
    assert gave_up(service, 78)
    service.run("chmod", "644", CONFIGURATION)
    service.run("systemctl", "start", UNIT)
    assert service.get("/-/ready")[0] == 200


def test_a_stop_is_a_clean_end(service: Machine) -> None:
    service.run("systemctl", "stop", UNIT)
    shown = service.properties(UNIT, "ActiveState", "Result", "ExecMainStatus")
    assert shown == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
    assert service.get("/metrics")[0] == 0


def test_a_service_with_a_bad_configuration_does_not_start_and_says_where_it_is_bad(service: Machine) -> None:
    service.write(CONFIGURATION, "sample: {interval: 1}\n")
    assert exit_code(service, "systemctl restart", UNIT) == 1
    assert gave_up(service, 78)
    service.wait_for(lambda: f"{CONFIGURATION}:1:20: sample.interval: " in service.journal(UNIT) or None, "the place")


def test_a_wrong_flag_does_not_restart_for_ever(service: Machine) -> None:
    drop_in(service, UNIT, "[Service]\nEnvironment=ARGS=--bananas\nEnvironmentFile=\n")
    assert exit_code(service, "systemctl restart", UNIT) == 1
    assert gave_up(service, 2)
    complaint = "tcp-exporter: unexpected arguments: --bananas; see tcp-exporter --help\n"
    service.wait_for(lambda: complaint in service.journal(UNIT) or None, "the complaint")


def test_the_watchdog_restarts_a_daemon_that_hangs(service: Machine) -> None:
    drop_in(service, UNIT, "[Service]\nWatchdogSec=5s\nRestartSec=0\n")
    service.run("systemctl", "restart", UNIT)
    stopped = service.properties(UNIT, "MainPID")
    service.run("systemctl", "kill", "--kill-who=main", "--signal=STOP", UNIT)

    service.wait_for(lambda: int(service.properties(UNIT, "NRestarts")["NRestarts"]) > 0 or None, "the restart")
    service.wait_for(lambda: service.get("/-/ready")[0] == 200 or None, "readiness")
    assert service.properties(UNIT, "MainPID") != stopped
    said = service.journal(UNIT)
    assert f"{UNIT}: Watchdog timeout (limit 5s)!\n" in said
    assert "Fatal Python error: Aborted\n" in said  # and the stacks of the threads


def test_a_connection_to_the_socket_unit_starts_the_daemon(service: Machine) -> None:
    """As the comment of the drop-in says, with the drop-in where the package has it."""
    service.run("systemctl", "stop", UNIT)
    service.shell(
        "install -D -m 644 /usr/share/doc/tcp-exporter/examples/tcp-exporter.service.d/socket.conf "
        "-t /run/systemd/system/tcp-exporter.service.d/"
    )
    service.shell("systemctl daemon-reload; systemctl start tcp-exporter.socket")
    assert service.properties(UNIT, "ActiveState") == {"ActiveState": "inactive"}

    assert service.get("/-/healthy")[0] == 200
    service.wait_for(lambda: service.get("/-/ready")[0] == 200 or None, "readiness")
    assert metrics(service)['tcp_connections{state="listen"}'] == 1
    active = {"ActiveState": "active"}
    service.wait_for(lambda: service.properties(UNIT, "ActiveState") == active or None, "the end of the start")

    service.run("systemctl", "stop", UNIT)
    assert service.properties("tcp-exporter.socket", "ActiveState") == active
    assert service.get("/-/healthy")[0] == 200  # and starts it again


def test_the_timer_writes_into_the_textfile_directory_of_node_exporter(service: Machine) -> None:
    directory = "/var/lib/prometheus/node-exporter"  # root's, as Debian has it
    service.shell(f"useradd --system prometheus; mkdir -p {directory}; chown prometheus: {directory}")
    drop_in(service, "tcp-exporter-textfile.timer", "[Timer]\nOnCalendar=\nOnCalendar=*:*:*\n")
    service.run("systemctl", "start", "tcp-exporter-textfile.timer")
    file = f"{directory}/tcp.prom"
    service.wait_for(lambda: service.run("ls", file, check=False) == f"{file}\n" or None, "the file")
    assert 'tcp_connections{state="listen"} 1.0\n' in service.run("cat", file)
    assert service.run("stat", "--format=%U %a", file) == "prometheus 644\n"
