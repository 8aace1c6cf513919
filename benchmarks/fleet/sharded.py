"""The servers of ``deploy/fleet`` over the hosts, all at once, and one of them that fails and comes back.

Four Prometheus servers by hashmod with a replica each, the global one above them by federation, and the same series by
remote write in VictoriaMetrics, where vmalert evaluates the rules; an Alertmanager for each of the two ways.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from benchmarks.fleet.hosts import ESTABLISHED
from benchmarks.fleet.queries import SCRAPE_SECONDS, Timed, ask, number, timed
from benchmarks.fleet.servers import (
    RULES,
    Receiver,
    Used,
    alertmanager,
    prometheus,
    reload,
    resident,
    victoria_metrics,
    vmalert,
    write,
)
from benchmarks.meter import ROOT, Failed
from benchmarks.server import Server

SHARDS = 4
_REPLICAS = "ab"
_FLEET = os.path.join(ROOT, "deploy", "fleet")
_PATIENCE_SECONDS = 900.0  # an alert waits for 5 minutes, and then for the group
_BRIEF = {"15s": "5s", "30s": "5s", "1m": "5s", "2m": "5s", "5m": "10s"}
"""For a run of a minute: what the shipped files say, and what stands in for it."""

Name = tuple[int, str]  # of a shard: its number and its letter


class Sharded(NamedTuple):
    """What was seen: a sentence and its figure each, and the answers of both ways to see the whole fleet."""

    seen: Mapping[str, str]
    federated: Sequence[Timed]
    written: Sequence[Timed]


class _Fleet:
    """The servers, while they run."""

    def __init__(self, folder: str, addresses: Sequence[str], *, brief: bool) -> None:
        self._folder = folder
        self._brief = brief
        self._open = contextlib.ExitStack()
        self._addresses = addresses
        self.receiver = self._open.enter_context(Receiver())
        self.alerts = {
            by: self._open.enter_context(alertmanager(folder, f"alertmanager-{by}", self._alertmanager(by)))
            for by in ("prometheus", "vmalert")
        }
        every = "5s" if brief else f"{SCRAPE_SECONDS}s"
        self.store = self._open.enter_context(victoria_metrics(folder, f"-dedup.minScrapeInterval={every}"))
        self._rules = [self._copy(path) for path in RULES]
        self.alert_rules = self._rules[0]
        self.vmalert = self._open.enter_context(
            vmalert(folder, self.store, self.alerts["vmalert"], self._rules, "5s" if brief else "1m")
        )
        write(os.path.join(folder, "hosts.json"), json.dumps([{"targets": list(addresses)}]))
        self.shards: dict[Name, Server] = {}
        self._ends: dict[Name, contextlib.ExitStack] = {}
        for name in itertools.product(range(SHARDS), _REPLICAS):
            self.start(name)
        self.above = self._open.enter_context(prometheus(folder, "global", self._global("aaaa")))

    def __enter__(self) -> _Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for end in self._ends.values():
            end.close()
        self._open.close()

    def start(self, name: Name) -> None:
        """Start a shard, with what it stored before."""
        self._ends[name] = contextlib.ExitStack()
        shard = prometheus(self._folder, f"shard-{name[0]}{name[1]}", self._shard(*name))
        self.shards[name] = self._ends[name].enter_context(shard)

    def kill(self, name: Name) -> None:
        """End a shard at once."""
        self._ends.pop(name).close()
        del self.shards[name]

    def ask_instead(self, letters: str) -> None:
        """Let the global server ask these replicas, one of each number."""
        write(os.path.join(self._folder, "global.yml"), self._global(letters))
        reload(self.above)

    def servers(self) -> list[Server]:
        """All that scrape, store or judge."""
        return [*self.shards.values(), self.above, self.store, self.vmalert]

    def wait(self, reached: Callable[[], bool], what: str) -> float:
        """Wait; how many seconds it took."""
        print(f"waiting for {what}", file=sys.stderr)
        began = time.monotonic()
        while not reached():
            if time.monotonic() - began > _PATIENCE_SECONDS:
                raise Failed(f"no {what} within {_PATIENCE_SECONDS:g} s")
            time.sleep(0.2)
        return time.monotonic() - began

    # -- files ---------------------------------------------------------------------------------------------------------

    def _text(self, path: str) -> str:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if self._brief:
            for shipped, brief in _BRIEF.items():
                for key in ("for", "scrape_interval", "evaluation_interval", "group_wait", "group_interval"):
                    text = text.replace(f"{key}: {shipped}\n", f"{key}: {brief}\n").replace(
                        f"{key}: {shipped}  #", f"{key}: {brief}  #"
                    )
        return text

    def _copy(self, path: str) -> str:
        copy = os.path.join(self._folder, os.path.basename(path))
        write(copy, self._text(path))
        return copy

    def _alertmanager(self, by: str) -> str:
        text = self._text(os.path.join(ROOT, "deploy", "prometheus", "alertmanager.yml"))
        for receiver in ("pager", "tickets"):
            text = text.replace(f"http://{receiver}.example/alerts", f"{self.receiver.url}/{by}")
        return text

    def _shard(self, shard: int, replica: str) -> str:
        text = self._text(os.path.join(_FLEET, "shard.yml"))
        text = text.replace('shard: "0"', f'shard: "{shard}"').replace('regex: "0"', f'regex: "{shard}"')
        text = text.replace("replica: a", f"replica: {replica}")
        text = text.replace("../prometheus/targets/*.yml", os.path.join(self._folder, "hosts.json"))
        for path in self._rules:
            text = text.replace(f"../prometheus/{os.path.basename(path)}", path)
        text = text.replace("alertmanager.example:9093", f"127.0.0.1:{self.alerts['prometheus'].port}")
        write_to = self._text(os.path.join(_FLEET, "victoriametrics.yml"))
        return text + write_to.replace("http://victoriametrics.example:8428", f"http://127.0.0.1:{self.store.port}")

    def _global(self, letters: str) -> str:
        text = self._text(os.path.join(_FLEET, "global.yml"))
        for shard, letter in enumerate(letters):
            port = self.shards[shard, letter].port
            text = text.replace(f"shard-{shard}a.example:9090", f"127.0.0.1:{port}")
        return text


def measured(folder: str, addresses: Sequence[str], *, brief: bool) -> Sharded:
    """Start all servers, wait for the alerts, let one fail, and let it come back."""
    seen: dict[str, str] = {}
    with _Fleet(folder, addresses, brief=brief) as fleet:
        fleet.wait(
            lambda: all(sum(_answering(fleet, letter)) == len(addresses) for letter in _REPLICAS),
            "scrape of every host by both servers of its number",
        )
        own = _answering(fleet, "a")
        if own != _answering(fleet, "b"):
            raise Failed(f"the servers of a number have different hosts: {own}, {_answering(fleet, 'b')}")
        seen["hosts of the four shards"] = ", ".join(map(str, own))
        everything = "sum(job:up:sum)", "count(up{job='tcp-exporter'} == 1)"
        whole = [
            lambda: number(fleet.above, everything[0]) == len(addresses),
            lambda: number(fleet.store, everything[1]) == len(addresses),
        ]
        fleet.wait(whole[0], "whole fleet by federation")
        fleet.wait(whole[1], "whole fleet by remote write")
        used = Used(fleet.servers())
        expected = _expected(addresses)
        for by in fleet.alerts:
            fleet.wait(lambda by=by: fleet.receiver.firing(f"/{by}", "TcpEstablished") >= expected, f"alerts by {by}")  # type: ignore[misc]  # mypy infers no lambda with a default
            if fleet.receiver.firing(f"/{by}", "TcpEstablished") != expected:
                raise Failed(f"{by} alerts of hosts that are fine")
        seen["alerts of established connections, by each way"] = f"{len(expected)}, of the hosts that are above a limit"
        fleet.wait(lambda: number(fleet.store, everything[0]) == len(addresses), "roll-ups that vmalert has recorded")
        seen |= _costs(fleet, used, len(addresses))
        federated, written = timed(fleet.above), timed(fleet.store)
        seen |= _failure(fleet, own[0], whole)
        for by in fleet.alerts:
            if twice := fleet.receiver.told_twice(f"/{by}"):
                raise Failed(f"{twice} alerts came twice by {by}")
        seen["alerts that came twice"] = "none, by either way"
    return Sharded(seen, federated, written)


def _answering(fleet: _Fleet, letter: str) -> list[int]:
    """How many hosts each shard has that answer it."""
    found = []
    for shard in range(SHARDS):
        _, page = fleet.shards[shard, letter].get("/api/v1/targets?state=active")
        found.append(sum(target["health"] == "up" for target in json.loads(page)["data"]["activeTargets"]))
    return found


def _expected(addresses: Sequence[str]) -> set[tuple[str, str]]:
    """The alerts of established connections that there must be. Of a critical one the warning is inhibited."""
    limits = {650: "warning", 900: "critical"}
    numbers = (ESTABLISHED[index % len(ESTABLISHED)] for index in range(len(addresses)))
    return {
        (address, limits[connections])
        for address, connections in zip(addresses, numbers, strict=True)
        if connections in limits
    }


def _costs(fleet: _Fleet, used: Used, hosts: int) -> dict[str, str]:
    shards = list(fleet.shards.values())

    def total(counter: str) -> float:
        series = (item for server in shards for item in server.metrics().items())
        return sum(value for name, value in series if name.partition("{")[0] == counter)

    sent, samples = (total(f"prometheus_remote_storage_{what}_total") for what in ("bytes", "samples"))

    def cost(servers: Sequence[Server]) -> str:
        memory = sum(map(resident, servers)) / len(servers) / 2**20
        return f"{memory:.0f} MiB, {sum(map(used.share, servers)) / len(servers) * 1e3:.0f} thousandths of a core"

    return {
        f"a shard of {hosts / SHARDS:.0f} hosts, rules and remote write included": cost(shards),
        "the global server": cost([fleet.above]),
        "VictoriaMetrics, with the series of every host from both replicas": cost([fleet.store]),
        "vmalert, with all rules": cost([fleet.vmalert]),
        "remote write": f"{sent / samples:.1f} bytes a sample",
    }


def _failure(fleet: _Fleet, hosts: int, whole: Sequence[Callable[[], bool]]) -> dict[str, str]:
    """Kill server a of shard 0, let the others carry on, and let it come back: what happened, and when."""
    seen = {}
    told = len(fleet.receiver.told)
    began = time.time()
    fleet.kill((0, "a"))
    gone = "up{job='tcp-fleet'} == 0"
    seen["killed: seen by the global server after"] = _seconds(
        fleet.wait(lambda: number(fleet.above, gone) is not None, "sign of it in the global server")
    )
    fleet.wait(
        lambda: sum(times[-1] > began + SCRAPE_SECONDS for times in _samples(fleet.store, began)) == hosts,
        "fresh samples of its hosts by remote write",
    )
    gaps = (later - at for times in _samples(fleet.store, began) for at, later in itertools.pairwise(times))
    seen["longest gap in VictoriaMetrics' samples of its hosts"] = _seconds(max(gaps, default=0.0))
    # A sum that was there before stays for five minutes: only what is newer shows that somebody tells it now.
    named = time.time()
    fleet.ask_instead("baaa")
    seen["its replica named in global.yml: new numbers of the whole fleet there after"] = _seconds(
        fleet.wait(
            lambda: number(fleet.above, _newer(named)) == SHARDS and whole[0](),
            "whole fleet by federation with the replica",
        )
    )
    again = time.time()
    fleet.start((0, "a"))
    server = fleet.shards[0, "a"]
    scraped = f"count(timestamp(up{{job='tcp-exporter'}}) > {again})"
    seen["started again: a new sample of every host of its own after"] = _seconds(
        fleet.wait(lambda: number(server, scraped) == hosts, "scrape of its hosts")
    )
    back = time.time()
    fleet.ask_instead("aaaa")
    fleet.wait(lambda: number(fleet.above, _newer(back)) == SHARDS and whole[0](), "whole fleet by federation again")
    # Its alerts begin where they were; what it sends again within two evaluations is what the replica has sent already.
    evaluations = f'prometheus_rule_group_iterations_total{{rule_group="{fleet.alert_rules};tcp-thresholds"}}'
    fleet.wait(lambda: server.metrics().get(evaluations, 0) >= 2, "evaluation of its rules")
    if not whole[1]():
        raise Failed("VictoriaMetrics lost hosts")
    seen["notifications from the kill to the end"] = str(len(fleet.receiver.told) - told)
    return seen


def _newer(since: float) -> str:
    """How many shards' sums are newer than that."""
    return f"count(timestamp(job:up:sum) > {since})"


def _samples(store: Server, since: float) -> list[list[float]]:
    """The times of the samples of each host of shard 0, from a minute before *since*."""
    seconds = int(time.time() - since) + 60
    found = []
    for series in ask(store, "query", query=f"up{{job='tcp-exporter',shard='0'}}[{seconds}s]"):
        values = series["values"]
        assert isinstance(values, list)
        found.append([float(at) for at, _ in values])
    return found


def _seconds(value: float) -> str:
    return f"{value:.0f} s"


def report(sharded: Sharded) -> list[str]:
    """What was seen, as lines."""
    lines = [f"{SHARDS} shards with a replica each, federation, VictoriaMetrics and vmalert"]
    return lines + [f"{what}: {figure}" for what, figure in sharded.seen.items()]
