"""Units: enabled, started, stopped, where systemd is there (systemctl(1))."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from headgate.host.systemd import is_active, is_running
from uploader.cli.install.layout import OPTIONAL, RECEIVER_UNIT, TIMERS, WORKER_UNIT
from uploader.cli.install.steps import Step, command, run

WANTS = {
    RECEIVER_UNIT: "etc/systemd/system/multi-user.target.wants",
    **dict.fromkeys(
        (WORKER_UNIT, *(one.unit for one in OPTIONAL)),
        "etc/systemd/system/multi-user.target.wants",
    ),
    **dict.fromkeys(TIMERS, "etc/systemd/system/timers.target.wants"),
}


def is_enabled(root: Path, unit: str) -> bool:
    """Whether it starts at boot: the link that systemctl enable makes."""
    return (root / WANTS[unit] / unit).is_symlink()


def _systemctl(root: Path, *words: str) -> Sequence[str]:
    return ["systemctl", *([] if root == Path("/") else [f"--root={root}"]), *words]


def enabled(root: Path, unit: str) -> list[Step]:
    """The unit starts at boot, and from now on where systemd runs."""
    if shutil.which("systemctl") is None:
        return []
    steps = [
        command(
            f"{unit} starts at boot",
            lambda: not is_enabled(root, unit),
            _systemctl(root, "enable", unit),
        )
    ]
    if is_running(root):
        steps.append(
            command(f"{unit} runs", lambda: not is_active(unit), ["systemctl", "start", unit])
        )
    return steps


def disabled(root: Path, unit: str) -> list[Step]:
    """The unit neither runs nor starts at boot."""
    if shutil.which("systemctl") is None:
        return []
    steps = []
    if is_running(root):
        steps.append(
            command(f"{unit} is stopped", lambda: is_active(unit), ["systemctl", "stop", unit])
        )
    off = _systemctl(root, "disable", unit)
    steps.append(command(f"{unit} no longer starts at boot", lambda: is_enabled(root, unit), off))
    return steps


def reload(root: Path) -> None:
    """Reload systemd's units, and let tmpfiles create what is missing."""
    if is_running(root):
        run(["systemctl", "daemon-reload"])
