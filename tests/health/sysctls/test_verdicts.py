"""The profile as data, and a host's sysctls held against it and against what is expected of them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.health.sysctls.profile import PROFILE
from exporter.health.sysctls.verdicts import Verdict, deviations, nearest, sysctl_conf, verdicts
from exporter.health.thresholds import Range
from exporter.kernel.catalogue import CATALOGUE, VECTOR
from exporter.kernel.sysctl import parse
from exporter.snapshot import SysctlValue
from tests.conftest import sample_situation

RELEASE = "6.18.44"


def host(**texts: str) -> dict[str, SysctlValue]:
    """Sysctls from the texts of their files; ``__`` in a name is a point."""
    named = {name.replace("__", "."): text for name, text in texts.items()}
    return {name: parse(name, text + "\n") for name, text in named.items()}


def deviating(sysctls: Mapping[str, SysctlValue], expected: Mapping[str, Range | str] | None = None) -> list[Verdict]:
    return list(deviations(verdicts(sysctls, expected or {}, RELEASE)))


def test_every_entry_is_of_a_known_sysctl_and_its_field_and_has_a_source() -> None:
    for entry in PROFILE:
        known = CATALOGUE[entry.sysctl]
        assert entry.field in (known.fields if known.kind == VECTOR else ("",))
        assert entry.source
        assert entry.reason
        assert entry.risks
        assert entry.low is None or entry.high is None or entry.low <= entry.high


def test_sentences_of_the_profile_end() -> None:
    texts = [text for entry in PROFILE for text in (entry.reason, entry.risks, entry.elsewhere) if text]
    assert [text for text in texts if not text.endswith(".")] == []


@pytest.mark.parametrize("situation", ["quiet", "child-namespace", "busy"])
def test_a_host_with_the_kernels_defaults_deviates_in_nothing(situation: str) -> None:
    assert deviating(sample_situation(situation).sysctls) == []


def test_the_defaults_of_the_catalogue_deviate_in_nothing() -> None:
    """The first word of each default is that of current kernels."""
    texts = {
        entry.sysctl: CATALOGUE[entry.sysctl].default.split("(")[0].split(",")[0].strip()
        for entry in PROFILE
        if re.match(r"[0-9]", CATALOGUE[entry.sysctl].default)
    }
    assert deviating({name: parse(name, text) for name, text in texts.items()}) == []


def test_a_deviation_says_the_nearest_right_value_and_what_both_come_to() -> None:
    (verdict,) = deviating(host(tcp_syn_retries="1"))
    assert (verdict.title, verdict.live, verdict.accepted, verdict.recommended, verdict.expected) == (
        "tcp_syn_retries", 1, "2 to 8", 2, False,
    )  # fmt: skip
    assert (
        verdict.arithmetic == "1: connect() gives up after 3 s and 2 SYNs; 2: connect() gives up after 7 s and 3 SYNs"
    )
    assert [state.label for state in verdict.states] == ["syn_sent"]


def test_a_limit_from_the_size_of_the_hash_table_is_told_only_where_the_host_tells_it() -> None:
    (verdict,) = deviating(host(tcp_max_tw_buckets="5000", tcp_ehash_entries="-262144"))
    assert (verdict.accepted, verdict.recommended) == ("at least 131072", 131072)
    (verdict,) = deviating(host(tcp_max_tw_buckets="0"))
    assert (verdict.accepted, verdict.recommended) == ("at least 1", 1)


def test_without_the_size_of_the_hash_table_the_limit_of_orphans_stands_in() -> None:
    (verdict,) = deviating(host(tcp_max_tw_buckets="5000", tcp_max_orphans="131072"))
    assert (verdict.name, verdict.accepted, verdict.recommended) == ("tcp_max_tw_buckets", "at least 131072", 131072)
    assert deviating(host(tcp_max_tw_buckets="65536", tcp_max_orphans="262144")) == []  # the kernel's own, it seems


def test_a_limit_that_could_not_be_judged_says_so() -> None:
    (verdict,) = verdicts(host(tcp_max_tw_buckets="5000"), {}, RELEASE)
    assert (verdict.deviates, verdict.accepted) == (False, "")
    assert verdict.arithmetic.endswith(
        "whether that is enough could not be judged, because neither tcp_ehash_entries nor tcp_max_orphans is visible "
        "here"
    )


def test_a_limit_of_time_wait_below_0_is_none() -> None:
    (verdict,) = verdicts(host(tcp_max_tw_buckets="-1", tcp_ehash_entries="262144"), {}, RELEASE)
    assert (verdict.deviates, verdict.arithmetic) == (False, "-1: there is no limit")


@pytest.mark.parametrize(
    ("sysctl", "value", "vendors"),
    [
        ("net__ipv4__ip_local_port_range", "21214 29999", ("SUSE", "SAP")),
        ("net__ipv4__ip_local_port_range", "9000 65499", ("SUSE", "SAP")),
        ("net__ipv4__ip_local_port_range", "40000 60999", ("SUSE", "SAP")),
        ("tcp_retries2", "5", ("Elasticsearch", "SAP")),
        ("tcp_syn_retries", "8", ("SAP",)),
    ],
)
def test_what_a_vendor_demands_is_explained_and_does_not_deviate(
    sysctl: str, value: str, vendors: tuple[str, ...]
) -> None:
    found = verdicts(host(**{sysctl: value}), {}, RELEASE)
    assert deviations(found) == ()
    assert sysctl_conf(found) == ""
    assert all(vendor in found[0].elsewhere for vendor in vendors)


@pytest.mark.parametrize(
    ("sysctl", "value", "risk"),
    [
        ("tcp_retries2", "2", "A higher value lets an application wait for longer"),
        ("tcp_retries2", "16", "A lower value ends connections over outages"),
        ("tcp_synack_retries", "1", "A higher value keeps what never answers"),
        ("tcp_fin_timeout", "1", "A higher value, up to 60, keeps FIN-WAIT-2"),
        ("tcp_keepalive_time", "9000", "A shorter time is traffic"),
    ],
)
def test_the_risk_is_that_of_the_direction_in_which_the_value_moves(sysctl: str, value: str, risk: str) -> None:
    (verdict,) = deviating(host(**{sysctl: value}))
    assert verdict.risk.startswith(risk)


def test_a_wider_range_that_is_expected_comes_with_the_reservation() -> None:
    sysctls = host(net__ipv4__ip_local_port_range="32768 60999")
    found = verdicts(sysctls, {"net.ipv4.ip_local_port_range": "1024 60999"}, RELEASE)
    empty = sysctl_conf(found, [22, 3306, 8080, 40000], reserved="").splitlines()
    assert empty[-3:] == [
        "net.ipv4.ip_local_reserved_ports = 3306,8080",
        "# On a Kubernetes node reserve the NodePorts too, 30000-32767.",
        "net.ipv4.ip_local_port_range = 1024 60999",
    ]
    some = sysctl_conf(found, [22, 3306, 8080, 40000], reserved="1433,8079-8081").splitlines()
    assert some[-3] == "net.ipv4.ip_local_reserved_ports = 1433,3306,8079-8081"
    unknown = sysctl_conf(found, [22, 3306, 8080, 40000]).splitlines()
    assert unknown[-3] == (
        "# Add these ports of services to net.ipv4.ip_local_reserved_ports, which replaces its list as a whole: "
        "3306,8080"
    )


@pytest.mark.parametrize(
    ("release", "live", "deviates"),
    [("6.18.44", 128, True), ("5.4.0", 4096, False), ("4.19.78", 128, False), ("4.19.78", 64, True), ("", 1, False)],
)
def test_what_depends_on_the_kernel_is_not_judged_where_that_is_not_known(
    release: str, live: int, *, deviates: bool
) -> None:
    found = deviations(verdicts(host(net__core__somaxconn=str(live)), {}, release))
    assert bool(found) is deviates


def test_a_file_that_exists_is_judged_whatever_the_kernels_release() -> None:
    (verdict,) = deviating(host(tcp_tw_recycle="1"))
    assert (verdict.recommended, "4.12" in verdict.elsewhere) == (0, True)


def test_a_value_that_is_no_number_has_no_verdict_of_the_profile() -> None:
    assert verdicts(host(tcp_fin_timeout="soon"), {}, RELEASE) == ()


def test_an_expectation_replaces_the_profile_and_comes_first() -> None:
    sysctls = host(tcp_syncookies="0", tcp_retries2="5", tcp_sack="0", tcp_congestion_control="cubic")
    expected: dict[str, Range | str] = {
        "tcp_retries2": Range.parse("3:6"), "tcp_syncookies": "0", "tcp_congestion_control": "bbr",
    }  # fmt: skip
    found = deviating(sysctls, expected)
    assert [(it.name, it.live, it.recommended, it.expected) for it in found] == [
        ("tcp_congestion_control", "cubic", "bbr", True),
        ("tcp_sack", 0, 1, False),
    ]


def test_an_expectation_against_the_profile_hears_what_that_recommends_and_why() -> None:
    sysctls = host(tcp_sack="1", tcp_retries2="15")
    against, within = verdicts(sysctls, {"tcp_sack": "0", "tcp_retries2": "8"}, RELEASE)[::-1]
    assert (against.name, against.risk, against.elsewhere) == (
        "tcp_sack",
        "The built-in recommendation is 1. Without selective acknowledgement one lost segment in a window costs a "
        "round trip each.",
        "",
    )
    assert within.risk == "A lower value ends connections over outages that they would survive."


@pytest.mark.parametrize(
    ("release", "told"),
    [
        ("6.18.44", "The built-in recommendation is at least 4096"),
        ("4.19.78", "The built-in recommendation is at least 128"),
        ("", ""),
    ],
)
def test_an_expectation_is_held_against_the_profile_of_its_kernel(release: str, told: str) -> None:
    (verdict,) = verdicts(host(net__core__somaxconn="4096"), {"net.core.somaxconn": "64"}, release)
    assert verdict.risk.split(".")[0] == told


def test_an_expected_vector_is_judged_by_number_and_set_whole() -> None:
    sysctls = host(tcp_rmem="4096 131072 33554432")
    found = verdicts(sysctls, {"tcp_rmem": "4096 131072 6291456"}, RELEASE)
    assert [(it.field, it.deviates) for it in found] == [("min", False), ("default", False), ("max", True)]
    assert sysctl_conf(found).splitlines()[-1] == "net.ipv4.tcp_rmem = 4096 131072 6291456"


def test_what_does_not_exist_here_is_not_judged() -> None:
    assert verdicts({}, {"tcp_fin_timeout": "30"}, RELEASE) == ()


def test_what_cannot_be_set_is_a_comment() -> None:
    found = verdicts(host(tcp_available_congestion_control="reno"), {"tcp_available_congestion_control": "bbr"}, "")
    assert [line[:1] for line in sysctl_conf(found).splitlines()] == ["#", "#"]


def test_the_fragment_of_a_host_that_is_right_is_empty() -> None:
    assert sysctl_conf(verdicts(sample_situation("quiet").sysctls, {}, RELEASE)) == ""


@given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(-2000, 2000), st.booleans())
def test_the_nearest_right_value_is_right_and_none_is_nearer(one: int, other: int, value: int, inside: bool) -> None:
    low, high = sorted((one, other))
    limits = Range.parse(f"{'@' if inside else ''}{low}:{high}")
    near = nearest(limits, value)
    assert near is not None
    assert not limits.alerts(near)
    between = range(min(value, near) + 1, max(value, near))
    assert all(limits.alerts(number) for number in (value, *between) if number != near)


NUMBERS = st.integers(-(2**63), 2**63 - 1)


@given(st.fixed_dictionaries({}, optional={entry.sysctl: NUMBERS for entry in PROFILE if not entry.field}))
def test_what_is_recommended_is_accepted_and_the_fragment_says_it(numbers: dict[str, int]) -> None:
    numbers.pop("tcp_ehash_entries", None)
    sysctls = {name: parse(name, str(number)) for name, number in numbers.items()}
    found = verdicts(sysctls, {}, RELEASE)
    fragment = dict(line.split(" = ") for line in sysctl_conf(found).splitlines() if line and line[0] != "#")
    assert fragment == {it.key: str(it.recommended) for it in found if it.deviates}
    mended = sysctls | {it.name: parse(it.name, str(it.recommended)) for it in found}
    assert deviations(verdicts(mended, {}, RELEASE)) == ()
