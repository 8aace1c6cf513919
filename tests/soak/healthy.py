"""A busy, healthy host, watched by the daemon and by a real Prometheus with the alerts that are shipped.

``python -m tests.soak.healthy --minutes 60`` prints what the daemon logged, the alerts and what both cost; it fails
where a finding was above WARNING or an alert fired. The host is a network namespace of its own with the traffic of
``mix``, of which nft loses three segments in a thousand. The thresholds are the defaults, unless more connections are
to be idle than they allow.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.e2e.conftest import DEADLINE, Daemon, free_port, get, wait_for
from tests.lab import LabProcess, LabUnavailable
from tests.soak.load import Missing
from tests.soak.mix import PORT_RANGE, ROLES

IDLE = 100
_ALLOWED = 160  # that may be idle beside the mix below the default thresholds
_RULES = Path(__file__).parents[2] / "deploy" / "prometheus"
_SCRAPE_SECONDS = 5
_LOSS = """
table inet mix {
  chain input { type filter hook input priority 0; iifname "lo" meta l4proto tcp numgen random mod 1000 < 3 drop; }
}
"""
_STATUSES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_STATES = ("established", "time_wait", "close_wait", "syn_recv", "syn_sent")
_RESOURCES = ("ephemeral_ports", "accept_queue", "syn_queue")
_PEAKS = {
    **{state: f'tcp_connections{{state="{state}"}}' for state in _STATES},
    **{resource: f'tcp_saturation_ratio{{resource="{resource}"}}' for resource in _RESOURCES},
}
_EVENTS = ("finding appeared", "finding changed severity", "finding gone", "threshold crossed")


class Watched(NamedTuple):
    """What Prometheus saw of the time: seconds, but for the peaks."""

    statuses: Mapping[str, float] = {}  # of the host
    findings: Mapping[str, float] = {}  # that were there, by name and status
    alerts: Mapping[tuple[str, str], float] = {}  # by name and whether it was pending or firing
    peaks: Mapping[str, float] = {}


class Verdicts(NamedTuple):
    """What was concluded of a healthy host."""

    seconds: float
    logged: Sequence[Mapping[str, str]]  # the fields of the daemon's lines about findings and thresholds
    complaints: Sequence[Mapping[str, str]]  # its other lines above info
    watched: Watched
    mix: Mapping[str, Mapping[str, float]]  # what each role did
    cpu: Mapping[str, float]  # seconds, of the programs that watch
    resident: tuple[int, int]  # KiB of the daemon, after its first sample and at the end

    @property
    def false_alarms(self) -> list[str]:
        """What must not be: findings above WARNING, alerts that fired, errors of the daemon."""
        return [
            *(f"{_name(it)} was CRITICAL" for it in self.logged if _severity(it) == "CRITICAL"),
            *(f"the alert {name} fired" for name, state in self.watched.alerts if state == "firing"),
            *(f"the daemon logged {it['msg']}" for it in self.complaints if it["level"] == "error"),
        ]


def healthy(lab: LabProcess, folder: Path, seconds: float, *, idle: int = IDLE, scraped: bool = True) -> Verdicts:
    """Run the mix in the lab for so many *seconds*, with Prometheus where the daemon is to be *scraped*."""
    if shutil.which("nft") is None:
        raise Missing("nft")
    arguments = []
    if idle > _ALLOWED:
        config = folder / "exporter.yml"
        config.write_text("thresholds: {established: {warning: 20000, critical: 30000}}\n")
        arguments = ["--config.file", str(config)]
    lab.make({}, socket.AF_INET)  # the wire and the address
    lab.establish(idle, socket.AF_INET)
    lossy = lab.run(["nft", "-f", "-"], stdin=_LOSS)
    assert lossy.returncode == 0, lossy.stderr
    with Daemon(folder / "daemon.log", *arguments, lab=lab) as daemon:
        daemon.ready()
        at_first = _resident(daemon.process.pid)
        prometheus = Prometheus(lab, folder, daemon.port) if scraped else None
        lab.sysctl("net.ipv4.ip_local_port_range", PORT_RANGE)
        roles = dict(_roles(lab))
        began = time.monotonic()
        while (lasted := time.monotonic() - began) < seconds:
            time.sleep(1)
            assert daemon.process.poll() is None, daemon.said()
            for name, role in roles.items():
                assert role.poll() is None, f"{name} ended: {role.communicate()[1]}"
        watched = Watched() if prometheus is None else prometheus.watched(lasted)
        cpu = {"the daemon": _cpu(daemon.process.pid)}
        if prometheus is not None:
            cpu["Prometheus"] = _cpu(prometheus.process.pid)
        resident = (at_first, _resident(daemon.process.pid))
        mix = {name: _end(role) for name, role in roles.items()}
        lines = list(_lines(daemon.said()))
        assert daemon.terminate() == 0
    return Verdicts(
        seconds=lasted,
        logged=[it for it in lines if it["msg"] in _EVENTS],
        complaints=[it for it in lines if it["msg"] not in _EVENTS and it["level"] in {"warn", "error"}],
        watched=watched,
        mix=mix,
        cpu=cpu,
        resident=resident,
    )


def _roles(lab: LabProcess) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    for name in ROLES:
        role = lab.popen([sys.executable, "-m", "tests.soak.mix", name], cwd=str(_RULES.parents[1]))
        assert role.stdout is not None
        assert role.stdout.readline() == "ready\n", role.communicate()[1]
        yield name, role


def _end(role: subprocess.Popen[str]) -> Mapping[str, float]:
    role.send_signal(signal.SIGTERM)
    said, complaint = role.communicate(timeout=DEADLINE)
    assert said.startswith("{"), complaint
    return dict(json.loads(said))


class Prometheus:
    """Debian's, with the rules that are shipped."""

    def __init__(self, lab: LabProcess, folder: Path, target: int) -> None:
        program = shutil.which("prometheus")
        if program is None:
            raise Missing("prometheus")
        self._lab, self._port = lab, free_port(lab)
        (folder / "prometheus.yml").write_text(
            f"global: {{scrape_interval: {_SCRAPE_SECONDS}s, evaluation_interval: {_SCRAPE_SECONDS}s}}\n"
            f"rule_files: ['{_RULES}/alerts.yml', '{_RULES}/rules.yml']\n"
            f"scrape_configs: [{{job_name: tcp-exporter, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n"
        )
        command = [
            program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]  # fmt: skip
        with (folder / "prometheus.log").open("w") as log:
            self.process = lab.popen(command, stdout=subprocess.DEVNULL, stderr=log)
        wait_for(self._has_scraped, "the first scrape")

    def _has_scraped(self) -> bool | None:
        try:
            return bool(self.ask("up == 1")) or None
        except OSError:
            return None

    def ask(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series. Raises ``OSError`` while it does not answer."""
        status, answer = get(self._port, "/api/v1/query?" + urllib.parse.urlencode({"query": expression}), self._lab)
        if status != 200:
            raise OSError(answer)
        return [(it["metric"], float(it["value"][1])) for it in json.loads(answer)["data"]["result"]]

    def watched(self, seconds: float) -> Watched:
        """What was so for how long of the last *seconds*."""
        span, step = f"{seconds:.0f}s", _SCRAPE_SECONDS
        statuses, findings = {}, {}
        for number, name in enumerate(_STATUSES):
            for _, times in self.ask(f"count_over_time((tcp_host_status == {number})[{span}:{step}s])"):
                statuses[name] = times * step
            for labels, times in self.ask(f"count_over_time((tcp_finding_status == {number} > 0)[{span}:{step}s])"):
                findings[f"{labels['finding']} {name}"] = times * step
        alerts: dict[tuple[str, str], float] = {}
        for labels, times in self.ask(f"count_over_time(ALERTS[{span}])"):
            which = [labels.get(label, "") for label in ("alertname", "name", "measure", "severity")]
            alerts[" ".join(filter(None, which)), labels["alertstate"]] = times * step
        peaks = {
            name: most
            for name, series in _PEAKS.items()
            for _, most in self.ask(f"max(max_over_time({series}[{span}]))")
        }
        return Watched(statuses, findings, alerts, peaks)


def _lines(log: str) -> Iterator[dict[str, str]]:
    """The fields of each line of a log in logfmt."""
    for line in log.splitlines():
        fields = dict(part.partition("=")[::2] for part in shlex.split(line))
        if "msg" in fields:
            yield fields


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * resource.getpagesize() >> 10


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(found: Verdicts) -> None:
    """Print it all."""
    watched = found.watched
    print(f"HEALTHY MIX for {found.seconds:.0f} s")
    for role, did in found.mix.items():
        print(f"  {role}: " + ", ".join(f"{name} {number:g}" for name, number in did.items()))
    print("LOGGED by the daemon")
    for (event, name, severity), number in sorted(Counter(map(_kind, found.logged)).items()):
        print(f"{number:>9}  {event}: {name} {severity}")
    for it in (*found.logged, *found.complaints):
        print(f"           {' '.join(f'{name}={value}' for name, value in it.items())}")
    for title, times in (("STATUS of the host", watched.statuses), ("FINDINGS by their metric", watched.findings)):
        print(title)
        for name, value in times.items():
            print(f"{value:>9.0f} s  {name}, {value / found.seconds:.1%} of the time")
    print("ALERTS" if watched.alerts else "ALERTS: none, not even pending")
    for (name, state), value in sorted(watched.alerts.items()):
        print(f"{value:>9.0f} s  {name}: {state}")
    print("PEAKS: " + ", ".join(f"{name} {value:.4g}" for name, value in watched.peaks.items()))
    for name, value in found.cpu.items():
        print(f"CPU of {name}: {value:.1f} s, {value / found.seconds:.2%} of a core")
    print(f"MEMORY of the daemon: {found.resident[0]} KiB at first, {found.resident[1]} KiB at the end")
    for alarm in found.false_alarms:
        print(f"FALSE ALARM: {alarm}")
    sys.stdout.flush()


def _kind(it: Mapping[str, str]) -> tuple[str, str, str]:
    return it["msg"], _name(it), _severity(it)


def _name(it: Mapping[str, str]) -> str:
    return it.get("finding") or it.get("measure", "")


def _severity(it: Mapping[str, str]) -> str:
    return it.get("severity") or it.get("status", "")


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 for a false alarm."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.healthy")
    parser.add_argument("--minutes", type=float, default=60, help="default: %(default)s")
    parser.add_argument("--idle", type=int, default=IDLE, help="connections that stay idle (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder, LabProcess() as lab:
            found = healthy(lab, Path(folder), 60 * options.minutes, idle=options.idle)
    except Missing as program:
        print(f"{program} is not installed", file=sys.stderr)
        return 2
    except LabUnavailable as error:
        print(error, file=sys.stderr)
        return 2
    show(found)
    return 1 if found.false_alarms else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
