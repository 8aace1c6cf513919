"""What a run has found: cells of values, with the machine they were taken on. Everything that is shown is made of this.

A cell is of one contender (``labels`` has their names), one quantity, one mix and one size, with a value a round.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

ESTABLISHED = "established"


class Key(NamedTuple):
    """What a cell is of."""

    what: str
    quantity: str
    mix: str
    size: int


class Spread(NamedTuple):
    """The values of a cell, in short."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value.

        >>> Spread.of([3.0, 1.0, 2.0])
        Spread(median=2.0, low=1.0, high=3.0, runs=3)
        """
        return cls(statistics.median(values), min(values), max(values), len(values))


class Results(NamedTuple):
    """One run, whole."""

    machine: Mapping[str, str]
    plan: str
    cells: Mapping[Key, Sequence[float]]
    missing: Mapping[str, str]  # what was not measured, and why

    def sizes(self, mix: str = ESTABLISHED) -> list[int]:
        """The sizes at which samples were measured in a mix, ascending."""
        return sorted({key.size for key in self.cells if key.mix == mix and key.quantity == "cpu"})

    def mixes(self) -> list[str]:
        """The mixes beside the established one, in the order they were measured in."""
        return list(dict.fromkeys(key.mix for key in self.cells if key.mix != ESTABLISHED))

    def spread(self, what: str, quantity: str, size: int, mix: str = ESTABLISHED) -> Spread | None:
        """One cell in short; None where it was not measured."""
        values = self.cells.get(Key(what, quantity, mix, size))
        return Spread.of(values) if values else None

    def median(self, what: str, quantity: str, size: int, mix: str = ESTABLISHED) -> float | None:
        """The median of one cell; None where it was not measured."""
        found = self.spread(what, quantity, size, mix)
        return found and found.median


def to_json(results: Results) -> str:
    """A line for each cell, so that two runs can be compared; four significant digits."""
    lines = [
        json.dumps(
            {**key._asdict(), "median": _short(statistics.median(values)), "values": [_short(v) for v in values]}
        )
        for key, values in results.cells.items()
    ]
    head = {"plan": results.plan, "machine": dict(results.machine), "missing": dict(results.missing)}
    return json.dumps(head, indent=1)[:-2] + ',\n "cells": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def of_json(text: str) -> Results:
    """What ``to_json`` wrote, but for the digits."""
    read = json.loads(text)
    cells = {Key(*(cell[field] for field in Key._fields)): cell["values"] for cell in read["cells"]}
    return Results(read["machine"], read["plan"], cells, read["missing"])


def _short(value: float) -> float:
    return float(f"{value:.4g}") if abs(value) < 10000 else round(value)
