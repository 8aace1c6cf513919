"""One sample for a command that ends."""

from __future__ import annotations

import pytest

from exporter.details import Detail
from exporter.sampling import once
from exporter.sampling.detailer import Detailer, Wanted
from tests.conftest import situation_root


def test_a_sample_is_of_the_moment_of_its_counters_however_long_the_detail_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments = []
    detail = Detailer.detail

    def observed(detailer: Detailer, wanted: Wanted, now: float) -> Detail:
        moments.append(now)
        return detail(detailer, wanted, now)

    monkeypatch.setattr(Detailer, "detail", observed)
    snapshot = once.snapshot(situation_root("busy"), "procfs", wanted=Wanted(stateless=False))
    assert snapshot.taken_at <= moments[0]
