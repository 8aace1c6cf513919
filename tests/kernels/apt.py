"""Debian packages of any suite, downloaded with the mirrors and settings of this machine's apt, and kept.

apt verifies what it downloads; every suite has lists of its own below the cache, so the machine's stay as they are.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ARCHITECTURE = "amd64"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_BINARY = re.compile(r"^ *Depends: (linux-(?:binary|modules)-\S+)$", re.MULTILINE)


class NotServedError(Exception):
    """The mirror does not serve what was asked for, or does not answer."""


class Kernel(NamedTuple):
    """A kernel as Debian packages it."""

    suite: str
    package: str  # linux-image-6.1.0-55-cloud-amd64
    version: str  # of the package: 6.1.192-1

    @property
    def release(self) -> str:
        """What uname says: 6.1.0-55-cloud-amd64."""
        return self.package.removeprefix("linux-image-")

    @property
    def number(self) -> str:
        """The release of the stable series: 6.1.192, which ``release`` does not tell for older ones."""
        return self.version.partition("-")[0]


class Apt:
    """The packages of one *suite*; what is downloaded stays below *cache*."""

    def __init__(self, suite: str, cache: Path) -> None:
        self._suite = suite
        home = cache / "apt" / suite
        self._archives = home / "cache" / "archives"
        for folder in (home / "lists" / "partial", self._archives / "partial", cache / "packages"):
            folder.mkdir(parents=True, exist_ok=True)
        self._packages = cache / "packages"
        (home / "status").touch()
        (home / "sources.list").write_text(
            f"deb [arch={ARCHITECTURE} signed-by={_KEYRING}] {_mirror(suite)} {suite} main\n", encoding="ascii"
        )
        options = {
            "APT::Architecture": ARCHITECTURE,
            "APT::Architectures": ARCHITECTURE,
            "APT::Sandbox::User": "",
            "Dir::Cache": home / "cache",
            "Dir::Etc::sourcelist": home / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": home / "lists",
            "Dir::State::status": home / "status",
        }
        self._options = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        # Without an answer, the lists of the last time do.
        self._do("apt-get", "update", "-qq", check=not any(home.glob("lists/*Packages*")))

    def kernel(self, pattern: str) -> Kernel | None:
        """The newest cloud kernel whose release fits *pattern*; None where there is none."""
        found = self._do("apt-cache", "search", "--names-only", f"^linux-image-[0-9].*-cloud-{ARCHITECTURE}$")
        packages = [line.split()[0] for line in found.splitlines()]
        fitting = [it for it in packages if re.match(pattern, it.removeprefix("linux-image-"))]
        kernels = [Kernel(self._suite, it, self._version(it)) for it in fitting]
        return max(kernels, key=lambda it: _order(it.version), default=None)

    def kernel_packages(self, kernel: Kernel) -> list[Path]:
        """The files of a kernel. Since 6.19 its image and its modules are packages of their own."""
        needs = _BINARY.findall(self._do("apt-cache", "depends", kernel.package))
        return [self._download(package) for package in (kernel.package, *needs)]

    def with_dependencies(self, packages: Sequence[str]) -> list[Path]:
        """The files of *packages* and of all that they depend on, for an empty machine."""
        self._do("apt-get", "install", "-qq", "-y", "--download-only", "--no-install-recommends", *packages)
        return sorted(self._archives.glob("*.deb"))

    def _download(self, package: str) -> Path:
        version = self._version(package)
        known = self._packages / f"{package}_{version.replace(':', '%3a')}_{ARCHITECTURE}.deb"
        if not known.exists():
            self._do("apt-get", "download", "-qq", package, cwd=self._packages)
        return known

    def _version(self, package: str) -> str:
        shown = self._do("apt-cache", "show", "--no-all-versions", package)
        return next(line.split()[1] for line in shown.splitlines() if line.startswith("Version:"))

    def _do(self, program: str, *arguments: str, check: bool = True, cwd: Path | None = None) -> str:
        command = [program, *self._options, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
        if done.returncode and check:
            raise NotServedError(f"{self._suite}: {program} {' '.join(arguments)}: {done.stderr.strip()[-1000:]}")
        return done.stdout


def _mirror(suite: str) -> str:
    """The site that this machine gets such a suite from; the security one beside the main one where it has none."""
    is_security = suite.endswith("-security")
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(LABEL) $(SITE)", "Origin: Debian", "Component: main"],
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    sites = {label: site for label, _, site in (line.rpartition(" ") for line in reversed(done.stdout.splitlines()))}
    main = sites.get("Debian")
    site = sites.get("Debian-Security", main and f"{main.rstrip('/')}-security") if is_security else main
    if not site:
        raise NotServedError("apt has no mirror of Debian (apt-get indextargets): run apt-get update")
    return site


def _order(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
