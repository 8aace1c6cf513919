"""The light NamedTuple does what typing's does."""

from __future__ import annotations

import pickle
import typing

import pytest

from exporter import record


class Light(record.NamedTuple):
    one: int
    two: str = "b"

    def both(self) -> str:
        return f"{self.one}{self.two}"


class Heavy(typing.NamedTuple):
    one: int
    two: str = "b"

    def both(self) -> str:
        return f"{self.one}{self.two}"


@pytest.mark.parametrize(
    "use",
    [
        lambda kind: kind(1),
        lambda kind: kind(1, "c"),
        lambda kind: kind(two="c", one=1),
        lambda kind: kind(1)._replace(two="z"),
        lambda kind: kind(1).both(),
        lambda kind: kind(1).two,
        lambda kind: [*kind(1)],
        lambda kind: kind(1) == (1, "b"),
        lambda kind: {kind(1): 2}[kind(1)],
        lambda kind: kind._fields,
        lambda kind: kind(1)._asdict(),
        lambda kind: repr(kind(1)).replace("Heavy", "Light"),
    ],
)
def test_it_is_used_as_typings(use: typing.Callable[[typing.Any], object]) -> None:
    assert use(Light) == use(Heavy)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda kind: kind(),
        lambda kind: kind(1, "b", 3),
        lambda kind: kind(1, three=3),
        lambda kind: kind(1, one=1),
        lambda kind: kind(1)._replace(three=3),
        lambda kind: setattr(kind(1), "one", 2),
    ],
)
def test_it_is_misused_as_typings(misuse: typing.Callable[[typing.Any], object]) -> None:
    for kind in (Light, Heavy):
        with pytest.raises((TypeError, ValueError, AttributeError)):
            misuse(kind)


def test_it_has_no_room_for_other_attributes() -> None:
    assert not hasattr(Light(1), "__dict__")


def test_it_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Light(1))) == Light(1)
