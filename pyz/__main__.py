"""``python -m pyz``: writes the plugin and the modules that it imports into one file that any Python from 3.9 runs.

The modules are those that the import graph has from ``exporter.nagios.check``, so that nobody keeps a list of them. The
same sources and the same Pythons make the same bytes.
"""

from __future__ import annotations

import argparse
import marshal
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from modulefinder import ModuleFinder
from pathlib import Path

import exporter

PLUGIN = "exporter.nagios.check"
PACKAGE = Path(exporter.__file__).parent
HERE = Path(__file__).parent
NEWEST = 20  # Python 3.20: where the search for interpreters ends
COMMAND = b"""#!/bin/sh
exec python3 -IS -c 'import sys; del sys.argv[0]; start = open(sys.argv[0], "rb"); start.seek(%10d)
exec(start.read(%10d))' "$0" "$@"
"""
"""How the file begins, and what it does as a command: it runs ``start`` from the place where the zip has it. Python by
itself finds that through ``runpy``, which takes as long as the check; ``-S`` leaves out ``site``, half of that.
"""

Modules = dict[str, tuple[bool, str, bytes]]
"""By module: whether it is a package, its path in the package's tree, its source or its code."""


def sources() -> Modules:
    """The modules that the plugin imports, in whatever case."""
    finder = ModuleFinder(path=[str(PACKAGE.parent)])  # neither the standard library nor other packages
    finder.import_hook(PLUGIN, fromlist=["main"])
    found = {}
    for name, module in sorted(finder.modules.items()):
        file = getattr(module, "__file__", None)
        # Built into the interpreter, or beside the package where that is installed with others.
        if file is None or name.partition(".")[0] != PACKAGE.name:
            continue
        path = Path(file)
        found[name] = (path.name == "__init__.py", str(path.relative_to(PACKAGE.parent)), path.read_bytes())
    return found


def compiled(python: str, modules: Modules) -> tuple[str, bytes]:
    """The name and the table of code for the interpreter *python*."""
    command = [python, "-sS", "-X", "no_debug_ranges", str(HERE / "compiler.py")]  # no columns: a third of the size
    # Without a fixed seed the constants of a set come in another order each time.
    done = subprocess.run(
        command, input=marshal.dumps(modules, 2), stdout=subprocess.PIPE, env={"PYTHONHASHSEED": "0"}, check=True
    )
    name, code = marshal.loads(done.stdout)
    return str(name), table(code)


def table(modules: Modules) -> bytes:
    """An index, and behind it what it leads to, as ``start`` reads them."""
    index, left = {}, sum(len(content) for _, _, content in modules.values())
    for name, (is_package, path, content) in modules.items():
        index[name] = is_package, path, left, left - len(content)
        left -= len(content)
    return marshal.dumps(index, 2) + b"".join(content for _, _, content in modules.values())


def found() -> list[str]:
    """The interpreters on the PATH that the plugin runs on, and this one."""
    named = (shutil.which(f"python3.{minor}") for minor in range(9, NEWEST))
    works = [python for python in named if python is not None and not subprocess.call([python, "-c", ""])]
    return [*works, sys.executable]


def write(target: Path, pythons: Iterable[str]) -> None:
    """Write the file, with a compiled table for each of *pythons*."""
    modules = sources()
    tables = dict(sorted(compiled(python, modules) for python in pythons))
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        file.write(COMMAND % (0, 0))
        with zipfile.ZipFile(file, "w") as archive:
            places = {"python39": add(archive, "python39.py", (HERE / "python39.py").read_bytes())}
            for name, content in tables.items():  # stored: unpacking would cost every start
                places[name] = add(archive, name, content)
            places["source"] = add(archive, "source", table(modules), zipfile.ZIP_DEFLATED)
            start = (HERE / "start.py").read_text().replace("PLACES = {}", f"PLACES = {places}")
            place = add(archive, "__main__.py", start.encode())
        file.seek(0)
        file.write(COMMAND % place)
    target.chmod(0o755)


def add(archive: zipfile.ZipFile, name: str, content: bytes, compression: int = zipfile.ZIP_STORED) -> tuple[int, int]:
    """Add a member; return where its bytes begin in the file, and how many they are."""
    info = zipfile.ZipInfo(name)
    archive.writestr(info, content, compression)
    return info.header_offset + len(info.FileHeader()), info.compress_size


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(prog="python -m pyz", description="Builds the plugin as one file.")
    parser.add_argument("--output", type=Path, default=Path("dist/check_tcp_states.pyz"))
    parser.add_argument("pythons", metavar="PYTHON", nargs="*",
                        help="an interpreter to compile for (default: every one on the PATH)")  # fmt: skip
    options = parser.parse_args()
    write(options.output, options.pythons or found())
    print(options.output)


if __name__ == "__main__":
    main()
