"""``python -m tests.kernels.guest FILE``: run the checks in this process, and write a line of JSON on each to FILE.

The guest's ``init`` starts it. pytest's own output goes to the console.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import IO

import pytest

HERE = Path(__file__).parent


class Results:
    """Writes each check as it ends: its name, its problem, and the facts that it saw."""

    def __init__(self, to: IO[str]) -> None:
        self._to = to
        self._problems: dict[str, str] = {}
        self._facts: dict[str, str] = {}
        self._seconds = 0.0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather what went wrong in any phase, and tell all of it at the end."""
        if not report.passed:
            crash = getattr(report.longrepr, "reprcrash", None)
            text = crash.message if crash is not None else report.longreprtext
            self._problems.setdefault(report.nodeid, " ".join(text.split()))
        if report.when == "call":
            self._facts = {str(name): str(value) for name, value in report.user_properties}
            self._seconds = report.duration
        if report.when == "teardown":
            name = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
            problem = self._problems.get(report.nodeid, "")
            self._tell({"check": name, "problem": problem, "facts": self._facts, "seconds": self._seconds})
            self._facts, self._seconds = {}, 0.0

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Tell of a file that could not be imported."""
        if report.failed:
            self._tell({"check": report.nodeid, "problem": report.longreprtext, "facts": {}, "seconds": 0.0})

    def pytest_sessionfinish(self) -> None:
        """Tell that nothing is missing."""
        self._tell({"end": True})

    def _tell(self, line: dict[str, object]) -> None:
        self._to.write(json.dumps(line) + "\n")
        self._to.flush()


def main(file: str, *more: str) -> int:
    """Run the checks; return pytest's status."""
    with Path(file).open("a", encoding="ascii") as results:
        own = [
            "-p",
            "no:cacheprovider",
            "-q",
            "--import-mode=importlib",
            "--durations=0",
            "-o",
            "verbosity_assertions=2",
            f"--confcutdir={HERE}",
        ]
        return int(pytest.main([*own, f"--rootdir={HERE}", *more, str(HERE)], plugins=[Results(results)]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
