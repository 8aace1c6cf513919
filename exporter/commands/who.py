"""``tcp-exporter who``: the owners of the sockets in a state, counted once."""

from __future__ import annotations

import argparse
import json

from exporter.commands.options import command_parser, count, in_time, refused, state, wants_color
from exporter.tcpstate import BY_LABEL, TcpState
from exporter.terminal import who


def parser() -> argparse.ArgumentParser:
    """The parser of ``who``."""
    parser = command_parser(
        "who",
        "Shows which processes, units, ports or peers hold the sockets in a state, and how many each. Reads the kernel "
        "once.",
    )
    parser.add_argument("state", nargs="?", default=TcpState.ESTABLISHED, type=_state_or_leaked, metavar="STATE",
                        help="a state in any spelling, or leaked for sockets in no state (default: established): "
                        + " ".join((*BY_LABEL, "leaked")))  # fmt: skip
    parser.add_argument(
        "--by", choices=who.GROUPS, default="process", help="what to group the sockets by (default: process)"
    )
    parser.add_argument("--by-memory", action="store_true",
                        help="rank the owners by the buffer memory of their sockets, and show it: received, to send, "
                        "and reserved")  # fmt: skip
    parser.add_argument("--top", type=count, default=20, metavar="N", help="rows to show, 0 for all (default: 20)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _state_or_leaked(text: str) -> TcpState | str:
    return who.LEAKED if text.casefold() == who.LEAKED else state(text)


def run(options: argparse.Namespace) -> int:
    """Print the owners."""
    if options.state == who.LEAKED and options.by != "process":
        return refused(f"who: --by {options.by}: the kernel keeps no {options.by} of leaked sockets: use --by process")
    if options.state == who.LEAKED and options.by_memory:
        return refused("who: --by-memory: the kernel lists neither leaked sockets nor their memory")
    with in_time():
        if options.state == who.LEAKED:
            holders = who.hold_leaked()
        else:
            holders = (who.hold_memory if options.by_memory else who.hold)(options.state, options.by)
    if options.json:
        print(json.dumps(who.document(holders, options.top), indent=2))
    else:
        print(who.render(holders, options.top, color=wants_color()), end="")
    return 0
