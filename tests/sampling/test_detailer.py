"""The detail pass where a part of it fails, or where the kernel cannot list bound sockets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.details import Detail
from exporter.errors import SourceUnreadable
from exporter.kernel import stateless
from exporter.kernel.derivation import Trust
from exporter.kernel.inetdiag import BOUND_INACTIVE, DONE
from exporter.kernel.reader import NetlinkReader, Procfs, ProcfsReader
from exporter.sampling.detailer import Detailer, Wanted
from tests.kernel.test_detail import Socket

if TYPE_CHECKING:
    from exporter.kernel.reader import C

ALLOCATED = 1000
TITLES = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


class Sockets(NetlinkReader):
    """One established socket, and some that are bound and not connected, or an error in their place."""

    def __init__(self, bound: int | SourceUnreadable) -> None:
        super().__init__()
        self.bound = bound

    def collect(self, states: int, begin: Callable[[], C], port: int = 0, extensions: int = 0) -> C:
        sockets = [Socket(timer=2, tries=3)]
        if states == BOUND_INACTIVE:
            if isinstance(self.bound, SourceUnreadable):
                raise self.bound
            sockets = [Socket(state=13, port=4000 + number) for number in range(self.bound)]
        collector = begin()
        collector.add(b"".join(it.message() for it in sockets) + DONE)
        return collector


def detail(
    root: Path, reader: NetlinkReader | None, monkeypatch: pytest.MonkeyPatch, *, release: str = "6.18.0",
    in_no_state: int | None = 900,
) -> Detail:  # fmt: skip
    """The detail of a host with so many sockets in no state."""
    for path, text in {
        "net/sockstat": f"TCP: inuse 1 orphan 0 tw 0 alloc {ALLOCATED} mem 0\n",
        "net/tcp": TITLES,
        "sys/kernel/osrelease": f"{release}\n",
        "sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
        "sys/net/ipv4/ip_local_reserved_ports": "\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="ascii")
    monkeypatch.setattr(stateless, "count", lambda _: in_no_state)  # which needs a whole host
    procfs = Procfs(str(root))
    chain: Sequence[NetlinkReader | ProcfsReader] = [ProcfsReader(procfs) if reader is None else reader]
    return Detailer(procfs, chain, Trust(release)).detail(Wanted(), 0.0)


@pytest.mark.parametrize(
    ("reader", "release", "in_no_state", "leaked"),
    [
        (Sockets(300), "6.18.0", 900, 600),
        (Sockets(0), "6.18.0", 900, 900),
        (Sockets(0), "6.1.0", 900, None),  # it lists none, and there may be 900
        (Sockets(300), "5.14.0-570.el9", 900, 600),  # it lists some: the change was taken over
        (Sockets(0), "6.1.0", 0, 0),
        (Sockets(0), "6.18.0", None, None),
        (None, "6.18.0", 900, None),
        (None, "6.18.0", 0, 0),
    ],
)
def test_leaked_are_those_in_no_state_that_are_known_not_to_be_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Sockets | None, release: str, in_no_state: int | None,
    leaked: int | None,
) -> None:  # fmt: skip
    assert detail(tmp_path, reader, monkeypatch, release=release, in_no_state=in_no_state).stateless == leaked


def test_a_failed_list_of_bound_sockets_costs_what_needs_it_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = detail(tmp_path, Sockets(SourceUnreadable("netlink", "refused")), monkeypatch)
    assert found.problem == "sockets that are bound and in no state: netlink: refused"
    assert (found.stateless, found.ephemeral_available) == (None, None)
    assert found.timers == {"none": 0, "keepalive": 1, "retransmit": 0, "probe": 0}
    assert found.unanswered is not None
    assert found.unanswered["keepalive"] == {1: 1, 2: 1, 3: 1, 5: 0, 8: 0}
