r"""Text from outside, made fit for a terminal, a log or a page: the only place that replaces what cannot be printed.

A process, a unit or a sysctl may have any bytes in its name; an escape sequence in it must not reach a terminal.
"""

from __future__ import annotations


def printable(text: str, *, instead: str = "?", keep: str = "", drop: str = "") -> str:
    r"""*text* with *instead* for each character that cannot be printed or is in *drop*, but for those in *keep*.

    >>> printable("a\x1b[2J\n"), printable("a|b", instead=" ", drop="|"), printable("a\n", keep="\n")
    ('a?[2J?', 'a b', 'a\n')
    """
    if text.isprintable() and not drop:
        return text
    return "".join(it if (it.isprintable() and it not in drop) or it in keep else instead for it in text)


def shortened(text: str, longest: int) -> str:
    """*text*, printable and of at most *longest* characters.

    >>> shortened("nginx.service", 8)
    'nginx...'
    """
    shown = printable(text)
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def escaped(text: str) -> str:
    r"""*text* with escapes for what cannot be printed, so that two different names stay different.

    >>> escaped("nginx"), escaped("a\x1b[2J")
    ('nginx', 'a\\x1b[2J')
    """
    return "".join(it if it.isprintable() else it.encode("unicode_escape").decode("ascii") for it in text)
