"""The windows of ports: they cover every key once, and the kernel lists exactly the sockets of one."""

from __future__ import annotations

import sys
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from exporter.kernel.inetdiag import PORT, REMOTE_PORT, Block
from exporter.kernel.portwindows import EVERYTHING, MOST_KEYS, Density, Window, cut, key_of

PORTS = st.sampled_from([1, 22, 443, 5432, 32768, 40000, 50051, 60999, 65535])
PAIRS = st.lists(st.tuples(PORTS, PORTS), max_size=60)


def allows(bytecode: bytes, local: int, remote: int) -> bool:
    """Whether the kernel lists a socket of these ports, as inet_diag_bc_run decides it."""
    at, left = 0, len(bytecode)
    while left > 0:
        code, yes, no = bytecode[at], bytecode[at + 1], int.from_bytes(bytecode[at + 2 : at + 4], sys.byteorder)
        port = int.from_bytes(bytecode[at + 6 : at + 8], sys.byteorder)
        holds = {1: False, 2: local >= port, 3: local <= port, 4: remote >= port, 5: remote <= port}[code]
        step = yes if holds else no
        at, left = at + step, left - step
    return left == 0


def windows(keys: list[int], sockets: int, most: int) -> list[Window]:
    """Those of one round."""
    found = [cut(keys, sockets, most, 0)]
    while found[-1].next:
        found.append(cut(keys, sockets, most, found[-1].next))
    return found


@given(PAIRS, st.integers(1, 20))
def test_a_round_of_windows_has_every_key_once(pairs: list[tuple[int, int]], most: int) -> None:
    keys = sorted(key_of(local << 16 | remote) for local, remote in pairs)
    made = windows(keys, len(keys), most)
    assert (made[0].first, made[-1].last) == (0, EVERYTHING.last)
    assert all(before.next == after.first for before, after in pairwise(made))


@given(PAIRS, st.integers(1, 20), PORTS, PORTS)
@example([(1, 1), (1, 1)], 1, 1, 22)
def test_the_bytecode_of_a_window_lists_its_keys_and_no_others(
    pairs: list[tuple[int, int]], most: int, local: int, remote: int
) -> None:
    keys = sorted(key_of(one << 16 | other) for one, other in pairs)
    key = key_of(local << 16 | remote)
    for window in windows(keys, len(keys), most):
        assert allows(window.bytecode(), local, remote) is (window.first <= key <= window.last), window


@given(PAIRS, st.integers(1, 20))
def test_a_window_has_at_most_its_share_unless_ports_are_shared(pairs: list[tuple[int, int]], most: int) -> None:
    keys = sorted({key_of(local << 16 | remote) for local, remote in pairs})
    for window in windows(keys, len(keys), most):
        assert sum(window.first <= key <= window.last for key in keys) <= most


def test_few_sockets_are_one_window() -> None:
    assert cut([1, 2, 3], 3, 3, 0) == EVERYTHING
    assert EVERYTHING.bytecode() == b""


def message(port: int, remote_port: int) -> bytes:
    ends = bytearray(88)
    ends[PORT : PORT + 2], ends[REMOTE_PORT : REMOTE_PORT + 2] = port.to_bytes(2, "big"), remote_port.to_bytes(2, "big")
    return bytes(ends)


def test_a_density_has_the_keys_of_established_sockets() -> None:
    density = Density()
    density.take(Block(message(443, 50000) + message(40000, 5432) + message(443, 50001), 88), bytes([1, 1, 6]))
    assert density.keys() == [40000 << 16 | 5432, 50000 << 16 | 443]


def test_a_density_keeps_a_bounded_number_of_evenly_chosen_keys() -> None:
    density = Density()
    ports = range(1024, 61024)
    for start in range(0, len(ports), 600):
        block = b"".join(message(443, port) for port in ports[start : start + 600])
        density.take(Block(block, 88), bytes([1]) * 600)
    keys = density.keys()
    assert MOST_KEYS // 2 <= len(keys) <= MOST_KEYS
    low, middle, high = (keys[len(keys) * part // 4] >> 16 for part in (1, 2, 3))
    assert abs(low - 16024) < 1500
    assert abs(middle - 31024) < 1500
    assert abs(high - 46024) < 1500
