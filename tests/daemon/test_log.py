"""The log: each event is one line that says nothing to a terminal, whatever it repeats."""

from __future__ import annotations

import io

import pytest

from exporter.daemon import log

HOSTILE = "\x1b[2J\r\nlevel=info \u2028\u202e\x9b|"


@pytest.mark.parametrize("form", ["logfmt", "json", "console"])
def test_what_an_event_repeats_says_nothing_to_a_terminal(form: str) -> None:
    stream = io.StringIO()
    logger = log.logger("info", form, stream, {"NO_COLOR": "1"})
    logger.error("configuration rejected", error=f"{HOSTILE}: cannot be read", source=HOSTILE, name="\x1b")
    [line] = stream.getvalue().splitlines()
    assert line.isprintable()
    assert "cannot be read" in line


def fail() -> None:
    raise ValueError(HOSTILE)


@pytest.mark.parametrize("form", ["logfmt", "json", "console"])
def test_an_exception_says_nothing_to_a_terminal_and_has_its_stack(form: str) -> None:
    stream = io.StringIO()
    logger = log.logger("info", form, stream, {"NO_COLOR": "1"})
    try:
        fail()
    except ValueError:
        logger.exception("request failed", path="\x1b")
    said = stream.getvalue()
    assert said.replace("\n", "").isprintable()
    assert "Traceback" in said
    assert "in fail" in said
    assert form == "console" or said.count("\n") == 1
