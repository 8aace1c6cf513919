"""The rules of language that a pattern can hold, over every text of the repository that a person reads.

They are those of CONTRIBUTING.md, Style. A rule that needs judgement is for a reviewer, not for this file.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import exporter
from tests.test_readme import ROOT

ENDINGS = {".md", ".py", ".yml", ".yaml", ".cfg", ".conf", ".service", ".socket", ".timer", ".js", ".1", ".5", ".8", ""}
FOLDERS = ("benchmarks", "dashboards", "debian", "deploy", "docs", "pyz", "systemd", "tests", "tools")
NOT_OURS = {"fixtures", "golden", "corpus", "__pycache__", "copyright", "changelog"}

RULES = {
    # "dropped since the queue was full" reads as a date.
    "because, not since, for a reason": r"[,;:] since (?!Linux |\d|when\b|boot\b|= |in |for "
    r"|the (sockets|daemon|first|last|start)\b|they were connected|each was connected)"
    r"|(?<!- )\bsince (an|there|both|every|no|nobody|one) "
    r"|\bsince (it|they|this|that) (is|are|has|have|does|do|would|can|cannot)\b",
    # "Who writes the file decides" makes a clause the subject.
    "anyone who, not who or whoever": r"(^|[^?] |\| |\* )Who (?!is|are)[a-z]+ [^?]*$"
    r"|\b(for|by|to|of) who (is|has|does|asks|comes|may)\b|(?<!\")\b[Ww]hoever\b",
    "complete, not come to an end": r"\b(come|comes|came) to (its|their) end\b",
    "a verb first: X shows Y, not Y says X": r"\b(are|is|do|does) says\b",
    "a word twice": r"\b(a|an|and|are|as|at|by|for|in|is|it|of|on|or|the|to|with) \1\b",
}


@cache
def texts() -> tuple[tuple[str, str], ...]:
    return tuple(_read())


def _read() -> Iterator[tuple[str, str]]:
    package = Path(exporter.__file__).parent
    roots = [*(ROOT / folder for folder in FOLDERS), package]
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    for path in [*sorted(files), *sorted(ROOT.glob("*.md")), ROOT / "Makefile", ROOT / "Dockerfile"]:
        if path.suffix in ENDINGS and not NOT_OURS & set(path.parts) and path != Path(__file__):
            base = package.parent if path.is_relative_to(package) else ROOT
            yield str(path.relative_to(base)), path.read_text(encoding="utf-8", errors="replace")


@pytest.mark.parametrize("rule", RULES)
def test_no_text_breaks_the_rule(rule: str) -> None:
    pattern = re.compile(RULES[rule])
    broken = [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert broken == []


def test_the_rules_find_what_they_are_for() -> None:
    broken = {
        "because, not since, for a reason": "SYNs were dropped, since the queue was full",
        "anyone who, not who or whoever": "Who reaches the port reads it, unless a firewall keeps others away.",
        "complete, not come to an end": "most handshakes do not come to their end",
        "a verb first: X shows Y, not Y says X": "Whose sockets they are says `tcp-exporter who`",
        "a word twice": "the state of the the socket",
    }
    assert broken.keys() == RULES.keys()
    assert [rule for rule, line in broken.items() if not re.search(RULES[rule], line)] == []


# -- commit subjects ---------------------------------------------------------------------------------------------------


def judged(subject: str, folder: Path) -> tuple[int, str]:
    message = folder / "message"
    message.write_text(f"{subject}\n\nThe reason.\n", encoding="utf-8")
    command = [sys.executable, str(ROOT / "tools" / "commit_subjects.py"), "--message", str(message)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_a_commit_has_a_short_subject_with_its_part_first(tmp_path: Path) -> None:
    assert judged("procnet: count unknown states instead of failing", tmp_path) == (0, "")
    assert judged("Merge branch 'words'", tmp_path) == (0, "")
    assert judged("p: " + 70 * "x", tmp_path)[1].endswith(
        "has 73 characters, of at most 72: move the reason to the body\n"
    )
    for refused in ("Count unknown states", "procnet: count unknown states."):
        assert judged(refused, tmp_path)[0] == 1


def test_a_range_of_commits_is_checked(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    for subject in ("part: begin", "no part", "part: end"):
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", subject], check=True)
    command = [sys.executable, str(ROOT / "tools" / "commit_subjects.py"), "HEAD~1..HEAD"]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    command[-1] = "HEAD~2..HEAD"
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "no part")
