"""Each reader against sockets that were made, what CurrEstab means here, and the programs that show the counts."""

from __future__ import annotations

import json
import os
import socket
import time

from exporter.kernel import inetdiag
from exporter.kernel.derivation import Meaning, Trust
from exporter.kernel.reader import NetlinkReader, Procfs, ProcfsReader, PsutilReader
from exporter.sampling.detailer import Detailer, Wanted
from exporter.sampling.sampler import Sampler
from exporter.snapshot import by_label
from tests.kernels.guest.conftest import Note
from tests.kernels.guest.here import Here
from tests.lab import KINDS

BOTH = ((1, socket.AF_INET), (3, socket.AF_INET6))


def populate(here: Here) -> None:
    """Every kind of socket, in numbers that differ, both families."""
    for offset, family in BOTH:
        here.make({kind: offset + position % 4 for position, kind in enumerate(KINDS)}, family)


def test_every_reader_counts_exactly_the_sockets_that_were_made(here: Here, note: Note) -> None:
    populate(here)
    expected = here.expected()
    procfs, by_family = Procfs(), NetlinkReader()
    by_family._legacy = False  # as on a kernel that refuses the legacy request
    tally = NetlinkReader().collect(inetdiag.ALL_STATES, inetdiag.TallyDump).sockets
    families = {
        name: by_label(inetdiag.state_counts({k: n for k, n in tally.items() if k[0] == number})[0])
        for name, number in (("ipv4", inetdiag.AF_INET), ("ipv6", inetdiag.AF_INET6))
    }
    detail = Detailer(procfs, [NetlinkReader()], Trust(os.uname().release)).detail(Wanted(), 0.0)
    assert {
        "netlink": by_label(NetlinkReader().full()[0]),
        "netlink by family": by_label(by_family.full()[0]),
        "procfs": by_label(ProcfsReader(procfs).full()[0]),
        "psutil": by_label(PsutilReader().full()[0]),
        "families": families,
        "detail": {family: by_label(counts) for family, counts in detail.families.items()},
    } == {
        "netlink": expected,
        "netlink by family": expected,
        "procfs": expected,
        "psutil": expected,
        "families": here.expected_by_family(),
        "detail": here.expected_by_family(),
    }
    note("counts by netlink, procfs and psutil", "exact")


def test_the_counts_are_derived_exactly_whatever_currestab_means(here: Here, note: Note) -> None:
    populate(here)
    here.make({"close_wait": 40})
    here.establish(1100)
    trust = Trust(os.uname().release)
    sampler = Sampler(Procfs(), [NetlinkReader()], trust, time.monotonic)
    samples = [sampler.count().connections for _ in range(3)]
    assert [sample and (by_label(sample.counts), sample.derived) for sample in samples] == [(here.expected(), True)] * 3
    note("counts", "derived, exact")
    meanings = {Meaning.ESTABLISHED: "ESTABLISHED", Meaning.ESTABLISHED_AND_CLOSE_WAIT: "ESTABLISHED and CLOSE-WAIT"}
    assert trust.meaning is not None
    note("CurrEstab counts", meanings[trust.meaning])


def test_the_programs_show_the_sockets_that_were_made(here: Here) -> None:
    populate(here)
    expected = here.expected()
    shown = json.loads(here.run(["tcp-exporter", "show", "--json"]).stdout)
    assert (shown["connections"], shown["reader"], shown["derived"]) == (expected, "netlink", True)
    checked = here.run(["check_tcp_states"])
    data = dict(item.split("=") for item in checked.stdout.splitlines()[0].partition(" | ")[2].split())
    assert (checked.returncode, {name: int(value.partition(";")[0]) for name, value in data.items()}) == (0, expected)
    dumped = here.run(["tcp-exporter", "dump", "--format", "json"])
    assert json.loads(dumped.stdout)["connections"] == expected
