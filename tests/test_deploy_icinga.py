"""What an Icinga operator copies fits the plugin and NRPE; tests/e2e/test_icinga.py has what Icinga itself says."""

from __future__ import annotations

import re
from pathlib import Path

from exporter.nagios.arguments import help_text
from tests.test_deploy_nagios import nrpe_commands
from tests.test_docs_plugin import options_of_the_help

SHIPPED = Path(__file__).parent.parent / "deploy" / "icinga"
COMMAND = (SHIPPED / "tcp-states-command.conf").read_text(encoding="utf-8")
SERVICES = (SHIPPED / "tcp-states-services.conf").read_text(encoding="utf-8")
NOT_FOR_CHECKS = {"--version", "--help"}  # they check nothing


def arguments() -> dict[str, str]:
    """The CheckCommand's arguments: option to body."""
    return dict(re.findall(r'^    "(--[a-z.-]+)" = \{\n(.*?)^    \}$', COMMAND, re.MULTILINE | re.DOTALL))


def test_the_check_command_has_every_option_of_the_plugin_in_its_order() -> None:
    assert list(arguments()) == [names[-1] for names in options_of_the_help() if names[-1] not in NOT_FOR_CHECKS]


def test_every_argument_is_the_custom_variable_of_its_name() -> None:
    """As Icinga's conventions have it: the command's name and the option's, with underscores; a flag is set."""
    for option, body in arguments().items():
        name = "tcp_states_" + option.removeprefix("--").replace("-", "_").replace(".", "_")
        kind = "value" if re.search(rf"{re.escape(option)}=", help_text()) else "set_if"
        assert re.findall(r'^      (value|set_if) = "\$(\w+)\$"$', body, re.MULTILINE) == [(kind, name)]
        assert 'description = "' in body


def test_the_services_use_variables_that_the_command_has() -> None:
    known = {name for body in arguments().values() for name in re.findall(r"\$(\w+)\$", body)}
    used = set(re.findall(r"vars\.(tcp_states_\w+)", SERVICES)) - {"tcp_states_by"}
    assert used <= known
    assert used


def test_the_services_by_nrpe_ask_for_commands_that_the_hosts_have() -> None:
    asked = re.findall(r'^  \w+ = "(check_\w+)"$', SERVICES, re.MULTILINE)
    assert set(asked) <= set(nrpe_commands())
    assert len(asked) == 5
