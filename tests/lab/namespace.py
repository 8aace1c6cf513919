"""Entering a network namespace: a fresh one for the lab, or that of a running lab for a program that joins it.

Root unshares the network alone; anybody else takes a user namespace with it. This module imports nothing of its
package, because ``LabProcess`` also runs it as a script: it joins the namespace of a process, then becomes the program.
"""

from __future__ import annotations

import ctypes
import fcntl
import grp
import os
import pwd
import signal
import socket
import struct
import sys
import warnings  # noqa: F401  # execvp imports it, when the new user may no longer read this Python

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1
_NO_USER = "-"

_libc = ctypes.CDLL(None, use_errno=True)


class LabError(RuntimeError):
    """The lab could not do what it was asked for."""


class LabUnavailable(LabError):
    """This machine lacks, or forbids to this user, something that the lab is made of: skip, do not fail."""


def enter() -> None:
    """Move this process into a fresh network namespace with ``lo`` up.

    It must have one thread. Without the privilege for that it enters a user namespace too, as its root.
    """
    _unshare_network()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


def sysctl(name: str, value: str | int | None = None) -> str:
    """The value of a sysctl of this namespace, after it was set if a value is given."""
    path = os.path.join("/proc/sys", *name.split("."))
    try:
        if value is not None:
            with open(path, "w", encoding="ascii") as file:
                file.write(str(value))
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError as error:
        raise LabError(f"sysctl {name}: {error}") from error


def join_command(pid: int, command: list[str], user: str | int | None = None) -> list[str]:
    """The command line that runs ``command`` inside the namespaces of process ``pid``, as ``user``."""
    who = _NO_USER if user is None else str(user)
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), str(pid), who, *command]


def _unshare_network() -> None:
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and _unshare(_CLONE_NEWNET) is None:
        return
    if error := _unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        raise LabUnavailable(f"no network namespace for user {uid}: {error.strerror}")
    try:
        _write("/proc/self/setgroups", "deny")  # the kernel's condition for an ordinary user's gid_map
        _write("/proc/self/uid_map", f"0 {uid} 1")
        _write("/proc/self/gid_map", f"0 {gid} 1")
    except OSError as error:
        raise LabUnavailable(f"no user namespace for user {uid}: {error}") from error


def _unshare(flags: int) -> OSError | None:
    return None if _libc.unshare(flags) == 0 else _last_error()


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _join(pid: int) -> None:
    # Both are opened first: inside the user namespace they could no longer be reached by path.
    user, net = (os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("user", "net"))
    foreign = os.fstat(user).st_ino != os.stat("/proc/self/ns/user").st_ino
    if foreign and _libc.setns(user, _CLONE_NEWUSER) != 0:
        raise _last_error()
    if _libc.setns(net, _CLONE_NEWNET) != 0:
        raise _last_error()
    if foreign:
        os.setgid(0)
        os.setuid(0)


def _become(user: str) -> None:
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        raise OSError(f"no such user: {user}") from None
    os.setgroups([group.gr_gid for group in grp.getgrall() if entry.pw_name in group.gr_mem])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def _main(pid: str, user: str, *command: str) -> None:
    try:
        _join(int(pid))
        if user != _NO_USER:
            _become(user)
        # After the change of user, which would clear it: what a test started dies with the test.
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"cannot run {command[0]} in the lab: {error}")


if __name__ == "__main__":
    _main(*sys.argv[1:])
