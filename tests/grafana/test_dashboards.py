"""The dashboards as Grafana reads them: their structure, the rules of Grafana's own linter, and what their words mean.

The structure is that of schema 39, the rules those of https://github.com/grafana/dashboard-linter; exceptions stand,
with their reasons, in ``deploy/grafana/.lint``, which that linter reads too. ``test_panels`` runs the expressions.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dashboards.__main__ import FILES, texts
from exporter.health.sysctls.profile import BY_SYSCTL
from exporter.kernel.catalogue import CATALOGUE
from tests.grafana.promql import Selector, selectors, substituted
from tests.test_docs import VALUES, every_family, name_of

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
RULES = FOLDER.parent / "prometheus" / "rules.yml"
NAMES = sorted(FILES)
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {"short", "none", "s", "bytes", "percentunit", "cps", "pps", "Bps", "dateTimeFromNow"}
EXCLUSIONS = yaml.safe_load((FOLDER / ".lint").read_text(encoding="utf-8"))["exclusions"]


def load(name: str) -> dict[str, object]:
    loaded = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def children(value: object, *path: str) -> list[dict[str, object]]:
    """The objects of the list at *path* of an object."""
    for key in path:
        assert isinstance(value, dict)
        value = value[key]
    assert isinstance(value, list)
    assert all(isinstance(child, dict) for child in value)
    return value


def text(value: dict[str, object], key: str) -> str:
    found = value[key]
    assert isinstance(found, str)
    return found


def everything(name: str) -> Iterator[dict[str, object]]:
    """Every row and panel, those inside of collapsed rows too."""
    for panel in children(load(name), "panels"):
        yield panel
        if panel["type"] == "row":
            yield from children(panel, "panels")


def panels(name: str) -> list[dict[str, object]]:
    return [panel for panel in everything(name) if panel["type"] != "row"]


def variables(name: str) -> dict[str, dict[str, object]]:
    return {text(it, "name"): it for it in children(load(name), "templating", "list")}


def targets(name: str) -> Iterator[tuple[str, str]]:
    """The title of the panel, and the expression, of every target."""
    for panel in panels(name):
        for target in children(panel, "targets"):
            yield text(panel, "title"), text(target, "expr")


def used(name: str) -> Iterator[tuple[str, Selector]]:
    """Every selector with the title of its panel."""
    for title, expression in targets(name):
        for selector in selectors(expression):
            yield title, selector


def excluded(rule: str, name: str) -> bool:
    """Whether ``.lint`` takes the dashboard out of the rule, with a reason."""
    if rule not in EXCLUSIONS:
        return False
    assert len(EXCLUSIONS[rule]["reason"]) > 20
    return load(name)["title"] in {entry["dashboard"] for entry in EXCLUSIONS[rule]["entries"]}


dashboards = pytest.mark.parametrize("name", NAMES)

# -- the files ---------------------------------------------------------------------------------------------------------


def test_the_files_are_what_the_source_makes() -> None:
    """``make dashboards`` writes them."""
    assert {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")} == texts()


def test_the_pages_are_two_with_their_own_names() -> None:
    loaded = [load(name) for name in NAMES]
    assert len({text(it, "uid") for it in loaded}) == len({text(it, "title") for it in loaded}) == len(NAMES) == 2
    assert all(re.fullmatch(r"[a-z-]{8,40}", text(it, "uid")) for it in loaded)


def test_each_page_links_to_the_other_and_every_link_leads_to_a_page_that_is_here() -> None:
    uids = {text(load(name), "uid"): name for name in NAMES}
    for name in NAMES:
        link, *others = children(load(name), "links")
        assert link["type"] == "link"
        assert link["keepTime"] is True
        assert [other["url"] for other in others] == (["http://${instance}/"] if name == "tcp-host.json" else [])
        linked = re.findall(r'"url": "(?:/d/([a-z-]+))', (FOLDER / name).read_text(encoding="utf-8"))
        assert {uids[uid] for uid in linked} == set(NAMES) - {name}


def test_a_click_on_a_host_of_the_fleet_chooses_it_on_its_page() -> None:
    """The columns that the link reads must be in the table under the very names; the variables must exist there."""
    for panel in panels("tcp-fleet.json"):
        written = json.dumps(panel)
        for variable in re.findall(r"var-(\w+)=", written):
            assert variable in variables("tcp-host.json")
        needed = set(re.findall(r"__data\.fields\.(\w+)", written))
        shown = set()
        for transformation in children(panel, "transformations"):
            if transformation["id"] == "filterFieldsByName":
                shown = set(transformation["options"]["include"]["names"])  # type: ignore[index] # of JSON
            if transformation["id"] == "organize":
                renamed = transformation["options"]["renameByName"]  # type: ignore[index] # of JSON
                shown = {renamed.get(field, field) for field in shown}
        assert needed <= shown
        assert bool(needed) == ({"instance", "job"} <= shown)


# -- the structure: schema 39 ------------------------------------------------------------------------------------------

KEYS = {
    "dashboard": {"annotations", "description", "editable", "fiscalYearStartMonth", "graphTooltip", "links", "panels",
                  "refresh", "schemaVersion", "tags", "templating", "time", "timezone", "title", "uid", "version",
                  "weekStart"},
    "row": {"collapsed", "gridPos", "id", "panels", "title", "type"},
    "panel": {"datasource", "description", "fieldConfig", "gridPos", "id", "options", "targets", "title",
              "transformations", "type"},
    "target": {"datasource", "editorMode", "expr", "format", "instant", "legendFormat", "range", "refId"},
    "annotation": {"datasource", "enable", "expr", "hide", "iconColor", "name", "step", "tagKeys", "textFormat",
                   "titleFormat", "useValueForTime"},
    "built-in annotation": {"builtIn", "datasource", "enable", "hide", "iconColor", "name", "type"},
    "link": {"asDropdown", "icon", "includeVars", "keepTime", "tags", "targetBlank", "title", "tooltip", "type", "url"},
    "variable": {"allValue", "current", "datasource", "hide", "includeAll", "label", "multi", "name", "options",
                 "query", "refresh", "regex", "skipUrlSync", "sort", "type"},
    "defaults": {"color", "custom", "decimals", "links", "mappings", "max", "min", "thresholds", "unit"},
    "option": {"selected", "text", "value"},
}  # fmt: skip
OPTIONAL = {"allValue", "current", "datasource", "decimals", "max", "min", "multi", "refresh", "regex", "sort"}


def shaped(value: object, kind: str) -> None:
    assert isinstance(value, dict)
    assert KEYS[kind] - OPTIONAL <= set(value) <= KEYS[kind]


@dashboards
def test_the_structure_is_that_of_the_schema(name: str) -> None:
    dashboard = load(name)
    shaped(dashboard, "dashboard")
    assert (dashboard["schemaVersion"], dashboard["version"], dashboard["editable"]) == (39, 1, False)
    assert dashboard["tags"] == ["tcp-exporter"]
    assert dashboard["time"] == {"from": "now-1h", "to": "now"}
    for link in children(dashboard, "links"):
        shaped(link, "link")
    for variable in children(dashboard, "templating", "list"):
        shaped(variable, "variable")
        assert variable["type"] in {"datasource", "query", "custom"}
        for option in children(variable, "options"):
            shaped(option, "option")
    for annotation in children(dashboard, "annotations", "list"):
        shaped(annotation, "built-in annotation" if annotation.get("builtIn") else "annotation")
    for panel in everything(name):
        if panel["type"] == "row":
            shaped(panel, "row")
            continue
        shaped(panel, "panel")
        config = panel["fieldConfig"]
        assert isinstance(config, dict)
        shaped(config["defaults"], "defaults")
        steps = [step["value"] for step in children(config, "defaults", "thresholds", "steps")]
        assert steps[0] is None
        assert steps[1:] == sorted(steps[1:])  # type: ignore[type-var] # numbers
        for target in children(panel, "targets"):
            shaped(target, "target")
            assert target["instant"] is not target["range"]
        references = [target["refId"] for target in children(panel, "targets")]
        assert len(set(references)) == len(references)


@dashboards
def test_panels_have_their_own_numbers(name: str) -> None:
    numbers = [panel["id"] for panel in everything(name)]
    assert numbers == list(range(1, len(numbers) + 1))


def rectangles(placed: list[dict[str, object]]) -> dict[tuple[int, int], str]:
    """What is in each cell of the grid; nothing overlaps, and no line of cells is empty."""
    cells: dict[tuple[int, int], str] = {}
    for panel in placed:
        place = panel["gridPos"]
        assert isinstance(place, dict)
        x, y, w, h = (place[key] for key in "xywh")
        assert all(isinstance(number, int) for number in (x, y, w, h))
        assert 0 <= x < x + w <= 24
        taken = set(itertools.product(range(x, x + w), range(y, y + h)))
        assert not taken & cells.keys(), panel["title"]
        cells |= dict.fromkeys(taken, text(panel, "title"))
    lines = {y for _, y in cells}
    assert lines == set(range(min(lines), max(lines) + 1))
    return cells


@dashboards
def test_panels_have_their_own_places_on_the_grid(name: str) -> None:
    assert min(y for _, y in rectangles(children(load(name), "panels"))) == 0


@dashboards
def test_the_first_three_rows_are_open_and_the_others_have_their_panels_inside(name: str) -> None:
    rows = [panel for panel in children(load(name), "panels") if panel["type"] == "row"]
    assert [row["collapsed"] for row in rows] == [position >= 3 for position in range(len(rows))]
    for row in rows:
        inside = children(row, "panels")
        assert bool(inside) is row["collapsed"]
        if inside:
            place = row["gridPos"]
            assert isinstance(place, dict)
            assert min(y for _, y in rectangles(inside)) == place["y"] + 1


@dashboards
def test_firing_alerts_are_in_the_first_row_and_lead_to_their_runbook(name: str) -> None:
    first = list(itertools.takewhile(lambda it: it["type"] != "row", children(load(name), "panels")[1:]))
    (panel,) = [it for it in first if it["title"] == "Firing alerts"]
    host = {"tcp-host.json": "${instance}", "tcp-fleet.json": "${__data.fields.instance}"}[name]
    assert f'"http://{host}/runbooks/${{__data.fields.Alert}}"' in json.dumps(panel)


def test_the_hosts_page_marks_changed_sysctls_restarts_and_findings() -> None:
    marked = children(load("tcp-host.json"), "annotations", "list")[1:]
    assert [it["name"] for it in marked] == ["Sysctl changed", "Exporter restarted", "Finding appeared"]
    for it in marked:
        for selector in selectors(text(it, "expr")):
            assert ("instance", "=~", "$instance") in selector.matchers
            assert selector.window in {"", "2m"}, "of two minutes, so that a step of one misses nothing"
            assert selector.metric in labels()
    assert children(load("tcp-fleet.json"), "annotations", "list")[1:] == []


@dashboards
def test_a_stack_is_of_parts_of_a_whole_and_limits_and_peaks_are_not_in_it(name: str) -> None:
    stacked = {text(panel, "title") for panel in panels(name) if '"mode": "normal"' in json.dumps(panel["fieldConfig"])}
    parts = {"Sockets by state", "By family", "ESTABLISHED by timer"}
    assert stacked == {"tcp-host.json": parts, "tcp-fleet.json": {"Sockets by state"}}[name]
    for title, expression in targets(name):
        if title in stacked:
            assert not re.search("peak|threshold|limit", expression)


# -- the linter's rules ------------------------------------------------------------------------------------------------


@dashboards
def test_template_datasource_rule(name: str) -> None:
    sources = [it for it in variables(name).values() if it["type"] == "datasource"]
    assert [(it["name"], it["label"], it["query"]) for it in sources] == [("datasource", "Data source", "prometheus")]


@dashboards
@pytest.mark.parametrize("variable", ["job", "instance"])
def test_template_job_rule_and_template_instance_rule(name: str, variable: str) -> None:
    if excluded(f"template-{variable}-rule", name):
        assert not variables(name).get(variable, {}).get("multi")
        return
    it = variables(name)[variable]
    assert (it["type"], it["datasource"], it["label"]) == ("query", DATASOURCE, variable.capitalize())
    assert (it["multi"], it["includeAll"], it["allValue"]) == (True, True, ".+")


@dashboards
def test_template_label_promql_rule_and_template_on_time_change_reload_rule(name: str) -> None:
    queries = [it for it in variables(name).values() if it["type"] == "query"]
    assert queries
    for it in queries:
        assert re.fullmatch(
            r'label_values\(tcp_exporter_build_info(\{job=~"\$job"\})?, (job|instance)\)', text(it, "query")
        )
        assert it["refresh"] == 2


@dashboards
def test_panel_datasource_rule(name: str) -> None:
    for panel in panels(name):
        assert panel["datasource"] == DATASOURCE
        assert all(target["datasource"] == DATASOURCE for target in children(panel, "targets"))


@dashboards
def test_panel_title_description_rule(name: str) -> None:
    for panel in panels(name):
        assert text(panel, "title")
        assert len(text(panel, "description")) > 60
        assert text(panel, "description").endswith(".")


@dashboards
def test_panel_units_rule(name: str) -> None:
    assert {panel["type"] for panel in panels(name)} <= {"timeseries", "stat", "bargauge", "table", "state-timeline"}
    for panel in panels(name):
        config = panel["fieldConfig"]
        assert isinstance(config, dict)
        overrides = [it for override in children(config, "overrides") for it in children(override, "properties")]
        units = {config["defaults"]["unit"]} | {it["value"] for it in overrides if it["id"] == "unit"}
        assert units <= UNITS, panel["title"]


@dashboards
def test_a_table_formats_no_label_as_a_number(name: str) -> None:
    """Grafana gives its default unit to texts too: of "short", port 8080 is 8.08 K."""
    for panel in panels(name):
        if panel["type"] == "table":
            config = panel["fieldConfig"]
            assert isinstance(config, dict)
            defaults = config["defaults"]
            assert isinstance(defaults, dict)
            assert defaults["unit"] == "none", panel["title"]


@dashboards
def test_panel_no_targets_rule(name: str) -> None:
    assert all(children(panel, "targets") for panel in panels(name))


def test_target_promql_rule(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    rules = [
        {"record": f"panel:{number}", "expr": substituted(expression, sysctl="tcp_rmem")}
        for number, (_, expression) in enumerate(it for name in NAMES for it in targets(name))
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run(
        [promtool, "check", "rules", "--lint=none", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(rules)} rules found" in done.stdout


@dashboards
def test_target_rate_interval_rule(name: str) -> None:
    for title, selector in used(name):
        assert selector.window in {"", "$__rate_interval"}, title
        assert (selector.function in {"rate", "increase"}) == bool(selector.window), title


@dashboards
def test_target_job_rule_and_target_instance_rule(name: str) -> None:
    for _, selector in used(name):
        assert ("job", "=~", "$job") in selector.matchers
        one_host = ("instance", "=~", "$instance") in selector.matchers
        assert one_host is not excluded("target-instance-rule", name)


@dashboards
def test_target_counter_agg_rule(name: str) -> None:
    for title, selector in used(name):
        rises = selector.metric.endswith("_total") or selector.metric in buckets()
        assert rises == (selector.function in {"rate", "increase"}), title


# -- what the words mean -----------------------------------------------------------------------------------------------


def records() -> dict[str, str]:
    """The recording rules, by name."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["record"]: rule["expr"] for group in groups for rule in group["rules"] if "record" in rule}


