"""Measures: what a reading is, and when it is unknown instead of a number that looks fine."""

from __future__ import annotations

import pytest

from exporter.health.forecast import HORIZON
from exporter.health.measures import BY_NAME, MEASURES, Reading, readings, values
from exporter.snapshot import Listener
from tests.conftest import SITUATIONS, sample_situation

GROUP = Listener(
    "0.0.0.0", 443, sockets=4, accept_queue=17, accept_limit=256, syn_recv=0, fullest_queue=17, fullest_limit=64
)


def syn_queue(syn_recv: int) -> Reading | None:
    snapshot = sample_situation("quiet")._replace(listeners=(GROUP._replace(syn_recv=syn_recv),))
    return BY_NAME["syn_queue_ratio"].read(snapshot)


def test_the_numbers_of_a_row_are_those_of_its_share() -> None:
    snapshot = sample_situation("quiet")._replace(listeners=(GROUP,))
    reading = BY_NAME["accept_queue_ratio"].read(snapshot)
    assert (reading, reading and reading.share) == (Reading(17, 65, "0.0.0.0:443"), 17 / 65)


def test_half_open_connections_that_would_fill_one_socket_of_a_group_make_the_ratio_unknown_until_all_are_full() -> (
    None
):
    assert (syn_queue(63), syn_queue(64), syn_queue(200)) == (Reading(63, 260, "0.0.0.0:443"), None, None)
    assert syn_queue(260) == Reading(260, 260, "0.0.0.0:443")


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_ratio_is_its_used_part_of_its_limit_and_every_other_measure_a_count(situation: str) -> None:
    read = readings(sample_situation(situation))
    for measure in MEASURES:
        reading, value = read[measure.name], values(read)[measure.name]
        if reading is None or reading.limit is None:
            assert value == (None if reading is None or measure.is_ratio else reading.used)
        else:
            assert value == reading.used / reading.limit


def test_the_limit_that_is_full_first_has_the_seconds_and_where_none_rises_it_is_thirty_days() -> None:
    def outlook(**to_full: int) -> Reading | None:
        return BY_NAME["seconds_to_full"].read(sample_situation("quiet")._replace(to_full=to_full))

    assert outlook(memory=9000, conntrack=7200) == Reading(7200, None, "conntrack")
    assert outlook(memory=HORIZON, conntrack=HORIZON) == Reading(30 * 86400)
    assert outlook() is None
