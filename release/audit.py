"""``python -m release.audit [--required] LOCK...``: the known vulnerabilities of what the lock files name.

pip-audit asks a service for them. It exits with 0 for a package that it could not look up, and that is not an answer:
here such a package is reported in one line, and with ``--required`` it is a failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Verdict(NamedTuple):
    """The vulnerabilities, one line each, and the packages that were not looked up, or why none was."""

    vulnerable: tuple[str, ...]
    unknown: str


def judge(answer: str, complaint: str) -> Verdict:
    r"""The verdict of pip-audit's standard output, which is JSON, and its standard error.

    >>> judge("", "WARNING:...\nERROR:pip_audit._cli:no route to host")
    Verdict(vulnerable=(), unknown='no route to host')
    """
    try:
        dependencies = json.loads(answer)["dependencies"]
    except ValueError:
        last = complaint.strip().rpartition("\n")[2]
        return Verdict((), last.removeprefix("ERROR:pip_audit._cli:") or "pip-audit printed nothing")
    vulnerable = tuple(
        f"{it['name']} {it['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'no version'}"
        for it in dependencies
        for found in it.get("vulns", ())
    )
    skipped = [it["name"] for it in dependencies if "skip_reason" in it]
    unknown = f"{len(skipped)} of {len(dependencies)} packages: {', '.join(skipped)}" if skipped else ""
    return Verdict(vulnerable, unknown)


def main(arguments: list[str]) -> int:
    """0 for no known vulnerability, 1 for one, or with ``--required`` where the data could not be had."""
    required, locks = "--required" in arguments, [it for it in arguments if it != "--required"]
    command = [str(Path(sys.executable).with_name("pip-audit")), "--require-hashes", "--disable-pip", "--format=json"]
    command += ["--progress-spinner=off", *(f"--requirement={lock}" for lock in locks)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    verdict = judge(done.stdout, done.stderr)
    for line in verdict.vulnerable:
        print(f"audit: {line}")
    if verdict.unknown:
        print(f"audit: NOT AUDITED, the vulnerability data could not be had: {verdict.unknown}")
    elif not verdict.vulnerable:
        print("audit: no known vulnerability")
    return int(bool(verdict.vulnerable or (required and verdict.unknown)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
