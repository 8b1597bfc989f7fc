"""What an action answers when it does nothing. Pure."""

from __future__ import annotations


class ActionRefused(Exception):
    """Nothing was changed; the sentence says why, or what to do. ``invalid``: what was asked for
    is not possible at any time, so it was a mistake of the user who asked."""

    def __init__(self, sentence: str, *, invalid: bool = False) -> None:
        super().__init__(sentence)
        self.invalid = invalid
