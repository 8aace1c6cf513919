"""``make fuzz``: searches every target for a while and prints what was tried.

``python -m tests.fuzz [-s SECONDS] [--output FILE] [TARGET]...`` An input that fails is put into the corpus, where the
tests find it from then on. Where targets are named, FILE keeps the results of the others.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.targets import CORPUS, TARGETS

_TRIED = re.compile(r"stat::number_of_executed_units: +(\d+)")
_GRACE = 120.0  # seconds beyond the search, for the start and for one input that takes long


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 where an input failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", "-s", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--output", type=Path, help="write the results as JSON to this file")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    options = parser.parse_args(arguments)
    if unknown := sorted({*options.targets} - {*TARGETS}):
        parser.error(f"unknown target {unknown[0]!r}: expected one of {', '.join(TARGETS)}")
    engine = "atheris" if importlib.util.find_spec("atheris") else "mutation"
    print(f"{'TARGET':<16}{'INPUTS':>12}{'SECONDS':>10}{'FAILURES':>10}   by {engine}", flush=True)
    results = {}
    for name in options.targets or TARGETS:
        began = time.monotonic()
        tried, failures, said = search(name, options.seconds)
        seconds = round(time.monotonic() - began)
        print(f"{name:<16}{tried:>12,}{seconds:>10}{failures:>10}", flush=True)
        if said:
            print(said, file=sys.stderr)
        results[name] = {"inputs": tried, "seconds": seconds, "failures": failures}
    failures = sum(it["failures"] for it in results.values())
    print(f"{'all':<16}{sum(it['inputs'] for it in results.values()):>12,}{'':>10}{failures:>10}")
    if options.output:
        kept = json.loads(options.output.read_text("utf-8"))["targets"] if options.targets else {}
        found = {name: it for name in TARGETS if (it := results.get(name) or kept.get(name))}
        options.output.write_text(json.dumps({"engine": engine, "targets": found}, indent=2) + "\n", "utf-8")
    return 1 if failures else 0


def search(name: str, seconds: int) -> tuple[int, int, str]:
    """How many inputs were tried, how many failed (the first ends the search), and what was said of that."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.fuzz.engine", name, str(seconds), folder]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=False, timeout=seconds + _GRACE
            )
            code, said = done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired as hung:
            code, said = -1, f"no end within {hung.timeout:g} s"
        found = [*Path(folder).glob("*-*")]
        for path in found:
            (CORPUS / name / f"found-{path.name[-12:]}.hex").write_text(f"{path.read_bytes().hex()}\n", "ascii")
        tried = [int(number) for number in _TRIED.findall(said)]
        failed = code != 0 or bool(found)
        lines = [line for line in said.splitlines() if not line.startswith(("INFO:", "WARNING:"))]
        return sum(tried), int(failed), "\n".join(lines)[-6000:] if failed else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
