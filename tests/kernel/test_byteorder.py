"""Bytes of the kernel are read in an order and in sizes that are written down, so that each architecture reads them.

``make architectures`` runs the tests of this folder on a big-endian and on a 32-bit Python.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from exporter.kernel import inetdiag
from exporter.kernel.inetdiag import packed

KERNEL = Path(inetdiag.__file__).parent
NEITHER_SIZE_NOR_ORDER = {"P"}
"""Formats that ask for the size of a pointer, to find out whether the program has 64 bits."""


def layouts(tree: ast.AST) -> Iterator[str]:
    """The formats that are given to ``struct``, of those made of pieces the first piece."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("struct."):
            given = call.args[0]
            first = given.values[0] if isinstance(given, ast.JoinedStr) else given
            if isinstance(first, ast.Constant):
                yield str(first.value)


def test_every_layout_names_its_byte_order_and_so_has_the_same_sizes_everywhere() -> None:
    found = {
        (path.name, layout): layout[:1]
        for path in KERNEL.glob("*.py")
        for layout in layouts(ast.parse(path.read_text(encoding="utf-8")))
        if layout not in NEITHER_SIZE_NOR_ORDER
    }
    assert {place: order for place, order in found.items() if order not in {"=", "!", ">"}} == {}
    assert len(found) > 10


def test_columns_are_packed_alike_whatever_the_order_of_the_host() -> None:
    assert list(packed(b"\1\2", b"\3\4")) == [0x0301, 0x0402]
    assert list(packed(*(bytes([number]) for number in range(1, 9)))) == [0x0807060504030201]
