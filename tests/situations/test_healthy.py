"""H1 to H10: a busy, healthy host, for half a minute. ``tests.soak.healthy`` runs it for an hour, with alerts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import LabProcess
from tests.soak.healthy import healthy
from tests.soak.load import Missing

pytestmark = pytest.mark.lab

SECONDS = 40.0  # every kind of event of the mix happens once


@pytest.mark.long
def test_the_daemon_raises_no_alarm_about_a_busy_healthy_host(lab: LabProcess, tmp_path: Path) -> None:
    try:
        found = healthy(lab, tmp_path, SECONDS, scraped=False)
    except Missing as program:
        pytest.skip(f"{program} is not installed")
    assert found.false_alarms == []
    did = {name: number for role in found.mix.values() for name, number in role.items()}
    for event in ("restarts of the database", "deployments", "port scans", "bursts that overflow a queue"):
        assert did[event] >= 1, did
