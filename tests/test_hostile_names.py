"""Hostile names through every output: each is one line, says nothing to a terminal, and is read back as it was shown.

They come in as the real ones do: the path of a cgroup, the file of a namespace, the content of a sysctl, the name of a
process. ``e2e/test_hostile_names.py`` has real ones of all four.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.daemon import log
from exporter.daemon.daemon import page_assets
from exporter.details import CloseWait
from exporter.document import write
from exporter.health.sysctls.verdicts import sysctl_conf
from exporter.health.thresholds import DEFAULTS, Threshold, evaluate
from exporter.kernel import cgroup, netns, sysctl
from exporter.nagios import output
from exporter.nagios.details import explain, provenance
from exporter.prometheus.exposition import page
from exporter.prometheus.families import View
from exporter.prometheus.formats import Format
from exporter.sampling.sample import Pass, Sample
from exporter.snapshot import Snapshot
from exporter.tcpstate import NO_SOCKETS, TcpState
from exporter.terminal import report, table, who
from exporter.terminal.frame import FrameContext, Screen, frame
from exporter.web.current import Current
from exporter.web.page import StatusPage
from tests.conftest import judged, sample_situation
from tests.hostile import NAMES, NEWLINE, Hostile, is_presentable
from tests.web.test_page import Read

VIEW = View(DEFAULTS, python="3.11.0")
LEAKED = tuple(
    200 if state is TcpState.CLOSE_WAIT else number for state, number in zip(TcpState, NO_SOCKETS, strict=True)
)
EVERY = {**NAMES, "a newline": NEWLINE}


def attacked(name: Hostile) -> Sample:
    """A host on which everything that can be has the name, and a unit of it leaks connections."""
    text = os.fsdecode(name.raw)
    unit = cgroup.unit_name(f"/system.slice/{text}")
    space = netns.labels({(4, 30): netns.Resident(names=(text,))})[4, 30]
    words = sysctl.parse("tcp_congestion_control", name.raw.decode("utf-8", "backslashreplace"))
    snapshot = sample_situation("quiet")
    assert snapshot.detail is not None
    assert snapshot.connections is not None
    assert (unit, space) == (name.shown, name.shown)
    snapshot = snapshot._replace(
        connections=snapshot.connections._replace(counts=LEAKED),
        detail=snapshot.detail._replace(units={unit: LEAKED}, close_wait=CloseWait(200, 200, 200, 200, 0)),
        namespaces={space: LEAKED},
        sysctls={**snapshot.sysctls, "tcp_congestion_control": words},
        sources={**snapshot.sources, "sysctl": f"tcp_x: cannot read {text!r}: expected nothing"},
    )
    health = judged(snapshot, expected={"tcp_congestion_control": "cubic"})
    passes = {"light": Pass(duration=0.01, cpu=0.01, interval=1.0, configured=1.0, total=5)}
    return Sample.single(snapshot, health)._replace(passes=passes, stale_after=1e9, peaks=LEAKED)


def label_values(text: str, parse: Callable[[str], object]) -> dict[str, float]:
    """The values of the labels that have a name from the host, and what is counted of them in CLOSE-WAIT."""
    found: dict[str, float] = {}
    for family in parse(text):  # type: ignore[attr-defined]
        for sample in family.samples:
            label = {"tcp_unit_connections": "unit", "tcp_netns_connections": "netns"}.get(sample.name)
            if label and sample.labels["state"] == "close_wait":
                found[sample.labels[label]] = sample.value
            if sample.name == "tcp_sysctl_info" and sample.labels["name"] == "tcp_congestion_control":
                found[sample.labels["value"]] = 200
    return found


def metrics(sample: Sample, name: Hostile) -> str:
    text = page(sample, VIEW, Format.TEXT).decode()
    assert label_values(text, parse_text) == {name.shown: 200, sysctl_text(sample): 200}
    if promtool := shutil.which("promtool"):
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return text


def openmetrics(sample: Sample, name: Hostile) -> str:
    text = page(sample, VIEW, Format.OPENMETRICS).decode()
    assert label_values(text, parse_openmetrics) == {name.shown: 200, sysctl_text(sample): 200}
    assert text.count("# EOF\n") == 1
    return text


def sysctl_text(sample: Sample) -> str:
    text = sample.snapshot.sysctls["tcp_congestion_control"].text
    assert text is not None
    return text


def as_json(sample: Sample, name: Hostile) -> str:
    body = write.encode(write.sampled(sample, 1.0))
    document = json.loads(body)
    assert document["detail"]["units"].keys() == {name.shown}
    assert document["namespaces"].keys() == {name.shown}
    return json.dumps(document, ensure_ascii=False)


def status_page(sample: Sample, name: Hostile) -> str:
    current = Current(sample, VIEW, 1.0, "/metrics", os.fsdecode(name.raw))  # the host too
    read = Read(StatusPage(page_assets()).page(current, compressed=False))
    assert read.elements.count("script") == 1
    assert {value for _, attribute, value in read.attributes if attribute.startswith("on")} == set()
    lines = [" ".join(line.split()) for line in read.lines]
    shown = " ".join(name.shown.split())
    assert any(line.startswith(f"{shown} 200") for line in lines)
    assert any(f"The application of unit {shown} does not close" in line for line in lines)
    return "\n".join(lines)


def show(sample: Sample, name: Hostile) -> str:
    text = table.render(sample.snapshot, sample.health, os.fsdecode(name.raw), "now", color=False)
    assert f"\n{name.shown:<28}      200  close_wait 200\n" in text
    return text


def watch(sample: Sample, name: Hostile) -> str:
    moment = FrameContext(os.fsdecode(name.raw), "now", 1.0, None)
    lines = [line.text for line in frame(sample, moment, [], Screen(200, 200))]
    assert f"{name.shown:<28}      200  close_wait 200" in lines
    return "\n".join(lines)


def advise(sample: Sample, name: Hostile) -> str:
    text = report.render(sample.health, sample.snapshot.problems, 200, everything=True, color=False)
    assert " ".join(f"of unit {name.shown} does".split()) in " ".join(text.split())
    fragment = sysctl_conf(sample.health.verdicts)
    assert all(not line or line.startswith("#") or re.match(r"[a-z0-9_.]+ = ", line) for line in fragment.splitlines())
    return text + fragment


def holders(_: Sample, name: Hostile) -> str:
    found = who.holders("established", "process", [who.Row(os.fsdecode(name.raw), 3, "pid 7")])
    assert json.loads(json.dumps(who.document(found, 0)))["owners"][0]["owner"] == name.escaped
    text = who.render(found, 0, color=False)
    assert text.splitlines()[2:] == [f"        3  {name.escaped} (pid 7)"]
    return text


def plugin(sample: Sample, _: Hostile) -> str:
    snapshot: Snapshot = sample.snapshot
    results = evaluate({"close_wait": 200, "total": None}, {"close_wait": Threshold(), "total": Threshold()})
    expected = {"tcp_congestion_control": "cubic"}
    details = [*explain(results, snapshot, expected, ""), *provenance(snapshot), sysctl_text(sample)]
    text = output.report(results, results, details, {"total": "; ".join(snapshot.problems)})[1]
    first, *rest = text.split("\n")
    assert first.count("|") == 1
    assert first.endswith(" | close_wait=200;;;0;")
    assert "|" not in "".join(rest)
    return text


def logged(form: str) -> Callable[[Sample, Hostile], str]:
    def output_of(sample: Sample, name: Hostile) -> str:
        stream = io.StringIO()
        logger = log.logger("info", form, stream, {"NO_COLOR": "1"})
        (leak,) = (it for it in sample.health.findings if it.name == "close_wait_leak")
        logger.warning("finding", finding=leak.name, what=leak.what)
        logger.info("sysctl changed", name="tcp_congestion_control", **{"from": sysctl_text(sample), "to": "cubic"})
        lines = stream.getvalue().splitlines()
        assert len(lines) == 2
        if form == "json":
            assert f"of unit {name.shown} does" in json.loads(lines[0])["what"]
            assert json.loads(lines[1])["from"] == sysctl_text(sample)
        return "\n".join(lines)

    return output_of


OUTPUTS: Mapping[str, Callable[[Sample, Hostile], str]] = {
    "metrics": metrics, "openmetrics": openmetrics, "json": as_json, "page": status_page, "show": show, "watch": watch,
    "advise": advise, "who": holders, "plugin": plugin, "log in logfmt": logged("logfmt"),
    "log in json": logged("json"), "log on a console": logged("console"),
}  # fmt: skip


@pytest.mark.parametrize("output_of", OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize("name", EVERY.values(), ids=EVERY)
def test_a_hostile_name_is_shown_and_says_nothing_of_its_own(
    name: Hostile, output_of: Callable[[Sample, Hostile], str]
) -> None:
    said = output_of(attacked(name), name)
    assert is_presentable(said)
    said.encode()  # no surrogate is left
