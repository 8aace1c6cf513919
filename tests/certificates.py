"""Certificates for tests, made by the ``openssl`` program: real ones, of an authority that only the test trusts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

_CONFIG = "[req]\ndistinguished_name = dn\n[dn]\n"  # the system's own adds extensions


class Pair(NamedTuple):
    """A certificate and its key, as files in PEM."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority in a folder of its own."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        openssl = shutil.which("openssl")
        if openssl is None:
            pytest.skip("openssl is not installed")
        self._openssl = openssl
        self._folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "openssl.cnf").write_text(_CONFIG)
        self.pair = self._make(name, ["basicConstraints=critical,CA:TRUE", "keyUsage=keyCertSign"])
        self.cert = self.pair.cert

    def issue(self, name: str, sans: str = "IP:127.0.0.1,DNS:localhost", *, kind: str = "ec") -> Pair:
        """A certificate for *sans*, in files called *name*; those of an earlier one are replaced."""
        signed = ["-CA", str(self.pair.cert), "-CAkey", str(self.pair.key)]
        extensions = [f"subjectAltName={sans}", "basicConstraints=critical,CA:FALSE"]
        return self._make(name, extensions, signed, kind=kind)

    def _make(self, name: str, extensions: list[str], more: list[str] | None = None, *, kind: str = "ec") -> Pair:
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        curve = ["-pkeyopt", "ec_paramgen_curve:prime256v1"] if kind == "ec" else []
        command = [
            self._openssl, "req", "-x509", "-config", str(self._folder / "openssl.cnf"), "-nodes", "-days", "2",
            "-newkey", "ec" if kind == "ec" else "rsa:2048", *curve, "-subj", f"/CN={name}", *(more or []),
            *(word for extension in extensions for word in ("-addext", extension)),
            "-keyout", str(pair.key), "-out", str(pair.cert),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return pair


def encrypted(pair: Pair, target: Path) -> Path:
    """The key of *pair* with a password on it."""
    command = ["openssl", "ec", "-in", str(pair.key), "-aes128", "-passout", "pass:secret", "-out", str(target)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return target
