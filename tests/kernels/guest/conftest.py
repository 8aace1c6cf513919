"""What the checks start from: a fresh namespace around the process, and a place for the facts that they see."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.kernels.guest.here import Here
from tests.situations.world import World

Note = Callable[[str, object], None]

# The guest's init sets it. A developer may set it too, to check the machine's own kernel as root.
collect_ignore_glob = [] if os.environ.get("TCP_EXPORTER_GUEST") else ["test_*.py"]


@pytest.fixture
def here() -> Iterator[Here]:
    """A fresh network namespace, and a lab in it."""
    with Here() as made:
        yield made


@pytest.fixture
def world(here: Here) -> Iterator[World]:
    """The same as a host in trouble."""
    with World(here) as made:
        yield made


@pytest.fixture
def note(record_property: Callable[[str, object], None]) -> Note:
    """Record a fact for the table: its name, its value."""
    return record_property
