"""Sysctl values: as the kernels write them, as newer ones might, and hostile ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import SourceMalformed
from exporter.kernel.catalogue import BOOL, CATALOGUE, INT, VECTOR
from exporter.kernel.sysctl import is_secret, parse, parse_ports
from exporter.snapshot import SysctlValue

RESERVED = "net.ipv4.ip_local_reserved_ports"
SCALARS = sorted(entry.name for entry in CATALOGUE.values() if entry.kind in {BOOL, INT})
VECTORS = sorted(entry.name for entry in CATALOGUE.values() if entry.kind == VECTOR)
NAMES = st.sampled_from(sorted(CATALOGUE)) | st.text(max_size=20)
KERNEL_INTEGERS = st.integers(-(2**63), 2**64 - 1)
PORT_NUMBERS = st.integers(0, 65535)


def test_a_scalar_has_one_field_without_a_name() -> None:
    assert parse("tcp_fin_timeout", "60\n") == SysctlValue("tcp_fin_timeout", (("", 60),), None, "seconds")


def test_a_triple_gets_the_names_of_its_fields() -> None:
    assert parse("tcp_rmem", "4096\t131072\t33554432\n") == SysctlValue(
        "tcp_rmem", (("min", 4096), ("default", 131072), ("max", 33554432)), None, "bytes"
    )


def test_tcp_mem_is_in_pages() -> None:
    assert parse("tcp_mem", "287898\t383867\t575796\n") == SysctlValue(
        "tcp_mem", (("min", 287898), ("pressure", 383867), ("max", 575796)), None, "pages"
    )


def test_a_pair_gets_the_names_of_its_fields() -> None:
    assert parse("net.ipv4.ip_local_port_range", "32768\t60999\n") == SysctlValue(
        "net.ipv4.ip_local_port_range", (("low", 32768), ("high", 60999)), None, "ports"
    )


@pytest.mark.parametrize(
    ("name", "text", "number"),
    [
        ("tcp_notsent_lowat", "4294967295\n", 4294967295),
        ("tcp_max_tw_buckets", "-1\n", -1),
        ("tcp_ehash_entries", "-262144\n", -262144),
        ("tcp_comp_sack_delay_ns", "18446744073709551615\n", 2**64 - 1),
        ("tcp_reordering", "-9223372036854775808\n", -(2**63)),
        ("tcp_retries2", "+15", 15),
    ],
)
def test_integers_may_be_negative_or_as_large_as_64_bits_hold(name: str, text: str, number: int) -> None:
    assert parse(name, text) == SysctlValue(name, (("", number),), None, CATALOGUE[name].unit)


@pytest.mark.parametrize(
    ("text", "words"),
    [("reno bbr cubic\n", "reno bbr cubic"), (" tls \t mptcp\n\n", "tls mptcp"), ("\n", ""), ("", ""), ("7\n", "7")],
)
def test_a_textual_one_has_its_words_one_space_apart(text: str, words: str) -> None:
    assert parse("tcp_available_ulp", text) == SysctlValue("tcp_available_ulp", (), words, "")


@pytest.mark.parametrize(
    ("text", "count"),
    [("\n", 0), ("8080\n", 1), ("40003,40005-40006\n", 3), ("1,2-4,10-10\n", 5), ("0-65535\n", 65536)],
)
def test_reserved_ports_are_counted(text: str, count: int) -> None:
    assert parse(RESERVED, text) == SysctlValue(RESERVED, (("count", count),), None, "ports")


@pytest.mark.parametrize("item", ["9-8", "65536", "65000-65536", "-5", "1-2-3", "http", "1_0", "٣", "0000080", "8 9"])
def test_what_is_no_list_of_ports_is_an_error_that_quotes_it(item: str) -> None:
    with pytest.raises(SourceMalformed) as raised:
        parse(RESERVED, f"1,{item}\n")
    assert str(raised.value) == (
        f"{RESERVED}:1: cannot read {f'1,{item}'!r}: expected a list of ports and ranges such as 40003,40005-40006"
    )


def test_an_unknown_integer_has_no_unit() -> None:
    assert parse("tcp_of_tomorrow", "5\n") == SysctlValue("tcp_of_tomorrow", (("", 5),), None, "")


def test_unknown_integers_are_numbered() -> None:
    numbered = (("0", 5), ("1", 6), ("2", 7))
    assert parse("tcp_of_tomorrow", "5 6\t7\n") == SysctlValue("tcp_of_tomorrow", numbered, None, "")


@pytest.mark.parametrize(("text", "words"), [("on  5\n", "on 5"), ("\n", "")])
def test_what_is_unknown_and_no_integers_is_text(text: str, words: str) -> None:
    assert parse("tcp_of_tomorrow", text) == SysctlValue("tcp_of_tomorrow", (), words, "")


def test_a_vector_that_grew_keeps_its_numbers_and_loses_its_labels() -> None:
    assert parse("tcp_rmem", "1 2 3 4") == SysctlValue("tcp_rmem", (("0", 1), ("1", 2), ("2", 3), ("3", 4)), None, "")


def test_a_scalar_that_became_a_vector_keeps_its_numbers() -> None:
    assert parse("tcp_fin_timeout", "60 90") == SysctlValue("tcp_fin_timeout", (("0", 60), ("1", 90)), None, "")


def test_a_vector_that_became_a_scalar_keeps_its_number() -> None:
    assert parse("tcp_mem", "5") == SysctlValue("tcp_mem", (("", 5),), None, "")


@pytest.mark.parametrize("text", ["auto", "60s", "6_0", "٦٠", "0x3c", "6.0", "-", "1" * 21])
def test_what_is_no_integer_of_the_kernels_stays_as_text(text: str) -> None:
    assert parse("tcp_fin_timeout", text) == SysctlValue("tcp_fin_timeout", (), text, "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tcp_fin_timeout", "tcp_fin_timeout:1: cannot read '\\n': expected a value of kind int"),
        ("tcp_sack", "tcp_sack:1: cannot read '\\n': expected a value of kind bool"),
        ("tcp_mem", "tcp_mem:1: cannot read '\\n': expected a value of kind vector"),
    ],
)
def test_nothing_where_a_number_should_be_is_an_error(name: str, message: str) -> None:
    with pytest.raises(SourceMalformed) as raised:
        parse(name, "\n")
    assert str(raised.value) == message


@pytest.mark.parametrize(
    "name", ["tcp_fastopen_key", "tcp_ao_keys", "net.ipv6.conf.all.stable_secret", "secret", "tcp_secret_seed"]
)
def test_a_key_or_a_secret_is_one_by_its_name_and_its_content_is_never_passed_on(name: str) -> None:
    assert is_secret(name)
    assert parse(name, "5a1e-c0de\n") == parse(name, "1234\n") == parse(name, "") == SysctlValue(name, (), None, "")


@pytest.mark.parametrize("name", ["tcp_fastopen", "tcp_keepalive_time", "tcp_rmem", "tcp_key_rotations"])
def test_what_only_sounds_like_a_key_is_no_secret(name: str) -> None:
    assert not is_secret(name)


@given(NAMES, st.text())
def test_no_text_raises_anything_but_that_it_is_malformed(name: str, text: str) -> None:
    try:
        value = parse(name, text)
    except SourceMalformed:
        assert text.strip() == "" or name == RESERVED
        return
    assert value.name == name
    assert not (value.fields and value.text is not None)
    assert value.fields or value.text is not None or is_secret(name)


@given(st.text(alphabet="0123456789-, \n", max_size=12))
def test_a_list_of_ports_is_ports_or_malformed(text: str) -> None:
    try:
        count = len(parse_ports(RESERVED, text))
    except SourceMalformed:
        return
    assert 0 <= count <= 65536 * (1 + text.count(","))


@given(st.sampled_from(SCALARS), KERNEL_INTEGERS)
def test_an_integer_comes_out_as_it_went_in(name: str, number: int) -> None:
    assert parse(name, f"{number}\n") == SysctlValue(name, (("", number),), None, CATALOGUE[name].unit)


@given(st.sampled_from(VECTORS), st.data())
def test_a_vector_comes_out_as_it_went_in(name: str, data: st.DataObject) -> None:
    labels = CATALOGUE[name].fields
    numbers = data.draw(st.lists(KERNEL_INTEGERS, min_size=len(labels), max_size=len(labels)))
    text = "\t".join(map(str, numbers)) + "\n"
    assert parse(name, text) == SysctlValue(name, tuple(zip(labels, numbers, strict=True)), None, CATALOGUE[name].unit)


@given(st.lists(KERNEL_INTEGERS, min_size=1, max_size=9))
def test_integers_that_nobody_knows_come_out_as_they_went_in(numbers: list[int]) -> None:
    value = parse("tcp_of_tomorrow", "\t".join(map(str, numbers)))
    assert ([number for _, number in value.fields], value.text, value.unit) == (numbers, None, "")


@given(st.sets(PORT_NUMBERS, max_size=9))
def test_ports_written_as_the_kernel_does_are_counted_once_each(ports: set[int]) -> None:
    runs: list[list[int]] = []
    for port in sorted(ports):
        if runs and port == runs[-1][1] + 1:
            runs[-1][1] = port
        else:
            runs.append([port, port])
    text = ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
    assert parse_ports(RESERVED, text + "\n") == ports
