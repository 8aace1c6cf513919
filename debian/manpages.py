"""The manual pages tcp-exporter(1) and check_tcp_states(1), made from the programs' ``--help``.

``manpages.py FOLDER`` writes them while the package is built; SOURCE_DATE_EPOCH dates them. Nothing of an option is
written here: what is, are the sections that a help text has no place for.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from exporter import __version__
from exporter.cli import COMMANDS

DAEMON = ("-m", "exporter")
PLUGIN = ("-c", "from exporter.nagios.check import main; main()")
NAMES = {
    "tcp-exporter": "TCP health of this host, for Prometheus and for people",
    "check_tcp_states": "TCP health of this host, for Nagios, NRPE and Icinga",
}
EXIT_STATUS = {
    "tcp-exporter": "0 on success; 1 if the command failed, or found what it looks for; 2 for a wrong command line; "
    "78 if the daemon cannot use its configuration. The description of a command has its own meanings of 1 and 2.",
    "check_tcp_states": "0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN; --help and --version exit with 3 too.",
}
EXAMPLES = {
    "tcp-exporter": {
        "tcp-exporter advise": "Report what is wrong on this host, and what to do about it.",
        "tcp-exporter who CLOSE-WAIT --by unit": "Show which services hold connections that their peers have closed.",
        "tcp-exporter show --watch": "Redraw the table of states with each sample, until q.",
        "tcp-exporter check-config /etc/tcp-exporter.yml": "Check the configuration before a reload.",
    },
    "check_tcp_states": {
        "check_tcp_states": "Judge the established connections: warning above 600, critical above 800.",
        "check_tcp_states -s close_wait -w 20 -c 100": "Judge the connections that their peers have closed.",
        "check_tcp_states -s findings": "Report what is wrong on this host.",
        "check_tcp_states --url http://127.0.0.1:19293 -s all": "Take everything from the daemon, with its thresholds.",
    },
}
FILES = {
    "/etc/tcp-exporter.yml": "The configuration of the daemon, and with --config of the plugin. It shows every key at "
    "its default, and explains it. After a change, run systemctl reload tcp-exporter.",
    "/etc/default/tcp-exporter": "The flags of the service. After a change, run systemctl restart tcp-exporter.",
    "/usr/lib/nagios/plugins/check_tcp_states": "The plugin, where Nagios and NRPE look for it.",
}
OPTION = re.compile(r"^ {1,6}(-\S.*?)(?: {2,}(\S.*))?$")
ENTRY = re.compile(r"^ {2}(\S+)(?: {2,}(\S.*))?$")
CONTINUED = re.compile(r"^ {20,}(\S.*)$")
HEADING = re.compile(r"^([a-z ]+):$")


def main(folder: str) -> None:
    """Write both pages."""
    daemon = [page_head("tcp-exporter"), *rendered(said(*DAEMON))]
    for command in COMMANDS[1:]:  # the first is the daemon, whose options are above
        daemon += [f".SH COMMAND {command.upper()}", *rendered(said(*DAEMON, command), inner=True)]
    plugin = [page_head("check_tcp_states"), *rendered(said(*PLUGIN))]
    for name, lines in (("tcp-exporter", daemon), ("check_tcp_states", plugin)):
        text = "\n".join([*lines, *page_foot(name), ""])
        Path(folder, f"{name}.1").write_text(text, encoding="utf-8")


def said(*program: str) -> str:
    """The help text; in lines so long that argparse breaks none."""
    environment = {**os.environ, "COLUMNS": "1000"}
    done = subprocess.run(
        [sys.executable, *program, "--help"], stdout=subprocess.PIPE, text=True, env=environment, check=False
    )
    if not done.stdout:
        sys.exit(f"manpages.py: {' '.join(program)} --help said nothing and ended with {done.returncode}")
    return done.stdout


def page_head(name: str) -> str:
    """The title and the NAME section."""
    made = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    return "\n".join(
        [
            rf'.TH {name.upper()} 1 "{time.strftime("%Y-%m-%d", made)}" "tcp\-exporter {__version__}" "User Commands"',
            ".nh",  # names of options and measures stay whole
            ".ad l",
            ".SH NAME",
            rf"{escaped(name)} \- {escaped(NAMES[name])}",
        ]
    )


def page_foot(name: str) -> Iterator[str]:
    """The sections that a help text has no place for."""
    yield ".SH EXAMPLES"
    for command, what in EXAMPLES[name].items():
        yield from entry(command, [what])
    yield from (".SH EXIT STATUS", escaped(EXIT_STATUS[name]), ".SH FILES")
    for path, what in FILES.items():
        yield from entry(path, [what])
    (other,) = NAMES.keys() - {name}
    yield from (".SH SEE ALSO", f".BR {escaped(other)} (1),", ".BR systemctl (1)")


def rendered(text: str, *, inner: bool = False) -> Iterator[str]:
    """The lines of roff for a help text: usage, paragraphs, options, and what is set as it stands."""
    usage, _, text = text.partition("\n\n")
    if not inner:
        yield ".SH SYNOPSIS"
    yield from (*synopsis(usage), ".PP" if inner else ".SH DESCRIPTION")
    lines = text.splitlines()
    listing = False  # below a heading, also a line without a dash begins an entry
    while lines:
        line = lines.pop(0)
        if not line:
            listing = False
            yield ".PP"
        elif heading := HEADING.match(line):
            listing = True
            yield ".SS " + escaped(heading[1].capitalize())
        elif found := OPTION.match(line) or (ENTRY.match(line) if listing else None):
            explained = [found[2]] if found[2] else []
            while lines and (more := CONTINUED.match(lines[0])):
                explained.append(more[1])
                lines.pop(0)
            yield from entry(found[1], explained)
        elif line.startswith(" "):
            yield from (".nf", escaped(line))
            while lines and lines[0].startswith(" ") and not OPTION.match(lines[0]):
                yield escaped(lines.pop(0))
            yield ".fi"
        else:
            yield escaped(line)


def synopsis(usage: str) -> Iterator[str]:
    """The program in bold, and its arguments."""
    words = usage.partition(":")[2].split()
    bold = 2 if words[1] in COMMANDS else 1
    yield rf"\fB{escaped(' '.join(words[:bold]))}\fR {escaped(' '.join(words[bold:]))}"


def entry(term: str, explained: list[str]) -> Iterator[str]:
    """A term and, indented, what it means."""
    yield from (".TP", rf"\fB{escaped(term)}\fR", escaped(" ".join(explained)) if explained else r"\&")


def escaped(text: str) -> str:
    """The text as roff has it: what is typed can be copied from the page, and no line is taken for a request."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")
    text = text.replace("~", r"\(ti").replace("^", r"\(ha")
    return r"\&" + text if text.startswith(".") else text


if __name__ == "__main__":
    main(sys.argv[1])
