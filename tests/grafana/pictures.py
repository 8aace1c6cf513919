"""``make panels``: every panel of the dashboards, drawn by Grafana's own components over data of the lab, as pictures.

``render/`` has a page that hands a dashboard's JSON and Prometheus's answers to ``@grafana/data`` and ``@grafana/ui``,
the libraries of Grafana's front end; npm installs them by the lock file beside it. The pictures are made to be looked
at: review them like any golden. It needs npm, Chromium, Prometheus and pngquant, and is not a part of the tests.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.browser import Browser
from tests.grafana.promql import substituted
from tests.grafana.test_dashboards import NAMES, children, load, text
from tests.grafana.test_panels import JOB, OF_A_WHOLE_HOST, PORT_RANGE, WINDOW, Prometheus, scraped_lab
from tests.screenshots import smaller

SOURCE = Path(__file__).parent / "render"
SECONDS = 180.0  # of history, so that there is something to draw
WIDTH = 1456
ESBUILD = (  # the libraries' CommonJS: their modules import CommonJS packages in a way that only webpack understands
    "node_modules/.bin/esbuild", "page.jsx", "--bundle", "--format=esm", "--jsx=automatic", "--minify",
    "--alias:@grafana/data=./node_modules/@grafana/data/dist/cjs/index.cjs",
    "--alias:@grafana/ui=./node_modules/@grafana/ui/dist/cjs/index.cjs",
    '--define:process.env.NODE_ENV="production"', "--log-level=warning", "--loader:.svg=dataurl",
    "--loader:.ttf=dataurl",
)  # fmt: skip


def main(folder: Path) -> None:
    """Make all of them."""
    with tempfile.TemporaryDirectory() as temporary:
        site = Path(temporary, "site")
        build(site)
        for name, part in answered(Path(temporary)):
            (site / f"{name}.json").write_text(json.dumps(part), encoding="utf-8")
        draw(site, folder)


def build(site: Path) -> None:
    """Install the libraries by the lock file, and bundle the page into *site*."""
    work = site.parent / "build"
    shutil.copytree(SOURCE, work)
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=work, check=True)
    subprocess.run([*ESBUILD, f"--outdir={site}"], cwd=work, check=True)
    shutil.copytree(work / "node_modules/@grafana/ui/dist/public", site / "public")
    shutil.copy(SOURCE / "index.html", site)


def answered(folder: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """The parts of every dashboard by name, with the answers to the queries of their panels."""
    with scraped_lab(folder) as prometheus:
        time.sleep(SECONDS)
        until = time.time()
        for name in NAMES:
            for at, panels in enumerate(parts(children(load(name), "panels"))):
                for panel in panels:
                    targets = children(panel, "targets") if panel["type"] != "row" else []
                    panel["answers"] = [answers(prometheus, target, until) for target in targets]
                yield f"{name.removesuffix('.json')}-{at}", {"from": until - SECONDS, "to": until, "panels": panels}


def parts(panels: list[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    """The page as it opens, then each collapsed row as it is once opened."""
    yield panels
    for row in panels:
        if row["type"] == "row" and row["collapsed"]:
            inside = children(row, "panels")
            yield [moved(panel, top_of(row)) for panel in ({**row, "collapsed": False}, *inside)]


def moved(panel: dict[str, object], up: int) -> dict[str, object]:
    """The panel so many lines higher."""
    place = panel["gridPos"]
    assert isinstance(place, dict)
    return {**panel, "gridPos": {**place, "y": place["y"] - up}}


def top_of(panel: dict[str, object]) -> int:
    """The line of the grid that it begins on."""
    place = panel["gridPos"]
    assert isinstance(place, dict)
    top = place["y"]
    assert isinstance(top, int)
    return top


def answers(prometheus: Prometheus, target: dict[str, object], until: float) -> list[dict[str, object]]:
    """What Prometheus answers to one query of the lab's host, or of this one for what only a whole host has."""
    expression = text(target, "expr")
    of_a_host = any(metric in expression for metric in OF_A_WHOLE_HOST)
    instance = re.escape(prometheus.on_host if of_a_host else prometheus.in_lab).replace("\\", "\\\\")
    sent = substituted(expression, job=JOB, instance=instance, window=WINDOW, sysctl=PORT_RANGE)
    return prometheus.series(sent, until, SECONDS if target["range"] is True else 0)


def draw(site: Path, folder: Path) -> None:
    """A picture of every part, by a browser that is shown *site*."""
    with served(site) as url, Browser(site.parent) as browser:
        for part in sorted(site.glob("tcp-*.json")):
            name = part.stem
            browser.look(WIDTH, 900)
            browser.open(f"{url}/?{name}")
            height = browser.wait(lambda: browser.run("return window.rendered ?? null"), f"{name} to be drawn")
            assert isinstance(height, int)
            browser.look(WIDTH, height)
            path = folder / f"grafana-{name.removeprefix('tcp-')}.png"
            path.write_bytes(smaller(browser.screenshot(whole=False)))
            print(f"{path}: {path.stat().st_size} bytes; the browser says: {browser.complaints()}")


@contextlib.contextmanager
def served(site: Path) -> Iterator[str]:
    """The address of a server of the files in *site*."""

    class Files(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    handler = functools.partial(Files, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
