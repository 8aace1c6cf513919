"""One target, searched for a while: by atheris, which looks where new code is reached, or by mutation alone.

A process of its own, started by ``__main__``, so that an input which takes all the memory or all the time ends this one
and is found. Prints the number of inputs that were tried, as the last line of its output.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import resource
import signal
import sys
import time
from itertools import chain
from pathlib import Path
from random import Random

from tests.fuzz.mutation import mutants

SECONDS_AN_INPUT = 30
MEMORY_MIB = 2048
MAX_LENGTH = 16384


def main(name: str, seconds: int, folder: Path) -> None:
    """Search for *seconds*; *folder* takes the input that failed, as ``crash-...``."""
    if importlib.util.find_spec("atheris") is not None:
        _by_coverage(name, seconds, folder)
    else:
        _by_mutation(name, seconds, folder)


def _by_coverage(name: str, seconds: int, folder: Path) -> None:
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["exporter", "h11", "getopt", "json", "http.client"]):
        from tests.fuzz.targets import TARGETS, corpus  # noqa: PLC0415 - inside, to be instrumented
    learnt, seeds = folder / "learnt", folder / "seeds"
    for made in (learnt, seeds):
        made.mkdir(exist_ok=True)
    for number, data in enumerate(corpus(name)):
        (seeds / str(number)).write_bytes(data)
    options = (
        f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}", f"-rss_limit_mb={MEMORY_MIB}",
        f"-timeout={SECONDS_AN_INPUT}", f"-artifact_prefix={folder}/", "-print_final_stats=1", "-verbosity=0",
    )  # fmt: skip
    atheris.Setup([name, *options, str(learnt), str(seeds)], TARGETS[name])
    atheris.Fuzz()


def _by_mutation(name: str, seconds: int, folder: Path) -> None:
    from tests.fuzz.targets import TARGETS, corpus  # noqa: PLC0415 - not before it may be instrumented

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MIB << 20, MEMORY_MIB << 20))
    target, seeds, end, tried = TARGETS[name], corpus(name), time.monotonic() + seconds, 0
    kept = folder / f"crash-{os.getpid()}"
    for data in chain(seeds, (mutant[:MAX_LENGTH] for mutant in mutants(seeds, Random()))):
        if time.monotonic() >= end:
            break
        kept.write_bytes(data)  # before it is tried: whatever it does to this process
        signal.alarm(SECONDS_AN_INPUT)
        target(data)
        tried += 1
    signal.alarm(0)
    with contextlib.suppress(FileNotFoundError):
        kept.unlink()
    print(f"stat::number_of_executed_units: {tried}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
