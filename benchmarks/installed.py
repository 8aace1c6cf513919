"""The program as pip installs it: what the daemon and the plugin are measured as.

A developer's virtualenv has packages that no user has, and structlog imports some of them where they are there.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

from benchmarks.meter import ROOT, run


@cache
def virtualenv(folder: str) -> str:
    """The folder bin of a virtualenv below *folder* with the wheel and what it needs, made once."""
    wheels, environment = os.path.join(folder, "wheel"), os.path.join(folder, "virtualenv")
    run([sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", wheels])
    run([sys.executable, "-m", "venv", environment])
    programs = os.path.join(environment, "bin")
    install = [os.path.join(programs, "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*install, "--require-hashes", "-r", os.path.join(ROOT, "requirements.lock")])
    run([*install, "--no-deps", "--no-index", *map(str, Path(wheels).iterdir())])
    return programs
