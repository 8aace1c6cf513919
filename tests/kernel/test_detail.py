"""The detail of every socket: what is counted of each message, and how label values are capped."""

from __future__ import annotations

import struct
from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.details import Peers
from exporter.kernel import detail, troubles
from exporter.kernel.detail import DetailDump, capped, told_apart
from exporter.kernel.ephemeral import EphemeralPorts, Taken
from exporter.kernel.inetdiag import MAPPED
from exporter.tcpstate import StateCounts, TcpState, of_number

DONE = struct.pack("=IHHIIi", 20, 3, 2, 1, 99, 0)
SHUTDOWN = struct.pack("=HHB3x", 5, 8, 0)
MARK = struct.pack("=HHI", 8, 15, 0)
EPHEMERAL = EphemeralPorts(32768, 60999)


class Socket(NamedTuple):
    """One socket as a dump lists it."""

    family: int = 2
    state: int = 1
    timer: int = 0
    tries: int = 0
    port: int = 443
    remote_port: int = 50000
    local: bytes = bytes(16)
    remote: bytes = bytes(16)
    receive_queue: int = 0
    send_queue: int = 0
    cgroup: int = 0
    marks: int = 0
    inode: int = 7

    def message(self) -> bytes:
        ends = struct.pack("!HH16s16s", self.port, self.remote_port, self.local, self.remote) + bytes(12)
        queues = struct.pack("=IIIII", 0, self.receive_queue, self.send_queue, 0, self.inode)
        cgroup = struct.pack("=HHQ", 12, 21, self.cgroup) if self.cgroup else b""
        body = (
            bytes([self.family, self.state, self.timer, self.tries])
            + ends
            + queues
            + SHUTDOWN
            + MARK * self.marks
            + cgroup
        )
        return struct.pack("=IHHII", 16 + len(body), 18, 2, 1, 99) + body


def collected(sockets: list[Socket], **told: frozenset[int] | EphemeralPorts) -> DetailDump:
    dump = DetailDump(**{"ports": frozenset({443}), **told})  # type: ignore[arg-type]  # keywords of several types
    messages = [socket.message() for socket in sockets]
    for start in range(0, len(messages), 100):
        assert not dump.add(b"".join(messages[start : start + 100]))
    assert dump.add(DONE)
    return dump


def by_state(sockets: list[Socket]) -> StateCounts:
    counted = Counter(of_number(socket.state) for socket in sockets)
    return tuple(counted[state] for state in TcpState)


ADDRESSES = st.sampled_from([bytes(16), bytes(range(16)), bytes(10) + b"\xff\xff\xc0\0\2\1"])
PORTS = st.sampled_from([1, 80, 443, 444, 8080, 32767, 32768, 40000, 40001, 60928, 60999, 61000, 65535])
SOCKETS = st.builds(
    Socket,
    family=st.sampled_from([2, 10]),
    state=st.integers(0, 15),
    timer=st.integers(0, 4),
    tries=st.integers(0, 255),
    port=PORTS,
    remote_port=PORTS,
    local=ADDRESSES,
    remote=ADDRESSES,
    receive_queue=st.sampled_from([0, 0, 1, 1 << 31]),
    send_queue=st.sampled_from([0, 0, 3, 1 << 24]),
    cgroup=st.sampled_from([0, 1, 0x123456, 1 << 24, (1 << 64) - 1]),
    marks=st.integers(0, 1),
    inode=st.integers(0, 2**32 - 1),
)


