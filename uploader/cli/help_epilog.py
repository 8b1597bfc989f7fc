"""How the help of each command ends: examples that can be pasted, and its exit codes. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from headgate.host.exit_codes import MEANING, Exit

_PLAIN = (Exit.OK, Exit.ERROR, Exit.USAGE)


def ending(
    *examples: str,
    exits: tuple[Exit, ...] = _PLAIN,
    meaning: Mapping[Exit, str] | None = None,
) -> str:
    """The end of a command's help. Each example is a line for a shell, perhaps with a # remark;
    ``meaning`` says what a code means where a command means something else by it."""
    wide = max((len(_call(one)) for one in examples if "  # " in one), default=0)
    lines = ["\b", "Examples:"]
    for example in examples:
        remark = example.partition("  # ")[2]
        text = f"{_call(example):<{wide}}  # {remark}" if remark else example
        lines.append(f"  {text}")
    lines += ["", "\b", "Exit codes:"]
    lines += [f"  {code.value:<3} {(meaning or {}).get(code, MEANING[code])}" for code in exits]
    return "\n".join(lines)


def _call(example: str) -> str:
    return example.partition("  # ")[0]
