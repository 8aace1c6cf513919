"""The head of an HTML document that carries its style and its script inside, and the policy that allows nothing else.

The status page and the runbooks share it, so that both follow one Content-Security-Policy.
"""

from __future__ import annotations

import base64
import hashlib

from exporter.web.page.markup import Markup, element


def document(title: str, icon: str, style: Markup, body: Markup) -> str:
    """The whole document; *icon* is the address of the tab's icon."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("link", rel="icon", href=icon),
        element("style", style),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def dot(color: str) -> str:
    """An icon as an address: a dot in *color*, six hexadecimal digits."""
    return (
        "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
        f"%3Ccircle cx='8' cy='8' r='7' fill='%23{color}'/%3E%3C/svg%3E"
    )


def policy(style: str, script: str = "") -> str:
    """The Content-Security-Policy of a document with exactly this style and, where there is one, this script."""
    scripts = f"script-src {_hash(script)}; connect-src 'self'; " if script else ""
    return (
        f"default-src 'none'; style-src {_hash(style)}; {scripts}"
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
