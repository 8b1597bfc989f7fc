"""Blocks of a page that are made: they stand between two comments, and all else stays as it is.

<!-- made: settings uplink -->
...
<!-- made to here -->
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_BLOCK = re.compile(
    r"(?P<head><!-- made: (?P<what>[a-z][^\n]*?) -->\n)(?P<body>.*?)"
    r"(?P<tail><!-- made to here -->)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One generated block of a page: ``what`` names its maker and argument, ``body`` is its
    text."""

    what: str
    body: str

    @property
    def maker(self) -> str:
        return self.what.partition(" ")[0]

    @property
    def argument(self) -> str:
        return self.what.partition(" ")[2]


def blocks(page: str) -> Iterator[Block]:
    """Every block of a page."""
    for found in _BLOCK.finditer(page):
        yield Block(found["what"], found["body"])


def filled(page: str, make: Callable[[Block], str]) -> str:
    """The page with each block regenerated; ``make`` gives the lines, or the body as it was."""

    def one(found: re.Match[str]) -> str:
        body = make(Block(found["what"], found["body"]))
        return f"{found['head']}{body.rstrip()}\n{found['tail']}"

    return _BLOCK.sub(one, page)
