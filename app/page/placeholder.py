"""The drawing that is shown where there is no picture; it says why. Pure."""

from __future__ import annotations

from html import escape

WIDTH, HEIGHT = 320, 240
WIDTH_OF_NOT_YET = 321
"""By this width the page's script sees that it has to ask again."""


def placeholder(words: str, width: int = WIDTH) -> bytes:
    """An SVG in a grey that is readable on light and on dark; it holds no style and no script."""
    height = HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{escape(words)}">'
        '<g fill="none" stroke="#7d8a8c" stroke-width="3" stroke-linejoin="round">'
        '<path d="M112 92h22l9-14h34l9 14h22v58h-96z" opacity=".75"/>'
        '<circle cx="160" cy="119" r="17" opacity=".75"/></g>'
        '<text x="160" y="188" fill="#7d8a8c" font-family="system-ui, sans-serif" '
        f'font-size="17" text-anchor="middle">{escape(words)}</text></svg>'
    ).encode()
