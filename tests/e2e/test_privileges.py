"""What each feature needs, as docs/privileges.md has it: run as uid 65534 with that, and without each part of it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import TESTS, situation_root
from tests.e2e.conftest import Daemon, anyones_folder, by_state, wait_for
from tests.e2e.test_who import hold
from tests.lab import LabProcess

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.getuid() != 0, reason="only root becomes a user with capabilities"),
]

NOBODY = 65534
DEPENDENCIES = ("h11", "prometheus_client", "psutil", "structlog", "yaml", "bcrypt")
NAMESPACES = """
import json
from exporter.kernel.netnsfs import Namespaces
from exporter.tcpstate import KNOWN_STATES
print(json.dumps([{state.label: it.counts[state] for state in KNOWN_STATES} for it in Namespaces().count()]))
"""


class Row(NamedTuple):
    feature: str
    capabilities: frozenset[str]


def table() -> list[Row]:
    """The rows of the document's first table."""
    text = (TESTS.parent / "docs" / "privileges.md").read_text(encoding="utf-8").partition("## What an environment")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    return [Row(feature, frozenset(re.findall(r"CAP_(\w+)", needs))) for feature, needs, _ in cells[2:]]


class Nobody:
    """Programs in a lab's namespace, run by uid 65534 with some capabilities, or by root."""

    def __init__(self, python: str, lab: LabProcess, capabilities: frozenset[str] | None, folder: Path) -> None:
        self.python = python
        self.lab = lab
        self.folder = folder
        self.capabilities = capabilities  # None: root

    def root(self) -> Nobody:
        return Nobody(self.python, self.lab, None, self.folder)

    def under(self, command: list[str]) -> list[str]:
        if self.capabilities is None:
            return command
        sets = ",".join(["-all", *(f"+{name.lower()}" for name in sorted(self.capabilities))])
        return [
            "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs",
            f"--bounding-set={sets}", f"--inh-caps={sets}", f"--ambient-caps={sets}", *command,
        ]  # fmt: skip

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.lab.run(self.under([self.python, *arguments]), cwd="/")

    def says(self, *arguments: str) -> str:
        done = self.run("-m", "exporter", *arguments)
        assert done.stderr == ""
        return done.stdout

    def dump(self) -> dict[str, object]:
        document = json.loads(self.says("dump", "--format", "json"))
        document["detail"].pop("taken_at")
        assert isinstance(document, dict)
        return document

    def detail(self) -> dict[str, object]:
        """Of the lab's sockets: those of the whole host left out."""
        found = self.dump()["detail"]
        assert isinstance(found, dict)
        return {key: value for key, value in found.items() if key != "stateless"}


def counts(nobody: Nobody) -> bool:
    document, as_root = nobody.dump(), nobody.root().dump()
    assert isinstance(document["counters"], dict)
    assert isinstance(as_root["counters"], dict)
    return (
        (document["connections"], document["reader"]) == (nobody.lab.expected(), "netlink")
        and document["counters"].keys() == as_root["counters"].keys() != set()
        and document["sockstat"] is not None
        and down(document) == set()
    )


def down(document: dict[str, object]) -> set[str]:
    """The sources that failed."""
    sources = document["sources"]
    assert isinstance(sources, list)
    return {it["source"] for it in sources if it["problem"] is not None}


def listeners(nobody: Nobody) -> bool:
    found = nobody.dump()["listeners"]
    return bool(found) and found == nobody.root().dump()["listeners"]


def as_root(nobody: Nobody, ask: Callable[[Nobody], object]) -> bool:
    """Whether the answer is root's, asked again where ages and retries went on between one answer and the other."""
    return any(ask(nobody) == ask(nobody.root()) for _ in range(5))


def sees_every_process(nobody: Nobody) -> bool:
    """Whether sockets in no state are counted; they are the whole host's, so the number is another at each look."""
    found = nobody.dump()["detail"]
    assert isinstance(found, dict)
    return found["stateless"] is not None


