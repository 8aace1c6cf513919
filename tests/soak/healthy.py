"""A busy, healthy host, watched by the daemon and by a real Prometheus with the alerts that are shipped.

``python -m tests.soak.healthy --minutes 60`` prints what the daemon logged, the alerts and what both cost; it fails
where a finding was above WARNING or an alert fired. The host is a network namespace of its own with the traffic of
``mix``, of which nft loses three segments in a thousand. The thresholds are the defaults, unless more connections are
to be idle than they allow.
"""

from __future__ import annotations

import argparse
import json
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
_PAGE_BYTES, _TICKS = 4096, 100
_EVENTS = ("finding appeared", "finding changed severity", "finding gone", "threshold crossed")


class Verdicts(NamedTuple):
    """What was concluded of a healthy host."""

    seconds: float
    logged: Sequence[Mapping[str, str]]  # the fields of the daemon's lines about findings and thresholds
    warnings: Sequence[Mapping[str, str]]  # its other lines above info
    statuses: Mapping[str, float]  # seconds that tcp_host_status was so
    findings: Mapping[str, float]  # seconds that a finding was there, by name and status
    alerts: Mapping[tuple[str, str], float]  # seconds of each alert, by name and whether it was pending or firing
    mix: Mapping[str, Mapping[str, float]]  # what each role did
    peaks: Mapping[str, float]
    cpu: Mapping[str, float]  # seconds
    resident: tuple[int, int]  # KiB of the daemon, after its first scrape and at the end

    @property
    def false_alarms(self) -> list[str]:
        """What must not be: findings above WARNING, alerts that fired, mistakes of the daemon."""
        above = [f"{it['finding']} was CRITICAL" for it in self.logged if it.get("severity") == "CRITICAL"]
        fired = [f"the alert {name} fired" for name, state in self.alerts if state == "firing"]
        return above + fired + [f"the daemon logged: {it}" for it in self.warnings if it["level"] == "error"]


