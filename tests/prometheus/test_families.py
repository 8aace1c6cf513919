"""The families of the metrics page that the goldens do not show."""

from __future__ import annotations

from exporter.health.judge import failed
from exporter.health.thresholds import DEFAULTS
from exporter.prometheus.families import View, families
from exporter.sampling.sample import Sample
from exporter.snapshot import Listener
from tests.conftest import sample_situation


def test_listeners_beyond_the_cap_have_no_counter_that_falls_when_one_of_them_closes() -> None:
    one = Listener("0.0.0.0", 80, 1, accept_queue=1, accept_limit=8, syn_recv=0, fullest_queue=1, fullest_limit=8)
    listeners = tuple(one._replace(port=port, dropped=port) for port in (80, 81, 82))
    sample = Sample.single(sample_situation("quiet")._replace(listeners=listeners), failed("not looked at"))
    shown = {
        family.name: {it.labels["port"]: it.value for it in family.samples}
        for family in families(sample, View(DEFAULTS, python="3", max_series=1))
        if family.name in {"tcp_listener_accept_queue_length", "tcp_listener_dropped_segments"}
    }
    assert shown == {
        "tcp_listener_accept_queue_length": {"80": 1, "other": 2},
        "tcp_listener_dropped_segments": {"80": 80},
    }
