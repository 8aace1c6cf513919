"""What the product says about each situation: its metrics page, its JSON, its table and the plugin's answer.

A situation is a tree of /proc in ``fixtures/proc``; each expected output is a file in ``golden``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable

import pytest

from exporter.document import write
from exporter.health import whatif
from exporter.health.sysctls.verdicts import sysctl_conf
from exporter.health.thresholds import DEFAULTS
from exporter.health.window import Window
from exporter.nagios import check
from exporter.prometheus.counters import COUNTERS
from exporter.prometheus.exposition import page
from exporter.prometheus.families import View
from exporter.prometheus.formats import Format
from exporter.sampling.sample import Sample
from exporter.terminal import report, table
from exporter.terminal import whatif as whatif_text
from tests.conftest import SITUATIONS, judge_situation, judged, sample_situation, situation_root

Golden = Callable[[str, str], None]
VIEW = View(DEFAULTS, python="3.11.0")


@pytest.fixture(params=SITUATIONS)
def situation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def metrics(situation: str, form: Format) -> str:
    return page(Sample.single(sample_situation(situation), judge_situation(situation)), VIEW, form).decode()


def test_the_metrics_page_of_each_situation(situation: str, golden: Golden) -> None:
    golden(f"{situation}.prom", metrics(situation, Format.TEXT))


def test_no_counter_has_anothers_name_or_field() -> None:
    for column in ([counter.name for counter in COUNTERS], [counter.field for counter in COUNTERS]):
        assert sorted(column) == sorted(set(column))


def test_no_family_is_on_a_page_twice(situation: str) -> None:
    families = [line.split()[2] for line in metrics(situation, Format.TEXT).splitlines() if line.startswith("# TYPE ")]
    assert sorted(families) == sorted(set(families))


def test_the_openmetrics_page_of_a_quiet_host(golden: Golden) -> None:
    golden("quiet.openmetrics", metrics("quiet", Format.OPENMETRICS))


def test_the_json_of_each_situation(situation: str, golden: Golden) -> None:
    document = write.document(sample_situation(situation), judge_situation(situation))
    golden(f"{situation}.json", write.encode(document).decode())


def test_the_table_of_each_situation(situation: str, golden: Golden) -> None:
    snapshot, health = sample_situation(situation), judge_situation(situation)
    text = table.render(snapshot, health, "host.example", "2023-11-14 22:13:20 UTC", color=False)
    golden(f"{situation}.table", text)


def test_the_advice_on_each_situation(situation: str, golden: Golden) -> None:
    health = judge_situation(situation)
    said = report.render(health, [], 100, everything=False, color=False)
    golden(f"{situation}.advise", f"{said}\n--sysctl-conf:\n{sysctl_conf(health.verdicts)}")


def test_what_other_sysctls_would_mean_in_each_situation(situation: str, golden: Golden) -> None:
    snapshot = sample_situation(situation)
    values = [value._replace(fields=fields) for value in snapshot.sysctls.values() if (fields := halved(value.fields))]
    outcome = whatif.outcome(Window(snapshot), values, lambda window: judged(window.now, *window.past))
    golden(f"{situation}.whatif", whatif_text.render(outcome, 100))


def halved(fields: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    """Half of each number, to try another value of every sysctl that has some."""
    return tuple((field, number // 2) for field, number in fields)


def test_the_plugins_answer_to_each_situation(situation: str, golden: Golden) -> None:
    code, text = check.run(["--path.procfs", situation_root(situation), "-v"])
    golden(f"{situation}.check", f"exit {code}\n{text}\n")


@pytest.mark.parametrize("form", list(Format))
def test_the_fast_open_key_is_on_no_page_and_in_no_answer(situation: str, form: Format) -> None:
    snapshot, health = sample_situation(situation), judge_situation(situation)
    said = [
        page(Sample.single(snapshot, health), VIEW, form).decode(),
        json.dumps(write.document(snapshot, health)),
        table.render(snapshot, health, "host", "now", color=True),
        report.render(health, [], 80, everything=True, color=True),
        check.run(["--path.procfs", situation_root(situation), "-vvv"])[1],
        repr(snapshot),
    ]
    assert [text for text in said if "5ec7e7f" in text or "fastopen_key" in text] == []


def test_promtool_finds_nothing_to_complain_about(situation: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    text = metrics(situation, Format.TEXT)
    result = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
