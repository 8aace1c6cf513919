"""The web configuration: exporter-toolkit's schema, every mistake with its place, and contexts that OpenSSL made."""

from __future__ import annotations

import re
import ssl
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ConfigError
from exporter.web.protection import load
from exporter.web.webconfig import CIPHERS, HttpServer, RateLimit, ServerTls, Tls, WebConfig, parse_go_duration
from tests.certificates import Authority, encrypted

HASH = "$2b$04$zZYkGqQkGPzVqK5u2LZfXuLhAx2g7tUWKVQuG0o1yqGvgDqyWm1mS"
EXAMPLE = Path(__file__).parents[2] / "deploy" / "web-config.yml"
_EXAMPLE = re.compile(r"^(?P<indent> *)# {3}(?P<line> *\S.*)\n", re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """server.pem and server.key, client.key which is another's, ca.pem, an encrypted key, and what is no PEM."""
    path = tmp_path_factory.mktemp("tls")
    authority = Authority(path, "ca")
    server = authority.issue("server")
    authority.issue("client", "DNS:client.example")
    authority.issue("rsa", kind="rsa")
    encrypted(server, path / "encrypted.key")
    (path / "junk.pem").write_text("junk\n")
    return path


def loaded(folder: Path, text: str) -> WebConfig:
    (folder / "web.yml").write_text(text)
    return load(str(folder / "web.yml"))


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    return [mistake.removeprefix(f"{folder}/").replace(f"{folder}/", "") for mistake in caught.value.mistakes]


def tls_of(folder: Path, more: str = "", cert: str = "server") -> ServerTls:
    text = f"tls_server_config:\n  cert_file: {cert}.pem\n  key_file: {cert}.key\n"
    made = loaded(folder, text + "".join(f"  {line}\n" for line in more.splitlines())).tls_server_config
    assert made is not None
    return made


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "tls_server_config:\n",
        "tls_server_config: {}\n",
        "tls_server_config: {cert_file: ~}\nhttp_server_config:\nbasic_auth_users:\nrate_limit:\n",
        "basic_auth_users: {}\nhttp_server_config: {headers: {}, http2: true}\nrate_limit: {interval: 0}\n",
    ],
)
def test_a_file_without_content_is_neither_tls_nor_authentication(folder: Path, text: str) -> None:
    assert loaded(folder, text) == WebConfig()


def test_every_key_is_read(folder: Path) -> None:
    config = loaded(
        folder,
        f"""\
tls_server_config:
  cert_file: server.pem
  key_file: {folder}/server.key
  client_auth_type: "RequireAndVerifyClientCert"
  client_ca_file: ca.pem
  client_allowed_sans: [client.example, "2001:db8:0::1", "spiffe://a/b"]
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [X25519]
http_server_config:
  http2: false
  headers:
    Content-Security-Policy: frame-ancestors 'none'
    Strict-Transport-Security: max-age=31536000
    X-Content-Type-Options: nosniff
    X-Frame-Options: sameorigin
    X-XSS-Protection: "0"
basic_auth_users:
  me: {HASH}
  "of you": {HASH.replace("$2b", "$2y")}
rate_limit: {{interval: 1m1.5s, burst: 3}}
""",
    )
    headers = {
        "Content-Security-Policy": "frame-ancestors 'none'",
        "Strict-Transport-Security": "max-age=31536000",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "sameorigin",
        "X-XSS-Protection": "0",
    }
    tls = config.tls_server_config
    assert tls is not None
    users = {"me": HASH, "of you": HASH.replace("$2b", "$2y")}
    assert config == WebConfig(tls, HttpServer(http2=False, headers=headers), users, RateLimit(61.5, 3))
    assert tls.allowed_sans == frozenset({"client.example", "2001:db8::1", "spiffe://a/b"})
    made = tls.context
    assert (made.verify_mode, made.minimum_version, made.maximum_version) == (
        ssl.CERT_REQUIRED,
        ssl.TLSVersion.TLSv1_2,
        ssl.TLSVersion.TLSv1_3,
    )
    assert [name["name"] for name in made.get_ciphers() if name["protocol"] == "TLSv1.2"] == [
        "ECDHE-ECDSA-AES128-GCM-SHA256"
    ]
    assert not made.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert [authority["subject"] for authority in made.get_ca_certs()] == [((("commonName", "ca"),),)]


