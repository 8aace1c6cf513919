"""Lists of ports as ``net.ipv4.ip_local_reserved_ports`` takes them, and what to reserve before a range is widened.

``findings.ephemeral_ports`` prints it in a command, ``verdicts`` in a fragment. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from exporter.kernel.sysctl import parse_ports, ports_text

RANGE, RESERVED = "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"

WIDEST = 1024, 65535
"""The range that is proposed where ports are short: everything above the privileged ports."""

NODE_PORTS = "On a Kubernetes node reserve the NodePorts too, 30000-32767."


def with_reserved(ports: str, reserved: str) -> str:
    """Both lists as one: the kernel replaces the one that it has as a whole.

    >>> with_reserved("3306,8080", "1433,8079-8081")
    '1433,3306,8079-8081'
    """
    return ports_text(parse_ports(RESERVED, f"{reserved},{ports}"))


def newly_exposed(listening: Iterable[int], before: tuple[int, int], after: tuple[int, int]) -> str:
    """The ports with a listener that the range *after* has and the one *before* had not, as a list with ranges.

    >>> newly_exposed([22, 3306, 8080, 8081, 8082, 40000], (32768, 60999), (1024, 65535))
    '3306,8080-8082'
    """
    return ports_text(port for port in listening if after[0] <= port <= after[1] and not before[0] <= port <= before[1])
