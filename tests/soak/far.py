"""A scraper 150 ms away, beside a flood of new silent connections: each of its scrapes succeeds.

The path is ``tests.lab.longpath``; the scraper is this module as a script in the namespace at its far end:
``python -m tests.soak.far PORT SCRAPES (http|https)``. Each scrape has a connection of its own.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.certificates import Authority
from tests.e2e.conftest import DEADLINE, Daemon, free_port
from tests.lab import LabProcess, LabUnavailable, longpath
from tests.lab.namespace import join_command
from tests.soak.flood import SOURCES

ROUND_TRIP = 0.15  # seconds
RATE = 1000  # new connections a second
_BEGUN = ", handshakes begun"
FLOODS = (*SOURCES, f"one address{_BEGUN}", f"a /64 of IPv6{_BEGUN}")
_PATH_RATE = 50e6  # bytes a second
_PATIENCE_SECONDS = 60.0  # of the scraper: it is about being let in, and the machine may be busy


class Far(NamedTuple):
    """What came of one flood."""

    scheme: str
    flood: str
    scrapes: int
    failed: tuple[str, ...]  # why
    slowest: float  # seconds
    per_second: float  # new connections of the flood, as it came to


def far(
    lab: LabProcess,
    folder: Path,
    scrapes: int,
    schemes: tuple[str, ...] = ("https", "http"),
    floods: tuple[str, ...] = FLOODS,
) -> list[Far]:
    """So many *scrapes* beside each of the *floods*, by each of the *schemes*; ``LabUnavailable`` without TUN."""
    results = []
    with _path(lab) as there:
        for scheme in schemes:
            port = free_port(lab)
            arguments = ["--web.listen-address", f"[::]:{port}"]
            if scheme == "https":
                Authority(folder, "ca").issue("server", f"IP:{longpath.NEAR}")
                (folder / "web.yml").write_text("tls_server_config: {cert_file: server.pem, key_file: server.key}\n")
                arguments += ["--web.config.file", str(folder / "web.yml")]
            with Daemon(folder / f"{scheme}.log", *arguments, lab=lab) as daemon:
                results += [_beside(lab, there, port, scrapes, scheme, flood) for flood in floods]
                assert "request failed" not in daemon.said(), daemon.said()
    return results


@contextlib.contextmanager
def _path(lab: LabProcess) -> Iterator[int]:
    """A process in the namespace at the far end."""
    script = [sys.executable, longpath.__file__, str(ROUND_TRIP / 2), str(_PATH_RATE)]
    with subprocess.Popen(
        join_command(lab.pid, script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as relay:
        assert relay.stdin is not None
        assert relay.stdout is not None
        assert relay.stderr is not None
        if relay.stdout.readline() != "ready\n":
            raise LabUnavailable(f"no TUN device for a long path: {relay.stderr.read()[-200:]}")
        try:
            yield relay.pid
        finally:
            relay.stdin.close()


def _beside(lab: LabProcess, there: int, port: int, scrapes: int, scheme: str, flood: str) -> Far:
    words = [flood.removesuffix(_BEGUN), *(["begun"] if flood.endswith(_BEGUN) else [])]
    flooding = lab.popen([sys.executable, "-m", "tests.soak.flood", str(port), str(RATE), *words])
    assert flooding.stdout is not None
    assert flooding.stdout.readline() == "flooding\n", flooding.communicate()
    command = [sys.executable, "-m", "tests.soak.far", str(port), str(scrapes), scheme]
    done = subprocess.run(join_command(there, command), capture_output=True, text=True, timeout=DEADLINE, check=True)
    flooding.send_signal(signal.SIGTERM)
    said, complaint = flooding.communicate(timeout=DEADLINE)
    assert flooding.returncode == 0, complaint
    times, failed = json.loads(done.stdout)
    return Far(scheme, flood, len(times), tuple(failed), max(times), json.loads(said)["per_second"])


def _scrape(port: int, scheme: str) -> None:
    connection = http.client.HTTPConnection(longpath.NEAR, port, timeout=_PATIENCE_SECONDS)
    if scheme == "https":
        context = ssl._create_unverified_context()  # whose it is does not matter here
        connection = http.client.HTTPSConnection(longpath.NEAR, port, timeout=_PATIENCE_SECONDS, context=context)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise OSError(f"status {answer.status}")


def main(port: int, scrapes: int, scheme: str) -> None:
    """Scrape one after the other; print how long each took and why those failed that did."""
    times, failed = [], []
    for _ in range(scrapes):
        began = time.monotonic()
        try:
            _scrape(port, scheme)
        except (OSError, http.client.HTTPException) as error:
            failed.append(repr(error))
        times.append(time.monotonic() - began)
    print(json.dumps([times, failed]))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
