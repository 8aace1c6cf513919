"""Names of namespaces, and what their sums tell."""

from __future__ import annotations

import pytest

from exporter.kernel.cgroup import LONGEST
from exporter.kernel.derivation import Sums
from exporter.kernel.netns import NOTHING_TOLD, Reading, Resident, labels, name, told, unchanged
from exporter.tcpstate import TcpState

ID = "0123456789abcdef" * 4
SERVICE = "0::/system.slice/nginx.service\n"


@pytest.mark.parametrize(
    ("resident", "called"),
    [
        (Resident(names=("blue",), pid=7, comm="nginx", cgroup=SERVICE, is_host=True, is_own=True), "host"),
        (Resident(names=("blue",), pid=7, comm="nginx", cgroup=SERVICE, is_own=True), "self"),
        (Resident(names=("red", "blue"), pid=7, comm="nginx", cgroup=SERVICE), "blue"),
        (Resident(pid=7, comm="nginx", cgroup=SERVICE), "nginx.service"),
        (Resident(ids=("3f2a9c1b77aa",), pid=7, comm="nginx", cgroup=f"0::/docker/{ID}\n"), "docker-0123456789ab"),
        (Resident(ids=("3f2a9c1b77aa",), pid=7, comm="nginx", cgroup="0::/\n"), "3f2a9c1b77aa"),
        (Resident(ids=("ingress_sbox",)), "ingress_sbox"),
        (
            Resident(names=("cni-6a1c1d3e-9b1f-4c57-8f5e-0d7a3c2b1e4f",), pid=7, cgroup=f"0::/docker/{ID}\n"),
            "docker-0123456789ab",
        ),
        (Resident(names=("cni-6a1c1d3e-9b1f-4c57-8f5e-0d7a3c2b1e4f",)), "cni-6a1c1d3e-9b1f-4c57-8f5e-0d7a3c2b1e4f"),
        (Resident(pid=7, comm="nginx", cgroup=f"1:name=systemd:/docker/{ID}\n0::/\n"), "docker-0123456789ab"),
        (Resident(pid=7, comm="unshare", cgroup="0::/\n"), "unshare-7"),
        (Resident(pid=7, comm="unshare", cgroup="0::/../..\n"), "unshare-7"),
        (Resident(pid=7, comm="unshare", cgroup="0::/user.slice/user-0.slice/session-4.scope\n"), "unshare-7"),
        (Resident(pid=7, comm="unshare", cgroup="0::/user.slice/user@0.service/init.scope\n"), "unshare-7"),
        (Resident(pid=7), "process-7"),
        (Resident(), "unnamed"),
    ],
)
def test_a_namespace_is_called_after_what_lives_in_it(resident: Resident, called: str) -> None:
    assert name(resident) == called


def test_a_name_is_printable_and_of_bounded_length() -> None:
    assert name(Resident(names=('a\n"\x1b[0m',))) == 'a?"?[0m'
    assert name(Resident(pid=7, comm="\udcff" * 4000)) == f"{'?' * 15}-7"
    assert len(name(Resident(names=("x" * 255,)))) == LONGEST


def test_two_namespaces_never_share_a_label_and_the_lowest_inode_has_the_plain_one() -> None:
    web, other = Resident(names=("web",)), Resident(names=("web-2",))
    expected = {(4, 10): "web-2", (4, 20): "web", (4, 30): "web-3", (4, 40): "web-4"}
    residents = {(4, 30): web, (4, 10): other, (4, 40): web, (4, 20): web}
    assert labels(residents) == expected
    assert labels(dict(sorted(residents.items()))) == expected


def test_nobody_takes_the_name_of_the_host_however_low_its_inode() -> None:
    assert labels({(4, 1): Resident(names=("host",)), (4, 2): Resident(is_host=True)}) == {
        (4, 2): "host",
        (4, 1): "host-2",
    }


def test_no_process_takes_a_name_that_somebody_gave_however_low_its_inode() -> None:
    assert labels(
        {
            (4, 1): Resident(pid=7, comm="web"),
            (4, 2): Resident(names=("web-7",)),
            (4, 3): Resident(pid=8, comm="x.service", cgroup="0::/user.slice/user-0.slice/session-4.scope"),
            (4, 4): Resident(pid=9, cgroup="0::/system.slice/x.service-8.service"),
        }
    ) == {(4, 1): "web-7-2", (4, 2): "web-7", (4, 3): "x.service-8", (4, 4): "x.service-8.service"}


@pytest.mark.parametrize("called", ["host", "self", "other"])
def test_the_labels_of_ours_are_nobodys_name(called: str) -> None:
    assert labels({(4, 1): Resident(names=(called,))}) == {(4, 1): f"{called}-2"}


def test_a_label_with_its_number_is_not_longer_than_the_longest() -> None:
    long = Resident(names=("x" * LONGEST,))
    given = labels({(4, number): long for number in range(12)})
    assert len(set(given.values())) == 12
    assert {len(label) for label in given.values()} == {LONGEST}


def reading(inuse: int, tw: int, *, established: int = 0, events: int = 0, segments: int | None = 9) -> Reading:
    return Reading(Sums(established, inuse, tw, events), inuse, tw, segments)


def test_without_full_sockets_and_mini_sockets_every_state_is_0() -> None:
    assert told(reading(0, 0)) == (0,) * len(TcpState)


def test_mini_sockets_alone_may_be_in_two_states() -> None:
    counts = told(reading(0, 3))
    assert {state for state in TcpState if counts[state] is None} == {TcpState.FIN_WAIT2, TcpState.TIME_WAIT}


def test_full_sockets_may_be_in_every_state_but_one() -> None:
    counts = told(reading(3, 0, established=0))
    assert {state for state in TcpState if counts[state] is not None} == {TcpState.TIME_WAIT}
    assert told(reading(3, 3)) == NOTHING_TOLD


def test_a_namespace_is_unchanged_only_where_every_counter_is() -> None:
    before = reading(3, 1, established=2, events=7, segments=40)
    assert unchanged(before, before)
    for after in (
        reading(4, 1, established=2, events=7, segments=40),
        reading(3, 2, established=2, events=7, segments=40),
        reading(3, 1, established=1, events=7, segments=40),
        reading(3, 1, established=2, events=8, segments=40),
        reading(3, 1, established=2, events=7, segments=41),
    ):
        assert not unchanged(before, after)


def test_counters_that_are_missing_prove_nothing() -> None:
    assert not unchanged(Reading(None, 3, 1, 40), Reading(None, 3, 1, 40))
    assert not unchanged(reading(3, 1, segments=None), reading(3, 1, segments=None))
