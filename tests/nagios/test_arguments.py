"""The plugin's command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import UsageError
from exporter.health.measures import BY_NAME
from exporter.health.thresholds import DEFAULTS, DRIFT, Range, Status, Threshold
from exporter.nagios.arguments import SYSCTL, Options, help_text, judged, parse

R = Range.parse
KNOWN = ", ".join((*BY_NAME, "sysctl", "findings", "all"))
NO_RANGE = "takes no range: a finding carries its own severity"


def thresholds(*arguments: str) -> dict[str, Threshold]:
    return judged(parse(arguments), DEFAULTS)


def test_without_options_established_is_judged_by_600_and_800() -> None:
    assert parse([]) == Options()
    assert thresholds() == {"established": Threshold(R("600"), R("800"))}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-w", "10", "-c", "20"], {"established": Threshold(R("10"), R("20"))}),
        (["-w10", "-c20"], {"established": Threshold(R("10"), R("20"))}),
        (["--warning=10", "--critical", "20"], {"established": Threshold(R("10"), R("20"))}),
        (["-w", "-5:10"], {"established": Threshold(R("-5:10"), None)}),
        (["-c", "~:10"], {"established": Threshold(None, R("~:10"))}),
        (
            ["-c", "5", "-s", "close_wait", "-s", "total"],
            {"close_wait": Threshold(None, R("5")), "total": Threshold(None, R("5"))},
        ),
        (
            ["-s", "close_wait,total", "-c", "5"],
            {"close_wait": Threshold(None, R("5")), "total": Threshold(None, R("5"))},
        ),
        (
            ["-w", "established=600,syn_recv=~:100", "-c", "established=800"],
            {"established": Threshold(R("600"), R("800")), "syn_recv": Threshold(R("~:100"), None)},
        ),
        (
            ["-s", "time_wait", "-w", "close_wait=50"],
            {"time_wait": Threshold(), "close_wait": Threshold(R("50"), None)},
        ),
        (["-w", "1", "-w", "2"], {"established": Threshold(R("2"), None)}),
        (["-w", "1", "-w", "listen=2:"], {"established": Threshold(R("1"), None), "listen": Threshold(R("2:"), None)}),
        (["-s", "established"], {"established": Threshold(R("600"), R("800"))}),
        (["-s", "close_wait"], {"close_wait": Threshold()}),
        (["-w", "", "-c", ""], {"established": Threshold(R("600"), R("800"))}),
        (["-w", "", "-c", "5"], {"established": Threshold(None, R("5"))}),
        (["-w", "memory_ratio=0.8"], {"memory_ratio": Threshold(R("0.8"), None)}),
        (["-s", "findings"], {}),
        (["-s", "findings", "-w", ""], {}),
        (["-s", "findings", "-w", "close_wait=5"], {"close_wait": Threshold(R("5"), None)}),
        (["-s", "findings", "-s", "listen", "-w", "2:9", "-c", "1:"], {"listen": Threshold(R("2:9"), R("1:"))}),
        (["-s", "all"], {"established": Threshold(R("600"), R("800"))}),
        (["-s", "all,time_wait"], {"time_wait": Threshold(), "established": Threshold(R("600"), R("800"))}),
        (["-s", "all", "-c", "close_wait=5"], {"close_wait": Threshold(None, R("5"))}),
    ],
)
def test_options_beat_the_defaults_and_s_alone_narrows_them(
    arguments: list[str], expected: dict[str, Threshold]
) -> None:
    assert thresholds(*arguments) == expected


def test_a_files_thresholds_are_all_judged_unless_s_narrows_them() -> None:
    file = {"established": Threshold(R("5"), None), "close_wait": Threshold(None, R("9"))}
    assert judged(parse([]), file) == file
    assert judged(parse(["-s", "close_wait"]), file) == {"close_wait": file["close_wait"]}
    assert judged(parse(["-c", "7"]), file) == {"established": Threshold(None, R("7"))}
    assert judged(parse([]), {}) == {"established": Threshold()}


def test_all_is_everything_that_has_a_threshold_and_sysctl_where_something_is_expected() -> None:
    file = {"close_wait": Threshold(None, R("9")), "total": Threshold(R("5"), None)}
    assert judged(parse(["-s", "all"]), file) == file
    assert judged(parse(["-s", "all"]), file, drift=True) == {**file, SYSCTL: DRIFT}
    assert judged(parse(["-s", "findings"]), file, drift=True) == {}
    assert judged(parse([]), file, drift=True) == file


@pytest.mark.parametrize(
    ("arguments", "findings", "everything", "measures"),
    [
        (["-s", "findings"], True, False, ()),
        (["-s", "all"], True, True, ()),
        (["-s", "total", "-s", "findings"], True, False, ("total",)),
        (["-s", "findings,all,total"], True, True, ("total",)),
        ([], False, False, ()),
    ],
)
def test_the_findings_are_asked_for_by_name_or_with_all(
    arguments: list[str], findings: bool, everything: bool, measures: tuple[str, ...]
) -> None:
    assert parse(arguments) == Options(findings=findings, everything=everything, measures=measures)


@pytest.mark.parametrize("spelling", ["close_wait", "CLOSE-WAIT", "CLOSE_WAIT", "Close-Wait", " close-wait"])
def test_a_state_is_taken_in_any_spelling_that_is_printed(spelling: str) -> None:
    assert parse(["-s", spelling]) == Options(measures=("close_wait",))
    assert parse(["-w", f"{spelling}=5"]) == Options(thresholds={"close_wait": Threshold(R("5"), None)})


def test_a_state_of_rfc_9293_is_taken_by_its_name_there() -> None:
    assert parse(["-s", "CLOSED,FIN-WAIT-1,SYN-RECEIVED"]) == Options(measures=("close", "fin_wait1", "syn_recv"))


@pytest.mark.parametrize("option", ["--config", "--config.file"])
def test_the_configuration_file_has_the_daemons_option_too(option: str) -> None:
    assert parse([option, "a.yml"]) == parse([f"{option}=a.yml"]) == Options(config="a.yml")


@pytest.mark.parametrize(
    ("text", "seconds", "status"),
    [
        ("10", 10, Status.UNKNOWN),
        ("0.5", 0.5, Status.UNKNOWN),
        ("10:critical", 10, Status.CRITICAL),
        ("10:WARNING", 10, Status.WARNING),
        ("10:0", 10, Status.OK),
        ("10:3", 10, Status.UNKNOWN),
    ],
)
def test_a_timeout_may_name_its_state(text: str, seconds: float, status: Status) -> None:
    assert parse(["-t", text]) == Options(timeout=seconds, timeout_status=status)


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "10:", "10:warningfewgw", "10:00", "10:10", "1e3", "999999"])
def test_a_wrong_timeout_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^-t: expected "):
        parse(["-t", text])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--critcal", "100"], "option --critcal not recognized; see --help"),
        (["-x"], "option -x not recognized; see --help"),
        (["-w"], "option -w requires argument; see --help"),
        (["100"], "unexpected argument '100': everything is an option; see --help"),
        (
            ["-w", "abc"],
            "-w: 'abc' is not a range: expected [@][start:][end], such as 10, 10:, ~:10 or @5:8",
        ),
        (["--critical", "2:1"], "--critical: '2:1' is not a range: its start 2 is above its end 1"),
        (["-w", "nosuch=5"], f"-w: unknown measure 'nosuch': expected one of {KNOWN}"),
        (["-s", "ESTAB"], "-s: unknown measure 'ESTAB'; did you mean established?"),
        (["-w", "established=5,7"], "-w: expected measure=range, got '7'"),
        (["-s", "findings", "-w", "5"], f"-w: findings {NO_RANGE}"),
        (["-c", "5", "-s", "findings"], f"-c: findings {NO_RANGE}"),
        (["-w", "findings=5"], f"-w: findings {NO_RANGE}"),
        (["--critical", "total=5,all=5"], f"--critical: all {NO_RANGE}"),
        (["-s", "all", "-w", "5"], "-w: with -s all expected measure=range: no range is right for every measure"),
        (["-s", "findings", "-p", "80"], "--port: not with -s findings, which are those of the whole host; see --help"),
        (["-s", "all", "-p", "80"], "--port: not with -s findings, which are those of the whole host; see --help"),
        (
            ["-w", "800", "-c", "600"],
            "-w: established: '800' can never be seen: critical '600' alerts on all its values; "
            "expected a warning that alerts earlier",
        ),
        (
            ["-w", "total=9,listen=1:", "-c", "listen=2:"],
            "-w: listen: '1:' can never be seen: critical '2:' alerts on all its values; "
            "expected a warning that alerts earlier",
        ),
        (["--reader", "ss"], "--reader: expected one of auto, netlink, procfs, psutil, got 'ss'"),
        (["-p", "9" * 5000], f"-p: expected a port from 1 to 65535, got '{'9' * 5000}'"),
        (["--peak"], "--peak: only with --url; see --help"),
        (["--ca-file", "x"], "--ca-file: only with --url; see --help"),
        (["--credentials-file", ""], "--credentials-file: only with --url; see --help"),
        (["--url", "http://h", "--reader", "procfs"], "--reader: not with --url; see --help"),
        (["--url", "http://h", "--path.procfs", "/p"], "--path.procfs: not with --url; see --help"),
        (
            ["--url", "http://me:secret@h:19293"],
            "--url: expected no user and password in the URL: --credentials-file takes them",
        ),
        (
            ["--url", "me:secret@h"],
            "--url: expected no user and password in the URL: --credentials-file takes them",
        ),
    ],
)
def test_a_wrong_command_line_is_refused_with_what_was_expected(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(arguments)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:19293", "http://127.0.0.1:19293/api/v1/snapshot"),
        ("https://[::1]:19293/", "https://[::1]:19293/api/v1/snapshot"),
        ("HTTP://web-1.example.org/tcp", "HTTP://web-1.example.org/tcp/api/v1/snapshot"),
        ("http://h:1/api/v1/snapshot", "http://h:1/api/v1/snapshot"),
        ("http://h:1/api/v1/snapshot/", "http://h:1/api/v1/snapshot"),
    ],
)
def test_the_url_is_the_daemons_base_or_the_snapshots_own(text: str, url: str) -> None:
    assert parse(["--url", text, "--peak", "--ca-file", "ca", "--credentials-file", "secret"]) == Options(
        url=url, peak=True, ca_file="ca", credentials_file="secret"
    )


def test_a_client_certificate_is_for_a_url() -> None:
    given = ["--cert-file", "cert", "--key-file=key"]
    url = "https://h/api/v1/snapshot"
    assert parse(["--url", "https://h", *given]) == Options(url=url, cert_file="cert", key_file="key")
    for option in ("--cert-file", "--key-file"):
        with pytest.raises(UsageError, match=f"^{option}: only with --url; see --help$"):
            parse([option, "file"])


@pytest.mark.parametrize(
    "text",
    ["", "127.0.0.1:19293", "ftp://h", "file:///etc/passwd", "http://", "http:///x", "http://:1", "http://h:x", "http://h?q",
     "http://h/#f", "http://h/ x", "http://h/\n", "http://h/é", "http://[::1"],
)  # fmt: skip
def test_what_is_no_url_of_a_daemon_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(["--url", text])
    assert str(raised.value) == f"--url: expected a daemon's URL, as http://127.0.0.1:19293, got {text!r}"


def test_verbosity_adds_up() -> None:
    assert [parse([flag]).verbose for flag in ("-v", "-vv", "-vvv", "--verbose")] == [1, 2, 3, 1]


def test_help_and_version_beat_everything_else() -> None:
    assert [parse(arguments).show for arguments in (["-h"], ["-w", "5", "--help"], ["-V"], ["-?"])] == [
        "help",
        "help",
        "version",
        "help",
    ]


def test_the_help_fits_a_terminal_and_names_every_measure() -> None:
    text = help_text()
    assert [line for line in text.splitlines() if len(line) > 80] == []
    listed = text.partition("MEASURE is")[2].split()
    assert [name for name in (*BY_NAME, "sysctl", "findings", "all") if name not in listed] == []


@given(st.lists(st.text(max_size=12), max_size=5))
def test_any_command_line_is_read_or_refused(arguments: list[str]) -> None:
    try:
        parse(arguments)
    except UsageError as error:
        assert str(error)
