"""Targets: what the kernel answers and what its files say, real replies mutated and any bytes at all."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator

from exporter.errors import SourceError, SourceMalformed
from exporter.kernel import cgroup, netns, procnet, sysctl
from exporter.kernel.catalogue import CATALOGUE
from exporter.kernel.closes import CloseCounters, rows
from exporter.kernel.detail import DetailDump, summarise
from exporter.kernel.ephemeral import EphemeralPorts
from exporter.kernel.inetdiag import AF_INET, AF_INET6, DONE, CountingDump, Dump, ListenDump, Local, state_counts
from exporter.kernel.listeners import half_open_by_listener, listeners_of
from exporter.kernel.proctcp import ProcDetail, listening_ports
from exporter.kernel.quality import QualityDump
from exporter.kernel.silence import SilenceDump
from exporter.kernel.sockets import Counting, address, cgroup_ids, inodes, peers, ports
from exporter.kernel.timers import NAMES
from exporter.tcpstate import TcpState, of_number
from tests.fuzz import reference

_EPHEMERAL = EphemeralPorts(32768, 60999)
_PORTS, _LISTENING, _REMOTE = frozenset({80, 443}), frozenset({80, 40000}), frozenset({443, 8080})
_REPEATS = (
    0,
    1,
    100,
)  # a small reply is split, a large one goes through a pattern, and blocks are taken before the end


def _detail() -> DetailDump:
    return DetailDump(_PORTS, _LISTENING, _REMOTE, _EPHEMERAL, memory=True)


def netlink(data: bytes) -> None:
    """A reply, and the same again some times over, as the first byte says: the counts are those of each message."""
    reply, repeat = data[1:], _REPEATS[data[0] % len(_REPEATS)] if data else 0
    collectors = CountingDump(), _detail(), Counting(ports), Counting(peers), Counting(inodes), Counting(cgroup_ids)
    try:
        found = [*reference.sockets(reply)]
    except reference.Broken:
        for collector in collectors:
            _take(collector, reply, repeat)
        return
    for collector in collectors:
        assert _take(collector, reply, repeat), "a whole reply was refused"
    times = 1 + repeat
    counting, detail, by_port, by_peer, by_inode, by_cgroup = collectors

    def counted(values: Iterator[object]) -> Counter[object]:
        return Counter({value: number * times for value, number in Counter(values).items()})

    assert counting.sockets == counted((it.family, it.state, it.timer, it.first_attribute) for it in found)
    waiting = Counter((_end(it.local), it.queue, it.limit) for it in counting.listening)
    assert waiting == {key: number * times for key, number in reference.listening(found).items()}
    half_open = {_end(it): number for it, number in counting.half_open.items()}
    assert half_open == {key: number * times for key, number in reference.half_open(found).items()}
    assert by_port.sockets == counted(it.port for it in found)
    assert by_peer.sockets == counted((it.family, it.destination) for it in found)
    assert by_inode.sockets == counted(it.inode for it in found)
    assert by_cgroup.sockets.total() == len(found) * times
    assert detail.sockets == counted((it.family, it.state, it.timer, 0) for it in found)
    if reference.is_regular(found):  # else a message may have by chance what is another's attribute
        assert by_cgroup.sockets == counted(it.cgroup for it in found)
        assert detail.by_cgroup == counted((it.cgroup, it.state) for it in found)
    talking = [it for it in found if it.state != TcpState.LISTEN]
    assert detail.receive_queue == sum(it.receive_queue for it in talking) * times
    assert detail.send_queue == sum(it.send_queue for it in talking) * times
    for port, counts in detail.ports().items():
        of_port = Counter(of_number(it.state) for it in found if (it.port if it.port in _PORTS else 0) == port)
        assert counts == tuple(of_port[state] * times for state in TcpState)
    for port, counts in detail.remote_ports().items():
        of_port = Counter(of_number(it.state) for it in found if it.remote_port == port)
        assert counts == tuple(of_port[state] * times for state in TcpState)
    established = [it for it in found if it.state == TcpState.ESTABLISHED]
    for timer, name in NAMES.items():
        of_timer = [it for it in established if it.timer == timer]
        assert detail.timers()[name] == len(of_timer) * times
        for least, number in detail.waiting.unanswered().get(name, {}).items():
            assert number == sum(it.tries >= least for it in of_timer) * times
    assert detail.waiting.accept_pending == sum(it.inode == 0 for it in established) * times
    assert detail.destinations is not None
    assert detail.destinations.ports().total() == times * sum(
        32768 <= it.port <= 60999
        and it.port not in _LISTENING
        and of_number(it.state) not in {TcpState.UNKNOWN, TcpState.CLOSE, TcpState.LISTEN}
        for it in found
    )
    _summed(counting, detail, by_peer)
    _weighed(detail, found, times)


def _weighed(detail: DetailDump, found: list[reference.Socket], times: int) -> None:
    """The memory is that of each socket, and where one of them does not tell it there is no sum."""
    assert detail.memory is not None
    told = detail.memory.summary({number: f"unit-{number}" for number, _ in detail.by_cgroup}, (), 3, 0.0)
    expected = reference.memory(found)
    assert (told is None) == (expected is None) == (detail.memory.problem is not None)
    if told is None or expected is None:
        return
    by_port, by_cgroup = expected
    assert told.units is not None
    assert {int(port): size for port, size in told.ports.items() if port != "other"} == {
        port: by_port[port] * times for port in _PORTS
    }
    assert sum(told.ports.values()) == sum(told.units.values()) == by_port.total() * times == by_cgroup.total() * times


def _take(collector: Dump, reply: bytes, repeat: int) -> bool:
    """Whether the replies were taken, and did not end the dump before its end."""
    try:
        ended = collector.add(reply) or (repeat > 0 and collector.add(reply * repeat))
        return collector.add(DONE) and not ended
    except SourceError as error:
        assert str(error).startswith("netlink")
        return False


def closes(data: bytes) -> None:
    """Close events, once or in a batch: each is malformed in both or the same numbers in both."""
    message, repeat = data[1:], _REPEATS[data[0] % len(_REPEATS)] if data else 0
    batch = [message] * (1 + repeat)
    try:
        (one,) = rows([message])
    except SourceMalformed as error:
        assert str(error).startswith("closes:")
        try:
            CloseCounters().add(batch)
        except SourceMalformed:
            return
        raise AssertionError("a malformed event was counted in a batch") from None
    assert [*rows(batch)] == [one] * len(batch)
    assert all(number >= -1 for number in one[2:])
    counters = CloseCounters()
    counters.tell_apart([80], 1)
    seen = counters.add(batch)
    assert seen in {0, len(batch)}
    assert sum(it.connections for it in counters.values().values()) == seen
    assert all(sum(it.rtt) <= it.connections for it in counters.values().values())


def _end(local: Local) -> reference.Local:
    return local.family, int.from_bytes(local.port, "big"), local.address, local.device


def _summed(counting: CountingDump, detail: DetailDump, by_peer: Counting[tuple[int, bytes]]) -> None:
    """What is made of the counters has every socket too, and nothing in it fails."""
    total = sum(counting.sockets.values())
    assert sum(state_counts(counting.sockets)[0]) == total
    half_open = half_open_by_listener(counting.half_open, counting.listening)
    listeners = listeners_of(counting.listening, half_open, str)
    assert all(it.sockets > 0 and it.fullest >= 0 for it in listeners)
    assert sum(it.syn_recv for it in listeners) + half_open[None] == sum(counting.half_open.values())
    units = {number: f"unit-{number % 7}" for number, _ in detail.by_cgroup}
    told = summarise(detail, units, sorted(_PORTS), 3, _EPHEMERAL, 0.0)
    assert told.units is not None
    for counts in (told.families, told.ports, told.units):
        assert sum(map(sum, counts.values())) == total
    assert all(address(peer).isprintable() for peer in by_peer.sockets)


def quality(data: bytes) -> None:
    """A reply with tcp_info and memory: every socket is counted at most once, in one bucket of each distribution."""
    dump = QualityDump(_PORTS)
    for other in (ListenDump(), SilenceDump(_LISTENING)):
        _take(other, data[1:], 0)
    if not _take(dump, data[1:], _REPEATS[data[0] % len(_REPEATS)] if data else 0):
        return
    ports = dump.ports()
    assert sum(it.sockets for it in ports.values()) == dump.sockets <= dump.listed
    for found in ports.values():
        assert sum(found.idle) == found.sockets >= max(sum(found.rtt), found.retransmitting)
        assert not found.limited() or all(0 <= share <= 1 for share in found.limited().values())
    assert all(it.sockets > 0 and it.place.isprintable() for it in dump.transfers.values())


def _lines(data: bytes) -> io.TextIOWrapper:
    """As the reader opens a file."""
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="backslashreplace")


def tcp(data: bytes) -> None:
    """/proc/net/tcp and tcp6: what the strict parser takes, the lenient one counts alike, and each line is a socket."""
    family = AF_INET6 if data[:1] == b"6" else AF_INET
    text = data[1:]
    lenient = strict = None
    try:
        lenient = procnet.parse_tcp(_lines(text), "net/tcp")
    except SourceError as error:
        assert str(error).startswith("net/tcp:")
    try:
        strict = ProcDetail(_PORTS, _LISTENING, _REMOTE, _EPHEMERAL)
        strict.add_lines(_lines(text), "net/tcp", family)
        listening_ports(_lines(text), "net/tcp")
    except SourceError as error:
        assert str(error).startswith("net/tcp:")
        strict = None
    if lenient is not None:
        counts, _ = procnet.state_counts(lenient)
        assert sum(counts) == len([*_lines(text)]) - 1
        if strict is not None:
            assert tuple(map(sum, zip(*strict.families().values(), strict=True))) == counts
            summarise(strict, None, sorted(_PORTS), 3, _EPHEMERAL, 0.0)
    else:
        assert strict is None, "the strict parser took what the lenient one refused"


def snmp(data: bytes) -> None:
    """/proc/net/snmp and netstat: a table that is read is the table that was written."""
    text = data.decode("utf-8", "backslashreplace")
    for table in ("Tcp", "TcpExt"):
        try:
            counters = procnet.parse_snmp(text, "net/snmp", table)
        except SourceMalformed as error:
            assert str(error).startswith("net/snmp:")
            continue
        names, numbers = (line.split()[1:] for line in text.splitlines() if line.startswith(f"{table}: "))
        assert counters == {f"{table}.{name}": int(number) for name, number in zip(names, numbers, strict=True)}


def sockstat(data: bytes) -> None:
    """/proc/net/sockstat and sockstat6: no count is negative, and each stands in the file."""
    text = data.decode("utf-8", "backslashreplace")
    for parse in (procnet.parse_sockstat, procnet.parse_sockstat6):
        try:
            found = parse(text, "net/sockstat")
        except SourceMalformed as error:
            assert str(error).startswith("net/sockstat:")
            continue
        numbers = [found] if isinstance(found, int) else [it for it in found if it is not None]
        words = [int(word) for word in text.split() if word.lstrip("-").isdecimal()]
        assert all(number >= 0 and number in words for number in numbers)


_NAMES = (*CATALOGUE, "tcp_of_tomorrow", "tcp_some_secret")


def sysctls(data: bytes) -> None:
    """A sysctl, chosen by the first byte: numbers come out as they went in, words can be shown, secrets never come."""
    name, text = _NAMES[(data[0] if data else 0) % len(_NAMES)], data[1:].decode("utf-8", "backslashreplace")
    try:
        value = sysctl.parse(name, text)
    except SourceMalformed:
        return
    if sysctl.is_secret(name):
        assert (value.fields, value.text) == ((), None)
    elif value.text is not None:
        assert value.text.isprintable()
        assert not value.fields
    elif value.unit == "ports" and name.endswith("reserved_ports"):
        assert dict(value.fields) == {"count": len(_ports(text))}
    else:
        assert [number for _, number in value.fields] == [int(word) for word in text.split()]


def _ports(text: str) -> set[int]:
    ends = (item.split("-") for item in text.strip().split(",") if item)
    return {port for end in ends for port in range(int(end[0]), int(end[-1]) + 1)}


def names(data: bytes) -> None:
    """The mount table, paths of cgroups and names of namespaces: what comes of them can be shown."""
    text = data.decode("utf-8", "surrogateescape")
    list(cgroup.mounts(text.split("\n")))
    path = f"/{text}"
    written = "".join(f"\\{ord(it):03o}" if it in " \t\n\\#" else it for it in path)  # fs/seq_file.c: mangle_path
    line = f"41 31 0:39 {written} {written} rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
    assert list(cgroup.mounts([line])) == [cgroup.Mount("0:39", path, path)]
    resident = netns.Resident(
        names=tuple(filter(None, text.split("/")[:2])), pid=7, comm=text[:40], cgroup=text, is_own=data[:1] == b"s"
    )
    for name in (cgroup.unit_name(text), netns.name(resident), netns.name(resident._replace(names=()))):
        assert name
        assert name.isprintable()
        assert len(name) <= cgroup.LONGEST
    labels = netns.labels({(4, number): resident for number in range(3)})
    assert len({*labels.values()}) == 3
