"""A guest: qemu without KVM, from power-on to the last of its results.

It has no network, no disk and one processor: where a kernel patches its own code, a second one may trap on the half of
it in qemu 7.2 (``Oops: int3``). Its first serial line is its console, which is kept as a file. On the second it writes
a line of JSON for each check, so that a guest that hangs has told what it did before.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.kernels.image import Bootable

MEMORY_MEGABYTES = 5120  # from 4 GB on the defaults of buffers are the largest; the host gives what the guest touches
SECONDS = 1800.0  # a guest takes minutes: only one that hangs reaches it
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Outcome(NamedTuple):
    """What one check came to."""

    check: str
    problem: str  # "" where it passed
    facts: dict[str, str]  # what it saw, by the name of the fact
    seconds: float


class Told(NamedTuple):
    """What a guest told until its end."""

    outcomes: tuple[Outcome, ...]
    problem: str  # why it told no more; "" where it ended by itself after its last check


def boot(what: Bootable, log: Path) -> Told:
    """Boot and wait for the end."""
    with tempfile.TemporaryDirectory() as folder:
        archive, results = Path(folder, "archive"), Path(folder, "results")
        with archive.open("wb") as stream:
            for part in what.archives:
                stream.write(part.read_bytes())
        results.touch()
        command = [
            "qemu-system-x86_64", "-accel", "tcg", "-m", str(MEMORY_MEGABYTES), "-smp", "1", "-nographic",
            "-no-reboot", "-nic", "none", "-monitor", "none", "-kernel", str(what.kernel), "-initrd", str(archive),
            "-append", "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off tsc=reliable",
            "-chardev", f"file,id=console,path={log}", "-serial", "chardev:console",
            "-chardev", f"file,id=results,path={results}", "-serial", "chardev:results",
        ]  # fmt: skip
        problem = ""
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
            )
            if done.returncode:
                problem = f"qemu ended with {done.returncode}: {done.stderr.strip()[-500:]}"
        except subprocess.TimeoutExpired:
            problem = f"did not end within {SECONDS:g} s"
        lines = results.read_text(encoding="utf-8", errors="replace").splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    outcomes = tuple(Outcome(**line) for line in told if "check" in line)
    if not problem and not any("end" in line for line in told):
        problem = "ended before its last check"
    if problem:
        console = _ESCAPES.sub("", log.read_text(encoding="utf-8", errors="replace")) if log.exists() else ""
        problem += f"; its console says: {console[-1500:]}"
    return Told(outcomes, problem)
