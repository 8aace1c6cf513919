"""Connections that are unanswered, refused, lost, not read or dead: what is concluded, and where silence is right."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.situations.world import HERE, PATIENCE, Socket, World, release, wait_until

pytestmark = pytest.mark.lab

PORT = 8443
SILENT, OTHER = "192.0.2.9", "192.0.2.10"


def tries(world: World, least: int) -> int:
    """How many sockets that are not half open have sent a segment or a probe *least* times in vain."""
    rows = Path(f"/proc/{world.lab.pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return sum(
        max(int(fields[6], 16), int(fields[8])) >= least and fields[3] in {"01", "02"}
        for fields in map(str.split, rows)
    )


def drop(world: World, rule: str) -> None:
    """Lose incoming packets that *rule* of nft matches."""
    world.run("nft", "add table ip lost; add chain ip lost in { type filter hook input priority 0 ; }")
    world.run("nft", f"add rule ip lost in {rule} drop")


def pairs(world: World, number: int) -> list[tuple[Socket, Socket]]:
    """Connections of this host to itself: the client's end and the server's."""
    server = world.listen(PORT, number)
    clients = world.connect(PORT, number)
    return list(zip(clients, world.accept(server, number), strict=True))


@contextlib.contextmanager
def busy(ends: list[Socket]) -> Iterator[None]:
    """Every end sends a little and reads all, again and again, while the block runs."""
    stop = threading.Event()
    for end in ends:
        end.setblocking(False)

    def talk() -> None:
        while not stop.wait(0.02):
            for end in ends:
                with contextlib.suppress(OSError):
                    end.send(b"x" * 300)
                with contextlib.suppress(OSError):
                    end.recv(65536)

    worker = threading.Thread(target=talk, daemon=True)
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join()


# -- unanswered --------------------------------------------------------------------------------------------------------


def test_a_backend_that_does_not_answer_is_named_with_how_many_wait_for_it(world: World) -> None:
    world.start(5432, 60, address=SILENT)
    world.start(5433, 10, address=OTHER)
    wait_until(lambda: tries(world, 1) == 70, "every SYN to be sent again")
    advice = world.advise("1s")
    assert advice.findings == {"syn_sent_unanswered": "WARNING"}
    assert advice.what("syn_sent_unanswered") == f"Connections that this host opens get no answer from {SILENT}:5432"
    evidence = advice.evidence("syn_sent_unanswered")
    assert evidence[0].startswith("70 connections are in SYN-SENT, 20 or more for at least ")
    assert evidence[1] == (
        f"70 connections sent their SYN more than once and got no answer; 60 of them go to {SILENT}:5432."
    )
    assert evidence[2].endswith(" SYNs and SYN-ACKs were sent again in the last " + evidence[2].rpartition("last ")[2])
    assert "(tcp_syn_retries = 6)" in advice.text("syn_sent_unanswered")
    code, output = world.plugin("-s", "findings")
    assert (code, advice.what("syn_sent_unanswered") in output) == (1, True)


def test_a_hundred_connections_to_one_silent_destination_are_critical(world: World) -> None:
    world.start(5432, 110, address=SILENT)
    wait_until(lambda: tries(world, 1) == 110, "every SYN to be sent again")
    assert world.advise("1s").findings == {"syn_sent_unanswered": "CRITICAL"}


def test_a_filter_that_drops_each_new_syn_is_no_answer(world: World) -> None:
    world.listen(PORT, 100)
    drop(world, f"tcp dport {PORT} ct state new")
    world.start(PORT, 40)
    wait_until(lambda: tries(world, 1) == 40, "every SYN to be sent again")
    assert world.advise("1s").findings == {"syn_sent_unanswered": "WARNING"}


def test_a_few_unanswered_connections_and_many_that_have_just_begun_are_silent(world: World) -> None:
    world.start(5432, 15, address=SILENT)
    wait_until(lambda: tries(world, 1) == 15, "every SYN to be sent again")
    world.start(5433, 200, address=OTHER)
    assert world.advise("0").findings == {}


# -- refused -----------------------------------------------------------------------------------------------------------


def test_a_service_that_is_down_for_clients_elsewhere_is_refused_here(world: World) -> None:
    with world.flood(PORT, 200):
        wait_until(lambda: world.counters()["Tcp.OutRsts"] > 50, "the first resets")
        advice = world.advise()
    assert advice.findings == {"connections_refused": "WARNING"}
    assert advice.what("connections_refused") == (
        "This host refuses connections: nothing listens on their destination port"
    )
    (evidence,) = advice.evidence("connections_refused")
    assert "with a reset in the last 2" in evidence
    assert evidence.endswith("and accepted 0 connections.")


def test_connections_of_this_host_to_a_port_without_listener_are_refused_on_both_sides(world: World) -> None:
    with world.clients(PORT, 200):
        wait_until(lambda: world.counters()["Tcp.AttemptFails"] > 50, "the first refusals")
        advice = world.advise()
    assert advice.findings == {"connections_refused": "WARNING"}
    assert advice.what("connections_refused") == ("This host refuses connections, and those that it opens are refused")
    assert advice.evidence("connections_refused")[2] == (
        "Both numbers are similar, so these are probably connections of this host to itself."
    )


def test_a_firewall_that_rejects_makes_refused_connects_and_no_refusal_of_this_host(world: World) -> None:
    world.run("nft", "add table ip no; add chain ip no in { type filter hook input priority 0 ; }")
    world.run("nft", f"add rule ip no in tcp dport {PORT} reject with tcp reset")
    with world.clients(PORT, 200):
        wait_until(lambda: world.counters()["Tcp.AttemptFails"] > 50, "the first refusals")
        advice = world.advise()
    assert advice.findings == {"connections_refused": "WARNING"}
    assert advice.what("connections_refused") == "Connections that this host opens are refused"


def test_applications_that_reset_their_connections_are_told_from_their_peers(world: World) -> None:
    server = world.listen(PORT, 100)

    def reset() -> None:
        with contextlib.suppress(OSError):
            while True:
                end = server.accept()[0]
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
                end.close()

    worker = threading.Thread(target=reset, daemon=True)
    worker.start()

    def call() -> None:
        while not stop.is_set():
            with world.socket() as client, contextlib.suppress(OSError):
                client.settimeout(PATIENCE)
                client.connect((HERE, PORT))
                client.recv(1)

    stop = threading.Event()
    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    try:
        wait_until(lambda: world.counters()["Tcp.EstabResets"] > 200, "the first resets")
        advice = world.advise()
    finally:
        stop.set()
        caller.join()
        server.shutdown(socket.SHUT_RDWR)
        worker.join()
    assert advice.findings == {"connections_refused": "WARNING"}
    assert advice.what("connections_refused") == "Most connections end in a reset"
    assert " by applications of this host, " in advice.evidence("connections_refused")[0]


def test_a_port_scan_of_fifteen_ports_and_a_health_check_of_a_closed_one_are_silent(world: World) -> None:
    with world.clients(PORT, 2):
        for port in range(9000, 9015):
            world.syns(port, 1)
        assert world.advise().findings == {}


def test_a_load_generator_is_silent(world: World) -> None:
    world.serve(PORT, 1024)
    with world.clients(PORT, 500):
        wait_until(lambda: world.counters()["Tcp.PassiveOpens"] > 500, "a load")
        assert world.advise().findings == {}


# -- lost --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("percent", "severity"), [(5, "WARNING"), (30, "CRITICAL")])
def test_loss_on_busy_connections_is_found(world: World, percent: int, severity: str) -> None:
    ends = [end for pair in pairs(world, 60) for end in pair]
    drop(world, f"numgen random mod 100 lt {percent}")
    before = world.counters()["Tcp.RetransSegs"]
    with busy(ends):
        wait_until(lambda: world.counters()["Tcp.RetransSegs"] > before + 50, "the first retransmissions")
        advice = world.advise()
    assert advice.findings == {"retransmissions": severity}
    assert " segments were lost and sent again in the last 2" in advice.evidence("retransmissions")[0]


def test_busy_connections_without_loss_are_silent(world: World) -> None:
    ends = [end for pair in pairs(world, 60) for end in pair]
    with busy(ends):
        assert world.advise().findings == {}


# -- not read ----------------------------------------------------------------------------------------------------------


def test_an_application_that_does_not_read_is_told_by_its_port(world: World) -> None:
    held = pairs(world, 50)
    for client, _ in held:
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                client.send(bytes(65536))
    wait_until(lambda: world.counters()["TcpExt.TCPWinProbe"] >= 150, "probes of every window")
    advice = world.advise("1s")
    assert advice.findings == {"zero_window": "WARNING"}
    assert advice.what("zero_window") == (
        f"An application of this host does not read what its peers send at local port {PORT}"
    )
    here, there = advice.evidence("zero_window")[:2]
    assert here.startswith("50 connections have at least 32 KiB each that the application has not read, 50 of them at ")
    assert there.startswith(f"50 connections wait for a peer to open its window, 50 of them with {HERE}; ")


# -- dead --------------------------------------------------------------------------------------------------------------


def test_peers_that_answer_no_keepalive_probe_are_dead(world: World) -> None:
    held = pairs(world, 30)
    for _, server in held:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    drop(world, f"tcp dport {PORT}")
    wait_until(lambda: tries(world, 2) == 30, "two probes of every connection")
    advice = world.advise("0")
    assert advice.findings == {"dead_peers": "WARNING"}
    assert advice.what("dead_peers") == "30 established connections lead to peers that no longer answer"
    assert advice.evidence("dead_peers") == [
        f"The peers of 30 connections did not answer 2 or more keepalive probes; 30 of them are with {HERE}."
    ]


def test_peers_that_do_not_acknowledge_data_are_dead(world: World) -> None:
    held = pairs(world, 30)
    drop(world, f"tcp dport {PORT}")
    for client, _ in held:
        client.send(b"x")
    wait_until(lambda: tries(world, 4) == 30, "four retransmissions of every connection")
    advice = world.advise("0")
    assert advice.findings == {"dead_peers": "WARNING"}
    assert advice.evidence("dead_peers") == [
        "The peers of 30 connections did not acknowledge the same data after 4 or more retransmissions; 30 of them are "
        f"with {HERE}."
    ]


def test_five_thousand_idle_connections_are_silent(world: World) -> None:
    world.lab.establish(5000)
    assert world.advise("1s").findings == {}


# -- leaked ------------------------------------------------------------------------------------------------------------


@pytest.mark.alone
def test_descriptors_of_connections_that_were_reset_are_a_leak(world: World) -> None:
    for client, _ in pairs(world, 300):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
        client.close()
    wait_until(lambda: world.count("established") == 0, "the resets")
    advice = world.advise("0")
    assert advice.findings == {"descriptor_leak": "WARNING"}
    first = advice.evidence("descriptor_leak")[0]
    assert first.endswith(" TCP sockets of the host are held by a descriptor and are in no state.")
    assert int(first.partition(" ")[0].replace(",", "")) >= 280  # orphans of other namespaces are left out twice


@pytest.mark.alone
@pytest.mark.skipif(release() < (6, 8), reason="before 6.8 the kernel does not list bound sockets")
def test_sockets_that_are_bound_and_not_connected_are_no_leak(world: World) -> None:
    for _ in range(400):
        world.keep(world.socket()).bind(("127.0.0.1", 0))
    assert world.advise("0").findings == {}


LEAKING = """
import signal, socket, struct
server, kept = socket.create_server(("127.0.0.1", 0)), []
for number in range(300):
    client = socket.create_connection(server.getsockname())
    kept.append(server.accept()[0])
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
    client.close()
