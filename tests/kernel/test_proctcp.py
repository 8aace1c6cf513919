"""The sockets of /proc/net/tcp and tcp6, told apart as those of a netlink dump are."""

from __future__ import annotations

import json
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.details import Detail, Peers
from exporter.errors import SourceError, SourceMalformed
from exporter.kernel.detail import summarise
from exporter.kernel.ephemeral import EphemeralPorts, Taken
from exporter.kernel.inetdiag import AF_INET, AF_INET6
from exporter.kernel.procnet import parse_tcp, state_counts
from exporter.kernel.proctcp import ProcDetail, listening_ports
from exporter.tcpstate import StateCounts, TcpState
from tests.conftest import SITUATIONS, situation_root
from tests.lab import KINDS, LabProcess, LabUnavailable

# Lines as Linux 6.18 prints them. 192.0.2.1, 192.0.2.2 and 203.0.113.80; 2001:db8::1, mapped addresses, ::1.
TITLES = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode   \n"
LISTEN = (
    "   0: 010200C0:01BB 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 544119 1"
    " 00000000aa3e3e0b 100 0 0 10 0                    \n"
)
ESTABLISHED = (
    "   1: 010200C0:01BB 020200C0:9C40 01 0000000A:00000102 01:00000014 00000000     0        0 544120 1"
    " 00000000aa3e3e0c 20 4 30 10 -1                   \n"
)
SYN_RECV = (
    "   2: 010200C0:01BB 020200C0:9C41 03 00000000:00000000 01:0000005B 00000000     0        0 0 0 0000000000000000\n"
)
TIME_WAIT = (
    "   3: 020200C0:DECE 507100CB:01BB 06 00000000:00000000 03:000004C1 00000000     0        0 0 3 000000005192bb87"
    "                                      \n"
)
CONNECTED = (
    "10004: 020200C0:DED0 507100CB:01BB 01 00000000:00000001 00:00000000 00000000  1000        0 90210 2"
    " 00000000aa3e3e0d 20 4 30 10 -1\n"
)
TITLES6 = (
    "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when"
    " retrnsmt   uid  timeout inode\n"
)
LISTEN6 = (
    "   0: B80D0120000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000"
    " 00000000     0        0 545882 1 00000000545cb3c1 100 0 0 10 0\n"
)
MAPPED6 = (
    "   1: 0000000000000000FFFF0000020200C0:DECE 0000000000000000FFFF0000507100CB:01BB 08 00000000:00000001 00:00000000"
    " 00000000     0        0 545883 1 00000000545cb3c2 20 4 30 10 -1\n"
)
LOOPBACK6 = (
    "   2: 00000000000000000000000001000000:DECF 00000000000000000000000001000000:1F90 01 00000000:00000000 00:00000000"
    " 00000000     0        0 545884 1 00000000545cb3c3 20 4 30 10 -1\n"
)
IPV4 = [TITLES, LISTEN, ESTABLISHED, SYN_RECV, TIME_WAIT, CONNECTED]
IPV6 = [TITLES6, LISTEN6, MAPPED6, LOOPBACK6]
EPHEMERAL = EphemeralPorts(32768, 60999)
little_endian = pytest.mark.skipif(sys.byteorder == "big", reason="the lines are of a little-endian host")


def collected(lines: list[str], lines6: list[str], ephemeral: EphemeralPorts | None = EPHEMERAL) -> ProcDetail:
    detail = ProcDetail(frozenset({443}), frozenset({443, 8080}), frozenset({443}), ephemeral)
    detail.add_lines(lines, "net/tcp", AF_INET)
    detail.add_lines(lines6, "net/tcp6", AF_INET6)
    return detail


def counts(**numbers: int) -> StateCounts:
    """Counts by the labels of states."""
    assert numbers.keys() <= {state.label for state in TcpState}
    return tuple(numbers.get(state.label, 0) for state in TcpState)


