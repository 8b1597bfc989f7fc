"""A machine whose clock is a number: it passes time, and is switched off and on."""

from __future__ import annotations

import os

from headgate.spool.budget.slots import SECOND

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where thousands of small flushed writes cost nothing; what is tested here is not the disk."""


class Machine:
    """Its clock; ``on`` is how long it was on in all, in nanoseconds: off does not count."""

    def __init__(self, at: int = 50 * SECOND) -> None:
        self.at, self.on, self.number = at, 0, 0
        self.jumps: list[int] = []  # one before each reading of the clock, while they last

    @property
    def boot(self) -> bytes:
        return self.number.to_bytes(16)

    def passes(self, nanoseconds: int) -> None:
        self.at += nanoseconds
        self.on += nanoseconds

    def reboot(self, at: int) -> None:
        self.number += 1
        self.at = at
        self.on += at

    def boottime(self) -> int:
        if self.jumps:
            self.passes(self.jumps.pop(0))
        return self.at


INTERVAL = 60