kept.append(socket.socket())  # never connected
kept.append(socket.create_connection(server.getsockname()))  # not leaked
bound = socket.socket()
bound.bind(("127.0.0.1", 0))
print("leaked", flush=True)
signal.pause()
"""


@pytest.mark.alone
@pytest.mark.skipif(release() < (6, 8), reason="before 6.8 the kernel does not list bound sockets")
def test_who_leaked_names_the_process_and_the_script_and_the_plugin_counts_them(world: World, tmp_path: Path) -> None:
    script = tmp_path / "forgetful.py"
    script.write_text(LEAKING)
    with world.lab.popen([sys.executable, str(script)]) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "leaked\n"
            owners = json.loads(world.run(sys.executable, "-m", "exporter", "who", "leaked", "--json"))["owners"]
            status, output = world.plugin("-s", "leaked_descriptors", "-w", "200")
        finally:
            process.kill()
    named = [it for it in owners if it["owner"].endswith(" forgetful.py")]
    assert [(it["sockets"], it["detail"].partition(",")[0]) for it in named] == [(301, f"pid {process.pid}")]
    assert (status, output.partition(" (")[0].rpartition(" ")[0]) == (1, "TCP STATES WARNING: leaked_descriptors")


# -- tracked -----------------------------------------------------------------------------------------------------------


def test_connection_tracking_is_counted_where_it_is_used(world: World) -> None:
    drop(world, "ct state invalid")
    world.listen(PORT, 10)
    world.connect(PORT, 5)
    shown = world.show()
    count = world.run("cat", "/proc/sys/net/netfilter/nf_conntrack_count")
    limit = world.run("cat", "/proc/sys/net/netfilter/nf_conntrack_max")
    assert (shown["conntrack"]["entries"], shown["conntrack"]["limit"]) == (int(count), int(limit))
    assert int(count) >= 5
    assert shown["conntrack"]["drops"] == 0
    code, output = world.plugin("-s", "conntrack_ratio", "-w", "0.8", "-c", "0.95")
    assert (code, output.partition(" ")[0]) == (0, "TCP")
