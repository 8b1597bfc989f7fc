"""systemd's timers, which start the runs instead of cron: never both.

Told by files alone, because systemctl may be missing, and systemd need not be running.
"""

from __future__ import annotations

import re
from pathlib import Path

from headgate.settings.units import format_duration
from uploader.cli.cron.entry import ScheduleFault

DRAIN = "headgate-drain.timer"
WANTS = Path("etc/systemd/system/timers.target.wants")
"""Where ``systemctl enable`` links a timer (systemctl(1))."""
IN_CHARGE = (
    f"{DRAIN} starts the runs here, and with cron they would start twice; to change over to cron: "
    "headgate install --schedule cron"
)


def enabled(root: Path = Path("/")) -> bool:
    """Whether the timer starts the runs."""
    return (root / WANTS / DRAIN).is_symlink()


def interval_seconds(root: Path = Path("/")) -> int | None:
    """How often it starts one; None where its file does not say it as we write it."""
    try:
        text = (root / WANTS / DRAIN).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(r"^OnUnitActiveSec=(\d+)s$", text, re.MULTILINE)
    return int(found[1]) if found else None


_FIX = "headgate install"


def compare(wanted_seconds: int, root: Path = Path("/")) -> list[ScheduleFault]:
    """How the timer that is enabled differs from the settings."""
    every = interval_seconds(root)
    if every is None:
        return [ScheduleFault(f"{DRAIN} was changed by hand, or its file is gone", _FIX)]
    if every != wanted_seconds:
        why = (
            f"{DRAIN} starts a run every {format_duration(every)}, but uplink.interval is "
            f"{format_duration(wanted_seconds)}"
        )
        return [ScheduleFault(why, _FIX)]
    return []
