"""Who holds the sockets in a state: the answer of ``tcp-exporter who``, grouped, ranked and written out.

``kernel.owners`` counts the sockets by what the kernel says of them and gives the processes; here they become owners,
one row each, and what has no owner that can be seen becomes a row with the reason. But for ``hold``, which asks there,
all of it is pure; colour is an argument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from exporter.health.measures import amount
from exporter.kernel import cgroup, owners
from exporter.kernel.memory import Buffers
from exporter.kernel.owners import Process, Survey
from exporter.printable import escaped, shortened
from exporter.tcpstate import TcpState

LEAKED = "leaked"
"""What ``who`` takes beside a state: the sockets in none."""

GROUPS = ("process", "unit", "port", "remote")
"""What sockets can be grouped by; the first is what a person means by an owner."""

NO_PROCESS = "no process (half-open, closed or waiting to be accepted)"
REFUSED = "other user's process: run as root or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH to see it"
NOT_FOUND = "beyond reach: a process of another PID namespace, a descriptor in flight, or the kernel itself"
NEVER_CONNECTED = "In no state: the connection has ended, or the socket was never connected."
NO_CGROUP = "no cgroup (half-open or closed)"
_NO_UNIT = {
    "": NO_CGROUP,
    cgroup.GONE: "cgroup has been removed",
    cgroup.OUTSIDE: "cgroup belongs to another cgroup namespace",
}


_COLUMNS = 80 - 11  # of a terminal, beside the number
_SHORTEST = 16  # columns that an owner has at least


class Row(NamedTuple):
    """An owner and the sockets that it holds."""

    label: str
    sockets: int
    detail: str = ""  # what else a person wants to know of the owner
    unit: str = ""  # of a process
    buffers: Buffers | None = None  # their memory, where that was asked for

    @property
    def text(self) -> str:
        """The owner in one line."""
        return f"{self.label} ({self.detail})" if self.detail else self.label

    def within(self, columns: int) -> str:
        """As ``text``, the owner shortened where that makes it fit *columns*."""
        return self._replace(
            label=shortened(self.label, max(_SHORTEST, columns - len(self.text) + len(self.label)))
        ).text


class Holders(NamedTuple):
    """Who holds the sockets in one state. The rows and the unattributed add up to the total."""

    state: str  # its label
    by: str
    total: int
    rows: tuple[Row, ...]  # the largest first, then by name
    remarks: tuple[str, ...] = ()  # how far the answer reaches
    unattributed: tuple[Row, ...] = ()  # sockets without an owner, each row a reason: never folded away
    buffers: Buffers | None = None  # the memory of all of them, where that was asked for: then it ranks the rows


def hold(state: TcpState, by: str) -> Holders:
    """Who holds the sockets in *state* in this network namespace; *by* is one of ``GROUPS``.

    Raises ``SourceError`` where the sockets cannot be listed, and by unit where netlink or cgroup v2 is not to be had.
    """
    if by == "process":
        return held_by_process(state.label, *owners.by_process(state))
    count: Mapping[str, Callable[[TcpState], Mapping[str, int]]]
    count = {"unit": owners.by_unit, "port": owners.by_port, "remote": owners.by_remote}
    return _named(state, by, count[by](state))


def hold_memory(state: TcpState, by: str) -> Holders:
    """As ``hold``, with the buffer memory of the sockets, the most first. Only netlink knows it."""
    if by == "process":
        by_inode, survey = owners.memory_by_process(state)
        return joined([held_by_process(state.label, counts, survey) for counts in by_inode])
    weigh = {"unit": owners.memory_by_unit, "port": owners.memory_by_port, "remote": owners.memory_by_remote}[by]
    return joined([_named(state, by, counts) for counts in weigh(state)])


def joined(of: Sequence[Holders]) -> Holders:
    """One answer from four of the same owners: their sockets, then the bytes received, to send and reserved."""
    counted, *weighed = of
    # The label alone is of several rows where processes are called alike; the detail has a pid of each.
    sizes = [{(row.label, row.detail): row.sockets for row in (*it.rows, *it.unattributed)} for it in weighed]

    def with_memory(row: Row) -> Row:
        return row._replace(buffers=Buffers(*(size.get((row.label, row.detail), 0) for size in sizes)))

    return counted._replace(
        rows=tuple(sorted(map(with_memory, counted.rows), key=_rank)),
        unattributed=tuple(map(with_memory, counted.unattributed)),
        buffers=Buffers(*(it.total for it in weighed)),
    )


def _named(state: TcpState, by: str, counts: Mapping[str, int]) -> Holders:
    if by != "unit":
        return holders(state.label, by, (Row(name, count) for name, count in counts.items()))
    found = [Row(name, count) for name, count in counts.items() if name not in _NO_UNIT]
    return holders(state.label, by, found, [Row(reason, counts[name]) for name, reason in _NO_UNIT.items()])


def hold_leaked() -> Holders:
    """Who holds TCP sockets in no state. Raises ``SourceError`` where the sockets cannot be listed."""
    survey = owners.leaked()
    rows = attribute(Counter({inode: 1 for it in survey.processes for inode in it.inodes}), survey.processes)
    remarks = [NEVER_CONNECTED] if rows else []
    if survey.is_partial:
        remarks.append(f"{_reach(survey)} The others need root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH.")
    return holders(LEAKED, "process", rows, remarks=remarks)


def held_by_process(state: str, counts: Mapping[int, int], survey: Survey) -> Holders:
    """Who holds the sockets that are counted by inode, 0 for those that no process has."""
    rows = attribute(counts, survey.processes)
    without = counts.get(0, 0)
    left = sum(counts.values()) - without - sum(row.sockets for row in rows)
    reason, remarks = (REFUSED, (_reach(survey),)) if left and survey.is_partial else (NOT_FOUND, ())
    return holders(state, "process", rows, (Row(NO_PROCESS, without), Row(reason, left)), remarks)


def _reach(survey: Survey) -> str:
    hidden = "; others are hidden (hidepid)" if survey.hidden else ""
    return f"The descriptors of {survey.seen - survey.refused} of {survey.seen} processes could be read{hidden}."


def holders(
    state: str, by: str, rows: Iterable[Row], unattributed: Iterable[Row] = (), remarks: Iterable[str] = ()
) -> Holders:
    """Rank the rows, total them, and make of every label what a terminal can be trusted with."""
    ranked = sorted((_fit_for_a_terminal(row) for row in rows), key=_rank)
    without = tuple(row for row in unattributed if row.sockets)
    total = sum(row.sockets for row in (*ranked, *without))
    return Holders(state, by, total, tuple(ranked), tuple(remarks), without)


def _fit_for_a_terminal(row: Row) -> Row:
    return row._replace(label=escaped(row.label), detail=escaped(row.detail), unit=escaped(row.unit))


def attribute(sockets: Mapping[int, int], processes: Iterable[Process]) -> list[Row]:
    """The rows by process name, script and unit of the *sockets*, counted by inode; *processes* come in order of pid.

    A socket that several processes have open counts once, for the first of them; the others are counted as processes
    of that row if they are alike.
    """
    owners: dict[int, tuple[str, str, str]] = {}
    counts: Counter[tuple[str, str, str]] = Counter()
    pids: dict[tuple[str, str, str], list[int]] = {}
    for it in processes:
        kind = it.name, it.script, it.unit
        for inode in it.inodes - owners.keys():
            owners[inode] = kind
            counts[kind] += sockets[inode]
        if any(owners[inode] == kind for inode in it.inodes):
            pids.setdefault(kind, []).append(it.pid)
    return [
        Row(f"{name} {script}" if script else name, count, _processes(pids[name, script, unit], unit), unit)
        for (name, script, unit), count in counts.items()
    ]


def render(holders: Holders, top: int, *, color: bool) -> str:
    """The answer for a terminal, of at most *top* owners; 0 for all."""
    shown, folded = _fold(holders, top)
    total = Row("total", holders.total, buffers=holders.buffers)
    heads = [_TITLES] if holders.buffers is not None else []
    lines = [
        f"{holders.state} by {holders.by}:",
        *heads,
        _paint(_line(total, total.text), "1", color=color),
        *(_line(row, row.within(_COLUMNS)) for row in (*shown, *folded)),
        *(_paint(_line(row, row.text), "2", color=color) for row in holders.unattributed),
    ]
    if holders.remarks:
        lines += ["", *holders.remarks]
    return "\n".join(lines) + "\n"


def document(holders: Holders, top: int) -> dict[str, object]:
    """The answer for a script, of at most *top* owners; 0 for all."""
    shown, folded = _fold(holders, top)
    return {
        "state": holders.state,
        "by": holders.by,
        "total": holders.total,
        **_bytes(holders.buffers),
        "owners": [
            {"owner": row.label, "sockets": row.sockets, "detail": row.detail, "unit": row.unit, **_bytes(row.buffers)}
            for row in shown
        ],
        "more": {
            "owners": len(holders.rows) - len(shown),
            "sockets": sum(row.sockets for row in folded),
            **_bytes(holders.buffers and _summed(folded)),
        },
        "unattributed": [
            {"reason": row.label, "sockets": row.sockets, **_bytes(row.buffers)} for row in holders.unattributed
        ],
        "remarks": list(holders.remarks),
    }


_TITLES = f"{'memory':>12} {'received':>12} {'to send':>12} {'reserved':>12} {'sockets':>9}  owner"


def _line(row: Row, text: str) -> str:
    """One row before its *text*: of memory all of it and its three parts, then how many sockets there are."""
    if row.buffers is None:
        return f"{row.sockets:>9}  {text}"
    sizes = " ".join(f"{amount(size, 'bytes'):>12}" for size in (row.buffers.total, *row.buffers))
    return f"{sizes} {row.sockets:>9}  {text}"


def _bytes(buffers: Buffers | None) -> dict[str, int]:
    """The fields of a document that has the memory; none of one that has not."""
    if buffers is None:
        return {}
    return {"memory_bytes": buffers.total} | {f"{name}_bytes": size for name, size in buffers._asdict().items()}


def _summed(rows: Iterable[Row]) -> Buffers:
    return Buffers(*map(sum, zip((0, 0, 0), *(row.buffers for row in rows if row.buffers is not None), strict=True)))


def _rank(row: Row) -> tuple[int, int, int, str]:
    """The most memory first, then the most sockets, then by name; ports by number."""
    memory = 0 if row.buffers is None else row.buffers.total
    return -memory, -row.sockets, len(row.label) if row.label.isdecimal() else 0, row.label


def _fold(holders: Holders, top: int) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """The rows that are shown, and the row that sums the others where there are any."""
    shown = holders.rows[: top or None]
    others = holders.rows[len(shown) :]
    buffers = None if holders.buffers is None else _summed(others)
    folded = (
        (Row(f"... and {len(others)} more", sum(row.sockets for row in others), buffers=buffers),) if others else ()
    )
    return shown, folded


def _processes(pids: list[int], unit: str) -> str:
    parts = (f"pid {min(pids)}", f"{len(pids)} processes" if len(pids) > 1 else "", unit)
    return ", ".join(part for part in parts if part)


def _paint(line: str, code: str, *, color: bool) -> str:
    return f"\x1b[{code}m{line}\x1b[0m" if color else line
