"""Names as an attacker chooses them, for processes, units and network namespaces, and how each is shown.

A process calls itself what it likes in 15 bytes, a user with a part of the tree of cgroups makes one of any name, and
who may mount makes a namespace of any. The kernel takes every byte but NUL, and ``/`` and a newline where a path has
them.
"""

from __future__ import annotations

from typing import NamedTuple


class Hostile(NamedTuple):
    """A name: its bytes, how a unit or a namespace of that name is called, and how a process is."""

    raw: bytes
    shown: str  # what cannot be printed is a question mark, of bytes that are no UTF-8 one each
    escaped: str  # a terminal is told which character it was


NAMES = {
    "quotes": Hostile(b"q\"q'q\\q`q", "q\"q'q\\q`q", "q\"q'q\\q`q"),
    "an escape of its own": Hostile(b'e\\n\\"e', 'e\\n\\"e', 'e\\n\\"e'),
    "a bar": Hostile(b"b|b;1;2 x=3", "b|b;1;2 x=3", "b|b;1;2 x=3"),
    "a series": Hostile(b's{s="s",} 1 #', 's{s="s",} 1 #', 's{s="s",} 1 #'),
    "a comment": Hostile(b"# EOF", "# EOF", "# EOF"),
    "an element": Hostile(b"<svg onload=p()", "<svg onload=p()", "<svg onload=p()"),
    "an entity": Hostile(b"&lt;&#0;&amp", "&lt;&#0;&amp", "&lt;&#0;&amp"),
    "a terminal's command": Hostile(b"t\x1b[2J\x07\tt\r", "t?[2J??t?", "t\\x1b[2J\\x07\\tt\\r"),
    "an eight-bit command": Hostile("c\x9b2Jc".encode(), "c?2Jc", "c\\x9b2Jc"),
    "no UTF-8": Hostile(b"u\xff\xc3\x28u", "u??(u", "u\\udcff\\udcc3(u"),
    "a surrogate": Hostile(b"v\xed\xa0\x80v", "v???v", "v\\udced\\udca0\\udc80v"),
    "an override": Hostile("r\u202er\u2066r".encode(), "r?r?r", "r\\u202er\\u2066r"),
    "a separator": Hostile("l\u2028l\x85l".encode(), "l?l?l", "l\\u2028l\\x85l"),
    "a format": Hostile(b"%s{0}${f}{{f}}", "%s{0}${f}{{f}}", "%s{0}${f}{{f}}"),
    "other scripts": Hostile("漢é".encode(), "漢é", "漢é"),
}
"""What the kernel takes everywhere: no newline, no slash."""

NEWLINE = Hostile(b"n\nn 1\n# n", "n?n 1?# n", "n\\nn 1\\n# n")
"""A newline is a process's or a namespace's only, of a cgroup's name the kernel refuses it."""


def is_presentable(text: str) -> bool:
    """Whether nothing in *text* speaks to a terminal, ends a line unseen or turns the text around."""
    return all(character == "\n" or character.isprintable() for character in text)
