"""What the tests share: situations (trees of /proc to sample), snapshots of them, and goldens.

A golden is an expected output in the repository; ``--update-golden`` rewrites it, and the diff is reviewed.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from exporter.errors import SourceError
from exporter.health.finding import Finding, Judgement
from exporter.health.judge import Health, Judge
from exporter.health.sysctls.verdicts import NO_EXPECTATIONS, Expectations
from exporter.health.thresholds import DEFAULTS, SEVERITY, Threshold
from exporter.health.window import Window
from exporter.kernel.derivation import Trust
from exporter.kernel.reader import Procfs, ProcfsReader
from exporter.sampling.detailer import Detailer, Wanted
from exporter.sampling.sampler import Sampler, assemble
from exporter.snapshot import Snapshot
from tests.lab import LabProcess, LabUnavailable

TESTS = Path(__file__).parent
SITUATIONS = sorted(path.name for path in (TESTS / "fixtures" / "proc").iterdir())
TAKEN_AT = 1_700_000_000.0


# A suite that a shell runs in the background inherits an ignored SIGINT, and so would every program that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


# How long an example takes, and how long it takes to draw one, is the machine's affair.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the expected outputs in tests/golden")
    parser.addoption("--no-skips", action="store_true", help="a skipped test is a failed one: for CI, which has it all")


def pytest_itemcollected(item: pytest.Item) -> None:
    """What stands in these folders starts programs, so all of it is marked as such before any is chosen by its mark."""
    if item.path.is_relative_to(TESTS / "e2e") or item.path.is_relative_to(TESTS / "machine"):
        item.add_marker(pytest.mark.e2e)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: at the end, one worker would have it while the others have nothing to do."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


class _Scheduler(LoadScopeScheduling):
    """Gives a test to whichever worker is free, and to one worker those that share a machine or a scraped lab.

    xdist's own groups, those of ``--dist loadgroup``, are written where pytest 9.2 does not look for them.
    """

    def _split_scope(self, nodeid: str) -> str:
        module, _, name = nodeid.partition("::")
        if module.startswith("tests/machine/"):
            return f"{module} {name.partition('[')[2]}"  # the Debian
        return module if module == "tests/grafana/test_panels.py" else nodeid

    def _reschedule(self, node: WorkerController) -> None:
        """Give *node* no more than the test after the one that it runs: what waits behind a long one, waits in vain."""
        if not self.workqueue or self._pending_of(self.assigned_work[node]) < _MOST_PENDING:
            super()._reschedule(node)


_MOST_PENDING = 2  # a worker runs a test once it knows the next one


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _Scheduler:
    return _Scheduler(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and --no-skips is given: {report.longrepr}"
    return report


def situation_root(name: str) -> str:
    """Where the situation's procfs is, as a path from the repository's root: messages that quote it are goldens."""
    return os.path.relpath(TESTS / "fixtures" / "proc" / name)


def judge_situation(name: str) -> Health:
    """The health of the situation where it was the same ten seconds ago and nothing is expected of its sysctls."""
    snapshot = sample_situation(name)
    past = (snapshot._replace(taken_at=snapshot.taken_at - 10),)
    judge = Judge(Procfs(situation_root(name)).release())
    return judge.judge(Window(snapshot, past), DEFAULTS, NO_EXPECTATIONS)


def judged(
    snapshot: Snapshot,
    *past: Snapshot,
    thresholds: Mapping[str, Threshold] = DEFAULTS,
    expected: Expectations = NO_EXPECTATIONS,
) -> Health:
    """The health of *snapshot*, after those of the *past*."""
    return Judge("6.18.44").judge(Window(snapshot, past), thresholds, expected)


def with_findings(health: Health, *findings: Finding) -> Health:
    """*health*, where exactly these findings were found."""
    worst = max((*(it.severity for it in findings), health.status), key=SEVERITY.index)
    judgements = tuple(Judgement(it.name, it.severity, it) for it in findings)
    return health._replace(status=worst, judgements=judgements)


def sample_situation(name: str) -> Snapshot:
    """Sample the tree of a situation with the procfs reader, as the programs do."""
    procfs = Procfs(situation_root(name))
    trust = Trust("6.18.44")
    sampler = Sampler(procfs, [ProcfsReader(procfs)], trust, lambda: 0.0)
    counted = sampler.count()
    sysctls, problem = sampler.sysctls()
    detail = None
    with contextlib.suppress(SourceError):
        detail = Detailer(procfs, [ProcfsReader(procfs)], trust).detail(Wanted(), TAKEN_AT)
    return assemble(counted, sysctls, problem, taken_at=TAKEN_AT, page_size=4096, detail=detail)


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages name files from the repository's root, whatever folder pytest was started in."""
    monkeypatch.chdir(TESTS.parent)


@pytest.fixture
def lab() -> Iterator[LabProcess]:
    """A fresh network namespace to put sockets into."""
    try:
        with LabProcess() as process:
            yield process
    except LabUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the golden of the given name."""

    def compare(name: str, actual: str) -> None:
        path = TESTS / "golden" / name
        if request.config.getoption("--update-golden"):
            path.write_text(actual, encoding="utf-8")
        assert actual == path.read_text(encoding="utf-8")

    return compare
