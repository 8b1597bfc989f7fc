"""What each alert means and what to do about it: the text that docs/OPERATING.md is made from.

It is part of the program, because a site may have no internet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

_SECTION = re.compile(r"^### ([a-z0-9-]+)\n", re.MULTILINE)


def page() -> str:
    """All sections as Markdown, the most serious alert first."""
    return resources.files(__package__).joinpath("alert_help.md").read_text("utf-8").rstrip()


@cache
def sections() -> Mapping[str, str]:
    """The Markdown below each code's title."""
    parts = _SECTION.split(page())
    return {code: text.strip() for code, text in zip(parts[1::2], parts[2::2], strict=True)}
