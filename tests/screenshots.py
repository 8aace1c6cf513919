"""``make screenshots``: the status page beside real sockets in four situations, as pictures for docs/.

They are made to be looked at: review them like any golden. They show the default configuration. It needs Chromium and
pngquant.
Each situation stays in a network namespace of its own, but sockets that leak anywhere on the machine are a finding of
the whole host, so a picture waits until there are none.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.browser import Browser
from tests.e2e.conftest import Daemon, wait_for
from tests.e2e.test_advice import FLOOD, FULL_QUEUE, hold
from tests.lab import LabProcess

SIZES = {"desktop": (1280, 1240, 1.0), "phone": (390, 844, 2.0)}
SECONDS = 120.0  # of history, so that there is something to draw
PATIENCE = 900.0
CONFIGURATION = "sample: {max_cpu_ratio: 1}\n"  # what else this machine does is no part of the picture


def quiet(lab: LabProcess) -> None:
    """Nothing is wrong."""


def flood(lab: LabProcess) -> None:
    """A SYN flood while cookies are off, so clients suffer."""
    lab.sysctl("net.ipv4.tcp_syncookies", 0)
    hold(lab, FLOOD)


def leak(lab: LabProcess) -> None:
    """A server that never closes what its clients have closed."""
    hold(lab, LEAK)


def full_queue(lab: LabProcess) -> None:
    """A server that accepts nothing."""
    hold(lab, FULL_QUEUE.format(backlog=128))


LEAK = """
import socket, threading, time
server = socket.socket(); server.bind(("127.0.0.1", 8080)); server.listen(64)
forgotten = []
def serve():
    while True:
        forgotten.append(server.accept()[0])
def use():
    while True:
        with socket.create_connection(("127.0.0.1", 8080)):
            time.sleep(0.4)
for work in (serve, use):
    threading.Thread(target=work, daemon=True).start()
"""

SITUATIONS: dict[str, tuple[Callable[[LabProcess], None], set[str]]] = {
    "quiet": (quiet, set()),
    "syn-flood": (flood, {"syn_flood"}),
    "close-wait-leak": (leak, {"close_wait_leak"}),
    "full-queue": (full_queue, {"accept_queue_full"}),
}
"""What happens, and the findings that must be there and no others."""


def main(folder: Path, *names: str) -> None:
    """Make all of them, or those that are named."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or SITUATIONS:
        happen, expected = SITUATIONS[name]
        with tempfile.TemporaryDirectory() as temporary, LabProcess() as lab:
            inside = Path(temporary)
            (inside / "exporter.yml").write_text(CONFIGURATION)
            arguments = ("--config.file", str(inside / "exporter.yml"))
            with Daemon(inside / "log", *arguments, lab=lab) as daemon, Browser(inside, lab) as browser:
                daemon.ready()
                lab.make({"established": 24, "close_wait": 2, "fin_wait2": 3, "listen": 3})
                for number in range(10):
                    lab.establish(25 if number % 4 else 90)
                    time.sleep(SECONDS / 10)
                    lab.release(20)
                lab.make({"time_wait": 30})
                happen(lab)
                time.sleep(SECONDS / 2)  # so that the charts have it too
                only(daemon, expected)
                take(browser, daemon, folder, name)


def only(daemon: Daemon, expected: set[str]) -> None:
    """Wait until there are these findings and no others."""
    wait_for(lambda: found(daemon) == expected or None, f"only {expected} among the findings", PATIENCE)


def found(daemon: Daemon) -> set[str]:
    """The names of the findings; asked for seldom, because each question is a connection in the picture."""
    time.sleep(3)
    document = json.loads(daemon.get("/api/v1/snapshot")[1])
    return {it["finding"] for it in document["health"]["findings"] if it["status"] != "OK"}


def take(browser: Browser, daemon: Daemon, folder: Path, name: str) -> None:
    """One situation, in both sizes and both schemes."""
    for kind, (width, height, scale) in SIZES.items():
        for dark in (False, True):
            browser.look(width, height, dark=dark, scale=scale)
            browser.open(f"http://127.0.0.1:{daemon.port}/")
            path = folder / f"{name}-{kind}-{'dark' if dark else 'light'}.png"
            path.write_bytes(smaller(browser.screenshot(whole=False)))
            print(f"{path}: {path.stat().st_size} bytes")


def smaller(png: bytes) -> bytes:
    """The same picture with a palette."""
    return subprocess.run(["pngquant", "--speed=1", "80", "-"], input=png, stdout=subprocess.PIPE, check=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"), *sys.argv[2:])