def test_what_is_left_out_is_as_safe_as_openssl_makes_it(folder: Path) -> None:
    made = tls_of(folder).context
    assert (made.verify_mode, made.minimum_version) == (ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2)
    assert made.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert made.num_tickets == 0


def test_certificates_may_stand_in_the_file_itself(folder: Path) -> None:
    texts = {"cert": "server.pem", "key": "server.key", "client_ca": "ca.pem"}
    lines = [line for key, name in texts.items() for line in (f"{key}: |", *indented((folder / name).read_text()))]
    text = "tls_server_config:\n" + "".join(
        f"  {line}\n" for line in [*lines, "client_auth_type: VerifyClientCertIfGiven"]
    )
    made = loaded(folder, text).tls_server_config
    assert made is not None
    assert (made.context.verify_mode, len(made.context.get_ca_certs())) == (ssl.CERT_OPTIONAL, 1)


def indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


@pytest.mark.parametrize(("name", "openssl"), CIPHERS.items())
def test_every_suite_of_gos_list_is_known_to_openssl(folder: Path, name: str, openssl: str) -> None:
    made = tls_of(folder, f"cipher_suites: [{name}]", cert="rsa").context
    assert [suite["name"] for suite in made.get_ciphers() if suite["protocol"] != "TLSv1.3"] == [openssl]


@pytest.mark.parametrize("curve", ["CurveP256", "CurveP384", "CurveP521", "X25519"])
def test_each_curve_can_be_chosen(folder: Path, curve: str) -> None:
    assert tls_of(folder, f"curve_preferences: [{curve}]").context.verify_mode is ssl.CERT_NONE


