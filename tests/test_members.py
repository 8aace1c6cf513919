"""``Enum`` and ``IntEnum`` without ``enum`` do what those of ``enum`` do, as far as they are used."""

from __future__ import annotations

import copy
import enum
import pickle
import subprocess
import sys
from typing import Any

import pytest

from exporter import members
from exporter.health.thresholds import Status
from exporter.tcpstate import TcpState


def seen(module: Any) -> list[object]:
    """What there is to see of two classes made with the Enum and the IntEnum of *module*."""

    class Colour(module.Enum):  # type: ignore[misc]  # of either module
        RED = 0
        GREEN = 2

        def is_red(self) -> bool:
            return bool(self.name == "RED")

    class Number(module.IntEnum):  # type: ignore[misc]  # of either module
        FOUR = 4
        ONE = 1

    colour: Any = Colour
    number: Any = Number
    with pytest.raises(ValueError, match=r"3 is not a valid .*Colour") as refused:
        colour(3)
    return [
        [(it.name, it.value, repr(it), str(it)) for it in (*colour.__members__.values(), *number.__members__.values())],
        [list(colour) == list(colour.__members__.values()), list(number) == [4, 1]],
        [colour(2) is colour.GREEN, colour["RED"] is colour.RED, number(4) is number.FOUR],
        [list(colour.__members__), len(colour), colour.RED in colour, number.ONE in number],
        [colour.RED == 0, number.FOUR == 4, sorted(number), f"{number.FOUR:03d}", f"{number.ONE}"],
        [hash(number.FOUR) == hash(4), {colour.RED: 1}[colour.RED], [0, 1][number.ONE]],
        [colour.RED.is_red(), colour.GREEN.is_red(), isinstance(colour.RED, colour), type(number.ONE) is number],
        str(refused.value).rpartition(".")[2],
    ]


def test_they_are_what_enum_makes() -> None:
    assert seen(members) == seen(enum)


@pytest.mark.parametrize("member", [*TcpState, *Status])
def test_a_copy_of_a_member_is_the_member(member: TcpState | Status) -> None:
    assert all(it is member for it in (copy.copy(member), copy.deepcopy(member), pickle.loads(pickle.dumps(member))))


def test_the_plugin_starts_without_enum() -> None:
    told = "import sys; from exporter.nagios import check; print('enum' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path = {sys.path!r}; {told}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout == "False\n"
