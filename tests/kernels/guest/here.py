"""A lab in this very process, because a start of Python takes seconds in a guest.

``Here`` is to the tests what ``LabProcess`` is: the same requests, acted on without a channel. The product's programs
run in this process too, as functions; others, and the daemon, as processes beside it.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.lab.namespace import LabError, enter, sysctl
from tests.lab.process import LabProcess
from tests.lab.states import Lab

_libc = ctypes.CDLL(None, use_errno=True)


class Here(LabProcess):
    """A fresh network namespace around this thread until the end of the ``with`` block."""

    def __init__(self) -> None:
        self._outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        enter()
        self._lab = Lab()
        self._programs: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Here:
        return self

    @property
    def pid(self) -> int:
        """The process whose namespaces are the lab's."""
        return os.getpid()

    def close(self) -> None:
        """End the lab and leave the namespace."""
        try:
            self._lab.close()
        finally:
            if _libc.setns(self._outside, 0):
                raise LabError("cannot leave the lab's namespace")
            os.close(self._outside)

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
        """Run one of the product's programs as a function."""
        return run(*command)

    def _exchange(self, what: str, **arguments: object) -> tuple[object, list[int]]:
        if what == "socket":
            family, kind, protocol = (int(str(arguments[name])) for name in ("family", "kind", "protocol"))
            return None, [socket.socket(family, kind, protocol).detach()]
        action: Callable[..., object] = sysctl if what == "sysctl" else getattr(self._lab, what)
        return json.loads(json.dumps(action(**arguments))), []


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``tcp-exporter`` or ``check_tcp_states`` as a function of this process."""
    from exporter.cli import run as tcp_exporter  # noqa: PLC0415 - what a program imports counts as a part of its check
    from exporter.nagios.check import run as check_tcp_states  # noqa: PLC0415 - as above

    output, errors, code = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            if Path(program).name == "tcp-exporter":
                code = tcp_exporter(arguments)
            else:
                code, text = check_tcp_states(arguments)
                print(text)
        except SystemExit as error:  # argparse's
            code = error.code if isinstance(error.code, int) else 1
    output.flush()
    return subprocess.CompletedProcess(
        [program, *arguments],
        code,
        output.buffer.getvalue().decode(),
        errors.getvalue(),
    )
