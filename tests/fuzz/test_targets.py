"""Every target over its corpus, and over mutants of it that are the same at each run. ``make fuzz`` goes further."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from tests.fuzz.mutation import mutants
from tests.fuzz.targets import TARGETS, corpus

MUTANTS = 1000
LENGTH = 4096


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_of_the_corpus_and_no_mutant_of_one_breaks_the_promise(name: str) -> None:
    target, seeds = TARGETS[name], corpus(name)
    assert seeds, f"tests/fuzz/corpus/{name} has no inputs"
    for data in (*seeds, *islice(mutants(seeds, Random(name)), MUTANTS)):
        try:
            target(data[:LENGTH] if data not in seeds else data)
        except BaseException as error:
            error.add_note(f"the input of {name} that failed, in hexadecimal: {data[:LENGTH].hex()}")
            raise
