"""What the catalogue, the counters and the arithmetic claim, held against this kernel."""

from __future__ import annotations

import errno
import re
import time

from exporter.health.sysctls.arithmetic import syn_sent
from exporter.kernel.catalogue import CATALOGUE, TEXT, Sysctl
from exporter.kernel.reader import Procfs
from exporter.kernel.sysctl import is_secret, parse
from exporter.prometheus.counters import COUNTERS
from tests.kernels.guest.conftest import Note
from tests.kernels.guest.here import run
from tests.situations.world import World, release

# Mainline releases that brought counters; the others are older than any kernel that is booted.
SINCE = {
    "TcpExt.TCPMigrateReqSuccess": (5, 14),
    "TcpExt.TCPMigrateReqFailure": (5, 14),
    "TcpExt.TSEcrRejected": (6, 14),
    "TcpExt.PAWSOldAck": (6, 14),
    "TcpExt.PAWSTimewait": (6, 15),
    "TcpExt.BeyondWindow": (6, 17),
}
UNTIL = {"TcpExt.PAWSPassive": (4, 11)}  # went with tcp_tw_recycle
# Kernels that have a default of a later release: their numbers in the stable series are not in uname's.
BACKPORTED_DEFAULTS = {"tcp_fastopen_blackhole_timeout_sec": ((5, 10), "0")}


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


def default_here(sysctl: Sysctl) -> str | None:
    """The catalogue's default for this kernel; None where it says none that is a number."""
    now = release()
    backported = BACKPORTED_DEFAULTS.get(sysctl.name)
    if backported is not None and backported[0] == now:
        return backported[1]
    text = sysctl.default.replace(" at most", "")
    words, _, rest = text.partition(" (")
    change = re.fullmatch(r"(\d+) (before|from) (\d+\.\d+)\)", rest)
    value = words.split()
    if change is not None and (now < version(change[3])) == (change[2] == "before"):
        value[-1] = change[1]
    return " ".join(value) if value and all(re.fullmatch(r"-?\d+", word) for word in value) else None


def test_every_sysctl_of_the_kernel_is_in_the_catalogue(note: Note) -> None:
    names = set(Procfs().sysctl_names())
    note("`net.ipv4.tcp_*` sysctls", len(names))
    assert names - set(CATALOGUE) == set()


def test_every_sysctl_that_the_catalogue_dates_to_this_kernel_is_there(note: Note) -> None:
    names, now = set(Procfs().sysctl_names()), release()
    known = [it for it in CATALOGUE.values() if "." not in it.name and not it.vendor]
    early = [it for it in known if it.name in names and version(it.since) > now]
    note("of them backports", ", ".join(f"`{it.name}` ({it.since})" for it in early) or "none")
    expected = {it.name for it in known if version(it.since) <= now and not (it.until and version(it.until) < now)}
    assert expected - names == set()
    assert {it.name for it in known if it.name in names and it.until and version(it.until) < now} == set()


def test_every_default_is_the_catalogues(note: Note) -> None:
    procfs = Procfs()
    found = {}
    for name in procfs.sysctl_names():
        entry = CATALOGUE[name]
        wanted = default_here(entry)
        if wanted is not None and not is_secret(name) and entry.kind != TEXT:
            numbers = " ".join(str(number) for _, number in parse(name, procfs.sysctl(f"net/ipv4/{name}")).fields)
            found[name] = numbers, wanted
    note("defaults that are the catalogue's", len(found))
    assert {name: pair for name, pair in found.items() if pair[0] != pair[1]} == {}


def test_every_counter_of_this_kernel_or_older_ones_is_there(world: World, note: Note) -> None:
    present = world.counters()
    absent = [it.field for it in COUNTERS if it.field not in present]
    note("counters that it lacks", ", ".join(name.partition(".")[2] for name in absent) or "none")
    expected = [it for it in COUNTERS if SINCE.get(it.field, (0, 0)) <= release() <= UNTIL.get(it.field, release())]
    assert [it.field for it in expected if it.field in absent] == []


def test_a_host_that_nobody_has_touched_is_healthy_and_deviates_in_nothing(note: Note) -> None:
    advice = run("tcp-exporter", "advise", "--interval", "200ms")
    show = run("tcp-exporter", "show")
    check = run("check_tcp_states", "-vv", "-s", "all")
    assert (advice.returncode, advice.stderr) == (0, ""), advice.stdout + advice.stderr
    assert (show.returncode, show.stderr) == (0, ""), show.stdout + show.stderr
    assert (check.returncode, check.stderr) == (0, ""), check.stdout + check.stderr
    note("`show`, `check_tcp_states` and `advise` on an untouched host", "no finding, no deviation")


def test_a_limit_of_time_wait_from_an_old_page_deviates() -> None:
    # A kernel without tcp_ehash_entries has tcp_max_orphans, which a child namespace lacks: so on the host itself.
    path = "/proc/sys/net/ipv4/tcp_max_tw_buckets"
    with open(path, encoding="ascii") as file:
        before = file.read()
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write("5000")
        told = run("tcp-exporter", "advise", "--interval", "200ms").stdout
    finally:
        with open(path, "w", encoding="ascii") as file:
            file.write(before)
    assert "net.ipv4.tcp_max_tw_buckets = 5000: recommended is at least " in told


def test_connect_gives_up_when_the_arithmetic_says_so(world: World, note: Note) -> None:
    world.sysctl("net.ipv4.tcp_syn_retries", 1)
    linear = int(world.lab.sysctl("net.ipv4.tcp_syn_linear_timeouts")) if release() >= (6, 5) else 0
    predicted, syns = syn_sent(1, linear)
    before = world.counters()["Tcp.OutSegs"] + world.counters()["Tcp.RetransSegs"]
    with world.socket() as client:
        begin = time.monotonic()
        code = client.connect_ex(("192.0.2.99", 7))  # a peer on the wire that never answers
        seconds = time.monotonic() - begin
    sent = world.counters()["Tcp.OutSegs"] + world.counters()["Tcp.RetransSegs"] - before
    note("connect() with `tcp_syn_retries = 1`", f"{predicted:g} s, {syns} SYNs")
    assert errno.errorcode[code] == "ETIMEDOUT"
    assert sent == syns, f"{sent} SYNs in {seconds:.1f} s, where {syns} and {predicted:g} s were predicted"
    others = [syn_sent(retries, some)[0] for retries in range(6) for some in (0, 4)]
    assert min(others, key=lambda it: abs(it - seconds)) == predicted, f"{seconds:.1f} s, predicted {predicted:g} s"
