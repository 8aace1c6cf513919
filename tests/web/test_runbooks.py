"""The runbooks that the daemon serves: docs/runbooks as HTML inside the package, one for each finding and each alert.

``--update-golden`` renders them anew into exporter/web/page/runbooks.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import exporter
from exporter.daemon.daemon import page_assets
from exporter.health.finding import RUNBOOKS, runbook_of
from exporter.health.findings import RULES
from exporter.health.thresholds import DEFAULTS
from exporter.prometheus.families import View
from exporter.web.app import application
from exporter.web.current import Current
from exporter.web.http import Request, Response
from exporter.web.page.markup import Markup, element
from exporter.web.page.runbook import INDEX
from tests.test_alerts import RUNBOOKS as MARKDOWN
from tests.test_alerts import alerts, names
from tests.web.test_page import Read

PACKAGED = Path(exporter.__file__).parent / "web" / "page" / "runbooks"


def rendered() -> dict[str, str]:
    """Every page that the package should have, by its name."""
    pages = {path.stem: page(path.read_text("utf-8")) for path in sorted(MARKDOWN.glob("*.md"))}
    return {INDEX: index(), **pages}


def page(text: str) -> str:
    """A runbook as HTML: its links lead to the pages beside it, and those to other documents become their names."""
    html = MarkdownIt("commonmark").enable("table").render(text)
    html = re.sub(r'<a href="(Tcp\w+)\.md">', r'<a href="./\1">', html)
    html = re.sub(r'<a href="\.\./(\w+\.md)">(.*?)</a>', r"\2 (<code>docs/\1</code>)", html)
    html = html.replace("<pre>", '<pre tabindex="0">')
    html = html.replace("<table>", '<div class="scroll" tabindex="0" role="region" aria-label="Table">\n<table>')
    return html.replace("</table>", "</table>\n</div>").replace("<th>", '<th scope="col">')


def index() -> str:
    """All of them, in the order of the alerts, each with what its alert says."""
    summaries = {rule["alert"]: rule["annotations"]["summary"] for rule in alerts()}
    rows = [element("li", element("a", name, href=f"./{name}"), f": {summaries[name]}") for name in names()]
    body = (f"{row}\n" for row in rows)
    return element("h1", "Runbooks") + "\n" + element("ul", "\n", (Markup(row) for row in body)) + "\n"


def get(path: str, method: str = "GET", encoding: str = "identity") -> Response:
    at = Current(None, View(DEFAULTS, python="3.11.0"), 0.0, "/metrics")
    request = Request(method, path, "", {"accept-encoding": encoding})
    return application(lambda: at, page_assets())(request)


def test_the_package_has_the_runbooks_of_the_documents(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        for old in PACKAGED.glob("*.html"):
            old.unlink()
        for name, html in rendered().items():
            (PACKAGED / f"{name}.html").write_text(html, encoding="utf-8")
    assert page_assets().runbooks == rendered()


@pytest.mark.parametrize("name", [*names(), *(runbook_of(rule.name) for rule in RULES)])
def test_the_runbook_of_every_alert_and_of_every_finding_is_served(name: str) -> None:
    answer = get(RUNBOOKS + name)
    assert (answer.status, answer.content_type) == (200, "text/html; charset=utf-8")
    read = Read(answer.body)
    assert [line for line in read.lines if line == name] == [name]
    assert [it for it in ("What it means", "Confirm", "Do", "Do not") if it not in read.lines] == []
    for link in read.values("href"):
        assert (
            link in {"../", "./"} or link.startswith("data:") or get(RUNBOOKS + link.removeprefix("./")).status == 200
        )


def test_the_index_leads_to_every_runbook() -> None:
    read = Read(get(RUNBOOKS).body)
    assert {link for link in read.values("href") if link.startswith("./")} == {f"./{name}" for name in names()}


@pytest.mark.parametrize(
    "path",
    ["/runbooks", "/runbooks/index", "/runbooks/TcpNothing", "/runbooks/TcpSynFlood/", "/runbooks/TcpSynFlood.html",
     "/runbooks/../page.css", "/runbooks//etc/passwd", "/runbooks/..", "/runbooks/tcpsynflood"],
)  # fmt: skip
def test_nothing_else_is_served_below_it(path: str) -> None:
    assert get(path).status == 404
    assert get(RUNBOOKS, "POST").status == 405


def test_a_runbook_stands_alone_and_its_policy_allows_no_script() -> None:
    answer = get(f"{RUNBOOKS}TcpSynFlood")
    policy, read = dict(answer.headers)["Content-Security-Policy"], Read(answer.body)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert [it for it in ("script-src", "unsafe") if it in policy] == []
    assert {"script", "img", "iframe", "form"} & {*read.elements} == set()
    assert read.values("src") + read.values("style") == []
    assert gzip.decompress(get(f"{RUNBOOKS}TcpSynFlood", encoding="gzip").body) == answer.body


def test_a_link_to_another_document_becomes_its_name() -> None:
    assert page("See [the *table*](../alerts.md), [this](TcpSynFlood.md) & <b>.") == (
        '<p>See the <em>table</em> (<code>docs/alerts.md</code>), <a href="./TcpSynFlood">this</a> &amp; <b>.</p>\n'
    )
