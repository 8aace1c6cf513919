"""Connection churn on the loopback of a namespace: thousands of connections a second that open and close at once.

``python churn.py CLIENTS`` is a server and its clients, each a process, which end with it; it says ``ready`` when the
server answers. A client has one connection at a time at most, so beside the sockets of others never more than two for
each client are ESTABLISHED.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys


def serve(listener: socket.socket, parent: int) -> None:
    """Accept, read to the end, close: it has CLOSE_WAIT sockets for as long as it takes to get to them."""
    waiting = selectors.DefaultSelector()
    listener.setblocking(False)
    waiting.register(listener, selectors.EVENT_READ)
    while os.getppid() == parent:
        for key, _ in waiting.select(1):
            ready = key.fileobj
            assert isinstance(ready, socket.socket)
            if ready is listener:
                connection, _ = listener.accept()
                waiting.register(connection, selectors.EVENT_READ)
            else:
                waiting.unregister(ready)
                ready.close()


def ask(address: tuple[str, int], parent: int) -> None:
    """Connect and close, again and again."""
    while os.getppid() == parent:
        with contextlib.suppress(ConnectionError), socket.socket() as connection:
            connection.connect(address)


def main() -> None:
    """Run until killed."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    address, parent = listener.getsockname(), os.getpid()
    if not os.fork():
        serve(listener, parent)
        return
    with listener:
        for _ in range(int(sys.argv[1])):
            if not os.fork():
                listener.close()
                ask(address, parent)
                return
    with socket.create_connection(address):
        print("ready", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