def detail(nobody: Nobody) -> bool:
    return as_root(nobody, lambda it: it.detail())


def units(nobody: Nobody) -> bool:
    found = nobody.dump()["detail"]["units"]  # type: ignore[index]
    if found is None:
        pytest.skip("no cgroup v2 here")
    return bool(found == nobody.root().dump()["detail"]["units"])  # type: ignore[index]


MEMORY = """
from exporter.kernel.cgroupfs import Cgroups
from exporter.kernel.derivation import Trust
from exporter.kernel.reader import NetlinkReader, Procfs
from exporter.sampling.detailer import Detailer, Wanted
detailer = Detailer(Procfs(), [NetlinkReader()], Trust("6.18"), Cgroups())
print(detailer.detail(Wanted(memory=True, stateless=False), 0.0).memory)
"""


def quality(nobody: Nobody) -> bool:
    def sockets(it: Nobody) -> object:
        found = it.detail()["quality"]
        return found and (found["problem"], {port: of["sockets"] for port, of in found["ports"].items()})  # type: ignore[index]

    return as_root(nobody, sockets) and sockets(nobody) not in (None, (None, {}))


def memory(nobody: Nobody) -> bool:
    return as_root(nobody, lambda it: it.run("-c", MEMORY).stdout) and "ports=" in nobody.run("-c", MEMORY).stdout


def sysctls(nobody: Nobody) -> bool:
    def advice(it: Nobody) -> dict[str, object]:
        document: dict[str, object] = json.loads(it.says("advise", "--json", "--all", "--interval", "0"))
        findings = document["findings"]
        assert isinstance(findings, list)
        of_the_lab = [it for it in findings if it["name"] != "descriptor_leak"]
        return {key: value for key, value in document.items() if key != "taken_at"} | {"findings": of_the_lab}

    return (
        as_root(nobody, advice)
        and sees_every_process(nobody)
        and nobody.dump()["sysctls"] == nobody.root().dump()["sysctls"]
    )


def plugin(nobody: Nobody) -> bool:
    arguments = ("-c", "from exporter.nagios.check import main; main()", "-s", "total", "-v")
    return nobody.run(*arguments).stdout == nobody.root().run(*arguments).stdout != ""


def who_by(nobody: Nobody) -> bool:
    return as_root(
        nobody,
        lambda it: [
            it.says("who", "--by", by, *memory)
            for by in ("unit", "port", "remote")
            for memory in ((), ("--by-memory",))
        ],
    )


def who(nobody: Nobody) -> bool:
    with LabProcess() as lab:
        hold(lab, "held-by-root", 3, 8443)
        return "held-by-root (pid " in Nobody(nobody.python, lab, nobody.capabilities, nobody.folder).says("who")


LEAK = """
import socket, struct, time
listening = socket.create_server(("127.0.0.1", 8444))
held = []
for _ in range(20):
    peer = socket.create_connection(("127.0.0.1", 8444))
    held.append(listening.accept()[0])
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
print("leaked", flush=True)
time.sleep(3600)
"""


def who_leaked(nobody: Nobody) -> bool:
    with LabProcess() as lab:
        leaking = lab.popen([sys.executable, "-c", LEAK], stderr=None)
        assert leaking.stdout is not None
        assert leaking.stdout.readline() == "leaked\n"
        asking = Nobody(nobody.python, lab, nobody.capabilities, nobody.folder)
        return f"(pid {leaking.pid})" in asking.run("-m", "exporter", "who", "leaked").stdout


def found_by_namespace(nobody: Nobody) -> list[dict[str, int | None]]:
    answer = json.loads(nobody.run("-c", NAMESPACES).stdout)
    assert isinstance(answer, list)
    return answer


def small_namespaces(nobody: Nobody) -> bool:
    with LabProcess() as other:
        other.make({"established": 17, "close_wait": 5, "syn_recv": 3, "time_wait": 2})
        return other.expected() in found_by_namespace(nobody)


