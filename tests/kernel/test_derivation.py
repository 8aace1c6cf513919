"""ESTABLISHED and TIME_WAIT from the kernel's sums, and when the sums are not to be trusted."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.kernel.derivation import (
    FEW,
    Bias,
    Carried,
    Comparison,
    Derived,
    Meaning,
    Sums,
    Trust,
    carried,
    compare,
    derive,
    states_to_dump,
    sums,
)
from exporter.kernel.inetdiag import ALL_STATES, COPIED_STATES, Tally
from exporter.tcpstate import StateCounts, TcpState

SHUTDOWN, NONE = 8, 0
MEANINGS = pytest.mark.parametrize("meaning", Meaning)
BOTH, ALONE = Meaning.ESTABLISHED_AND_CLOSE_WAIT, Meaning.ESTABLISHED
KINDS = {  # what the dump says of a socket, and what the sums count it in
    "established": ((2, 1, 0, SHUTDOWN), (1, 1, 0)),
    "syn_sent": ((2, 2, 1, SHUTDOWN), (0, 1, 0)),
    "syn_recv": ((2, 3, 1, NONE), (0, 0, 0)),
    "syn_recv_full": ((2, 3, 1, SHUTDOWN), (0, 1, 0)),
    "fin_wait1": ((2, 4, 1, SHUTDOWN), (0, 1, 0)),
    "fin_wait2": ((10, 5, 0, SHUTDOWN), (0, 1, 0)),
    "fin_wait2_mini": ((10, 5, 3, NONE), (0, 0, 1)),
    "time_wait": ((10, 6, 3, NONE), (0, 0, 1)),
    "close_wait": ((2, 8, 0, SHUTDOWN), (1, 1, 0)),
    "last_ack": ((2, 9, 1, SHUTDOWN), (0, 1, 0)),
    "listen": ((10, 10, 0, SHUTDOWN), (0, 1, 0)),
    "closing": ((2, 11, 1, SHUTDOWN), (0, 1, 0)),
}
POPULATIONS = st.dictionaries(st.sampled_from(sorted(KINDS)), st.integers(0, 1000))


def host(population: dict[str, int], *, meaning: Meaning = BOTH) -> tuple[Tally, Tally, Sums]:
    """The full dump of a population, the dump that leaves the two large states out, and the sums.

    CurrEstab is as since Linux 6.10, or without the CLOSE_WAIT sockets as before.
    """
    full: Tally = Counter()
    totals = [0, 0, 0]
    for kind, number in population.items():
        key, parts = KINDS[kind]
        full[key] += number
        totals = [total + part * number for total, part in zip(totals, parts, strict=True)]
    copied = Counter({key: number for key, number in full.items() if key[1] not in {1, 6}})
    established, inuse, tw = totals
    if meaning == ALONE:
        established -= population.get("close_wait", 0)
    return full, copied, Sums(established, inuse, tw, events=0)


def counts(full: Tally) -> tuple[int, ...]:
    by_state = Counter(dict.fromkeys(range(12), 0))
    for (_, state, _, _), number in full.items():
        by_state[state] += number
    return tuple(by_state[state] for state in range(12))


def learned(population: dict[str, int], meaning: Meaning) -> Meaning | None:
    """What a population at rest shows of CurrEstab."""
    return meaning if population.get("close_wait") else None


@MEANINGS
@given(population=POPULATIONS)
def test_the_derived_counts_are_those_of_counting_every_socket(meaning: Meaning, population: dict[str, int]) -> None:
    full, copied, at = host(population, meaning=meaning)
    expected = Derived(counts(full), 0, meaning=learned(population, meaning))
    assert derive(copied, COPIED_STATES, at, at) == expected
    assert derive(copied, COPIED_STATES, at, at, meaning) == expected._replace(meaning=meaning)


@MEANINGS
@given(population=POPULATIONS)
def test_what_is_listed_is_counted_and_held_against_the_sums(meaning: Meaning, population: dict[str, int]) -> None:
    full, _, at = host(population, meaning=meaning)
    listed: Tally = Counter({key: number for key, number in full.items() if key[1] != 6})
    expected = Derived(counts(full), 0, listed=True, meaning=learned(population, meaning))
    assert derive(listed, states_to_dump(0), at, at) == expected
    drifted = at._replace(established=at.established + 1)
    assert derive(listed, states_to_dump(0), drifted, drifted, meaning) is None


def test_currestab_of_an_old_kernel_is_established_alone_and_that_is_learned() -> None:
    dump: Tally = Counter({(2, 8, 0, 0): 20, (2, 10, 0, 0): 1})
    before, after = Sums(2000, 2021, 0, 1000), Sums(2000, 2021, 0, 1015)  # CurrEstab is 2000: Linux 5.10.218
    derived = derive(dump, states_to_dump(2000), before, after)
    assert derived is not None
    assert (derived.counts[1], derived.meaning) == (2000, None)  # so much churn explains both
    full: Tally = Counter({(2, 1, 0, 0): 200, **dump})
    at_rest = Sums(200, 221, 0, 1000)
    assert derive(full, states_to_dump(200), at_rest, at_rest) == Derived(
        (0, 200, 0, 0, 0, 0, 0, 0, 20, 0, 1, 0), difference=0, listed=True, meaning=ALONE
    )


def test_a_sum_that_fits_the_other_meaning_alone_is_a_contradiction() -> None:
    _, copied, at = host({"established": 2000, "close_wait": 20}, meaning=ALONE)
    assert derive(copied, COPIED_STATES, at, at, meaning=BOTH) is None


def test_a_meaning_that_was_learned_wrongly_is_learned_anew_from_a_full_dump() -> None:
    full, _, at = host({"established": 2000, "close_wait": 20}, meaning=ALONE)
    trust = Trust("5.10.218")
    trust.seen(0, BOTH)
    trust.verified(compare(full, at, at))
    assert (trust.meaning, trust.holds) == (ALONE, True)
    trust.seen(0, None)
    assert trust.meaning is ALONE


@given(population=POPULATIONS, gone=st.integers(0, 1000), opened=st.integers(0, 1000))
def test_established_is_never_short_by_more_than_what_happened_while_the_dump_ran(
    population: dict[str, int], gone: int, opened: int
) -> None:
    population = {"close_wait": gone, **population}
    gone = min(gone, population["close_wait"])  # closed by the application and acknowledged after the walk
    held = population.get("established", 0)
    for meaning in Meaning:
        _, copied, before = host(population, meaning=meaning)
        after = before._replace(
            established=before.established + opened - gone * meaning,
            inuse=before.inuse + opened - gone,
            events=before.events + opened,
        )
        derived = derive(copied, COPIED_STATES, before, after, meaning)
        assert derived is not None
        assert derived.counts[1] >= held - after.churn_since(before)


def test_only_many_established_sockets_are_left_out_of_the_dump() -> None:
    assert (states_to_dump(FEW), states_to_dump(FEW + 1)) == (ALL_STATES & ~(1 << 6), COPIED_STATES)


def test_sockets_that_were_in_close_wait_meanwhile_do_not_count_as_established_where_these_are_listed() -> None:
    full, copied, before = host({"established": 200, "close_wait": 130})
    after = before._replace(established=200, inuse=200, tw=130, events=130)  # the server has closed them since
    derived, listed = derive(copied, COPIED_STATES, before, after), derive(full, states_to_dump(200), before, after)
    assert derived is not None
    assert listed is not None
    assert (derived.counts[1], listed.counts[1]) == (70, 200)


@MEANINGS
@given(population=POPULATIONS)
def test_a_full_dump_agrees_with_true_sums(meaning: Meaning, population: dict[str, int]) -> None:
    full, _, at = host(population, meaning=meaning)
    assert compare(full, at, at) == Comparison(0, 0, 0, learned(population, meaning))


def test_sums_that_contradict_each_other_give_no_counts() -> None:
    _, copied, at = host({"established": 100, "close_wait": 3})
    drifted = at._replace(established=at.established - 1)
    assert derive(copied, COPIED_STATES, drifted, drifted) is None


def test_more_mini_sockets_than_the_kernel_counts_give_no_counts() -> None:
    _, copied, at = host({"fin_wait2_mini": 5})
    assert derive(copied, COPIED_STATES, at._replace(tw=4), at._replace(tw=4)) is None


def test_a_full_dump_tells_a_drifted_sum() -> None:
    full, _, at = host({"established": 100, "time_wait": 50})
    drifted = at._replace(established=99, tw=52)
    comparison = compare(full, drifted, drifted)
    assert (comparison, comparison.agrees) == (Comparison(established=-1, tw=2, slack=0), False)


def test_what_happened_between_the_two_readings_is_no_contradiction() -> None:
    _, copied, before = host({"established": 100, "listen": 1})
    after = Sums(established=101, inuse=102, tw=2, events=3)  # three opened, two of them closed again
    assert derive(copied, COPIED_STATES, before, after) == Derived((0, 101, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0), difference=0)


def test_a_socket_that_closed_during_the_dump_makes_no_negative_count() -> None:
    _, copied, before = host({"close_wait": 2})
    after = Sums(established=1, inuse=1, tw=0, events=0)
    assert derive(copied, COPIED_STATES, before, after) == Derived((0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0), difference=0)


@pytest.mark.parametrize(
    ("differences", "persists"),
    [
        ([], False),
        ([5] * 3, False),
        ([5] * 4, True),
        ([-1, -9, -2, -3], True),
        ([5, 5, 0, 5], False),
        ([5, 5, -1, 5], False),
        ([0, 5, 5, 5, 5], True),
        ([5, 5, 5, 5, 0], False),
    ],
)
def test_drift_errs_to_one_side_in_every_sample_and_churn_does_not(differences: list[int], persists: bool) -> None:
    bias = Bias(samples=4)
    for difference in differences:
        bias.add(difference)
    assert bias.persists is persists


def test_currestab_caught_below_zero_is_read_as_what_it_is() -> None:
    counters = {"Tcp.CurrEstab": (1 << 64) - 2, "Tcp.ActiveOpens": 1, "Tcp.PassiveOpens": 2, "Tcp.AttemptFails": 4}
    assert sums(counters, inuse=5, tw=6) == Sums(established=-2, inuse=5, tw=6, events=7)


def by_state(**numbers: int) -> StateCounts:
    return tuple(numbers.get(state.label, 0) for state in TcpState)


@pytest.mark.parametrize("meaning", Meaning)
def test_a_walk_is_carried_on_by_the_sums_which_know_nothing_of_the_other_states(meaning: Meaning) -> None:
    before = by_state(established=1000, close_wait=30, time_wait=200, fin_wait2=7, listen=3)
    at = Sums(1000 + 30 * meaning, 1040, 207, 5000)
    now = at._replace(established=at.established + 40, tw=at.tw - 50, events=5050)
    assert carried(before, at, now, meaning) == Carried(
        by_state(established=1040, close_wait=30, time_wait=150, fin_wait2=7, listen=3),
        (TcpState.ESTABLISHED, TcpState.TIME_WAIT),
    )


def test_where_close_wait_may_have_changed_by_much_established_stays_as_the_walk_counted_it() -> None:
    before = by_state(established=1000, close_wait=30, time_wait=200)
    at = Sums(1030, 1030, 200, 5000)
    now = at._replace(established=1010, events=5021)  # 41 connections ended: perhaps all that were in CLOSE_WAIT
    stays = Carried(before, (TcpState.TIME_WAIT,))
    moves = Carried(by_state(established=980, close_wait=30, time_wait=200), (TcpState.ESTABLISHED, TcpState.TIME_WAIT))
    assert carried(before, at, now, Meaning.ESTABLISHED_AND_CLOSE_WAIT) == stays
    assert carried(before, at, now, None) == stays
    assert carried(before, at, now, Meaning.ESTABLISHED) == moves
    assert carried(before, at, now._replace(events=5000), Meaning.ESTABLISHED_AND_CLOSE_WAIT) == moves


def test_what_is_carried_never_falls_below_nothing() -> None:
    at = Sums(10, 10, 5, 0)
    assert carried(by_state(established=8, time_wait=4), at, Sums(0, 0, 0, 0), None).counts == by_state()
