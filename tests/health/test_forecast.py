"""When a limit is full: a slow leak is told, and nothing that only looks like one is."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.health.forecast import HORIZON, LEAST_MINUTES, MINUTES, seconds_to_full

LIMIT = 10_000.0
HOUR = range(MINUTES)
MINUTE = st.integers(0, MINUTES - 1)
LEVEL = st.floats(0.0, LIMIT / 2)
SEED = st.integers(0, 2**32)


def noisy(levels: Sequence[float], seed: int, most: float) -> list[float]:
    noise = random.Random(seed)
    return [level + noise.uniform(0, most) for level in levels]


def test_a_leak_of_ten_a_minute_is_told_to_the_second() -> None:
    assert seconds_to_full([1000.0 + 10 * minute for minute in HOUR], LIMIT) == 60 * (10_000 - 1590) / 10


@given(start=LEVEL, rate=st.floats(1.0, 50.0), seed=SEED)
def test_a_leak_is_told_through_noise_of_a_tenth_of_what_it_is_in_an_hour(start: float, rate: float, seed: int) -> None:
    lows = noisy([start + rate * minute for minute in HOUR], seed, 6 * rate)
    """Rather too late than too early: noise may make the last quarter look slower."""
    left, told = 60 * (LIMIT - start - 59 * rate) / rate, seconds_to_full(lows, LIMIT)
    assert told is not None
    assert 0.8 * left < told < 1.6 * left


@given(st.lists(st.none() | st.floats(0.0, LIMIT), max_size=MINUTES))
def test_too_few_minutes_tell_nothing_and_no_answer_is_beyond_its_bounds(lows: list[float | None]) -> None:
    left = seconds_to_full(lows, LIMIT)
    if len([low for low in lows if low is not None]) < LEAST_MINUTES:
        assert left is None
    assert left is None or 0 <= left <= HORIZON


def test_it_needs_twenty_minutes_and_not_an_hour() -> None:
    def of(minutes: int) -> int | None:
        return seconds_to_full([1000.0 + 10 * minute for minute in range(minutes)], LIMIT)

    assert (of(LEAST_MINUTES - 1), of(LEAST_MINUTES)) == (None, 60 * (10_000 - 1190) // 10)


def test_what_is_not_known_any_more_is_not_told_any_more() -> None:
    leak: list[float | None] = [1000.0 + 10 * minute for minute in HOUR]
    assert seconds_to_full([*leak, None, None], LIMIT) is not None
    assert seconds_to_full([*leak, None, None, None], LIMIT) is None


@given(minute=st.sets(MINUTE, max_size=20))
def test_holes_change_nothing_of_a_leak(minute: set[int]) -> None:
    lows = [None if it in minute - {MINUTES - 1} else 1000.0 + 10 * it for it in HOUR]
    assert seconds_to_full(lows, LIMIT) == pytest.approx(50_460, abs=1)


@given(level=LEVEL, seed=SEED, most=st.floats(0.0, LIMIT / 2))
def test_noise_does_not_rise(level: float, seed: int, most: float) -> None:
    assert seconds_to_full(noisy([level] * MINUTES, seed, most), LIMIT) == HORIZON


@given(minute=MINUTE, level=LEVEL, height=st.floats(1.0, LIMIT / 3), seed=SEED)
def test_a_step_as_a_deployment_makes_it_does_not_rise(minute: int, level: float, height: float, seed: int) -> None:
    lows = noisy([level + height * (it >= minute) for it in HOUR], seed, height / 20)
    assert seconds_to_full(lows, LIMIT) == HORIZON


@given(minute=MINUTE, lasts=st.integers(1, 15), level=LEVEL, height=st.floats(1.0, LIMIT / 3), seed=SEED)
def test_a_burst_does_not_rise_while_it_lasts_or_afterwards(
    minute: int, lasts: int, level: float, height: float, seed: int
) -> None:
    lows = noisy([level + height * (minute <= it < minute + lasts) for it in HOUR], seed, height / 20)
    assert seconds_to_full(lows, LIMIT) == HORIZON


@given(period=st.integers(2, 45), phase=st.integers(0, 45), level=LEVEL, height=st.floats(1.0, LIMIT / 3), seed=SEED)
def test_a_sawtooth_does_not_rise(period: int, phase: int, level: float, height: float, seed: int) -> None:
    lows = noisy([level + height * ((it + phase) % period) / period for it in HOUR], seed, height / 20)
    assert seconds_to_full(lows, LIMIT) == HORIZON


@given(start=st.floats(0.0, 24.0), peak=st.floats(0.0, 0.8), seed=SEED)
def test_the_tide_of_a_day_never_alarms(start: float, peak: float, seed: int) -> None:
    """Not for a limit that it fills to four fifths at its height."""

    def used(minute: int) -> float:
        return LIMIT * peak * (1 - math.cos(math.tau * (start + minute / 60) / 24)) / 2

    left = seconds_to_full(noisy([used(minute) for minute in HOUR], seed, LIMIT / 1000), LIMIT)
    assert left is not None
    assert left > 4 * 3600


@pytest.mark.parametrize("began", [20, 30, 40, 55])
def test_a_ramp_of_the_last_forty_minutes_is_not_a_leak_yet(began: int) -> None:
    lows = [1000.0 + 100 * max(0, minute - began) for minute in HOUR]
    assert seconds_to_full(lows, LIMIT) == HORIZON


def test_a_ramp_that_has_ended_does_not_rise() -> None:
    assert seconds_to_full([1000.0 + 100 * min(minute, 45) for minute in HOUR], LIMIT) == HORIZON


def test_a_ramp_that_has_slowed_down_is_judged_by_its_last_quarter() -> None:
    lows = [1000.0 + 20 * min(minute, 30) + 10 * max(0, minute - 30) for minute in HOUR]
    assert seconds_to_full(lows, LIMIT) == 60 * (10_000 - 1890) / 10


def test_what_is_full_is_full_now_whether_it_rises_or_not() -> None:
    assert [seconds_to_full([level] * MINUTES, LIMIT) for level in (LIMIT, LIMIT + 1, LIMIT - 1)] == [0, 0, HORIZON]


def test_what_an_hour_cannot_see_is_as_if_it_did_not_rise() -> None:
    assert seconds_to_full([1000.0 + 0.1 * minute for minute in HOUR], LIMIT) == HORIZON
