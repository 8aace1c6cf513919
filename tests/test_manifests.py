"""What is generated in deploy is what `make golden` writes, and the project's address is one setting."""

from __future__ import annotations

import subprocess

import pytest

from release import address, manifests
from release.address import ROOT

TEXTS = manifests.texts()


@pytest.mark.parametrize("path", sorted(TEXTS))
def test_the_file_is_what_is_generated(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == TEXTS[path], "make golden"


def test_every_file_that_names_the_projects_address_follows_it() -> None:
    texts = {path: address.moved(text, "https://new.example") for path, text in TEXTS.items()}
    assert {found for text in texts.values() for found in address.named(text)} == {"https://new.example"}


def test_no_other_file_names_it() -> None:
    done = subprocess.run(
        ["git", "grep", "--files-with-matches", "-P", rf"\Q{address.BASE}\E(?!/docs/runbooks)"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert set(done.stdout.split()) - {"pyproject.toml"} <= TEXTS.keys()
