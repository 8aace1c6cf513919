"""What the commands share of their command lines, and what belongs to one of them; no command runs here."""

from __future__ import annotations

import pytest

from exporter.cli import COMMANDS, command, run
from exporter.commands import options
from exporter.commands.options import base_url
from exporter.config.schema import Config
from exporter.errors import UsageError
from exporter.nagios import arguments as plugin_arguments
from exporter.tcpstate import KNOWN_STATES, TcpState

TAKE_A_FILE = ("serve", "show", "advise", "dump")


@pytest.mark.parametrize("name", TAKE_A_FILE)
def test_the_configuration_file_has_the_name_of_the_plugin_and_that_of_prometheus(name: str) -> None:
    parser, _ = command(name)
    assert parser.parse_args(["--config", "a.yml"]) == parser.parse_args(["--config.file=a.yml"])
    assert parser.parse_args(["--config", "a.yml"]).file == "a.yml"


@pytest.mark.parametrize("arguments", [["f.yml"], ["--config", "f.yml"], ["--config.file", "f.yml"]])
def test_check_config_takes_its_file_in_each_way(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check-config", *arguments]) == 1
    assert capsys.readouterr().err == "f.yml: cannot be read: No such file or directory\n"


def test_check_config_takes_one_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check-config", "a.yml", "--config", "b.yml"]) == 2
    expected = "tcp-exporter check-config: expected one FILE, as an argument or with --config, not both\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("state", KNOWN_STATES, ids=lambda state: state.label)
def test_who_takes_a_state_in_every_spelling_that_is_printed(state: TcpState) -> None:
    parser, _ = command("who")
    spellings = (state.label, state.rfc9293, state.rfc9293.lower(), state.label.upper(), state.label.replace("_", "-"))
    assert {parser.parse_args([spelling]).state for spelling in spellings} == {state}
    assert parser.parse_args([]).state is TcpState.ESTABLISHED


def test_who_names_the_states_where_one_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    labels = ", ".join(state.label for state in KNOWN_STATES)
    expected = {
        "shut": f"unknown state 'shut': expected one of {labels}; see tcp-exporter who --help",
        "clos-wait": "unknown state 'clos-wait'; did you mean close_wait? See tcp-exporter who --help",
    }
    for text, message in expected.items():
        with pytest.raises(SystemExit, match=r"^2$"):
            run(["who", text])
        assert capsys.readouterr().err == f"tcp-exporter who: STATE: {message}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nope"], "tcp-exporter: unexpected arguments: --nope; see tcp-exporter --help"),
        (["show", "--nope", "x"], "tcp-exporter show: unexpected arguments: --nope x; see tcp-exporter show --help"),
        (
            ["--path.procfs=/x", "show"],
            "tcp-exporter: show: a command comes before its options: tcp-exporter show [OPTION]...; "
            "see tcp-exporter --help",
        ),
        (["who", "--top"], "tcp-exporter who: --top: expected one argument; see tcp-exporter who --help"),
        (["shw"], "tcp-exporter: unknown command 'shw'; did you mean show?"),
        (
            ["nope"],
            "tcp-exporter: unknown command 'nope': expected one of "
            "serve, show, advise, dump, who, check-config, healthcheck, help",
        ),
        (["help", "shw"], "tcp-exporter: unknown command 'shw'; did you mean show?"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = run(arguments)
    except SystemExit as ended:
        code = ended.code
    assert (code, capsys.readouterr().err) == (2, f"{message}\n")


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_prints_what_the_option_prints(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for command_line in ([*name.split(), "--help"], ["help", *name.split()]):
        with pytest.raises(SystemExit, match=r"^0$"):
            run(command_line)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != ""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_a_module_with_a_parser_that_explains_it(name: str) -> None:
    parser, _ = command(name)
    assert parser.prog == ("tcp-exporter" if name == "serve" else f"tcp-exporter {name}")
    assert parser.description


def test_without_a_file_the_settings_are_the_defaults() -> None:
    parser, _ = command("serve")
    assert options.settings_of(parser.parse_args([])) == Config()


@pytest.mark.parametrize(
    "text", ["http://", "http://[", "http://[::1", "http://a\r\nb", "http://\x1b[2J", "http://h:-1", "http://h/é"]
)
def test_what_is_no_url_is_refused_by_every_command_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        base_url(text)
    line = f"--url: expected a daemon's URL, as http://127.0.0.1:19293, got {text!r}"
    assert str(raised.value) == line
    with pytest.raises(UsageError) as raised:
        plugin_arguments.parse(["--url", text])
    assert str(raised.value) == line


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as raised:
        base_url("http://me:secret@127.0.0.1")
    assert "secret" not in str(raised.value)
