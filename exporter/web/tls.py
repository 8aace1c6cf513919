"""Makes the server's TLS context of ``webconfig``'s values. A rim module: OpenSSL takes certificates as files only.

A context is made whole and then only read: a reload makes another, so no connection ever sees one certificate with the
key of another.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from typing import NoReturn

from exporter import system
from exporter.web.webconfig import CIPHERS, CURVES, IF_GIVEN, REQUIRED, Refused, Tls

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_VERIFY = {IF_GIVEN: ssl.CERT_OPTIONAL, REQUIRED: ssl.CERT_REQUIRED}


def context(tls: Tls) -> ssl.SSLContext:
    """The context that *tls* describes, or Refused with the key that is to blame."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    suites = [CIPHERS[name] for name in tls.cipher_suites or () if name in CIPHERS]
    # With suites of TLS 1.3 alone, no client of TLS 1.2 finds one that it has: so it is with Go's server.
    least = "TLS13" if tls.cipher_suites and not suites else tls.min_version or "TLS12"
    made.minimum_version = _VERSIONS[least]
    made.maximum_version = _VERSIONS[tls.max_version or "TLS13"]
    _load_identity(made, tls)
    if tls.authorities is not None:
        _load_authorities(made, tls.authorities)
    made.verify_mode = _VERIFY.get(tls.client_auth_type or "", ssl.CERT_NONE)
    # Tickets of TLS 1.3 would be written to clients that do not read them; a scraper keeps its connection instead.
    made.num_tickets = 0
    if tls.prefer_server_cipher_suites is False:
        made.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        made.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    _choose_ciphers(made, suites)
    for curve in tls.curve_preferences or ():
        try:
            made.set_ecdh_curve(CURVES[curve])
        except (ValueError, ssl.SSLError):
            raise Refused("curve_preferences", f"this host's OpenSSL has no {curve}") from None
    return made


def _load_identity(made: ssl.SSLContext, tls: Tls) -> None:
    def encrypted() -> NoReturn:
        raise Refused("key", "the key is encrypted, and nobody is there to give its password: expected a plain one")

    with _as_file(tls.certificate) as certificate, _as_file(tls.private_key) as key:
        try:
            made.load_cert_chain(certificate, key, encrypted)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise Refused("key", "the key is not the certificate's") from None
            if not _has_certificate(certificate):
                raise Refused("cert", f"expected certificates in PEM{_because(error)}") from None
            raise Refused("key", f"expected a private key in PEM{_because(error)}") from None


def _has_certificate(path: str) -> bool:
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        probe.load_verify_locations(path)
    except ssl.SSLError:
        return False
    return bool(probe.cert_store_stats()["x509"])


def _load_authorities(made: ssl.SSLContext, authorities: bytes) -> None:
    with _as_file(authorities) as path:
        try:
            made.load_verify_locations(path)
        except ssl.SSLError as error:
            raise Refused("client_ca", f"expected certificates in PEM{_because(error)}") from None


def _choose_ciphers(made: ssl.SSLContext, names: list[str]) -> None:
    """Those of TLS 1.2; the suites of TLS 1.3 stay as they are, which is Go's rule too."""
    if not names:
        return
    with contextlib.suppress(ssl.SSLError):  # none of them: found out below
        made.set_ciphers(":".join(names))
    there = {cipher["name"] for cipher in made.get_ciphers()}
    for go, name in CIPHERS.items():
        if name in names and name not in there:
            raise Refused("cipher_suites", f"this host's OpenSSL has no {go}")


def _because(error: ssl.SSLError) -> str:
    return f": {error.reason.lower().replace('_', ' ')}" if error.reason else ""


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path to *content* in memory, for as long as the block lasts; where Linux is not, in a file of this user's."""
    if not system.LINUX:
        descriptor, path = tempfile.mkstemp()  # closed before OpenSSL opens it: Windows refuses a second open
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
            yield path
        finally:
            os.unlink(path)
        return
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
