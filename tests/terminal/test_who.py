"""The answer of ``who``: attributed, ranked, folded and written out."""

from __future__ import annotations

import json

from exporter.kernel.memory import Buffers
from exporter.kernel.owners import Process, Survey
from exporter.terminal.who import Holders, Row, attribute, document, held_by_process, holders, joined, render

PROCESSES = [
    Process(812, "nginx", {11, 12}),
    Process(813, "nginx", {12, 13}),
    Process(900, "sh", {13}),
    Process(901, "redis-server", {14}),
]
MANY = holders("established", "port", [Row(str(port), 1000 - port) for port in range(1, 8)])


def test_a_shared_socket_counts_once_for_the_lowest_pid_and_a_sharer_of_that_name_is_one_of_its_processes() -> None:
    sockets = {11: 1, 12: 1, 13: 1, 14: 1}
    assert attribute(sockets, PROCESSES) == [
        Row("nginx", 3, "pid 812, 2 processes"),
        Row("redis-server", 1, "pid 901"),
    ]


def test_a_row_is_a_program_with_what_it_interprets_in_one_unit() -> None:
    processes = [
        Process(7, "python3", {1}, "web.service", "app.py"),
        Process(8, "python3", {2}, "web.service", "app.py"),
        Process(9, "python3", {3}, "", "app.py"),
    ]
    assert attribute({1: 1, 2: 1, 3: 1}, processes) == [
        Row("python3 app.py", 2, "pid 7, 2 processes, web.service", "web.service"),
        Row("python3 app.py", 1, "pid 9"),
    ]


def test_a_long_owner_is_shortened_so_that_its_pid_and_unit_fit_the_line() -> None:
    row = Row("python3 " + "long" * 30, 1, "pid 7, web.service", "web.service")
    line = render(holders("listen", "process", [row]), 10, color=False).splitlines()[2]
    assert (len(line), line.endswith("... (pid 7, web.service)")) == (80, True)


def test_a_script_with_an_escape_sequence_in_its_name_is_shown_harmless() -> None:
    rows = attribute({1: 1}, [Process(7, "python3", {1}, "a\x1b.service", "\x1b[2J.py")])
    assert "\x1b" not in render(holders("listen", "process", rows), 10, color=False)


def test_a_socket_that_the_dump_gave_twice_is_counted_as_the_dump_did() -> None:
    assert attribute({11: 2}, [Process(812, "nginx", {11})]) == [Row("nginx", 2, "pid 812")]


def test_the_answer_has_the_total_first_then_the_owners_then_what_has_none() -> None:
    rows = [Row("redis-server", 54), Row("nginx", 611, "pid 812, 4 processes")]
    answer = holders("established", "process", rows, [Row("no process", 3)], ["Not every process could be read."])
    assert render(answer, 10, color=False) == (
        "established by process:\n"
        "      668  total\n"
        "      611  nginx (pid 812, 4 processes)\n"
        "       54  redis-server\n"
        "        3  no process\n"
        "\n"
        "Not every process could be read.\n"
    )


def test_owners_are_ranked_by_sockets_then_by_name_and_ports_by_number() -> None:
    rows = [Row("b", 1), Row("a", 1), Row("443", 2), Row("80", 2), Row("c", 9)]
    assert [row.label for row in holders("listen", "process", rows).rows] == ["c", "80", "443", "a", "b"]


def test_owners_beyond_the_top_are_summed_in_one_row() -> None:
    assert render(MANY, 2, color=False).splitlines()[1:] == [
        "     6972  total",
        "      999  1",
        "      998  2",
        "     4975  ... and 5 more",
    ]


def test_a_top_of_zero_shows_every_owner() -> None:
    assert len(render(MANY, 0, color=False).splitlines()) == 2 + 7


def test_what_has_no_owner_is_never_folded_away_and_is_absent_at_zero() -> None:
    answer = holders("close_wait", "process", [Row("a", 9), Row("b", 8)], [Row("none", 1), Row("gone", 0)])
    assert render(answer, 1, color=False).splitlines()[1:] == [
        "       18  total",
        "        9  a",
        "        8  ... and 1 more",
        "        1  none",
    ]


def test_nobody_holds_anything_is_an_answer() -> None:
    assert render(holders("closing", "remote", []), 10, color=False) == "closing by remote:\n        0  total\n"