ALL = "TLS_" + ", TLS_".join(
    [name.removeprefix("TLS_") for name in CIPHERS]
    + ["AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256"]
)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("cert_file: server.pem", ["1:20: tls_server_config: missing one of key or key_file"]),
        ("key_file: server.key", ["1:20: tls_server_config: missing one of cert or cert_file"]),
        (
            "min_version: TLS13",
            [
                "1:20: tls_server_config: missing one of cert or cert_file",
                "1:20: tls_server_config: missing one of key or key_file",
            ],
        ),
        (
            "cert_file: no.pem, key_file: server.key",
            ["1:32: tls_server_config.cert_file: 'no.pem' cannot be read: No such file or directory"],
        ),
        (
            "cert_file: ., key_file: ''",
            [
                "1:20: tls_server_config: missing one of key or key_file",
                "1:32: tls_server_config.cert_file: '.' cannot be read: Is a directory",
            ],
        ),
        (
            "cert_file: junk.pem, key_file: server.key",
            ["1:21: tls_server_config.cert_file: expected certificates in PEM"],
        ),
        (
            "cert_file: server.pem, key_file: junk.pem",
            ["1:44: tls_server_config.key_file: expected a private key in PEM"],
        ),
        (
            "cert_file: server.pem, key_file: client.key",
            ["1:44: tls_server_config.key_file: the key is not the certificate's"],
        ),
        (
            "cert_file: server.pem, key_file: encrypted.key",
            [
                "1:44: tls_server_config.key_file: the key is encrypted, and nobody is there to give its password: "
                "expected a plain one"
            ],
        ),
        (
            "cert: junk, cert_file: server.pem, key_file: server.key",
            ["1:21: tls_server_config.cert: cert_file stands beside it: expected one of the two"],
        ),
        (
            "SERVER, client_ca_file: ca.pem",
            [
                "1:66: tls_server_config.client_ca_file: client CAs have been configured without a client auth policy: "
                "expected client_auth_type: RequireAndVerifyClientCert or VerifyClientCertIfGiven"
            ],
        ),
        (
            "SERVER, client_ca_file: junk.pem, client_auth_type: RequireAndVerifyClientCert",
            ["1:66: tls_server_config.client_ca_file: expected certificates in PEM: no certificate or crl found"],
        ),
        (
            "SERVER, client_auth_type: RequireAndVerifyClientCert",
            [
                "1:66: tls_server_config.client_auth_type: missing one of client_ca or client_ca_file: "
                "whose clients come in?"
            ],
        ),
        (
            "SERVER, client_auth_type: RequireAnyClientCert, client_allowed_sans: ['', x]",
            [
                "1:84: tls_server_config.client_auth_type: RequireAnyClientCert cannot be had: Python's TLS verifies "
                "every certificate that it asks for; expected NoClientCert, VerifyClientCertIfGiven or "
                "RequireAndVerifyClientCert",
                "1:128: tls_server_config.client_allowed_sans[0]: expected a DNS name, an IP address, an e-mail "
                "address or a URI",
            ],
        ),
        (
            "SERVER, client_allowed_sans: [x]",
            [
                "1:66: tls_server_config.client_allowed_sans: without client_auth_type: RequireAndVerifyClientCert a "
                "client gets in without any certificate"
            ],
        ),
        (
            "SERVER, client_ca_file: ca.pem, client_auth_type: VerifyClientCertIfGiven, client_allowed_sans: [x]",
            [
                "1:133: tls_server_config.client_allowed_sans: without client_auth_type: RequireAndVerifyClientCert a "
                "client gets in without any certificate"
            ],
        ),
        (
            "SERVER, min_version: TLS10, max_version: SSLv3",
            [
                "1:79: tls_server_config.min_version: TLS10 cannot be had: OpenSSL 3 refuses its signatures; "
                "expected TLS12 or TLS13",
                "1:99: tls_server_config.max_version: expected TLS12 or TLS13, got 'SSLv3'",
            ],
        ),
        (
            "SERVER, min_version: TLS13, max_version: TLS12",
            ["1:86: tls_server_config.max_version: expected at least min_version, TLS13, got TLS12"],
        ),
        (
            "SERVER, cipher_suites: [TLS_AES_128_GCM_SHA256], max_version: TLS12",
            ["1:66: tls_server_config.cipher_suites: has no suite of TLS 1.2, which is the only version"],
        ),
        (
            "SERVER, client_allowed_sans: []",
            [
                "1:87: tls_server_config.client_allowed_sans: expected at least one name: an empty list admits nobody; "
                "to admit all, leave the key out"
            ],
        ),
        (
            "SERVER, cipher_suites: [AES128-SHA]",
            [f"1:82: tls_server_config.cipher_suites[0]: unknown cipher suite 'AES128-SHA': expected one of {ALL}"],
        ),
        (
            "SERVER, curve_preferences: [CurveP256, X25519], prefer_server_cipher_suites: yes",
            [
                "1:85: tls_server_config.curve_preferences: Python's TLS takes one curve, or all that OpenSSL has "
                "where the list is left out",
                "1:135: tls_server_config.prefer_server_cipher_suites: expected true or false, got 'yes'",
            ],
        ),
        ("SERVER, ciphers: []", ["1:66: tls_server_config.ciphers: unknown key; did you mean cipher_suites?"]),
    ],
)
def test_a_mistake_in_tls_is_said_with_its_place(folder: Path, lines: str, expected: list[str]) -> None:
    lines = lines.replace("SERVER", "cert_file: server.pem, key_file: server.key")
    assert mistakes(folder, f"tls_server_config: {{{lines}}}\n") == [f"web.yml:{line}" for line in expected]


