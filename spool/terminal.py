"""What a terminal may be sent: colour, and lines that replace themselves. Pure.

Colour is left out where NO_COLOR is set to anything (no-color.org), on a terminal that calls itself
dumb, and wherever the text does not go to a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO


def may_colour(environment: Mapping[str, str]) -> bool:
    """Whether whoever runs this wants colour on a terminal."""
    return not environment.get("NO_COLOR") and not is_dumb(environment)


def is_dumb(environment: Mapping[str, str]) -> bool:
    """Whether the terminal cannot move its cursor."""
    return environment.get("TERM") == "dumb"


def shows_colour(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether what is written to this stream may be in colour."""
    return stream.isatty() and may_colour(environment)
