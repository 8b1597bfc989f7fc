""" "Did you mean": what a word that is not known may have been. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_MOST = 3
_ALIKE = 0.6
"""Least share of letters in common (``SequenceMatcher.ratio``) of a name worth asking about."""
_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question to add to an error, with a blank in front; empty if nothing is alike. A name that
    differs in leading zeros only (cam-7, cam-0007) is meant; else those with the fewest typing
    errors are asked about, the fewest first."""
    lower = word.lower()
    names = {name.lower(): name for name in known}
    bare = _ZEROS.sub("", lower)
    near = [name for name in names if _ZEROS.sub("", name) == bare]
    if not near:  # more than are asked about, because difflib counts letters and not typing errors
        near = difflib.get_close_matches(lower, names, n=10 * _MOST, cutoff=_ALIKE)
    meant = sorted(near, key=lambda name: (_typing_errors(lower, name), name))[:_MOST]
    return f" Did you mean {' or '.join(names[one] for one in meant)}?" if meant else ""


def _typing_errors(one: str, other: str) -> int:
    """Letters left out, added, replaced or swapped with the next (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        older, before, row = before, row, [i]
        for j, there in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != there))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == there:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]
