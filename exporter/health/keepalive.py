"""How many established connections tcp_keepalive_time acts on. Pure; the plugin, the page and ``advise`` show it.

Source: net/ipv4/inet_diag.c, inet_sk_diag_fill: an idle socket with SO_KEEPALIVE has its timer running, one without
has none. While data is unacknowledged another timer is shown, so of busy sockets it is not known.
"""

from __future__ import annotations

from exporter.snapshot import Snapshot

SYSCTL = "tcp_keepalive_time"


def unprotected(snapshot: Snapshot) -> str:
    """How many have no keepalive, as a clause; "" where there is no detail or no connection."""
    timers = None if snapshot.detail is None else snapshot.detail.timers
    total = 0 if timers is None else sum(timers.values())
    if timers is None or not total:
        return ""
    without = timers.get("none", 0)
    share = f"{without} of {total} established connections are idle without keepalive"
    return f"{share}, so {SYSCTL} does nothing for them" if without else share
