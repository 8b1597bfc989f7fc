"""How a run was asked for, and where it ends although images still wait. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from headgate.settings.settings import Settings

BY_QUEUE = ("queue", "http")
"""Triggers of runs that a worker starts, and ends before the next message is due."""
QUEUE_BREAK_OFF_SECONDS = 12
"""How long before the next message is due the worker ends a run that is still at work."""
_NO_BOUND = 2**62
_QUEUE_SPARE_SECONDS = 15.0
_SPARE_SECONDS = 5.0
"""A run stops picking so long before the next one is due, and finishes what it is sending."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """How a run was asked for."""

    trigger: str = "hand"  # one of spool.triggers.KINDS
    until_empty: bool = False
    max_seconds: float | None = None
    max_bytes: int = 0
    show_progress: bool = False
    sender: str = ""  # who asked, where that is known
    job: str = ""  # the job that this run carries out
    device: str = ""  # only its images

    @property
    def bounded(self) -> bool:
        """Whether it is for less than all that waits."""
        return bool(self.device or self.max_bytes or self.max_seconds is not None)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a run ends although images still wait. Zero or None: no such bound."""

    seconds: float | None = None  # then it stops picking
    images: int = 0
    bytes: int = 0
    until_empty: bool = False
    device: str = ""  # only its images
    cut_seconds: float | None = None  # then what is being sent is broken off

    def left(self, images: int, size: int) -> tuple[int, int]:
        """How many images and bytes may be picked after these."""
        images_left = self.images - images if self.images else _NO_BOUND
        return images_left, self.bytes - size if self.bytes else _NO_BOUND


def pick_seconds(interval: int, *, by_queue: bool) -> float:
    """How long a run picks images, if any wait, before the next one is due."""
    return interval - (_QUEUE_SPARE_SECONDS if by_queue else _SPARE_SECONDS)


def bounds_of(settings: Settings, request: RunRequest) -> Bounds:
    """The bounds of a run that was asked for in this way."""
    interval = settings.uplink.interval
    by_queue = request.trigger in BY_QUEUE
    cut = float(interval - QUEUE_BREAK_OFF_SECONDS) if by_queue else None
    seconds = None
    if not request.until_empty:
        seconds = pick_seconds(interval, by_queue=by_queue)
    if request.max_seconds is not None:
        seconds = request.max_seconds if seconds is None else min(seconds, request.max_seconds)
    size = settings.uplink.batch_bytes
    if request.max_bytes:
        size = min(size, request.max_bytes) if size else request.max_bytes
    if request.until_empty:
        return Bounds(
            seconds, 0, request.max_bytes, until_empty=True, device=request.device, cut_seconds=cut
        )
    images = settings.uplink.batch_images
    return Bounds(seconds, images, size, device=request.device, cut_seconds=cut)
