"""Grafana's classic dashboard model, as much of it as our dashboards need: values in, objects for JSON out.

``host`` and ``fleet`` say what is on a page with the classes here; ``__main__`` writes what ``render`` makes of it.
The model is that of schema 39 (Grafana 11), which later versions migrate when they load it:
https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

Json = dict[str, object]

SCHEMA_VERSION = 39
COLUMNS = 24  # of Grafana's grid
OPEN_ROWS = 3  # of a page; the rows below them ask nothing until somebody opens them
ANNOTATION_STEP = "60s"
TAG = "tcp-exporter"
DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
GREEN, YELLOW, ORANGE, RED, GRAY = "green", "yellow", "orange", "red", "#8e8e8e"


class Query(NamedTuple):
    """PromQL with braces after every metric, ``{}`` at least: ``render`` puts the dashboard's scope into them."""

    expression: str
    legend: str = ""
    instant: bool = False  # only the last value is asked for: cheap, and all that a number or a table needs


class Meaning(NamedTuple):
    """What a value is called and which colour it has."""

    value: int
    text: str
    color: str


class Line(NamedTuple):
    """How the series look whose names match: drawn apart from what is stacked or filled."""

    names: str  # a regular expression of the whole name
    dash: tuple[int, int]
    color: str | None = None  # None: as the palette has it


class Column(NamedTuple):
    """A column of a table: a label, or the value of a query, ``Value #A``; ``title`` is its heading."""

    field: str
    title: str
    unit: str = ""
    meanings: tuple[Meaning, ...] = ()
    steps: tuple[tuple[float, str], ...] = ()
    link: str = ""
    leads_to: str = "The host's page"
    width: int | None = None


class Panel(NamedTuple):
    """One panel. The description says what one sees and when to worry."""

    title: str
    description: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"  # or stat, bargauge, table, state-timeline
    unit: str = "short"
    width: int = 12  # of COLUMNS
    height: int = 8
    stacked: bool = False  # only for parts of a whole
    maximum: float | None = None
    lines: tuple[Line, ...] = ()
    steps: tuple[tuple[float, str], ...] = ()  # from this value on, this colour; green below
    meanings: tuple[Meaning, ...] = ()
    text: str = "auto"  # of a stat: value, name, value_and_name
    columns: tuple[Column, ...] = ()
    sort: str = ""  # the column that orders a table
    ascending: bool = False  # its smallest values come first, and not its largest
    link: str = ""  # where a click on a series leads


class Row(NamedTuple):
    """A heading and the panels below it, placed from left to right, a new line where the next does not fit."""

    title: str
    panels: tuple[Panel, ...]


class Annotation(NamedTuple):
    """Events that Grafana marks on every curve: where *expression* has a value, its *text* with its labels."""

    name: str
    expression: str
    text: str
    color: str


class Variable(NamedTuple):
    """A choice at the top of the page; ``query`` is a ``label_values(...)``, or with ``options`` there is none."""

    name: str
    label: str
    query: str = ""
    several: bool = False
    options: tuple[str, ...] = ()


class Link(NamedTuple):
    """A link at the top of the page: to a dashboard, or to somewhere ``outside`` of Grafana."""

    title: str
    url: str
    outside: bool = False


class Dashboard(NamedTuple):
    """A page. ``scope`` are the label matchers that every selector gets."""

    uid: str
    title: str
    description: str
    scope: str
    variables: tuple[Variable, ...]
    links: tuple[Link, ...]
    rows: tuple[Row, ...]
    annotations: tuple[Annotation, ...] = ()
    refresh: str = "30s"


LIMIT_DASH, PEAK_DASH = (10, 10), (2, 4)
PEAK = Line(".*peak", PEAK_DASH)
WARNING = Line("warning.*", LIMIT_DASH, YELLOW)
CRITICAL = Line("critical.*", LIMIT_DASH, RED)
LIMIT = Line("limit.*", LIMIT_DASH, RED)


