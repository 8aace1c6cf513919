"""The status page in a real browser, beside the real daemon and real sockets of the lab."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from exporter.health.thresholds import Range, Threshold
from exporter.tcpstate import KNOWN_STATES, TcpState
from tests.browser import Browser
from tests.e2e.conftest import Daemon, by_state, wait_for
from tests.e2e.test_advice import FLOOD, FULL_QUEUE, hold
from tests.lab import LabProcess
from tests.test_docs import everything
from tests.web.test_page import VIEW, current, rendered

pytestmark = [pytest.mark.lab, pytest.mark.e2e]

ENTER, TAB = "\ue007", "\ue004"  # WebDriver's names of the keys
NUMBER = '.machine a[href="#state-{}"] .count'
DESKTOP, PHONE = (1280, 1000), (360, 740)


@pytest.fixture
def daemon(lab: LabProcess, tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "log", "--sample.interval", "200ms", lab=lab) as started:
        yield started.ready()


@pytest.fixture
def browser(daemon: Daemon, lab: LabProcess, tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path, lab) as started:
        started.look(*DESKTOP)
        started.open(url(daemon))
        asked = started.requests()
        assert url(daemon) in asked
        yield started
        # Whatever a test does: nothing to complain about, and nobody else is asked for anything.
        assert started.complaints() == []
        asked += started.requests()
        assert [it for it in asked if not it.startswith((url(daemon), "data:"))] == []


def url(daemon: Daemon) -> str:
    return f"http://127.0.0.1:{daemon.port}/"


def shown(browser: Browser, state: str) -> int:
    (text,) = browser.texts(NUMBER.format(state))
    return int(text.replace(",", ""))


def chosen(browser: Browser) -> list[str]:
    """The states whose panel is to be seen."""
    script = (
        "return [...document.querySelectorAll('.state')]"
        ".filter((it) => it.checkVisibility()).map((it) => it.querySelector('h3 span').textContent)"
    )
    names = browser.run(script)
    assert isinstance(names, list)
    return [str(name) for name in names]


def test_counts_change_without_a_reload(browser: Browser, lab: LabProcess) -> None:
    browser.run("window.same = true")
    wait_for(lambda: browser.text("#status") == "OK" or None, "a second sample, for what needs a rate")
    before = shown(browser, "established")
    lab.establish(640)
    wait_for(lambda: shown(browser, "established") >= before + 640 or None, "the new sockets on the page")
    wait_for(lambda: browser.text("#status") == "WARNING" or None, "the verdict")
    reason = re.fullmatch(r"ESTABLISHED (\d+) \(> 600\)", browser.text(".reasons li"))
    assert reason is not None
    assert 640 <= int(reason[1]) < 700  # the browser's own connections are among them
    assert "WARNING" in str(browser.run("return document.title"))
    said = "The status is now WARNING; it was OK."
    wait_for(lambda: browser.text("#said") == said or None, "what a screen reader says of it")
    lab.release()
    wait_for(lambda: browser.text("#status") == "OK" or None, "the end of it")
    assert browser.run("return window.same") is True


def test_choosing_a_state_with_the_mouse(browser: Browser) -> None:
    assert len(chosen(browser)) == 1
    browser.click('.machine a[href="#state-time_wait"]')
    wait_for(lambda: chosen(browser) == ["TIME-WAIT"] or None, "the panel")
    assert browser.text("#state-time_wait .meaning").startswith("Closed by this side first")
    assert "tcp_tw_reuse" in browser.texts("#state-time_wait th code")
    assert browser.run("return scrollY") == 0
    browser.click("#state-time_wait .ways a")
    wait_for(lambda: chosen(browser) == ["FIN-WAIT-1"] or None, "the panel behind a link in a panel")


def test_choosing_a_state_with_the_keyboard_leaves_the_focus_where_it_is(browser: Browser, lab: LabProcess) -> None:
    focused = "return document.activeElement.getAttribute('href')"
    for _ in range(40):
        browser.press(TAB)
        if browser.run(focused) == "#state-close_wait":
            break
    browser.press(ENTER)
    wait_for(lambda: chosen(browser) == ["CLOSE-WAIT"] or None, "the panel")
    assert browser.run(focused) == "#state-close_wait"
    assert browser.text("#said") == "Shown: CLOSE-WAIT"
    # And an update leaves focus, choice and place alone.
    browser.run("scrollTo(0, 120)")
    lab.make({"close_wait": 7})
    wait_for(lambda: shown(browser, "close_wait") == 7 or None, "an update")
    assert (chosen(browser), browser.run(focused), browser.run("return scrollY")) == (
        ["CLOSE-WAIT"], "#state-close_wait", 120,
    )  # fmt: skip


def test_what_the_reader_opened_stays_open_when_the_page_changes(browser: Browser, lab: LabProcess) -> None:
    """A namespace of its own does not see the host's memory and orphans, so they are not judged here."""
    assert browser.text("#not-judged ul") == ""
    browser.click("#not-judged summary")
    wait_for(lambda: "memory_pressure" in browser.text("#not-judged ul") or None, "the list")
    lab.make({"close_wait": 7})
    wait_for(lambda: shown(browser, "close_wait") == 7 or None, "an update")
    assert "memory_pressure" in browser.text("#not-judged ul")