@little_endian
def test_the_lines_of_both_files_give_the_detail_that_a_dump_gives_but_no_units() -> None:
    assert summarise(collected(IPV4, IPV6), None, (), 100, EPHEMERAL, 5.0) == Detail(
        taken_at=5.0,
        families={
            "ipv4": counts(listen=1, established=2, syn_recv=1, time_wait=1),
            "ipv6": counts(listen=1, close_wait=1, established=1),
        },
        ports={
            "443": counts(listen=1, established=1, syn_recv=1),
            "other": counts(listen=1, established=2, time_wait=1, close_wait=1),
        },
        remote_ports={"443": counts(established=1, time_wait=1, close_wait=1)},
        units=None,
        receive_queue=0x102 + 1 + 1,
        send_queue=0xA,
        ephemeral_used=3,
        ephemeral_available=28232,
        ephemeral_towards="192.0.2.2 -> 203.0.113.80:443",
        folded={"tcp_port_connections": 1},
        ephemeral_waiting=1,
        ephemeral_destinations=1,
        timers={"none": 2, "keepalive": 0, "retransmit": 1, "probe": 0},
        unanswered={kind: dict.fromkeys((1, 2, 3, 5, 8), 0) for kind in ("keepalive", "retransmit", "probe")},
        accept_pending=0,
    )


@little_endian
@pytest.mark.parametrize(
    ("lines", "lines6", "destination"),
    [
        ([TITLES, TIME_WAIT], [TITLES6], "192.0.2.2 -> 203.0.113.80:443"),
        ([TITLES], [TITLES6, MAPPED6], "192.0.2.2 -> 203.0.113.80:443"),
        ([TITLES], [TITLES6, LOOPBACK6], "::1 -> [::1]:8080"),
    ],
)
def test_an_address_is_words_in_the_order_of_the_host(lines: list[str], lines6: list[str], destination: str) -> None:
    destinations = collected(lines, lines6).destinations
    assert destinations is not None
    assert (destinations.fullest().used, destinations.fullest().towards) == (1, destination)


def test_the_accept_queue_of_a_listener_is_no_bytes() -> None:
    listener = collected([TITLES, LISTEN.replace("00000000:00000003", "00000080:00000003")], [TITLES6])
    assert (listener.receive_queue, listener.send_queue) == (0, 0)


def test_queues_are_read_to_the_last_bit() -> None:
    full = collected([TITLES, ESTABLISHED.replace("0000000A:00000102", "FFFFFFFF:80000001")], [TITLES6])
    assert (full.receive_queue, full.send_queue) == (0x80000001, 0xFFFFFFFF)


@little_endian
def test_unanswered_segments_and_probes_are_told_by_their_own_columns() -> None:
    resent = ESTABLISHED.replace("01:00000014 00000000     0        0", "01:00000014 00000005     0        0")
    probed = ESTABLISHED.replace("01:00000014 00000000     0        0", "02:00000014 00000000     0        3")
    blocked = ESTABLISHED.replace("01:00000014 00000000     0        0", "04:00000014 00000007     0        0")
    peer = Peers(1, 1, "192.0.2.2")
    assert collected([TITLES, ESTABLISHED, resent, probed, blocked], [TITLES6]).troubles.peers() == {
        "retransmitting": peer,
        "data_unanswered": peer,
        "keepalive_unanswered": peer,
        "peer_reads_nothing": peer,
    }


def test_without_the_range_of_ephemeral_ports_no_destination_is_counted() -> None:
    assert collected(IPV4, IPV6, None).destinations is None


def test_a_state_without_a_name_is_counted_as_unknown() -> None:
    detail = collected([TITLES, ESTABLISHED.replace(" 01 ", " 0E ")], [TITLES6])
    assert detail.ports() == {443: counts(unknown=1), 0: counts()}


def test_tables_without_sockets_have_none() -> None:
    detail = collected([TITLES], [TITLES6])
    assert detail.ports() == {443: counts(), 0: counts()}
    assert detail.remote_ports() == {443: counts()}
    assert detail.families() == {"ipv4": counts(), "ipv6": counts()}
    assert detail.destinations is not None
    assert detail.destinations.fullest() == Taken()


def test_more_lines_than_a_batch_are_all_counted() -> None:
    detail = collected([TITLES, *[ESTABLISHED] * 5000], [TITLES6, *[LISTEN6] * 1024])
    assert detail.families() == {"ipv4": counts(established=5000), "ipv6": counts(listen=1024)}


