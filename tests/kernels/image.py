"""What a guest boots from: a small Debian with the built package and the checks, and a kernel with a few modules.

Linux unpacks three archives into one file system in memory: the Debian, which is made once; this checkout; the modules
of the kernel. Nothing here needs root.
"""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.kernels.apt import Apt, Kernel

ROOT = Path(__file__).parents[2]
SUITE, PYTHON = "bookworm", "3.11"
_PACKAGES = ("python3", "busybox-static", "libc-bin", "tzdata")
_LIBRARIES = (
    "bcrypt", "h11", "iniconfig", "packaging", "pluggy", "prometheus-client", "psutil", "pygments", "pytest", "pyyaml",
    "structlog",
)  # fmt: skip
_NOT_UNPACKED = (
    "*-data_*", "dpkg_*", "install-info*", "libdb5*", "libgdbm*", "libperl*", "libsqlite*", "perl*", "tar_*",
)  # fmt: skip
_LEFT_OUT = (
    "./usr/share/bash-completion", "./usr/share/doc", "./usr/share/i18n", "./usr/share/info", "./usr/share/locale",
    "./usr/share/man", "./usr/share/zoneinfo", "./usr/lib/python3.11/lib2to3", "./usr/lib/python3.11/pydoc_data",
    "./usr/lib/python3.11/test",
)  # fmt: skip
_MODULES = ("tcp_diag", "inet_diag", "veth")  # what the checks need; what they depend on comes with them
_OF_THE_CHECKS = ("tests/__init__.py", "tests/lab", "tests/kernels", "tests/situations/__init__.py",
                  "tests/situations/world.py", "tests/e2e/__init__.py", "tests/e2e/conftest.py")  # fmt: skip
INIT = """\
#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin HOME=/root LANG=C.UTF-8 PYTHONPATH=/project:/libraries TERM=dumb TCP_EXPORTER_GUEST=1
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev 2>/dev/null
busybox mkdir -p /dev/shm /tmp /root /run
busybox mount -t cgroup2 cgroup /sys/fs/cgroup
busybox ip link set lo up
busybox hostname guest
for module in $(busybox cat /modules/order); do busybox insmod /modules/$module; done
ulimit -n 65536
busybox stty raw -F /dev/ttyS1
cd /project
python3 -m tests.kernels.guest /dev/ttyS1
busybox sync
busybox poweroff -f
"""


class Bootable(NamedTuple):
    """The files that qemu boots."""

    kernel: Path
    archives: tuple[Path, ...]


