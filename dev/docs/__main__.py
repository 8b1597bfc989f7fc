"""``make docs``: make anew what is made in the docs. Names of makers do only those."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from dev.docs import settings_page
from dev.docs.blocks import Block, blocks, filled

ROOT = Path(__file__).resolve().parents[2]

MAKERS: Mapping[str, Callable[[str], str]] = {
    "settings": settings_page.section,
    "variables": lambda _: settings_page.variables(),
}
"""By the first word of a block; each gets what stands after it."""

SLOW: frozenset[str] = frozenset()
"""These run programs for a while, and their numbers are other ones each time."""


def pages() -> list[Path]:
    """Every page that may hold a block."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def main(words: list[str]) -> int:
    """Make the blocks of these makers, or all; says which pages changed."""
    if unknown := set(words) - set(MAKERS):
        print(f"headgate: nobody makes {', '.join(sorted(unknown))}; {', '.join(MAKERS)} are made")
        return 2

    def make(block: Block) -> str:
        if words and block.maker not in words:
            return block.body
        return MAKERS[block.maker](block.argument)

    for path in pages():
        before = path.read_text(encoding="utf-8")
        if not list(blocks(before)):
            continue
        after = filled(before, make)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"made anew: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
