"""Whose connections: ports, families, listeners, queues, units and ephemeral ports against sockets that were made."""

from __future__ import annotations

import json
import os
import socket
import sys
import textwrap
from pathlib import Path

import pytest

from exporter.kernel.cgroupfs import Cgroups
from tests.e2e.conftest import PLUGIN, PROGRAM, Daemon, by_state, wait_for
from tests.lab import LabProcess

pytestmark = pytest.mark.lab


def dumped(lab: LabProcess, *arguments: str) -> dict[str, float]:
    """The series of one ``dump`` in the lab's namespace."""
    done = lab.run([*PROGRAM, "dump", *arguments])
    assert done.returncode == 0, done.stderr
    lines = (line.rpartition(" ") for line in done.stdout.splitlines() if line[:1] not in {"", "#"})
    return {series: float(value) for series, _, value in lines}


def nonzero(series: dict[str, float], family: str) -> dict[str, float]:
    start = family + "{"
    return {name.removeprefix(family): value for name, value in series.items() if name.startswith(start) and value}


def hold(lab: LabProcess, script: str, ready: str = "ready") -> None:
    """Run a Python program in the lab's namespace that says *ready* and then waits; it ends with the lab."""
    program = textwrap.dedent(script) + "\nprint('ready', flush=True)\nimport time\ntime.sleep(600)\n"
    process = lab.popen([sys.executable, "-c", program])
    assert process.stdout is not None
    assert process.stdout.readline() == ready + "\n"


@pytest.mark.parametrize("reader", ["netlink", "procfs"])
def test_families_and_ports_are_exact(populated: LabProcess, reader: str) -> None:
    series = dumped(populated, "--reader", reader)
    expected = {
        f'{{family="{family}",state="{state}"}}': float(number)
        for family, counts in populated.expected_by_family().items()
        for state, number in counts.items()
        if number
    }
    assert nonzero(series, "tcp_family_connections") == expected
    total: dict[str, float] = {}
    for name, number in nonzero(series, "tcp_port_connections").items():
        state = name.partition('state="')[2].rstrip('"}')
        total[state] = total.get(state, 0) + number
    assert total == {state: float(number) for state, number in populated.expected().items() if number}


def test_connections_are_counted_by_the_port_of_their_listener_and_configured_ports_always(
    lab: LabProcess, tmp_path: Path
) -> None:
    hold(
        lab,
        """
        import socket
        one = socket.create_server(("127.0.0.1", 8080)); two = socket.create_server(("127.0.0.1", 8443))
        ends = [socket.create_connection(("127.0.0.1", 8080)) for _ in range(5)] + [one.accept()[0] for _ in range(5)]
        ends += [socket.create_connection(("127.0.0.1", 8443)) for _ in range(2)]
        """,
    )
    file = tmp_path / "exporter.yml"
    file.write_text("detail: {ports: [9999], remote_ports: [8080]}\n")
    series = dumped(lab, "--config.file", str(file))
    assert nonzero(series, "tcp_port_connections") == {
        '{port="8080",state="established"}': 5,
        '{port="8080",state="listen"}': 1,
        '{port="8443",state="established"}': 2,
        '{port="8443",state="listen"}': 1,
        '{port="other",state="established"}': 7,
    }
    assert series['tcp_port_connections{port="9999",state="established"}'] == 0
    assert nonzero(series, "tcp_remote_port_connections") == {'{port="8080",state="established"}': 5}


def test_a_full_accept_queue_is_a_ratio_of_one_with_its_listener(lab: LabProcess) -> None:
    hold(
        lab,
        """
        import socket
        server = socket.socket(); server.bind(("127.0.0.1", 8080)); server.listen(4)
        ends = [socket.create_connection(("127.0.0.1", 8080)) for _ in range(5)]
        """,
    )
    series = dumped(lab)
    listener = '{address="127.0.0.1",port="8080"}'
    assert series[f"tcp_listener_accept_queue_length{listener}"] == 5
    assert series[f"tcp_listener_accept_queue_limit{listener}"] == 4
    assert series['tcp_saturation_ratio{resource="accept_queue"}'] == 1.0


