"""What an action answers when it does nothing. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from headgate.settings.units import UnitError

_Value = TypeVar("_Value")


class ActionRefused(Exception):
    """Nothing was changed; the sentence says why, or what to do. ``invalid``: what was asked for
    is not possible at any time, so it was a mistake of the user who asked. ``missing``: nothing has
    the name that was given."""

    def __init__(self, sentence: str, *, invalid: bool = False, missing: bool = False) -> None:
        super().__init__(sentence)
        self.invalid = invalid
        self.missing = missing


def understood(read: Callable[[str], _Value], text: str) -> _Value:
    """What a person wrote, such as a duration, read; ActionRefused if it cannot be."""
    try:
        return read(text)
    except UnitError as error:
        raise ActionRefused(str(error), invalid=True) from None
