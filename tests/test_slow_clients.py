"""No slow client keeps a good one out, and each is cut in time: the table of docs/security.md, held to its bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.slow_clients import measure_silent, measure_slow, probing, probing_tls, run

pytestmark = pytest.mark.e2e

MIB = 2**20


def test_slow_clients_are_cut_by_absolute_deadlines_and_cost_next_to_nothing() -> None:
    async def scenario() -> None:
        async with probing() as probe:
            slow = await measure_slow(probe)
        for cut in (slow.idle, slow.half, slow.trickled):
            assert (
                4.9 < cut < 60
            )  # a busy machine's 5; without a deadline the third has an end after 250, the others none
        assert slow.memory_of_80 < 4 * MIB
        assert slow.memory_of_stuck < 4 * MIB  # of 64 that they have asked for

    run(scenario)


def test_silent_tls_clients_keep_nobody_out_however_many(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with probing_tls(tmp_path) as probe:
            silent = await measure_silent(probe, many=3000)
        assert 4.9 < silent.handshake < 60
        assert silent.many > 1000
        assert silent.descriptors_of_many <= 110
        # Silent clients begin no TLS, so the buffers of TLS come with the stuck ones; together they stay small.
        assert silent.memory_of_many < 8 * MIB
        assert silent.memory_of_stuck < 16 * MIB

    run(scenario)