def test_sockets_that_share_a_port_are_summed_and_their_number_is_told(lab: LabProcess) -> None:
    hold(
        lab,
        """
        import socket
        servers = []
        for _ in range(3):
            server = socket.socket(); server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            server.bind(("127.0.0.1", 8080)); server.listen(10); servers.append(server)
        """,
    )
    series = dumped(lab)
    assert series['tcp_listener_sockets{address="127.0.0.1",port="8080"}'] == 3
    assert series['tcp_listener_accept_queue_limit{address="127.0.0.1",port="8080"}'] == 30


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_half_open_connections_are_their_listeners(lab: LabProcess, family: int) -> None:
    lab.make({"syn_recv": 300}, family, backlog=512)
    series = dumped(lab)
    address = "192.0.2.1" if family == socket.AF_INET else "2001:db8::1"
    ((labels, number),) = nonzero(series, "tcp_listener_syn_recv").items()
    assert (labels.startswith(f'{{address="{address}",port="'), number) == (True, 300)
    assert series['tcp_saturation_ratio{resource="syn_queue"}'] == pytest.approx(300 / 513)


def test_an_ipv4_client_of_a_dual_stack_listener_is_an_ipv6_socket(lab: LabProcess) -> None:
    hold(
        lab,
        """
        import socket
        server = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
        client = socket.create_connection(("127.0.0.1", 8080)); peer, _ = server.accept()
        """,
    )
    series = dumped(lab)
    assert nonzero(series, "tcp_family_connections") == {
        '{family="ipv4",state="established"}': 1,
        '{family="ipv6",state="established"}': 1,
        '{family="ipv6",state="listen"}': 1,
    }


def test_queued_bytes_leave_listeners_out(lab: LabProcess) -> None:
    hold(
        lab,
        """
        import socket
        server = socket.create_server(("127.0.0.1", 8080), backlog=77)
        client = socket.create_connection(("127.0.0.1", 8080)); peer, _ = server.accept()
        client.sendall(b"x" * 1234)
        waiting = socket.create_connection(("127.0.0.1", 8080))
        """,
    )
    series = dumped(lab)
    assert (series["tcp_receive_queue_bytes"], series["tcp_send_queue_bytes"]) == (1234, 0)


def test_ephemeral_ports_are_counted_towards_the_busiest_destination(lab: LabProcess) -> None:
    lab.sysctl("net.ipv4.ip_local_port_range", "40000 44999")
    lab.sysctl("net.ipv4.ip_local_reserved_ports", "40000-40009")
    hold(
        lab,
        """
        import socket
        servers = [socket.create_server(("127.0.0.1", port), backlog=4000) for port in (8080, 8081)]
        ends = [socket.create_connection(("127.0.0.1", 8080)) for _ in range(3000)]
        ends += [socket.create_connection(("127.0.0.1", 8081)) for _ in range(1000)]
        """,
    )
    series = dumped(lab)
    assert (series["tcp_ephemeral_ports_used"], series["tcp_ephemeral_ports_available"]) == (3000, 4990)
    assert series['tcp_saturation_ratio{resource="ephemeral_ports"}'] == pytest.approx(3000 / 4990)


def test_three_hundred_listeners_stay_under_the_cap_and_the_page_says_so(lab: LabProcess) -> None:
    hold(
        lab,
        """
        import socket
        servers = [socket.create_server(("127.0.0.1", 10000 + n)) for n in range(300)]
        ends = [socket.create_connection(("127.0.0.1", 10007)) for _ in range(9)]
        """,
    )
    lab.establish(10_000)
    series = dumped(lab)
    ports = {name.split('"')[1] for name in series if name.startswith("tcp_port_connections{")}
    listeners = [name for name in series if name.startswith("tcp_listener_sockets{")]
    assert (len(ports), len(listeners), "10007" in ports) == (101, 101, True)
    assert series['tcp_exporter_folded{metric="tcp_listener_sockets"}'] == 200
    assert series['tcp_exporter_folded{metric="tcp_port_connections"}'] >= 200
    assert sum(number for name, number in series.items() if name.startswith("tcp_listener_sockets{")) == 300


