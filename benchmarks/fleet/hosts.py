"""The hosts of a fleet: daemons in network namespaces of their own. To Prometheus each is an address of loopback."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from ipaddress import IPv4Address

from benchmarks.meter import ROOT, Failed, environment

PORT = 19293
ESTABLISHED = (40, 90, 250, 400, 650, 900)
"""Connections of a host, by its number: some are above the warning of 600, and some above the critical 800."""

_FIRST = int(IPv4Address("127.0.1.1"))
_SAMPLES = "sample: {interval: 15s}\n"  # two cores run the whole fleet; what is scraped is the same
_DETAIL_PASSES = b'tcp_exporter_samples_total{pass="detail"}'
_PATIENCE_SECONDS = 300.0


def address(number: int) -> str:
    """Where the host of this number is scraped."""
    return f"{IPv4Address(_FIRST + number)}:{PORT}"


@contextlib.contextmanager
def hosts(folder: str, number: int) -> Iterator[list[str]]:
    """So many daemons, all of them ready; yields the addresses at which they are scraped."""
    configuration = os.path.join(folder, "tcp-exporter.yml")
    with open(configuration, "w", encoding="ascii") as file:
        file.write(_SAMPLES)
    with contextlib.ExitStack() as stack:
        addresses = [address(index) for index in range(number)]
        for index in range(number):
            stack.enter_context(host(folder, index, configuration))
        for each in addresses:
            _wait_for(each)
        yield addresses


@contextlib.contextmanager
def host(folder: str, number: int, configuration: str) -> Iterator[str]:
    """The daemon of one host with the file *configuration*; yields its address, where it will answer."""
    launcher = [sys.executable, os.path.join(ROOT, "benchmarks", "scripts", "host.py")]
    daemon = [sys.executable, "-m", "exporter", "serve", "--web.systemd-socket", f"--config.file={configuration}"]
    at, _, port = address(number).partition(":")
    with socket.create_server((at, int(port))) as listening, open(os.path.join(folder, f"{at}.log"), "wb") as log:
        process = subprocess.Popen(
            [*launcher, str(listening.fileno()), str(ESTABLISHED[number % len(ESTABLISHED)]), *daemon],
            pass_fds=[listening.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
            env={**environment(), "PYTHONPATH": ROOT},
        )  # fmt: skip
    try:
        yield address(number)
    finally:
        process.kill()
        process.wait()


def page(at: str) -> bytes:
    """The metrics page of a host, once it is whole: the first detail pass adds series of ports, units and quality."""
    _wait_for(at)
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        with urllib.request.urlopen(f"http://{at}/metrics", timeout=10) as answer:
            content = bytes(answer.read())
        passes = (float(line.split()[-1]) for line in content.splitlines() if line.startswith(_DETAIL_PASSES))
        if any(passes):
            return content
        if time.monotonic() > end:
            raise Failed(f"the daemon at {at} has made no detail pass after {_PATIENCE_SECONDS:g} s")
        time.sleep(0.1)


def _wait_for(at: str) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{at}/-/ready", timeout=10):
            return
        if time.monotonic() > end:
            raise Failed(f"the daemon at {at} is not ready after {_PATIENCE_SECONDS:g} s")
        time.sleep(0.1)
