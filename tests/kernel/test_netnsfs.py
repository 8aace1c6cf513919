"""Namespaces: fake trees of /proc for the rules, the kernel's for the truth."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from exporter.kernel.inetdiag import TallyDump
from exporter.kernel.netns import NamespaceCounts
from exporter.kernel.netnsfs import Namespaces
from exporter.kernel.reader import NetlinkReader
from exporter.tcpstate import TcpState
from tests.lab import LabProcess

pytestmark = pytest.mark.alone  # every namespace of the host is counted, and theirs, if others' tests made any

TITLES = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


class Clock:
    def __init__(self, tick: float = 0.0) -> None:
        self.now = 1000.0
        self._tick = tick

    def __call__(self) -> float:
        self.now += self._tick
        return self.now


class Host:
    """A procfs of processes in namespaces, and folders where namespaces are mounted: plain files, linked or not."""

    def __init__(self, folder: Path) -> None:
        self.procfs = folder / "proc"
        self.named, self.made_up = folder / "netns", folder / "docker"
        self.clock = Clock()
        for some in (self.procfs, self.named, self.made_up):
            some.mkdir()
        self.process(1, comm="systemd")
        self.process("self", like=1)

    def process(self, pid: int | str, *, like: int | None = None, comm: str = "nginx", cgroup: str = "0::/\n") -> None:
        """Make a process in a namespace of its own, without sockets, or in that of another process."""
        folder = self.procfs / str(pid)
        (folder / "net").mkdir(parents=True)
        (folder / "ns").mkdir()
        (folder / "comm").write_text(f"{comm}\n")
        (folder / "cgroup").write_text(cgroup)
        if like is None:
            (folder / "ns" / "net").write_text("")
            self.sockets(pid)
        else:
            for file in ("ns/net", "net/snmp", "net/sockstat", "net/tcp"):
                os.link(self.procfs / str(like) / file, folder / file)

    def sockets(self, pid: int | str, *states: TcpState, tw: int = 0) -> None:
        """Change the sockets of a namespace."""
        net = self.procfs / str(pid) / "net"
        established = states.count(TcpState.ESTABLISHED)
        names = "CurrEstab ActiveOpens PassiveOpens AttemptFails InSegs"
        (net / "snmp").write_text(f"Tcp: {names}\nTcp: {established} {len(states)} 0 0 0\n")
        (net / "sockstat").write_text(f"TCP: inuse {len(states)} orphan 0 tw {tw} alloc 9 mem 9\n")
        lines = [f"   0: 0:0 0:0 {state:02X} 0:0 00:0 0 0 0 8311 1\n" for state in states]
        (net / "tcp").write_text("".join((TITLES, *lines)))

    def end(self, pid: int) -> None:
        shutil.rmtree(self.procfs / str(pid))

    def namespaces(self, **options: object) -> Namespaces:
        arguments: dict[str, object] = {"named": (str(self.named),), "made_up": (str(self.made_up),)}
        arguments |= {"clock": self.clock, **options}
        return Namespaces(str(self.procfs), **arguments)  # type: ignore[arg-type]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def names(namespaces: Namespaces) -> list[str]:
    return [found.name for found in namespaces.count()]


def of(answers: list[NamespaceCounts], name: str) -> NamespaceCounts:
    [answer] = [answer for answer in answers if answer.name == name]
    return answer


def test_each_namespace_is_there_once_by_its_lowest_process(host: Host) -> None:
    host.process(1000)
    host.process(99, like=1000)
    host.process(7, like=1)
    assert names(host.namespaces()) == ["host", "nginx-99"]


def test_a_namespace_whose_only_process_has_lost_its_first_thread_is_counted_by_another(host: Host) -> None:
    host.process(50, comm="java")
    for file in ("net", "ns"):
        for thread in (50, 51):
            (host.procfs / "50" / "task" / str(thread)).mkdir(parents=True, exist_ok=True)
        (host.procfs / "50" / file).rename(host.procfs / "50" / "task" / "51" / file)
    host.sockets("50/task/51", TcpState.LISTEN)
    namespaces = host.namespaces()
    assert of(namespaces.count(), "java-50").counts[TcpState.LISTEN] == 1


def test_the_own_namespace_is_called_self_where_it_is_not_that_of_process_1(host: Host) -> None:
    shutil.rmtree(host.procfs / "self")
    host.process(500)
    host.process("self", like=500)
    assert names(host.namespaces()) == ["host", "self"]


def test_a_mounted_namespace_has_the_name_of_the_mount(host: Host) -> None:
    host.process(50)
    host.process(60)
    os.link(host.procfs / "50" / "ns" / "net", host.named / "blue")
    os.link(host.procfs / "60" / "ns" / "net", host.made_up / "3f2a9c1b77aa")
    os.link(host.procfs / "1" / "ns" / "net", host.made_up / "default")
    assert names(host.namespaces()) == ["3f2a9c1b77aa", "blue", "host"]


def test_a_namespace_without_a_process_that_cannot_be_entered_is_left_out(host: Host) -> None:
    (host.named / "empty").write_text("")
    (host.named / "folder").mkdir()
    assert names(host.namespaces()) == ["host"]


def test_a_namespace_that_ended_is_gone_at_once_and_a_new_one_is_there_after_the_next_scan(host: Host) -> None:
    host.process(50)
    namespaces = host.namespaces(between_scans=15)
    assert names(namespaces) == ["host", "nginx-50"]
    host.end(50)
    host.process(60)
    assert names(namespaces) == ["host"]
    host.clock.now += 14
    assert names(namespaces) == ["host"]
    host.clock.now += 1
    assert names(namespaces) == ["host", "nginx-60"]


def test_another_process_stands_in_for_one_that_ended(host: Host) -> None:
    host.process(50)
    host.process(51, like=50)
    namespaces = host.namespaces()
    assert names(namespaces) == ["host", "nginx-50"]
    host.end(50)
    host.sockets(51, TcpState.LISTEN)
    assert of(namespaces.count(), "nginx-50").counts[TcpState.LISTEN] == 1


def test_a_number_that_another_process_has_now_does_not_speak_for_the_namespace(host: Host) -> None:
    host.process(50)
    namespaces = host.namespaces()
    assert names(namespaces) == ["host", "nginx-50"]
    (host.procfs / "50").rename(host.procfs / "gone")  # or its inodes would be given out again
    host.process(50, like=1)
    assert names(namespaces) == ["host"]


def test_scans_take_one_percent_of_the_time_at_most(host: Host) -> None:
    host.clock = Clock(tick=1.0)  # a scan takes 1 s
    namespaces = host.namespaces(between_scans=15)
    namespaces.count()
    host.process(50)
    host.clock.now += 80
    assert names(namespaces) == ["host"]
    host.clock.now += 20
    assert names(namespaces) == ["host", "nginx-50"]


def test_a_namespace_without_sockets_is_not_walked(host: Host) -> None:
    for pid in range(100, 400):
        host.process(pid)
    namespaces = host.namespaces()
    answers = namespaces.count()
    assert (len(answers), namespaces.walks) == (301, 0)
    assert {answer[1:] for answer in answers} == {((0,) * len(TcpState), True)}


def test_one_in_which_nothing_happens_is_walked_again_only_after_a_minute(host: Host) -> None:
    host.process(50)
    host.sockets(50, TcpState.ESTABLISHED, TcpState.LISTEN)
    namespaces = host.namespaces()
    for seconds, walks in ((0, 1), (15, 1), (44, 1), (1, 2), (1, 2)):
        host.clock.now += seconds
        answer = of(namespaces.count(), "nginx-50")
        assert (answer.counts[TcpState.ESTABLISHED], answer.counts[TcpState.LISTEN], answer.exact) == (1, 1, True)
        assert namespaces.walks == walks


def test_one_in_which_something_happened_is_walked_again(host: Host) -> None:
    host.process(50)
    host.sockets(50, TcpState.LISTEN)
    namespaces = host.namespaces()
    namespaces.count()
    host.sockets(50, TcpState.LISTEN, TcpState.ESTABLISHED)
    assert of(namespaces.count(), "nginx-50").counts[TcpState.ESTABLISHED] == 1


def test_too_many_sockets_to_be_read_as_text_are_not_guessed(host: Host) -> None:
    host.process(50)
    host.sockets(50, *[TcpState.ESTABLISHED] * 3)
    answer = of(host.namespaces(most_listed=2).count(), "nginx-50")
    assert not answer.exact
    assert {state for state in TcpState if answer.counts[state] is not None} == {TcpState.TIME_WAIT}


def test_when_the_time_for_walks_is_up_the_rest_waits_and_comes_first_next_time(host: Host) -> None:
    host.clock = Clock(tick=0.01)
    for pid in (50, 60, 70):
        host.process(pid)
        host.sockets(pid, TcpState.LISTEN)
    namespaces = host.namespaces(walk_seconds=0.005)  # one walk
    for known in (1, 2, 3):
        answers = [answer for answer in namespaces.count() if answer.name != "host"]
        assert sum(answer.counts[TcpState.LISTEN] == 1 for answer in answers) == known
        assert sum(answer.exact for answer in answers) == known
    for pid in (50, 60, 70):
        host.sockets(pid, TcpState.LISTEN, TcpState.LISTEN)
    answers = [answer for answer in namespaces.count() if answer.name != "host"]
    assert sorted((answer.counts[TcpState.LISTEN] or 0, answer.exact) for answer in answers) == [
        (1, False),
        (1, False),
        (2, True),
    ]


def test_a_count_that_hangs_is_given_up_and_no_other_begins_beside_it(host: Host, wait: Wait) -> None:
    host.process(50)
    host.sockets(50, TcpState.LISTEN)
    fifo = host.procfs / "50" / "net" / "tcp"
    fifo.unlink()
    os.mkfifo(fifo)
    namespaces = host.namespaces(count_seconds=0.2)
    assert names(namespaces) in (["host"], [])
    assert names(namespaces) == []
    with fifo.open("w") as writer:
        writer.write(TITLES)
    wait(lambda: not any(thread.name == "namespaces" for thread in threading.enumerate()))
    fifo.unlink()
    fifo.write_text(TITLES)
    namespaces._count_seconds = 120.0  # a machine that is busy is not one that hangs
    assert names(namespaces) == ["host", "nginx-50"]


def test_an_error_of_ours_is_raised_where_the_count_was_asked_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    namespaces = host.namespaces()
    monkeypatch.setattr(namespaces, "_count_one", fail)
    with pytest.raises(ZeroDivisionError):
        namespaces.count()


def test_without_any_procfs_there_are_no_namespaces(tmp_path: Path) -> None:
    assert Namespaces(str(tmp_path / "nothing"), named=(), made_up=()).count() == []


# The kernel's.

POPULATIONS = (
    {"established": 3, "close_wait": 2, "time_wait": 4, "fin_wait2_orphan": 1, "syn_recv": 2, "listen": 1},
    {"listen": 2, "syn_sent": 3, "fin_wait2": 1, "last_ack": 2, "closing": 1, "syn_recv_full": 1},
)

Wait = Callable[[Callable[[], bool]], None]


@pytest.fixture
def wait() -> Wait:
    def until(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    return until


@pytest.fixture
def labs() -> Iterator[list[LabProcess]]:
    if os.geteuid() != 0:
        pytest.skip("only root may enter the namespaces of others")
    with ExitStack() as stack:
        made = [stack.enter_context(LabProcess()) for _ in range(3)]
        made[0].establish(5)
        for lab, population in zip(made[1:], POPULATIONS, strict=True):
            lab.make(population)
        yield made


def counted(namespaces: Namespaces, lab: LabProcess, answers: list[NamespaceCounts]) -> dict[str, int | None] | None:
    """The states of a lab that has any or cannot tell; None where the lab is not there."""
    name = namespaces._names.get(namespaces._key(str(lab.pid)) or (0, 0))
    for answer in answers:
        if answer.name == name:
            return {state.label: answer.counts[state] for state in TcpState if answer.counts[state] != 0}
    return None


def expected(lab: LabProcess) -> dict[str, int]:
    return {label: number for label, number in lab.expected().items() if number}


def check(namespaces: Namespaces, labs: list[LabProcess]) -> None:
    answers = namespaces.count()
    for lab in labs:
        assert counted(namespaces, lab, answers) == expected(lab)


@pytest.mark.lab
@pytest.mark.parametrize("enter", [True, False], ids=["entered", "by-proc"])
@pytest.mark.parametrize("derivable", [True, False], ids=["derived", "dumped"])
def test_three_namespaces_are_counted_exactly(labs: list[LabProcess], enter: bool, derivable: bool) -> None:
    namespaces = Namespaces(enter=enter, derivable=derivable)
    check(namespaces, labs)
    labs[0].establish(4)
    check(namespaces, labs)


@pytest.mark.lab
def test_only_one_that_is_entered_is_exact_however_many_sockets_it_has(labs: list[LabProcess]) -> None:
    check(Namespaces(most_listed=0), labs)
    by_proc = Namespaces(most_listed=0, enter=False)
    answers = by_proc.count()
    for lab, unknown in zip(labs, (11, 12, 11), strict=True):  # the first and the last have nothing in TIME_WAIT
        states = counted(by_proc, lab, answers)
        assert states is not None
        assert list(states.values()) == [None] * unknown


@pytest.mark.lab
def test_an_ordinary_user_counts_them_by_proc_exactly(labs: list[LabProcess]) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        namespaces = Namespaces()
        answers = namespaces.count()
        with os.fdopen(writing, "w") as file:
            json.dump([counted(namespaces, lab, answers) for lab in labs], file)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    assert os.waitpid(child, 0)[1] == 0
    assert json.loads(said) == [expected(lab) for lab in labs]


@pytest.mark.lab
@pytest.mark.parametrize("enter", [True, False], ids=["entered", "by-proc"])
def test_one_that_ends_between_two_counts_is_gone_and_the_others_stay(labs: list[LabProcess], enter: bool) -> None:
    namespaces = Namespaces(enter=enter)
    check(namespaces, labs)
    before = namespaces._names[namespaces._key(str(labs[1].pid)) or (0, 0)]
    labs[1].close()
    assert before not in names(namespaces)
    check(namespaces, [labs[0], labs[2]])


@pytest.mark.lab
def test_one_that_ends_while_it_is_counted_is_left_out_and_the_others_stay(
    labs: list[LabProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    namespaces = Namespaces()
    dying = namespaces._key(str(labs[1].pid))
    collect = NetlinkReader.collect

    def die(self: NetlinkReader, states: int, begin: Callable[[], TallyDump], port: int = 0) -> TallyDump:
        if namespaces._key("thread-self") == dying:
            labs[1].close()
        return collect(self, states, begin, port)

    monkeypatch.setattr(NetlinkReader, "collect", die)
    answers = namespaces.count()
    assert dying is not None
    assert namespaces._names[dying] not in [answer.name for answer in answers]
    for lab in (labs[0], labs[2]):
        assert counted(namespaces, lab, answers) == expected(lab)


@pytest.mark.lab
def test_a_namespace_that_only_a_mount_keeps_is_counted_by_its_name(labs: list[LabProcess], tmp_path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    point = tmp_path / "blue"
    point.write_text("")
    if libc.mount(f"/proc/{labs[1].pid}/ns/net".encode(), bytes(point), None, 0x1000, None) != 0:
        pytest.skip("nothing can be mounted here")
    try:
        namespaces = Namespaces(named=(str(tmp_path),))
        assert of(namespaces.count(), "blue").counts[TcpState.CLOSE_WAIT] == 2
        labs[1].close()
        answer = of(namespaces.count(), "blue")  # its mini-sockets need no process
        assert (answer.counts[TcpState.TIME_WAIT], answer.counts[TcpState.FIN_WAIT2], answer.exact) == (4, 1, True)
        assert "blue" not in names(Namespaces(named=(str(tmp_path),), enter=False))
        assert of(Namespaces(named=(str(tmp_path),)).count(), "blue").counts[TcpState.TIME_WAIT] == 4
    finally:
        assert libc.umount2(bytes(point), 2) == 0
    assert "blue" not in names(namespaces)


@pytest.mark.lab
def test_counting_leaves_no_descriptors_no_threads_and_nobody_elsewhere(labs: list[LabProcess]) -> None:
    def here() -> tuple[str, str, int, int]:
        links = [os.readlink(f"/proc/{who}/ns/net") for who in ("self", "thread-self")]
        return links[0], links[1], len(os.listdir("/proc/self/fd")), threading.active_count()

    namespaces = Namespaces(between_scans=0, keep_seconds=0)
    namespaces.count()
    before = here()
    for _ in range(20):
        check(namespaces, labs)
    assert namespaces.walks >= 21 * len(labs)
    assert here() == before


@pytest.mark.lab
def test_the_own_namespace_is_counted_by_netlink_without_being_entered(labs: list[LabProcess]) -> None:
    code = "from exporter.kernel.netnsfs import Namespaces; print(*Namespaces(most_listed=0, enter=False).count())"
    done = labs[0].run([sys.executable, "-c", code])
    assert f"NamespaceCounts(name='self', counts={(0, 5, *[0] * 10)}, exact=True)" in done.stdout
