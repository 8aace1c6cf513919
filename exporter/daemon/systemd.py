"""The protocols between a service and systemd: sd_notify(3), the watchdog, and the sockets of sd_listen_fds(3).

A rim module: it has the sockets, and ``service`` decides what to send and when. Variables are removed from the
environment as they are read, so that no child process takes them for its own.
"""

from __future__ import annotations

import socket
from collections.abc import MutableMapping

from exporter.errors import UsageError
from exporter.printable import printable

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START


class NotifySocket:
    """Sends messages to the service manager, or nowhere where there is none.

    ``watchdog`` is the seconds within which it expects ``WATCHDOG=1``; None without a watchdog.
    """

    def __init__(self, environ: MutableMapping[str, str], pid: int) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = _watchdog(environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", ""), pid)

    def send(self, *lines: str) -> bool:
        """Send one message; returns whether it arrived. It never waits and never raises.

        A status repeats names of files, in which a line's end would begin another assignment.
        """
        if not self._address.startswith(("/", "\0")):  # none, or the vsock of a virtual machine, not of a service
            return True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(0)  # a busy manager must not delay scrapes
                channel.sendto("\n".join(map(printable, lines)).encode(), self._address)
        except OSError:
            return False
        return True


def _watchdog(usec: str, pid: str, own: int) -> float | None:
    if not (usec.isascii() and usec.isdecimal()) or pid not in {"", str(own)}:
        return None
    return int(usec) / 1e6 or None


def passed_sockets(environ: MutableMapping[str, str], pid: int, first: int = _FIRST_DESCRIPTOR) -> list[socket.socket]:
    """The listening sockets that systemd passed to the process *pid*, from the descriptor *first* on, in its order.

    ``UsageError`` where there are none, or HTTP cannot be served on one of them.
    """
    addressee, count, names = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if addressee != str(pid) or not (count.isascii() and count.isdecimal()) or int(count) == 0:
        raise UsageError("no socket activation file descriptors found")  # exporter-toolkit's words
    named = dict(enumerate(names.split(":"), first))
    passed: list[socket.socket] = []
    try:
        for descriptor in range(first, first + int(count)):
            passed.append(_passed(descriptor, named.get(descriptor, "")))  # noqa: PERF401 - after a failure those so far are closed
    except UsageError:
        for each in passed:
            each.close()
        raise
    return passed


def _passed(descriptor: int, name: str) -> socket.socket:
    what = f"file descriptor {descriptor}{f' ({name})' if name else ''}, which systemd passed"
    try:
        # Asks the kernel for family, type and protocol; only where that is TCP does asyncio turn Nagle's algorithm off.
        passed = socket.socket(fileno=descriptor)
        passed.set_inheritable(inheritable=False)
    except OSError as error:
        raise UsageError(f"{what}: {error.strerror}") from None
    is_stream = passed.type == socket.SOCK_STREAM
    if is_stream and passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return passed
    passed.close()
    found = "a stream that nobody listens on, as Accept=yes makes them" if is_stream else "a socket of another type"
    raise UsageError(f"{what}: expected a listening stream socket, got {found}")
