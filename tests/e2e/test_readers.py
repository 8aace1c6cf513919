"""Each reader against sockets that were made: every state, both families, exact numbers."""

from __future__ import annotations

import json
import sys

import pytest

from tests.e2e.conftest import PLUGIN, PROGRAM
from tests.lab import LabProcess

pytestmark = pytest.mark.lab

# Run in the lab's namespace: the counts of each reader, of the derivation, and of both kinds of netlink dump.
COUNT = """
import json, os, sys, time
from exporter.kernel import inetdiag
from exporter.kernel.reader import NetlinkReader, Procfs, ProcfsReader, PsutilReader
from exporter.kernel.derivation import Trust
from exporter.sampling.detailer import Detailer, Wanted
from exporter.sampling.sampler import Sampler
from exporter.snapshot import by_label

procfs = Procfs()
by_family = NetlinkReader()
by_family._legacy = False  # as on a kernel that refuses the legacy request
trust = Trust(os.uname().release)
sampler = Sampler(procfs, [NetlinkReader()], trust, time.monotonic)
detailer = Detailer(procfs, [NetlinkReader()], trust)
derived = sampler.count().connections
tally = NetlinkReader().collect(inetdiag.ALL_STATES, inetdiag.TallyDump).sockets
families = {
    name: by_label(inetdiag.state_counts({k: n for k, n in tally.items() if k[0] == number})[0])
    for name, number in (("ipv4", inetdiag.AF_INET), ("ipv6", inetdiag.AF_INET6))
}
print(json.dumps({
    "netlink": by_label(NetlinkReader().full()[0]),
    "netlink by family": by_label(by_family.full()[0]),
    "procfs": by_label(ProcfsReader(procfs).full()[0]),
    "psutil": by_label(PsutilReader().full()[0]),
    "derived": by_label(derived.counts),
    "is derived": derived.derived,
    "detailed": {family: by_label(n) for family, n in detailer.detail(Wanted(), 0.0).families.items()},
    "families": families,
}))
"""


def test_every_reader_and_the_derivation_count_exactly_the_sockets_that_were_made(populated: LabProcess) -> None:
    expected = populated.expected()
    done = populated.run([sys.executable, "-c", COUNT])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "netlink": expected,
        "netlink by family": expected,
        "procfs": expected,
        "psutil": expected,
        "derived": expected,
        "is derived": True,
        "detailed": populated.expected_by_family(),
        "families": populated.expected_by_family(),
    }


def test_an_unprivileged_user_counts_the_same(populated: LabProcess, anyones_python: str) -> None:
    expected = populated.expected()
    command = [anyones_python, "-c", "from exporter.nagios.check import main; main()"]
    done = populated.run(command, user=65534)
    assert (done.returncode, plugin_counts(done.stdout)) == (0, expected)


@pytest.mark.parametrize("reader", ["netlink", "procfs", "psutil"])
def test_the_plugin_counts_the_same_by_each_reader(populated: LabProcess, reader: str) -> None:
    expected = populated.expected()
    done = populated.run([*PLUGIN, "--reader", reader])
    assert (done.returncode, plugin_counts(done.stdout)) == (0, expected)


@pytest.mark.parametrize("reader", ["netlink", "procfs", "psutil"])
def test_a_dump_counts_the_same_by_each_reader(populated: LabProcess, reader: str) -> None:
    expected = populated.expected()
    done = populated.run([*PROGRAM, "dump", "--format", "json", "--reader", reader])
    assert (done.returncode, json.loads(done.stdout)["connections"]) == (0, expected)


def test_ten_thousand_connections_more_are_counted_without_copying_them(populated: LabProcess) -> None:
    populated.establish(10_000)
    expected = populated.expected()
    done = populated.run([*PLUGIN, "-vv", "-c", "0"])
    assert (done.returncode, plugin_counts(done.stdout)) == (2, expected)
    how = "TIME-WAIT, and ESTABLISHED above 1,000 while few change, from the kernel's counters"
    assert f"read by netlink: {how}" in done.stdout


def plugin_counts(output: str) -> dict[str, int]:
    """The performance data of the plugin's first line."""
    data = output.splitlines()[0].partition(" | ")[2]
    return {label: int(value.split(";")[0]) for label, value in (item.split("=") for item in data.split())}
