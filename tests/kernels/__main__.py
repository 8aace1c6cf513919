"""``python -m tests.kernels``: download, boot, check, report.

It exits with 0 when every check passed on every kernel, with 1 when one failed, and each failure is a line that names
the kernel and the fact. Without ``--only`` it boots every kernel of kernels.toml, and ``--output`` keeps the results.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import shutil
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.kernels import image, report
from tests.kernels.apt import Apt, Kernel, NotServedError
from tests.kernels.machine import Told, boot

PROGRAMS = ("apt-get", "cpio", "depmod", "dpkg-deb", "qemu-system-x86_64")
LIST = Path(__file__).parent / "kernels.toml"


class Wanted(NamedTuple):
    """An entry of kernels.toml."""

    name: str
    choices: tuple[tuple[str, str], ...]  # suite and pattern of the release


def wanted() -> list[Wanted]:
    """The kernels to boot."""
    entries = tomllib.loads(LIST.read_text(encoding="utf-8"))["kernel"]
    return [Wanted(it["name"], tuple((suite, pattern) for suite, pattern in it["from"])) for it in entries]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    known = wanted()
    parser = argparse.ArgumentParser(prog="python -m tests.kernels", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", action="append", choices=[it.name for it in known], help="this kernel; may be repeated"
    )
    parser.add_argument("--output", type=Path, help="write the results as JSON, for docs/kernels.md")
    parser.add_argument("--cache", type=Path, default=image.ROOT / ".cache" / "kernels", help="default: %(default)s")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, metavar="N",
                        help="how many guests run at the same time (default: %(default)s)")  # fmt: skip
    options = parser.parse_args(arguments)
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        print(f"kernels: not installed: {', '.join(missing)}; see the packages in .ci/run", file=sys.stderr)
        return 1
    options.cache.mkdir(parents=True, exist_ok=True)
    try:
        kernels = [_served(it, options.cache) for it in known if not options.only or it.name in options.only]
        debian = image.base(options.cache)
        project = image.project(options.cache, debian)
        bootables = {
            kernel: image.bootable(options.cache, kernel, debian, project) for kernel in dict.fromkeys(kernels)
        }
    except NotServedError as error:
        print(f"kernels: {error}", file=sys.stderr)
        return 1

    def booted(kernel: Kernel) -> Told:
        told = boot(bootables[kernel], options.cache / f"console-{kernel.release}")
        print(report.summary(kernel, told), flush=True)
        return told

    with concurrent.futures.ThreadPoolExecutor(options.at_once) as pool:
        results = dict(zip(bootables, pool.map(booted, bootables), strict=True))
    failures = report.failures(results)
    print(report.table(report.rows(results)))
    for line in failures:
        print(line, file=sys.stderr)
    if options.output is not None and not failures:
        options.output.write_text(report.encode(report.rows(results)), encoding="utf-8")
    return 1 if failures else 0


def _served(it: Wanted, cache: Path) -> Kernel:
    """The first of the choices that the mirror serves."""
    problems = []
    for suite, pattern in it.choices:
        try:
            kernel = Apt(suite, cache).kernel(pattern)
        except NotServedError as error:
            problems.append(str(error))
            continue
        if kernel is not None:
            return kernel
        problems.append(f"{suite} has no kernel that fits {pattern!r}")
    raise NotServedError(f"{it.name}: {'; '.join(problems)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
