"""``--web.config.file``: exporter-toolkit's schema for TLS and authentication, from bytes to a value or every mistake.

It is written in ``config.fields``, as the configuration's schema is. The caller brings the two parts that touch the
system, reading files and making a TLS context: so an unusable certificate is a mistake with a line like any other.
Options that this server does not support are rejected here; docs/security.md lists them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ssl import SSLContext, cert_time_to_seconds
from typing import Annotated, NamedTuple, TypeVar

from exporter.config import yamlnodes
from exporter.config.fields import (
    FieldReader,
    boolean,
    choice,
    foreign,
    integer,
    key_of,
    of,
    parsed,
    section,
    table,
    unique,
)
from exporter.config.yamlnodes import Mistakes, Node, Scalar, expected, wrong
from exporter.errors import ConfigError, UsageError

T = TypeVar("T")
Read = Callable[[str], bytes]
"""The content of a file that the configuration names, or OSError."""

VERSIONS = ("TLS12", "TLS13")
NO_CLIENT_CERT, IF_GIVEN, REQUIRED = "NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"
_UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")

# Go's names, which are IANA's, to OpenSSL's: what Go's crypto/tls calls secure, with RSA's, which it did until 1.21.
CIPHERS: Mapping[str, str] = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
}
CIPHERS_OF_TLS13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
CURVES: Mapping[str, str] = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}

_MAX_PEM = 1 << 18  # characters of an inline certificate or key
_HASH = re.compile(r"\$2[aby]\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_MAX_COST = 17  # ten seconds for one check: above it no scrape would wait for its first answer
_GO_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{0,9})?(?:ns|us|µs|ms|s|m|h))+")
_GO_PART = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")
_GO_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_HEADER_TEXT = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


class Refused(Exception):
    """A TLS context cannot be made: the key of ``Tls`` at fault, and why."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class ServerTls(NamedTuple):
    """TLS for a connection: its context, and the client names that are allowed."""

    context: SSLContext
    allowed_sans: frozenset[str] | None = None  # None: every client that the context accepts
    client_auth_type: str = NO_CLIENT_CERT
    authorities: bytes | None = None

    @property
    def clients(self) -> tuple[str, bytes | None, frozenset[str] | None]:
        """What decides which clients are admitted: where it changes, connections are judged anew."""
        return self.client_auth_type, self.authorities, self.allowed_sans

    def admits(self, certificate: Mapping[str, object] | None, now: float) -> bool:
        """Whether a client with *certificate*, as ``SSLObject.getpeercert`` returns it, is allowed at Unix time *now*.

        The context has judged clients without one already: ``client_auth_type`` allows those that get here. It does not
        look at the dates of a certificate again when a session is resumed, or while a connection lasts.
        """
        if not certificate:
            return True
        until = certificate.get("notAfter")
        if isinstance(until, str) and cert_time_to_seconds(until) < now:
            return False
        if self.allowed_sans is None:
            return True
        names = certificate.get("subjectAltName", ())
        assert isinstance(names, tuple)  # noqa: S101 - as documented in ssl
        return not self.allowed_sans.isdisjoint(normal_san(value) for _, value in names)


def normal_san(name: str) -> str:
    """A subject alternative name in one spelling for comparison: OpenSSL writes IPv6 addresses out.

    >>> normal_san("2001:DB8:0:0:0:0:0:1"), normal_san("prometheus.example")
    ('2001:db8::1', 'prometheus.example')
    """
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def parse_go_duration(text: str) -> float:
    """The seconds of a duration as Go's time.ParseDuration reads it, or UsageError.

    >>> parse_go_duration("1.5s"), parse_go_duration("1m30s"), parse_go_duration("0")
    (1.5, 90.0, 0.0)
    """
    if text == "0":
        return 0.0
    if not _GO_DURATION.fullmatch(text):
        raise UsageError(f"expected a duration such as 500ms, 1s or 1m30s, got {text!r}")
    return sum(float(number) * _GO_UNITS[unit] for number, unit in _GO_PART.findall(text))


# -- Readers -----------------------------------------------------------------------------------------------------------


