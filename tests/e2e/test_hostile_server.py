"""Every command with ``--url`` against a server that wants to harm who asks: a line in time, and little memory.

``tests/fuzz`` has what such a server can say; here is what it does with time and size, towards real processes.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from socket import SHUT_WR, create_server, socket

import pytest

from benchmarks.meter import memory
from exporter.document import write
from exporter.document.read import MAX_BODY
from exporter.sampling.sample import Sample
from tests.conftest import judge_situation, sample_situation
from tests.e2e.conftest import DEADLINE, PLUGIN, PROGRAM

pytestmark = pytest.mark.e2e

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LIMIT = 256 << 20  # bytes: the largest document that is read, as Python objects, is most of it
BEAT = 0.05  # seconds between two bytes of a server that dribbles

Answer = Callable[[socket, threading.Event], None]


def whole(said: bytes) -> Answer:
    """Say it and end."""

    def answer(client: socket, _: threading.Event) -> None:
        client.sendall(said)
        client.shutdown(SHUT_WR)

    return answer


def dribble(first: bytes, piece: bytes) -> Answer:
    """Say *first*, and then *piece* now and again without end."""

    def answer(client: socket, over: threading.Event) -> None:
        client.sendall(first)
        while not over.wait(BEAT):
            client.sendall(piece)

    return answer


def flood(first: bytes, piece: bytes) -> Answer:
    """Say *first*, and then *piece* as fast as it is read, without end."""

    def answer(client: socket, over: threading.Event) -> None:
        client.sendall(first)
        while not over.is_set():
            client.sendall(piece)

    return answer


def body(text: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(text), text)


def filled(item: bytes) -> bytes:
    """A list that is as long as a document may be."""
    return b"[" + b",".join([item] * ((MAX_BODY - 2) // (len(item) + 1))) + b"]"


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A server that treats everyone to *answer*: its URL."""
    over = threading.Event()

    def treat(client: socket) -> None:
        with contextlib.suppress(OSError), client:
            client.recv(65536)
            answer(client, over)
            while client.recv(65536):
                pass

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.settimeout(DEADLINE)
                threading.Thread(target=treat, args=(client,), daemon=True).start()

    with create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()


