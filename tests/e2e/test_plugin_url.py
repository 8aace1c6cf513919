"""The plugin asking a daemon: the real one, and whatever else may listen where one was expected."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from exporter.document import write
from exporter.document.read import MAX_BODY
from exporter.health.forecast import HORIZON
from exporter.sampling.sample import Sample
from tests.conftest import judge_situation, judged, sample_situation, situation_root
from tests.e2e.conftest import DEADLINE, PLUGIN, Daemon, by_state, wait_for

BUSY = (
    "established=656;600;800;0; syn_sent=6;;;0; syn_recv=12;;;0; fin_wait1=6;;;0; fin_wait2=12;;;0; time_wait=6;;;0; "
    "close=0;;;0; close_wait=6;;;0; last_ack=6;;;0; listen=12;;;0; closing=6;;;0;"
)
NOT_VISIBLE = "tcp_mem is not visible from this network namespace"
NOT_OURS = "not a daemon of tcp-exporter: "
PATH = "/api/v1/snapshot"


def plugin(*arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and answer; nothing is ever on standard error. Proxies only where a test has one."""
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")} | environment
    done = subprocess.run(
        [*PLUGIN, *arguments], capture_output=True, text=True, check=False, env=environ, timeout=DEADLINE
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.removesuffix("\n")


def fresh(**changes: object) -> bytes:
    """A daemon's answer, made in this process, with *changes*."""
    sample = Sample.single(sample_situation("busy"), judge_situation("busy"))._replace(stale_after=10.0)
    return write.encode(write.sampled(sample, now=0.25) | changes)


@contextlib.contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[int]:
    """Run *server*; its port."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def answering(
    status: int, body: bytes, headers: Mapping[str, str] | None = None, certificate: Path | None = None
) -> Iterator[tuple[int, list[tuple[str, str | None]]]]:
    """A server that answers everything alike: its port, and the paths and credentials that it was given."""
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):  # who does not read all of it
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(HTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server) as port:
        yield port, asked


@contextlib.contextmanager
def saying(said: bytes, *, then_hang: bool = False) -> Iterator[int]:
    """A server that is no HTTP server: its port."""
    release = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(said)
            if then_hang:
                release.wait(DEADLINE)

    with serving(socketserver.TCPServer(("127.0.0.1", 0), Handler)) as port:
        try:
            yield port
        finally:
            release.set()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real daemon on the situation ``busy``."""
    log = tmp_path_factory.mktemp("busy") / "log"
    with Daemon(log, "--path.procfs", os.path.abspath(situation_root("busy"))) as daemon:
        wait_for(lambda: json.loads(daemon.ready().get(PATH)[1])["detail"], "the first detail pass")
        yield f"http://127.0.0.1:{daemon.port}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and its self-signed certificate for 127.0.0.1 in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    file = tmp_path_factory.mktemp("tls") / "cert.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    done = subprocess.run(
        [*command, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "-", "-out", "-"],
        check=True,
        capture_output=True,
    )
    file.write_bytes(done.stdout)
    return file


# -- the real daemon ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "code", "first"),
    [
        (["-w", "700"], 0, "TCP STATES OK: established 656"),
        ([], 1, "TCP STATES WARNING: established 656 (> 600)"),
        (["-c", "655"], 2, "TCP STATES CRITICAL: established 656 (> 655)"),
        (["-s", "total", "-c", "727"], 2, "TCP STATES CRITICAL: total 728 (> 727)"),
        (["-c", "time_wait_ratio=0.00009"], 2, "TCP STATES CRITICAL: time_wait_ratio 0.000092 (> 9e-05)"),
        (["--config", "CONFIG"], 2, "TCP STATES CRITICAL: close_wait 6 (> 5)"),
    ],
)
def test_the_daemons_values_are_judged_like_local_ones(
    busy: str, tmp_path: Path, limits: list[str], code: int, first: str
) -> None:
    file = tmp_path / "file.yml"
    file.write_text("thresholds: {close_wait: {critical: 5}}\n")
    limits = [str(file) if limit == "CONFIG" else limit for limit in limits]
    asked, local = plugin("--url", busy, *limits), plugin("--path.procfs", situation_root("busy"), *limits)
    assert (asked[0], asked[1].split(" | ")[0]) == (code, first)
    assert asked == local


def test_the_performance_data_has_every_state(busy: str) -> None:
    answer = (1, f"TCP STATES WARNING: established 656 (> 600) | {BUSY}")
    assert (plugin("--url", busy), plugin("--url", busy + PATH), plugin("--url", busy + "/")) == (answer,) * 3


