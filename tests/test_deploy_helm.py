"""The Helm chart: rendered by Helm itself, it is what kustomize builds of deploy/kubernetes, and the API takes it."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it has no types
import pytest
import yaml

import exporter
from exporter.config import schema as config
from release import manifests
from tests.test_deploy_kubernetes import API, FOLDER, OLDEST, ROOT, Manifest, configuration, kustomize, one, pod

pytestmark = pytest.mark.e2e
CHART = ROOT / "deploy" / "helm" / "tcp-exporter"
ALL = {
    "podMonitor": {"enabled": True, "labels": {"release": "monitoring"}},
    "prometheusRule": {"enabled": True},
    "dashboards": {"enabled": True, "namespace": "monitoring"},
    "openshift": {"enabled": True},
    "namespaces": {"enabled": True},
    "web": {"secretName": "tcp-exporter-web"},
    "priorityClassName": "monitoring",
    "imagePullSecrets": [{"name": "registry"}],
    "podLabels": {"team": "network"},
    "podAnnotations": {"example.org/owner": "network"},
    "affinity": {"nodeAffinity": {}},
}
OTHERS = {"PodMonitor", "PrometheusRule", "SecurityContextConstraints"}  # not the API's own


@functools.cache
def helm() -> str:
    """Helm beside our Python, or on the PATH."""
    beside = Path(sys.executable).with_name("helm")
    found = str(beside) if beside.exists() else shutil.which("helm")
    if found is None:
        pytest.skip("not installed: helm (make .venv/bin/helm)")
    return found


def helm_template(values: str, *, release: str = "tcp-exporter") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [helm(), "template", release, str(CHART), "--namespace=tcp-exporter", "--values=-"],
        input=values, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@functools.cache
def rendered(values: str = "{}", release: str = "tcp-exporter") -> list[Manifest]:
    """What the chart is with *values*, in JSON."""
    done = helm_template(values, release=release)
    assert (done.returncode, done.stderr) == (0, "")
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def bare(manifest: Manifest) -> Manifest:
    """A DaemonSet without what differs on purpose: labels, the name of the ConfigMap, how its change is noticed, order.

    kustomize puts the volumes of a patch first.
    """
    found: Manifest = json.loads(json.dumps(manifest["spec"]))
    for volume in found["template"]["spec"]["volumes"]:
        volume.get("configMap", {}).pop("name", None)
    (container,) = found["template"]["spec"]["containers"]
    del found["selector"], found["template"]["metadata"]
    container.pop("imagePullPolicy", None)
    for volumes in (found["template"]["spec"]["volumes"], container["volumeMounts"]):
        volumes.sort(key=lambda it: it["name"])
    return found


def test_helm_finds_no_fault_with_the_chart() -> None:
    done = subprocess.run(
        [helm(), "lint", "--strict", str(CHART)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def tls(tmp_path: Path) -> list[Manifest]:
    """The base with the component tls."""
    overlay = {"resources": ["kubernetes/base"], "components": ["kubernetes/tls"]}
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    return kustomize(tmp_path)


@pytest.mark.parametrize(
    ("values", "folder"),
    [
        ({}, "base"),
        ({"namespaces": {"enabled": True}}, "namespaces"),
        ({"openshift": {"enabled": True}}, "openshift"),
        ({"web": {"secretName": "tcp-exporter-web"}}, "tls"),
    ],
)
def test_the_daemon_set_is_that_of_the_manifests(values: dict[str, Any], folder: str, tmp_path: Path) -> None:
    manifests = tls(tmp_path) if folder == "tls" else kustomize(FOLDER / folder)
    chart = rendered(json.dumps(values))
    assert bare(one(chart, "DaemonSet")) == bare(one(manifests, "DaemonSet"))
    chosen, by_hand = (config.parse(configuration(it).encode(), "ConfigMap") for it in (chart, manifests))
    assert chosen == by_hand


def test_without_values_there_is_nothing_but_the_daemon() -> None:
    assert [manifest["kind"] for manifest in rendered()] == ["ConfigMap", "DaemonSet"]


def test_the_pod_monitor_and_the_rules_are_those_of_the_manifests() -> None:
    manifests = kustomize(FOLDER / "prometheus-operator")
    chart = rendered(json.dumps({"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}))
    assert one(chart, "PrometheusRule")["spec"] == one(manifests, "PrometheusRule")["spec"]
    ours, theirs = one(chart, "PodMonitor")["spec"], one(manifests, "PodMonitor")["spec"]
    assert ours | {"selector": None} == theirs | {"selector": None}
    labels = one(chart, "DaemonSet")["spec"]["template"]["metadata"]["labels"]
    assert ours["selector"]["matchLabels"].items() <= labels.items()
    assert labels[ours["jobLabel"]] == "tcp-exporter"


def test_the_security_context_constraints_are_those_of_the_manifests() -> None:
    manifests, chart = kustomize(FOLDER / "openshift"), rendered(json.dumps({"openshift": {"enabled": True}}))
    ours, theirs = (one(it, "SecurityContextConstraints") for it in (chart, manifests))
    assert ours | {"metadata": None} == theirs | {"metadata": None}
    assert pod(chart)["serviceAccountName"] == one(chart, "ServiceAccount")["metadata"]["name"]


def test_the_dashboards_are_those_of_the_folder() -> None:
    chart = rendered(json.dumps({"dashboards": {"enabled": True}}))
    found = {
        name: json.loads(text)
        for manifest in chart
        if manifest["metadata"]["labels"].get("grafana_dashboard") == "1"
        for name, text in manifest["data"].items()
    }
    folder = ROOT / "deploy" / "grafana"
    names = [f"{name}.json" for name in manifests.DASHBOARDS]
    assert found == {name: json.loads((folder / name).read_text(encoding="utf-8")) for name in names}


@pytest.mark.parametrize("version", [API, OLDEST])
def test_the_api_takes_the_chart_with_every_value(version: str) -> None:
    """But appArmorProfile, which the oldest version does not have; so there without the pods' namespaces."""
    values = ALL if version == API else ALL | {"namespaces": {"enabled": False}}
    chart = rendered(json.dumps(values))
    assert {manifest["kind"] for manifest in chart} == {"ConfigMap", "DaemonSet", "ServiceAccount", *OTHERS}
    for manifest in chart:
        if manifest["kind"] not in OTHERS:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_two_releases_in_one_cluster_do_not_share_a_name_or_a_pod() -> None:
    one_release, other = rendered(), rendered(release="edge")
    names = [{(it["kind"], it["metadata"]["name"]) for it in chart} for chart in (one_release, other)]
    assert not names[0] & names[1]
    selector = one(other, "DaemonSet")["spec"]["selector"]["matchLabels"]
    assert not selector.items() <= one(one_release, "DaemonSet")["spec"]["template"]["metadata"]["labels"].items()