def pem(node: Node) -> bytes:
    """Certificates or a key, inline. Messages never repeat the text, because it may be a key."""
    if not isinstance(node, Scalar) or not node.text.strip():
        raise wrong(node, "expected a text in PEM")
    if len(node.text) > _MAX_PEM:
        raise wrong(node, f"expected at most {_MAX_PEM} characters, got {len(node.text)}")
    return node.text.encode()


def file(read: Read) -> FieldReader[bytes]:
    """The content of the file that is named."""

    def content(path: str) -> bytes:
        if not path or "\0" in path:
            raise UsageError(f"expected the path of a file, got {path!r}")
        try:
            return read(path)
        except OSError as error:
            raise UsageError(f"{path!r} cannot be read: {error.strerror or error}") from None

    return parsed(content)


def _client_auth(text: str) -> str:
    if text in _UNVERIFIED:
        raise UsageError(
            f"{text} cannot be had: Python's TLS verifies every certificate that it asks for; "
            f"expected {NO_CLIENT_CERT}, {IF_GIVEN} or {REQUIRED}"
        )
    if text not in {"", NO_CLIENT_CERT, IF_GIVEN, REQUIRED}:
        raise UsageError(f"expected {NO_CLIENT_CERT}, {IF_GIVEN} or {REQUIRED}, got {text!r}")
    return text or NO_CLIENT_CERT


def _version(text: str) -> str:
    if text in {"TLS10", "TLS11"}:
        raise UsageError(f"{text} cannot be had: OpenSSL 3 refuses its signatures; expected TLS12 or TLS13")
    if text not in VERSIONS:
        raise UsageError(f"expected TLS12 or TLS13, got {text!r}")
    return text


def _cipher(text: str) -> str:
    if text not in CIPHERS and text not in CIPHERS_OF_TLS13:
        raise UsageError(f"unknown cipher suite {text!r}: expected one of {', '.join((*CIPHERS, *CIPHERS_OF_TLS13))}")
    return text


def _ciphers(node: Node) -> tuple[str, ...]:
    """The suites, each once: Go's server takes one that is repeated as well."""
    if not isinstance(node, yamlnodes.Items):
        raise expected(node, "a list")
    found, names = Mistakes(), dict[str, None]()
    for item in node.items:
        with found:
            names[parsed(_cipher)(item)] = None
    found.done()
    return tuple(names)


def _curve(text: str) -> str:
    if text not in CURVES:
        raise UsageError(f"unknown curve {text!r}: expected one of {', '.join(CURVES)}")
    return text


def _curves(node: Node) -> tuple[str, ...]:
    curves = unique(parsed(_curve))(node)
    if len(curves) > 1:
        raise wrong(node, "Python's TLS takes one curve, or all that OpenSSL has where the list is left out")
    return curves


def _san(text: str) -> str:
    if not text:
        raise UsageError("expected a DNS name, an IP address, an e-mail address or a URI")
    return text


def _sans(node: Node) -> tuple[str, ...]:
    names = unique(parsed(_san))(node)
    if not names:
        raise wrong(node, "expected at least one name: an empty list admits nobody; to admit all, leave the key out")
    return names


def _header(text: str) -> str:
    if not _HEADER_TEXT.fullmatch(text):
        raise UsageError("expected a value of printable ASCII characters, without a blank at its ends")
    return text


def _or(read: FieldReader[T], *, default: T) -> FieldReader[T]:
    """What *read* reads, or *default* for a key without a value, as in exporter-toolkit."""
    return lambda node: default if node.is_null else read(node)


def _unless_blank(read: FieldReader[str]) -> FieldReader[str]:
    """The value of a header; a blank one unsets it, as in exporter-toolkit."""
    return lambda node: "" if isinstance(node, Scalar) and (node.is_null or not node.text) else read(node)


def _user(name: str) -> str:
    if ":" in name:
        raise UsageError("expected a user's name without a colon, which ends it in basic authentication")
    return name


