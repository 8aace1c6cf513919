"""The daemon's log: one structlog logger to standard error, in the format that suits its reader.

A terminal gets colours, journald a priority and no time of its own, everything else logfmt or JSON lines.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO, cast

import structlog
from structlog import processors

from exporter import system
from exporter.printable import printable

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

_LEVELS = {"debug": 10, "info": 20, "warn": 30, "error": 40}
_PRIORITIES = {"debug": 7, "info": 6, "warn": 4, "error": 3, "critical": 2}  # of syslog, sd-daemon(3)


def logger(level: str, form: str, stream: TextIO, environ: Mapping[str, str]) -> FilteringBoundLogger:
    """A logger to *stream* of events of at least *level*; *level* and *form* are those of ``LogSettings``."""
    terminal, journal = stream.isatty(), _is_journal(stream, environ)
    if form == "auto":
        form = "console" if terminal else "logfmt"
    chain: list[Processor] = [_level]
    if not journal:
        chain.append(processors.TimeStamper(fmt="iso", utc=True, key="ts"))
    chain += [processors.format_exc_info, _presentable]
    if form == "console":
        # On Windows structlog needs colorama for it.
        colors = terminal and "NO_COLOR" not in environ and not system.WINDOWS
        render: Processor = structlog.dev.ConsoleRenderer(
            colors=colors, timestamp_key="ts", exception_formatter=structlog.dev.plain_traceback
        )
    else:
        chain.append(processors.EventRenamer("msg"))
        render = processors.JSONRenderer() if form == "json" else _LOGFMT
    chain.append(_journalled(render) if journal else render)
    bound: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(cast("TextIO", _Unfailing(stream))),
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
    )
    return bound


class _Unfailing:
    """A stream whose errors are ignored: a closed pipe or a full disk must not end the daemon."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


_LOGFMT = processors.LogfmtRenderer(key_order=["ts", "level", "msg"], drop_missing=True, bool_as_flag=False)


def _level(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Use Prometheus's level names: warn, not warning; an exception is an error."""
    event["level"] = {"warning": "warn", "exception": "error"}.get(method, method)
    return event


def _presentable(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """No text says anything to a terminal, wherever it is from: a name, a path, an exception."""
    return {key: printable(text, keep="\n") if isinstance(text, str) else text for key, text in event.items()}


def _journalled(render: Processor) -> Processor:
    """Write the priority before the line as in sd-daemon(3); journald strips it."""

    def prioritised(wrapped: WrappedLogger, method: str, event: EventDict) -> str:
        return f"<{_PRIORITIES[event['level']]}>{render(wrapped, method, event)!s}"

    return prioritised


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether *stream* is journald's socket: $JOURNAL_STREAM alone is inherited and no proof, systemd.exec(5)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
