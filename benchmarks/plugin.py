"""The plugin as a user runs it, beside the bare start of its interpreter and the check that people write."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.meter import Cost, program, run
from benchmarks.peers import script
from benchmarks.rounds import Contender

_ANSWERS = (0, 1, 2)  # OK, WARNING and CRITICAL: the sockets are there or too many


def contenders() -> list[Contender]:
    """Each run is a process from its start to its end. Raises ``Failed`` where the plugin is not installed."""
    plugin = program("check_tcp_states", "the tcp-exporter package")
    return [
        _contender("bare", [sys.executable, "-I", "-c", "pass"]),
        _contender("plugin", [plugin]),
        _contender("plugin_by_shell", ["/bin/sh", "-c", f"'{plugin}'; exit $?"]),  # as NRPE does
        _contender("psutil_check", script("check_psutil.py")),
    ]


def _contender(name: str, command: Sequence[str]) -> Contender:
    def sample() -> Cost:
        return run(command, codes=_ANSWERS).cost

    return Contender.single(name, sample)