def test_the_daemon_serves_the_detail_and_drops_none_of_it_between_passes(lab: LabProcess, tmp_path: Path) -> None:
    lab.establish(50)
    with Daemon(tmp_path / "log", "--sample.interval", "100ms", lab=lab) as daemon:
        daemon.ready()
        series = 'tcp_family_connections{family="ipv4",state="established"}'
        metrics = wait_for(lambda: m if series in (m := daemon.metrics()) else None, "the first detail")
        assert metrics[series] >= 50
        samples = metrics['tcp_exporter_samples_total{pass="light"}'] + 3
        wait_for(lambda: daemon.metrics()['tcp_exporter_samples_total{pass="light"}'] > samples or None, "samples")
        assert series in daemon.metrics()
        assert by_state(daemon.metrics())["established"] >= 50


def test_without_netlink_what_it_alone_knows_is_absent(lab: LabProcess) -> None:
    series = dumped(lab, "--reader", "procfs")
    assert [name for name in series if name.startswith(("tcp_listener_", "tcp_unit_"))] == []
    assert [name for name in series if name.startswith("tcp_saturation_ratio") and "queue" in name] == []


def test_who_names_the_holder(lab: LabProcess) -> None:
    hold(
        lab,
        """
        import socket
        server = socket.create_server(("127.0.0.1", 8080))
        ends = [socket.create_connection(("127.0.0.1", 8080)) for _ in range(3)]
        """,
    )
    done = lab.run([*PROGRAM, "who", "established", "--by", "port", "--json"])
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["total"]) == (0, 6)
    assert {"8080": 3}.items() <= {owner["owner"]: owner["sockets"] for owner in answer["owners"]}.items()


def test_the_plugin_names_the_fullest_listener(lab: LabProcess) -> None:
    hold(
        lab,
        """
        import socket
        server = socket.socket(); server.bind(("127.0.0.1", 8080)); server.listen(4)
        ends = [socket.create_connection(("127.0.0.1", 8080)) for _ in range(5)]
        """,
    )
    done = lab.run([*PLUGIN, "-s", "accept_queue_ratio", "-c", "0.8", "-v"])
    first, *details = done.stdout.splitlines()
    assert (done.returncode, first.split(" | ")[0]) == (2, "TCP STATES CRITICAL: accept_queue_ratio 1 (> 0.8)")
    assert "accept queue of 127.0.0.1:8080: 5 of 5" in details


@pytest.mark.parametrize("reader", ["netlink", "procfs", "psutil"])
def test_the_plugin_counts_one_local_port(lab: LabProcess, reader: str) -> None:
    hold(
        lab,
        """
        import socket
        server = socket.create_server(("127.0.0.1", 8080)); other = socket.create_server(("127.0.0.1", 8443))
        ends = [socket.create_connection(("127.0.0.1", 8080)) for _ in range(3)]
        ends += [server.accept()[0] for _ in range(3)]
        ends += [socket.create_connection(("127.0.0.1", 8443))]
        """,
    )
    done = lab.run([*PLUGIN, "-p", "8080", "-c", "2", "--reader", reader])
    data = "established=3;;2;0; syn_sent=0;;;0; syn_recv=0;;;0; fin_wait1=0;;;0; fin_wait2=0;;;0; time_wait=0;;;0; "
    data += "close=0;;;0; close_wait=0;;;0; last_ack=0;;;0; listen=1;;;0; closing=0;;;0;"
    assert (done.returncode, done.stdout) == (2, f"TCP STATES CRITICAL: established 3 (> 2) | {data}\n")


