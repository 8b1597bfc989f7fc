""" "Did you mean": what a word that is not known may have been. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question to add to an error, with a blank in front; empty if nothing is alike."""
    names = {name.lower(): name for name in known}
    alike = difflib.get_close_matches(word.lower(), names, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(names[one] for one in alike)}?" if alike else ""