@given(st.lists(SOCKETS, max_size=30), st.sampled_from([1, 50]))
def test_whatever_the_sockets_are_each_is_counted_once_in_each_way(sockets: list[Socket], repeat: int) -> None:
    sockets = sockets * repeat
    listening = frozenset({80, 40000})
    dump = collected(
        sockets, ports=frozenset({80, 443}), listening=listening, remote_ports=frozenset({8080}), ephemeral=EPHEMERAL
    )
    assert dump.sockets == Counter((it.family, it.state, it.timer, 0) for it in sockets)
    assert dump.by_cgroup == Counter((it.cgroup, it.state) for it in sockets)
    assert dump.ports() == {
        80: by_state([it for it in sockets if it.port == 80]),
        443: by_state([it for it in sockets if it.port == 443]),
        0: by_state([it for it in sockets if it.port not in {80, 443}]),
    }
    assert dump.remote_ports() == {8080: by_state([it for it in sockets if it.remote_port == 8080])}
    talking = [it for it in sockets if it.state != TcpState.LISTEN]
    assert dump.receive_queue == sum(it.receive_queue for it in talking)
    assert dump.send_queue == sum(it.send_queue for it in talking)
    assert dump.destinations is not None
    assert dump.destinations.ports().total() == sum(
        32768 <= it.port <= 60999
        and it.port not in listening
        and of_number(it.state) not in {TcpState.UNKNOWN, TcpState.CLOSE, TcpState.LISTEN}
        for it in sockets
    )


def test_an_address_of_ipv4_is_one_destination_mapped_into_ipv6_or_not() -> None:
    here, there = bytes([192, 0, 2, 1]), bytes([198, 51, 100, 7])
    mapped = MAPPED
    dump = collected(
        [
            Socket(2, port=40000, remote_port=443, local=here + bytes(12), remote=there + bytes(12)),
            Socket(10, port=40001, remote_port=443, local=mapped + here, remote=mapped + there),
            Socket(10, port=40002, remote_port=443, local=mapped + here, remote=bytes(15) + b"\1"),
        ],
        ephemeral=EPHEMERAL,
    )
    assert dump.destinations is not None
    assert dump.destinations.fullest() == Taken(2, 0, 0, 1, "192.0.2.1 -> 198.51.100.7:443")


def test_what_is_told_apart_while_a_dump_runs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detail, "MAX_KEYS", 50)
    busy = [Socket(port=40000 + number, remote_port=443) for number in range(300)]
    others = [Socket(port=number, remote_port=number) for number in range(33000, 34500)]
    dump = collected(busy + others, ports=frozenset({40000}), ephemeral=EPHEMERAL)
    assert dump.destinations is not None
    assert dump.destinations.fullest().used == 300
    assert dump.ports() == {40000: by_state(busy[:1]), 0: by_state(busy[1:] + others)}
    assert (len(dump._sockets) <= 50, len(dump.destinations.ports()) <= 50) == (True, True)


def test_kept_ports_of_many_cgroups_are_counted_in_bounded_memory_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detail, "MAX_KEYS", 50)
    sockets = [Socket(port=port, cgroup=cgroup) for port in range(20) for cgroup in range(1, 41)]
    dump = collected(sockets, ports=frozenset(range(20)))
    assert dump.sockets == {(2, 1, 0, 0): 800}
    assert dump.by_cgroup == {(cgroup, 1): 20 for cgroup in range(1, 41)}
    assert dump.ports() == {port: by_state([it for it in sockets if it.port == port]) for port in range(20)}
    assert len(dump._sockets) <= 50


def test_a_range_of_ephemeral_ports_that_makes_no_sense_picks_none() -> None:
    sockets = [Socket(port=number) for number in (1, 40000, 65535)]
    for low, high in ((60999, 32768), (70000, 80000), (-5, -1), (-5, -50)):
        destinations = collected(sockets, ephemeral=EphemeralPorts(low, high)).destinations
        assert destinations is not None
        assert destinations.ports() == {}


def test_the_largest_are_kept_configured_ones_first_and_the_rest_is_other() -> None:
    counts = {name: (number, *[0] * 11) for name, number in (("a", 1), ("b", 9), ("c", 5), ("d", 3))}
    assert capped(counts, 2, ["a"]) == ({"a": counts["a"], "b": counts["b"], "other": (8, *[0] * 11)}, 2)


def test_a_name_that_is_other_itself_is_added_to_the_rest() -> None:
    one = (1, *[0] * 11)
    assert capped({"other": one, "x": one}, 100) == ({"x": one, "other": one}, 0)


def test_listeners_in_the_ephemeral_range_are_told_apart_only_where_they_are_configured() -> None:
    assert told_apart(frozenset({80, 40000, 50000}), [50000, 9999], EphemeralPorts(32768, 60999)) == {80, 50000, 9999}


