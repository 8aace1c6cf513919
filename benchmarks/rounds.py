"""Side by side: in each round each contender takes one sample, so that what disturbs the machine disturbs them all.

A contender is a name and something to call; what it returns is kept by ``results``. The first round is thrown away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from benchmarks.meter import Cost, Failed


class Contender(NamedTuple):
    """Something that takes samples. One turn may give costs under several names."""

    name: str
    sample: Callable[[], Mapping[str, Cost]]

    @classmethod
    def single(cls, name: str, sample: Callable[[], Cost]) -> Contender:
        """One whose turn gives one cost, under its own name."""
        return cls(name, lambda: {name: sample()})


class Taken(NamedTuple):
    """What came of all rounds: costs in the order of rounds, and reasons why a contender has none."""

    costs: dict[str, list[Cost]]
    failed: dict[str, str]


def interleave(
    contenders: Sequence[Contender],
    *,
    rounds: int,
    seconds: float,
    until: float = float("inf"),
    before: Callable[[], None] = lambda: None,
    now: Callable[[], float] = time.monotonic,
) -> Taken:
    """Take *rounds* samples of each contender, after one that is thrown away.

    One that has used its *seconds* takes no more, one at least; after the time *until* nobody does. *before* is called
    before each round. A dear contender whose first sample alone used its seconds keeps that one instead: it has nothing
    to warm up that would show.
    """
    taken = Taken({}, {})
    spent = dict.fromkeys((contender.name for contender in contenders), 0.0)
    for number in range(rounds + 1):
        before()
        for name, sample in contenders:
            if name in taken.failed or (number > 1 and (spent[name] >= seconds or now() >= until)):
                continue
            if number == 1 and spent[name] >= seconds:
                continue
            started = now()
            try:
                costs = sample()
            except Failed as error:
                taken.failed[name] = str(error)
                continue
            spent[name] += now() - started
            if number > 0 or spent[name] >= seconds:
                for key, cost in costs.items():
                    taken.costs.setdefault(key, []).append(cost)
    return taken