def test_lines_are_taken_as_they_come_and_not_kept() -> None:
    detail = ProcDetail(frozenset())
    seen = []

    def lines() -> Iterator[str]:
        yield TITLES
        for _ in range(10_000):
            seen.append(detail.ports()[0][TcpState.ESTABLISHED])
            yield ESTABLISHED

    detail.add_lines(lines(), "net/tcp", AF_INET)
    assert max(taken - counted for taken, counted in enumerate(seen)) <= 2048


def test_listening_ports_are_those_of_the_listeners_of_either_file() -> None:
    assert listening_ports(IPV4, "net/tcp") == frozenset({443})
    assert listening_ports(IPV6, "net/tcp6") == frozenset({8080})


@pytest.mark.parametrize("situation", sorted(set(SITUATIONS) - {"truncated"}))
def test_families_of_a_situation_add_up_to_what_the_counting_reader_counts(situation: str) -> None:
    detail = ProcDetail(frozenset())
    states: Counter[str] = Counter()
    listening = 0
    for family, name in ((AF_INET, "tcp"), (AF_INET6, "tcp6")):
        file = Path(situation_root(situation), "net", name)
        if name == "tcp6" and not file.exists():
            continue
        lines = file.read_text().splitlines(keepends=True)
        states += parse_tcp(lines, str(file))
        detail.add_lines(lines, str(file), family)
        listening += len(listening_ports(lines, str(file)))
    families = detail.families()
    total = tuple(map(sum, zip(families["ipv4"], families["ipv6"], strict=True)))
    assert total == state_counts(states)[0] == detail.ports()[0]
    assert 0 < listening <= total[TcpState.LISTEN]


def test_a_situation_that_was_cut_is_an_error_as_for_the_counting_reader() -> None:
    file = Path(situation_root("truncated"), "net", "tcp")
    lines = file.read_text().splitlines(keepends=True)
    raised = []
    for read in (
        lambda: parse_tcp(lines, str(file)),
        lambda: listening_ports(lines, str(file)),
        lambda: ProcDetail(frozenset()).add_lines(lines, str(file), AF_INET),
    ):
        with pytest.raises(SourceMalformed) as error:
            read()
        raised.append((error.value.source, error.value.lineno, error.value.text))
    assert raised == [(f"{file}:{len(lines)}", len(lines), lines[-1].rstrip("\n"))] * 3


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([], "net/tcp:1: cannot read '': expected the column titles of /proc/net/tcp"),
        (["junk\n"], "net/tcp:1: cannot read 'junk': expected the column titles of /proc/net/tcp"),
        (["  sl  local"], "net/tcp:1: cannot read '  sl  local': expected the column titles of /proc/net/tcp"),
        ([TITLES, "\n"], "net/tcp:2: cannot read '': expected a socket with addresses, state, queues and inode"),
        (
            [TITLES, LISTEN, SYN_RECV[:60]],
            f"net/tcp:3: cannot read {SYN_RECV[:60]!r}: expected a socket with addresses, state, queues and inode",
        ),
        (
            [TITLES, LOOPBACK6],
            f"net/tcp:2: cannot read {LOOPBACK6[:80]!r}: expected a socket with addresses, state, queues and inode",
        ),
    ],
)
def test_a_line_that_cannot_be_read_is_an_error_with_file_number_and_text(lines: list[str], text: str) -> None:
    with pytest.raises(SourceMalformed) as raised:
        ProcDetail(frozenset()).add_lines(lines, "net/tcp", AF_INET)
    assert str(raised.value) == text


def test_a_line_of_ipv4_in_the_file_of_ipv6_is_an_error() -> None:
    with pytest.raises(SourceMalformed):
        ProcDetail(frozenset()).add_lines([TITLES6, ESTABLISHED], "net/tcp6", AF_INET6)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (" 01 ", " zz "),
        (" 01 ", " +1 "),
        (" 01 ", " 001 "),
        (" 01 ", " \u0661\u0661 "),
        ("010200C0", "010200c0"),
        ("010200C0", "0102_0C0"),
        ("010200C0", "010200C"),
        (":01BB", ":1BB"),
        (":01BB", ":001BB"),
        (":9C40", ":GGGG"),
        ("0000000A:", "A:"),
        (":00000102", ":-0000102"),
        ("0000000A:00000102", "0000000A"),
        ("   1:", "   1"),
    ],
)
def test_a_field_that_is_not_as_the_kernel_prints_it_is_an_error(right: str, wrong: str) -> None:
    line = ESTABLISHED.replace(right, wrong, 1)
    assert line != ESTABLISHED
    with pytest.raises(SourceMalformed):
        collected([TITLES, line], [TITLES6])
    with pytest.raises(SourceMalformed):
        listening_ports([TITLES, line], "net/tcp")


