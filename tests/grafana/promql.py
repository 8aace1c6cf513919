"""As much of PromQL as the tests of the dashboards ask for: the selectors of an expression and what is around them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_SELECTOR = re.compile(r'(?<![\w:"])([a-zA-Z_][\w:]*)\{([^{}]*)\}(?:\[([^\]]+)\])?')
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')


class Selector(NamedTuple):
    """A metric with its matchers; ``window`` is its range, and ``function`` what stands directly around it."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]
    window: str
    function: str


def selectors(expression: str) -> Iterator[Selector]:
    """Every selector, left to right.

    >>> for it in selectors('sum(rate(a_total{job=~"$job"}[5m])) / b{}'): print(tuple(it))
    ('a_total', (('job', '=~', '$job'),), '5m', 'rate')
    ('b', (), '', '')
    """
    for found in _SELECTOR.finditer(expression):
        around = re.search(r"(\w+)\($", expression[: found.start()])
        window, function = found[3] or "", around[1] if around else ""
        yield Selector(found[1], tuple(_MATCHER.findall(found[2])), window, function)


def substituted(expression: str, *, job: str = ".+", instance: str = ".+", window: str = "5m", sysctl: str = "") -> str:
    """The expression as Grafana sends it."""
    values = {"$__rate_interval": window, "$job": job, "$instance": instance, "$sysctl": sysctl}
    for name, value in values.items():
        expression = expression.replace(name, value)
    return expression
