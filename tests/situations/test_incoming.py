"""Connections that come in: floods, queues that are full, and healthy hosts that look like them."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Daemon
from tests.lab.link import LAB_INTERFACE
from tests.situations.world import HERE, World, wait_until

pytestmark = pytest.mark.lab

LONG = 4000  # a backlog that is never reached
TCP_DEFER_ACCEPT = (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
RATIO = ("-s", "syn_queue_ratio", "-w", "0.5", "-c", "0.9")


def numbers(sentence: str) -> list[int]:
    """The whole numbers in a sentence that stand alone, so neither addresses nor seconds."""
    found = re.findall(r"(?<![\d.:,])\d+(?:,\d{3})*(?![\d:]|\.\d| s)", sentence)
    return [int(number.replace(",", "")) for number in found]


# -- floods ------------------------------------------------------------------------------------------------------------


def test_a_flood_with_cookies_off_and_a_long_backlog_is_a_critical_syn_flood(world: World) -> None:
    world.sysctl("net.ipv4.tcp_syncookies", 0)
    world.sysctl("net.ipv4.tcp_max_syn_backlog", 200)
    world.serve(7001, LONG)
    with world.flood(7001, rate=300):
        wait_until(lambda: world.counters()["TcpExt.ListenDrops"] > 20, "SYNs that are dropped")
        advice = world.advise()
        status, output = world.plugin(*RATIO)
        assert world.attempt(7001, 1.2) == "ETIMEDOUT"
    assert advice.findings == {"syn_flood": "CRITICAL"}
    half_open, limit = numbers(advice.evidence("syn_flood")[0])[:2]
    assert limit == 151
    assert 75 < half_open <= 151
    assert "Switch cookies on" in advice.text("syn_flood")
    assert advice.command("syn_flood") == "sysctl -w net.ipv4.tcp_syncookies=1"
    assert status == 2, output


def test_the_daemon_exports_the_flood_and_the_queue_that_it_fills(world: World, tmp_path: Path) -> None:
    world.sysctl("net.ipv4.tcp_syncookies", 0)
    world.sysctl("net.ipv4.tcp_max_syn_backlog", 80)
    world.serve(7020, LONG)
    with world.flood(7020, rate=200), Daemon(tmp_path / "log", lab=world.lab) as daemon:
        daemon.ready()
        wait_until(lambda: daemon.metrics().get('tcp_finding_status{finding="syn_flood"}') == 2, "the finding")
        assert daemon.metrics()['tcp_saturation_ratio{resource="syn_queue"}'] > 0.5


def test_a_flood_with_cookies_off_and_a_short_backlog_is_a_critical_syn_flood(world: World) -> None:
    world.sysctl("net.ipv4.tcp_syncookies", 0)
    world.serve(7002, 30)
    with world.flood(7002, rate=200):
        wait_until(lambda: world.counters()["TcpExt.TCPReqQFullDrop"] > 20, "SYNs that are dropped")
        advice = world.advise()
    assert advice.findings == {"syn_flood": "CRITICAL"}
    assert f"{HERE}:7002" in advice.what("syn_flood")


def test_a_flood_with_cookies_on_is_a_warning_with_the_cookies_that_were_lost(world: World) -> None:
    world.serve(7003, 40)
    with world.flood(7003, rate=200):
        wait_until(lambda: world.counters()["TcpExt.SyncookiesSent"] > 20, "cookies")
        advice = world.advise()
        assert world.attempt(7003, 10) == "connected"
    assert advice.findings == {"syn_flood": "WARNING"}
    sent, back, lost = next(numbers(it) for it in advice.evidence("syn_flood") if "cookies were sent" in it)
    assert sent > 100
    assert (back, lost) == (0, sent)
    assert "tcp_syncookies=1" not in advice.text("syn_flood")


def test_a_flood_beside_clients_names_both_and_never_denies_the_attack(world: World) -> None:
    world.serve(7004, 24)
    with world.flood(7004, rate=80):
        wait_until(lambda: world.counters()["TcpExt.SyncookiesSent"] > 20, "cookies")
        with world.clients(7004, rate=120):
            wait_until(lambda: world.counters()["TcpExt.SyncookiesRecv"] > 30, "clients that bring cookies back")
            advice = world.advise()
    assert advice.findings == {"syn_flood": "WARNING"}
    sent, back, lost = next(numbers(it) for it in advice.evidence("syn_flood") if "cookies were sent" in it)
    assert back > 30
    assert lost == sent - back > 30
    assert "these are clients" not in advice.text("syn_flood")


@pytest.mark.parametrize("cookies", [0, 1])
def test_a_flood_and_an_overflow_of_another_listener_are_both_found(world: World, cookies: int) -> None:
    world.sysctl("net.ipv4.tcp_syncookies", cookies)
    world.serve(7005, 60)
    world.listen(7006, 1)
    counted = "SyncookiesSent" if cookies else "TCPReqQFullDrop"
    with world.flood(7005, rate=200), world.clients(7006, rate=40, threads=20, patience=1.0):
        wait_until(lambda: world.counters()[f"TcpExt.{counted}"] > 20, "a full SYN queue")
        wait_until(lambda: world.counters()["TcpExt.ListenOverflows"] > 20, "overflows")
        advice = world.advise()
    assert advice.findings == {"accept_queue_full": "CRITICAL", "syn_flood": "WARNING" if cookies else "CRITICAL"}
    assert f"{HERE}:7006" in advice.what("accept_queue_full")
    assert f"{HERE}:7005" not in advice.text("accept_queue_full")
    assert f"{HERE}:7005" in advice.what("syn_flood")
    assert f"{HERE}:7006" not in advice.text("syn_flood")


def test_clients_whose_cookies_come_back_find_a_syn_queue_that_is_too_small(world: World) -> None:
    world.serve(7007, 8, options=[TCP_DEFER_ACCEPT])
    world.connect(7007, 9)  # clients that are slow to send keep the queue full, as a long path would
    with world.clients(7007, rate=100):
        wait_until(lambda: world.counters()["TcpExt.SyncookiesRecv"] > 20, "cookies that come back")
        advice = world.advise()
    assert advice.findings == {"syn_queue_too_small": "WARNING"}
    sent, back, lost = next(numbers(it) for it in advice.evidence("syn_queue_too_small") if "cookies were sent" in it)
    assert lost == max(0, sent - back)  # some that came back were sent before the first of the two counts
    assert lost <= 2
    assert f"{HERE}:7007" in advice.what("syn_queue_too_small")


def test_handshakes_that_nobody_completes_are_found_before_they_fill_a_queue(world: World) -> None:
    world.serve(7023, LONG)
    world.syns(7023, 125)
    wait_until(lambda: world.count("syn_recv", 7023) == 125, "half-open connections")
    advice = world.advise("1s")
    assert advice.findings == {"half_open_connections": "WARNING"}
    assert f"125 of them are to {HERE}:7023" in advice.text("half_open_connections")


def test_a_dozen_stray_syns_at_a_short_queue_are_silent(world: World) -> None:
    world.serve(7008, 3)
    with world.flood(7008, rate=12, number=12):
        advice = world.advise("3s")
    assert 0 < world.counters()["TcpExt.SyncookiesSent"] < 15
    assert advice.findings == {}


def test_a_port_scan_is_silent(world: World) -> None:
    for port in range(7100, 7110):
        world.serve(port, 5)
    with world.scan(range(7050, 7250), rate=150):
        advice = world.advise()
    assert world.counters()["Tcp.OutRsts"] > 100
    assert "syn_flood" not in advice.findings
    assert "accept_queue_full" not in advice.findings
    assert "half_open_connections" not in advice.findings


# -- healthy hosts -----------------------------------------------------------------------------------------------------


def test_clients_that_defer_and_send_nothing_are_silent(world: World) -> None:
    world.listen(7009, 400, options=[TCP_DEFER_ACCEPT])
    world.connect(7009, 130)
    wait_until(lambda: world.count("syn_recv", 7009) == 130, "half-open connections")
    assert world.advise("1s").findings == {}


def test_a_queue_full_of_clients_that_defer_is_silent(world: World) -> None:
    server = world.listen(7010, 40, options=[TCP_DEFER_ACCEPT])
    clients = world.connect(7010, 41)
    assert world.count("syn_recv", 7010) == 41
    assert world.advise("1s").findings == {}
    for client in clients:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
    server.settimeout(10)
    for _ in clients:
        server.accept()[0].close()


def test_cookies_that_are_always_sent_are_silent_and_a_flood_is_not(world: World) -> None:
    world.sysctl("net.ipv4.tcp_syncookies", 2)
    world.serve(7011, LONG)
    with world.clients(7011, rate=80):
        wait_until(lambda: world.counters()["TcpExt.SyncookiesRecv"] > 20, "cookies that come back")
        healthy = world.advise()
    with world.flood(7011, rate=200):
        flooded = world.advise()
    assert healthy.findings == {}
    assert flooded.findings == {"syn_flood": "WARNING"}


# -- accept queues -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cookies", [0, 1])
def test_an_accept_queue_that_nobody_empties_is_critical_while_it_drops(world: World, cookies: int) -> None:
    world.sysctl("net.ipv4.tcp_syncookies", cookies)
    world.listen(7012, 10)
    with world.clients(7012, rate=40, threads=40, patience=1.0):
        wait_until(lambda: world.counters()["TcpExt.ListenOverflows"] > 10, "overflows")
        advice = world.advise()
    assert advice.findings == {"accept_queue_full": "CRITICAL"}
    assert advice.evidence("accept_queue_full")[0] == (
        f"11 connections wait in the accept queue of {HERE}:7012, whose limit is 10."
    )
    assert "wait for seconds" in advice.text("accept_queue_full")


@pytest.mark.parametrize("cookies", [0, 1])
def test_drops_are_critical_while_a_slow_application_accepts_now_and_then(world: World, cookies: int) -> None:
    world.sysctl("net.ipv4.tcp_syncookies", cookies)
    server = world.listen(7013, 20)
    with world.clients(7013, rate=60, threads=40, patience=1.0), world.accepting(server, rate=8):
        wait_until(lambda: world.counters()["TcpExt.ListenOverflows"] > 15, "overflows")
        advice = world.advise()
    assert advice.findings == {"accept_queue_full": "CRITICAL"}


def test_the_drops_of_each_listener_are_told_apart(world: World, tmp_path: Path) -> None:
    for port in (7021, 7022):
        world.listen(port, 3)
    with Daemon(tmp_path / "log", lab=world.lab) as daemon:
        daemon.ready()
        before = world.counters()["TcpExt.ListenDrops"]
        world.start(7022, 24)
        wait_until(lambda: world.counters()["TcpExt.ListenDrops"] > before, "drops")
        at = 'tcp_listener_dropped_segments_total{address="192.0.2.1",port="%d"}'
        wait_until(lambda: daemon.metrics().get(at % 7022, 0) >= 20, "the drops in the metrics")
        assert daemon.metrics()[at % 7021] == 0
        assert daemon.metrics()[at % 7022] <= world.counters()["TcpExt.ListenDrops"]
    advice = world.advise("3s")  # the clients try again meanwhile
    assert f"{HERE}:7022 itself dropped" in advice.text("accept_queue_full")
    assert "7021" not in advice.text("accept_queue_full")


def test_the_plugin_judges_the_drops_of_one_port_by_the_daemon_and_by_itself(world: World, tmp_path: Path) -> None:
    world.serve(7023, LONG)
    world.listen(7024, backlog=2)
    world.connect(7024, 3)
    with Daemon(tmp_path / "log", lab=world.lab) as daemon:
        url = f"http://127.0.0.1:{daemon.ready().port}"
        before = world.counters()["TcpExt.ListenDrops"]
        world.syns(7024, 40)
        wait_until(lambda: world.counters()["TcpExt.ListenDrops"] - before >= 40, "the drops")
        dropped = world.counters()["TcpExt.ListenDrops"] - before

        def drops() -> dict:  # type: ignore[type-arg]  # JSON
            return json.loads(daemon.get("/api/v1/snapshot")[1])["listen_drops"] or {"ports": {}}

        def seen_all() -> bool:
            now = drops()
            return bool(round(now.get("total", 0) * now.get("seconds", 0)) == dropped)

        wait_until(seen_all, "a rate of all drops")
        seen = drops()
        assert (seen["ports"]["7023"], seen["ports"]["7024"]) == (0, seen["total"])
        wide = ("--url", url, "-s", "listen_drops", "-c", "0.01", "-p")
        assert [world.plugin(*wide, port)[0] for port in ("7023", "7024", "7025")] == [0, 2, 3]
    with world.background(lambda: world.syns(7024, 5), every=0.05):
        local = ("-s", "listen_drops", "-w", "1", "-c", "10", "-p")
        assert [world.plugin(*local, port)[0] for port in ("7023", "7024", "7025")] == [0, 2, 3]


def test_clients_that_are_reset_are_named_so(world: World) -> None:
    world.sysctl("net.ipv4.tcp_abort_on_overflow", 1)
    world.listen(7014, 4)
    world.start(7014, 30)
    wait_until(lambda: world.counters()["TcpExt.ListenOverflows"] > 0, "overflows")
    text = world.advise().text("accept_queue_full")
    assert "resets clients" in text
    assert "wait for seconds" not in text


def test_a_limit_from_an_old_somaxconn_asks_for_a_restart_and_not_for_another_application(world: World) -> None:
    world.sysctl("net.core.somaxconn", 50)
    world.listen(7015, 600)
    world.sysctl("net.core.somaxconn", 3000)
    world.start(7015, 60)
    wait_until(lambda: world.counters()["TcpExt.ListenOverflows"] > 0, "overflows")
    advice = world.advise()
    assert list(advice.findings) == ["accept_queue_full"]
    text = advice.text("accept_queue_full")
    assert "Restart the application first" in text
    assert "too slow" not in advice.what("accept_queue_full")
    assert advice.command("accept_queue_full") == "ss -ltnp 'sport = :7015'"


def test_one_burst_that_is_over_is_not_critical(world: World) -> None:
    server = world.listen(7016, 5)
    clients = world.start(7016, 60)
    wait_until(lambda: world.counters()["TcpExt.ListenOverflows"] > 20, "overflows")
    with world.accepting(server, rate=1000):
        wait_until(
            lambda: world.count("syn_recv") == 0 and world.count("established", 7016) == 0, "the end of the burst"
        )
        for client in clients:
            client.close()
        advice = world.advise("1s")
    assert "CRITICAL" not in advice.findings.values()


def test_connections_whose_clients_gave_up_in_a_queue_that_nobody_empties_are_that_queues(world: World) -> None:
    world.listen(7017, 120)
    for client in world.connect(7017, 121):
        client.close()
    wait_until(lambda: world.count("close_wait", 7017) == 121, "CLOSE-WAIT in the accept queue")
    assert world.advise().findings["accept_queue_full"] == "WARNING"


# -- whose queue it is -------------------------------------------------------------------------------------------------


def test_the_full_queue_of_one_device_is_not_hidden_by_the_empty_ones_of_the_others(world: World) -> None:
    world.listen(7018, 50, address="0.0.0.0", device="lo")
    world.listen(7018, 50, address="0.0.0.0", device=LAB_INTERFACE)
    world.syns(7018, 90)
    wait_until(lambda: world.count("syn_recv", 7018) == 51, "a full SYN queue")
    status, output = world.plugin(*RATIO)
    assert status == 2
    assert "syn_queue_ratio 1 " in output


@contextlib.contextmanager
def transparent(world: World, port: int, to: int) -> Iterator[None]:
    """SYNs from the wire to *port* of any address are given to a listener of 127.0.0.1:*to*, as a mesh does it."""
    world.listen(to, 30, address="127.0.0.1", options=[(socket.SOL_IP, 19, 1)])  # IP_TRANSPARENT
    for name in ("all", LAB_INTERFACE):
        world.sysctl(f"net.ipv4.conf.{name}.rp_filter", 0)
    world.run("ip", "rule", "add", "fwmark", "1", "lookup", "100")
    world.run("ip", "route", "add", "local", "default", "dev", "lo", "table", "100")
    rules = f"""table ip mesh {{
        chain in {{
            type filter hook prerouting priority mangle;
            iifname "{LAB_INTERFACE}" tcp dport {port} meta mark set 1 tproxy to 127.0.0.1:{to} accept
        }}
    }}"""
    done = world.lab.run(["nft", "-f", "-"], stdin=rules)
    if done.returncode:
        pytest.skip(f"no tproxy here: {done.stderr}")
    yield


@pytest.mark.skipif(not shutil.which("nft") or not shutil.which("ip"), reason="TPROXY needs nft and iproute2")
def test_the_queue_of_a_transparent_listener_is_unknown_and_its_flood_is_found(world: World) -> None:
    with transparent(world, 443, 7019):
        with world.flood(443, rate=200, address="192.0.2.200"):
            wait_until(lambda: world.counters()["TcpExt.SyncookiesSent"] > 20, "cookies")
            advice = world.advise()
        status, output = world.plugin(*RATIO)
    assert (status, "unknown" in output) == (3, True)
    assert advice.findings == {"syn_flood": "WARNING"}
    assert "match no listener" in advice.text("syn_flood")
