"""The address below which the files of this tree are found: ``project.urls.Homepage`` of pyproject.toml, once.

``manifests`` carries it to every file that names it.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
BASE: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Homepage"]

_NAMED = (
    re.compile(r"(?<=^Homepage: )\S+$", re.MULTILINE),  # debian/control
    re.compile(r"(?<=^home: )\S+$", re.MULTILINE),  # Chart.yaml
    re.compile(r'(?<=org\.opencontainers\.image\.url=")[^"]+'),  # Dockerfile
)


def named(text: str) -> set[str]:
    """The addresses that *text* names where this one belongs."""
    return {match[0] for pattern in _NAMED for match in pattern.finditer(text)}


def moved(text: str, base: str = BASE) -> str:
    """*text* with *base* in the place of the address that it names.

    >>> moved("home: https://old.example", "https://new.example")
    'home: https://new.example'
    """
    for pattern in _NAMED:
        text = pattern.sub(lambda _: base, text)
    return text
