"""The real daemon behind TLS and a password: who comes in, what a reload changes, and Prometheus scraping it."""

from __future__ import annotations

import base64
import collections
import contextlib
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import bcrypt
import pytest

from tests.certificates import Authority, Pair
from tests.conftest import situation_root
from tests.e2e.conftest import DEADLINE, PLUGIN, PROGRAM, Daemon, free_port, get, wait_for

PASSWORD = "correct horse: battery"
ENDPOINTS = [
    "/",
    "/metrics",
    "/api/v1/snapshot",
    "/api/v1/history",
    "/-/healthy",
    "/-/ready",
    "/runbooks/TcpSynFlood",
    "/nowhere",
]


class Place(NamedTuple):
    """A folder with an authority, a server's and a client's certificate, credentials and a web configuration."""

    folder: Path
    authority: Authority
    client: Pair
    web: Path

    def write(self, password: str = PASSWORD, server: str = "server", more: str = "") -> None:
        """The web configuration: a certificate, those of clients, and a user."""
        stored = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
        fresh = self.folder / "new.yml"
        fresh.write_text(
            f"tls_server_config:\n  cert_file: {server}.pem\n  key_file: {server}.key\n"
            "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"
            f"basic_auth_users:\n  prometheus: {stored}\n{more}"
        )
        fresh.rename(self.web)

    @property
    def options(self) -> list[str]:
        """What lets ``check_tcp_states`` and ``healthcheck`` in."""
        return [
            "--ca-file", str(self.authority.cert), "--cert-file", str(self.client.cert),
            "--key-file", str(self.client.key), "--credentials-file", str(self.folder / "credentials"),
        ]  # fmt: skip

    def context(self) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=self.authority.cert)
        made.load_cert_chain(self.client.cert, self.client.key)
        return made

    def connect(self, daemon: Daemon) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", daemon.port, context=self.context(), timeout=DEADLINE)

    def metrics(self, daemon: Daemon) -> str:
        with contextlib.closing(self.connect(daemon)) as connection:
            status, _, body = asked(connection, "/metrics")
            assert status == 200
            return body