def test_every_mistake_of_a_file_is_said_at_once_and_no_secret_is_repeated(folder: Path) -> None:
    text = f"""\
tls_server_config:
  cert_file: server.pem
  key: [secret]
  min_version: TLS9
http_server_config:
  http2: on
  headers: {{Server: x, X-Frame-Options: allow, X-XSS-Protection: "a\\r\\nb", x-content-type-options: nosniff}}
basic_auth_users:
  me: secret
  a:b: {HASH}
  you: {HASH.replace("$04", "$31")}
  them: "{HASH[:-1]}"
rate_limit: {{interval: 10, burst: -1, more: x}}
unknown: 1
"""
    found = mistakes(folder, text)
    names = (
        "Content-Security-Policy, Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options, X-XSS-Protection"
    )
    bcrypt = "expected a bcrypt hash of 60 characters, as $2y$10$..., made by `htpasswd -nBC 10 USER`"
    assert found == [
        "web.yml:3:8: tls_server_config.key: expected a text in PEM",
        "web.yml:4:16: tls_server_config.min_version: expected TLS12 or TLS13, got 'TLS9'",
        "web.yml:6:10: http_server_config.http2: expected true or false, got 'on'",
        f"web.yml:7:13: http_server_config.headers.Server: unknown key; known are {names}",
        "web.yml:7:41: http_server_config.headers.X-Frame-Options: expected one of deny, sameorigin, got 'allow'",
        "web.yml:7:66: http_server_config.headers.X-XSS-Protection: expected a value of printable ASCII characters, "
        "without a blank at its ends",
        "web.yml:7:76: http_server_config.headers.x-content-type-options: unknown key; "
        "did you mean X-Content-Type-Options?",
        f"web.yml:9:7: basic_auth_users.me: {bcrypt}",
        "web.yml:10:3: basic_auth_users.a:b: expected a user's name without a colon, which ends it in basic "
        "authentication",
        "web.yml:11:8: basic_auth_users.you: expected a bcrypt hash of a cost from 4 to 17, got 31",
        f"web.yml:12:9: basic_auth_users.them: {bcrypt}",
        "web.yml:13:24: rate_limit.interval: expected a duration such as 500ms, 1s or 1m30s, got '10'",
        "web.yml:13:35: rate_limit.burst: expected an integer from 0 to 1000000, got '-1'",
        "web.yml:13:39: rate_limit.more: unknown key; known are interval, burst",
        "web.yml:14:1: unknown: unknown key; known are tls_server_config, basic_auth_users, rate_limit, "
        "http_server_config",
    ]
    assert "secret" not in "".join(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate_limit: {interval: 1s}", "1:13: rate_limit: expected a burst of at least 1 with an interval: 0 would "
         "refuse every request"),
        ("tls_server_config: yes", "1:20: tls_server_config: expected a mapping with the keys cert, key, client_ca, "
         "cert_file, key_file, client_ca_file, client_auth_type, client_allowed_sans, min_version, max_version, "
         "cipher_suites, prefer_server_cipher_suites, curve_preferences, got 'yes'"),
        ("basic_auth_users: [me]", "1:19: basic_auth_users: expected a mapping, or {} for none at all, got a list"),
    ],
)  # fmt: skip
def test_a_mistake_elsewhere_is_said_with_its_place(folder: Path, text: str, message: str) -> None:
    [found] = mistakes(folder, text)
    assert found == f"web.yml:{message}"


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yml: cannot be read: No such file or directory"):
        load(str(tmp_path / "no.yml"))


@pytest.mark.parametrize(
    ("sans", "admitted"),
    [
        ((("DNS", "a.example"),), True),
        ((("DNS", "b.example"), ("email", "me@example")), True),
        ((("IP Address", "2001:DB8:0:0:0:0:0:1"),), True),
        ((("IP Address", "192.0.2.1"),), True),
        ((("URI", "spiffe://a/b"),), True),
        ((("DNS", "A.example"), ("DNS", "x.a.example")), False),
        ((), False),
    ],
)
def test_a_client_is_admitted_by_any_of_its_names(sans: tuple[tuple[str, str], ...], admitted: bool) -> None:
    names = frozenset({"a.example", "me@example", "2001:db8::1", "192.0.2.1", "spiffe://a/b"})
    tls = ServerTls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), names)
    assert tls.admits({"subjectAltName": sans} if sans else {"subject": ()}, 0.0) == admitted


def test_a_client_is_admitted_until_its_certificate_expires() -> None:
    tls = ServerTls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    certificate = {"notAfter": "Jan  1 00:00:00 2027 GMT"}
    assert [tls.admits(certificate, now) for now in (1798761599.0, 1798761601.0)] == [True, False]


def test_what_templates_leave_empty_is_left_out(folder: Path) -> None:
    """As exporter-toolkit has it: an empty path is no file, and an empty header is unset."""
    for files in ("cert_file: '', key_file: '', client_ca_file: ''", "cert: '', key: '', client_ca: '', cert_file: ''"):
        assert loaded(folder, f"tls_server_config: {{{files}}}\n").tls_server_config is None
    blank = "Strict-Transport-Security: '', X-Frame-Options: '', Content-Security-Policy: , X-Content-Type-Options: "
    headers = loaded(folder, f"http_server_config: {{http2: , headers: {{{blank}}}}}\n").http_server_config
    names = ("Strict-Transport-Security", "X-Frame-Options", "Content-Security-Policy", "X-Content-Type-Options")
    assert (headers.http2, headers.headers) == (True, dict.fromkeys(names, ""))
    assert loaded(folder, "rate_limit: {interval: , burst: }\n") == loaded(folder, "rate_limit:\n") == WebConfig()


