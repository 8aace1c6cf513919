"""A transfer over a long path: each buffer in turn limits it, and where the path itself does, nothing is found."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.lab import longpath
from tests.lab.namespace import join_command
from tests.situations.world import Advice, World, wait_until

pytestmark = pytest.mark.lab

SMALL = 131072
FAST, SLOW = 40_000_000, 3_000_000  # bytes a second of the path


@contextlib.contextmanager
def sending(world: World, rate: int, far_rmem: str = "", send_buffer: int = 0) -> Iterator[None]:
    """A host 20 ms away, to which this one sends as much as it can while the block runs."""
    script = [sys.executable, longpath.__file__, "0.02", str(rate), *filter(None, [far_rmem])]
    with subprocess.Popen(
        join_command(world.lab.pid, script),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as relay:
        assert relay.stdin is not None
        assert relay.stdout is not None
        assert relay.stderr is not None
        if relay.stdout.readline() != "ready\n":
            pytest.skip(f"no TUN device for a long path: {relay.stderr.read()[-200:]}")
        end = world.keep(world.socket())
        if send_buffer:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        end.connect((longpath.FAR, longpath.PORT))

        def send() -> None:
            with contextlib.suppress(OSError):  # the end of the test
                while True:
                    end.sendall(bytes(65536))

        worker = threading.Thread(target=send, daemon=True)
        worker.start()
        try:
            yield
        finally:
            end.shutdown(socket.SHUT_RDWR)
            relay.stdin.close()
            worker.join()


def advised(world: World) -> Advice:
    """What is advised once the finding is there."""
    advice: list[Advice] = []

    def found() -> bool:
        advice.append(world.advise("200ms"))
        return "buffer_limits" in advice[-1].findings

    wait_until(found, "the finding buffer_limits")
    return advice[-1]


def sent(world: World, number: int) -> None:
    """Wait until so many bytes were acknowledged."""

    def acknowledged() -> bool:
        text = world.run("ss", "-Htni", "dst", longpath.FAR)
        return any(int(word[12:]) >= number for word in text.split() if word.startswith("bytes_acked:"))

    wait_until(acknowledged, f"{number} bytes acknowledged")


def test_a_small_tcp_wmem_limits_a_transfer(world: World) -> None:
    world.sysctl("net.ipv4.tcp_wmem", f"4096 16384 {SMALL}")
    with sending(world, FAST):
        advice = advised(world)
    assert advice.findings["buffer_limits"] == "WARNING"
    assert "tcp_wmem" in advice.what("buffer_limits")
    assert f"{SMALL >> 10} KiB, the max of tcp_wmem" in advice.text("buffer_limits")
    assert advice.command("buffer_limits") == "sysctl -w net.ipv4.tcp_wmem='4096 16384 4194304'"
    assert "Latency" in advice.text("buffer_limits")


def test_a_small_send_buffer_of_the_application_is_not_blamed_on_the_sysctl(world: World) -> None:
    with sending(world, FAST, send_buffer=SMALL // 2):
        advice = advised(world)
    assert "SO_SNDBUF" in advice.text("buffer_limits")
    assert advice.command("buffer_limits") is None


def test_a_small_tcp_rmem_of_the_peer_limits_a_transfer(world: World) -> None:
    with sending(world, FAST, far_rmem=f"4096 65536 {SMALL}"):
        advice = advised(world)
    assert "tcp_rmem" in advice.what("buffer_limits")
    assert "raise the max of tcp_rmem to 4194304" in advice.text("buffer_limits")
    assert longpath.FAR in advice.text("buffer_limits")


def test_the_path_limits_a_transfer_and_nothing_is_found(world: World) -> None:
    with sending(world, SLOW):
        sent(world, 16 << 20)
        assert "buffer_limits" not in world.advise("200ms").findings


def test_a_small_window_on_a_short_path_is_not_reported(world: World) -> None:
    world.sysctl("net.ipv4.tcp_wmem", f"4096 16384 {SMALL}")
    server = world.listen(8443, 8)
    (end,) = world.connect(8443, 1)
    (far,) = world.accept(server, 1)

    def read() -> None:
        with contextlib.suppress(OSError):
            while far.recv(1 << 16):
                pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for _ in range(1000):
        end.sendall(bytes(65536))
    assert "buffer_limits" not in world.advise("200ms").findings
    end.close()
    reader.join()