def test_v_explains_as_locally_and_vv_says_who_was_asked(busy: str) -> None:
    local = plugin("--path.procfs", situation_root("busy"), "-v")[1]
    assert plugin("--url", busy, "-v") == (1, local)
    lines = plugin("--url", busy, "-vv")[1].splitlines()
    age = lines[-2].removeprefix(f"read from the daemon at {busy}{PATH}, ").removesuffix(" s old")
    assert 0 <= float(age) < 10
    assert [*lines[:-2], lines[-1]] == [*local.splitlines(), "read by procfs: every socket counted"]


def test_a_measure_that_is_not_known_is_unknown_with_the_daemons_reason(busy: str) -> None:
    code, answer = plugin("--url", busy, "-s", "memory_ratio")
    assert (code, answer.split(" | ")[0]) == (3, "TCP STATES UNKNOWN: memory_ratio unknown: " + NOT_VISIBLE)


def test_the_daemons_findings_are_the_local_ones(busy: str) -> None:
    """The daemon has its rates from its second sample on."""
    for arguments in (["-s", "findings"], ["-s", "findings", "-v"], ["-s", "all"], ["-s", "all", "-w", "listen=11"]):
        local = plugin("--path.procfs", situation_root("busy"), *arguments)
        wait_for(partial(_answers, local, "--url", busy, *arguments), f"{local}")


def _answers(expected: tuple[int, str], *arguments: str) -> bool | None:
    return plugin(*arguments) == expected or None


def test_all_takes_the_daemons_thresholds_and_expectations_unless_there_are_own_ones(tmp_path: Path) -> None:
    file, own = tmp_path / "daemon.yml", tmp_path / "own.yml"
    file.write_text("thresholds: {close_wait: {critical: 5}}\nsysctl: {expected: {tcp_syncookies: 7}}\n")
    own.write_text("thresholds: {fin_wait2: {warning: 11}}\n")
    root = os.path.abspath(situation_root("busy"))
    with Daemon(tmp_path / "log", "--path.procfs", root, "--config.file", str(file)) as daemon:
        url = f"http://127.0.0.1:{daemon.ready().port}"

        def first(*arguments: str) -> tuple[int, str]:
            code, answer = plugin("--url", url, *arguments)
            return code, answer.split(" | ")[0]

        everything = (2, "TCP STATES CRITICAL: close_wait 6 (> 5), sysctl 1 (> 0: tcp_syncookies)")
        # Until its second sample the daemon says so of the findings that need a rate.
        wait_for(lambda: first("-s", "all") == everything or None, f"{everything}")
        assert first("-s", "all", "--config", str(own)) == (
            1,
            "TCP STATES WARNING: fin_wait2 12 (> 11), sysctl 1 (> 0: tcp_syncookies)",
        )
        assert first() == (1, "TCP STATES WARNING: established 656 (> 600)")
        assert daemon.metrics()["tcp_host_status"] == 2
    local = plugin("--path.procfs", situation_root("busy"), "-s", "all", "--config", str(file))
    assert (local[0], local[1].split(" | ")[0]) == everything


@pytest.mark.parametrize("measure", ["findings", "all", "total"])
def test_a_daemon_older_or_newer_than_the_plugin_is_one_clear_sentence(measure: str) -> None:
    with answering(200, fresh(api_version=2)) as (port, _):
        url = f"http://127.0.0.1:{port}"
        newer = "the daemon is newer than this plugin (api_version 2, expected 1): upgrade the plugin"
        assert plugin("--url", url, "-s", measure) == (3, f"TCP STATES UNKNOWN: {url}{PATH}: {newer}")
    document = json.loads(fresh())
    del document["health"]
    with answering(200, json.dumps(document).encode()) as (port, _):
        url = f"http://127.0.0.1:{port}"
        older = "the daemon is older than this plugin and has no findings: upgrade the daemon"
        code, answer = plugin("--url", url, "-s", measure)
        said = "TCP STATES OK: total 728" if measure == "total" else f"TCP STATES UNKNOWN: {url}{PATH}: {older}"
        assert (code, answer.split(" | ")[0]) == (0 if measure == "total" else 3, said)