def test_sockets_are_counted_by_the_unit_that_made_them(lab: LabProcess) -> None:
    mount = Cgroups("/proc").mount_point
    if mount is None or not os.access(mount, os.W_OK):
        pytest.skip("no writable cgroup v2 tree")
    units = {"e2e-alpha.service": 3, f"docker-{'0123456789abcdef' * 4}.scope": 2}
    folders = [Path(mount) / name for name in units]
    try:
        for folder, number in zip(folders, units.values(), strict=True):
            folder.mkdir()
            hold(
                lab,
                f"""
                import os, socket
                open({str(folder / "cgroup.procs")!r}, "w").write(str(os.getpid()))
                server = socket.create_server(("127.0.0.1", 0))
                ends = [socket.create_connection(server.getsockname()) for _ in range({number})]
                """,
            )
        counted = nonzero(dumped(lab), "tcp_unit_connections")
        # Both ends were made in the unit: a connection that is accepted, or will be, has its listener's cgroup.
        assert {name: number for name, number in counted.items() if "established" in name} == {
            '{state="established",unit="e2e-alpha.service"}': 6,
            '{state="established",unit="docker-0123456789ab"}': 4,
        }
    finally:
        lab.close()
        for folder in folders:
            _remove(folder)


def test_a_users_unit_is_not_counted_as_the_systems_unit_of_the_same_name(lab: LabProcess) -> None:
    mount = Cgroups("/proc").mount_point
    if mount is None or not os.access(mount, os.W_OK):
        pytest.skip("no writable cgroup v2 tree")
    user = Path("user.slice/user-4711.slice/user@4711.service/app.slice")
    sockets = {Path("system.slice/e2e-same.service"): 3, user / "e2e-same.service": 2, user / f"pod{'0' * 32}": 1}
    folders = [Path(mount) / path for path in sockets]
    made = [parent for folder in folders for parent in folder.parents if not parent.exists()]
    try:
        for folder, number in zip(folders, sockets.values(), strict=True):
            folder.mkdir(parents=True)
            hold(
                lab,
                f"""
                import os, socket
                open({str(folder / "cgroup.procs")!r}, "w").write(str(os.getpid()))
                server = socket.create_server(("127.0.0.1", 0))
                ends = [socket.create_connection(server.getsockname()) for _ in range({number})]
                """,
            )
        counted = nonzero(dumped(lab), "tcp_unit_connections")
        assert {name: number for name, number in counted.items() if "established" in name} == {
            '{state="established",unit="e2e-same.service"}': 6,
            '{state="established",unit="user@4711.service/e2e-same.service"}': 4,
            f'{{state="established",unit="user@4711.service/pod-{"0" * 32}"}}': 2,
        }
        done = lab.run([*PROGRAM, "who", "established", "--by", "unit", "--json"])
        assert {owner["owner"]: owner["sockets"] for owner in json.loads(done.stdout)["owners"]} == {
            "e2e-same.service": 6,
            "user@4711.service/e2e-same.service": 4,
            f"user@4711.service/pod-{'0' * 32}": 2,
        }
    finally:
        lab.close()
        for folder in folders:
            _remove(folder)
        for parent in sorted(set(made), key=lambda path: len(path.parts), reverse=True):
            parent.rmdir()


def _remove(folder: Path) -> None:
    """Remove a cgroup once the last of its processes is gone."""

    def removed() -> bool | None:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return None
        return True

    wait_for(removed, f"{folder} to be empty")


