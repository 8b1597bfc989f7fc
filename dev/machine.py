"""Which machine measured something, and when."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path


def machine(now: datetime | None = None) -> str:
    """Where and when: one line under every table."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    model = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    return (
        f"{(now or datetime.now(UTC)):%Y-%m-%d}, {os.cpu_count()} cores "
        f"({model[1] if model else platform.machine()}), Linux {platform.release()}, "
        f"Python {platform.python_version()}"
    )
