"""``make docs``: regenerate the generated parts of the docs; names of makers limit it to those.

``picture``, the picture of the page, is made only when it is named.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from dev.docs import console, figures, manual, picture, protocol_page, settings_page
from dev.docs.blocks import Block, blocks, filled
from headgate.monitor import alert_help

ROOT = Path(__file__).resolve().parents[2]

MAKERS: Mapping[str, Callable[[str], str]] = {
    "settings": settings_page.section,
    "variables": lambda _: settings_page.variables(),
    "fields": lambda _: protocol_page.fields(),
    "refusals": lambda _: protocol_page.refusals(),
    "rate": lambda _: figures.rate(),
    "alerts": lambda _: alert_help.page(),
    "console": console.session,
}
"""By the first word of a block; each gets the rest of the line."""

SLOW = frozenset({"console"})
"""These run programs for a while, and their numbers are other ones each time."""


def pages() -> list[Path]:
    """Every page that may hold a block."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def manuals() -> dict[Path, str]:
    """The manual pages as they would be made now."""
    made = {}
    for name in manual.NAMES:
        path = ROOT / manual.FOLDER / f"{name}.1"
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        made[path] = manual.page(name, before, f"{datetime.now(UTC):%Y-%m-%d}")
    return made


def main(words: list[str]) -> int:
    """Make the blocks of these makers and the manual pages, or all; says what changed."""
    if unknown := set(words) - {*MAKERS, "manual", "picture"}:
        known = ", ".join([*MAKERS, "manual", "picture"])
        print(f"headgate: unknown: {', '.join(sorted(unknown))}; use {known}")
        return 2

    def make(block: Block) -> str:
        if words and block.maker not in words:
            return block.body
        made = MAKERS[block.maker](block.argument)
        is_news = block.maker not in SLOW or console.shape(made) != console.shape(
            block.body.rstrip()
        )
        return made if is_news else block.body

    made = {}
    for path in pages():
        text = path.read_text(encoding="utf-8")
        if list(blocks(text)):
            made[path] = filled(text, make)
    if not words or "manual" in words:
        made |= manuals()
    for path, after in made.items():
        if not path.exists() or path.read_text(encoding="utf-8") != after:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(after, encoding="utf-8")
            print(f"updated: {path.relative_to(ROOT)}")
    if "picture" in words:  # another one each time, so only when it is wanted
        print(picture.make())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
