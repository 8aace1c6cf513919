"""The commands of docs/install.md, for the tests that follow it as a user would."""

from __future__ import annotations

import re
from pathlib import Path

INSTALL = Path(__file__).parents[2] / "docs" / "install.md"


def blocks(heading: str) -> list[list[str]]:
    """The lines of each block of commands below a heading of the second level, in their order."""
    sections = re.split(r"^## (.+)$", INSTALL.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = sections[sections.index(heading) + 1]
    return [block.splitlines() for block in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
