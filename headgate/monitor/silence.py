"""How long a device may be quiet before it counts as silent, learned from how it sends. Pure.

The page, the metrics and the alerts go by it. It is learned at each check of ``headgate watch``;
before the first, from what the device sent so far.

What is remembered of a device: when it last sent, how many images it had sent, and the longest
silence from which it came back lately. So a camera that sleeps at night is missed in its first
night at most, and one that sends each minute is missed after a quarter of an hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from headgate.spool.catalog.device_stats import Arrivals

RHYTHMS = "devices.rhythm"
"""The site's memory of how each device sends."""
LEAST_SECONDS = 15 * 60
LEAST_IMAGES = 10
"""Before that too little is known about how a device sends."""
_TIMES_LONGEST, _TIMES_USUAL = 1.5, 5.0
_HALVED_EVERY = 14 * 86400.0
"""A silence is forgotten by halves, so that one long outage does not count forever."""


@dataclass(frozen=True, slots=True)
class SendingPattern:
    """What is remembered of one device; seconds."""

    last_at: datetime
    images: int
    usual: float = 0.0  # between two images, lately
    longest: float = 0.0  # a silence from which it came back
    quiet: float = 0.0  # how long it had been silent at the last look


def learn(
    before: SendingPattern | None, seen: Arrivals, now: datetime, receiver_up: bool = True
) -> SendingPattern:
    """What is known after this look. ``receiver_up``: the receiver was there to be sent to,
    so that a silence was the device's own."""
    quiet = max(0.0, (now - seen.last_at).total_seconds()) if receiver_up else 0.0
    if before is None or seen.images < before.images:  # or the catalog was made again
        span = (seen.last_at - seen.first_at).total_seconds()
        usual = span / (seen.images - 1) if seen.images > 1 else 0.0
        return SendingPattern(seen.last_at, seen.images, usual, 0.0, quiet)
    came = seen.images - before.images
    if not came:
        longer = max(quiet, before.quiet) if receiver_up else before.quiet
        return SendingPattern(before.last_at, before.images, before.usual, before.longest, longer)
    between = max(0.0, (seen.last_at - before.last_at).total_seconds())
    longest = before.longest * 0.5 ** (between / _HALVED_EVERY)
    paused = before.quiet > LEAST_SECONDS / 3
    if paused:
        longest = max(longest, before.quiet)
    usual = before.usual
    if not usual and not paused:
        usual = between / came
    elif not paused and between <= LEAST_SECONDS:  # else no one looked, or took its images
        usual = 0.8 * usual + 0.2 * between / came
    return SendingPattern(seen.last_at, seen.images, usual, longest, quiet)


def quiet_seconds(rhythm: SendingPattern, configured: int | str) -> float:
    """How long it may be quiet before it is silent; 0: it never is. ``configured``: seconds, or
    "auto"."""
    if isinstance(configured, int):
        return float(configured)
    if rhythm.images < LEAST_IMAGES:
        return 0.0
    return max(LEAST_SECONDS, _TIMES_USUAL * rhythm.usual, _TIMES_LONGEST * rhythm.longest)


def dump(rhythms: Mapping[str, SendingPattern]) -> dict[str, list[float]]:
    """The sending patterns of devices, by name, as JSON."""
    return {
        name: [r.last_at.timestamp(), r.images, r.usual, r.longest, r.quiet]
        for name, r in rhythms.items()
    }


def read(held: Mapping[str, list[float]] | None) -> dict[str, SendingPattern]:
    """Read the sending patterns of devices, by name; the inverse of ``dump``."""
    return {
        name: SendingPattern(datetime.fromtimestamp(at, UTC), int(images), usual, longest, quiet)
        for name, (at, images, usual, longest, quiet) in (held or {}).items()
    }