def render(dashboard: Dashboard) -> Json:
    """The object that Grafana imports."""
    return {
        "annotations": {
            "list": [_BUILT_IN_ANNOTATIONS, *(_annotation(it, dashboard.scope) for it in dashboard.annotations)]
        },
        "description": dashboard.description,
        "editable": False,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "links": [_link(link) for link in dashboard.links],
        "panels": list(_panels(dashboard.rows, dashboard.scope)),
        "refresh": dashboard.refresh,
        "schemaVersion": SCHEMA_VERSION,
        "tags": [TAG],
        "templating": {"list": [_DATASOURCE_VARIABLE, *map(_variable, dashboard.variables)]},
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "title": dashboard.title,
        "uid": dashboard.uid,
        "version": 1,
        "weekStart": "",
    }


def scoped(expression: str, scope: str) -> str:
    """The expression with the scope in every selector.

    >>> scoped('sum(up{}) / sum(tcp_connections{state="listen"})', 'job="x"')
    'sum(up{job="x"}) / sum(tcp_connections{job="x",state="listen"})'
    """
    return re.sub(r"\{(\}?)", lambda brace: f"{{{scope}}}" if brace[1] else f"{{{scope},", expression)


_BUILT_IN_ANNOTATIONS: Json = {
    "builtIn": 1,
    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
    "enable": True,
    "hide": True,
    "iconColor": "rgba(0, 211, 255, 1)",
    "name": "Annotations & Alerts",
    "type": "dashboard",
}

_DATASOURCE_VARIABLE: Json = {
    "hide": 0,
    "includeAll": False,
    "label": "Data source",
    "multi": False,
    "name": "datasource",
    "options": [],
    "query": "prometheus",
    "refresh": 1,
    "regex": "",
    "skipUrlSync": False,
    "type": "datasource",
}


def _annotation(annotation: Annotation, scope: str) -> Json:
    return {
        "datasource": DATASOURCE, "enable": True, "expr": scoped(annotation.expression, scope), "hide": False,
        "iconColor": annotation.color, "name": annotation.name, "step": ANNOTATION_STEP, "tagKeys": "",
        "textFormat": annotation.text, "titleFormat": annotation.name, "useValueForTime": False,
    }  # fmt: skip


def _variable(variable: Variable) -> Json:
    common: Json = {"hide": 0, "label": variable.label, "name": variable.name, "skipUrlSync": False}
    if variable.options:
        options = [{"selected": not at, "text": name, "value": name} for at, name in enumerate(variable.options)]
        chosen = {key: options[0][key] for key in ("selected", "text", "value")}
        return common | {
            "current": chosen, "includeAll": False, "multi": False, "options": options,
            "query": ",".join(variable.options), "type": "custom",
        }  # fmt: skip
    return common | {
        **({"allValue": ".+"} if variable.several else {}),
        "datasource": DATASOURCE,
        "includeAll": variable.several,
        "multi": variable.several,
        "options": [],
        "query": variable.query,
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "type": "query",
    }


def _link(link: Link) -> Json:
    return {
        "asDropdown": False, "icon": "external link", "includeVars": not link.outside, "keepTime": not link.outside,
        "tags": [], "targetBlank": link.outside, "title": link.title, "tooltip": "", "type": "link", "url": link.url,
    }  # fmt: skip


def _panels(rows: Iterable[Row], scope: str) -> Iterator[Json]:
    """Rows and panels, numbered, each where it is on the grid; the panels of a collapsed row are inside of it."""
    number = top = 0
    for position, row in enumerate(rows):
        number += 1
        panels = list(_placed(row.panels, number, top + 1, scope))
        collapsed = position >= OPEN_ROWS
        yield {
            "collapsed": collapsed, "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top}, "id": number,
            "panels": panels if collapsed else [], "title": row.title, "type": "row",
        }  # fmt: skip
        if not collapsed:
            yield from panels
        number += len(panels)
        top += 1 if collapsed else 1 + _height(row.panels)


