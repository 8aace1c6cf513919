"""Close events in the daemon: counted by port, switched by a reload, and no reason to end late."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import DEADLINE, Daemon, wait_for
from tests.lab import LabProcess

pytestmark = pytest.mark.lab

CONNECT = """
import socket
server = socket.create_server(("127.0.0.1", 7777))
for _ in range(100):
    client = socket.create_connection(("127.0.0.1", 7777))
    accepted, _ = server.accept()
    accepted.sendall(b"x" * 50)
    client.recv(50, socket.MSG_WAITALL)
    client.close()
    assert accepted.recv(1) == b""
    accepted.close()
"""


def value(daemon: Daemon, series: str) -> float | None:
    found = re.search(rf"^{re.escape(series)} (.*)$", daemon.get("/metrics")[1], re.MULTILINE)
    return float(found[1]) if found else None


def test_close_events_are_counted_by_port_until_a_reload_switches_them_off(tmp_path: Path) -> None:
    configuration = tmp_path / "closes.yml"
    configuration.write_text("detail: {interval: 500ms, ports: [7777], closes: true}\n")
    with LabProcess() as lab, Daemon(tmp_path / "log", f"--config={configuration}", lab=lab) as daemon:
        closed = 'tcp_port_closed_connections_total{port="7777"}'
        wait_for(lambda: value(daemon, closed) == 0 or None, "a daemon that listens")
        done = lab.run([sys.executable, "-c", CONNECT])
        assert done.returncode == 0, done.stderr
        wait_for(lambda: value(daemon, closed) == 100 or None, "a hundred connections that ended")
        assert value(daemon, 'tcp_port_sent_bytes_total{port="7777"}') == 100 * 50
        assert value(daemon, 'tcp_port_received_bytes_total{port="7777"}') == 100
        assert value(daemon, 'tcp_port_retransmitted_segments_total{port="7777"}') == 0
        assert value(daemon, 'tcp_port_connection_rtt_seconds_bucket{le="+Inf",port="7777"}') == 100
        assert value(daemon, 'tcp_port_connection_rtt_seconds_count{port="7777"}') == 100
        assert value(daemon, 'tcp_exporter_source_up{source="closes"}') == 1
        assert value(daemon, "tcp_exporter_close_events_lost_total") == 0
        wait_for(lambda: value(daemon, "tcp_exporter_close_events_ratio") == 1 or None, "a whole period")

        configuration.write_text("detail: {interval: 500ms, ports: [7777]}\n")
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: value(daemon, closed) is None or None, "a daemon that no longer listens")
        assert value(daemon, 'tcp_exporter_source_up{source="closes"}') is None

        configuration.write_text("detail: {interval: 500ms, ports: [7777], closes: true}\n")
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: value(daemon, closed) == 100 or None, "the counter where it was")

        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(DEADLINE) == 0
