"""What a service says to the manager that started it."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Tell the service manager how this service does (sd_notify(3)); nothing where none asked."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect(f"\0{name[1:]}" if name.startswith("@") else name)
        manager.send(state.encode())