def asked(
    connection: http.client.HTTPConnection, path: str, password: str | None = PASSWORD
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body."""
    headers = {}
    if password is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"prometheus:{password}".encode()).decode()
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read().decode()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder = tmp_path / "web"
    authority = Authority(folder, "ca")
    authority.issue("server")
    made = Place(folder, authority, authority.issue("client", "DNS:prometheus.example"), folder / "web.yml")
    (folder / "credentials").write_text(f"prometheus:{PASSWORD}\n")
    made.write()
    return made


@pytest.fixture
def daemon(place: Place, tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(
        tmp_path / "log", "--web.config.file", str(place.web), "--path.procfs", os.path.abspath(situation_root("busy"))
    ) as started:
        wait_for(lambda: ready(place, started), "readiness")
        yield started


def ready(place: Place, daemon: Daemon) -> bool | None:
    with contextlib.closing(place.connect(daemon)) as connection:
        return asked(connection, "/-/ready")[0] == 200 or None


def program(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


def plugin(*arguments: str) -> tuple[int, str]:
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run([*PLUGIN, *arguments], capture_output=True, text=True, check=False, timeout=60, env=environ)
    assert done.stderr == ""
    return done.returncode, done.stdout.split(" | ")[0].strip()


# -- who comes in ------------------------------------------------------------------------------------------------------


def test_every_path_is_behind_the_password_and_says_nothing_of_the_program(place: Place, daemon: Daemon) -> None:
    with contextlib.closing(place.connect(daemon)) as connection:
        for path in ENDPOINTS:
            for wrong in (None, "wrong"):
                status, headers, body = asked(connection, path, wrong)
                assert (status, headers["WWW-Authenticate"], body) == (401, "Basic", "Unauthorized\n")
                assert headers["Server"] == "tcp-exporter"
            assert asked(connection, path)[0] == (404 if path == "/nowhere" else 200)


def test_the_plugin_and_the_health_check_come_in_with_a_certificate_and_credentials(
    place: Place, daemon: Daemon
) -> None:
    url = f"https://127.0.0.1:{daemon.port}"
    assert plugin("--url", url, *place.options) == (1, "TCP STATES WARNING: established 656 (> 600)")
    assert program("healthcheck", "--url", url, *place.options) == (0, "TCP exporter is ready.\n", "")


def test_one_file_may_have_the_certificate_and_its_key(place: Place, daemon: Daemon) -> None:
    both = place.folder / "both.pem"
    both.write_text(place.client.key.read_text() + place.client.cert.read_text())
    options = ["--ca-file", str(place.authority.cert), "--cert-file", str(both), *place.options[-2:]]
    assert program("healthcheck", "--url", f"https://127.0.0.1:{daemon.port}", *options)[0] == 0


def test_without_one_of_them_they_stay_outside_and_say_why(place: Place, daemon: Daemon) -> None:
    url = f"https://127.0.0.1:{daemon.port}"
    without_credentials, without_authority = place.options[:-2], place.options[2:]
    refused = f"{url}/-/ready: 401 Unauthorized"
    assert program("healthcheck", "--url", url, *without_credentials) == (1, "", f"tcp-exporter: {refused}\n")
    answer = plugin("--url", url, *without_credentials)
    assert answer == (
        3,
        f"TCP STATES UNKNOWN: {url}/api/v1/snapshot: answered 401 Unauthorized: the daemon asks for a password: "
        "give --credentials-file",
    )
    code, _, complaint = program("healthcheck", "--url", url, *without_authority)
    assert (code, "certificate verify failed" in complaint) == (1, True)
    (place.folder / "credentials").write_text("prometheus:wrong\n")
    assert program("healthcheck", "--url", url, *place.options) == (1, "", f"tcp-exporter: {refused}\n")
    # The alert comes with the first read, or the connection is gone by then: TLS 1.3 lets a client write before it.
    code, _, complaint = program("healthcheck", "--url", url, *place.options[:2], *place.options[-2:])
    assert (code, complaint.startswith(f"tcp-exporter: {url}/-/ready: "), "Traceback" in complaint) == (1, True, False)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--key-file", "client.key"], "--key-file: only with --cert-file, whose key it is"),
        (["--cert-file", "no.pem"], "--cert-file: no.pem: cannot be read: No such file or directory"),
        (["--cert-file", "client.pem", "--key-file", "."], "--key-file: .: cannot be read: Is a directory"),
        (["--cert-file", "ca.pem"], "--cert-file: ca.pem, --key-file: ca.pem: expected a certificate and a key in PEM"),
        (
            ["--cert-file", "client.pem", "--key-file", "server.key"],
            "--cert-file: client.pem, --key-file: server.key: the key is not the certificate's",
        ),
    ],
)  # fmt: skip
def test_a_certificate_that_cannot_be_presented_is_a_mistake_of_both(
    place: Place, monkeypatch: pytest.MonkeyPatch, options: list[str], line: str
) -> None:
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    url = "https://127.0.0.1:1"
    code, answer = plugin("--url", url, *options)
    assert (code, answer.removeprefix("TCP STATES UNKNOWN: ")) == (3, line)
    code, _, complaint = program("healthcheck", "--url", url, *options)
    assert (code, complaint) == (1, f"tcp-exporter: {line}\n")


def test_the_health_check_ends_in_time_whatever_the_other_side_does() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        late = f"tcp-exporter: {url}/-/ready: no answer within 0.5 s\n"
        assert program("healthcheck", "--url", url, "--timeout", "0.5") == (1, "", late)


def bcrypt_is_loaded(daemon: Daemon) -> bool:
    return "/bcrypt/" in Path(f"/proc/{daemon.process.pid}/maps").read_text()


def test_bcrypt_is_loaded_by_the_first_password_and_never_where_there_is_none(
    place: Place, daemon: Daemon, tmp_path: Path
) -> None:
    assert bcrypt_is_loaded(daemon)  # the wait for readiness needed one
    with Daemon(tmp_path / "plain.log", "--path.procfs", situation_root("busy")) as plain:
        plain.ready().metrics()
        assert not bcrypt_is_loaded(plain)
        assert plain.get("/-/ready", authorization="Basic eDp5")[0] == 200


def test_headers_go_out_and_the_rate_limit_is_kept(place: Place, tmp_path: Path) -> None:
    place.write(more="http_server_config: {headers: {X-Frame-Options: deny}}\nrate_limit: {interval: 1h, burst: 5}\n")
    with (
        Daemon(tmp_path / "log", "--web.config.file", str(place.web)) as started,
        contextlib.closing(place.connect(started)) as connection,
    ):
        answers = [asked(connection, "/-/healthy", password) for password in [PASSWORD, None, *[PASSWORD] * 5]]
        assert [status for status, _, _ in answers] == [200, 401, 200, 200, 200, 429, 429]
        assert {headers["X-Frame-Options"] for _, headers, _ in answers} == {"deny"}


# -- the start, and check-config ---------------------------------------------------------------------------------------


def test_a_web_configuration_with_mistakes_stops_the_start_with_all_of_them(place: Place) -> None:
    place.web.write_text("tls_server_config: {cert_file: no.pem, key_file: server.key}\nbasic_auth_users: {me: x}\n")
    mistakes = (
        f"{place.web}:1:32: tls_server_config.cert_file: 'no.pem' cannot be read: No such file or directory\n"
        f"{place.web}:2:24: basic_auth_users.me: expected a bcrypt hash of 60 characters, as $2y$10$..., made by "
        "`htpasswd -nBC 10 USER`\n"
    )
    assert program("--web.config.file", str(place.web)) == (78, "", mistakes)
    assert program("check-config", "--web.config.file", str(place.web)) == (1, "", mistakes)


def test_check_config_reads_the_web_configuration_that_a_file_names_beside_it(place: Place) -> None:
    file = place.folder / "exporter.yml"
    file.write_text("web: {config_file: web.yml}\n")
    assert program("check-config", str(file)) == (0, f"{file}: valid\n{place.web}: valid\n", "")
    file.write_text("web: {config_file: no.yml}\n")
    missing = f"{place.folder}/no.yml: cannot be read: No such file or directory\n"
    assert program("check-config", str(file)) == (1, "", missing)
    assert program("--config.file", str(file)) == (78, "", missing)
    file.write_text("web: {config_file: no.yml, max_requests: x}\n")
    code, _, complaint = program("check-config", str(file), "--web.config.file", str(place.folder / "no.yml"))
    wrong = f"{file}:1:42: web.max_requests: expected an integer >= 0, got 'x'\n"
    assert (code, complaint) == (1, wrong + missing)
    assert program("check-config")[0] == 2


def test_the_flag_beats_the_file_and_an_empty_one_switches_off(place: Place, tmp_path: Path) -> None:
    file = place.folder / "exporter.yml"
    file.write_text("web: {config_file: no.yml}\n")
    with Daemon(tmp_path / "a", "--config.file", str(file), "--web.config.file", str(place.web)) as started:
        assert "address=https://" in started.said()
    with Daemon(tmp_path / "b", "--config.file", str(file), "--web.config.file", "") as started:
        assert started.get("/-/healthy")[0] == 200


def test_promtool_accepts_the_example(place: Place) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    shutil.copy(Path(__file__).parents[2] / "deploy" / "web-config.yml", place.folder)
    for suffix in ("pem", "key"):
        shutil.copy(place.folder / f"server.{suffix}", place.folder / f"tcp-exporter.{suffix}")
    text = (place.folder / "web-config.yml").read_text()
    # Debian's promtool is older than the rate limit.
    (place.folder / "web-config.yml").write_text(text.replace("rate_limit: {interval: 0, burst: 0}\n", ""))
    done = subprocess.run(
        [promtool, "check", "web-config", "web-config.yml"],
        cwd=place.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "web-config.yml SUCCESS\n")


# -- reload ------------------------------------------------------------------------------------------------------------

GOOD = "tcp_exporter_config_last_reload_successful"


def test_a_password_changes_on_connections_that_are_open(place: Place, daemon: Daemon) -> None:
    with contextlib.closing(place.connect(daemon)) as connection:
        assert asked(connection, "/-/ready")[0] == 200
        place.write("another")
        wait_for(lambda: asked(connection, "/-/ready", "another")[0] == 200 or None, "the new password")
        assert asked(connection, "/-/ready")[0] == 401
        assert daemon.said().count("web configuration reloaded") == 1


def test_a_broken_change_leaves_what_was_and_is_said_in_the_log_and_a_metric(place: Place, daemon: Daemon) -> None:
    assert f"{GOOD} 1.0" in place.metrics(daemon)
    (place.folder / "server.key").write_text("junk\n")
    wait_for(lambda: f"{GOOD} 0.0" in place.metrics(daemon) or None, "the metric")
    refused = "tls_server_config.key_file: expected a private key in PEM"
    assert daemon.said().count(refused) == 1
    place.authority.issue("server")
    wait_for(lambda: f"{GOOD} 1.0" in place.metrics(daemon) or None, "the metric")


def test_sighup_reads_it_again_at_once(place: Place, daemon: Daemon) -> None:
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "web configuration reloaded" in daemon.said() or None, "the reload")
    wait_for(lambda: 'msg="configuration reloaded"' in daemon.said() or None, "the other reload")


def test_a_disk_that_hangs_during_a_reload_is_said_and_stops_no_later_one(place: Place, tmp_path: Path) -> None:
    flag, config = tmp_path / "hangs", tmp_path / "web" / "tcp.yml"
    config.write_text(f"web: {{config_file: {place.web.name}}}\nthresholds: {{established: {{warning: 11}}}}\n")
    shim = [sys.executable, str(Path(__file__).with_name("hanging_open.py")), ".yml", str(flag)]
    arguments = ("--config.file", str(config), "--path.procfs", os.path.abspath(situation_root("busy")))
    with Daemon(tmp_path / "log", *arguments, program=shim) as daemon:
        wait_for(lambda: ready(place, daemon), "readiness")
        flag.touch()
        daemon.process.send_signal(signal.SIGHUP)
        for source in ("configuration", '"web configuration"'):
            said = f'msg="reload is waiting for the disk; keeping the previous configuration" source={source}\n'
            wait_for(lambda said=said: said in daemon.said() or None, said)  # type: ignore[misc]
        metrics = place.metrics(daemon)
        assert f"{GOOD} 0.0" in metrics
        assert WARNING.findall(metrics) == ["11"]
        daemon.process.send_signal(signal.SIGHUP)  # gives the first readers up
        config.write_text(config.read_text().replace("11", "22"))
        place.write("another")
        flag.unlink()
        daemon.process.send_signal(signal.SIGHUP)
        with contextlib.closing(place.connect(daemon)) as connection:
            wait_for(lambda: asked(connection, "/-/ready", "another")[0] == 200 or None, "the new password")
            metrics = wait_for(
                lambda: page if f"{GOOD} 1.0" in (page := asked(connection, "/metrics", "another")[2]) else None,
                "the metric",
            )
        assert WARNING.findall(metrics) == ["22"]
        assert "rejected" not in daemon.said()


WARNING = re.compile(r'tcp_threshold\{measure="established",severity="warning"\} (\d+)')


def test_certificates_change_under_a_loop_of_scrapes_and_none_is_lost(place: Place, daemon: Daemon) -> None:
    """Each scrape is a connection of its own, so each has a handshake."""
    serials: set[bytes] = set()
    failures: list[str] = []
    enough = threading.Event()

    def scrape() -> None:
        while not enough.is_set():
            try:
                with contextlib.closing(place.connect(daemon)) as connection:
                    connection.connect()
                    certificate = connection.sock.getpeercert(binary_form=True)
                    assert certificate is not None
                    serials.add(certificate)
                    assert asked(connection, "/metrics")[0] == 200
            except Exception as error:  # noqa: BLE001 - all there are
                failures.append(repr(error))

    scraping = threading.Thread(target=scrape)
    scraping.start()
    try:
        for number in range(1, 4):
            wait_for(lambda: len(serials) >= number or None, f"certificate {number}")  # noqa: B023 - called at once
            place.authority.issue("server")  # the key first and then the certificate, each in its place
        wait_for(lambda: len(serials) >= 4 or None, "the last certificate")
    finally:
        enough.set()
        scraping.join()
    assert (failures, len(serials)) == ([], 4)


# -- under pressure ----------------------------------------------------------------------------------------------------


def descriptors(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def resident(daemon: Daemon) -> int:
    """KiB of memory."""
    [line] = [line for line in Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines() if "VmRSS" in line]
    return int(line.split()[1])


def test_ten_thousand_silent_handshakes_leave_descriptors_memory_and_scrapes(place: Place, daemon: Daemon) -> None:
    before, memory = descriptors(daemon), resident(daemon)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = min(10_000, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = 0
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for count in range(number):
            stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), timeout=DEADLINE))
            if count % 1000 == 999:
                most = max(most, descriptors(daemon))
                assert "tcp_connections" in place.metrics(daemon)
        assert most - before <= 110
        assert resident(daemon) - memory < 32 * 1024


def test_without_descriptors_nothing_spins_it_is_said_once_and_a_scrape_gets_in(place: Place, daemon: Daemon) -> None:
    limit = descriptors(daemon) + 10
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), timeout=DEADLINE))
        wait_for(lambda: "connections cannot be accepted" in daemon.said() or None, "the line")
        began, before = time.monotonic(), cpu(daemon)
        wait_for(lambda: time.monotonic() > began + 2 or None, "what it does in two seconds")
        assert cpu(daemon) - before < (time.monotonic() - began) / 2
        assert "tcp_connections" in place.metrics(daemon)
    assert daemon.said().count('msg="connections cannot be accepted" error="OSError(24, \'Too many open files\')"') == 1
    assert "Traceback" not in daemon.said()
    assert daemon.terminate() == 0


def cpu(daemon: Daemon) -> float:
    """Seconds of CPU that it has used."""
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- floods ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def beside(work: Callable[[threading.Event], None], number: int) -> Iterator[None]:
    """*number* threads that do *work* until the block ends, which sets the event."""
    enough = threading.Event()
    threads = [threading.Thread(target=work, args=(enough,)) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def test_a_flood_of_wrong_passwords_fails_no_scrape_with_the_right_one(place: Place, tmp_path: Path) -> None:
    stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    place.web.write_text(f"basic_auth_users: {{prometheus: {stored}}}\n")
    statuses: collections.Counter[int] = collections.Counter()

    def get_with(port: int, password: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        with contextlib.closing(connection):
            token = base64.b64encode(f"prometheus:{password}".encode()).decode()
            connection.request("GET", "/metrics", headers={"Authorization": f"Basic {token}"})
            answer = connection.getresponse()
            answer.read()
            return answer.status

    with Daemon(tmp_path / "log", "--web.config.file", str(place.web)) as started:
        assert "basic authentication without TLS" in wait_for(lambda: started.said() or None, "the log")
        assert get_with(started.port, PASSWORD) == 200
        memory = resident(started)

        def flood(enough: threading.Event) -> None:
            while not enough.is_set():
                statuses[get_with(started.port, os.urandom(8).hex())] += 1

        with beside(flood, 20):
            wait_for(lambda: statuses[401] > 20 or None, "a flood")
            assert [get_with(started.port, PASSWORD) for _ in range(100)] == [200] * 100
        assert set(statuses) == {401, 503}
        assert resident(started) - memory < 16 * 1024


# -- Prometheus --------------------------------------------------------------------------------------------------------


class Prometheus:
    """The real one, with the files of *place*; ended with the ``with`` block.

    It scrapes every three seconds, which is also what it waits for an answer: a slow machine is no lost scrape.
    """

    def __init__(self, place: Place, data: Path, *jobs: str) -> None:
        prometheus = shutil.which("prometheus")
        if prometheus is None:
            pytest.skip("prometheus is not installed")
        self._port = free_port()
        (place.folder / "password").write_text(PASSWORD)
        file = place.folder / "prometheus.yml"
        file.write_text(f"global: {{scrape_interval: 3s}}\nscrape_configs: [{', '.join(jobs)}]\n")
        command = [
            prometheus, f"--config.file={file}", f"--storage.tsdb.path={data}/tsdb",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]  # fmt: skip
        with (data / "prometheus.log").open("w") as log:
            self._process = subprocess.Popen(command, stderr=log)

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def query(self, expression: str) -> dict[str, float]:
        """The values by job."""
        try:
            path = "/api/v1/query?" + urllib.parse.urlencode({"query": expression})
            result = json.loads(get(self._port, path)[1])["data"]["result"]
        except (OSError, ValueError, KeyError):
            return {}
        return {one["metric"].get("job", ""): float(one["value"][1]) for one in result}

    def more(self, number: int) -> None:
        """Wait for *number* more scrapes of the job ``tcp``, failed or not."""
        count = 'count_over_time(up{job="tcp"}[1h])'
        before = self.query(count)["tcp"]
        wait_for(lambda: self.query(count).get("tcp", 0) >= before + number or None, "more scrapes")


TLS = "tls_config: {ca_file: ca.pem, cert_file: client.pem, key_file: client.key}"
SECRET = "basic_auth: {username: prometheus, password_file: password}"


def job(name: str, daemon: Daemon, *how: str) -> str:
    target = f"static_configs: [{{targets: ['127.0.0.1:{daemon.port}']}}]"
    return f"{{{', '.join([f'job_name: {name}', *how, target])}}}"


@pytest.mark.e2e
@pytest.mark.long
def test_a_real_prometheus_scrapes_with_a_certificate_and_a_password_through_a_rotation(
    place: Place, daemon: Daemon, tmp_path: Path
) -> None:
    jobs = [
        job("tcp", daemon, "scheme: https", TLS, SECRET),
        job("no-password", daemon, "scheme: https", TLS),
        job("no-certificate", daemon, "scheme: https", "tls_config: {ca_file: ca.pem}", SECRET),
        job("no-tls", daemon, SECRET),
    ]
    with Prometheus(place, tmp_path, *jobs) as prometheus:
        expected = {"tcp": 1.0, "no-password": 0.0, "no-certificate": 0.0, "no-tls": 0.0}
        wait_for(lambda: prometheus.query("up") == expected or None, "a scrape of each job")
        place.authority.issue("server")
        wait_for(lambda: "web configuration reloaded" in daemon.said() or None, "the rotation")
        prometheus.more(2)
        assert prometheus.query("min_over_time(up[1h])") == expected
        assert prometheus.query("max_over_time(up[1h])") == expected
        assert prometheus.query('tcp_connections{state="established"}') == {"tcp": 656}


@pytest.mark.e2e
@pytest.mark.long
def test_no_scrape_fails_beside_a_thousand_connections_of_which_900_are_silent_or_slow(
    place: Place, daemon: Daemon, tmp_path: Path
) -> None:
    """They come again as soon as they are cut, so there are always about as many as the daemon lets in."""

    def silent(enough: threading.Event) -> None:
        while not enough.is_set():
            with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
                for number in range(90):
                    one = stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), timeout=DEADLINE))
                    one.sendall(b"\x16\x03\x01\x02"[: number % 5])
                enough.wait(2)

    def good(enough: threading.Event) -> None:
        with contextlib.ExitStack() as stack:
            many = [stack.enter_context(contextlib.closing(place.connect(daemon))) for _ in range(10)]
            while not enough.is_set():
                for one in many:
                    try:
                        asked(one, "/-/ready")
                    except (OSError, http.client.HTTPException):  # its place was needed: it connects again
                        one.close()
                    enough.wait(0.05)

    with Prometheus(place, tmp_path, job("tcp", daemon, "scheme: https", TLS, SECRET)) as prometheus:
        wait_for(lambda: prometheus.query("up") or None, "the first scrape")
        memory = resident(daemon)
        with beside(silent, 10), beside(good, 10):
            prometheus.more(4)
            assert resident(daemon) - memory < 32 * 1024
        assert prometheus.query("min_over_time(up[1h])") == {"tcp": 1}


@pytest.mark.e2e
def test_promtool_accepts_the_scrape_configuration_of_the_documentation(place: Place) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    block = re.search(r"^```yaml\n(scrape_configs:.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    (place.folder / "prometheus.yml").write_text(block[1])
    (place.folder / "password").write_text(PASSWORD)
    done = subprocess.run(
        [promtool, "check", "config", "prometheus.yml"], cwd=place.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
