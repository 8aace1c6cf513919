"""HTML and SVG by construction: what is not ``Markup`` is escaped, in content and in attributes alike.

So a name from the host cannot become an element, wherever it is shown, nor turn the text around it; there is no other
way to write one here.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TypeAlias

from exporter.printable import printable

_VOID = frozenset({"br", "col", "hr", "img", "input", "link", "meta"})


class Markup(str):
    """Text that is markup already and goes out as it is."""

    __slots__ = ()


Content: TypeAlias = "str | Iterable[Content] | None"
"""A text, several, or nothing."""

Attribute = str | float | bool | None


def escaped(text: str) -> Markup:
    r"""*text* as content or as an attribute's value; what cannot be printed is a question mark, but for line ends.

    >>> escaped("a<b\u202ec\udcff\n")
    'a&lt;b?c?\n'
    """
    return Markup(escape(printable(text, keep="\n")))


def element(name: str, /, *content: Content, **attributes: Attribute) -> Markup:
    """An element. An attribute's underscores are hyphens, a last one is dropped; False and None leave it out.

    >>> element("a", "<b>", href='"', class_="x", aria_current=True, hidden=False)
    '<a href="&quot;" class="x" aria-current="">&lt;b&gt;</a>'
    """
    named = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{"" if value is True else escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{named}>")
    return Markup(f"<{name}{named}>{joined(content)}</{name}>")


def joined(content: Iterable[Content]) -> Markup:
    """Contents one after the other, each escaped unless it is markup."""
    parts: list[str] = []
    for item in content:
        if isinstance(item, str):
            parts.append(item if isinstance(item, Markup) else escaped(item))
        elif item is not None:
            parts.append(joined(item))
    return Markup("".join(parts))
