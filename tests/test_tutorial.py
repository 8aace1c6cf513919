"""docs/tutorial.md works as it stands: its blocks are typed into one shell, in order, in a real network namespace.

A block of outputs is tried again until it is what the page shows, as a reader waits; process ids, times
and counts of packets differ from run to run, and ``...`` stands for lines that depend on the host.
With ``--update-golden`` the outputs are rewritten.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.test_readme import ROOT, Shown, commands, replace_block, text_of, written

PAGE = "docs/tutorial.md"
PATIENCE = 90.0  # seconds: the leak has to be 10 s old and a detail pass has to see it, on a busy machine
SETTING_UP = 60.0  # seconds for one command
NAMESPACE = "unshare -Urnpf --mount-proc bash\n"
AS_ROOT = "unshare -npf --mount-proc bash"
_BLOCK = re.compile(r"^```(?P<kind>sh|console)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_VARIES = [
    (r"pid \d+", "pid N"),
    (r"in the last [\d.]+ s", "in the last N s"),
    (r"[\d,]+ (SYNs and final ACKs were dropped|segments in the last)", r"N \1"),
    (r"time_wait=\d+", "time_wait=N"),
    # After a minute the age alone is enough, so the sentence on servers goes.
    (r"silent for more than \d+ s\.( A server that reads closes at once\.)?", "silent for more than N s."),
    (r"(<title>\w+) - \S+ - ", r"\1 - HOST - "),
    # The sockets of a reader belong to the unit of the session, those of a test may belong to none.
    (r"(The application of|belong to) (local port|unit|container) [^ ,;]+", r"\1 OWNER"),
    (r"connection tracking, ", ""),  # where the kernel has it
    (r"net\.core\.somaxconn is [\d,]+ now|up to [\d,]+ are allowed", "SOMAXCONN"),
]


class Block(NamedTuple):
    """One fenced block of the page: commands to type, or commands with what they print."""

    kind: str
    body: str


class Shell:
    """A shell that is typed into; its programs end with it."""

    def __init__(self, command: list[str], folder: Path) -> None:
        path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
            env={"PATH": path, "LC_ALL": "C.UTF-8", "TZ": "UTC", "TMPDIR": str(folder), "PS1": ""},
        )  # fmt: skip

    def type(self, lines: str) -> list[str]:
        """What the shell prints for *lines*."""
        end = f"end-{secrets.token_hex(8)}"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{lines}\necho {end}\n")
        self._process.stdin.flush()
        alarm = time.monotonic() + SETTING_UP
        printed: list[str] = []
        while (line := self._process.stdout.readline().rstrip("\n")) != end:
            assert self._process.poll() is None, printed
            assert time.monotonic() < alarm, printed
            printed.append(line.rstrip())
        return printed

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def blocks() -> list[Block]:
    return [Block(found["kind"], found["body"]) for found in _BLOCK.finditer(text_of(PAGE))]


def allowed(command: list[str]) -> bool:
    done = subprocess.run([*command, "-c", "true"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """The shell of the first block, without the privileges of root where that is possible."""
    for tool in ("unshare", "ip", "curl"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")  # as on a machine that has not run .ci/run
    ways = [way for way in (NAMESPACE.split(), AS_ROOT.split()) if allowed(way)]
    if not ways:
        pytest.skip("this machine allows no network namespaces")  # as in an unprivileged container
    shell = Shell(ways[0], tmp_path)
    try:
        yield shell
    finally:
        shell.close()


def plain(lines: list[str]) -> str:
    """The text without what differs from run to run, and without line breaks, which follow from it."""
    text = " ".join(" ".join(lines).split())
    for pattern, instead in _VARIES:
        text = re.sub(pattern, instead, text)
    return text


def agrees(shown: Shown, printed: list[str]) -> bool:
    """Whether *printed* is what the page shows, but for what stands in the place of ``...``."""
    parts = " ".join(shown.output).split("...")
    pattern = ".*".join(re.escape(plain([part])) for part in parts)
    return re.fullmatch(pattern, plain(printed)) is not None


def kept(shown: Shown, printed: list[str]) -> list[str]:
    """What the page has to show of *printed*: nothing of what ``...`` stands for, which ends a block if it is there."""
    if shown.output[-1:] != ["..."]:
        return printed
    return [*printed[: next(number for number, line in enumerate(printed) if line.startswith("Not judged"))], "..."]


@pytest.mark.lab
@pytest.mark.long
def test_a_reader_who_types_the_tutorial_sees_what_it_shows(shell: Shell, request: pytest.FixtureRequest) -> None:
    (kind, first), *rest = blocks()
    assert (kind, first.splitlines(keepends=True)[0]) == ("sh", NAMESPACE)
    shell.type(first.removeprefix(NAMESPACE))
    for kind, body in rest:
        if kind == "sh":
            assert [line for line in shell.type(body) if not line.startswith("[")] == []  # [1]: a job of the shell
            continue
        deadline = time.monotonic() + PATIENCE
        while True:
            wanted = commands(body)
            printed = [Shown(shown.command, shell.type(shown.command)) for shown in wanted]
            differ = [(shown, got) for shown, got in zip(wanted, printed, strict=True) if not agrees(shown, got.output)]
            if not differ or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        if request.config.getoption("--update-golden"):
            shown = [Shown(got.command, kept(was, got.output)) for was, got in zip(wanted, printed, strict=True)]
            replace_block(PAGE, body, written(shown))
        else:
            assert differ == []


def test_the_readme_shows_what_the_tutorial_does() -> None:
    """The answers of ``advise`` and ``who`` in the README are passages of the tutorial, where they are run."""
    readme, tutorial = text_of("README.md"), text_of(PAGE)
    found = re.findall(r"^```text\n(\$ tcp-exporter (?:advise|who).*?\n)(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert len(found) == 2
    for command, output in found:
        assert f"\n{command}" in tutorial
        assert f"\n{output}" in tutorial
    assert (ROOT / PAGE).exists()
