"""The table of targets: a name, which is also its folder in ``corpus``, and the function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.fuzz import kernel, network, operator

Target = Callable[[bytes], None]

TARGETS: Mapping[str, Target] = {
    "netlink": kernel.netlink,
    "closes": kernel.closes,
    "quality": kernel.quality,
    "tcp": kernel.tcp,
    "snmp": kernel.snmp,
    "sockstat": kernel.sockstat,
    "sysctl": kernel.sysctls,
    "names": kernel.names,
    "configuration": operator.configuration,
    "web-configuration": operator.web_configuration,
    "range": operator.ranges,
    "arguments": operator.command_line,
    "http": network.http,
    "snapshot": network.snapshot,
    "hostile-server": network.hostile_server,
}

CORPUS = Path(__file__).parent / "corpus"


def corpus(name: str) -> list[bytes]:
    """The inputs of a target that are kept, in the order of their names: ``.hex`` as digits, others as they are."""
    files = sorted(path for path in (CORPUS / name).iterdir() if path.is_file())
    return [bytes.fromhex(it.read_text("ascii")) if it.suffix == ".hex" else it.read_bytes() for it in files]