def buckets() -> dict[str, set[str]]:
    """The buckets of every histogram, with their labels."""
    histograms = [family for family in every_family() if family.type == "histogram"]
    return {f"{family.name}_bucket": set(family.samples[0].labels) for family in histograms}


def labels() -> dict[str, set[str]]:
    """The labels of every metric that there is."""
    known = {name_of(family): set(family.samples[0].labels) for family in every_family()}
    alert = {"alertname", "severity", "measure", "finding"}
    return known | buckets() | {"up": set(), "ALERTS": {*alert, "alertstate"}, "ALERTS_FOR_STATE": alert}


@dashboards
def test_every_metric_and_label_is_one_that_exists(name: str) -> None:
    known = labels()
    for title, expression in targets(name):
        found = list(selectors(expression))
        assert found
        words = set(
            re.findall(
                r"(?<![\w:\"$])(?:\w+:)?(?:up|ALERTS\w*|tcp_\w+)(?::\w+)*(?![\w:(=])",
                re.sub(r'"[^"]*"', '""', expression),
            )
        )
        assert words == {selector.metric for selector in found}, f"{title}: a metric without braces"
        for selector in found:
            if selector.metric in records():
                continue
            assert selector.metric in known, title
            mentioned = {label for label, _, _ in selector.matchers} - {"job", "instance"}
            assert mentioned <= known[selector.metric], title