def large_namespaces(nobody: Nobody) -> bool:
    with LabProcess() as other:
        other.establish(2345)
        other.make({"close_wait": 5, "syn_recv": 3})
        expected, found = other.expected(), found_by_namespace(nobody)
        known = [{state: it for state, it in counted.items() if it is not None} for counted in found]
        assert [it for it in known if it.items() <= expected.items()] != []  # what is told is true, and nothing is 0
        return expected in found


def output(nobody: Nobody) -> bool:
    target = nobody.folder / "textfile" / "tcp.prom"
    target.parent.mkdir()
    refused = nobody.run("-m", "exporter", "dump", "--output", str(target))
    assert (refused.returncode, refused.stderr) == (1, f"tcp-exporter: cannot write {target}: Permission denied\n")
    os.chown(target.parent, NOBODY, NOBODY)
    nobody.says("dump", "--output", str(target))
    return 'tcp_connections{state="established"}' in target.read_text() and os.listdir(target.parent) == ["tcp.prom"]


def low_port(nobody: Nobody) -> bool:
    log = nobody.folder / "log"
    program = [nobody.python, "-P", "-m", "exporter"]
    try:
        with Daemon(
            log, "--web.listen-address", "127.0.0.1:80", lab=nobody.lab, under=nobody.under, program=program
        ) as daemon:
            return daemon.ready().port > 0
    except AssertionError:
        assert log.read_text() == "tcp-exporter: cannot listen on 127.0.0.1:80: Permission denied\n"
        return False


def closes(nobody: Nobody) -> bool:
    configuration = nobody.folder / "closes.yml"
    configuration.write_text("detail: {interval: 1s, closes: true}\n")
    configuration.chmod(0o644)
    program = [nobody.python, "-P", "-m", "exporter"]
    with Daemon(
        nobody.folder / "log", f"--config={configuration}", lab=nobody.lab, under=nobody.under, program=program
    ) as daemon:
        ended = re.compile(r'closed_connections_total{port="other"} [1-9]')
        return bool(wait_for(lambda: ended.search(daemon.get("/metrics")[1]), "a scrape's connection that ended"))


CHECKS: dict[str, Callable[[Nobody], bool]] = {
    "counts by state, peaks, counters, limits and saturations": counts,
    "listeners, their queues and half-open connections": listeners,
    "counts by family and port, bytes in queues, ephemeral ports": detail,
    "counts by systemd unit or container": units,
    "round trips, idle ages and what limits connections, by port": quality,
    "buffer memory by port, systemd unit or container": memory,
    "sysctls, `advise`, thresholds and findings": sysctls,
    "`check_tcp_states`, by NRPE too": plugin,
    "`who --by unit`, `port` or `remote`, with `--by-memory` too": who_by,
    "`who`, of other users' processes": who,
    "`who leaked`, of other users' processes": who_leaked,
    "`leaked_descriptors` and the finding `descriptor_leak`": sees_every_process,
    "`detail.closes`, how connections ended": closes,
    "`detail.namespaces`, of namespaces with up to 2,000 sockets": small_namespaces,
    "`detail.namespaces`, of larger ones": large_namespaces,
    "`dump --output`": output,
    "a listen address with a port below 1024": low_port,
}


def test_every_row_of_the_table_has_a_test() -> None:
    assert [row.feature for row in table()] == list(CHECKS)


@pytest.mark.parametrize("row", table(), ids=lambda row: row.feature)
def test_a_feature_needs_what_the_table_says_and_all_of_it(
    row: Row, populated: LabProcess, anyones_program: str, folder: Path
) -> None:
    check = CHECKS[row.feature]
    assert check(Nobody(anyones_program, populated, row.capabilities, folder))
    for missing in row.capabilities:
        assert not check(Nobody(anyones_program, populated, row.capabilities - {missing}, folder))