def test_a_reserved_port_in_the_ephemeral_range_is_that_of_a_service() -> None:
    ephemeral = EphemeralPorts(1024, 65535, frozenset({8080}))
    assert told_apart(frozenset({80, 8080, 40000}), [], ephemeral) == {80, 8080}
    dump = collected([Socket(port=8080), Socket(port=8081)], ports=frozenset({8080}), ephemeral=ephemeral)
    assert dump.destinations is not None
    assert dump.destinations.ports().total() == 1


def test_reserved_ports_are_not_available() -> None:
    assert EphemeralPorts(40000, 40009, frozenset({40003, 40005, 1})).number == 8


PEER, OTHER = bytes([198, 51, 100, 7]) + bytes(12), bytes([198, 51, 100, 8]) + bytes(12)
SYN_SENT = int(TcpState.SYN_SENT)


def test_troubles_are_told_by_timer_tries_and_receive_queue_and_have_their_place() -> None:
    sockets = [
        *[Socket(state=SYN_SENT, timer=1, tries=1, remote=PEER, remote_port=5432)] * 3,
        Socket(state=SYN_SENT, timer=1, tries=2, remote=OTHER, remote_port=5432),
        Socket(state=SYN_SENT, timer=1, tries=0, remote=PEER, remote_port=5432),  # has just begun
        *[Socket(timer=1, tries=1, remote=PEER)] * 2,
        *[Socket(timer=1, tries=4, remote=OTHER)] * 4,
        Socket(timer=2, tries=2, remote=PEER),
        Socket(timer=2, tries=1, remote=PEER),  # one probe may be lost
        Socket(family=10, timer=4, tries=0, remote=MAPPED + PEER[:4]),
        Socket(timer=4, tries=3, remote=PEER),  # probes without an answer: the peer says nothing of its window
        Socket(receive_queue=32768, port=8443),
        Socket(receive_queue=1 << 24, port=8443),
        Socket(receive_queue=32767, port=8443),
        Socket(state=10, receive_queue=70000, port=8443),  # a listener counts connections
        Socket(state=4, timer=1, tries=9, remote=PEER),  # an orphan: another finding's
    ]
    assert collected(sockets).troubles.peers() == {
        "syn_unanswered": Peers(4, 3, "198.51.100.7:5432"),
        "retransmitting": Peers(6, 4, "198.51.100.8"),
        "data_unanswered": Peers(4, 4, "198.51.100.8"),
        "keepalive_unanswered": Peers(1, 1, "198.51.100.7"),
        "peer_reads_nothing": Peers(1, 1, "198.51.100.7"),
        "not_read": Peers(2, 2, "port 8443"),
    }


def test_places_of_both_families_are_one_where_the_address_is_mapped_and_ipv6_has_brackets() -> None:
    six = bytes.fromhex("20010db8000000000000000000000001")
    sockets = [
        Socket(state=SYN_SENT, timer=1, tries=1, remote=PEER, remote_port=5432),
        Socket(family=10, state=SYN_SENT, timer=1, tries=1, remote=MAPPED + PEER[:4], remote_port=5432),
    ]
    assert collected(sockets).troubles.peers() == {"syn_unanswered": Peers(2, 2, "198.51.100.7:5432")}
    sockets = [Socket(family=10, state=SYN_SENT, timer=1, tries=1, remote=six, remote_port=5432)]
    assert collected(sockets).troubles.peers() == {"syn_unanswered": Peers(1, 1, "[2001:db8::1]:5432")}


def test_a_million_places_are_not_all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(troubles, "MAX_PLACES", 16)
    sockets = [Socket(timer=1, tries=1, remote=(n << 96).to_bytes(16, "big")) for n in range(200)]
    sockets += [Socket(timer=1, tries=1, remote=PEER)] * 9
    assert collected(sockets).troubles.peers() == {"retransmitting": Peers(209, 9, "198.51.100.7")}


def test_no_trouble_is_no_entry() -> None:
    assert collected([Socket(), Socket(timer=2), Socket(timer=3, state=6)]).troubles.peers() == {}