def _hash(text: str) -> str:
    """A bcrypt hash. The message never repeats the text, because it may be a password."""
    match = _HASH.fullmatch(text)
    if not match:
        raise UsageError("expected a bcrypt hash of 60 characters, as $2y$10$..., made by `htpasswd -nBC 10 USER`")
    if not 4 <= int(match["cost"]) <= _MAX_COST:
        raise UsageError(f"expected a bcrypt hash of a cost from 4 to {_MAX_COST}, got {int(match['cost'])}")
    return text


# -- The schema --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tls:
    """``tls_server_config``, each file as its content."""

    cert: bytes | None = None
    key: bytes | None = None
    client_ca: bytes | None = None
    cert_file: bytes | None = None
    key_file: bytes | None = None
    client_ca_file: bytes | None = None
    client_auth_type: str | None = None
    client_allowed_sans: tuple[str, ...] | None = None
    min_version: str | None = None
    max_version: str | None = None
    cipher_suites: tuple[str, ...] | None = None
    prefer_server_cipher_suites: bool | None = None
    curve_preferences: tuple[str, ...] | None = None

    @property
    def certificate(self) -> bytes:
        """The server's certificate, followed by its intermediate ones."""
        return self.cert or self.cert_file or b""

    @property
    def private_key(self) -> bytes:
        """The key of the certificate."""
        return self.key or self.key_file or b""

    @property
    def authorities(self) -> bytes | None:
        """The authorities whose clients are allowed."""
        return self.client_ca or self.client_ca_file


