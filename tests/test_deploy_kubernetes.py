"""What goes to Kubernetes: kustomize builds it, the API's own schemas take it, and it fits the image and the daemon."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bcrypt
import kubernetes_validate  # type: ignore[import-untyped]  # it has no types
import pytest
import yaml

import exporter
from exporter.config import schema as config
from exporter.config.fields import parse_duration
from exporter.config.schema import Config
from release.manifests import on_port
from tests.certificates import Authority
from tests.e2e.conftest import Daemon, wait_for
from tests.test_deploy import run

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy" / "kubernetes"
BUILT = ("base", "prometheus-operator", "namespaces", "openshift", "dashboards")
DAEMONS = BUILT[:-1]
NOT_THE_APIS_OWN = {"PodMonitor", "PrometheusRule", "SecurityContextConstraints"}
API = "1.37"  # the newest that kubernetes-validate has the schemas of
OLDEST = "1.27"  # README.md: that of the oldest kubectl
PASSWORD = "correct horse"
KUBECTL = Path(sys.executable).with_name("kubectl")

Manifest = dict[str, Any]


def kustomize(folder: Path) -> list[Manifest]:
    done = subprocess.run(
        [str(KUBECTL), "kustomize", str(folder)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def built() -> Mapping[str, list[Manifest]]:
    """What each folder is made into, by kubectl."""
    return {name: kustomize(FOLDER / name) for name in BUILT}


def one(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def pod(manifests: list[Manifest]) -> Manifest:
    found: Manifest = one(manifests, "DaemonSet")["spec"]["template"]["spec"]
    return found


def container(manifests: list[Manifest]) -> Manifest:
    (found,) = pod(manifests)["containers"]
    assert isinstance(found, dict)
    return found


def configuration(manifests: list[Manifest]) -> str:
    return str(one(manifests, "ConfigMap")["data"]["tcp-exporter.yml"])


def port(manifests: list[Manifest]) -> int:
    (found,) = container(manifests)["ports"]
    assert (found["name"], found["protocol"]) == ("metrics", "TCP")
    return int(found["containerPort"])


@pytest.mark.parametrize(
    ("folder", "kinds"),
    [
        ("base", ["Namespace", "ConfigMap", "DaemonSet"]),
        ("prometheus-operator", ["Namespace", "ConfigMap", "DaemonSet", "PodMonitor", "PrometheusRule"]),
        ("namespaces", ["Namespace", "ConfigMap", "DaemonSet"]),
        ("openshift", ["Namespace", "ServiceAccount", "ConfigMap", "DaemonSet", "SecurityContextConstraints"]),
    ],
)
def test_each_folder_builds_into_its_objects(
    built: Mapping[str, list[Manifest]], folder: str, kinds: list[str]
) -> None:
    assert [manifest["kind"] for manifest in built[folder]] == kinds
    namespaces = {manifest["metadata"].get("namespace", manifest["metadata"]["name"]) for manifest in built[folder]}
    assert namespaces == {"tcp-exporter"}


def test_the_dashboards_are_where_grafanas_sidecar_looks(built: Mapping[str, list[Manifest]]) -> None:
    folder = ROOT / "deploy" / "grafana"
    for manifest in built["dashboards"]:
        assert (manifest["kind"], manifest["metadata"]["labels"]["grafana_dashboard"]) == ("ConfigMap", "1")
        assert len(json.dumps(manifest)) < 2**20  # of an object of the API
    assert {name: text for manifest in built["dashboards"] for name, text in manifest["data"].items()} == {
        path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")
    }


def test_the_rules_for_the_operator_are_those_for_prometheus(built: Mapping[str, list[Manifest]]) -> None:
    rule = one(built["prometheus-operator"], "PrometheusRule")
    assert (rule["apiVersion"], set(rule["spec"])) == ("monitoring.coreos.com/v1", {"groups"})
    files = [ROOT / "deploy" / "prometheus" / f"{name}.yml" for name in ("alerts", "rules")]
    groups = [group for file in files for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    assert rule["spec"]["groups"] == on_port(groups, port(built["base"]))


def test_no_pod_asks_for_a_class_that_its_namespace_may_not_have(built: Mapping[str, list[Manifest]]) -> None:
    assert ["priorityClassName" in pod(built[folder]) for folder in DAEMONS] == [False] * len(DAEMONS)


def test_the_overlay_of_the_readme_names_another_image(built: Mapping[str, list[Manifest]], tmp_path: Path) -> None:
    block, _ = re.findall(r"```yaml\n(.*?)```", (FOLDER / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "kustomization.yaml").write_text(block, encoding="utf-8")
    shutil.copytree(FOLDER, tmp_path / "tcp-exporter" / "deploy" / "kubernetes")
    manifests = kustomize(tmp_path)
    image = f"registry.example.org/tcp-exporter:{exporter.__version__}"
    assert container(manifests) == container(built["base"]) | {"image": image}


@pytest.mark.parametrize(("folder", "version"), [*((folder, API) for folder in BUILT), ("base", OLDEST)])
def test_the_api_takes_every_object(built: Mapping[str, list[Manifest]], folder: str, version: str) -> None:
    for manifest in built[folder]:
        if manifest["kind"] not in NOT_THE_APIS_OWN:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_refuse_what_is_misspelt(built: Mapping[str, list[Manifest]]) -> None:
    """So that the test above means something."""
    manifest = json.loads(json.dumps(one(built["base"], "DaemonSet")))
    manifest["spec"]["template"]["spec"]["hostNetwrok"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="hostNetwrok"):
        kubernetes_validate.validate(manifest, API, strict=True)


def test_the_pod_is_closed_but_for_the_nodes_network(built: Mapping[str, list[Manifest]]) -> None:
    spec = pod(built["base"])
    assert (spec["hostNetwork"], spec.get("hostPID"), spec.get("hostIPC")) == (True, None, None)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65534,
        "runAsGroup": 65534,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(built["base"])["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [mount["readOnly"] for mount in container(built["base"])["volumeMounts"]] == [True, True]
    labels = one(built["base"], "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"


def test_counting_in_the_pods_namespaces_opens_what_that_needs_and_no_more(
    built: Mapping[str, list[Manifest]],
) -> None:
    spec = pod(built["namespaces"])
    assert (spec["hostNetwork"], spec["hostPID"]) == (True, True)
    assert spec["securityContext"] == {
        "runAsNonRoot": False,
        "runAsUser": 0,
        "runAsGroup": 0,
        "seccompProfile": {"type": "RuntimeDefault"},
        "appArmorProfile": {"type": "Unconfined"},
    }
    assert container(built["namespaces"])["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN", "SYS_PTRACE"]},
    }
    here, there = (config.parse(configuration(built[folder]).encode(), folder) for folder in ("base", "namespaces"))
    assert (here.detail.namespaces, there.detail.namespaces) == (False, True)


def test_it_fits_the_image(built: Mapping[str, list[Manifest]]) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    user = pod(built["base"])["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}\n" in dockerfile
    assert f"EXPOSE {port(built['base'])}\n" in dockerfile
    assert container(built["base"])["image"] == f"tcp-exporter:{exporter.__version__}"
    assert "command" not in container(built["base"])  # the image's own entry point


@pytest.mark.parametrize("folder", DAEMONS)
def test_check_config_finds_the_configuration_valid(
    built: Mapping[str, list[Manifest]], folder: str, tmp_path: Path
) -> None:
    file = tmp_path / "tcp-exporter.yml"
    file.write_text(configuration(built[folder]), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "check-config", str(file)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, f"{file}: valid\n")
    (address,) = config.parse(file.read_bytes(), str(file)).web.listen_address
    assert str(address) == f":{port(built[folder])}"


def test_the_configuration_is_where_the_flag_says(built: Mapping[str, list[Manifest]]) -> None:
    (mount,) = [mount for mount in container(built["base"])["volumeMounts"] if mount["name"] == "config"]
    assert container(built["base"])["args"] == [f"--config.file={mount['mountPath']}/tcp-exporter.yml"]
    (volume,) = [volume for volume in pod(built["base"])["volumes"] if volume["name"] == "config"]
    assert volume["configMap"]["name"] == one(built["base"], "ConfigMap")["metadata"]["name"]


@pytest.mark.e2e
def test_the_daemon_answers_the_probes_and_the_scrape(built: Mapping[str, list[Manifest]], tmp_path: Path) -> None:
    file = tmp_path / "tcp-exporter.yml"
    file.write_text(configuration(built["base"]), encoding="utf-8")
    probes = [container(built["base"])[probe]["httpGet"] for probe in ("livenessProbe", "readinessProbe")]
    (endpoint,) = one(built["prometheus-operator"], "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert [probe["port"] for probe in (*probes, endpoint)] == ["metrics"] * 3
    with Daemon(tmp_path / "log", "--config.file", str(file)) as daemon:
        daemon.ready()
        assert [daemon.get(probe["path"])[0] for probe in (*probes, endpoint)] == [200] * 3


@pytest.fixture
def with_tls(tmp_path: Path) -> list[Manifest]:
    """The overlay of the README with its component for TLS and passwords."""
    image, tls = re.findall(r"```yaml\n(.*?)```", (FOLDER / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "kustomization.yaml").write_text(image + tls, encoding="utf-8")
    shutil.copytree(FOLDER, tmp_path / "tcp-exporter" / "deploy" / "kubernetes")
    return kustomize(tmp_path)


def mounted(command: list[str], folder: Path) -> list[str]:
    """A command of the pod with the paths of its Secret in *folder*."""
    return [word.replace("/etc/tcp-exporter-web", str(folder)) for word in command]


@pytest.mark.e2e
def test_with_tls_and_passwords_the_probes_know_a_daemon_that_answers(
    with_tls: list[Manifest], built: Mapping[str, list[Manifest]], tmp_path: Path
) -> None:
    """With the Secret of the README in a folder, and the daemon on the pod's own port."""
    changed = container(with_tls)
    authority = Authority(tmp_path, "ca")
    server = authority.issue("tls", "DNS:localhost")
    shutil.copy(authority.cert, tmp_path / "ca.crt")
    shutil.copy(server.cert, tmp_path / "tls.crt")  # its key is tls.key already
    (tmp_path / "credentials").write_text(f"probe:{PASSWORD}\n", encoding="utf-8")
    web = {
        "tls_server_config": {"cert_file": "tls.crt", "key_file": "tls.key"},
        "basic_auth_users": {"probe": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()},
    }
    (tmp_path / "web-config.yml").write_text(yaml.safe_dump(web), encoding="utf-8")
    (tmp_path / "tcp-exporter.yml").write_text(configuration(built["base"]), encoding="utf-8")
    arguments = [word.replace("/etc/tcp-exporter/", f"{tmp_path}/") for word in mounted(changed["args"], tmp_path)]
    assert all("httpGet" not in changed[probe] for probe in ("livenessProbe", "readinessProbe"))
    assert changed["livenessProbe"]["exec"] == changed["readinessProbe"]["exec"]
    program, *words = mounted(changed["readinessProbe"]["exec"]["command"], tmp_path)
    with Daemon(tmp_path / "log", *arguments) as daemon:
        words = [word.replace(f"localhost:{port(built['base'])}", f"localhost:{daemon.port}") for word in words]
        command = [str(Path(sys.executable).with_name(program)), *words]
        wait_for(lambda: run(*command) == (0, "TCP exporter is ready.\n") or None, "the probe")
        (tmp_path / "credentials").write_text("probe:wrong\n", encoding="utf-8")
        code, said = run(*command)
        assert (code, "401" in said) == (1, True)


