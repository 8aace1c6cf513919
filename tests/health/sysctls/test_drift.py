"""``-s sysctl``: how many sysctls are not what the configuration expects."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.document import read as remote
from exporter.document import write
from exporter.errors import SourceError, UsageError
from exporter.health.sysctls.drift import Drift, drift_of
from exporter.health.sysctls.verdicts import Expectations
from exporter.health.thresholds import DEFAULTS, DRIFT, Threshold
from exporter.nagios import arguments, check
from exporter.sampling.sample import Sample
from tests.conftest import judged, sample_situation, situation_root


def test_a_vector_counts_once_with_each_number_that_differs() -> None:
    snapshot = sample_situation("quiet")
    drift = drift_of(snapshot, {"tcp_rmem": "4096 1 2", "tcp_sack": "1", "tcp_nothing": "1"})
    lines = {"tcp_rmem": "tcp_rmem (default) is 131072, expected 1; tcp_rmem (max) is 33554432, expected 2"}
    assert (drift, drift.value) == (Drift(lines), 1)


def test_where_an_expected_sysctl_could_not_be_read_the_drift_is_not_known() -> None:
    snapshot = sample_situation("quiet")
    broken = snapshot._replace(sources={"sysctl": "tcp_sack: refused"}, sysctls={})
    assert drift_of(broken, {"tcp_sack": "1"}).value is None
    assert drift_of(snapshot._replace(sources={"sysctl": "tcp_dsack: refused"}), {"tcp_sack": "1"}).value == 0


def test_without_expectations_there_is_nothing_to_judge() -> None:
    with pytest.raises(UsageError, match="expected --config FILE with values"):
        drift_of(sample_situation("quiet"), {})


@pytest.mark.parametrize(
    ("given", "judged"),
    [
        (["-s", "sysctl"], {"sysctl": DRIFT}),
        (["-s", "established,sysctl"], {**DEFAULTS, "sysctl": DRIFT}),
        (["-s", "sysctl", "-w", ""], {"sysctl": DRIFT}),
    ],
)
def test_drift_warns_above_none_unless_told_otherwise(given: list[str], judged: dict[str, Threshold]) -> None:
    assert arguments.judged(arguments.parse(given), DEFAULTS) == judged


def test_a_limit_of_the_command_line_beats_the_default() -> None:
    judged = arguments.judged(arguments.parse(["-s", "sysctl", "-c", "3"]), DEFAULTS)
    assert {name: [limit and limit.text for limit in threshold] for name, threshold in judged.items()} == {
        "sysctl": [None, "3"]
    }


def test_v_says_what_a_sysctl_should_be(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("sysctl: {expected: {tcp_keepalive_time: '300:600'}}\n")
    code, text = check.run(["--path.procfs", situation_root("old-advice"), "-v", "--config", str(file)])
    assert code == 0
    assert text.splitlines()[2] == (
        "sysctls of established: tcp_keepalive_time=1200 (expected 300:600), tcp_keepalive_intvl=75, "
        "tcp_keepalive_probes=1 (recommended at least 2), tcp_retries2=3 (recommended 5 to 15), "
        "tcp_rmem=4096 131072 33554432, tcp_mem=287898 383867 575796"
    )


def answer(expected: Expectations) -> remote.Answer:
    snapshot = sample_situation("quiet")
    sample = Sample.single(snapshot, judged(snapshot, expected=expected))._replace(stale_after=3.0)
    return remote.read("http://x", 200, "OK", write.encode(write.sampled(sample, now=0.5)))


def test_a_daemons_drift_is_that_of_its_own_configuration() -> None:
    sysctls = sample_situation("quiet").sysctls
    expected: Expectations = {"tcp_sack": "0", "tcp_dsack": "1", "tcp_congestion_control": "reno"}
    drift = answer(expected).drift()
    live = sysctls["tcp_congestion_control"].text
    assert drift.lines == {
        "tcp_congestion_control": f"tcp_congestion_control is {live}, expected reno",
        "tcp_sack": "tcp_sack is 1, expected 0",
    }


def test_a_daemon_that_expects_nothing_cannot_tell() -> None:
    with pytest.raises(SourceError, match=r"has no sysctl that exists here in its sysctl\.expected"):
        answer({}).drift()
