"""``make screenshots``: the status page beside real sockets, quiet and under a SYN flood, as pictures for docs/.

They are made to be looked at: review them like any golden. The flood stays in a network namespace of its own.
"""

from __future__ import annotations

import sys
import tempfile
import time
import zlib
from pathlib import Path

from tests.browser import Browser
from tests.e2e.conftest import Daemon, by_state, wait_for
from tests.e2e.test_advice import FLOOD, hold
from tests.lab import LabProcess

SIZES = {"desktop": (1280, 800, 1.0), "phone": (360, 780, 2.0)}
SECONDS = 150.0  # of history, so that there is something to draw
CONFIGURATION = """\
thresholds:
  established: {warning: 600, critical: 800}
  syn_recv: {warning: 30, critical: 60}
  accept_queue_ratio: {warning: 0.7, critical: 0.9}
  syn_queue_ratio: {warning: 0.7, critical: 0.9}
"""


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
            wait_for(lambda: by_state(daemon.metrics())["time_wait"] >= 30 or None, "the last of them")
            take(browser, daemon, folder, "quiet", "#state-established")
            hold(lab, FLOOD)
            wait_for(lambda: under_flood(daemon.get("/")[1]) or None, "the flood")
            time.sleep(SECONDS / 5)
            take(browser, daemon, folder, "syn-flood", "#state-syn_recv")


def under_flood(page: str) -> bool:
    """Whether the page knows."""
    return "<title>CRITICAL" in page and 'id="finding-syn_flood"' in page


def take(browser: Browser, daemon: Daemon, folder: Path, name: str, chosen: str) -> None:
    """One situation, in both sizes and both schemes."""
    for kind, (width, height, scale) in SIZES.items():
        for dark in (False, True):
            browser.look(width, height, dark=dark, scale=scale)
            browser.open(f"http://127.0.0.1:{daemon.port}/{chosen if kind == 'desktop' else ''}")
            browser.run("scrollTo(0, 0)")
            whole = kind == "desktop"
            path = folder / f"{name}-{kind}-{'dark' if dark else 'light'}.png"
            path.write_bytes(smaller(browser.screenshot(whole=whole)))
            print(f"{path}: {path.stat().st_size} bytes")


def smaller(png: bytes) -> bytes:
    """The same picture, its data packed as well as zlib can: Chromium is in a hurry."""
    chunks, at = [], 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        chunks.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += 12 + length
    data = zlib.compress(zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT")), 9)
    packed = [png[:8]]
    for kind, body in ((b"IHDR", chunks[0][1]), (b"IDAT", data), (b"IEND", b"")):
        packed.append(len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big"))
    return b"".join(packed)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
