"""What a terminal may be sent: text that does not act on it, colour, and lines that replace
themselves.

Colour is left out where NO_COLOR is set to anything (no-color.org), on a terminal that calls itself
dumb, and wherever the text does not go to a terminal.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import TextIO

_KEPT = frozenset("\n\t")


def escaped(text: str) -> str:
    """Text with everything visible that a terminal would obey or hide: control characters (C1 as
    well), marks that turn the direction of writing, bytes that are no text. Line breaks and tabs
    stay. The escapes are JSON's, so that a JSON document stays one.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in _KEPT else json.dumps(one)[1:-1] for one in text
    )


def may_colour(environment: Mapping[str, str]) -> bool:
    """Whether the user wants colour on a terminal."""
    return not environment.get("NO_COLOR") and not is_dumb(environment)


def is_dumb(environment: Mapping[str, str]) -> bool:
    """Whether the terminal cannot move its cursor."""
    return environment.get("TERM") == "dumb"


def shows_colour(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether what is written to this stream may be in colour."""
    return stream.isatty() and may_colour(environment)


class NeverFails:
    """A stream that loses text while it cannot be written: the terminal has gone, the reader of a
    pipe ended, the disk of a log is full. No image is refused for that, and no run ends."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._out.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._out.flush()

    def fileno(self) -> int:
        return self._out.fileno()

    @property
    def encoding(self) -> str:
        return self._out.encoding
