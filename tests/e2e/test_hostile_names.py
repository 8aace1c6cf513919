"""Real processes, cgroups, network namespaces and a host of hostile names, through the real programs.

``tests/test_hostile_names.py`` has every name through every output; here the kernel has them all at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.kernel.cgroupfs import Cgroups
from tests.browser import Browser
from tests.e2e.conftest import PLUGIN, PROGRAM, Daemon, wait_for
from tests.e2e.test_watch import Terminal
from tests.hostile import NAMES, NEWLINE, is_presentable
from tests.lab import LabProcess, LabUnavailable

pytestmark = [pytest.mark.lab, pytest.mark.e2e]

# Calls itself NAME, joins the CGROUP, both in hexadecimal, and holds both ends of so many connections.
HOLD = """
import os, signal, socket, sys
name, cgroup = map(bytes.fromhex, sys.argv[1:3])
with open("/proc/self/comm", "wb", buffering=0) as file:
    file.write(name)
if cgroup:
    with open(cgroup + b"/cgroup.procs", "wb", buffering=0) as file:
        file.write(b"0")
server = socket.create_server(("127.0.0.1", 0))
held = [(socket.create_connection(server.getsockname()), server.accept()) for _ in range(int(sys.argv[3]))]
print("held", flush=True)
signal.pause()
"""

# Runs a program on a host of that name, in hexadecimal.
ON_HOST = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
name = bytes.fromhex(sys.argv[1])
if libc.unshare(0x04000000) or libc.sethostname(name, len(name)):  # CLONE_NEWUTS
    sys.exit(77)
os.execv(sys.argv[2], sys.argv[2:])
"""
HOST = b"h\xff<b>\x1b[2J\xe2\x80\xae|h"
SHOWN_HOST = "h?<b>?[2J?|h"


class Host(NamedTuple):
    """A namespace with all of them, and the daemon in it."""

    lab: LabProcess
    daemon: Daemon
    units: dict[str, int]  # sockets in ESTABLISHED by how the unit is shown
    processes: dict[str, int]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("hostile")
    mount_point, ip = Cgroups().mount_point, shutil.which("ip")
    if os.getuid() != 0 or mount_point is None or ip is None:
        pytest.skip("only root makes cgroups of v2 and named namespaces, with ip of iproute2")
    top = os.fsencode(f"{mount_point}/tcp-hostile-{os.getpid()}.slice")
    file = folder / "exporter.yml"
    file.write_text("detail: {interval: 200ms, namespaces: true}\nsample: {interval: 200ms}\n")
    with contextlib.ExitStack() as stack:
        try:
            Path(os.fsdecode(top)).mkdir()
        except OSError as error:
            pytest.skip(f"no cgroup can be made here: {error.strerror}")
        stack.callback(os.rmdir, top)
        for name in NAMES.values():
            os.mkdir(top + b"/" + name.raw)
            stack.callback(os.rmdir, top + b"/" + name.raw)
        for name in (*NAMES.values(), NEWLINE):
            space = name.raw + b"~%d" % os.getpid()
            done = subprocess.run(
                [ip, "netns", "add", space], capture_output=True, text=True, errors="replace", check=False
            )
            if done.returncode != 0:
                pytest.skip(f"no named network namespace can be made here: {done.stderr}")
            stack.callback(subprocess.check_call, [ip, "netns", "delete", space])
        try:
            lab = stack.enter_context(LabProcess())  # its programs end before their cgroups are removed
        except LabUnavailable as error:
            pytest.skip(str(error))
        units, processes = {}, {}
        for number, name in enumerate((*NAMES.values(), NEWLINE), start=1):
            group = b"" if name is NEWLINE else top + b"/" + name.raw
            holder = lab.popen([sys.executable, "-c", HOLD, name.raw.hex(), group.hex(), str(number)])
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            processes[name.escaped] = 2 * number
            if group:
                units[name.shown] = 2 * number
        started = ["-c", ON_HOST, HOST.hex(), *PROGRAM]
        arguments = ("--config.file", str(file))
        daemon = stack.enter_context(Daemon(folder / "log", *arguments, lab=lab, program=[sys.executable, *started]))
        daemon.ready()
        wait_for(lambda: "tcp_netns_connections{" in daemon.get("/metrics")[1] or None, "the namespaces")
        yield Host(lab, daemon, units, processes)


def shown(text: str) -> str:
    """*text*, which is fit to be shown."""
    assert is_presentable(text)
    return text


def among_the_largest(host: Host, names: list[str]) -> bool:
    """Whether *names* have the largest of the units, in their order; units that are not the test's stand between."""
    found = [name for name in names if name in host.units]
    return len(found) > 2 and found == sorted(host.units, key=lambda name: -host.units[name])[: len(found)]


