"""The findings that can be concluded: one rule each, one file a subject, in the order of what hurts users first.

Adding one is a rule in a file of this package, a line in ``RULES`` and ``make golden``; every consumer has it then.
"""

from __future__ import annotations

from collections.abc import Mapping

from exporter.health.finding import Rule
from exporter.health.findings import (
    accept_queue,
    buffers,
    close_wait,
    conntrack,
    dead_peers,
    descriptors,
    ephemeral_ports,
    memory,
    orphans,
    refused,
    retransmissions,
    syn_queue,
    syn_sent,
    time_wait,
    zero_window,
)

RULES: tuple[Rule, ...] = (
    accept_queue.FULL,
    syn_queue.FLOOD,
    syn_queue.TOO_SMALL,
    syn_queue.HALF_OPEN,
    syn_sent.UNANSWERED,
    refused.REFUSED,
    retransmissions.RULE,
    zero_window.RULE,
    dead_peers.RULE,
    conntrack.NEAR_LIMIT,
    memory.PRESSURE,
    orphans.NEAR_LIMIT,
    ephemeral_ports.NEAR_LIMIT,
    time_wait.NEAR_LIMIT,
    close_wait.LEAK,
    descriptors.LEAK,
    buffers.RULE,
)

BY_NAME: Mapping[str, Rule] = {rule.name: rule for rule in RULES}
