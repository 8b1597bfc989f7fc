"""The tables of docs/SETTINGS.md, one a section, out of the one that the program reads by."""

from __future__ import annotations

import json
from typing import Any

from headgate.settings.settings import SETTINGS, Setting

HEAD = ("setting", "default", "takes", "unit", "what it is")


def section(name: str) -> str:
    """The settings of one section: a table, and a piece of headgate.toml that sets all of them."""
    settings = [setting for setting in SETTINGS if setting.section == name]
    if not settings:
        raise ValueError(f"there is no section {name}")
    lines = [_row(HEAD), _row(["---"] * len(HEAD))]
    lines += [_row(_cells(setting)) for setting in settings]
    lines += ["", "```toml", f"[{name}]"]
    lines += [f"{setting.key} = {toml(shown(setting))}" for setting in settings]
    return "\n".join([*lines, "```"])


def variables() -> str:
    """Every variable with the setting that it stands for."""
    lines = [_row(("variable", "setting")), _row(["---"] * 2)]
    for setting in SETTINGS:
        names = [setting.variable, *([f"{setting.variable}_FILE"] if setting.secret else [])]
        lines.append(_row((", ".join(f"`{name}`" for name in names), f"`{setting.name}`")))
    return "\n".join(lines)


def shown(setting: Setting) -> Any:
    """The example's value as headgate.toml writes it."""
    return setting.default if setting.example is None else setting.example


def toml(value: Any) -> str:
    """As headgate.toml has it: text, numbers, booleans and lists of text are written as JSON."""
    return json.dumps(value, ensure_ascii=False)


def _cells(setting: Setting) -> tuple[str, ...]:
    takes = f"{setting.takes} (a secret)" if setting.secret else setting.takes
    return (
        f"`{setting.name}`",
        f"`{toml(setting.default)}`",
        takes,
        setting.unit,
        setting.help,
    )


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |".replace("  |", " |")
