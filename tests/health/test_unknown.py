"""Why a measure has no value: the reason is the measure's own, and not whatever else could not be read."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.details import Conntrack
from exporter.health.measures import BY_NAME, MEASURES
from exporter.snapshot import Listener, SysctlValue
from tests.conftest import SITUATIONS, sample_situation

GROUP = Listener(
    "0.0.0.0", 443, sockets=4, accept_queue=0, accept_limit=256, syn_recv=64, fullest_queue=0, fullest_limit=64
)
ELSEWHERE = {"netstat": "net/netstat: gone"}  # what no measure needs


def scalar(name: str, value: int) -> dict[str, SysctlValue]:
    return {name: SysctlValue(name, (("", value),), None, "")}


@pytest.mark.parametrize(
    ("measure", "changes", "reason"),
    [
        ("established", {"connections": None, "sources": {"procfs": "net/tcp: gone"}}, "net/tcp: gone"),
        (
            "time_wait_ratio",
            {"sysctls": scalar("tcp_max_tw_buckets", -1)},
            "tcp_max_tw_buckets is -1, which is no limit",
        ),
        (
            "time_wait_ratio",
            {"sysctls": scalar("tcp_max_tw_buckets", 0)},
            "tcp_max_tw_buckets is 0, and no share of that can be told",
        ),
        ("time_wait_ratio", {"sockstat": None, "sources": {"sockstat": "net/sockstat: gone"}}, "net/sockstat: gone"),
        ("orphans_ratio", {"sysctls": {}}, "tcp_max_orphans is not visible from this network namespace"),
        ("orphans_ratio", {"sysctls": {}, "sources": {"sysctl": "sys: refused"}}, "sys: refused"),
        ("memory_ratio", {"sysctls": {}}, "tcp_mem is not visible from this network namespace"),
        ("accept_queue_ratio", {"listeners": None}, "only netlink knows the queues, and it was not read"),
        ("accept_queue_ratio", {"listeners": None, "sources": {"netlink": "netlink: refused"}}, "netlink: refused"),
        ("syn_queue_ratio", {"listeners": (), "unmatched_half_open": 7}, "7 half-open connections match no listener"),
        (
            "syn_queue_ratio",
            {"listeners": (GROUP,)},
            "64 half-open connections to 0.0.0.0:443 may all be in one of its 4 sockets",
        ),
        ("ephemeral_ports_ratio", {"detail": None}, "there is no detail pass, which lists every socket"),
        ("ephemeral_ports_ratio", {"detail": None, "sources": {"detail": "late"}}, "late"),
        ("conntrack_ratio", {"conntrack": None}, "there is no connection tracking here"),
        ("conntrack_ratio", {"conntrack": Conntrack(3, 0)}, "nf_conntrack_max is 0, and no share of that can be told"),
        ("seconds_to_full", {}, "only a daemon that has watched for a while can tell: ask it with --url"),
        ("seconds_to_full", {"to_full": {}}, "less than 20 minutes of the last hour are known"),
    ],
)
def test_the_reason_is_the_measures_own(measure: str, changes: dict[str, Any], reason: str) -> None:
    snapshot = sample_situation("quiet")._replace(**{"sources": {}, **changes})
    if measure != "established":
        snapshot = snapshot._replace(sources={**ELSEWHERE, **snapshot.sources})
    it = BY_NAME[measure]
    assert (it.value_of(it.read(snapshot)), it.unknown(snapshot)) == (None, reason)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_whatever_is_unknown_has_a_reason(situation: str) -> None:
    snapshot = sample_situation(situation)
    unknown = [it for it in MEASURES if it.value_of(it.read(snapshot)) is None]
    assert [it.name for it in unknown if not it.unknown(snapshot)] == []
