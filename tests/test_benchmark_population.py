"""The benchmarks' populations are what they say, by the count of the exporter's reader: results name their sizes."""

from __future__ import annotations

import json
import os
import sys

import pytest

from tests.lab import LabProcess

pytestmark = pytest.mark.lab

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

MADE = {
    "established": {"established": 300, "listen": 3},
    "client": {"established": 300, "listen": 3},
    "time_wait": {"established": 60, "time_wait": 240, "listen": 3},
    "close_wait": {"established": 60, "close_wait": 240, "listen": 3},
    "syn_flood": {"established": 270, "syn_recv": 30, "listen": 3},
}

BEGIN = """
import json
from benchmarks.population import MIXES, enter_namespace, population
from exporter.kernel.reader import NetlinkReader
from exporter.tcpstate import TcpState

def counted():
    counts, unknown = NetlinkReader().full()
    assert not unknown
    return {state.label: counts[state] for state in TcpState if counts[state]}

enter_namespace()
"""

ONE_AFTER_ANOTHER = """
seen = {}
for mix in MIXES:
    with population(mix, 300) as filled:
        seen[mix] = dict(filled.made), counted(), filled.size
    seen[mix] += counted(),
print(json.dumps(seen))
"""


def run(lab: LabProcess, script: str) -> str:
    done = lab.run([sys.executable, "-c", BEGIN + script], cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_each_mix_is_what_it_says_and_nothing_of_it_is_left_for_the_next_in_the_same_namespace(lab: LabProcess) -> None:
    seen = json.loads(run(lab, ONE_AFTER_ANOTHER))
    assert seen == {mix: [made, made, 300, {}] for mix, made in MADE.items()}
