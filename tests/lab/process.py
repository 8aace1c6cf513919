"""A lab in a process of its own, so that the tests' process stays in its namespace.

``LabProcess`` is the tests' end, ``serve`` the other: one JSON object a line, a request and then its answer, over a
socket that is the lab's standard input and output and on which sockets are handed over too.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO

from tests.lab.namespace import LabError, LabUnavailable, enter, join_command, sysctl
from tests.lab.states import BACKLOG, PORT, Expected, Lab

_ANSWER_SECONDS = 120.0
_END_SECONDS = 60.0
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

_Socket = socket.socket  # LabProcess has a method of that name
_Output = int | IO[str] | None


class LabProcess:
    """A fresh network namespace with a lab in it, and programs beside the lab; all of it ends with the ``with`` block.

    ``user`` owns the lab, by number; as anybody but root it takes a user namespace. ``python`` runs the lab, for where
    this interpreter is not that user's to execute.
    """

    def __init__(self, *, user: int | None = None, python: str = sys.executable) -> None:
        self._programs: list[subprocess.Popen[str]] = []
        self._channel, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._channel.settimeout(_ANSWER_SECONDS)
        with far_end:
            self._process = subprocess.Popen(
                [python, "-m", "tests.lab", "--serve"],
                stdin=far_end.fileno(),
                stdout=far_end.fileno(),
                stderr=subprocess.PIPE,
                cwd=_ROOT,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )

    def __enter__(self) -> LabProcess:
        try:
            self._receive()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process whose namespaces are the lab's."""
        return self._process.pid

    def make(
        self,
        population: Mapping[str, int],
        family: int = socket.AF_INET,
        *,
        port: int = PORT,
        backlog: int = BACKLOG,
    ) -> Expected:
        """``Lab.make``."""
        request = {"population": dict(population), "family": int(family), "port": port, "backlog": backlog}
        return _expected(self._ask("make", **request))

    def establish(self, number: int, family: int = socket.AF_INET, *, port: int = PORT) -> Expected:
        """``Lab.establish``."""
        return _expected(self._ask("establish", number=number, family=int(family), port=port))

    def release(self, number: int | None = None) -> Expected:
        """``Lab.release``."""
        return _expected(self._ask("release", number=number))

    def expected(self) -> dict[str, int]:
        """``Lab.expected``."""
        return _expected(self._ask("verify")).total

    def expected_by_family(self) -> dict[str, dict[str, int]]:
        """``Lab.expected_by_family``."""
        return _expected(self._ask("verify")).by_family

    def sysctl(self, name: str, value: str | int | None = None) -> str:
        """The value of a sysctl of the namespace, after it was set if a value is given."""
        return str(self._ask("sysctl", name=name, value=value))

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> _Socket:
        """A socket of the namespace, to be used in this process."""
        _, descriptors = self._exchange("socket", family=int(family), kind=int(kind), protocol=protocol)
        return _Socket(family, kind, protocol, fileno=descriptors[0])

    def connect(self, host: str, port: int, timeout: float = 120.0) -> _Socket:
        """A connection to an address inside the namespace.

        For HTTP: ``http = http.client.HTTPConnection(host, port)``, then ``http.sock = lab.connect(host, port)``.
        """
        connection = self.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            connection.settimeout(timeout)
            connection.connect((host, port))
        except BaseException:
            connection.close()
            raise
        return connection

    def run(
        self,
        command: Sequence[str],
        *,
        timeout: float = 300.0,
        user: str | int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside the namespace and capture what it says. ``user`` needs a lab that root made."""
        return subprocess.run(
            join_command(self.pid, list(command), user),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=env,
            cwd=cwd,
        )

    def popen(
        self,
        command: Sequence[str],
        *,
        user: str | int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdout: _Output = subprocess.PIPE,
        stderr: _Output = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Start a program inside the namespace, such as a daemon; it is killed at the end of the lab if it still runs.

        Its process id is the program's own. Give files for ``stdout`` and ``stderr`` if it writes much unread.
        """
        program = subprocess.Popen(
            join_command(self.pid, list(command), user),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            env=env,
            cwd=cwd,
        )
        self._programs.append(program)
        return program

    def close(self) -> None:
        """End the programs and the lab; the namespace goes with the last of them."""
        for program in self._programs:
            program.kill()
            program.wait(_END_SECONDS)
            for stream in (program.stdout, program.stderr):
                if stream is not None:
                    stream.close()
        self._programs.clear()
        self._channel.close()  # the lab ends when nobody can ask it any more
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_END_SECONDS)
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _ask(self, what: str, **arguments: object) -> object:
        return self._exchange(what, **arguments)[0]

    def _exchange(self, what: str, **arguments: object) -> tuple[object, list[int]]:
        try:
            self._channel.sendall(json.dumps({"do": what, **arguments}).encode() + b"\n")
        except BrokenPipeError:
            raise LabError(self._last_words()) from None
        return self._receive()

    def _receive(self) -> tuple[object, list[int]]:
        """The answer, and the descriptors that came with it."""
        line, descriptors = b"", []
        while not line.endswith(b"\n"):
            try:
                data, some, _, _ = socket.recv_fds(self._channel, 65536, 1, socket.MSG_CMSG_CLOEXEC)
            except TimeoutError:
                raise LabError(f"the lab did not answer within {_ANSWER_SECONDS:g} s") from None
            except ConnectionResetError:
                data, some = b"", []
            if not data:
                raise LabError(self._last_words())
            line += data
            descriptors += some
        answer = json.loads(line)
        if "error" in answer:
            raise (LabUnavailable if answer["unavailable"] else LabError)(answer["error"])
        return answer["result"], descriptors

    def _last_words(self) -> str:
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return "the lab closed its channel"
        said = self._process.stderr.read().decode(errors="replace").strip() if self._process.stderr else ""
        return f"the lab's process ended with status {self._process.returncode}: {said or 'it said nothing'}"


def serve() -> int:
    """Be the lab of a ``LabProcess``, until it closes the channel."""
    with socket.socket(fileno=os.dup(0)) as channel, channel.makefile("r", encoding="utf-8") as requests:
        try:
            enter()
            lab = Lab()
        except LabError as error:
            _answer(channel, error)
            return 1
        with lab:
            _answer(channel, None)
            for line in requests:
                try:
                    _act(channel, lab, **json.loads(line))
                except (LabError, OSError, TypeError, ValueError) as error:
                    _answer(channel, error)
    return 0


def _act(channel: socket.socket, lab: Lab, do: str, **arguments: object) -> None:
    if do == "socket":
        family, kind, protocol = (int(str(arguments[name])) for name in ("family", "kind", "protocol"))
        with socket.socket(family, kind, protocol) as made:
            _answer(channel, None, made)
        return
    actions = {
        "make": lab.make,
        "establish": lab.establish,
        "release": lab.release,
        "verify": lab.verify,
        "sysctl": sysctl,
    }
    _answer(channel, actions[do](**arguments))  # type: ignore[operator]


def _answer(channel: socket.socket, result: object, *sockets: socket.socket) -> None:
    answer: dict[str, object] = {"result": result}
    if isinstance(result, Exception):
        answer = {"error": str(result), "unavailable": isinstance(result, LabUnavailable)}
    line = json.dumps(answer).encode() + b"\n"
    if sockets:
        socket.send_fds(channel, [line], [made.fileno() for made in sockets])
    else:
        channel.sendall(line)


def _expected(answer: object) -> Expected:
    if not isinstance(answer, list):  # what JSON makes of a NamedTuple
        raise LabError(f"not an answer: {answer}")
    return Expected(*answer)
