"""Connection tracking as a source: read, missing without a word, and broken without taking another one with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.details import Conntrack
from exporter.kernel.reader import Procfs
from exporter.sampling.sources import Sources

FILES = {
    "sys/net/netfilter/nf_conntrack_count": "901\n",
    "sys/net/netfilter/nf_conntrack_max": "1000\n",
    "sys/net/netfilter/nf_conntrack_tcp_timeout_established": "432000\n",
    "net/stat/nf_conntrack": "entries insert_failed drop\n00000385 00000001 0000000a\n00000385 00000000 00000001\n",
}


def procfs(root: Path, **others: str | None) -> Procfs:
    """A procfs with FILES, some of them (by their last word) with another text, or None for missing."""
    for path, text in FILES.items():
        content = others.get(path.rpartition("/")[2], text) if path.startswith("sys") else others.get("stat", text)
        if content is not None:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(content, encoding="utf-8")
    return Procfs(str(root))


def test_entries_limit_counters_and_timeout_are_read(tmp_path: Path) -> None:
    problems: dict[str, str | None] = {}
    assert Sources(procfs(tmp_path)).conntrack(problems) == Conntrack(901, 1000, 1, 11, 432000)
    assert problems == {"conntrack": None}


def test_a_host_that_tracks_nothing_is_silent(tmp_path: Path) -> None:
    problems: dict[str, str | None] = {}
    assert Sources(Procfs(str(tmp_path))).conntrack(problems) is None
    assert problems == {}


def test_kernels_without_the_statistics_or_the_timeout_tell_the_rest(tmp_path: Path) -> None:
    problems: dict[str, str | None] = {}
    found = Sources(procfs(tmp_path, stat=None, nf_conntrack_tcp_timeout_established=None)).conntrack(problems)
    assert (found, problems) == (Conntrack(901, 1000), {"conntrack": None})


@pytest.mark.parametrize("others", [{"nf_conntrack_count": "many\n"}, {"stat": "drop\n\u202egarbage\n"}])
def test_garbage_is_a_problem_of_this_source(tmp_path: Path, others: dict[str, str | None]) -> None:
    problems: dict[str, str | None] = {}
    assert Sources(procfs(tmp_path, **others)).conntrack(problems) is None
    problem = problems["conntrack"]
    assert problem is not None
    assert "cannot read" in problem
