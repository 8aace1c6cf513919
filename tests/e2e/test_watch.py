"""``show --watch`` on a real terminal: what is drawn, what a person and a signal do to it, and what is left behind."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from exporter.terminal.watch import NullLog
from tests.conftest import situation_root
from tests.e2e.conftest import DEADLINE, PROGRAM, wait_for
from tests.lab import LabProcess

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
HOME, LINE_END, SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"
SHOW = [*PROGRAM, "show", "--watch"]
# Becomes a program whose standard streams and controlling terminal are the terminal that is its standard output.
ON_TERMINAL = """
import fcntl, os, sys, termios
os.setsid(); fcntl.ioctl(1, termios.TIOCSCTTY, 0); os.dup2(1, 0); os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A terminal with a program on it; ``said`` is all that it has written so far."""

    def __init__(
        self,
        *command: str,
        size: tuple[int, int] = (120, 60),
        lab: LabProcess | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._leader, follower = os.openpty()
        self.said = b""
        self.resize(*size)
        self._modes = termios.tcgetattr(self._leader)
        launched = [sys.executable, "-c", ON_TERMINAL, *command]
        environ = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm", "NO_COLOR": "1", **(env or {})}
        if lab is not None:
            self.process = lab.popen(launched, stdout=follower, stderr=follower, env=environ)
        else:
            self.process = subprocess.Popen(launched, stdout=follower, stderr=follower, env=environ, text=True)
        os.close(follower)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        os.close(self._leader)

    def _read(self) -> None:
        try:
            while data := os.read(self._leader, 65536):
                self.said += data
        except OSError:
            pass  # EIO: nobody has the terminal open any more

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self._leader, keys)

    def drawn(self) -> list[str]:
        """The lines of the last whole frame, with what clears behind them."""
        frames = self.said.decode(errors="replace").split(HOME)
        whole = [it.split(SCREEN_END)[0] for it in frames[1:] if SCREEN_END in it]
        return [line.rstrip("\r") for line in whole[-1].split("\n")] if whole else []

    def frame(self) -> list[str]:
        return [line.replace(LINE_END, "") for line in self.drawn()]

    def row(self, name: str) -> str | None:
        return next((line for line in self.frame() if line.startswith(name)), None)

    def shows(self, pattern: str) -> str:
        """Wait for a line that has *pattern*."""
        return wait_for(lambda: next((line for line in self.frame() if re.search(pattern, line)), None), pattern)

    def draws_again(self) -> None:
        """Wait for a frame that is not begun yet."""
        frames = self.said.count(HOME.encode())
        wait_for(lambda: self.said.count(HOME.encode()) > frames + 1 or None, "another frame")

    def gives(self, text: bytes, times: int) -> None:
        """Wait until it has written *text* so often."""
        wait_for(lambda: self.said.count(text) >= times or None, f"{text!r} {times} times")

    def ended(self) -> int:
        """Wait for the end; everything is then as it was before."""
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        assert self.said.startswith(ENTER)
        assert self.said.endswith(LEAVE)
        assert self.said.count(b"\x1b[?25l") == self.said.count(b"\x1b[?25h")
        assert self.said.count(b"\x1b[?7l") == self.said.count(b"\x1b[?7h")
        assert b"Traceback" not in self.said
        assert termios.tcgetattr(self._leader) == self._modes
        return code


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal(*SHOW, "--path.procfs", situation_root("busy")) as made:
        yield made


@pytest.fixture
def procfs(tmp_path: Path) -> Path:
    """A procfs that a test may change."""
    return Path(shutil.copytree(situation_root("busy"), tmp_path / "proc"))


def hang(file: Path) -> None:
    """From now on a read of *file* waits for a writer."""
    aside = file.with_name("aside")
    os.mkfifo(aside)
    aside.replace(file)


@pytest.mark.lab
def test_the_table_follows_the_sockets_and_shows_where_they_come_from(lab: LabProcess) -> None:
    with Terminal(*SHOW, lab=lab) as terminal:
        terminal.shows(r"ESTABLISHED +0 ")
        lab.establish(700)
        terminal.shows(r"ESTABLISHED +700 .*▁+█+ +warning 600, critical 800  WARNING")
        lab.release()
        terminal.shows(r"ESTABLISHED +0 .*▁█+▁+ +warning 600")
        assert (
            terminal.row("Read by")
            == "Read by netlink: time-wait, and established above 1,000 while few change, from the kernel's counters."
        )
        terminal.type(b"\x03")
        assert terminal.ended() == 0


@pytest.mark.lab
@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 20)], ids=lambda it: f"{it[0]}x{it[1]}")
def test_trouble_fits_every_usual_terminal(lab: LabProcess, size: tuple[int, int]) -> None:
    columns, rows = size
    lab.make({"close_wait": 60, "syn_recv": 200}, backlog=512)
    lab.establish(700)
    with Terminal("/usr/bin/env", "-u", "NO_COLOR", *SHOW, "--interval", "200ms", lab=lab, size=size) as terminal:
        terminal.shows("^\x1b\\[33mESTABLISHED +700 .*warning 600, critical 800  WARNING\x1b\\[0m$")
        terminal.shows("^\x1b\\[(33|31;1)mSYN-RECEIVED +200 .*(WARNING|CRITICAL)\x1b\\[0m$")
        terminal.shows("^\x1b\\[(33|31;1)m(WARNING|CRITICAL) +.*half-open")
        terminal.shows("^LIMIT" if rows > 20 else "^total")
        plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in terminal.frame()]
    assert plain[0].startswith("TCP on ")
    assert (len(plain[0]), plain[0][-9:]) == (columns, "  q: quit")
    assert len(plain) <= rows
    assert max(map(len, plain)) <= columns
    assert ("LATELY" in plain[2]) is (columns > 60)
    assert plain[2].endswith("STATUS")


@pytest.mark.lab
def test_a_finding_appears_and_goes(lab: LabProcess) -> None:
    with Terminal(*SHOW, "--interval", "200ms", lab=lab) as terminal:
        terminal.shows("every 0.2 s")
        assert terminal.row("FINDINGS") is None
        lab.make({"syn_recv": 200}, backlog=512)
        terminal.shows("^(WARNING|CRITICAL) +.*half-open")
        assert terminal.row("FINDINGS") is not None


@pytest.mark.parametrize("key", [b"q", b"\x03"], ids=["q", "Ctrl-C"])
def test_a_key_ends_it_and_the_terminal_is_as_before(terminal: Terminal, key: bytes) -> None:
    terminal.shows("ESTABLISHED")
    terminal.type(b"what else is typed is for nobody\n")
    terminal.type(key)
    assert terminal.ended() == 0
    assert b"typed" not in terminal.said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=str)
def test_a_signal_ends_it_and_the_terminal_is_as_before(terminal: Terminal, number: signal.Signals) -> None:
    terminal.shows("ESTABLISHED")
    terminal.process.send_signal(number)
    assert terminal.ended() == 0


def test_ctrl_s_holds_back_neither_a_frame_nor_the_end(terminal: Terminal) -> None:
    terminal.shows("ESTABLISHED")
    terminal.type(b"\x13")
    terminal.draws_again()
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.ended() == 0


def test_it_draws_over_what_is_there_and_clears_nothing_first(terminal: Terminal) -> None:
    terminal.draws_again()
    terminal.draws_again()
    assert terminal.said.count(b"\x1b[2J") == 1  # on entering


def test_it_follows_the_size_of_the_terminal_and_wraps_nothing(terminal: Terminal) -> None:
    terminal.shows("^PORT")
    whole = terminal.frame()
    assert max(map(len, whole)) > 70
    terminal.resize(70, 10)
    cut = wait_for(lambda: it if len(it := terminal.drawn()) == 10 else None, "a small one")
    plain = [line.replace(LINE_END, "") for line in cut]
    assert re.fullmatch(r"\.\.\. \d+ more rows", plain[-1])
    assert max(map(len, plain)) == 70
    # Behind a line that is as wide as the screen the cursor is on its last column: clearing there would take it away.
    assert [line.endswith(LINE_END) for line in cut] == [len(line) < 70 for line in plain]
    terminal.resize(160, 60)
    wait_for(lambda: len(terminal.frame()) == len(whole) or None, "the whole again")


def test_a_terminal_that_does_not_know_its_size_is_a_usual_one() -> None:
    with Terminal(*SHOW, "--path.procfs", situation_root("busy"), size=(0, 0)) as terminal:
        terminal.shows("^PORT|more rows")
        assert (len(terminal.frame()), max(map(len, terminal.frame()))) == (24, 80)


def test_ctrl_z_gives_the_screen_to_the_shell_and_fg_takes_it_again() -> None:
    show = " ".join([*SHOW, "--path.procfs", situation_root("busy")])
    with Terminal("/bin/sh", "-i", env={"PS1": "> ", "ENV": ""}) as terminal:
        for number, (command, key, code) in enumerate(
            ((show, b"\x1a", 128 + signal.SIGTSTP), ("fg", b"q", 0)), start=1
        ):
            terminal.type(f"{command}; echo then=$?\n".encode())
            terminal.gives(ENTER, number)
            terminal.draws_again()
            terminal.type(key)
            terminal.gives(LEAVE + b"then=%d\r\n" % code, 1)


def test_after_a_stop_that_nobody_was_told_of_it_takes_the_screen_again(terminal: Terminal) -> None:
    terminal.shows("ESTABLISHED")
    terminal.process.send_signal(signal.SIGSTOP)
    terminal.process.send_signal(signal.SIGCONT)
    terminal.gives(ENTER, 2)
    terminal.draws_again()


def test_a_source_that_fails_is_said_and_the_others_go_on(procfs: Path) -> None:
    with Terminal(*SHOW, "--interval", "100ms", "--path.procfs", str(procfs), size=(250, 60)) as terminal:
        terminal.shows("^PORT")
        assert terminal.row("Not readable") is None
        sums = procfs / "net" / "sockstat"
        text = sums.read_text()
        sums.unlink()
        terminal.shows(rf"^  {sums}: No such file or directory \(ENOENT\)$")
        assert terminal.row("ESTABLISHED") is not None
        sums.write_text(text)
        wait_for(lambda: terminal.frame() if terminal.row("Not readable") is None else None, "it to be back")


def test_where_nothing_counts_the_past_has_a_gap(procfs: Path) -> None:
    with Terminal(*SHOW, "--interval", "100ms", "--path.procfs", str(procfs)) as terminal:
        terminal.shows("^LISTEN +12 +█+$")
        table = procfs / "net" / "tcp"
        table.rename(procfs / "net" / "aside")
        terminal.shows(r"^LISTEN +\? +█+ +UNKNOWN$")
        (procfs / "net" / "aside").rename(table)
        terminal.shows("^LISTEN +12 +█+ +█+$")


@pytest.mark.parametrize("at_once", [False, True], ids=["later", "at once"])
def test_a_read_that_hangs_is_said_and_ctrl_c_ends_it(procfs: Path, at_once: bool) -> None:
    if at_once:
        hang(procfs / "net" / "snmp")
    with Terminal(*SHOW, "--interval", "100ms", "--path.procfs", str(procfs)) as terminal:
        if at_once:
            terminal.shows("^There is no sample yet, waiting for snmp\\.$")
        else:
            terminal.shows("^PORT")
            hang(procfs / "net" / "snmp")
            terminal.shows(r"^The last sample is \d+ s old, waiting for snmp\.$")
            assert terminal.row("ESTABLISHED") is None
        terminal.type(b"\x03")
        assert terminal.ended() == 0


def test_what_the_terminal_cannot_print_is_ascii() -> None:
    with Terminal(*SHOW, "--path.procfs", situation_root("busy"), env={"PYTHONIOENCODING": "iso-8859-1"}) as terminal:
        terminal.shows("^LISTEN +12 +#+$")
        assert terminal.said.isascii()


def test_colour_is_there_unless_it_is_not_wanted(terminal: Terminal) -> None:
    terminal.shows("^ESTABLISHED +656 .* WARNING$")
    with Terminal("/usr/bin/env", "-u", "NO_COLOR", *SHOW, "--path.procfs", situation_root("busy")) as colored:
        colored.shows("^\x1b\\[33mESTABLISHED +656 .* WARNING\x1b\\[0m$")


def test_without_a_terminal_or_with_one_that_cannot_it_says_so() -> None:
    def refused(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run([*PROGRAM, "show", *arguments], capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout, done.stderr

    assert refused("--watch") == (
        2,
        "",
        "tcp-exporter show --watch: standard output is not a terminal; --json prints a line for each sample\n",
    )
    assert refused("--interval", "2s") == (2, "", "tcp-exporter show: --interval is for --watch\n")
    with Terminal(*SHOW, env={"TERM": "dumb"}) as terminal:
        assert terminal.process.wait(DEADLINE) == 2
        wait_for(lambda: b"cannot move its cursor" in terminal.said or None, "the reason")


@pytest.mark.lab
def test_with_json_every_sample_is_a_line(lab: LabProcess) -> None:
    with lab.popen([*SHOW, "--json"]) as program:
        assert program.stdout is not None
        first = json.loads(program.stdout.readline())
        assert (first["api_version"], first["connections"]["established"], first["stale"]) == (1, 0, False)
        lab.establish(5)
        while json.loads(program.stdout.readline())["connections"]["established"] != 5:
            pass
        program.send_signal(signal.SIGINT)
        assert program.wait(DEADLINE) == 130


def test_with_json_a_read_that_hangs_makes_lines_that_are_stale(procfs: Path) -> None:
    command = [*SHOW, "--json", "--interval", "100ms", "--path.procfs", str(procfs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert json.loads(program.stdout.readline())["stale"] is False
        hang(procfs / "net" / "snmp")
        ages: list[float] = []
        while len(ages) < 3:
            line = json.loads(program.stdout.readline())
            if line["stale"]:
                ages.append(line["age_seconds"])
        assert ages == sorted(set(ages))
        program.terminate()
        assert program.wait(DEADLINE) == -signal.SIGTERM


def test_with_json_it_ends_when_its_reader_does() -> None:
    command = [*SHOW, "--json", "--path.procfs", situation_root("busy")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.readline()
        program.stdout.close()
        assert program.wait(DEADLINE) == 1
        assert program.stderr.read() == b""


def test_of_what_the_loop_logs_only_a_bug_is_heard() -> None:
    heard = NullLog()
    heard.warning("source failed", source="snmp")
    assert heard.bug is None
    try:
        os.environ["NOT_A_VARIABLE"]
    except KeyError:
        heard.exception("sample failed", sampling_pass="walk")
    assert heard.bug == "sample failed: KeyError: 'NOT_A_VARIABLE'"