def test_suites_of_tls_1_3_alone_are_that_version_alone_and_one_that_is_repeated_counts_once(folder: Path) -> None:
    text = "tls_server_config: {cert_file: server.pem, key_file: server.key, cipher_suites: [NAME, NAME]}\n"
    tls = loaded(folder, text.replace("NAME", "TLS_AES_128_GCM_SHA256")).tls_server_config
    assert tls is not None
    assert tls.context.minimum_version == ssl.TLSVersion.TLSv1_3


@given(st.integers(0, 10**6), st.sampled_from(["ns", "us", "µs", "ms", "s", "m", "h"]))
def test_a_duration_of_one_unit_is_that_many(number: int, unit: str) -> None:
    sizes = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
    assert parse_go_duration(f"{number}{unit}") == pytest.approx(number * sizes[unit])


KEYS = sorted({key.name for key in (*fields(Tls), *fields(HttpServer), *fields(RateLimit), *fields(WebConfig))})
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from([*KEYS, HASH, "server.pem", "TLS12"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(st.one_of(VALUES.map(lambda value: yaml.safe_dump(value).encode()), st.binary(max_size=64)))
def test_any_file_is_read_or_refused_with_its_mistakes(folder: Path, data: bytes) -> None:
    (folder / "any.yml").write_bytes(data)
    try:
        load(str(folder / "any.yml"))
    except ConfigError as error:
        assert all(mistake.startswith(f"{folder}/any.yml") for mistake in error.mistakes)


# -- deploy/web-config.yml ---------------------------------------------------------------------------------------------


def with_certificates(text: str) -> str:
    renamed = {"tcp-exporter.pem": "server.pem", "tcp-exporter.key": "server.key", "clients-ca.pem": "ca.pem"}
    for name, there in renamed.items():
        text = text.replace(name, there)
    return text


def test_the_example_is_tls_with_the_defaults_and_shows_every_key(folder: Path) -> None:
    text = EXAMPLE.read_text()
    config = loaded(folder, with_certificates(text))
    assert config.tls_server_config is not None
    assert config == WebConfig(tls_server_config=config.tls_server_config)
    keys = {key.name for key in (*fields(Tls), *fields(HttpServer), *fields(RateLimit), *fields(WebConfig))}
    assert [key for key in keys if not re.search(rf"\b{key}\b", text)] == []
    assert list(yaml.safe_load(text)) == ["tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"]


def examples() -> list[str]:
    """The example file, once for each of its examples put in the place of its key."""
    text, variants = EXAMPLE.read_text(), []
    for block in re.finditer(r"(?:^ *# {3}.*\n)+", text, re.MULTILINE):
        lines = [match["indent"] + match["line"] for match in _EXAMPLE.finditer(block[0])]
        indent = min(len(line) - len(line.lstrip()) for line in lines)
        rest = text[block.end() :]
        for key in re.findall(rf"^ {{{indent}}}(\w+):", "\n".join(lines), re.MULTILINE):
            rest = re.sub(rf"^ {{{indent}}}{key}: .*\n", "", rest, flags=re.MULTILINE)
        variants.append(text[: block.start()] + "\n".join(lines) + "\n" + rest)
    return variants


@pytest.mark.parametrize("text", examples())
def test_every_example_is_valid_in_the_place_of_its_key(folder: Path, text: str) -> None:
    loaded(folder, with_certificates(text))


def test_the_example_of_the_documentation_is_valid(folder: Path) -> None:
    text = (EXAMPLE.parents[1] / "docs" / "security.md").read_text()
    block = re.search(r"^```yaml\n(tls_server_config:.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    config = loaded(folder, with_certificates(block[1]))
    assert (config.tls_server_config is not None, list(config.basic_auth_users)) == (True, ["prometheus"])


def test_there_is_an_example_of_everything_that_has_no_value() -> None:
    assert len(examples()) == 6