def base(cache: Path) -> Path:
    """The archive of a Debian with the libraries of the package and of its checks."""
    pins = _pins()
    key = hashlib.sha256(repr((SUITE, PYTHON, _PACKAGES, _NOT_UNPACKED, _LEFT_OUT, pins)).encode()).hexdigest()[:12]
    archive = cache / f"base-{key}.cpio"
    if archive.exists():
        return archive
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        root = Path(folder)
        for name in ("bin", "sbin", "lib", "lib64"):
            (root / "usr" / name).mkdir(parents=True)
            (root / name).symlink_to(f"usr/{name}")
        for name in ("dev", "proc", "sys", "tmp", "run", "root", "etc"):
            (root / name).mkdir()
        for package in Apt(SUITE, cache).with_dependencies(_PACKAGES):
            if not any(package.match(pattern) for pattern in _NOT_UNPACKED):
                _unpack(package, root, _LEFT_OUT)
        (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n", encoding="ascii")
        (root / "etc" / "group").write_text("root:x:0:\n", encoding="ascii")
        (root / "etc" / "hosts").write_text("127.0.0.1 localhost guest\n", encoding="ascii")
        file = root / "pins"
        file.write_text(pins, encoding="ascii")
        _pip(root / "libraries", "--require-hashes", "-r", str(file))
        _compile(root, root, "usr/lib/python3.11", "libraries")
        return _archive(root, archive)


def project(cache: Path, of: Path) -> Path:
    """The archive of this checkout: its wheel, installed, and the checks. *of* is the Debian's, which compiles it."""
    archive = cache / "project.cpio"
    with tempfile.TemporaryDirectory(dir=cache) as folder, tempfile.TemporaryDirectory(dir=cache) as debian:
        root, wheels = Path(folder), Path(folder, "wheels")
        _run(
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-build-isolation",
            "--no-deps",
            "--wheel-dir",
            str(wheels),
            str(ROOT),
        )
        _pip(root / "project", *map(str, wheels.glob("*.whl")))
        shutil.rmtree(wheels)
        tracked = _run(
            "git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", *_OF_THE_CHECKS
        )
        for name in tracked.splitlines():
            (root / "project" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / "project" / name)
        (root / "init").write_text(INIT, encoding="ascii")
        (root / "init").chmod(0o755)
        with of.open("rb") as stream:
            subprocess.run(["cpio", "-idm", "--quiet"], stdin=stream, cwd=debian, check=True)
        _compile(Path(debian), root, "project")
        return _archive(root, archive)


def bootable(cache: Path, kernel: Kernel, base: Path, project: Path) -> Bootable:
    """The image of *kernel*, and the archives that it unpacks."""
    image, archive = cache / f"vmlinuz-{kernel.release}", cache / f"modules-{kernel.release}.cpio"
    if not (image.exists() and archive.exists()):
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            root = Path(folder)
            for package in Apt(kernel.suite, cache).kernel_packages(kernel):
                _unpack(package, root / "kernel")
            _archive_modules(root, kernel.release, archive)
            (found,) = (it for it in root.rglob("vmlinuz*") if it.is_file() and not it.is_symlink())
            shutil.copy(found, image)
    return Bootable(image, (base, project, archive))


def _archive_modules(root: Path, release: str, to: Path) -> None:
    """The modules of ``_MODULES`` and their dependencies, uncompressed, and the order in which they are loaded."""
    (source,) = (it for it in root.glob(f"kernel/**/modules/{release}") if (it / "kernel").is_dir())
    tree = root / "depmod"
    (tree / "lib" / "modules").mkdir(parents=True)
    source.rename(tree / "lib" / "modules" / release)
    source = tree / "lib" / "modules" / release
    _run("depmod", "-b", str(tree), release)
    needs = {}
    for line in (source / "modules.dep").read_text(encoding="ascii").splitlines():
        path, _, others = line.partition(":")
        needs[_module(path)] = path, others.split()
    order: dict[str, str] = {}  # from its name to its path

    def add(name: str) -> None:
        if name in needs and name not in order:
            for other in needs[name][1]:
                add(_module(other))
            order[name] = needs[name][0]

    for name in _MODULES:
        add(name)
    folder = root / "image" / "modules"
    folder.mkdir(parents=True)
    for name, path in order.items():
        content = (source / path).read_bytes()
        (folder / f"{name}.ko").write_bytes(lzma.decompress(content) if path.endswith(".xz") else content)
    (folder / "order").write_text("".join(f"{name}.ko\n" for name in order), encoding="ascii")
    _archive(root / "image", to)


def _module(path: str) -> str:
    return re.sub(r"\.ko(\.\w+)?$", "", path.rpartition("/")[2]).replace("-", "_")


def _pins() -> str:
    """The entries of requirements-dev.lock that the guest needs, with their hashes."""
    entries = re.split(r"^(?=\S)", (ROOT / "requirements-dev.lock").read_text(encoding="ascii"), flags=re.MULTILINE)
    return "".join(entry for entry in entries if entry.partition("==")[0].lower().replace("_", "-") in _LIBRARIES)


def _pip(target: Path, *arguments: str) -> None:
    _run(
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile",
        "--only-binary=:all:", "--python-version", PYTHON, "--target", str(target), *arguments,
    )  # fmt: skip


def _compile(debian: Path, root: Path, *folders: str) -> None:
    """Compile below *root* by the Python of *debian*: in the guest it would take minutes."""
    loader, libraries = debian / "lib64" / "ld-linux-x86-64.so.2", debian / "usr" / "lib" / "x86_64-linux-gnu"
    command = [str(loader.resolve()), "--library-path", str(libraries), str(debian / "usr" / "bin" / f"python{PYTHON}")]
    command += ["-S", "-m", "compileall", "-q", "-s", str(root), *(str(root / folder) for folder in folders)]
    # Some files of libraries are examples of mistakes, so its status says nothing.
    subprocess.run(command, env={"PYTHONHOME": str(debian / "usr")}, capture_output=True, check=False)
    for folder in folders:
        if not any((root / folder).rglob("*.pyc")):
            raise RuntimeError(f"{' '.join(command)} compiled nothing in {folder}")


def _unpack(package: Path, root: Path, leave_out: Iterable[str] = ()) -> None:
    root.mkdir(exist_ok=True)
    exclude = [f"--exclude={path}" for path in leave_out]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as tar:
        command = ["tar", "-x", "--no-same-owner", "--keep-directory-symlink", *exclude, "-C", str(root)]
        subprocess.run(command, stdin=tar.stdout, check=True)


def _archive(root: Path, to: Path) -> Path:
    names = "\n".join(sorted(str(path.relative_to(root)) for path in root.rglob("*")))
    partial = to.with_suffix(".partial")
    with partial.open("wb") as stream:
        command = ["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"]
        subprocess.run(command, input=names.encode(), stdout=stream, cwd=root, check=True)
    with contextlib.suppress(FileNotFoundError):
        to.unlink()
    return partial.rename(to)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout
