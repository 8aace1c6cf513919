"""The only IO of the kernel side: opens what procfs, netlink and psutil offer, and hands it to the pure parsers.

``sampling.sampler`` decides what to ask and what to do when it fails. Every failure leaves here as a ``SourceError``
that names its source; every read of netlink has a deadline.
"""

from __future__ import annotations

import _socket as socket  # what `socket` wraps: with its enums and selectors it is a tenth of the start of the plugin
import errno
import os
import posixpath
import sys
import time

from exporter import system
from exporter.errors import SourceError, SourceMissing, SourceTimeout, SourceUnreadable
from exporter.kernel import inetdiag, procnet
from exporter.record import TYPE_CHECKING
from exporter.tcpstate import StateCounts, TcpState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import NoReturn, Protocol, TypeVar

    from psutil._ntuples import sconn

    class Collector(Protocol):
        """Takes the replies of one dump as they come."""

        def add(self, reply: bytes) -> bool:
            """Take one reply; True when the dump is complete. Raises as ``inetdiag.Dump.add`` does."""

    C = TypeVar("C", bound=Collector)

_REPLY = 32768  # bytes: no reply of a dump is larger (net/netlink/af_netlink.c), and no more is allocated for each
_RECEIVE_SECONDS = 5.0  # a kernel that works answers within milliseconds, however many sockets it walks
_DUMP_SECONDS = 60.0
_INTERRUPTED_TRIES = 3
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1  # include/linux/socket.h, include/uapi/linux/netlink.h
_SO_RCVBUFFORCE, _SO_MEMINFO = 33, 55  # include/uapi/asm-generic/socket.h; Python has no names for them
_DROPS = 8 * 4  # offset of SK_MEMINFO_DROPS in what SO_MEMINFO returns
_EVENTS_BUFFER = 4 << 20  # bytes, which the kernel doubles; an event takes 1.3 KB of them
_EVENT = 4096  # bytes: ten times a close event
_EVENTS_AT_ONCE = 4096
_LOOKED_UP_AT_ONCE = 64  # their answers fit into the smallest receive buffer that systems have
_CHUNK = 16384  # bytes: more than nearly any of these files has
_LONGEST_SYSCTL = 16 * _CHUNK  # bytes: more than ip_local_reserved_ports has with every second port in it


class Procfs:
    """The files below a mount point of procfs."""

    def __init__(self, root: str = "/proc") -> None:
        self.root = posixpath.normpath(root)  # a path of Linux on every system

    @property
    def is_expected(self) -> bool:
        """Whether to ask it at all: without Linux there is none, but there may be a copy of another host's."""
        return system.LINUX or self.root != "/proc"

    def is_there(self) -> bool:
        """Whether this is a Linux procfs with a network side at all."""
        return os.path.isdir(f"{self.root}/net")

    def text(self, path: str) -> str:
        """The whole of one small file."""
        return _text(f"{self.root}/{path}")

    def lines(self, path: str) -> Iterator[str]:
        """The lines of one file of any size, streamed."""
        try:
            with open(f"{self.root}/{path}", encoding="utf-8", errors="backslashreplace") as file:
                yield from file
        except OSError as error:
            _raise(f"{self.root}/{path}", error)

    def sysctl_names(self) -> list[str]:
        """The ``tcp_*`` files of sys/net/ipv4 that exist here, sorted."""
        path = f"{self.root}/sys/net/ipv4"
        try:
            return sorted(name for name in os.listdir(path) if _is_sysctl_name(name))
        except OSError as error:
            _raise(path, error)

    def release(self) -> str:
        """The kernel's release, as ``6.18.44``; nothing where it is not to be had."""
        if not self.is_expected:
            return ""
        try:
            return self.sysctl("kernel/osrelease").strip()
        except SourceError:
            return ""

    def sysctl(self, path: str) -> str:
        """The content of one sysctl below sys/, such as ``net/ipv4/tcp_rmem``."""
        return _sysctl_text(f"{self.root}/sys/{path}")


def places(root: str, process: str) -> Iterator[str]:
    """Where below the procfs at *root* the namespaces of a process are told: at itself, and at each of its threads.

    Once the first thread has ended, the process itself has none. Source: fs/proc/proc_net.c, get_proc_task_net.
    """
    yield process
    try:
        threads = sorted(os.listdir(f"{root}/{process}/task"), key=int)
    except (OSError, ValueError):  # it has ended
        return
    yield from (f"{process}/task/{thread}" for thread in threads)


def device_name(index: int) -> str:
    """The name of a network interface of this process's namespace; ``if7`` of one that is gone."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"if{index}"


class NetlinkReader:
    """Dumps by ``NETLINK_SOCK_DIAG``: exact, unprivileged, this process's network namespace."""

    name = "netlink"

    def __init__(self, receive_seconds: float = _RECEIVE_SECONDS, dump_seconds: float = _DUMP_SECONDS) -> None:
        self._receive_seconds = receive_seconds
        self._dump_seconds = dump_seconds
        self._legacy = True  # whether TCPDIAG_GETSOCK is offered; once refused, two dumps by family are asked for

    def collect(self, states: int, begin: Callable[[], C], port: int = 0, extensions: int = 0) -> C:
        """Hand a dump of the sockets whose state is in the mask to the collector that *begin* makes, reply by reply.

        With a local *port* the kernel lists that port's sockets only; *extensions* are bits of attributes to ask for
        (``inetdiag.EXTENSION_INFO``). An interrupted dump is taken again, into a new collector.
        """
        for attempt in range(1, _INTERRUPTED_TRIES + 1):
            try:
                return self._collect_both(states, begin, port, extensions)
            except inetdiag.DumpInterrupted:
                if attempt == _INTERRUPTED_TRIES:
                    raise SourceUnreadable(self.name, f"the dump was interrupted {attempt} times in a row") from None
        raise AssertionError("unreachable")

    def look_up(self, messages: Sequence[bytes], states: int, collector: C, extensions: int) -> C:
        """Hand the sockets of *messages* of a dump to *collector*, as they are now.

        Those that are gone, or in none of *states* any more, are left out.
        """
        for start in range(0, len(messages), _LOOKED_UP_AT_ONCE):
            requests = [inetdiag.request_one(it, extensions) for it in messages[start : start + _LOOKED_UP_AT_ONCE]]
            answers: list[bytes] = []

            def take(reply: bytes, number: int = len(requests), answers: list[bytes] = answers) -> bool:
                answers.append(inetdiag.found(reply, states))
                return len(answers) == number

            self._ask(b"".join(requests), take)
            collector.add(b"".join(answers))
        collector.add(inetdiag.DONE)
        return collector

    def full(self, port: int = 0) -> tuple[StateCounts, tuple[str, ...]]:
        """Count every socket, or every one of a local port."""
        return inetdiag.state_counts(self.collect(inetdiag.ALL_STATES, inetdiag.TallyDump, port).sockets)

    def _collect_both(self, states: int, begin: Callable[[], C], port: int, extensions: int) -> C:
        if self._legacy:
            collector = begin()
            try:
                self._ask(inetdiag.request_both(states, 1, port, extensions), collector.add)
            except SourceMissing:
                self._legacy = False
            else:
                return collector
        collector = begin()
        for family in (inetdiag.AF_INET, inetdiag.AF_INET6):
            try:
                self._ask(inetdiag.request_family(family, states, 1, port, extensions), collector.add)
            except SourceMissing:
                self._legacy = True
                raise
        return collector

    def _ask(self, request: bytes, take: Callable[[bytes], bool]) -> None:
        """Hand each reply to *take* until it returns True.

        Each request has a socket of its own: what one that was given up left behind is never read as another's.
        """
        if not hasattr(socket, "AF_NETLINK"):
            raise SourceMissing(self.name, "this system has no netlink")
        deadline = time.monotonic() + self._dump_seconds
        netlink = None
        try:
            netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, inetdiag.NETLINK_SOCK_DIAG)
            netlink.settimeout(self._receive_seconds)
            netlink.sendto(request, (0, 0))
            while time.monotonic() < deadline:
                reply, _, flags, (port, _) = netlink.recvmsg(_REPLY)
                if port != 0:
                    continue  # not from the kernel
                if flags & socket.MSG_TRUNC:
                    raise SourceUnreadable(self.name, f"a reply larger than {_REPLY} bytes was cut")
                if take(reply):
                    return
            raise SourceTimeout(self.name, f"the dump did not end within {self._dump_seconds:g} s")
        except TimeoutError:
            raise SourceTimeout(self.name, f"no reply within {self._receive_seconds:g} s") from None
        except OSError as error:
            _raise(self.name, error)
        except MemoryError:
            raise SourceUnreadable(self.name, "there is no memory left for the dump") from None
        finally:
            if netlink is not None:
                netlink.close()


class CloseEvents:
    """Membership in the groups to which the kernel multicasts every TCP socket that it destroys in this namespace.

    Needs no privilege. The kernel builds messages only while somebody is a member, so it costs nothing once closed.
    """

    name = "closes"

    def __init__(self) -> None:
        """Join; raises ``SourceMissing`` where the kernel has no such groups."""
        if not hasattr(socket, "AF_NETLINK"):
            raise SourceMissing(self.name, "this system has no netlink")
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, inetdiag.NETLINK_SOCK_DIAG)
        except OSError as error:
            _raise(self.name, error)
        try:
            self._enlarge()
            self._socket.bind((0, 0))  # the kernel multicasts to no socket without an address
            for group in inetdiag.CLOSE_GROUPS:
                self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
        except OSError as error:
            self.close()
            _raise(self.name, error)

    def _enlarge(self) -> None:
        """Ask for a large receive buffer: beyond rmem_max with CAP_NET_ADMIN, else as much as rmem_max allows."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _EVENTS_BUFFER)
        except OSError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _EVENTS_BUFFER)

    def receive(self, seconds: float) -> list[bytes]:
        """Every message that is there, waiting at most *seconds* for the first. At most ``_EVENTS_AT_ONCE``.

        Events that the buffer had no room for are skipped; ``lost`` counts them.
        """
        messages: list[bytes] = []
        try:
            self._socket.settimeout(seconds)
            while len(messages) < _EVENTS_AT_ONCE:
                try:
                    message, (port, _) = self._socket.recvfrom(_EVENT)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    continue
                if not messages:
                    self._socket.settimeout(0)
                if port == 0:  # from the kernel, and not from another process
                    messages.append(message)
        except (BlockingIOError, TimeoutError):
            pass
        except OSError as error:
            _raise(self.name, error)
        return messages

    @property
    def lost(self) -> int:
        """Events that this membership has lost: the drops of its socket (SO_MEMINFO, SK_MEMINFO_DROPS)."""
        try:
            memory = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 64)
        except OSError as error:
            _raise(self.name, error)
        return int.from_bytes(memory[_DROPS : _DROPS + 4], sys.byteorder)

    def close(self) -> None:
        """Leave the groups."""
        self._socket.close()


class ProcfsReader:
    """Counts the lines of /proc/net/tcp and tcp6: where netlink is missing or refused."""

    name = "procfs"

    def __init__(self, procfs: Procfs) -> None:
        self._procfs = procfs

    def full(self, port: int = 0) -> tuple[StateCounts, tuple[str, ...]]:
        """Count every socket, or every one of a local port. A missing tcp6 is no IPv6, a missing tcp an error."""
        counts, unknown = self._file("net/tcp", port)
        try:
            counts6, unknown6 = self._file("net/tcp6", port)
        except SourceMissing:
            return counts, unknown
        return tuple(map(sum, zip(counts, counts6, strict=True))), tuple(sorted({*unknown, *unknown6}))

    def _file(self, path: str, port: int) -> tuple[StateCounts, tuple[str, ...]]:
        source = f"{self._procfs.root}/{path}"
        return procnet.state_counts(procnet.parse_tcp(self._procfs.lines(path), source, port))


class PsutilReader:
    """Counts what psutil lists: where there is no Linux."""

    name = "psutil"
    unlisted = tuple(system.UNLISTED)
    """The states that it cannot count on this system: their counts are 0 and mean nothing."""

    def full(self, port: int = 0) -> tuple[StateCounts, tuple[str, ...]]:
        """Count every socket that psutil shows to this user, or every one of a local port."""
        try:
            import psutil  # noqa: PLC0415 - the plugin must not pay for it where netlink works
        except ModuleNotFoundError:  # the plugin as one file, which no package has to be installed for
            raise SourceMissing("psutil", "this Python does not have the package") from None
        counts = [0] * len(TcpState)
        unknown = set()
        try:
            connections = psutil.net_connections(kind="tcp")
        except psutil.AccessDenied:
            raise SourceUnreadable(self.name, _DENIED) from None
        except (psutil.Error, OSError, KeyError, RuntimeError) as error:  # KeyError: a state psutil has no name for
            raise SourceUnreadable(self.name, f"{type(error).__name__}: {error}") from None
        for connection in _each_once(connections) if system.MACOS else connections:
            if port and (not connection.laddr or connection.laddr.port != port):
                continue
            state = _PSUTIL_STATES.get(connection.status, TcpState.UNKNOWN)
            if state in self.unlisted:
                continue  # a part of them, which would pass for all
            counts[state] += 1
            if state is TcpState.UNKNOWN:
                unknown.add(str(connection.status))
        return tuple(counts), tuple(sorted(unknown))


def _each_once(connections: Iterable[sconn]) -> Iterator[sconn]:
    """Each socket once where psutil lists it for every process that inherited it; those without a port are no pairs."""
    seen = set()
    for connection in connections:
        key = (connection.family, connection.laddr, connection.raddr)
        if connection.raddr or (connection.laddr and connection.laddr.port):
            if key in seen:
                continue
            seen.add(key)
        yield connection


def _is_sysctl_name(name: str) -> bool:
    """Whether it is as the kernel names them, ``tcp_`` and more: letters, digits, ``_``, ``.`` and ``-``."""
    word = name.replace(".", "_").replace("-", "_")
    return len(word) > len("tcp_") and name.startswith("tcp_") and word.isascii() and word.isidentifier()


def _text(path: str) -> str:
    """The whole of one small file, by bare system calls: a file object costs more than what procfs does."""
    try:
        descriptor = os.open(path, system.OPEN_FLAGS)
        try:
            content = os.read(descriptor, _CHUNK)
            while more := os.read(descriptor, _CHUNK):
                content += more
        finally:
            os.close(descriptor)
    except OSError as error:
        _raise(path, error)
    return content.decode("utf-8", "backslashreplace")


def _sysctl_text(path: str) -> str:
    """The whole of a sysctl, by one read: a long list of ports is cut by the buffer, and a second read has nothing."""
    try:
        descriptor = os.open(path, system.OPEN_FLAGS)
        try:
            size = _CHUNK
            while len(content := os.read(descriptor, size)) == size < _LONGEST_SYSCTL:
                os.lseek(descriptor, 0, os.SEEK_SET)
                size *= 4
        finally:
            os.close(descriptor)
    except OSError as error:
        _raise(path, error)
    if len(content) == size:
        raise SourceUnreadable(path, f"longer than {size} bytes")
    return content.decode("utf-8", "backslashreplace")


_DENIED = f"{system.NAME} shows the sockets of other users' processes to root only: run it as root"
_PSUTIL_STATES = {state.name: state for state in TcpState}


def _raise(source: str, error: OSError) -> NoReturn:
    kind: type[SourceError] = SourceUnreadable
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT}:
        kind = SourceMissing
    raise kind(source, f"{error.strerror or error} ({errno.errorcode.get(error.errno or 0, 'no errno')})") from None