@pytest.mark.parametrize(("titles", "line", "family"), [(TITLES, SYN_RECV, AF_INET), (TITLES6, LISTEN6, AF_INET6)])
def test_a_line_without_its_end_is_an_error_wherever_it_is_cut(titles: str, line: str, family: int) -> None:
    for cut in range(1, len(line)):
        with pytest.raises(SourceMalformed):
            ProcDetail(frozenset()).add_lines([titles, line, line[:cut]], "net/tcp", family)
        with pytest.raises(SourceMalformed):
            listening_ports([titles, line, line[:cut]], "net/tcp")


@pytest.mark.parametrize("line", [LISTEN.rstrip() + " new 1 2\n", LISTEN.rstrip() + "\n", LISTEN])
def test_more_columns_than_today_and_no_padding_are_no_error(line: str) -> None:
    assert collected([TITLES, line], [TITLES6]).families() == {"ipv4": counts(listen=1), "ipv6": counts()}


def test_the_inode_is_the_last_column_that_must_be_there() -> None:
    columns = ESTABLISHED.split()
    assert listening_ports([TITLES, " ".join(columns[:10]) + "\n"], "net/tcp") == frozenset()
    with pytest.raises(SourceMalformed):
        listening_ports([TITLES, " ".join(columns[:9]) + "\n"], "net/tcp")


@given(st.text(max_size=300), st.sampled_from([AF_INET, AF_INET6]), st.integers(0, len(ESTABLISHED)))
def test_no_text_raises_anything_but_a_source_error(text: str, family: int, position: int) -> None:
    torn = ESTABLISHED[:position] + text + ESTABLISHED[position:]
    for lines in (text.splitlines(keepends=True), [TITLES, text], [TITLES, torn], [TITLES, text, ESTABLISHED]):
        for read in (
            lambda lines=lines: listening_ports(lines, "file"),
            lambda lines=lines: ProcDetail(frozenset({443}), frozenset({443}), frozenset({443}), EPHEMERAL).add_lines(
                lines, "file", family
            ),
        ):
            try:
                read()
            except SourceError as error:
                assert str(error).startswith("file:")


@given(
    st.lists(
        st.tuples(
            st.binary(min_size=4, max_size=4),
            st.integers(0, 65535),
            st.binary(min_size=4, max_size=4),
            st.integers(0, 65535),
            st.sampled_from(sorted(set(TcpState) - {TcpState.UNKNOWN})),
            st.integers(0, 0xFFFFFFFF),
            st.integers(0, 0xFFFFFFFF),
        ),
        max_size=30,
    )
)
def test_whatever_the_kernel_prints_is_counted(
    sockets: list[tuple[bytes, int, bytes, int, TcpState, int, int]],
) -> None:
    lines, expected = [TITLES], Counter[tuple[int, TcpState]]()
    for local, port, remote, remote_port, state, send, receive in sockets:
        here, there = (int.from_bytes(address, sys.byteorder) for address in (local, remote))
        ends = f"{here:08X}:{port:04X} {there:08X}:{remote_port:04X}"
        lines.append(f"   0: {ends} {state:02X} {send:08X}:{receive:08X} 00:00000000 00000000 0 0 7\n")
        expected[port, state] += 1
    every_port = frozenset(port for port, _ in expected)
    detail = ProcDetail(every_port, ephemeral=EphemeralPorts(0, 65535))
    detail.add_lines(lines, "net/tcp", AF_INET)
    assert detail.families()["ipv4"] == counts(**Counter(state.label for *_, state, _, _ in sockets))
    found = {(port, state): n for port, row in detail.ports().items() for state, n in zip(TcpState, row, strict=True)}
    assert {key: number for key, number in found.items() if number} == expected
    talking = [socket for socket in sockets if socket[4] != TcpState.LISTEN]
    assert detail.send_queue == sum(socket[5] for socket in talking)
    assert detail.receive_queue == sum(socket[6] for socket in talking)
    towards = Counter(
        AF_INET.to_bytes(1, "big") + remote_port.to_bytes(2, "big") + local + bytes(12) + remote + bytes(12)
        for local, _, remote, remote_port, state, _, _ in talking
        if state != TcpState.CLOSE
    )
    assert detail.destinations is not None
    assert detail.destinations.ports() == towards


