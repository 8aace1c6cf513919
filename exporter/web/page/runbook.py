"""The runbooks at ``/runbooks/``: the pages that findings and alerts link to, readable on the host that is in trouble.

The folder ``runbooks`` has docs/runbooks as HTML, which ``make golden`` renders; its ``index.html`` lists them. Nothing
is parsed while the daemon runs, and every path that is served is known from the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from exporter.health.finding import RUNBOOKS
from exporter.web.page.head import document, dot, policy
from exporter.web.page.markup import Markup, element

INDEX = "index"
_ICON = dot("1d5fc4")


class Runbooks:
    """The pages by their paths, each rendered when it is asked for."""

    def __init__(self, bodies: Mapping[str, str], style: Markup) -> None:
        """*bodies* are HTML by the names of the runbooks, INDEX among them."""
        self._bodies = bodies
        self._style = style
        self.content_security_policy = policy(style)

    def paths(self) -> Iterator[tuple[str, str]]:
        """Every path with the name of its page."""
        return ((RUNBOOKS + ("" if name == INDEX else name), name) for name in self._bodies)

    def page(self, name: str) -> bytes:
        """The page of a runbook, or the index."""
        links = [element("a", "Status page", href="../")]
        links += [element("a", "All runbooks", href="./")] if name != INDEX else []
        body = element(
            "body",
            element("nav", links, aria_label="Pages"),
            element("main", Markup(self._bodies[name]), class_="card"),
            class_="runbook",
        )
        title = "Runbooks" if name == INDEX else f"{name} - runbook"
        return document(f"{title} - TCP", _ICON, self._style, body).encode()