@dashboards
def test_every_label_value_is_one_that_exists(name: str) -> None:
    for title, selector in used(name):
        for label, _, value in selector.matchers:
            if label in VALUES:
                assert set(value.split("|")) <= set(VALUES[label]), title
            elif label == "name" and value != "$sysctl":
                assert value in CATALOGUE, title


def test_a_legend_names_labels_that_the_metric_has() -> None:
    known = set().union(*labels().values()) | {"job", "instance"}
    for name in NAMES:
        legends = re.findall(r'"legendFormat": "([^"]*)"', (FOLDER / name).read_text(encoding="utf-8"))
        assert set(re.findall(r"\{\{(\w+)\}\}", " ".join(legends))) <= known


def test_the_sysctls_to_choose_from_are_those_of_the_profile() -> None:
    options = [option["value"] for option in children(variables("tcp-fleet.json")["sysctl"], "options")]
    assert options == list(BY_SYSCTL)


# -- provisioning ------------------------------------------------------------------------------------------------------


def test_the_provisioning_files_are_of_grafanas_first_version_and_change_nothing_of_ours() -> None:
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/tcp-exporter.yml").read_text())["providers"]
    assert (provider["type"], provider["allowUiUpdates"]) == ("file", False)
    assert provider["options"]["path"] in (FOLDER / "README.md").read_text(encoding="utf-8")
    document = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yml").read_text())
    (source,) = document["datasources"]
    assert (document["apiVersion"], source["type"], source["access"]) == (1, "prometheus", "proxy")
    scraped = (FOLDER.parent / "prometheus/scrape.yml").read_text(encoding="utf-8")
    assert f"scrape_interval: {source['jsonData']['timeInterval']}\n" in scraped