def test_a_burst_that_is_over_alerts_with_peak(tmp_path: Path) -> None:
    root = tmp_path / "proc"
    shutil.copytree(situation_root("busy"), root)
    with Daemon(tmp_path / "log", "--path.procfs", str(root), "--sample.interval", "100ms") as daemon:
        url = f"http://127.0.0.1:{daemon.ready().port}"
        for name in ("tcp", "tcp6"):
            shutil.copy(Path(situation_root("quiet"), "net", name), root / "net" / "new")
            (root / "net" / "new").rename(root / "net" / name)
        quiet = sample_situation("quiet").connections
        assert quiet is not None
        now = quiet.counts[1]
        wait_for(lambda: by_state(daemon.metrics())["established"] == now or None, "the end of the burst")
        code, answer = plugin("--url", url)
        assert (code, answer.split(" | ")[0]) == (0, f"TCP STATES OK: established {now}")
        assert plugin("--url", url, "--peak") == (1, f"TCP STATES WARNING: established 656 (> 600) | {BUSY}")
        code, answer = plugin("--url", url, "--peak", "-s", "total", "-c", "727")
        assert (code, answer.split(" | ")[0]) == (0, f"TCP STATES OK: total {sum(quiet.counts)}")
        assert plugin("--url", url, "--peak", "-vv")[1].splitlines()[-2].endswith(" s old; the states are its peaks")


def test_a_stale_sample_is_unknown(tmp_path: Path) -> None:
    root = tmp_path / "proc"
    shutil.copytree(situation_root("quiet"), root)
    with Daemon(tmp_path / "log", "--path.procfs", str(root), "--sample.interval", "100ms") as daemon:
        url = f"http://127.0.0.1:{daemon.ready().port}"
        os.mkfifo(root / "net" / "fifo")
        (root / "net" / "fifo").rename(root / "net" / "netstat")  # opening it for reading blocks for ever
        wait_for(lambda: json.loads(daemon.get(PATH)[1])["stale"] or None, "staleness")
        code, answer = plugin("--url", url)
        age = answer.removeprefix(f"TCP STATES UNKNOWN: {url}{PATH}: the daemon's sample is stale: ")
        assert (code, float(age.removesuffix(" s old")) > 0) == (3, True)


def test_a_daemon_without_a_sample_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    os.mkfifo(tmp_path / "net" / "snmp")
    with Daemon(tmp_path / "log", "--path.procfs", str(tmp_path)) as daemon:
        url = f"http://127.0.0.1:{daemon.port}"
        line = f"TCP STATES UNKNOWN: {url}{PATH}: answered 503 Service Unavailable: no sample yet"
        assert plugin("--url", url) == (3, line)


# -- whatever else listens ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "headers", "line"),
    [
        (200, b"<html><p>It works | really!", {}, NOT_OURS + "the answer is not JSON"),
        (200, b'{"status": "ok"}', {}, NOT_OURS + "the answer has no api_version"),
        (200, b"{}" + b" " * MAX_BODY, {}, NOT_OURS + "the answer has more than 4 MiB"),
        (200, fresh()[:200], {"Content-Length": "9999"}, NOT_OURS + "the answer is not JSON"),
        (
            401,
            b"",
            {"WWW-Authenticate": "Basic"},
            "answered 401 Unauthorized: the daemon asks for a password: give --credentials-file",
        ),
        (404, b"no", {}, "answered 404 Not Found"),
        (302, b"", {"Location": "http://127.0.0.1:1/"}, "answered 302 Found"),
        (204, b"", {}, "answered 204 No Content"),
    ],
)
def test_what_is_not_the_daemon_is_unknown(status: int, body: bytes, headers: dict[str, str], line: str) -> None:
    with answering(status, body, headers) as (port, asked):
        url = f"http://127.0.0.1:{port}"
        assert plugin("--url", url) == (3, f"TCP STATES UNKNOWN: {url}{PATH}: {line}")
        assert asked == [(PATH, None)]


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (b"", "no answer in HTTP: Remote end closed connection without response"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "no answer in HTTP: SSH-2.0-OpenSSH_9.9"),
    ],
)
def test_what_speaks_no_http_is_unknown(said: bytes, line: str) -> None:
    with saying(said) as port:
        url = f"http://127.0.0.1:{port}"
        code, answer = plugin("--url", url)
        assert (code, answer.strip()) == (3, f"TCP STATES UNKNOWN: {url}{PATH}: {line}")