def test_the_pod_monitor_finds_the_pods_in_time_for_their_peaks(built: Mapping[str, list[Manifest]]) -> None:
    monitor = one(built["prometheus-operator"], "PodMonitor")
    # No package that is worth its size has this schema: so the names of the keys are looked at here, each of them.
    assert (monitor["apiVersion"], set(monitor["spec"])) == (
        "monitoring.coreos.com/v1",
        {"jobLabel", "selector", "podMetricsEndpoints"},
    )
    template = one(built["prometheus-operator"], "DaemonSet")["spec"]["template"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert monitor["spec"]["jobLabel"] in template["metadata"]["labels"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert set(endpoint) == {"port", "path", "interval", "scrapeTimeout", "relabelings"}
    assert endpoint["relabelings"] == [
        {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "instance", "action": "replace"}
    ]
    settings = config.parse(configuration(built["prometheus-operator"]).encode(), "ConfigMap")
    interval = parse_duration(endpoint["interval"])
    assert parse_duration(endpoint["scrapeTimeout"]) <= interval <= settings.sample.peak_window
    assert endpoint["path"] == Config().web.telemetry_path


def test_the_memory_that_is_asked_for_is_what_was_measured() -> None:
    """The comment in the manifest quotes docs/performance.md."""
    text = (FOLDER / "base" / "daemonset.yaml").read_text(encoding="utf-8")
    measured = re.findall(r"(\d+\.\d+) MiB at most", (ROOT / "docs" / "performance.md").read_text(encoding="utf-8"))
    (asked,) = re.findall(r"requests:\n +cpu: \S+\n +memory: (\d+)Mi", text)
    assert [float(number) <= int(asked) for number in measured] == [True]
