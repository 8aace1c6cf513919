"""``make screenshots``: the status page beside real sockets, quiet and under a SYN flood, as pictures for docs/.

They are made to be looked at: review them like any golden. They show the default configuration. It needs Chromium and
pngquant.
The flood stays in a network namespace of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.browser import Browser
from tests.e2e.conftest import Daemon
from tests.e2e.test_advice import FLOOD, hold
from tests.lab import LabProcess

SIZES = {"desktop": (1280, 1040, 1.0), "phone": (360, 780, 2.0)}
SECONDS = 240.0  # of history, so that there is something to draw
CONFIGURATION = "sample: {max_cpu_ratio: 1}\n"  # what else this machine does is no part of the picture


def main(folder: Path) -> None:
    """Make all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, LabProcess() as lab:
        inside = Path(temporary)
        (inside / "exporter.yml").write_text(CONFIGURATION)
        with (
            Daemon(inside / "log", "--config.file", str(inside / "exporter.yml"), lab=lab) as daemon,
            Browser(inside, lab) as browser,
        ):
            daemon.ready()
            lab.make({"established": 24, "close_wait": 2, "fin_wait2": 3, "listen": 3})
            for number in range(10):
                lab.establish(25 if number % 4 else 90)
                time.sleep(SECONDS / 10)
                lab.release(20)
            lab.make({"time_wait": 30})
            time.sleep(3)  # a question asked again and again would put its own sockets into the picture
            take(browser, daemon, folder, "quiet")
            lab.sysctl("net.ipv4.tcp_syncookies", 0)  # so that clients suffer
            hold(lab, FLOOD)
            time.sleep(SECONDS / 4)
            assert under_flood(daemon.get("/")[1])
            take(browser, daemon, folder, "syn-flood")


def under_flood(page: str) -> bool:
    """Whether the page knows."""
    return "<title>CRITICAL" in page and 'id="finding-syn_flood"' in page


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
    return subprocess.run(["pngquant", "--speed=1", "64", "-"], input=png, stdout=subprocess.PIPE, check=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
