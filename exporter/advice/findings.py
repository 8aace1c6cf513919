"""Findings: what is wrong with this host at this moment, why, and what a person does about it.

Pure: from a snapshot, and an older one where a rate is needed, to ``Finding``s, the worst first. What is not known
raises no finding, and there is none without evidence in numbers. ``prometheus``, ``web``, ``cli`` and the loop show them.
"""

from __future__ import annotations

from exporter.record import NamedTuple
from exporter.tcpstate import TcpState
from exporter.thresholds import Status


class Finding(NamedTuple):
    """One thing that is wrong. Texts are sentences for a person; what is from the host in them is not escaped."""

    name: str  # stable, snake_case: "accept_queue_full"
    severity: Status  # WARNING or CRITICAL
    what: str  # one line
    evidence: tuple[str, ...]  # sentences with the numbers that it was concluded from, never none
    why: str  # why it matters
    remedy: str  # what to do
    command: str | None  # the command that does it, or that shows who can; None where there is none
    risk: str  # what the remedy could break
    states: tuple[TcpState, ...]  # the states that it bears on, the most telling first