def test_the_readers_own_connection_is_named(browser: Browser, daemon: Daemon, lab: LabProcess) -> None:
    browser.open(f"{url(daemon)}#state-established")
    said = wait_for(lambda: browser.text("#own") or None, "the first answer that the script reads")
    named = re.fullmatch(r"Yours is among them, both ends of it: this page is read from (127\.0\.0\.1:\d+)\.", said)
    assert named is not None
    assert named[1] in lab.run(["ss", "-Htn", "state", "established"]).stdout
    lab.make({"close_wait": 7})
    wait_for(lambda: shown(browser, "close_wait") == 7 or None, "an update")
    assert browser.text("#own").startswith("Yours is among them")


@pytest.mark.parametrize("secure", [True, False], ids=["with a clipboard", "without one, as on plain HTTP"])
def test_the_button_beside_a_command_copies_it(browser: Browser, lab: LabProcess, secure: bool) -> None:
    hold(lab, FULL_QUEUE.format(backlog=16))
    wait_for(lambda: browser.texts("#finding-accept_queue_full code") or None, "the finding")
    if secure:
        browser.run("window.wrote = []; navigator.clipboard.writeText = async (text) => { window.wrote.push(text); }")
    else:
        browser.run("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
        browser.run("document.addEventListener('copy', () => { window.wrote = [String(getSelection())]; })")
    (command,) = browser.texts("#finding-accept_queue_full code")
    browser.click("#finding-accept_queue_full .copy")
    wait_for(lambda: browser.text("#finding-accept_queue_full .copy") == "Copied" or None, "the word on the button")
    assert browser.run("return window.wrote") == [command]
    assert browser.text("#said") == "The command was copied."
    wait_for(lambda: browser.text("#finding-accept_queue_full .copy") == "Copy" or None, "the button as it was")


def test_a_finding_leads_to_its_runbook_and_the_runbook_back(browser: Browser, daemon: Daemon, lab: LabProcess) -> None:
    hold(lab, FULL_QUEUE.format(backlog=16))
    wait_for(lambda: browser.texts("#finding-accept_queue_full") or None, "the finding")
    browser.click('#finding-accept_queue_full a[href^="./runbooks/"]')
    wait_for(lambda: browser.text("h1") == "TcpAcceptQueueFull" or None, "the runbook")
    for size in (DESKTOP, PHONE):
        browser.look(*size)
        assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
        browser.run(f"{AXE_SOURCE}\n")
        assert browser.run(AXE) == []
    browser.look(*DESKTOP)
    browser.click('nav a[href="./"]')
    wait_for(lambda: browser.text("h1") == "Runbooks" or None, "the index")
    browser.click('nav a[href="../"]')
    wait_for(lambda: browser.texts("#status") or None, "the status page")


def test_the_charts_of_the_host_are_what_the_daemon_says(browser: Browser, daemon: Daemon, lab: LabProcess) -> None:
    lab.establish(30)
    hold(lab, FULL_QUEUE.format(backlog=16))

    def agree() -> bool:
        history = json.loads(daemon.get("/api/v1/history")[1])
        most = max((it for it in history["total"]["max"] if it is not None), default=0)
        dropped = sum(it for it in history["dropped"] if it is not None)
        words = browser.texts("#host figcaption span:nth-child(2)")
        said = [f"to {most:,}", f": {dropped:,} SYNs and final ACKs"]
        return most > 30 and dropped > 0 and all(map(str.endswith, words, said))

    wait_for(lambda: agree() or None, "the same numbers on the page")


HOLES = """
const bottom = (it) => it.getBoundingClientRect().bottom;
const [left, right] = document.querySelectorAll('#split .column');
return [...new Set([left, right].map((it) => Math.round(bottom(it.lastElementChild))))].length;
"""


def test_neither_column_ends_above_the_other(browser: Browser) -> None:
    browser.look(1280, 1000)
    for state in ("established", "close", "syn_recv"):
        browser.click(f'.machine a[href="#state-{state}"]')
        assert browser.run(HOLES) == 1, state


BROKEN = """
const broken = [];
const texts = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
for (let text = texts.nextNode(); text; text = texts.nextNode())
  for (const number of text.data.matchAll(/[0-9][0-9,.]*/g)) {
    const range = document.createRange();
    range.setStart(text, number.index);
    range.setEnd(text, number.index + number[0].length);
    const tops = new Set([...range.getClientRects()].map((it) => Math.round(it.top)));
    if (tops.size > 1 && !text.parentElement.closest('code')) broken.push(text.data);
  }
return broken;
"""


def test_no_number_is_broken_on_a_phone(tmp_path: Path) -> None:
    with Browser(tmp_path) as browser:
        (tmp_path / "page.html").write_bytes(rendered(current(everything().snapshot)))
        browser.look(*PHONE)
        for state in KNOWN_STATES:
            browser.open(f"file://{tmp_path}/page.html#state-{state.label}")
            assert browser.run(BROKEN) == []


def test_every_link_of_the_footer_works_below_the_prefix_of_a_proxy(browser: Browser, daemon: Daemon) -> None:
    script = "return [...document.querySelectorAll('footer a')].map((it) => it.getAttribute('href'))"
    links = browser.run(script)
    assert isinstance(links, list)
    assert len(links) == 6
    for link in links:
        assert link.startswith("./")
        assert daemon.get(link.removeprefix("."))[0] == 200


def test_an_address_chooses_a_state(browser: Browser, daemon: Daemon) -> None:
    browser.open(f"{url(daemon)}#state-last_ack")
    assert chosen(browser) == ["LAST-ACK"]


def test_an_hour_begins_to_be_drawn_after_ten_seconds(browser: Browser, daemon: Daemon, lab: LabProcess) -> None:
    lab.establish(30)
    wait_for(lambda: browser.texts("#hour-established") or None, "the first point")
    wait_for(lambda: browser.texts("#state-established figcaption") or None, "its panel")

    def highest() -> int:
        history = json.loads(daemon.get("/api/v1/history")[1])
        return max(number or 0 for number in history["states"]["established"]["max"])

    wait_for(lambda: highest() >= 30 or None, "the point with the new sockets")


@pytest.mark.long
def test_when_the_daemon_is_gone_the_page_says_so_and_comes_back_with_it(lab: LabProcess, tmp_path: Path) -> None:
    with Browser(tmp_path, lab) as browser:
        with Daemon(tmp_path / "log", lab=lab) as daemon:
            browser.open(url(daemon.ready()))
            port = daemon.port
            assert browser.run("return document.getElementById('lost').hidden") is True
            daemon.terminate()
            wait_for(lambda: browser.text("#lost") or None, "the page to notice")
            said = browser.text("#lost")
            assert re.fullmatch(
                r"The daemon has not answered for \d+ s \(.+\)\. The values below are that old\.", said
            ), said
            age = browser.text("#age")
            wait_for(lambda: browser.text("#age") != age or None, "the age to grow")
        with Daemon(tmp_path / "log2", "--web.listen-address", f"127.0.0.1:{port}", lab=lab):
            wait_for(lambda: browser.run("return document.getElementById('lost').hidden") or None, "the daemon again")


def test_a_page_that_nobody_sees_asks_for_nothing(browser: Browser) -> None:
    browser.run("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")

    def age() -> int:
        return int(browser.text("#age").split()[0])

    wait_for(lambda: age() >= 2 or None, "what was on its way to arrive")
    browser.requests()
    wait_for(lambda: age() >= 10 or None, "some periods to pass")
    assert browser.requests() == []
    browser.run("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    assert len(wait_for(lambda: browser.requests() or None, "the next request")) == 1


def is_judged(daemon: Daemon) -> bool:
    document = json.loads(daemon.ready().get("/api/v1/snapshot")[1])
    unknown = [it for it in document["health"]["findings"] if it["status"] == "UNKNOWN"]
    return document["detail"] is not None and not unknown


def status(daemon: Daemon) -> str:
    return str(json.loads(daemon.get("/api/v1/snapshot")[1])["health"]["status"])


def test_without_javascript_everything_is_there_and_a_state_can_be_chosen(
    populated: LabProcess, tmp_path: Path
) -> None:
    with (
        Daemon(tmp_path / "log", lab=populated) as daemon,
        Browser(tmp_path, populated, scripts=False) as browser,
    ):
        wait_for(lambda: is_judged(daemon) or None, "detail, and a second sample for the rates")
        browser.look(*DESKTOP)
        before = status(daemon)  # a part of it is the whole host's, where other programs run
        browser.open(url(daemon))
        assert browser.text("#status") in {before, status(daemon)}
        assert browser.text(NUMBER.format("fin_wait1")) == str(by_state(daemon.metrics())["fin_wait1"])
        assert browser.text("noscript") == "Without JavaScript this page does not update itself: reload it."
        browser.click('.machine a[href="#state-closing"]')
        wait_for(lambda: browser.text("#state-closing h3") == "CLOSING" or None, "the panel")
        assert browser.text("#state-established h3") == ""


COLLISIONS = """
const texts = [...document.querySelectorAll('.machine text')].map((it) => {
  const at = it.getBoundingClientRect(), air = at.height / 5;  // a line is higher than its letters
  return {words: it.textContent, arrow: it.closest('.arrow'), left: at.left, right: at.right,
          top: at.top + air, bottom: at.bottom - air};
});
const boxes = [...document.querySelectorAll('.machine .box, .machine .end rect, .machine .badge rect')];
const nodes = boxes.map((it) => {
  const {left, right, top, bottom} = it.getBoundingClientRect();
  return {words: `node ${it.parentNode.textContent.trim()}`, left, right, top, bottom};
});
const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
const found = [];
texts.forEach((it, at) => texts.slice(at + 1).forEach((other) => {
  if (meet(it, other)) found.push(`${it.words} / ${other.words}`);
}));
for (const it of texts.filter((text) => text.arrow))
  for (const node of nodes) if (meet(it, node)) found.push(`${it.words} / ${node.words}`);
for (const path of document.querySelectorAll('.machine .arrow path')) {
  const screen = path.getScreenCTM();
  for (let at = 5; at < path.getTotalLength() - 5; at += 2) {
    const {x, y} = path.getPointAtLength(at).matrixTransform(screen);
    const through = nodes.concat(texts).filter((it) => it.left < x && x < it.right && it.top < y && y < it.bottom);
    for (const it of through) found.push(`arrow ${path.parentNode.textContent} / ${it.words}`);
  }
}
return [...new Set(found)];
"""


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_in_the_diagram_lies_over_something_else(tmp_path: Path, size: tuple[int, int]) -> None:
    """Whatever the host has: few sockets or millions, and every state critical."""
    snapshot = everything().snapshot
    assert snapshot.connections is not None
    view = VIEW._replace(thresholds={it.label: Threshold(critical=Range.parse("~:-1")) for it in KNOWN_STATES})
    with Browser(tmp_path) as browser:
        browser.look(*size, scale=2.0)
        for number in (0, 97_412, 131_072, 9_999_999, 25_000_000):
            connections = snapshot.connections._replace(counts=(0, *[number] * (len(TcpState) - 1)))
            page = rendered(current(snapshot._replace(connections=connections), view=view))
            (tmp_path / "page.html").write_bytes(page)
            browser.open(f"file://{tmp_path}/page.html")
            assert len(browser.texts(".machine .badge")) == len(KNOWN_STATES)
            assert browser.run(COLLISIONS) == []


ALERTS = """\
thresholds: {fin_wait1: {warning: 1}, syn_recv: {critical: 30}, total: {warning: 1}, syn_queue_ratio: {warning: 0.7}}
sysctl: {expected: {tcp_sack: 0}}
"""
AXE_SOURCE = resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
AXE = """
return axe.run().then((it) => it.violations.map((found) =>
  `${found.impact} ${found.id}: ${found.nodes.map((node) => node.html).join(' ')}`));
"""


@pytest.mark.parametrize(("situation", "word"), [("quiet", "OK"), ("syn-flood", "CRITICAL")])
def test_axe_finds_nothing(populated: LabProcess, tmp_path: Path, situation: str, word: str) -> None:
    (tmp_path / "exporter.yml").write_text(ALERTS if situation == "syn-flood" else "")
    with (
        Daemon(tmp_path / "log", "--config.file", str(tmp_path / "exporter.yml"), lab=populated) as daemon,
        Browser(tmp_path, populated) as browser,
    ):
        if situation == "syn-flood":
            hold(populated, FLOOD)
            wait_for(lambda: 'id="finding-syn_flood"' in daemon.get("/")[1] or None, "the finding")
        for size in (DESKTOP, PHONE):
            for dark in (False, True):
                browser.look(*size, dark=dark)
                browser.open(url(daemon.ready()))
                wait_for(lambda: browser.text("#status") == word or None, word)
                browser.run(f"{AXE_SOURCE}\n")
                assert browser.run(AXE) == []
                assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