@pytest.mark.parametrize(
    ("accept", "parse"),
    [("text/plain", parse_text), ("application/openmetrics-text", parse_openmetrics)],
    ids=["text", "OpenMetrics"],
)
def test_both_formats_have_each_unit_and_each_namespace_and_are_read_back(
    host: Host, accept: str, parse: object
) -> None:
    page = shown(host.daemon.get("/metrics", Accept=accept)[1])
    units, spaces = {}, set()
    for family in parse(page):  # type: ignore[operator]
        for sample in family.samples:
            if sample.name == "tcp_unit_connections" and sample.labels["state"] == "established":
                units[sample.labels["unit"]] = sample.value
            if sample.name == "tcp_netns_connections":
                spaces.add(sample.labels["netns"])
    assert {name: units.get(name) for name in host.units} == host.units
    expected = {f"{name.shown}~{os.getpid()}" for name in (*NAMES.values(), NEWLINE)}
    assert expected - spaces == set()
    if "plain" in accept and (promtool := shutil.which("promtool")):
        done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False)
        # Gauges with the suffix and the label of a histogram, on purpose: see docs/metrics.md.
        complaint = re.compile(r"tcp_port_(?:rtt|idle)_seconds_bucket non-histogram metrics should not have .+")
        told = (done.stdout + done.stderr).splitlines()
        assert [line for line in told if not complaint.fullmatch(line)] == []


def test_the_json_has_each_unit(host: Host) -> None:
    document = json.loads(host.daemon.get("/api/v1/snapshot")[1])
    shown(json.dumps(document, ensure_ascii=False))
    counted = {name: counts["established"] for name, counts in document["detail"]["units"].items()}
    assert {name: counted.get(name) for name in host.units} == host.units


def test_in_a_browser_no_name_becomes_an_element_and_no_script_runs(host: Host, tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{host.daemon.port}/"
    with Browser(tmp_path, host.lab) as browser:
        browser.open(address)
        assert browser.text("h1") == f"TCP on {SHOWN_HOST}"
        names = [" ".join(name.split()) for name in browser.texts("#units th code")]
        assert among_the_largest(host, names)
        assert (
            browser.run("return document.querySelectorAll('script, b[onclick], img, h1 b b, code *:not(wbr)').length")
            == 1
        )
        assert (
            browser.run("return [...document.querySelectorAll('svg')].some((it) => it.hasAttribute('onload'))") is False
        )
        assert browser.complaints() == []
        assert [it for it in browser.requests() if not it.startswith((address, "data:"))] == []


def test_show_and_watch_say_nothing_to_the_terminal(host: Host) -> None:
    done = host.lab.run([sys.executable, "-c", ON_HOST, HOST.hex(), *PROGRAM, "show"])
    assert (done.returncode, done.stderr) == (0, "")
    lines = shown(done.stdout).splitlines()
    assert lines[0].startswith(f"TCP on {SHOWN_HOST}, ")
    assert among_the_largest(host, [line[:28].rstrip() for line in lines])
    watch = [sys.executable, "-c", ON_HOST, HOST.hex(), *PROGRAM, "show", "--watch", "--interval", "200ms"]
    with Terminal(*watch, size=(200, 120), lab=host.lab) as terminal:
        terminal.shows(re.escape(max(host.units, key=lambda name: host.units[name])))
        frame = [line.rstrip() for line in terminal.frame()]
        assert all(map(str.isprintable, frame))
        assert among_the_largest(host, [line[:28].rstrip() for line in frame])
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.ended() == 0


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_who_tells_each_process_and_each_unit(host: Host, encoding: str) -> None:
    environ = {**os.environ, "PYTHONIOENCODING": encoding}
    for by, expected in (("process", host.processes), ("unit", host.units)):
        command = [*PROGRAM, "who", "established", "--by", by, "--top", "0"]
        done = host.lab.run([*command, "--json"], env=environ)
        assert (done.returncode, done.stderr) == (0, "")
        owners = {row["owner"]: row["sockets"] for row in json.loads(done.stdout)["owners"]}
        assert {name: owners.get(name) for name in expected} == expected
        done = host.lab.run(command, env=environ)
        assert (done.returncode, done.stderr) == (0, "")
        lines = shown(done.stdout).splitlines()
        for name, number in expected.items():
            if name.isascii() or encoding == "utf-8":
                assert any(line.startswith(f"{number:>9}  {name}") for line in lines), name


def test_the_plugin_and_the_log_have_one_line_for_each_thing_they_say(host: Host) -> None:
    for arguments in (["-vv"], ["-vv", "--url", f"http://127.0.0.1:{host.daemon.port}"]):
        done = host.lab.run([*PLUGIN, *arguments, "-s", "ephemeral_ports_ratio"])
        assert (done.returncode, done.stderr) == (0, "")
        first, *rest = shown(done.stdout).splitlines()
        assert (first.count("|"), "|" in "".join(rest)) == (1, False)
    lines = shown(host.daemon.said()).splitlines()
    assert [line for line in lines if not re.match(r"ts=\S+ level=\w+ msg=", line)] == []


def test_a_name_with_a_newline_is_refused_for_a_cgroup_by_the_kernel() -> None:
    mount_point = Cgroups().mount_point
    if os.getuid() != 0 or mount_point is None:
        pytest.skip("only root makes cgroups of v2")
    with pytest.raises(OSError, match="Invalid argument"):
        os.mkdir(os.fsencode(f"{mount_point}/") + NEWLINE.raw)