def _chunks(*said: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(said)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (_chunks(b"-1\r\n", b"x" * 10**7), "a chunk of size '-1': expected hexadecimal digits"),
        (_chunks(b"+5\r\nhello\r\n"), "a chunk of size '+5': expected hexadecimal digits"),
        (_chunks(b"0x5\r\nhello\r\n"), "a chunk of size '0x5': expected hexadecimal digits"),
        (_chunks(b"1_0\r\nhello\r\n"), "a chunk of size '1_0': expected hexadecimal digits"),
        (_chunks(b"\r\n"), "a chunk of size '': expected hexadecimal digits"),
        (_chunks(b"f" * 1000), f"a chunk of size '{'f' * 40}': expected hexadecimal digits"),
        (_chunks(b"5\r\nhello!\r\n0\r\n\r\n"), "a chunk has another size than announced"),
        (_chunks(b"ff\r\nhello"), "the answer ends within a chunk"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n-1\r\n",
            "unexpected transfer encoding 'gzip, chunked': expected chunked or none",
        ),
    ],
)
def test_a_transfer_encoding_that_is_not_as_the_standard_has_it_is_unknown(said: bytes, reason: str) -> None:
    with saying(said) as port:
        url = f"http://127.0.0.1:{port}/api/v1/snapshot"
        assert plugin("--url", f"http://127.0.0.1:{port}") == (
            3,
            f"TCP STATES UNKNOWN: {url}: no answer in HTTP: {reason}",
        )


def test_an_answer_in_chunks_as_a_reverse_proxy_sends_it_is_read() -> None:
    body = fresh()
    pieces = (body[at : at + 1000] for at in range(0, len(body), 1000))
    said = _chunks(*(b"%x;name=value\r\n%b\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n")
    with saying(said) as port:
        code, line = plugin("--url", f"http://127.0.0.1:{port}")
    with answering(200, body, {}) as (other, _):
        assert (code, line) == plugin("--url", f"http://127.0.0.1:{other}")


def test_chunks_beyond_the_limit_are_not_read() -> None:
    said = _chunks(b"ffffffff\r\n", b" " * (MAX_BODY + 2))
    with saying(said) as port:
        code, line = plugin("--url", f"http://127.0.0.1:{port}")
        assert (code, "the answer has more than 4 MiB" in line) == (3, True)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_an_answer_that_hangs_is_cut_by_the_timeout_with_its_state(said: bytes) -> None:
    with saying(said, then_hang=True) as port:
        url = f"http://127.0.0.1:{port}"
        assert plugin("--url", url, "-t", "1") == (3, "TCP STATES UNKNOWN: no answer within 1 s")
        assert plugin("--url", url, "-t", "1:critical") == (2, "TCP STATES CRITICAL: no answer within 1 s")


def test_a_name_resolution_that_hangs_is_cut_too() -> None:
    hung = (
        "import hashlib, socket;"  # a resolver in C that no signal interrupts
        "socket.getaddrinfo = lambda *_, **__: hashlib.pbkdf2_hmac('sha256', b'', b'', 100_000_000);"
        "from exporter.nagios.check import main; main()"
    )
    command = [sys.executable, "-c", hung, "--url", "http://nowhere.invalid", "-t", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE)
    assert (done.returncode, done.stdout, done.stderr) == (3, "TCP STATES UNKNOWN: no answer within 1 s\n", "")


def test_a_closed_port_and_an_unknown_name_are_unknown() -> None:
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        assert plugin("--url", url) == (3, f"TCP STATES UNKNOWN: {url}{PATH}: Connection refused")
    code, answer = plugin("--url", "http://nowhere.invalid", "-t", "60")
    assert (code, answer.startswith(f"TCP STATES UNKNOWN: http://nowhere.invalid{PATH}: ")) == (3, True)
    assert "bug" not in answer


# -- proxies, credentials, TLS -----------------------------------------------------------------------------------------


def test_a_proxy_of_the_environment_is_asked_but_never_for_a_loopback_address(busy: str) -> None:
    with answering(200, fresh()) as (port, asked):
        proxy = {"http_proxy": f"http://127.0.0.1:{port}", "no_proxy": ""}
        assert plugin("--url", busy, **proxy) == (1, f"TCP STATES WARNING: established 656 (> 600) | {BUSY}")
        assert asked == []
        assert plugin("--url", "http://nowhere.invalid", **proxy)[0] == 1
        assert asked == [(f"http://nowhere.invalid{PATH}", None)]


def test_the_credentials_of_the_file_are_sent(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("me:sécret: with colon\r\n", newline="")
    with answering(200, fresh()) as (port, asked):
        assert plugin("--url", f"http://127.0.0.1:{port}", "--credentials-file", str(file))[0] == 1
        assert asked == [(PATH, "Basic " + base64.b64encode("me:sécret: with colon".encode()).decode())]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("missing", "cannot be read: No such file or directory"),
        (".", "cannot be read: Is a directory"),
        ("pipe", "cannot be read: it is not a regular file"),
        ("empty", "expected one line, user:password"),
        ("lines", "expected one line, user:password"),
        ("long", "expected one line, user:password"),
    ],
)
def test_a_file_without_credentials_is_refused(tmp_path: Path, name: str, line: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    for content in ({"empty": ""}, {"lines": "me:secret\nyou:secret\n"}, {"long": "me:" + "x" * 5000}):
        for file, text in content.items():
            (tmp_path / file).write_text(text)
    path = os.path.join(tmp_path, name)
    answer = plugin("--url", "http://127.0.0.1:1", "--credentials-file", path)
    assert answer == (3, f"TCP STATES UNKNOWN: --credentials-file: {path}: {line}")


def test_a_certificate_is_verified_by_the_systems_authorities_or_those_of_the_file(certificate: Path) -> None:
    with answering(200, fresh(), certificate=certificate) as (port, asked):
        url = f"https://127.0.0.1:{port}"
        code, answer = plugin("--url", url)
        refused = f"TCP STATES UNKNOWN: {url}{PATH}: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
        assert (code, answer.startswith(refused), asked) == (3, True, [])
        assert plugin("--url", url, "--ca-file", str(certificate)) == (
            1,
            f"TCP STATES WARNING: established 656 (> 600) | {BUSY}",
        )
        other = f"https://localhost:{port}"  # which the certificate does not name
        code, answer = plugin("--url", other, "--ca-file", str(certificate))
        assert (code, "CERTIFICATE_VERIFY_FAILED" in answer, len(asked)) == (3, True, 1)


def test_a_file_without_certificates_is_refused(tmp_path: Path, busy: str) -> None:
    file = tmp_path / "empty.pem"
    file.write_text("")
    code, answer = plugin("--url", busy, "--ca-file", str(file))
    assert (code, answer.startswith(f"TCP STATES UNKNOWN: --ca-file: {file}: ")) == (3, True)
    line = f"TCP STATES UNKNOWN: --ca-file: {tmp_path}/no: cannot be read: No such file or directory"
    assert plugin("--url", busy, "--ca-file", f"{tmp_path}/no") == (3, line)


def test_tls_towards_a_daemon_without_it_is_unknown(busy: str) -> None:
    code, answer = plugin("--url", busy.replace("http:", "https:"))
    assert (code, answer.startswith("TCP STATES UNKNOWN: https://127.0.0.1:"), "bug" in answer) == (3, True, False)


def test_without_url_no_http_client_is_imported() -> None:
    script = (
        "import os, sys; os._exit = lambda code: (print(sorted(sys.modules)), sys.stdout.flush(), sys.exit(code));"
        "from exporter.nagios.check import main; main()"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script, "-v"], capture_output=True, text=True, check=False)
    modules = set(eval(done.stdout.splitlines()[-1]))  # a list that we printed
    assert modules & {"json", "urllib", "http", "ssl", "threading", "exporter.document.read"} == set()