def test_colour_adds_nothing_but_colour() -> None:
    answer = holders("listen", "unit", [Row("a", 1)], [Row("none", 1)])
    colored = render(answer, 10, color=True)
    assert "\x1b[1m        2  total\x1b[0m" in colored
    plain = colored.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert plain == render(answer, 10, color=False)


def test_a_process_cannot_write_to_the_terminal_by_its_name() -> None:
    answer = holders("listen", "process", [Row("a\x1b]0;b\n\udcff", 1)])
    assert render(answer, 10, color=False).endswith("  a\\x1b]0;b\\n\\udcff\n")


def test_the_document_adds_up_and_is_json() -> None:
    answer = holders("listen", "process", [Row("a", 5, "pid 7"), Row("b", 3), Row("c", 1)], [Row("none", 2)], ["Said."])
    assert json.loads(json.dumps(document(answer, 1))) == {
        "state": "listen",
        "by": "process",
        "total": 11,
        "owners": [{"owner": "a", "sockets": 5, "detail": "pid 7", "unit": ""}],
        "more": {"owners": 2, "sockets": 4},
        "unattributed": [{"reason": "none", "sockets": 2}],
        "remarks": ["Said."],
    }


def weighed(**rows: tuple[int, int, int, int]) -> list[Holders]:
    """Sockets, received, to send and reserved of each owner, as they are counted one after another."""
    columns = zip(*rows.values(), strict=True)
    return [
        holders("established", "unit", [Row(name, number) for name, number in zip(rows, column, strict=True)])
        for column in columns
    ]


def test_by_memory_the_owner_that_holds_most_is_first_whatever_it_has_of_sockets() -> None:
    answer = joined(weighed(many=(600, 0, 0, 4096), hog=(2, 1 << 20, 1 << 10, 512), idle=(7, 0, 0, 0)))
    assert render(answer, 1, color=False) == (
        "established by unit:\n"
        "      memory     received      to send     reserved   sockets  owner\n"
        "     1.0 MiB      1.0 MiB      1.0 KiB      4.5 KiB       609  total\n"
        "     1.0 MiB      1.0 MiB      1.0 KiB        512 B         2  hog\n"
        "     4.0 KiB          0 B          0 B      4.0 KiB       607  ... and 2 more\n"
    )
    told = document(answer, 1)
    assert told["memory_bytes"] == (1 << 20) + 1024 + 4608
    assert told["owners"] == [
        {
            "owner": "hog",
            "sockets": 2,
            "detail": "",
            "unit": "",
            "memory_bytes": (1 << 20) + 1536,
            "received_bytes": 1 << 20,
            "to_send_bytes": 1024,
            "reserved_bytes": 512,
        }
    ]


def test_by_memory_what_has_no_owner_has_its_memory_too() -> None:
    parts = [holders("close_wait", "process", [], [Row("none", number)]) for number in (3, 10, 0, 5)]
    assert joined(parts).unattributed == (Row("none", 3, buffers=Buffers(10, 0, 5)),)


def test_processes_that_are_called_alike_keep_their_own_sockets_and_memory() -> None:
    """One calls itself what another's name and script look like; the others run in different units."""
    processes = [
        Process(7, "python3", {1}, "web.service", "app.py"),
        Process(8, "python3", {2}, "user@1000.service/web.service", "app.py"),
        Process(9, "python3 app.py", {3}, "web.service"),
        Process(10, "a\x1b", {4}),
        Process(11, "a\\x1b", {5}),
    ]
    survey = Survey(tuple(processes), 5, 0, hidden=False)
    sizes = [dict.fromkeys(range(1, 6), 1), *({inode: 10**inode for inode in range(1, 6)} for _ in range(3))]
    answer = joined([held_by_process("established", counts, survey) for counts in sizes])
    assert [(row.label, row.detail, row.sockets, row.buffers) for row in answer.rows] == [
        (label, detail, 1, Buffers(size, size, size))
        for label, detail, size in (
            ("a\\x1b", "pid 11", 10**5),
            ("a\\x1b", "pid 10", 10**4),
            ("python3 app.py", "pid 9, web.service", 10**3),
            ("python3 app.py", "pid 8, user@1000.service/web.service", 10**2),
            ("python3 app.py", "pid 7, web.service", 10),
        )
    ]