def test_another_port_is_set_once() -> None:
    chart = rendered(json.dumps({"config": {"web": {"listen_address": ["[::]:9200"]}}}))
    (container,) = pod(chart)["containers"]
    assert [it["containerPort"] for it in container["ports"]] == [9200]


def test_another_path_of_the_metrics_is_set_once() -> None:
    chart = rendered(
        json.dumps({"podMonitor": {"enabled": True}, "config": {"web": {"telemetry_path": "/tcp/metrics"}}})
    )
    assert [it["path"] for it in one(chart, "PodMonitor")["spec"]["podMetricsEndpoints"]] == ["/tcp/metrics"]


def test_links_of_alerts_lead_to_the_port_and_the_protocol_of_the_daemon() -> None:
    values = {
        "prometheusRule": {"enabled": True},
        "config": {"web": {"listen_address": [":9200"]}},
        "web": {"secretName": "tcp-exporter-web"},
    }
    manifest = one(rendered(json.dumps(values)), "PrometheusRule")
    files = [ROOT / "deploy" / "prometheus" / f"{name}.yml" for name in manifests.RULES]
    groups = [group for file in files for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    expected = json.dumps(manifests.on_port(groups, 9200)).replace("http://{{", "https://{{")
    assert manifest["spec"]["groups"] == json.loads(expected)


def test_a_changed_configuration_starts_the_pods_anew() -> None:
    changed = rendered(json.dumps({"config": {"detail": {"interval": "30s"}}}))
    before, after = (
        one(it, "DaemonSet")["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        for it in (rendered(), changed)
    )
    assert before != after


def test_a_misspelt_value_is_refused() -> None:
    done = helm_template('{"podMonitor": {"enable": true}}')
    assert done.returncode != 0
    assert "additional properties 'enable' not allowed" in done.stderr


def test_the_values_of_the_readme_are_the_charts() -> None:
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    _, _, rest = readme.partition("```yaml\n")
    kinds = [manifest["kind"] for manifest in rendered(rest.partition("```")[0])]
    assert sorted(kinds) == ["ConfigMap", "ConfigMap", "ConfigMap", "DaemonSet", "PodMonitor", "PrometheusRule"]


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["version"], chart["appVersion"]) == (exporter.__version__, exporter.__version__)
