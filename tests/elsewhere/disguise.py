"""Runs a command of ours on a Linux Python that looks like one of Windows or macOS, as far as we and psutil can tell.

``python -m tests.elsewhere.disguise SYSTEM SOCKETS COMMAND ...``: what the standard library decides by the system is
decided before, then what only Linux has is taken away. psutil's own modules for the other system run above a stand-in
for its C extension, which answers as psutil/arch/windows/socks.c and psutil/arch/osx/proc.c do. SOCKETS is a JSON list
of process, family, local address, remote address and the constant of the state; ``null`` of a user who is not root,
``"hang"`` of a system that never answers.
"""

# mypy: ignore-errors
# It takes functions and types away, which is what mypy is there to prevent.

import _socket
import asyncio
import importlib.metadata
import json
import mmap
import ntpath
import os
import posixpath
import select
import signal
import socket
import sys
import time
import types
from functools import partial
from importlib import import_module
from itertools import count

DECIDED_BEFORE = (
    "asyncio.runners ctypes email.utils encodings.idna getpass glob importlib.resources inspect logging selectors ssl "
    "subprocess tempfile threading traceback urllib.request uuid zoneinfo"
)
COMMANDS = {"check_tcp_states": "exporter.nagios.check", "tcp-exporter": "exporter.cli"}

ONLY_LINUX = {
    "win32": [
        (os, "uname fchmod getuid geteuid getgid fork pipe2 memfd_create pread sysconf O_CLOEXEC O_NONBLOCK setns "
             "mkfifo sched_getaffinity getloadavg statvfs WNOHANG"),
        (signal, "SIGALRM SIGHUP SIGUSR1 SIGUSR2 SIGWINCH SIGTSTP SIGCONT SIGKILL SIGPIPE setitimer alarm sigwait "
                 "pthread_sigmask ITIMER_REAL"),
        (select, "poll epoll"),
        (_socket, "AF_UNIX AF_NETLINK"),
        (socket, "AF_UNIX AF_NETLINK AF_PACKET MSG_DONTWAIT SO_REUSEPORT SO_PEERCRED CMSG_LEN"),
        (time, "clock_gettime tzset CLOCK_BOOTTIME CLOCK_MONOTONIC"),
        (mmap, "PROT_READ MAP_SHARED"),
    ],
    "darwin": [
        (os, "pipe2 memfd_create O_TMPFILE setns sched_getaffinity"),
        (select, "epoll"),
        (_socket, "AF_NETLINK"),
        (socket, "AF_NETLINK AF_PACKET SO_PEERCRED SOCK_NONBLOCK SOCK_CLOEXEC"),
        (time, "CLOCK_BOOTTIME"),
    ],
}  # fmt: skip
MODULES_MISSING = {"win32": ("fcntl", "termios", "resource", "pwd", "grp", "tty", "pty"), "darwin": ()}


class Extension(types.ModuleType):
    """psutil's C extension: every constant is a number of its own, and only the sockets are functions."""

    version = 0
    _numbers = count(1000)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if not name.isupper():
            return lambda *_: 0
        setattr(self, name, next(Extension._numbers))
        return getattr(self, name)


def windows(extension, sockets):
    def net_connections(pid, families, types):
        if sockets == "hang":
            time.sleep(60)
        return [
            (
                -1,
                getattr(socket, family),
                socket.SOCK_STREAM,
                tuple(local),
                tuple(remote),
                getattr(extension, status),
                owner,
            )
            for owner, family, local, remote, status in sockets
            if getattr(socket, family) in families and socket.SOCK_STREAM in types
        ]

    extension.net_connections = net_connections


def macos(extension, sockets):
    def proc_net_connections(pid, families, types):
        if pid == 0:
            return []
        if sockets is None:
            raise PermissionError(1, "Operation not permitted (originated from proc_pidinfo(PROC_PIDLISTFDS))")
        if sockets == "hang":
            time.sleep(60)
        return [
            (
                descriptor,
                getattr(socket, family),
                socket.SOCK_STREAM,
                tuple(local),
                tuple(remote),
                getattr(extension, status),
            )
            for descriptor, (owner, family, local, remote, status) in enumerate(sockets, 3)
            if owner == pid
        ]

    extension.proc_net_connections = proc_net_connections
    extension.proc_kinfo_oneshot = lambda _: (0,) * 11  # psutil/_psosx.py, kinfo_proc_map
    extension.ZombieProcessError = type("ZombieProcessError", (Exception,), {})
    listed = sockets if isinstance(sockets, list) else []
    extension.pids = lambda: sorted({1, *(owner for owner, *_ in listed)})


def install_psutil(system, sockets):
    """Import psutil as it is on that system; it decides by sys.platform and os.name."""
    name = {"win32": "psutil._psutil_windows", "darwin": "psutil._psutil_osx"}[system]
    extension = Extension(name)
    extension.version = int("".join(importlib.metadata.version("psutil").split(".")))
    {"win32": windows, "darwin": macos}[system](extension, sockets)
    sys.modules[name] = extension
    os.name = "nt" if system == "win32" else "posix"
    try:
        psutil = import_module("psutil")
    finally:
        os.name = "posix"
    assert (system == "win32", system == "darwin") == (psutil.WINDOWS, psutil.MACOS)


def refuse(*_, **__):
    raise NotImplementedError


def disguise(system, sockets):
    """Become *system*, a value of sys.platform, which has *sockets*."""
    for name in DECIDED_BEFORE.split():
        import_module(name)
    if system == "win32":  # socket.py makes them of TCP there, and this one needs AF_UNIX
        socket.socketpair = partial(socket.socketpair, socket.AF_UNIX)
    sys.platform = system
    install_psutil(system, sockets)
    for module, names in ONLY_LINUX[system]:
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    if hasattr(os, "process_cpu_count"):  # of Python 3.13: without sched_getaffinity it is cpu_count
        os.process_cpu_count = os.cpu_count
    for name in MODULES_MISSING[system]:
        sys.modules[name] = None
    if system == "win32":
        os.path = sys.modules["os.path"] = types.ModuleType("os.path")  # posixpath stays what it is
        vars(os.path).update(vars(posixpath), normpath=ntpath.normpath)
        asyncio.SelectorEventLoop.add_signal_handler = refuse  # asyncio/events.py: of Unix only

        class Proactor(
            asyncio.SelectorEventLoop
        ):  # the default there, and asyncio/proactor_events.py has none of these
            add_reader = remove_reader = add_writer = remove_writer = refuse

        asyncio.DefaultEventLoopPolicy._loop_factory = Proactor


if __name__ == "__main__":
    disguise(sys.argv[1], json.loads(sys.argv[2]))
    sys.argv = sys.argv[3:]
    import_module(COMMANDS[sys.argv[0]]).main()
