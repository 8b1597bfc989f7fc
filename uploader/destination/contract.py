"""The contract of every sender: what the drain asks of a destination, and the answers. Pure.

A sender makes one attempt for each call: retrying, backing off and asking again after an unknown
outcome belong to the caller. Every byte that leaves passes the meter that the sender was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from headgate.spool.image.image import Metadata, Presence, Sent
from headgate.spool.image.names import Name

__all__ = [
    "Describe",
    "Page",
    "Presence",
    "Sender",
    "Sent",
    "Stored",
    "Upload",
]


@dataclass(frozen=True, slots=True)
class Upload:
    """One image on its way: what is sent, where to, and how it will be recognised there.
    ``metadata``: headers that describe it, as the destination has them."""

    path: Path | str
    key: str
    sha256: str  # 64 hex digits, of the file as it was received
    size: int  # bytes
    media_type: str
    metadata: Mapping[str, str] = field(default_factory=dict)


Describe = Callable[[Name, Metadata], tuple[str, Mapping[str, str]]]
"""The key of an image at the destination, and the headers that describe it there."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it was confirmed, by which it is known again."""

    key: str
    size: int  # bytes
    sha256: str  # 64 hex digits
    etag: str


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing: length and ETag by key; ``more`` comes after the last of them."""

    objects: Mapping[str, tuple[int, str]]
    more: bool


class Sender(Protocol):
    """Sends images to one destination.

    Every method may be called from several threads at once, except ``close``.

    ``place``: its name in receipts. ``clock_offset``: seconds that its clock was ahead of ours at
    the last answer; None before it.
    """

    @property
    def place(self) -> str: ...

    @property
    def clock_offset(self) -> float | None: ...

    def send(self, upload: Upload) -> Sent:
        """Store the image where nothing is yet, and return only when the destination confirmed it.

        One attempt, at most one question after it; one that is refused for a header is made again
        without that header. An image that is there already counts if it is the same. Raises
        SendError, or what the pacer raises when the run ends.
        """

    def find(self, upload: Upload) -> Sent | None:
        """Whether the image is there: its proof, or None. Raises SendError if another object is
        there (code ``different-object``) or this cannot be determined (TRANSIENT)."""

    def see(self, stored: Stored) -> Presence:
        """Whether the destination holds what it confirmed. SendError where it does not say."""

    def listed(self, prefix: str, after: str) -> Page:
        """List up to a thousand objects whose keys begin so and sort after that, in order.
        SendError where the destination does not list them."""

    def close(self) -> None:
        """Close every connection; the sender cannot be used after it."""
