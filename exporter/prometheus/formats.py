"""The exposition formats that this program produces: what ``web.negotiation`` chooses and ``exposition`` renders."""

from __future__ import annotations

from enum import Enum


class Format(Enum):
    """An exposition format. Its value is the Content-Type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