# Run in the lab's namespace, beside its population: clients that share destinations, unequal in number, and what they
# sent stays unread and, where the reader's buffer is full, unsent. Then both ways of collecting, told the same.
COMPARE = """
import json, socket
from exporter.kernel.detail import DetailDump
from exporter.kernel.ephemeral import EphemeralPorts
from exporter.kernel.inetdiag import ALL_STATES, AF_INET, AF_INET6, CountingDump
from exporter.kernel.proctcp import ProcDetail, listening_ports
from exporter.kernel.reader import NetlinkReader, Procfs

held = []
for family, address, dual, clients in (
    (socket.AF_INET, "127.0.0.1", False, 5), (socket.AF_INET6, "::1", False, 4), (socket.AF_INET6, "::", True, 3),
):
    server = socket.create_server((address, 0), family=family, dualstack_ipv6=dual)
    held.append(server)
    for number in range(clients):
        client = socket.create_connection(("127.0.0.1" if dual else address, server.getsockname()[1]))
        held += [client, *([server.accept()[0]] if number else [])]
        client.setblocking(False)
        client.send(bytes(100 + number))
        if number == 2:
            try:
                while client.send(bytes(65536)):
                    pass
            except BlockingIOError:
                pass

procfs, reader = Procfs(), NetlinkReader()
files = (("net/tcp", AF_INET), ("net/tcp6", AF_INET6))
listening = frozenset().union(*(listening_ports(procfs.lines(path), path) for path, _ in files))
by_netlink = reader.collect(1 << 10, CountingDump).listening
told = listening, listening, frozenset({443, *listening}), EphemeralPorts(20000, 65535)

def of_proc():
    detail = ProcDetail(*told)
    for path, family in files:
        detail.add_lines(procfs.lines(path), path, family)
    return detail

def said(dump):
    taken = dump.destinations.fullest()
    return {
        "ports": dump.ports(), "remote_ports": dump.remote_ports(), "families": dump.families(),
        "busiest": [taken.used, taken.towards],
        "destinations": {key.hex(): number for key, number in dump.destinations.ports().items()},
        "receive_queue": dump.receive_queue, "send_queue": dump.send_queue,
    }

for _ in range(50):  # a window probe or a late acknowledgement may fall between the two
    before = said(of_proc())
    netlink = said(reader.collect(ALL_STATES, lambda: DetailDump(*told)))
    after = said(of_proc())
    if before == after:
        break
print(json.dumps({
    "listening": [sorted(listening), sorted({int.from_bytes(socket.local.port, "big") for socket in by_netlink})],
    "netlink": netlink, "proc": after,
}))
"""


@pytest.fixture
def populated() -> Iterator[LabProcess]:
    """Every kind of socket, in numbers that differ, both families."""
    try:
        with LabProcess() as lab:
            for offset, family in ((1, socket.AF_INET), (3, socket.AF_INET6)):
                lab.make({kind: offset + position % 4 for position, kind in enumerate(KINDS)}, family)
            yield lab
    except LabUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.lab
def test_the_files_tell_of_every_kind_of_socket_what_netlink_tells(populated: LabProcess) -> None:
    done = populated.run([sys.executable, "-c", COMPARE])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["proc"] == found["netlink"]
    assert found["listening"][0] == found["listening"][1]
    assert found["proc"]["busiest"][0] == 5
    assert found["proc"]["busiest"][1].startswith("127.0.0.1 -> 127.0.0.1:")
    assert min(found["proc"]["receive_queue"], found["proc"]["send_queue"]) > 0
    states = [max(column) for column in zip(*found["proc"]["families"].values(), strict=True)]
    assert [state for state in TcpState if not states[state]] == [TcpState.UNKNOWN, TcpState.CLOSE]
