"""Logging: structlog, one JSON object a line, UTC, one event name a fact; for people on a terminal.

Client strings cannot forge a line: JSON escapes control characters, and the renderer for terminals
prints values with repr.
"""

from __future__ import annotations

import contextlib
import json as jsons
import logging
import os
import sys
from typing import TextIO, cast

import structlog

from headgate.host import terminal
from headgate.settings.logins import without_login


def _escape(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Make control characters visible in text meant for a terminal (they could move its cursor)."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = value.encode("unicode_escape").decode("ascii")
    return event


def _hide_logins(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = without_login(value)
    return event


class _NeverFails:
    """Loses lines while they cannot be written: a full log disk must not refuse an image."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._out.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._out.flush()


_encoder = jsons.JSONEncoder(ensure_ascii=True, default=repr)


def _as_json(event: structlog.typing.EventDict, **_: object) -> str:
    return _encoder.encode(event)  # dumps() would make an encoder for each line


def configure(
    stream: TextIO | None = None, *, json: bool | None = None, level: int = logging.INFO
) -> None:
    """Write events to ``stream`` (stderr); as JSON unless that is a terminal, or as told."""
    out = stream if stream is not None else sys.stderr
    as_json = json if json is not None else not out.isatty()
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    if as_json:
        processors += [
            structlog.processors.format_exc_info,
            _hide_logins,  # after the traceback, which may name a URL too
            structlog.processors.EventRenamer("event"),
            structlog.processors.JSONRenderer(serializer=_as_json),
        ]
    else:
        processors += [
            _hide_logins,
            _escape,
            structlog.dev.ConsoleRenderer(
                colors=terminal.shows_colour(out, os.environ), timestamp_key="at"
            ),
        ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # This one makes a line one write, where print() makes two.
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _NeverFails(out))),
        cache_logger_on_first_use=False,
    )


def get() -> structlog.typing.FilteringBoundLogger:
    """The logger; events are words joined by dots: ``image.accepted``."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger
