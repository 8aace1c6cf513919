"""The world of a situation: a host of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import LabProcess
from tests.situations.world import World


@pytest.fixture
def world(lab: LabProcess) -> Iterator[World]:
    """A fresh host."""
    with World(lab) as made:
        yield made
