"""The plugin as users install it, beside the bare start of its interpreter and the check that people write.

There are three ways: pip's wheel in a clean virtualenv, the single file, and what the Debian package installs; the
latter two run on the system's own Python, as at their users'.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from benchmarks.installed import virtualenv
from benchmarks.meter import ROOT, SYSTEM_PATH, Cost, Failed, run
from benchmarks.peers import made, script
from benchmarks.rounds import Contender
from pyz.__main__ import write

WAYS = {"plugin": "bare", "plugin_file": "bare_system", "plugin_package": "bare_system"}
"""By the plugin of each way the interpreter that it is held against."""

_ANSWERS = (0, 1, 2)  # OK, WARNING and CRITICAL: the sockets are there or too many
_PACKAGED = "/usr/lib/tcp-exporter"  # where the package has its modules
_PYTHON = "/usr/bin/python3"  # what runs them
_OLDEST_PACKAGED = (3, 11)


@cache
def contenders(folder: str) -> list[Contender]:
    """Each run is a process from its start to its end. All is installed below *folder*, once for all sizes."""
    programs = virtualenv(folder)
    plugin = os.path.join(programs, "check_tcp_states")
    return [
        _contender("plugin", lambda: [plugin]),
        _contender("bare", lambda: _bare(os.path.join(programs, "python"))),
        _contender("plugin_by_shell", lambda: ["/bin/sh", "-c", f"'{plugin}'; exit $?"]),  # as NRPE does
        _contender("bare_system", lambda: _bare(_system_python())),
        _contender("plugin_file", lambda: _file(folder)),
        _contender("plugin_package", lambda: _package(folder)),
        _contender("psutil_check", lambda: script("check_psutil.py")),
    ]


def _contender(name: str, install: Callable[[], Sequence[str]]) -> Contender:
    def make() -> Callable[[], Cost]:
        command = install()
        return lambda: run(command, codes=_ANSWERS).cost

    return made(name, make)


def _bare(python: str) -> list[str]:
    return [python, "-I", "-c", "pass"]


def _system_python() -> str:
    """The interpreter that is called python3 where nobody has changed the PATH."""
    python = shutil.which("python3", path=SYSTEM_PATH)
    if python is None:
        raise Failed("python3 is not installed: apt-get install python3")
    return python


def _file(folder: str) -> list[str]:
    """The single file as a command, compiled for the Python that runs it."""
    target = Path(folder, "check_tcp_states.pyz")
    write(target, [_system_python()])
    return [str(target)]


def _package(folder: str) -> list[str]:
    """The package's modules and command, with its bytecode, in another place."""
    python = _system_python()
    told = run([python, "-c", "import sys; print(sys.version_info >= %r)" % (_OLDEST_PACKAGED,)]).output  # noqa: UP031 - a tuple
    if told.split() != [b"True"]:
        raise Failed(f"{python} is older than Python {'.'.join(map(str, _OLDEST_PACKAGED))}, which the package needs")
    library = Path(folder, "package")
    shutil.copytree(Path(ROOT, "exporter"), library / "exporter", ignore=shutil.ignore_patterns("__pycache__"))
    run([python, "-m", "compileall", "-q", str(library)])
    text = Path(ROOT, "debian", "bin", "check_tcp_states").read_text(encoding="utf-8")
    command = library / "check_tcp_states"
    command.write_text(text.replace(_PACKAGED, str(library)).replace(_PYTHON, python), encoding="utf-8")
    command.chmod(0o755)
    return [str(command)]
