"""ESTABLISHED sockets by timer, unanswered tries and accept(): the columns against a look at each socket."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exporter.kernel.detail import DetailDump
from exporter.kernel.timers import NAMES, TRIES
from tests.kernel.test_detail import DONE, Socket

sockets = st.tuples(
    st.sampled_from([1, 1, 1, 2, 3, 6, 8, 10]),
    st.sampled_from([0, 1, 2, 3, 4]),
    st.sampled_from([0, 0, 0, 1, 2, 3, 5, 8, 9, 255]),
    st.sampled_from([0, 0, 1, 1 << 8, 1 << 16, 1 << 24, 0xFFFFFF00]),
).map(lambda it: Socket(state=it[0], timer=it[1], tries=it[2], inode=it[3]))


def collected(found: list[Socket]) -> DetailDump:
    dump = DetailDump(frozenset())
    dump.add(b"".join(it.message() for it in found))
    assert dump.add(DONE)
    return dump


@given(st.lists(sockets, max_size=60))
def test_whatever_the_sockets_are_those_established_are_counted_and_no_others(found: list[Socket]) -> None:
    dump, established = collected(found), [it for it in found if it.state == 1]
    assert dump.timers() == {name: sum(it.timer == timer for it in established) for timer, name in NAMES.items()}
    assert dump.waiting.unanswered() == {
        name: {least: sum(it.timer == timer and it.tries >= least for it in established) for least in TRIES}
        for timer, name in NAMES.items()
        if timer
    }
    assert dump.waiting.accept_pending == sum(it.inode == 0 for it in established)


def test_every_combination_of_kind_and_tries_is_0_where_all_are_answered() -> None:
    nothing = dict.fromkeys((1, 2, 3, 5, 8), 0)
    assert collected([Socket(timer=2)]).waiting.unanswered() == dict.fromkeys(
        ("keepalive", "retransmit", "probe"), nothing
    )