def _placed(panels: Iterable[Panel], number: int, top: int, scope: str) -> Iterator[Json]:
    """The panels of a row that begins at *top*, numbered from after *number*."""
    for at, (panel, left, above) in enumerate(_places(panels), start=number + 1):
        place: Json = {"h": panel.height, "w": panel.width, "x": left, "y": top + above}
        yield {"gridPos": place, "id": at, **_panel(panel, scope)}


def _places(panels: Iterable[Panel]) -> Iterator[tuple[Panel, int, int]]:
    """Each panel with its column and its line, from left to right, a new line where the next does not fit."""
    left = top = tallest = 0
    for panel in panels:
        if left + panel.width > COLUMNS:
            left, top, tallest = 0, top + tallest, 0
        yield panel, left, top
        left, tallest = left + panel.width, max(tallest, panel.height)


def _height(panels: Iterable[Panel]) -> int:
    return max(above + panel.height for panel, _, above in _places(panels))


def _panel(panel: Panel, scope: str) -> Json:
    return {
        "datasource": DATASOURCE,
        "description": panel.description,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": list(_overrides(panel))},
        "options": _options(panel),
        "targets": [
            _target(query, "ABCDEFGHIJKLMNOP"[at], scope, table=panel.kind == "table")
            for at, query in enumerate(panel.queries)
        ],
        "title": panel.title,
        "transformations": _transformations(panel),
        "type": panel.kind,
    }


def _target(query: Query, name: str, scope: str, *, table: bool) -> Json:
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": scoped(query.expression, scope),
        "format": "table" if table else "time_series",
        "instant": query.instant or table,
        "legendFormat": query.legend or "__auto",
        "range": not (query.instant or table),
        "refId": name,
    }


def _defaults(panel: Panel) -> Json:
    defaults: Json = {
        "color": {"mode": "palette-classic" if panel.kind in {"timeseries", "table"} else "thresholds"},
        "custom": _custom(panel),
        "links": [_data_link("The host's page", panel.link)] if panel.link else [],
        "mappings": _mappings(panel.meanings),
        "thresholds": _thresholds(panel.steps),
        "unit": panel.unit,
    }
    if panel.kind == "bargauge" and panel.unit == "percentunit":
        defaults["decimals"] = 1  # a small share is cut at the edge of the panel otherwise
    if panel.kind != "table":
        defaults["min"] = 0
    if panel.maximum is not None:
        defaults["max"] = panel.maximum
    return defaults


def _custom(panel: Panel) -> Json:
    """What only this kind of panel has."""
    if panel.kind == "timeseries":
        share = {"axisSoftMax": 0.01} if panel.unit == "percentunit" else {}  # of zeros, Grafana's axis ends at 10000 %
        return _CURVE | share | {"stacking": _stacking(panel.stacked)}
    return {"table": _CELL, "state-timeline": _SPAN}.get(panel.kind, {})


_SPAN: Json = {"fillOpacity": 80, "lineWidth": 0, "spanNulls": False}
_CURVE: Json = {
    "axisPlacement": "auto",
    "drawStyle": "line",
    "fillOpacity": 10,
    "lineInterpolation": "linear",
    "lineWidth": 1,
    "showPoints": "never",
    "spanNulls": False,
    "thresholdsStyle": {"mode": "off"},
}
_CELL: Json = {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True, "inspect": False}


def _stacking(stacked: bool) -> Json:  # noqa: FBT001 - of the panel
    return {"group": "A", "mode": "normal" if stacked else "none"}


def _mappings(meanings: Iterable[Meaning]) -> list[Json]:
    options = {str(it.value): {"color": it.color, "index": at, "text": it.text} for at, it in enumerate(meanings)}
    return [{"options": options, "type": "value"}] if options else []


def _thresholds(steps: Iterable[tuple[float, str]]) -> Json:
    above = [{"color": color, "value": value} for value, color in steps]
    return {"mode": "absolute", "steps": [{"color": GREEN, "value": None}, *above]}


