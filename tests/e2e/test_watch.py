"""``show --watch`` on a real terminal: what is drawn, and what is left behind."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator

import pytest

from tests.conftest import situation_root
from tests.e2e.conftest import DEADLINE, PROGRAM, wait_for
from tests.lab import LabProcess

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
HOME = b"\x1b[H"


class Terminal:
    """A terminal of some size with the program on it; ``said`` is all that it has written so far."""

    def __init__(self, columns: int, rows: int, lab: LabProcess | None = None, *arguments: str) -> None:
        self._leader, follower = os.openpty()
        self.said = b""
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self._leader)
        command = [*PROGRAM, "show", "--watch", *arguments]
        environ = {**os.environ, "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
        if lab is not None:
            self.process = lab.popen(command, stdout=follower, stderr=follower, env=environ)
        else:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=follower, stderr=follower, env=environ, text=True
            )
        os.close(follower)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._leader, 65536):
                self.said += data
        except OSError:
            pass  # EIO: nobody has the terminal open any more

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def frame(self) -> list[str] | None:
        """The lines of the last whole frame."""
        frames = self.said.split(HOME)[1:]
        whole = [it for it in frames if it.endswith(b"\x1b[K\x1b[J")]
        if not whole:
            return None
        lines = whole[-1].removesuffix(b"\x1b[J").decode().split("\n")
        return [line.rstrip("\r").removesuffix("\x1b[K") for line in lines]

    def row(self, name: str) -> str | None:
        return next((line for line in self.frame() or [] if line.startswith(name)), None)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        assert termios.tcgetattr(self._leader) == self.before
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        os.close(self._leader)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal(120, 60, None, "--path.procfs", situation_root("busy"))
    yield made
    made.close()


@pytest.mark.lab
def test_the_table_follows_the_sockets_and_shows_where_they_come_from(lab: LabProcess) -> None:
    terminal = Terminal(120, 60, lab)
    try:
        wait_for(lambda: re.search(r"ESTABLISHED +0 ", terminal.row("ESTABLISHED") or ""), "the first frame")
        lab.establish(700)
        wait_for(lambda: re.search(r"700 .*▁+█+ +warning 600", terminal.row("ESTABLISHED") or ""), "a step upwards")
        lab.release()
        wait_for(lambda: re.search(r" 0 .*▁█+▁+ +warning", terminal.row("ESTABLISHED") or ""), "and down again")
        assert terminal.end(signal.SIGINT) == 130
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_the_terminal_is_as_before_when_it_ends(terminal: Terminal, number: signal.Signals, code: int) -> None:
    wait_for(lambda: terminal.row("ESTABLISHED"), "a frame")
    assert terminal.end(number) == code
    assert terminal.said.startswith(ENTER)
    assert terminal.said.endswith(LEAVE)
    assert b"Traceback" not in terminal.said


def test_it_draws_over_what_is_there_and_clears_nothing_first(terminal: Terminal) -> None:
    wait_for(lambda: terminal.said.count(HOME) > 3 or None, "some frames")
    assert terminal.said.count(b"\x1b[2J") == 1  # on entering


def test_it_fits_the_terminal_and_follows_its_size(terminal: Terminal) -> None:
    whole = wait_for(lambda: terminal.frame() if terminal.row("PORT") else None, "the whole table")
    terminal.resize(70, 10)
    terminal.process.send_signal(signal.SIGWINCH)
    cut = wait_for(lambda: it if len(it := terminal.frame() or []) == 10 else None, "a small one")
    assert cut[-1].endswith("more lines, for a higher terminal")
    assert [line for line in cut if len(line) > 70] == []
    assert max(map(len, whole)) > 70
    terminal.resize(160, 60)
    terminal.process.send_signal(signal.SIGWINCH)
    wait_for(lambda: len(terminal.frame() or []) == len(whole) or None, "the whole again")


def test_suspended_it_gives_the_screen_back_and_takes_it_again(terminal: Terminal) -> None:
    wait_for(lambda: terminal.row("ESTABLISHED"), "a frame")
    terminal.process.send_signal(signal.SIGTSTP)
    wait_for(lambda: terminal.said.endswith(LEAVE) or None, "the screen")
    terminal.process.send_signal(signal.SIGCONT)
    wait_for(lambda: terminal.said.count(ENTER) == 2 or None, "the screen to be taken again")
    assert terminal.end(signal.SIGINT) == 130


def test_where_there_is_no_terminal_it_says_so() -> None:
    done = subprocess.run([*PROGRAM, "show", "--watch"], capture_output=True, text=True, check=False, timeout=DEADLINE)
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "tcp-exporter: show --watch: standard output is no terminal; with --json it is a line for each sample\n",
    )


@pytest.mark.lab
def test_with_json_every_sample_is_a_line(lab: LabProcess) -> None:
    with lab.popen([*PROGRAM, "show", "--watch", "--json"]) as program:
        assert program.stdout is not None
        first = json.loads(program.stdout.readline())
        assert (first["api_version"], first["connections"]["established"]) == (1, 0)
        lab.establish(5)
        while json.loads(program.stdout.readline())["connections"]["established"] != 5:
            pass
        program.send_signal(signal.SIGINT)
        assert program.wait(DEADLINE) == 130


def test_with_json_it_ends_when_its_reader_does() -> None:
    command = [*PROGRAM, "show", "--watch", "--json", "--path.procfs", situation_root("busy")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.readline()
        program.stdout.close()
        assert program.wait(DEADLINE) == 1
        assert program.stderr.read() == b""
