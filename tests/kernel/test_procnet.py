"""The text files of /proc/net: whole, cut and hostile."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import SourceError, SourceMalformed
from exporter.kernel.procnet import parse_snmp, parse_sockstat, parse_sockstat6, parse_tcp, state_counts
from exporter.snapshot import Sockstat
from exporter.tcpstate import TcpState

TITLES = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode   \n"
LISTEN = (
    "   0: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1582 1 0000 100 0\n"
)
TIMEWAIT = "   1: 020200C0:DECE 507100CB:01BB 06 00000000:00000000 03:000004C1 00000000     0        0 0 3 0000\n"


def test_sockets_are_counted_by_the_state_column() -> None:
    assert parse_tcp([TITLES, LISTEN, TIMEWAIT, TIMEWAIT], "net/tcp") == Counter({"06": 2, "0A": 1})


def test_a_table_without_sockets_has_none() -> None:
    assert parse_tcp([TITLES], "net/tcp") == Counter()


def test_more_columns_than_today_are_no_error() -> None:
    assert parse_tcp([TITLES, LISTEN.rstrip() + " new 1 2\n"], "net/tcp") == Counter({"0A": 1})


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([], "net/tcp:1: cannot read '': expected the column titles of /proc/net/tcp"),
        (["junk\n"], "net/tcp:1: cannot read 'junk': expected the column titles of /proc/net/tcp"),
        (
            [TITLES, LISTEN, TIMEWAIT[:60]],
            f"net/tcp:3: cannot read {TIMEWAIT[:60]!r}: expected a socket with state and inode",
        ),
        ([TITLES, "\n"], "net/tcp:2: cannot read '': expected a socket with state and inode"),
    ],
)
def test_a_line_that_cannot_be_read_is_an_error_with_file_number_and_text(lines: list[str], text: str) -> None:
    with pytest.raises(SourceMalformed) as raised:
        parse_tcp(lines, "net/tcp")
    assert str(raised.value) == text


def test_a_state_without_a_name_is_counted_as_unknown() -> None:
    counts, unknown = state_counts({"01": 5, "0E": 2})
    assert (counts[TcpState.ESTABLISHED], counts[TcpState.UNKNOWN], unknown) == (5, 2, ("0E",))


@pytest.mark.parametrize("state", ["zz", "+1", "-1", "1", "001", "\u0661\u0661"])
def test_a_state_that_is_no_number_is_an_error(state: str) -> None:
    with pytest.raises(SourceMalformed, match="expected a socket with state and inode"):
        parse_tcp([TITLES, LISTEN.replace(" 0A ", f" {state} ")], "net/tcp")


def test_a_line_without_its_end_is_an_error_wherever_it_is_cut() -> None:
    for cut in range(1, len(LISTEN)):
        with pytest.raises(SourceMalformed):
            parse_tcp([TITLES, LISTEN, LISTEN[:cut]], "net/tcp")


def test_counters_are_matched_by_name() -> None:
    text = "Ip: A\nIp: 1\nTcp: MaxConn CurrEstab\nTcp: -1 7\nUdp: B\nUdp: 2\n"
    assert parse_snmp(text, "net/snmp", "Tcp") == {"Tcp.MaxConn": -1, "Tcp.CurrEstab": 7}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "net/snmp:1: cannot read '': expected one line of names and one of values that start with Tcp:"),
        (
            "Tcp:A B\nTcp:1 2\n",
            "net/snmp:1: cannot read '': expected one line of names and one of values that start with Tcp:",
        ),
        ("Tcp: A B\nTcp: 1\n", "net/snmp:2: cannot read 'Tcp: 1': expected 2 values, found 1"),
        ("Tcp: A\nTcp: 1_0\n", "net/snmp:2: cannot read 'Tcp: 1_0': expected integers"),
        (
            "Tcp: A\n",
            "net/snmp:1: cannot read 'Tcp: A': expected one line of names and one of values that start with Tcp:",
        ),
    ],
)
def test_a_broken_counter_table_is_an_error(text: str, message: str) -> None:
    with pytest.raises(SourceMalformed) as raised:
        parse_snmp(text, "net/snmp", "Tcp")
    assert str(raised.value) == message


def test_sockstat_fields_are_matched_by_name() -> None:
    text = "sockets: used 9\nTCP: mem 5 inuse 1 orphan 2 tw 3 alloc 4 new 6\n"
    assert parse_sockstat(text, "net/sockstat") == Sockstat(inuse=1, orphan=2, tw=3, alloc=4, mem=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sockets: used 9\n",
            "net/sockstat:1: cannot read 'sockets: used 9\\n': expected a line that starts with TCP:",
        ),
        (
            "TCP: inuse 1 orphan 0 tw\n",
            "net/sockstat:1: cannot read 'TCP: inuse 1 orphan 0 tw': expected pairs of a name and a count",
        ),
        (
            "TCP: inuse 1 orphan 0 alloc 1 mem 1\n",
            "net/sockstat:1: cannot read 'TCP: inuse 1 orphan 0 alloc 1 mem 1': expected the field 'tw'",
        ),
        ("TCP: inuse -1\n", "net/sockstat:1: cannot read 'TCP: inuse -1': expected pairs of a name and a count"),
        (
            f"TCP: mem {'9' * 21}\n",
            f"net/sockstat:1: cannot read 'TCP: mem {'9' * 21}': expected pairs of a name and a count",
        ),
    ],
)
def test_a_broken_sockstat_is_an_error(text: str, message: str) -> None:
    with pytest.raises(SourceMalformed) as raised:
        parse_sockstat(text, "net/sockstat")
    assert str(raised.value) == message


def test_sockstat6_gives_the_full_ipv6_sockets() -> None:
    assert parse_sockstat6("TCP6: inuse 12\nUDP6: inuse 1\n", "net/sockstat6") == 12


@given(st.integers(0, 30), st.data())
def test_a_table_cut_anywhere_is_an_error_or_whole_lines(number: int, data: st.DataObject) -> None:
    text = TITLES + (LISTEN + TIMEWAIT) * number
    cut = data.draw(st.integers(len(TITLES), len(text)))
    kept = text[:cut]
    try:
        counted = sum(parse_tcp(kept.splitlines(keepends=True), "net/tcp").values())
    except SourceMalformed:
        return
    assert counted == len(kept.splitlines()) - 1


@given(st.text(max_size=300))
def test_no_text_raises_anything_but_a_source_error(text: str) -> None:
    for parse in (
        lambda: parse_tcp(text.splitlines(keepends=True), "file"),
        lambda: parse_tcp([TITLES, text], "file"),
        lambda: parse_snmp("Tcp: " + text, "file", "Tcp"),
        lambda: parse_sockstat("TCP: " + text, "file"),
    ):
        try:
            parse()
        except SourceError as error:
            assert str(error).startswith("file:")
