"""The mixin: jsonnet renders the rules and dashboards that are shipped, and its configuration reaches all of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from release import manifests
from tests.test_deploy import ROOT, installed, run

pytestmark = pytest.mark.e2e
MIXIN = ROOT / "deploy" / "mixin"
OVERRIDDEN = """{ _config+:: {
  tcpExporterSelector: 'job=~"edge|tcp"',
  runbookURLPattern: 'https://runbooks.example.org/%s',
} }"""


def jsonnet(field: str, override: str = "{}") -> object:
    """A field of the mixin."""
    program = f"((import 'mixin.libsonnet') + {override}).{field}"
    done = subprocess.run(
        [installed("jsonnet"), "-e", program], cwd=MIXIN, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize(("field", "name"), [("prometheusAlerts", "alerts"), ("prometheusRules", "rules")])
def test_the_rules_are_those_of_the_files(field: str, name: str) -> None:
    shipped = yaml.safe_load((ROOT / "deploy" / "prometheus" / f"{name}.yml").read_text(encoding="utf-8"))
    assert jsonnet(field) == shipped


def test_the_dashboards_are_those_of_the_folder() -> None:
    folder = ROOT / "deploy" / "grafana"
    names = [f"{name}.json" for name in manifests.DASHBOARDS]
    assert jsonnet("grafanaDashboards") == {
        name: json.loads((folder / name).read_text(encoding="utf-8")) for name in names
    }


@pytest.mark.parametrize("field", ["prometheusAlerts", "prometheusRules"])
def test_the_configuration_reaches_every_rule_and_prometheus_takes_them(field: str, tmp_path: Path) -> None:
    text = json.dumps(jsonnet(field, OVERRIDDEN))
    assert manifests.SELECTOR not in json.dumps(json.loads(text), ensure_ascii=False).replace('\\"', '"')
    if field == "prometheusAlerts":
        assert "https://runbooks.example.org/TcpSynFlood" in text
    rules = tmp_path / "rules.yml"
    rules.write_text(text, encoding="utf-8")
    code, said = run(installed("promtool"), "check", "rules", str(rules))
    assert code == 0, said
