"""``python -m release.manifests``: the files of ``deploy`` that say again, in another form, what one place says.

The rules come from ``deploy/prometheus``, the dashboards from ``deploy/grafana``, configuration and resources of the
nodes' daemon from ``deploy/kubernetes/base``, the project's address from pyproject.toml. `make golden` and `make
dashboards` write them; ``tests/test_deploy_helm.py`` and ``tests/test_deploy_mixin.py`` render them.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from release import address
from release.address import ROOT

DEPLOY = ROOT / "deploy"
RULES = ("alerts", "rules")
DASHBOARDS = ("tcp-host", "tcp-fleet")
CHART = "deploy/helm/tcp-exporter"
SELECTOR = 'job="tcp-exporter"'
LABELS = {f"app.kubernetes.io/{key}": value for key, value in (
    ("name", "tcp-exporter"), ("component", "exporter"), ("part-of", "tcp-exporter"),
)}  # fmt: skip
BEGIN, END = "# generated from deploy/kubernetes/base by `make golden`\n", "# end of what is generated\n"

Group = Mapping[str, Any]


def texts() -> dict[str, str]:
    """By path from the root: every file that is written, whole."""
    groups = {name: yaml.safe_load(_read(f"deploy/prometheus/{name}.yml"))["groups"] for name in RULES}
    on_nodes = {name: on_port(of_name, port()) for name, of_name in groups.items()}
    runbooks = runbook_pattern(groups["alerts"])
    dashboards = {name: json.loads(_read(f"deploy/grafana/{name}.json")) for name in DASHBOARDS}
    found = {
        "deploy/kubernetes/prometheus-operator/prometheusrule.yaml": prometheus_rule(
            on_nodes["alerts"] + on_nodes["rules"]
        ),
        f"{CHART}/values.yaml": values(_read(f"{CHART}/values.yaml")),
        "deploy/mixin/config.libsonnet": mixin_config(runbooks),
    }
    for name in RULES:
        # The chart pastes it below `groups:`; Helm's templates do not look into files that they get.
        found[f"{CHART}/rules/{name}.yaml"] = _HEAD + _dumped(on_nodes[name])
        field = {"alerts": "prometheusAlerts", "rules": "prometheusRules"}[name]
        found[f"deploy/mixin/{name}/{name}.libsonnet"] = mixin_groups(field, groups[name], runbooks)
    for name, dashboard in dashboards.items():
        compact = json.dumps(dashboard, ensure_ascii=False, separators=(",", ":")) + "\n"
        found[f"{CHART}/dashboards/{name}.json"] = found[f"deploy/mixin/dashboards/{name}.json"] = compact
    for path in named():
        found[path] = address.moved(found.get(path) or _read(path))
    return found


def named() -> Iterator[str]:
    """The files by hand that name the project's address."""
    yield from ("debian/control", f"{CHART}/Chart.yaml", "Dockerfile")


# -- Kubernetes --------------------------------------------------------------------------------------------------------

_HEAD = "# Generated from deploy/prometheus by `make golden`.\n"


def prometheus_rule(groups: list[Group]) -> str:
    """The rules as an object of the Prometheus operator."""
    return _HEAD + _dumped(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "tcp-exporter", "labels": LABELS},
            "spec": {"groups": groups},
        }
    )


def port() -> int:
    """Where the daemon listens on a node."""
    (address,) = yaml.safe_load(_read("deploy/kubernetes/base/tcp-exporter.yml"))["web"]["listen_address"]
    return int(address.rpartition(":")[2])


def on_port(groups: list[Group], port: int) -> list[Group]:
    """The groups where ``instance`` is a node's name: links to it get the *port*.

    >>> on_port([{"runbook_url": "http://{{ $labels.instance }}/runbooks/TcpSynFlood"}], 19293)
    [{'runbook_url': 'http://{{ $labels.instance }}:19293/runbooks/TcpSynFlood'}]
    """
    text = json.dumps(groups, ensure_ascii=False)
    linked: list[Group] = json.loads(re.sub(r"(?<=http://)(\{\{[^{}]*instance[^{}]*\}\})(?=/)", rf"\1:{port}", text))
    return linked


