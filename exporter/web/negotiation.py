"""Which exposition format and which coding a client gets, by its Accept and Accept-Encoding headers (RFC 9110, 12.5).

Stands in for prometheus_client's ``choose_encoder``, which ignores q, echoes any version and fails on ``version=abc``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from exporter.prometheus.formats import Format

_MAX_ENTRIES = 64  # Prometheus sends at most six; what a hostile header has beyond is not looked at
_MAX_PARAMETERS = 16
_QUALITY = re.compile(r"0(?:\.[0-9]{0,9})?|1(?:\.0{0,9})?", re.ASCII)


_NAMED = {
    ("text/plain", ""): Format.TEXT,
    ("text/plain", "0.0.4"): Format.TEXT,
    ("application/openmetrics-text", ""): Format.OPENMETRICS,
    ("application/openmetrics-text", "1.0.0"): Format.OPENMETRICS,
}
"""Media type and version to what we produce for them; any other version is something we cannot produce."""

_WILDCARDS = {
    "text/*": (2, (Format.TEXT,)),
    "application/*": (2, (Format.OPENMETRICS,)),
    "*/*": (1, (Format.TEXT, Format.OPENMETRICS)),
}
"""Media range to how specific it is and what it covers. A name is 3."""


class _Entry(NamedTuple):
    """One element of an Accept header: ``name;key=value;q=0.5``."""

    name: str
    parameters: dict[str, str]
    quality: float


def choose_format(accept: str | None) -> Format:
    """The format that the client likes best of those we produce; TEXT where it likes none, never an error.

    >>> choose_format("text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0;q=0.75").name
    'OPENMETRICS'
    >>> choose_format("application/openmetrics-text;version=9.9").name
    'TEXT'
    """
    best: dict[Format, tuple[int, float]] = {}  # how specific the entry is, and its quality
    for entry in _entries(accept):
        named = _NAMED.get((entry.name, entry.parameters.get("version", "")))
        rank, covered = (3, (named,)) if named else _WILDCARDS.get(entry.name, (0, ()))
        for choice in covered:
            # The most specific entry decides for a format, not a wildcard; of equals, the one of the highest quality.
            best[choice] = max(best.get(choice, (0, 0.0)), (rank, entry.quality))

    def preference(choice: Format) -> tuple[float, bool, bool]:
        rank, quality = best[choice]
        named = rank == 3
        return quality, named, (choice is Format.OPENMETRICS) == named

    acceptable = [choice for choice, (_, quality) in best.items() if quality > 0]
    return max(acceptable, key=preference, default=Format.TEXT)


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Whether the client takes gzip, and does not prefer the body as it is.

    >>> accepts_gzip("gzip"), accepts_gzip("*;q=0.5"), accepts_gzip("gzip;q=0, *"), accepts_gzip("identity, gzip;q=0.5")
    (True, True, False, False)
    """
    quality: dict[str, float] = {}
    for entry in _entries(accept_encoding):
        name = "gzip" if entry.name == "x-gzip" else entry.name
        quality[name] = max(quality.get(name, 0.0), entry.quality)
    gzip = quality.get("gzip", quality.get("*", 0.0))
    return gzip > 0 and gzip >= quality.get("identity", 0.0)


def _entries(header: str | None) -> Iterator[_Entry]:
    """The entries that can be parsed; entries with an invalid q are left out."""
    for element in (header or "").split(",", _MAX_ENTRIES)[:_MAX_ENTRIES]:
        name, *rest = element.split(";", _MAX_PARAMETERS)[:_MAX_PARAMETERS]
        parameters = {}
        for parameter in rest:
            key, _, value = parameter.partition("=")
            parameters[key.strip(" \t").lower()] = value.strip(' \t"')
        quality = parameters.pop("q", "1")
        if _QUALITY.fullmatch(quality):
            yield _Entry(name.strip(" \t").lower(), parameters, float(quality))
