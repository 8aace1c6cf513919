#!/usr/bin/env python3
"""Check the subjects of commits: at most 72 characters, the part first, no full stop at the end.

    tools/commit_subjects.py main..HEAD          the commits of a range
    tools/commit_subjects.py --message FILE      the message of a commit that is being made

As a hook, from the root of a checkout: ``ln -s ../../tools/commit_msg .git/hooks/commit-msg``.
Exits with 1 when a subject is refused, and names the reason.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

LONGEST = 72
_PART = re.compile(r"[A-Za-z0-9_.,/ -]+: \S")
_BY_GIT = ("Merge ", "Revert ", "fixup! ", "squash! ", "amend! ")


def refusal(subject: str) -> str:
    """Why a subject is refused; empty where it is not.

    >>> refusal("procnet: count unknown states instead of failing")
    ''
    >>> refusal("procnet: count unknown states.")
    'ends with a full stop'
    >>> refusal("Count unknown states")
    'does not begin with its part, as in "procnet: count unknown states"'
    >>> refusal("procnet: " + 64 * "x")
    'has 73 characters, of at most 72: move the reason to the body'
    """
    if subject.startswith(_BY_GIT):
        return ""
    if len(subject) > LONGEST:
        return f"has {len(subject)} characters, of at most {LONGEST}: move the reason to the body"
    if not _PART.match(subject):
        return 'does not begin with its part, as in "procnet: count unknown states"'
    return "ends with a full stop" if subject.endswith(".") else ""


def subjects(arguments: list[str]) -> list[str]:
    """The subjects of a range of commits, or of the file of a message."""
    if arguments[:1] == ["--message"] and len(arguments) == 2:
        lines = Path(arguments[1]).read_text(encoding="utf-8").splitlines()
        return [next((line for line in lines if line.strip() and not line.startswith("#")), "")]
    if len(arguments) == 1 and not arguments[0].startswith("-"):
        command = ["git", "log", "--format=%s", arguments[0]]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    sys.exit(f"usage: {sys.argv[0]} RANGE | --message FILE")


def main() -> int:
    """Print the refused subjects, each with its reason, and return the exit code."""
    refused = [(subject, reason) for subject in subjects(sys.argv[1:]) if (reason := refusal(subject))]
    for subject, reason in refused:
        print(f"{subject}\n  {reason}", file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