def asked(command: list[str]) -> tuple[int, str, str, float, int]:
    """Exit code, standard output and error, seconds, and the most memory in bytes, as far as it was seen."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=err)
        most, end = 0, began + DEADLINE
        while process.poll() is None:  # the kernel's own peak (ru_maxrss) begins with that of this process
            used = memory(process.pid)
            most = max(most, used.peak if used else 0)
            if time.monotonic() > end:
                process.kill()
            time.sleep(0.002)
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
        return process.returncode, said[0], said[1], time.monotonic() - began, most


NEVER_ENDING = {
    "silence": dribble(b"", b""),
    "a status line byte by byte": dribble(b"HTTP/1.1 200 ", b"O"),
    "a header byte by byte": dribble(HEAD + b"X: ", b"y"),
    "headers now and again": dribble(HEAD, b"X"),
    "100 Continue": flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "a body byte by byte": dribble(HEAD + b"Content-Length: 100000\r\n\r\n{", b" "),
    "a body of no length byte by byte": dribble(HEAD + b"\r\n{", b" "),
    "chunks of a byte": dribble(CHUNKED, b"1\r\n \r\n"),
    "the size of a chunk byte by byte": dribble(CHUNKED, b"1"),
    "a chunk byte by byte": dribble(CHUNKED + b"ffffff\r\n", b" "),
}
WITHOUT_MEASURE = {
    "a chunk of size -1": (flood(CHUNKED + b"-1\r\n", b"A" * 2**20), "a chunk of size '-1': expected hex"),
    "a size without end": (flood(CHUNKED, b"0" * 2**20), "expected hexadecimal digits"),
    "a chunk without end": (flood(CHUNKED + b"ffffffff\r\n", b" " * 2**20), "the answer has more than 4 MiB"),
    "chunks without end": (flood(CHUNKED, b"400\r\n%b\r\n" % (b" " * 1024) * 100), "the answer has more than 4 MiB"),
    "a body without end": (flood(HEAD + b"\r\n", b" " * 2**20), "the answer has more than 4 MiB"),
    "a status line without end": (flood(b"HTTP/1.1 200 ", b"O" * 2**20), "got more than 65536 bytes"),
    "headers without end": (flood(HEAD, b"X: y\r\n" * 10_000), "got more than 100 headers"),
    "lists in a list": (whole(body(filled(b"[]"))), "the answer is list, not an object"),
    "objects in a list": (whole(body(filled(b'{"a":0}'))), "the answer is list, not an object"),
    "nesting": (whole(body(b"[" * MAX_BODY)), "the answer is not JSON"),
    "many keys": (whole(body(b"{%b}" % b",".join(b'"%x":{}' % it for it in range(370_000)))), "has no api_version"),
    "a number of four million digits": (whole(body(b'{"a":%b}' % (b"1" * (MAX_BODY - 10)))), "the answer is not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NEVER_ENDING)
def test_an_answer_that_never_ends_is_cut_by_the_timeout(kind: str) -> None:
    with serving(NEVER_ENDING[kind]) as url:
        code, out, err, seconds, memory = asked([*PLUGIN, "--url", url, "-t", "1"])
        assert (code, out, err) == (3, "TCP STATES UNKNOWN: no answer within 1 s\n", "")
        assert 1 <= seconds < DEADLINE
        assert memory < LIMIT


@pytest.mark.parametrize("kind", ["100 Continue", "chunks of a byte"])
def test_the_health_check_is_cut_by_its_timeout_too(kind: str) -> None:
    with serving(NEVER_ENDING[kind]) as url:
        code, out, err, _, memory = asked([*PROGRAM, "healthcheck", "--url", url, "--timeout", "0.5"])
        assert (code, out, err) == (1, "", f"tcp-exporter: {url}/-/ready: no answer within 0.5 s\n")
        assert memory < LIMIT


@pytest.mark.parametrize("kind", WITHOUT_MEASURE)
def test_an_answer_of_any_size_is_one_line_and_little_memory(kind: str) -> None:
    answer, reason = WITHOUT_MEASURE[kind]
    with serving(answer) as url:
        code, out, err, _, memory = asked([*PLUGIN, "--url", url, "-t", f"{DEADLINE:g}"])
        assert (code, err, out.count("\n")) == (3, "", 1)
        assert out.startswith(f"TCP STATES UNKNOWN: {url}/api/v1/snapshot: ")
        assert reason in out
        assert memory < LIMIT
        code, out, err, _, memory = asked([*PROGRAM, "advise", "--thresholds", "--url", url])
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert reason in err
        assert memory < LIMIT


@pytest.mark.parametrize("status", [200, 503])
def test_the_health_check_shows_a_short_line_without_terminal_sequences(status: int) -> None:
    said = b"\x1b]0;title\x07\xff\r\nready\x00\xe2\x80\xae" + b"a" * 9999
    with serving(whole(b"HTTP/1.1 %d \x1b[2J\r\nContent-Length: %d\r\n\r\n%b" % (status, len(said), said))) as url:
        code, out, err, _, _ = asked([*PROGRAM, "healthcheck", "--url", url])
    line = "?]0;title?\ufffd??ready??" + "a" * 1000
    shown = f"{line[:297]}..."
    said_instead = "not a daemon of tcp-exporter: expected 'TCP exporter is ready.', got"
    complaint = f"{said_instead} {shown!r}" if status == 200 else f"503 {shown}"
    assert (code, out, err) == (1, "", f"tcp-exporter: {url}/-/ready: {complaint}\n")


@pytest.mark.parametrize("said", [b"", b"<html>Log in</html>", b"TCP exporter is not ready: no sample yet."])
def test_a_200_of_another_server_is_not_a_healthy_daemon(said: bytes) -> None:
    with serving(whole(body(said))) as url:
        code, out, err, _, _ = asked([*PROGRAM, "healthcheck", "--url", url])
    instead = f"expected 'TCP exporter is ready.', got {said.decode()!r}"
    assert (code, out, err) == (1, "", f"tcp-exporter: {url}/-/ready: not a daemon of tcp-exporter: {instead}\n")


@pytest.mark.parametrize("name", ["x=1;2;3;0; established=0", "x|\x1b[2J\nfoo"])
def test_the_name_of_a_measure_injects_no_performance_data(name: str) -> None:
    sample = Sample.single(sample_situation("quiet"), judge_situation("quiet"))._replace(stale_after=10.0)
    document = write.sampled(sample, now=0.25)
    judged = dict(document["health"]) | {"measures": [{"measure": name, "warning": "10", "critical": None}]}  # type: ignore[call-overload]  # a dict
    with serving(whole(body(json.dumps(document | {"health": judged}).encode()))) as url:
        code, out, err, _, _ = asked([*PLUGIN, "--url", url, "-s", "all"])
    assert (code, err, out.count("\n"), out.count("|")) == (3, "", 1, 0)
    assert "measure is 'x" in out
    assert out.rstrip("\n").isprintable()


def vector(*rows: tuple[object, object]) -> bytes:
    found = [{"metric": labels, "value": [1.0, value]} for labels, value in rows]
    return body(json.dumps({"status": "success", "data": {"resultType": "vector", "result": found}}).encode())


@pytest.mark.parametrize("labels", [["a"], {"instance": ["a"]}, {"instance": "a" * 2000}, None, "ab"])
def test_a_prometheus_whose_labels_are_no_texts_is_none(labels: object) -> None:
    with serving(in_turn(NOT_FOUND, vector((labels, "900")))) as url:
        code, out, err, _, _ = asked([*PROGRAM, "advise", "--thresholds", "--url", url])
    reason = (
        f"tcp-exporter: {url}: neither a daemon of tcp-exporter, whose /api/v1/snapshot it has not, nor a Prometheus: "
        "not an answer of a Prometheus\n"
    )
    assert (code, out, err) == (2, "", reason)


def test_what_no_number_can_be_is_left_out_of_what_a_prometheus_answers() -> None:
    state = {"instance": "a:1\n  established: {warning: 1}\x1b[2J", "state": "established"}
    states = vector((state, "9"), (state | {"instance": "b:1"}, "Inf"), (state, "NaN"), (state, "-1"), (state, "1e308"))
    rest = (vector(({"resource": "memory"}, "NaN")), vector(({}, "-Inf")), vector((state, "+Inf")))
    with serving(in_turn(NOT_FOUND, states, *rest)) as url:
        code, out, err, _, _ = asked([*PROGRAM, "advise", "--thresholds", "--url", url])
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if not line.lstrip().startswith("#")] == [
        "thresholds:",
        "  established: {warning: 30, critical: 40}",
    ]
    assert all(line.isprintable() for line in out.split("\n"))


NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def in_turn(*said: bytes) -> Answer:
    """Say the next to each who asks."""
    left = [*said]

    def answer(client: socket, over: threading.Event) -> None:
        whole(left.pop(0) if left else b"")(client, over)

    return answer