def healthy(lab: LabProcess, folder: Path, seconds: float, *, idle: int = IDLE, scraped: bool = True) -> Verdicts:
    """Run the mix in the lab for so many *seconds*; without Prometheus there are no alerts, shares and peaks."""
    if shutil.which("nft") is None:
        raise Missing("nft")
    arguments = []
    if idle > _ALLOWED:
        config = folder / "exporter.yml"
        config.write_text("thresholds: {established: {warning: 20000, critical: 30000}}\n")
        arguments = ["--config.file", str(config)]
    lab.make({}, socket.AF_INET)  # the wire and the address
    lab.establish(idle, socket.AF_INET)
    lost = lab.run(["nft", "-f", "-"], stdin=_LOSS)
    assert lost.returncode == 0, lost.stderr
    with Daemon(folder / "daemon.log", *arguments, lab=lab) as daemon:
        daemon.ready()
        server = Prometheus(lab, folder, daemon.port) if scraped else None
        resident = _resident(daemon.process.pid)
        lab.sysctl("net.ipv4.ip_local_port_range", PORT_RANGE)
        roles = dict(_roles(lab))
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            time.sleep(min(1.0, seconds))
            assert daemon.process.poll() is None, daemon.said()
            for name, role in roles.items():
                assert role.poll() is None, f"{name} ended: {role.communicate()[1]}"
        lasted = time.monotonic() - began
        statuses, findings, alerts, peaks = ({}, {}, {}, {}) if server is None else server.verdicts(lasted)
        cpu = {"daemon": _cpu(daemon.process.pid)}
        if server is not None:
            cpu["prometheus"] = _cpu(server.process.pid)
        resident = (resident, _resident(daemon.process.pid))
        mix = {name: _end(process) for name, process in roles.items()}
        lines = list(_lines(daemon.said()))
        assert daemon.terminate() == 0
    logged = [it for it in lines if it["msg"] in _EVENTS]
    others = [it for it in lines if it["msg"] not in _EVENTS and it["level"] in {"warn", "error"}]
    return Verdicts(lasted, logged, others, statuses, findings, alerts, mix, peaks, cpu, resident)


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
        wait_for(lambda: self.ask("up == 1") or None, "the first scrape")

    def ask(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series."""
        try:
            path = "/api/v1/query?" + urllib.parse.urlencode({"query": expression})
            result = json.loads(get(self._port, path, self._lab)[1])["data"]["result"]
        except (OSError, ValueError, KeyError):
            return []
        return [(it["metric"], float(it["value"][1])) for it in result]

    def verdicts(
        self, seconds: float
    ) -> tuple[dict[str, float], dict[str, float], dict[tuple[str, str], float], dict[str, float]]:
        """Host statuses, findings, alerts and peaks of the last *seconds*."""
        span, step = f"{seconds:.0f}s", _SCRAPE_SECONDS
        names = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
        statuses, findings = {}, {}
        for number, name in enumerate(names):
            for _, value in self.ask(f"count_over_time((tcp_host_status == {number})[{span}:{step}s])"):
                statuses[name] = value * step
            for labels, value in self.ask(f"count_over_time((tcp_finding_status == {number} > 0)[{span}:{step}s])"):
                findings[f"{labels['finding']} {name}"] = value * step
        alerts: Counter[tuple[str, str]] = Counter()
        for labels, value in self.ask(f"count_over_time(ALERTS[{span}])"):
            alerts[labels["alertname"], labels["alertstate"]] += value * step
        peaks = {}
        for name, expression in (
            *(
                (state, f'tcp_connections{{state="{state}"}}')
                for state in ("established", "time_wait", "close_wait", "syn_recv", "syn_sent")
            ),
            *(
                (name, f'tcp_saturation_ratio{{resource="{name}"}}')
                for name in ("ephemeral_ports", "accept_queue", "syn_queue")
            ),
        ):
            for _, value in self.ask(f"max(max_over_time({expression}[{span}]))"):
                peaks[name] = value
        return statuses, findings, dict(alerts), peaks


def _lines(log: str) -> Iterator[dict[str, str]]:
    """The fields of each line of a log in logfmt."""
    for line in log.splitlines():
        fields = dict(part.partition("=")[::2] for part in shlex.split(line))
        if "msg" in fields:
            yield fields


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * _PAGE_BYTES >> 10


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def show(found: Verdicts) -> None:
    """Print it all."""
    print(f"HEALTHY MIX for {found.seconds:.0f} s")
    for role, did in found.mix.items():
        print(f"  {role}: " + ", ".join(f"{name} {number:g}" for name, number in did.items()))
    print("LOGGED by the daemon")
    for (event, name, severity), number in sorted(Counter(map(_key, found.logged)).items()):
        print(f"{number:>9}  {event}: {name} {severity}")
    for it in (*found.logged, *found.warnings):
        print(f"           {' '.join(f'{name}={value}' for name, value in it.items())}")
    for title, seconds in (("STATUS of the host", found.statuses), ("FINDINGS by their metric", found.findings)):
        print(title)
        for name, value in seconds.items():
            print(f"{value:>9.0f} s  {name}, {value / found.seconds:.1%} of the time")
    print("ALERTS" if found.alerts else "ALERTS: none, not even pending")
    for (name, state), value in sorted(found.alerts.items()):
        print(f"{value:>9.0f} s  {name} {state}")
    print("PEAKS: " + ", ".join(f"{name} {value:.4g}" for name, value in found.peaks.items()))
    for name, value in found.cpu.items():
        print(f"CPU of {name}: {value:.1f} s, {value / found.seconds:.2%} of a core")
    print(f"MEMORY of the daemon: {found.resident[0]} KiB at first, {found.resident[1]} KiB at the end")
    for alarm in found.false_alarms:
        print(f"FALSE ALARM: {alarm}")
    sys.stdout.flush()


def _key(it: Mapping[str, str]) -> tuple[str, str, str]:
    return it["msg"], it.get("finding") or it.get("measure", ""), it.get("severity") or it.get("status", "")


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