def test_the_daemon_of_nobody_serves_everything_and_misses_nothing(
    populated: LabProcess, anyones_program: str, folder: Path
) -> None:
    nobody = Nobody(anyones_program, populated, frozenset(), folder)
    program = [nobody.python, "-P", "-m", "exporter"]
    with Daemon(folder / "log", lab=populated, under=nobody.under, program=program) as daemon:
        metrics = daemon.ready().metrics()
        assert {series: value for series, value in metrics.items() if "source_up" in series and value != 1} == {}
        assert by_state(metrics)["syn_recv"] == populated.expected()["syn_recv"]
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        assert re.findall(r"^(?:Uid|Cap(?:Prm|Eff|Bnd|Amb)):\t(\w+)", status, re.MULTILINE) == [
            "65534",
            *["0" * 16] * 4,
        ]


def test_the_key_of_fast_open_is_never_opened(tmp_path: Path) -> None:
    root = tmp_path / "proc"
    shutil.copytree(situation_root("busy"), root)
    key = root / "sys" / "net" / "ipv4" / "tcp_fastopen_key"
    key.unlink(missing_ok=True)
    os.mkfifo(key)  # an open never returns
    for code, command in ((0, ["dump"]), (0, ["show"]), (2, ["advise", "--all", "--interval", "0"])):  # 2: no rates
        done = subprocess.run(
            [sys.executable, "-m", "exporter", *command, "--path.procfs", str(root)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr, "fastopen_key" in done.stdout) == (code, "", False)


# -- places ------------------------------------------------------------------------------------------------------------

HIDDEN = 'mount -t proc -o hidepid=invisible proc /proc && exec "$@"'
ONLY_PROCESSES = 'mount -t proc -o subset=pid proc /proc && exec "$@"'
PLAIN = 'exec "$@"'


class Place(Nobody):
    """Somewhere less is to be seen."""

    script = PLAIN
    unshared: tuple[str, ...] = ("--mount", "--pid", "--fork", "--mount-proc", "--kill-child")

    def under(self, command: list[str]) -> list[str]:
        return ["unshare", *self.unshared, "sh", "-c", self.script, "sh", *super().under(command)]


class Hiding(Place):
    script = HIDDEN
    unshared = ("--mount",)


class OnlyProcesses(Place):
    script = ONLY_PROCESSES


@pytest.mark.alone
@pytest.mark.parametrize("kind", [Place, Hiding])
def test_without_the_hosts_processes_all_is_counted_and_no_other_namespace_is(
    populated: LabProcess, anyones_program: str, folder: Path, kind: type[Place]
) -> None:
    place = kind(anyones_program, populated, frozenset(), folder)
    assert (counts(place), listeners(place)) == (True, True)
    assert detail(place)
    assert (sees_every_process(place), sees_every_process(place.root())) == (False, True)
    with LabProcess() as other:
        other.establish(17)
        assert [it["established"] for it in found_by_namespace(place)] == [populated.expected()["established"]]


def test_with_only_processes_in_procfs_netlink_counts_and_the_rest_is_absent(
    populated: LabProcess, anyones_program: str, folder: Path
) -> None:
    place = OnlyProcesses(anyones_program, populated, frozenset(), folder)
    document = place.dump()
    assert (document["connections"], document["reader"]) == (populated.expected(), "netlink")
    assert (document["counters"], document["sysctls"], document["sockstat"]) == ({}, {}, None)
    assert down(document) == {"snmp", "sockstat", "netstat", "sysctl"}


@pytest.fixture
def folder() -> Iterator[Path]:
    with anyones_folder() as path:
        yield path


@pytest.fixture(scope="session")
def anyones_program(anyones_python: str) -> str:
    """The Python that any user may run, with this package and what it depends on."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    (site,) = Path(anyones_python).parents[1].glob("lib/python*/site-packages")
    for name in DEPENDENCIES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            shutil.copytree(Path(spec.origin).parent, site / name, dirs_exist_ok=True)
    if subprocess.run([anyones_python, "-c", "import psutil"], check=False).returncode != 0:
        pytest.skip("psutil was built for another Python than the one that any user may run")
    return anyones_python
