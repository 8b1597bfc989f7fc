"""Whether systemd runs this machine, and what it says of a unit (systemctl(1))."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SECONDS = 20


def is_running(root: Path = Path("/")) -> bool:
    """Whether systemd is the first program of this machine (sd_booted(3)), and ``root`` its own
    tree."""
    return root == Path("/") and Path("/run/systemd/system").is_dir()


def is_active(unit: str) -> bool:
    """Whether a unit runs now; False where systemctl cannot say."""
    try:
        ran = subprocess.run(
            ["systemctl", "is-active", unit], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ran.stdout.strip() == "active"
