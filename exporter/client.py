"""The HTTP client for a running daemon: for the plugin's ``--url`` and ``tcp-exporter healthcheck``.

A rim module: it has the sockets, certificates and credentials. Heavy modules are imported with the first request, and
no error repeats a secret.
"""

from __future__ import annotations

from collections.abc import Mapping

from exporter.config import files
from exporter.errors import SourceError, UsageError
from exporter.printable import shortened
from exporter.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from ssl import SSLContext
    from typing import NoReturn

_MAX_CREDENTIALS = 4096
_SIZE_LINE = 256  # bytes of a line with the size of a chunk, extensions included
_SIZE_DIGITS = 8
_SHOWN = 40  # characters that an error repeats of a size or an encoding
_LONGEST = 300  # of what else the other side said


class Access(NamedTuple):
    """TLS and credentials for a request: files, named as in Prometheus's ``tls_config`` and as the options are."""

    ca_file: str | None = None  # None: the system's authorities
    cert_file: str | None = None
    key_file: str | None = None  # None: in the file of the certificate
    credentials_file: str | None = None


def get(url: str, access: Access, headers: Mapping[str, str], limit: int, *, proxies: bool) -> tuple[int, str, bytes]:
    """GET *url*: status, reason and the first *limit* bytes of the body, whatever the status is.

    No redirection is followed. With *proxies*, those of the environment apply, but never to a loopback address.
    ``UsageError`` names the file of *access* that is unusable, ``SourceError`` why there was no answer. The caller
    limits the time.
    """
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only for a request, as all below

    sent = dict(headers)
    if access.credentials_file is not None:
        from base64 import b64encode  # noqa: PLC0415

        sent["Authorization"] = "Basic " + b64encode(_credentials(access.credentials_file)).decode()
    # Reading the system's authorities takes longer than the rest, and plain HTTP on this host needs none.
    plain = access == Access(credentials_file=access.credentials_file) and url.startswith("http:") and _is_loopback(url)
    tls = None if plain else _tls(access)
    # In a thread, because a name resolution that hangs would delay the signal of the caller's deadline.
    return ThreadPoolExecutor(1).submit(_get, url, sent, tls, limit, proxies=proxies).result()


def _get(
    url: str, headers: Mapping[str, str], tls: SSLContext | None, limit: int, *, proxies: bool
) -> tuple[int, str, bytes]:
    """The request itself, with the handlers named here only: none follows a redirection."""
    from http.client import HTTPException  # noqa: PLC0415
    from urllib import request  # noqa: PLC0415
    from urllib.error import URLError  # noqa: PLC0415

    try:
        opener = request.OpenerDirector()
        for handler in (
            request.ProxyHandler(None if proxies and not _is_loopback(url) else {}),
            request.HTTPHandler(),
            *(() if tls is None else (request.HTTPSHandler(context=tls),)),
            request.UnknownHandler(),
        ):
            opener.add_handler(handler)
        with opener.open(request.Request(url, headers=dict(headers))) as answer:  # noqa: S310 - http or https: arguments
            return answer.status, answer.reason, _body(answer, limit)
    except HTTPException as error:
        raise SourceError(url, f"no answer in HTTP: {shortened(str(error).strip(), _LONGEST)}") from None
    except (OSError, OverflowError, ValueError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        if getattr(cause, "reason", None) == "WRONG_VERSION_NUMBER":
            raise SourceError(url, "the server does not speak TLS on this port: try http://") from None
        raise SourceError(url, shortened(str(getattr(cause, "strerror", None) or cause), _LONGEST)) from None


def _body(answer: HTTPResponse, limit: int) -> bytes:
    """The first *limit* bytes of the body; ``HTTPException`` where it is not framed as RFC 9112 has it.

    ``http.client`` takes the size of a chunk from ``int()``, and reads one of size -1 to the end of the stream whatever
    the limit is. Chunks are therefore read here: a reverse proxy that compresses sends them.
    """
    from http.client import HTTPException  # noqa: PLC0415

    encoding = answer.headers.get("Transfer-Encoding")
    if encoding is None:
        return answer.read(limit)
    if encoding.strip().lower() != "chunked":
        raise HTTPException(f"unexpected transfer encoding {encoding[:_SHOWN]!r}: expected chunked or none")
    body, stream = bytearray(), answer.fp  # bytes would be copied as a whole for each small chunk
    while len(body) < limit:
        size = stream.readline(_SIZE_LINE).split(b";")[0].strip()
        if not size or len(size) > _SIZE_DIGITS or size.strip(b"0123456789abcdefABCDEF"):
            raise HTTPException(f"a chunk of size {size[:_SHOWN].decode('latin-1')!r}: expected hexadecimal digits")
        left = int(size, 16)
        if not left:
            break
        chunk = stream.read(min(left, limit - len(body)))
        body += chunk
        if len(chunk) < left:
            if len(body) < limit:
                raise HTTPException("the answer ends within a chunk")
            break
        if stream.readline(2) != b"\r\n":
            raise HTTPException("a chunk has another size than announced")
    return bytes(body)


def _tls(access: Access) -> SSLContext:
    import ssl  # noqa: PLC0415

    if access.ca_file is not None:
        _content("--ca-file", access.ca_file, 0)
    try:
        context = ssl.create_default_context(cafile=access.ca_file)
    except OSError as error:
        raise UsageError(f"--ca-file: {access.ca_file}: {error.strerror or error}") from None
    if access.cert_file is None:
        if access.key_file is not None:
            raise UsageError("--key-file: only with --cert-file, whose key it is")
        return context

    def encrypted() -> NoReturn:
        raise UsageError(f"--key-file: {key_file}: the key is encrypted: expected a plain one")

    key_file = access.key_file or access.cert_file
    _content("--cert-file", access.cert_file, 0)
    _content("--key-file", key_file, 0)
    try:
        context.load_cert_chain(access.cert_file, key_file, encrypted)
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        reason = "the key is not the certificate's" if mismatch else "expected a certificate and a key in PEM"
        raise UsageError(f"--cert-file: {access.cert_file}, --key-file: {key_file}: {reason}") from None
    return context


def _is_loopback(url: str) -> bool:
    """Whether *url* is of this host, for which proxies of the environment do not apply."""
    from ipaddress import ip_address  # noqa: PLC0415
    from urllib.parse import urlsplit  # noqa: PLC0415

    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _credentials(path: str) -> bytes:
    line = _content("--credentials-file", path, _MAX_CREDENTIALS + 1).removesuffix(b"\n").removesuffix(b"\r")
    if b":" not in line or len(line) > _MAX_CREDENTIALS or set(line) & set(b"\r\n\0"):
        raise UsageError(f"--credentials-file: {path}: expected one line, user:password")
    return line


def _content(option: str, path: str, limit: int) -> bytes:
    try:
        return files.content(path, limit)
    except OSError as error:
        raise UsageError(f"{option}: {path}: cannot be read: {error.strerror or error}") from None