def filling(to_full: dict[str, int]) -> bytes:
    """The answer of a daemon that has watched for an hour."""
    snapshot = sample_situation("busy")._replace(to_full=to_full)
    return write.encode(write.sampled(Sample.single(snapshot, judged(snapshot))._replace(stale_after=10.0), now=0.25))


@pytest.mark.parametrize(
    ("to_full", "code", "said"),
    [
        ({"memory": 90_000, "conntrack": 7200}, 2, "CRITICAL: seconds_to_full 7200 (< 14400): conntrack"),
        ({"memory": 80_000, "conntrack": HORIZON}, 1, "WARNING: seconds_to_full 80000 (< 86400): memory"),
        ({"memory": HORIZON}, 0, "OK: seconds_to_full 2592000"),
        ({}, 3, "UNKNOWN: seconds_to_full unknown: less than 20 minutes of the last hour are known"),
    ],
)
def test_a_limit_that_will_be_full_alerts_below_and_names_the_resource(
    to_full: dict[str, int], code: int, said: str
) -> None:
    with answering(200, filling(to_full)) as (port, _):
        url = f"http://127.0.0.1:{port}"
        status, answer = plugin("--url", url, "-s", "seconds_to_full", "-w", "86400:", "-c", "14400:")
    assert (status, answer.partition(" | ")[0]) == (code, f"TCP STATES {said}")


def test_without_a_daemon_nobody_knows_when_a_limit_is_full() -> None:
    why = "only a daemon that has watched for a while can tell: ask it with --url"
    code, said = plugin("-s", "seconds_to_full", "-w", "86400:")
    assert (code, said.partition(" | ")[0]) == (3, f"TCP STATES UNKNOWN: seconds_to_full unknown: {why}")
