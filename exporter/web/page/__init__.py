"""The status page at ``/``: one document with its style and its script inside, of what is true at this moment.

All content is in the HTML, and choosing a state is a link to its panel, so it works without the script; the script
fetches this same page every few seconds and puts what differs into place. Nothing is rendered but on request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from exporter import __version__
from exporter.health.finding import RUNBOOKS
from exporter.health.judge import Health
from exporter.health.measures import amount
from exporter.health.thresholds import Status
from exporter.sampling.sample import Sample
from exporter.snapshot import Snapshot
from exporter.tcpstate import KNOWN_STATES, TcpState
from exporter.web.current import Current
from exporter.web.page import sections
from exporter.web.page.head import document, dot, policy
from exporter.web.page.machine import SIGNS, diagram, fragment, icon
from exporter.web.page.markup import Content, Markup, element
from exporter.web.page.states import States
from exporter.web.rendered import Around, RenderedAround

STYLE_FILE, SCRIPT_FILE, RUNBOOKS_FOLDER = "page.css", "page.js", "runbooks"
"""Files beside this one, and the folder of the runbooks; the daemon reads them."""

_AGE = Markup("<!--age-->")
"""Where the age stands; no text from outside is a comment, because ``element`` escapes it."""

_LEAST_SECONDS = 3.0  # between two fetches of a page that is being looked at
_COLORS = {Status.OK: "1a7f45", Status.WARNING: "b87700", Status.CRITICAL: "b3261e", Status.UNKNOWN: "6b4fa0"}


class Assets(NamedTuple):
    """The contents of the files."""

    style: str
    script: str
    runbooks: Mapping[str, str]  # HTML by name


class StatusPage:
    """Renders the page, once for each sample, point of the history and view; the age is put in once a second."""

    def __init__(self, assets: Assets) -> None:
        self.style = Markup(assets.style + _selection())
        self._script = Markup(assets.script)
        self.content_security_policy = policy(self.style, self._script)
        self._kept = RenderedAround()

    def page(self, at: Current, *, compressed: bool) -> bytes:
        """The page of this moment."""
        age = 0.0 if at.sample is None else at.now - at.sample.counted_at
        words = int(age) if at.view.stale else None  # the headline of a stale sample has its age too
        return self._kept.body(
            (at.sample, at.points, at.view, words),
            lambda: _around_age(self._render(at)),
            int(age),
            lambda: b"" if at.sample is None else _age(age).encode(),
            compressed=compressed,
        )

    def _render(self, at: Current) -> str:
        snapshot = None if at.sample is None or at.view.stale else at.sample.snapshot
        headline = sections.headline(at, snapshot)
        body = element(
            "body",
            SIGNS,
            element("a", "To the states", href="#states", class_="skip"),
            _banner(at, snapshot, headline),
            element("p", id="lost", role="alert", hidden=True, data_own=True),
            element("p", id="said", role="status", class_="unseen", data_own=True),
            element("main", *_main(at, snapshot)),
            _footer(at, snapshot),
            element("script", self._script),
            data_every=max(_LEAST_SECONDS, _interval(at.sample)),
        )
        title = f"{headline.status.name} - {at.host or 'this host'} - TCP"
        return document(title, dot(_COLORS[headline.status]), self.style, body)


def _banner(at: Current, snapshot: Snapshot | None, headline: sections.Headline) -> Markup:
    return element(
        "header",
        element("p", icon(headline.status), element("span", headline.status.name, id="status"), class_="word"),
        element(
            "div",
            element("h1", "TCP on ", element("b", at.host or "this host")),
            element("p", headline.summary, class_="summary"),
            element("ul", *headline.reasons, class_="reasons") if headline.reasons else None,
        ),
        element("p", *_provenance(at, snapshot), class_="when"),
        class_=f"verdict {headline.status.name}",
    )


def _provenance(at: Current, snapshot: Snapshot | None) -> tuple[Content, ...]:
    """When the sample was taken and by whom; the script counts the age on."""
    if at.sample is None:
        return ("No sample.",)
    clock = f"{_clock(at.sample.snapshot.taken_at)} UTC"
    counted: tuple[Content, ...] = ()
    if snapshot is not None and snapshot.connections is not None:
        counted = (
            element("b", f"{sum(snapshot.connections.counts):,}"), " sockets, read by ",
            f"{snapshot.connections.reader}, ",
        )  # fmt: skip
    return (*counted, element("time", clock, datetime=f"{clock[:8]}Z"), ", ", _AGE, _walked(snapshot))


def _walked(snapshot: Snapshot | None) -> str | None:
    """How much older the states are that only a walk counts, where they are."""
    older = "" if snapshot is None or snapshot.connections is None else snapshot.connections.older
    return f"; {older}" if older else None


def _age(seconds: float) -> Markup:
    """How old the sample is."""
    return element("span", f"{seconds:.0f} s ago", id="age", data_age=f"{seconds:.1f}")


def _around_age(page: str) -> Around:
    """A page without its age; one without a sample has none to put in."""
    before, _, after = page.partition(_AGE)
    return Around(before.encode(), after.encode())


def _main(at: Current, snapshot: Snapshot | None) -> tuple[Content, ...]:
    states = States(at, snapshot)
    health = None if at.sample is None or snapshot is None else at.sample.health
    return (
        element(
            "section", element("h2", "What to do", id="title-findings"), *sections.finding_articles(health.findings),
            id="findings", aria_labelledby="title-findings", class_="findings",
        ) if health is not None and health.findings else None,
        element(
            "div",
            element(
                "div",
                _card(
                    "States",
                    element("h3", "State machine: choose a state", id="machine", class_="unseen"),
                    diagram(states.nodes(), states.hours()),
                    _LEGEND,
                ),
                None
                if snapshot is None or health is None
                else _card("Limits", sections.limits(health, snapshot.to_full or {}), _queues(snapshot)),
                class_="column",
            ),
            element(
                "div",
                element("div", *states.panels(), class_="card chosen"),
                _card("Host", *states.host()),
                class_="column",
            ),
            id="split",
        ),
        None if health is None else _changes(health),
        None if snapshot is None else _holders(snapshot),
        None if health is None else sections.not_judged(health),
    )  # fmt: skip


def _changes(health: Health) -> Markup | None:
    table = sections.sysctls(health.deviations)
    if table is None:
        return None
    words = element("p", "As a fragment for sysctl.d:", class_="quiet")
    return _card("Sysctls", table, words, sections.command("tcp-exporter advise --sysctl-conf"))


def _queues(snapshot: Snapshot) -> Markup | None:
    if snapshot.detail is None:
        return None
    received, sent = (amount(it, "bytes") for it in (snapshot.detail.receive_queue, snapshot.detail.send_queue))
    said = f"Received and not yet read by applications: {received}. Sent and not yet acknowledged by peers: {sent}."
    return element("p", said, class_="quiet")


def _holders(snapshot: Snapshot) -> tuple[Content, ...]:
    """Whose sockets they are."""
    detail = snapshot.detail
    missing = "The detail of this sample is missing."
    ports, units = (None, None) if detail is None else (detail.ports, detail.units)
    held = () if detail is None or detail.memory is None else tuple(sections.memory(detail.memory))
    no_units = missing if detail is None else "Units are unknown here: they need netlink and cgroup v2."
    quality = None if detail is None or detail.quality is None else sections.quality(detail.quality)
    return (
        _card("Listeners", sections.listeners(snapshot.listeners)),
        _card("Ports", sections.top("Local ports with the most sockets", "Port", ports, missing)),
        _card("Units", sections.top("Units and containers with the most sockets", "Unit", units, no_units)),
        *((_card("Memory", *held),) if held else ()),
        *([] if quality is None else [_card("Quality", quality)]),
    )


def _card(title: str, *content: Content) -> Markup:
    name = title.lower()
    heading = element("h2", title, id=f"title-{name}")
    return element("section", heading, *content, id=name, class_="card", aria_labelledby=f"title-{name}")


def _footer(at: Current, snapshot: Snapshot | None) -> Markup:
    links = (
        ("Metrics", at.telemetry_path), ("Sample as JSON", "/api/v1/snapshot"), ("History as JSON", "/api/v1/history"),
        ("Healthy?", "/-/healthy"), ("Ready?", "/-/ready"), ("Runbooks", RUNBOOKS),
    )  # fmt: skip
    relative = ((text, f"./{path.removeprefix('/')}") for text, path in links)  # so also below a proxy's prefix
    return element(
        "footer",
        None if snapshot is None else sections.sources(snapshot),
        element("nav", (element("a", text, href=path) for text, path in relative), aria_label="Endpoints"),
        element("p", f"tcp-exporter {__version__}"),
        element("noscript", element("p", "Without JavaScript this page does not update itself: reload it.")),
    )


def _interval(sample: Sample | None) -> float:
    light = None if sample is None else sample.passes.get("light")
    return 0.0 if light is None else light.interval


def _clock(taken_at: float) -> str:
    """The time of day, UTC.

    >>> _clock(1_700_000_000.0)
    '22:13:20'
    """
    minutes, seconds = divmod(int(taken_at) % 86400, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


def _selection() -> str:
    """Which node is marked: that of the panel which the address chooses, else that of the panel shown unasked."""

    def rule(chosen: str, state: TcpState) -> str:
        return f'{chosen} .node[href="#{fragment(state)}"] .box'

    names = [(f"#{fragment(state)}", state) for state in KNOWN_STATES]
    chosen = [rule(f"body:has({name}:target)", state) for name, state in names]
    unasked = [rule(f"body:not(:has(.state:target)):has({name}.unasked)", state) for name, state in names]
    return f"{','.join([*chosen, *unasked])}{{stroke:var(--accent);stroke-width:2.5}}\n"


_STROKE = element("path", d="M0 5H34")
_LEGEND = element(
    "ul",
    *(
        element(
            "li",
            element("svg", _STROKE, viewBox="0 0 34 10", class_=f"arrow {kind}", aria_hidden="true"),
            text,
        )
        for kind, text in (
            ("client", "client, closes first"),
            ("server", "server, closes second"),
            ("other", "less usual"),
        )
    ),
    class_="legend",
)  # fmt: skip
