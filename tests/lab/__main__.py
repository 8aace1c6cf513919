"""``python -m tests.lab``: the lab by hand.

It makes a namespace and a population, checks them against the kernel and prints the exact numbers; then it runs a
command in there, or keeps everything until its input ends. It exits as the command does, or with 1 when the lab failed,
or with 77 when this machine allows none.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import socket
import subprocess
import sys

from tests.lab import census
from tests.lab.namespace import LabError, LabUnavailable, enter
from tests.lab.process import serve
from tests.lab.states import KINDS, Expected, Lab

_FAILED, _UNAVAILABLE = 1, 77
_FAMILIES = {
    "4": (socket.AF_INET,),
    "6": (socket.AF_INET6,),
    "both": (socket.AF_INET, socket.AF_INET6),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab",
        usage="%(prog)s [options] [-- COMMAND ARGUMENT...]",
        description="Real TCP sockets in exact numbers, in every state, in a network namespace of their own.",
        epilog="Numbers are for each family. Without COMMAND the lab stays until its input ends (Ctrl-D, Ctrl-C).",
        allow_abbrev=False,
    )
    parser.add_argument("--family", choices=sorted(_FAMILIES), default="both", help="default: both")
    parser.add_argument("--all", type=int, default=0, metavar="N", help="N of every kind that is not named")
    for kind, label in KINDS.items():
        meaning = kind if kind == label else f"{kind}, which counts in {label}"
        parser.add_argument(_flag(kind), dest=kind, type=int, metavar="N", help=meaning)
    parser.add_argument("--establish", type=int, default=0, metavar="N", help="thousands of established, cheaply")
    parser.add_argument("--json", action="store_true", help="print the numbers as one line of JSON")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser


def _flag(kind: str) -> str:
    return "--" + kind.replace("_", "-")


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit status."""
    own, command = arguments, []
    if "--" in arguments:
        end = arguments.index("--")
        own, command = arguments[:end], arguments[end + 1 :]
    options = _parser().parse_args(own)
    try:
        return serve() if options.serve else _by_hand(options, command)
    except LabUnavailable as error:
        print(f"lab: {error}", file=sys.stderr)
        return _UNAVAILABLE
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return _FAILED


def _by_hand(options: argparse.Namespace, command: list[str]) -> int:
    asked = {kind: getattr(options, kind) for kind in KINDS}
    population = {kind: options.all if number is None else number for kind, number in asked.items()}
    enter()
    with Lab() as lab:
        for family in _FAMILIES[options.family]:
            lab.make({kind: number for kind, number in population.items() if number}, family)
            if options.establish:
                lab.establish(options.establish, family)
        expected = lab.verify()
        _check_that_nothing_else_is_here(expected)
        print(_as_json(expected) if options.json else _as_table(expected), flush=True)
        if command:
            return _run(command)
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.read()
    return 0


def _run(command: list[str]) -> int:
    try:
        with subprocess.Popen(command) as program:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command's; its end is ours
            return program.wait()
    except OSError as error:
        raise LabError(f"cannot run {command[0]}: {error}") from error


def _check_that_nothing_else_is_here(expected: Expected) -> None:
    seen = census.by_family(census.count())
    if seen != expected.by_family:
        raise LabError(f"there are other sockets here: expected {expected.by_family}, seen {seen}")


def _as_json(expected: Expected) -> str:
    return json.dumps({**expected.by_family, "total": expected.total})


def _as_table(expected: Expected) -> str:
    columns = {**expected.by_family, "total": expected.total}
    lines = [f"{'state':12}" + "".join(f"{name:>8}" for name in columns)]
    lines += [f"{state:12}" + "".join(f"{column[state]:8}" for column in columns.values()) for state in expected.total]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
