"""Logging: structlog, one JSON object a line, UTC, one event name a fact; for people on a terminal.

Client strings cannot forge a line: JSON escapes control characters, and the renderer for terminals
prints values with repr.

Importing structlog takes a third of the time in which a short command starts, so such a command
configures its log ``late``: the import comes with the first line that is to be written.
"""

from __future__ import annotations

import json as jsons
import logging
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, cast

from headgate.host import progress, terminal
from headgate.settings.logins import without_login

if TYPE_CHECKING:
    import structlog


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


class _AboveProgress(terminal.NeverFails):
    """A line of the log goes above the bar of a command, if there is one."""

    def write(self, text: str) -> None:
        with progress.above():
            super().write(text)


_encoder = jsons.JSONEncoder(ensure_ascii=True, default=repr)


def _as_json(event: structlog.typing.EventDict, **_: object) -> str:
    return _encoder.encode(event)  # dumps() would make an encoder for each line


@dataclass(frozen=True)
class _Wish:
    """How lines are to be written."""

    out: TextIO
    json: bool
    level: int


_late: _Wish | None = None
"""What structlog is not configured for yet, because no line was written so far."""


def configure(
    stream: TextIO | None = None,
    *,
    json: bool | None = None,
    level: int = logging.INFO,
    late: bool = False,
) -> None:
    """Write events to ``stream`` (stderr); as JSON unless that is a terminal, or as told.

    ``late`` is for commands that end soon. A server imports at once what it needs: its first
    warning may be that there are no file descriptors left.
    """
    global _late
    out = stream if stream is not None else sys.stderr
    wish = _Wish(out, json if json is not None else not out.isatty(), level)
    if late and "structlog" not in sys.modules:
        _late = wish
    else:
        _set_up(wish)


def get() -> structlog.typing.FilteringBoundLogger:
    """The logger; events are words joined by dots: ``image.accepted``."""
    return cast("structlog.typing.FilteringBoundLogger", _get() if _late is None else _Late())


class _Late:
    """Stands for the logger of structlog until a line is written."""

    def __getattr__(self, method: str) -> Any:
        if _late is not None:
            level = logging.getLevelNamesMapping().get(method.upper())
            if level is not None and level < _late.level:
                return _not_wanted
            _set_up(_late)
        return getattr(_get(), method)


def _not_wanted(*_: object, **__: object) -> None:
    pass


def _get() -> object:
    import structlog

    return structlog.get_logger()


def _set_up(wish: _Wish) -> None:
    global _late
    import structlog

    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    if wish.json:
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
                colors=terminal.shows_colour(wish.out, os.environ), timestamp_key="at"
            ),
        ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(wish.level),
        # This one makes a line one write, where print() makes two.
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _AboveProgress(wish.out))),
        cache_logger_on_first_use=False,
    )
    _late = None
