"""The catalogue of sysctls: whole, consistent, and in agreement with the kernel that runs the tests."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from exporter.kernel.catalogue import BOOL, CATALOGUE, INT, PORTS, SECRET, TEXT, VECTOR, Sysctl, states_of
from exporter.kernel.sysctl import is_secret, parse
from exporter.tcpstate import KNOWN_STATES, TcpState

PROC = Path("/proc/sys")
ENTRIES = [pytest.param(entry, id=entry.name) for entry in CATALOGUE.values()]
UNITS = {
    "bytes", "pages", "seconds", "milliseconds", "microseconds", "nanoseconds", "packets",
    "sockets", "connections", "requests", "segments", "buckets", "probes", "retries", "rounds", "percent", "ports",
}  # fmt: skip
UNIT_OF_SUFFIX = {"sec": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "bytes": "bytes"}


def release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def live(name: str) -> Path:
    return PROC / (name.replace(".", "/") if "." in name else f"net/ipv4/{name}")


def live_names() -> list[str]:
    return sorted(path.name for path in (PROC / "net/ipv4").glob("tcp_*"))


def test_every_sysctl_that_bears_on_a_state_is_in_the_catalogue() -> None:
    assert {name for state in TcpState for name in state.sysctls} - set(CATALOGUE) == set()


def test_every_sysctl_beside_tcp_bears_on_a_state() -> None:
    assert [name for name in CATALOGUE if not name.startswith("tcp_") and not states_of(name)] == []


def test_names_are_sorted_and_there_once() -> None:
    source = Path(sys.modules[Sysctl.__module__].__file__ or "").read_text(encoding="utf-8")
    written = re.findall(r'^ +Sysctl\(\s*"([^"]+)"', source, re.MULTILINE)
    assert written == sorted(set(written)) == list(CATALOGUE)


def test_what_is_in_the_catalogue_is_counted_here() -> None:
    current = [entry for entry in CATALOGUE.values() if entry.name.startswith("tcp_") and not entry.until]
    vendors = [entry.name for entry in current if entry.vendor]
    assert vendors == ["tcp_tw_timeout"]
    assert (len(current) - len(vendors), len(CATALOGUE)) == (92, 92 + len(vendors) + 9 + 4)


def test_what_mainline_dropped_says_which_release_had_it_last() -> None:
    assert {entry.name: entry.until for entry in CATALOGUE.values() if entry.until} == {
        "tcp_abc": "3.8",
        "tcp_cookie_size": "3.9",
        "tcp_dma_copybreak": "3.17",
        "tcp_frto_response": "3.9",
        "tcp_max_ssthresh": "3.12",
        "tcp_rx_skb_cache": "5.15",
        "tcp_thin_dupack": "4.10",
        "tcp_tw_recycle": "4.11",
        "tcp_tx_skb_cache": "5.15",
    }


def test_what_is_the_hosts_is_in_the_initial_network_namespace_only() -> None:
    assert [entry.name for entry in CATALOGUE.values() if entry.init_only] == [
        "net.core.netdev_max_backlog",
        "tcp_available_ulp",
        "tcp_low_latency",
        "tcp_max_orphans",
        "tcp_mem",
        "tcp_rx_skb_cache",
        "tcp_tx_skb_cache",
    ]


def test_states_are_those_that_name_the_sysctl() -> None:
    assert states_of("tcp_retries2") == (TcpState.ESTABLISHED, TcpState.FIN_WAIT1)
    assert states_of("tcp_sack") == ()
    assert states_of("tcp_of_tomorrow") == ()
    assert {state: [name for name in CATALOGUE if state in states_of(name)] for state in KNOWN_STATES} == {
        state: sorted(state.sysctls) for state in KNOWN_STATES
    }


@pytest.mark.parametrize("entry", ENTRIES)
def test_kind_fields_and_unit_agree(entry: Sysctl) -> None:
    assert entry.kind in {BOOL, INT, VECTOR, TEXT, PORTS, SECRET}
    assert bool(entry.fields) == (entry.kind in {VECTOR, PORTS})
    assert len(set(entry.fields)) == len(entry.fields)
    assert entry.unit in UNITS if entry.kind in {VECTOR, PORTS} else entry.unit in UNITS | {""}
    assert not (entry.unit and entry.kind in {BOOL, TEXT, SECRET})


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_unit_at_the_end_of_the_name_is_the_unit(entry: Sysctl) -> None:
    suffix = entry.name.rpartition("_")[2]
    assert entry.unit == UNIT_OF_SUFFIX.get(suffix, entry.unit)


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_meaning_is_one_line_without_a_full_stop(entry: Sysctl) -> None:
    assert entry.meaning == " ".join(entry.meaning.split())
    assert 10 < len(entry.meaning) < 120
    assert entry.meaning[-1] not in ".,;:"
    assert ". " not in entry.meaning


def test_no_two_meanings_are_the_same() -> None:
    meanings = [entry.meaning for entry in CATALOGUE.values()]
    assert len(set(meanings)) == len(meanings)


@pytest.mark.parametrize("entry", ENTRIES)
def test_releases_are_in_order(entry: Sysctl) -> None:
    if entry.since:
        assert release("2.2") <= release(entry.since)
    if entry.until:
        assert release(entry.since) <= release(entry.until)


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_default_is_short_and_that_of_a_switch_is_a_bit(entry: Sysctl) -> None:
    assert len(entry.default) <= 50
    if entry.kind == BOOL:
        assert entry.default in {"0", "1"}
    if entry.kind == VECTOR and entry.default[0].isdigit():
        assert len(re.findall(r"\d+", entry.default.partition("(")[0])) == len(entry.fields)


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_secret_is_known_by_its_name(entry: Sysctl) -> None:
    assert is_secret(entry.name) == (entry.kind == SECRET)


@pytest.mark.skipif(not (PROC / "net/ipv4").is_dir(), reason="needs Linux's /proc/sys")
class TestTheRunningKernel:
    def test_has_no_tcp_sysctl_that_the_catalogue_lacks(self) -> None:
        assert [name for name in live_names() if name not in CATALOGUE] == []

    def test_has_none_that_the_catalogue_says_mainline_dropped_before_it(self) -> None:
        running = release(".".join(re.findall(r"\d+", (PROC / "kernel/osrelease").read_text(encoding="ascii"))[:2]))
        dropped = [entry for entry in CATALOGUE.values() if entry.until and release(entry.until) < running]
        assert [entry.name for entry in dropped if live(entry.name).exists()] == []

    @pytest.mark.parametrize("entry", ENTRIES)
    def test_shapes_a_sysctl_as_the_catalogue_does(self, entry: Sysctl) -> None:
        path = live(entry.name)
        if is_secret(entry.name) or not path.exists():
            return  # no skip: which ones a kernel has is its own affair
        value = parse(entry.name, path.read_text(encoding="utf-8"))
        labels = () if entry.kind == TEXT else entry.fields or ("",)
        assert (tuple(label for label, _ in value.fields), value.text is not None, value.unit) == (
            labels,
            entry.kind == TEXT,
            entry.unit,
        )