@dataclass(frozen=True, slots=True)
class HttpServer:
    """``http_server_config``. The server uses HTTP/1.1 with either value of ``http2``, which only allows HTTP/2."""

    http2: Annotated[bool, _or(boolean, default=True)] = True
    headers: Annotated[
        Mapping[str, str],
        section(
            dict,
            **{
                "Content-Security-Policy": _unless_blank(parsed(_header)),
                "Strict-Transport-Security": _unless_blank(parsed(_header)),
                "X-Content-Type-Options": _unless_blank(choice("nosniff")),
                "X-Frame-Options": _unless_blank(choice("deny", "sameorigin")),
                "X-XSS-Protection": _unless_blank(parsed(_header)),
            },
        ),
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One request each *interval* seconds, *burst* at once; an interval of 0 is no limit."""

    interval: Annotated[float, _or(parsed(parse_go_duration), default=0.0)] = 0.0
    burst: Annotated[int, _or(integer(0, 1_000_000), default=0)] = 0


@dataclass(frozen=True, slots=True)
class WebConfig:
    """The whole file; an empty one means neither TLS nor authentication."""

    tls_server_config: ServerTls | None = None
    http_server_config: Annotated[HttpServer, of(HttpServer)] = field(default_factory=HttpServer)
    basic_auth_users: Mapping[str, str] = field(default_factory=dict)
    rate_limit: RateLimit = field(default_factory=RateLimit)


_USERS = table(_user, lambda _: parsed(_hash))


def _users(node: Node) -> Mapping[str, str]:
    return {} if node.is_null else _USERS(node)


def _rate_limit(node: Node) -> RateLimit:
    limit = of(RateLimit)(node)
    if limit.interval > 0 and limit.burst < 1:
        raise wrong(
            key_of(node, "burst"), "expected a burst of at least 1 with an interval: 0 would refuse every request"
        )
    return limit


def _tls(read: Read, build: Callable[[Tls], SSLContext]) -> FieldReader[ServerTls | None]:
    readers: dict[str, FieldReader[object]] = {
        "cert": pem,
        "key": pem,
        "client_ca": pem,
        "cert_file": file(read),
        "key_file": file(read),
        "client_ca_file": file(read),
        "client_auth_type": parsed(_client_auth),
        "client_allowed_sans": _sans,
        "min_version": parsed(_version),
        "max_version": parsed(_version),
        "cipher_suites": _ciphers,
        "prefer_server_cipher_suites": boolean,
        "curve_preferences": _curves,
    }
    read_keys = section(Tls, **{key: _unless_absent(key, reader) for key, reader in readers.items()})

    def read_all(node: Node) -> ServerTls | None:
        if node.is_null:
            return None
        if not isinstance(node, yamlnodes.Mapping):
            raise expected(node, f"a mapping with the keys {', '.join(readers)}")
        given = {key.text for key, value in node.items if not _is_absent(key.text, value)}
        if not given:
            return None
        found, tls = Mistakes(), Tls()
        with found:
            tls = read_keys(node)
        for complaint in _together(node, given):
            with found:
                raise complaint
        found.done()
        for complaint in _consistent(node, tls):
            with found:
                raise complaint
        found.done()
        try:
            context = build(tls)
        except Refused as error:
            raise wrong(key_of(node, error.key, f"{error.key}_file"), str(error)) from None
        names = tls.client_allowed_sans
        sans = None if names is None else frozenset(map(normal_san, names))
        return ServerTls(context, sans, tls.client_auth_type or NO_CLIENT_CERT, tls.authorities)

    return read_all


def _is_absent(key: str, value: Node) -> bool:
    """Whether *value* stands for a key that is left out: null, or for a file or its text "", as templates write it."""
    is_file = key.removesuffix("_file") in {"cert", "key", "client_ca"}
    return value.is_null or (is_file and isinstance(value, Scalar) and not value.text)


def _unless_absent(key: str, read: FieldReader[object]) -> FieldReader[object | None]:
    return lambda node: None if _is_absent(key, node) else read(node)


def _together(node: Node, given: set[str]) -> list[yamlnodes.MistakesError]:
    """The mistakes in the combination of keys, whatever their values are."""
    twice = [key for key in ("cert", "key", "client_ca") if {key, f"{key}_file"} <= given]
    missing = [key for key in ("cert", "key") if given.isdisjoint({key, f"{key}_file"})]
    return [
        *(wrong(key_of(node, key), f"{key}_file stands beside it: expected one of the two") for key in twice),
        *(wrong(node, f"missing one of {key} or {key}_file") for key in missing),
    ]


def _consistent(node: Node, tls: Tls) -> list[yamlnodes.MistakesError]:
    """The mistakes in the combination of values that are valid by themselves."""
    complaints = []
    verified = tls.client_auth_type in {IF_GIVEN, REQUIRED}
    if tls.authorities is not None and not verified:
        at = key_of(node, "client_ca", "client_ca_file")
        complaints.append(wrong(at, "client CAs have been configured without a client auth policy: "
                                    f"expected client_auth_type: {REQUIRED} or {IF_GIVEN}"))  # fmt: skip
    if verified and tls.authorities is None:
        complaints.append(
            wrong(
                key_of(node, "client_auth_type"), "missing one of client_ca or client_ca_file: whose clients come in?"
            )
        )
    if tls.client_allowed_sans and tls.client_auth_type != REQUIRED:
        at = key_of(node, "client_allowed_sans")
        complaints.append(wrong(at, f"without client_auth_type: {REQUIRED} a client gets in without any certificate"))
    least, most = tls.min_version or VERSIONS[0], tls.max_version or VERSIONS[-1]
    if VERSIONS.index(least) > VERSIONS.index(most):
        complaints.append(wrong(key_of(node, "max_version"), f"expected at least min_version, {least}, got {most}"))
    if most == "TLS12" and tls.cipher_suites and not any(name in CIPHERS for name in tls.cipher_suites):
        complaints.append(wrong(key_of(node, "cipher_suites"), "has no suite of TLS 1.2, which is the only version"))
    return complaints


def parse(data: bytes, source: str, read: Read, build: Callable[[Tls], SSLContext]) -> WebConfig:
    """Read the file's bytes; ConfigError has every mistake, with *source* as the name of the file.

    *read* reads the files that it names; *build* makes a TLS context, or raises Refused.
    """
    found = Mistakes()
    with found:
        document, refused = yamlnodes.compose(data)
        own: dict[str, FieldReader[object]] = {
            "tls_server_config": _tls(read, build),
            "basic_auth_users": _users,
            "rate_limit": _rate_limit,
        }
        readers = own | {"http_server_config": of(HttpServer)}
        if strange := foreign(document, readers):
            raise strange
        found.mistakes += refused
        config = section(WebConfig, **readers)(document)
        if not refused:
            return config
    raise ConfigError(yamlnodes.shown(found.mistakes, source))
