"""Connection churn on the loopback of a namespace: thousands of connections a second that open and close at once.

``python churn.py CLIENTS`` is a server and its clients, each a process; it prints ``ready`` when they run, and what was
opened when its standard input ends. A client has at most one connection at a time, so of ESTABLISHED sockets there are
never more than two for each client beside those of others.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys


def serve(listener: socket.socket) -> None:
    """Accept, read to the end, close: a server that has CLOSE_WAIT sockets for as long as it takes to get to them."""
    waiting = selectors.DefaultSelector()
    listener.setblocking(False)
    waiting.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listener:
                try:
                    connection, _ = listener.accept()
                except BlockingIOError:
                    continue
                connection.setblocking(False)
                waiting.register(connection, selectors.EVENT_READ)
            else:
                waiting.unregister(key.fileobj)
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()


def ask(address: tuple[str, int], told: int) -> None:
    """Connect and close, again and again; a byte to *told* for every hundred."""
    opened = 0
    while True:
        with socket.socket() as connection:
            connection.connect(address)
        opened += 1
        if opened % 100 == 0:
            os.write(told, b".")


def main() -> None:
    """Run until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    read, write = os.pipe()
    children = []
    for number in range(1 + int(sys.argv[1])):
        child = os.fork()
        if not child:
            if number == 0:
                serve(listener)
            ask(listener.getsockname(), write)
        children.append(child)
    os.close(write)
    os.read(read, 1)
    print("ready", flush=True)
    sys.stdin.read()
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
    hundreds = 1
    while some := os.read(read, 65536):
        hundreds += len(some)
    print(100 * hundreds, flush=True)


if __name__ == "__main__":
    main()