def _data_link(title: str, url: str) -> Json:
    outside = url.startswith("http")
    return {"title": title, "url": url, **({"targetBlank": True} if outside else {})}


def _overrides(panel: Panel) -> Iterator[Json]:
    for line in panel.lines:
        properties: list[Json] = [
            {"id": "custom.lineStyle", "value": {"dash": list(line.dash), "fill": "dash"}},
            {"id": "custom.fillOpacity", "value": 0},
            {"id": "custom.stacking", "value": _stacking(stacked=False)},
        ]
        if line.color is not None:
            properties.append({"id": "color", "value": {"fixedColor": line.color, "mode": "fixed"}})
        yield {"matcher": {"id": "byRegexp", "options": f"/^{line.names}$/"}, "properties": properties}
    for column in panel.columns:
        properties = [{"id": "unit", "value": column.unit}] if column.unit else []
        if column.meanings:
            properties.append({"id": "mappings", "value": _mappings(column.meanings)})
        if column.steps:
            properties.append({"id": "thresholds", "value": _thresholds(column.steps)})
            properties.append({"id": "color", "value": {"mode": "thresholds"}})
        if column.steps or column.meanings:
            properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
        if column.link:
            properties.append({"id": "links", "value": [_data_link(column.leads_to, column.link)]})
        if column.width is not None:
            properties.append({"id": "custom.width", "value": column.width})
        if properties:
            yield {"matcher": {"id": "byName", "options": column.title}, "properties": properties}


def _transformations(panel: Panel) -> list[Json]:
    """For a table: the rows of all queries that have the same labels become one, with the named columns only."""
    if not panel.columns:
        return []
    fields = [column.field for column in panel.columns]
    titles = {column.field: column.title for column in panel.columns if column.field != column.title}
    order: Json = {"indexByName": {field: at for at, field in enumerate(fields)}, "renameByName": titles}
    merged: list[Json] = [{"id": "merge", "options": {}}] if len(panel.queries) > 1 else []
    return [
        *merged,
        {"id": "filterFieldsByName", "options": {"include": {"names": fields}}},
        {"id": "organize", "options": {"excludeByName": {}, **order}},
    ]


_REDUCE: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def _options(panel: Panel) -> Json:
    if panel.kind == "stat":
        return _number(panel)
    if panel.kind == "table":
        return _cells(panel)
    return {"bargauge": _BARS, "state-timeline": _SPANS}.get(panel.kind, _CURVES)


_CURVES: Json = {
    "legend": {
        "calcs": ["lastNotNull", "max"],
        "displayMode": "table",
        "placement": "bottom",
        "showLegend": True,
        "sortBy": "Last *",
        "sortDesc": True,
    },
    "tooltip": {"mode": "multi", "sort": "desc"},
}
_SPANS: Json = {
    "alignValue": "left", "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
    "mergeValues": True, "rowHeight": 0.8, "showValue": "never", "tooltip": {"mode": "single", "sort": "none"},
}  # fmt: skip
_BARS: Json = {
    "displayMode": "gradient", "minVizHeight": 16, "minVizWidth": 8, "namePlacement": "auto",
    "orientation": "horizontal", "reduceOptions": _REDUCE, "showUnfilled": True, "sizing": "auto", "valueMode": "color",
}  # fmt: skip


def _number(panel: Panel) -> Json:
    return {
        "colorMode": "background" if panel.meanings or panel.steps else "none", "graphMode": "none",
        "justifyMode": "auto", "orientation": "auto", "reduceOptions": _REDUCE, "textMode": panel.text,
        "wideLayout": True,
    }  # fmt: skip


def _cells(panel: Panel) -> Json:
    order = [{"desc": not panel.ascending, "displayName": panel.sort}] if panel.sort else []
    return {"cellHeight": "sm", "footer": {"countRows": False, "reducer": [], "show": False}, "showHeader": True,
            "sortBy": order}  # fmt: skip