def test_every_namespace_is_counted_when_asked_for_and_one_that_dies_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("detail: {namespaces: true, interval: 500ms, max_cpu_ratio: 1}\n")
    with LabProcess() as one, LabProcess() as two, LabProcess() as dying:
        for lab, number in ((one, 11), (two, 222), (dying, 3333)):
            lab.establish(number)
        with Daemon(tmp_path / "log", "--config.file", str(file)) as daemon:
            daemon.ready()

            def numbers() -> set[float]:
                return {
                    value
                    for series, value in daemon.metrics().items()
                    if series.startswith("tcp_netns_connections{") and 'state="established"' in series
                }

            wait_for(lambda: {11, 222, 3333} <= numbers() or None, "three namespaces")
            assert 'tcp_netns_connections{netns="host",state="listen"}' in daemon.metrics()
            dying.close()
            wait_for(lambda: ({11, 222} <= numbers() and 3333 not in numbers()) or None, "the third to be gone")


def test_a_listener_of_a_mapped_address_is_that_of_the_ipv4_address(lab: LabProcess) -> None:
    hold(
        lab,
        """
        import socket
        servers = []
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::ffff:127.0.0.1")):
            server = socket.socket(family); server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            server.bind((address, 8080)); server.listen(10); servers.append(server)
        """,
    )
    series = dumped(lab)
    assert nonzero(series, "tcp_listener_sockets") == {'{address="127.0.0.1",port="8080"}': 2}
    assert nonzero(series, "tcp_listener_accept_queue_limit") == {'{address="127.0.0.1",port="8080"}': 20}


def test_the_series_of_one_address_and_port_are_the_sums_over_its_devices(lab: LabProcess) -> None:
    lab.make({"time_wait": 1})  # it brings a device beside the loopback
    hold(
        lab,
        """
        import socket
        ends = []
        for backlog, (_, device) in enumerate(socket.if_nameindex()[:2], 10):
            ends.append(socket.socket())
            ends[-1].setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            ends[-1].bind(("0.0.0.0", 8080))
            ends[-1].listen(backlog)
        """,
    )
    series = dumped(lab)
    assert series['tcp_listener_sockets{address="0.0.0.0",port="8080"}'] == 2
    assert series['tcp_listener_accept_queue_limit{address="0.0.0.0",port="8080"}'] == 21


def test_clients_of_both_families_take_from_one_space_of_ports(lab: LabProcess) -> None:
    hold(
        lab,
        """
        import socket
        server = socket.create_server(("127.0.0.1", 8080), backlog=100)
        ends = [socket.create_connection(("127.0.0.1", 8080)) for _ in range(20)]
        for _ in range(30):
            end = socket.socket(socket.AF_INET6); end.connect(("::ffff:127.0.0.1", 8080)); ends.append(end)
        """,
    )
    assert dumped(lab)["tcp_ephemeral_ports_used"] == 50


SNAPSHOT = """
import json
import os
from exporter.document import write
from exporter.health.judge import Judge
from exporter.health.window import Window
from exporter.sampling import once
from exporter.sampling.detailer import Wanted
snapshot = once.snapshot("/proc", "auto", wanted=Wanted())
health = Judge(os.uname().release).judge(Window(snapshot, ()), {}, {})
document = write.document(snapshot, health)
document["detail"].pop("taken_at")
document["detail"].pop("stateless")  # of the whole host, so with every other program's
document["statuses"] = {
    it["finding"]: it["status"] for it in document["health"]["findings"] if it["finding"] != "descriptor_leak"
}
print(json.dumps({key: document[key] for key in ("connections", "listeners", "detail", "reader", "statuses")}))
"""


def test_an_unprivileged_user_sees_the_same(populated: LabProcess, anyones_python: str) -> None:
    def both() -> tuple[dict[str, object], dict[str, object]]:
        as_root = populated.run([sys.executable, "-c", SNAPSHOT])
        as_nobody = populated.run([anyones_python, "-c", SNAPSHOT], user=65534)
        assert (as_nobody.returncode, as_nobody.stderr) == (0, "")
        return json.loads(as_root.stdout), json.loads(as_nobody.stdout)

    # Ages and retries go on between the one and the other.
    assert any(as_root == as_nobody for as_root, as_nobody in (both() for _ in range(5)))
