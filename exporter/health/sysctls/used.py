"""The sysctls that something here uses: those of ``sysctl.export: used``.

``daemon`` and ``dump`` hand them to ``prometheus``; the page, the documents and the advice always have all. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from exporter.health.measures import MEASURES
from exporter.health.sysctls.profile import BY_SYSCTL

_OF_FINDINGS = frozenset(
    ("tcp_ehash_entries", "tcp_rto_max_ms", "tcp_syn_linear_timeouts", "net.ipv4.ip_local_reserved_ports")
)
"""Those that a finding, or the arithmetic of one, reads beside the others."""

_USED = frozenset(name for measure in MEASURES for name in measure.sysctls) | BY_SYSCTL.keys() | _OF_FINDINGS


def exported(export: str, expected: Iterable[str]) -> frozenset[str] | None:
    """The sysctls that become series, None for all of them, where those *expected* are in the configuration.

    >>> used = exported("used", ["tcp_ecn"])
    >>> [name in used for name in ("tcp_fin_timeout", "tcp_ecn", "tcp_plb_enabled")], exported("all", [])
    ([True, True, False], None)
    """
    return None if export == "all" else _USED.union(expected)