def values(text: str) -> str:
    """The chart's values with the configuration and the resources of the manifests."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    daemonset = _read("deploy/kubernetes/base/daemonset.yaml")
    (container,) = yaml.safe_load(daemonset)["spec"]["template"]["spec"]["containers"]
    resources = _dumped({"resources": container["resources"]})
    config = textwrap.indent(_read("deploy/kubernetes/base/tcp-exporter.yml"), "  ")
    return f"{before}{BEGIN}config:\n{config}\n{resources}{END}{after}"


class _Dumper(yaml.SafeDumper):
    """Writes what is there twice twice, and text of several lines as lines."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _dumped(value: object) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)


# -- The mixin ---------------------------------------------------------------------------------------------------------

_MIXIN_HEAD = "// Generated from deploy/prometheus by `make golden`.\n"


def runbook_pattern(groups: list[Group]) -> str:
    """The link to the runbook of an alert, with ``%s`` for its name: what most alerts have."""
    patterns = Counter(
        re.sub(rf"(?<=/){rule['alert']}\b", "%s", rule["annotations"]["runbook_url"])
        for group in groups
        for rule in group["rules"]
        if "alert" in rule
    )
    return patterns.most_common(1)[0][0]


def mixin_config(runbooks: str) -> str:
    """What a user of the mixin may set."""
    return f"""\
// Generated by `make golden`. Override it in your own jsonnet: (import 'mixin.libsonnet') + {{ _config+:: {{...}} }}.
{{
  _config+:: {{
    // The targets. The dashboards need none: they have a variable for the job.
    tcpExporterSelector: '{SELECTOR}',
    // Where the runbooks are; %s is the name of the alert.
    runbookURLPattern: '{runbooks}',
  }},
}}
"""


def mixin_groups(field: str, groups: list[Group], runbooks: str) -> str:
    """The groups as a hidden *field* in jsonnet, with the selector and the runbooks of the configuration."""
    link = re.compile(re.escape(runbooks).replace("%s", r"(\w+)"))
    return f"{_MIXIN_HEAD}{{\n  {field}+:: {{\n    groups+: {_jsonnet(groups, 4, link)},\n  }},\n}}\n"


def _jsonnet(value: object, indent: int, link: re.Pattern[str]) -> str:
    """A value as jsonnet source; *indent* is that of the line it begins on, *link* matches a link to a runbook."""
    inner, outer = " " * (indent + 2), " " * indent
    if isinstance(value, str):
        return _jsonnet_text(value, indent, link)
    if isinstance(value, Mapping):
        lines = [f"{inner}{_key(key)}: {_jsonnet(item, indent + 2, link)},\n" for key, item in value.items()]
        return f"{{\n{''.join(lines)}{outer}}}"
    if isinstance(value, list):
        return "[\n" + "".join(f"{inner}{_jsonnet(item, indent + 2, link)},\n" for item in value) + f"{outer}]"
    return json.dumps(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[a-z_]+", key) and key != "for" else _quoted(key)


def _jsonnet_text(text: str, indent: int, link: re.Pattern[str]) -> str:
    if linked := link.fullmatch(text):
        return f"$._config.runbookURLPattern % {_quoted(linked[1])}"
    chosen = SELECTOR in text
    if chosen:
        text = text.replace("%", "%%").replace(SELECTOR, "%(tcpExporterSelector)s")
    source = _quoted(text)
    if text.endswith("\n") and not text.startswith((" ", "\n")):
        source = "|||\n" + textwrap.indent(text, " " * (indent + 2)) + " " * indent + "|||"
    return f"{source} % $._config" if chosen else source


def _quoted(text: str) -> str:
    """A text in the quotes that jsonnetfmt prefers."""
    if "'" in text or "\\" in text or "\n" in text:
        return json.dumps(text, ensure_ascii=False)
    return f"'{text}'"


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def main() -> None:
    """Write them all."""
    for path, text in texts().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
