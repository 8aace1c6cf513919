"""What a process used: CPU time, wall time and memory; of a program run to its end, or of one that stays.

Everything that is measured here comes out as a ``Cost``; ``rounds`` decides how often, ``results`` keeps it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

_CPUCLOCK_SCHED = 2  # include/linux/posix-timers.h: of a whole process, threads that have ended included
_FIRST_LOOK, _LAST_LOOK = 0.0002, 0.02  # seconds between two looks at the memory of a program that runs
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Cost(NamedTuple):
    """What one sample cost; None is not measured."""

    cpu: float  # seconds, user and system
    wall: float | None = None  # seconds
    peak: int | None = None  # bytes resident at most
    counted: int | None = None  # sockets that it says there are


class Failed(RuntimeError):
    """A contender could not be measured; the message says why, in one line."""


def process_cpu(pid: int) -> float:
    """CPU seconds that process *pid* has used, all its threads."""
    try:
        return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)
    except OSError as error:
        raise Failed(f"process {pid} is gone: {error.strerror}") from None


def main_thread_cpu(pid: int) -> float:
    """CPU seconds that the first thread of process *pid* has used: of a server the loop that answers requests."""
    try:
        with open(f"/proc/{pid}/task/{pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0]) / 1e9
    except OSError as error:
        raise Failed(f"the CPU time of the main thread of process {pid} is unknown: {error.strerror}") from None


class Memory(NamedTuple):
    """Bytes resident now, and at most so far."""

    resident: int
    peak: int


def memory(pid: int) -> Memory | None:
    """The memory of process *pid*; None when it has none any more."""
    with contextlib.suppress(OSError, KeyError), open(f"/proc/{pid}/status", encoding="ascii") as file:
        fields = {key: value for key, _, value in (line.partition(":") for line in file)}
        return Memory(*(int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM")))
    return None


def in_thread(work: Callable[[], int | None]) -> Cost:
    """Call *work*, which may say how many sockets it counted, and measure this thread."""
    started, cpu_started = time.monotonic(), time.thread_time()
    counted = work()
    cpu, wall = time.thread_time() - cpu_started, time.monotonic() - started
    return Cost(cpu, wall, counted=counted)


class Ended(NamedTuple):
    """A program, or several in a pipe, run to the end."""

    cost: Cost
    output: bytes


def run(*pipe: Sequence[str], codes: Collection[int] = (0,), watch_memory: bool = False) -> Ended:
    """Run programs, each one's output the next one's input, and measure them together.

    The kernel's own peak (ru_maxrss) begins with that of the process that started the program, so memory is watched
    from outside: it is the sum of the programs' peaks. *codes* are the exit codes of success.
    """
    ends, pids = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)], dict[int, Sequence[str]]()
    started = time.monotonic()
    cpu, peak, output = 0.0, 0, b""
    try:
        for command in pipe:
            reading, writing = os.pipe()
            try:
                pids[_spawn(command, ends[-1], writing)] = command
            finally:
                os.close(writing)
                ends.append(reading)
        for end in ends[1:-1]:  # a program that ends early must break the pipe to the one before it
            os.close(end)
        del ends[1:-1]
        if watch_memory:
            peak = _watch(list(pids))
        while chunk := os.read(ends[-1], 65536):
            output += chunk
        for pid in list(pids):
            _, status, usage = os.wait4(pid, 0)
            command = pids.pop(pid)
            cpu += usage.ru_utime + usage.ru_stime
            if (code := os.waitstatus_to_exitcode(status)) not in codes:
                raise Failed(f"{os.path.basename(command[0])} ended with {code}")
        wall = time.monotonic() - started
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for end in ends:
            os.close(end)
    return Ended(Cost(cpu, wall, peak or None), output)


def _spawn(command: Sequence[str], reading: int, writing: int) -> int:
    files = [(os.POSIX_SPAWN_DUP2, reading, 0), (os.POSIX_SPAWN_DUP2, writing, 1)]
    return os.posix_spawn(command[0], list(command), environment(), file_actions=files)


def environment() -> dict[str, str]:
    """The environment of everything that is run: no words or programs of the user, and bytecode as installed."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "LC_ALL": "C", "PATH": SYSTEM_PATH}


def _watch(pids: list[int]) -> int:
    """Wait until all have ended; the sum of their peaks as last seen. Their output must fit into a pipe until then."""
    looks, peaks, running = select.poll(), dict.fromkeys(pids, 0), {}
    try:
        for pid in pids:
            running[os.pidfd_open(pid)] = pid
        for descriptor in running:
            looks.register(descriptor, select.POLLIN)
        pause = _FIRST_LOOK
        left = len(running)
        while left:
            for pid in pids:
                if (used := memory(pid)) is not None:
                    peaks[pid] = used.peak
            for descriptor, _ in looks.poll(pause * 1000):
                looks.unregister(descriptor)
                left -= 1
            pause = min(_LAST_LOOK, pause * 1.5)
    finally:
        for descriptor in running:
            os.close(descriptor)
    return sum(peaks.values())


def program(name: str, package: str) -> str:
    """The path of a program, or Failed with the Debian package that brings it."""
    beside = os.path.join(os.path.dirname(sys.executable), name)
    path = beside if os.access(beside, os.X_OK) else shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        raise Failed(f"{name} is not installed: apt-get install {package}")
    return path


@contextlib.contextmanager
def stopped_between(pid: int) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Keep a program that works by itself out of the others' turns: it works within the block of each turn."""

    @contextlib.contextmanager
    def turn() -> Iterator[None]:
        os.kill(pid, signal.SIGCONT)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGSTOP)

    os.kill(pid, signal.SIGSTOP)
    try:
        yield turn
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def apart(pid: int) -> Iterator[None]:
    """Keep process *pid* on one processor and this one, with what it starts, on another, where there are two."""
    own = os.sched_getaffinity(0)
    if len(own) > 1:
        _keep_on(pid, {min(own)})
        os.sched_setaffinity(0, {max(own)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)
        _keep_on(pid, own)


def _keep_on(pid: int, processors: Collection[int]) -> None:
    with contextlib.suppress(FileNotFoundError):  # it has ended
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread), processors)
