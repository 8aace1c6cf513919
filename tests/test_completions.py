"""The completions of the package: what is generated, and what real shells make of it."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.cli import COMMANDS
from exporter.health.measures import BY_NAME
from exporter.nagios import arguments
from exporter.tcpstate import BY_LABEL
from tests.machine.conftest import need

GENERATOR = Path(__file__).parents[1] / "debian" / "completions.py"
END = 60.0  # seconds for what takes a fraction of one: only a hang reaches it

# A key inserts all completions of the last word; the programs print the words that the shell then passes to them.
PRINT = """
print_words() { printf '<<%s>>\\n' "$@"; printf 'the %s\\n' end; }
tcp-exporter() { print_words "$@"; }
check_tcp_states() { print_words "$@"; }
"""
BASH = (
    "source {folder}/bash/tcp-exporter\nsource {folder}/bash/check_tcp_states\nbind '\"\\C-t\": insert-completions'\n"
)
ZSH = """\
fpath=({folder}/zsh $fpath)
autoload -Uz compinit && compinit -u -D
zle -C all complete-word _generic
bindkey '^T' all
zstyle ':completion:all:*' insert yes
zstyle ':completion:all::::' completer _all_matches _complete
"""
COMPLETED = {
    "tcp-exporter ": [*COMMANDS],
    "tcp-exporter he": ["healthcheck"],
    "tcp-exporter --log.f": ["--log.format"],
    "tcp-exporter show --wat": ["show", "--watch"],
    "tcp-exporter show --log.f": ["show", "--log.f"],
    "tcp-exporter dump --format ": ["dump", "--format", "prometheus", "openmetrics", "json"],
    "tcp-exporter who ": ["who", *BY_LABEL, "leaked"],
    "tcp-exporter who --by un": ["who", "--by", "unit"],
    "tcp-exporter check-config a": ["check-config", "a file.yml"],
    "tcp-exporter --config.file a": ["--config.file", "a file.yml"],
    "tcp-exporter --config.file=a": ["--config.file=a file.yml"],
    "tcp-exporter --path.procfs ": ["--path.procfs", "folder"],
    "check_tcp_states --cred": ["--credentials-file"],
    "check_tcp_states --reader=n": ["--reader=netlink"],
    "check_tcp_states -s acc": ["-s", "accept_queue_ratio"],
    "check_tcp_states -s total,find": ["-s", "total,findings"],
    "check_tcp_states -w accept": ["-w", "accept_queue_ratio="],
    "check_tcp_states --state ": ["--state", *BY_NAME, "sysctl", "findings", "all"],
}
"""What is typed, to the words that come of it."""


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the completions."""
    folder = tmp_path_factory.mktemp("completions")
    subprocess.run([sys.executable, GENERATOR, folder], check=True)
    return folder


def test_the_completions_are_the_options_of_the_programs(generated: Path, golden: Callable[[str, str], None]) -> None:
    for path in sorted(generated.glob("*/*")):
        golden(f"completions/{path.relative_to(generated)}", path.read_text(encoding="utf-8"))


def test_every_option_of_the_plugin_is_completed(generated: Path) -> None:
    """They are taken from its help, and getopt has the truth."""
    text = (generated / "bash/check_tcp_states").read_text(encoding="utf-8")
    (found,) = re.findall(r"words='(-w [^']+)'", text)
    short = {f"-{letter}" for letter in arguments._SHORT if letter not in ":?"}  # -? is an -h for those who guess
    assert set(found.split()) == short | {f"--{name.rstrip('=')}" for name in arguments._LONG}


def complete(shell: str, settings: str, home: Path, folder: Path) -> dict[str, list[str]]:
    """What a shell that reads *settings* makes of each line, in *folder*; its words are sorted."""
    start = home / (".zshrc" if shell == "zsh" else "bashrc")
    start.write_text(settings + PRINT, encoding="utf-8")
    command = ["zsh", "-d", "-i"] if shell == "zsh" else ["bash", "--noprofile", "--rcfile", str(start), "-i"]
    environ = {"PATH": "/usr/bin:/bin", "TERM": "dumb", "HOME": str(home), "ZDOTDIR": str(home), "LC_ALL": "C.UTF-8"}
    leader, follower = pty.openpty()
    completed = {}
    with subprocess.Popen(
        command, cwd=folder, env=environ, stdin=follower, stdout=follower, stderr=follower, start_new_session=True
    ) as process:
        os.close(follower)
        try:
            for line in COMPLETED:
                os.write(leader, f"{line}\x14\n".encode())
                words = re.findall(r"<<(.*?)>>", read_until(leader, "the end\r\n"))
                completed[line] = sorted(word.removesuffix("/") for word in words)
        finally:
            process.kill()
            os.close(leader)
    return completed


def read_until(terminal: int, end: str) -> str:
    """What the terminal shows up to *end*."""
    said, last = "", time.monotonic() + END
    while end not in said:
        if not select.select([terminal], [], [], max(0.0, last - time.monotonic()))[0]:
            raise AssertionError(f"waited in vain for {end!r}: {said}")
        said += os.read(terminal, 65536).decode(errors="replace")
    return said


@pytest.mark.e2e
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes(shell: str, generated: Path, tmp_path: Path) -> None:
    need(shell)
    home, folder = tmp_path / "home", tmp_path / "folder"
    home.mkdir()
    (folder / "folder").mkdir(parents=True)
    (folder / "a file.yml").touch()
    settings = (ZSH if shell == "zsh" else BASH).format(folder=generated)
    assert complete(shell, settings, home, folder) == {line: sorted(words) for line, words in COMPLETED.items()}
