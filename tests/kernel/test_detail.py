"""The detail of every socket: how label values are capped."""

from __future__ import annotations

from exporter.kernel.detail import EphemeralPorts, capped, told_apart


def test_the_largest_are_kept_configured_ones_first_and_the_rest_is_other() -> None:
    counts = {name: (number, *[0] * 11) for name, number in (("a", 1), ("b", 9), ("c", 5), ("d", 3))}
    assert capped(counts, 2, ["a"]) == ({"a": counts["a"], "b": counts["b"], "other": (8, *[0] * 11)}, 2)


def test_a_name_that_is_other_itself_is_added_to_the_rest() -> None:
    one = (1, *[0] * 11)
    assert capped({"other": one, "x": one}, 100) == ({"x": one, "other": one}, 0)


def test_listeners_in_the_ephemeral_range_are_told_apart_only_where_they_are_configured() -> None:
    assert told_apart(frozenset({80, 40000, 50000}), [50000, 9999], EphemeralPorts(32768, 60999)) == {80, 50000, 9999}


def test_reserved_ports_are_not_available() -> None:
    assert EphemeralPorts(40000, 40009, frozenset({40003, 40005, 1})).number == 8
