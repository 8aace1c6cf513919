"""Becomes one host of a simulated fleet: a network namespace with sockets in it, and the daemon that counts them.

``host.py DESCRIPTOR ESTABLISHED COMMAND...``: the descriptor is a listening socket of the namespace that scrapes, so
that Prometheus needs no network between them; the daemon takes it as systemd would hand it over.
"""

import os
import socket
import sys

from tests.lab.namespace import enter

_FIRST = 3  # sd_listen_fds(3)
_TCP_REPAIR = 19
_REPAIR_ON = 1  # established without a peer or a packet, and closed without one


def main(listening: str, established: str, *command: str) -> None:
    """Populate a fresh namespace and run the command in it."""
    if int(listening) != _FIRST:
        os.dup2(int(listening), _FIRST)
        os.close(int(listening))
    os.set_inheritable(_FIRST, True)  # noqa: FBT003 - it takes no keyword
    enter()
    os.set_inheritable(socket.create_server(("127.0.0.1", 8443), backlog=128).detach(), True)  # noqa: FBT003 - as above
    for number in range(int(established)):
        sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _REPAIR_ON)
        sock.bind(("127.0.0.1", 443))
        sock.connect(("127.0.0.2", 1024 + number))
        os.set_inheritable(sock.detach(), True)  # noqa: FBT003 - as above; the daemon holds them
    os.execve(command[0], command, {**os.environ, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})


if __name__ == "__main__":
    main(*sys.argv[1:])
