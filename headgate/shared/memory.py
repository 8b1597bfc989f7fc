"""What the gateways of a site remember together of their images: so that a repeat of an image gets
the first receipt at any of them, and any of them tells what became of an image.

The memory has an end: each entry ends by itself, and of more than a number the oldest go. It says
only what is durable at the gateway that said so. A *claim* says nothing of an image: it makes a
second upload of the same identity wait while the first one becomes durable, and ends by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from headgate.host.foreign_json import read_json_object
from headgate.shared.connection import connect, disconnect, troubles
from headgate.shared.keys import key

CLAIM_MS = 10_000
"""Longer than most disks take to make an image durable; then a claim says nothing any more."""
ANY = "*"
"""The field of any image with an identity's hash."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One thing that an image is known by: the parts that are hashed, and what tells images with
    the same ones apart."""

    parts: tuple[str, ...]
    field: str = "-"

    @property
    def words(self) -> tuple[str, str]:
        """As the script takes it: no name of a device, and no key of a client's."""
        digest = hashlib.sha256("\0".join(self.parts).encode()).hexdigest()
        return digest[:32], self.field


@dataclass(frozen=True, slots=True)
class Entry:
    """What a gateway said of an image, and when, by Redis's clock."""

    gateway: str
    at: datetime
    receipt: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a gateway says of one of its images. ``alive``: a repeat of it is no new image;
    ``settled``: nothing is expected to change any more."""

    id: str
    receipt: str  # JSON
    identities: tuple[Identity, ...]
    alive: bool
    settled: bool


def life_key(site: str, gateway: str) -> str:
    """Without this key nothing that a gateway said counts, until it says something again."""
    return key(site, "memory", gateway)


@cache
def _text() -> str:
    return (files("headgate.shared") / "memory.lua").read_text(encoding="utf-8")


class Memory:
    """The memory of one site. SharedTrouble for whatever goes wrong; one thread at a time."""

    def __init__(self, url: str, site: str, *, timeout_seconds: float) -> None:
        self._client = connect(url, timeout_seconds=timeout_seconds)
        self._script = self._client.register_script(_text())
        self._prefix = key(site, "")
        self._images = key(site, "images")

    def claim(self, identities: Sequence[Identity], token: str) -> tuple[Entry | None, bool]:
        """The image that is known by the first of these; else claim all of them. True: another
        upload has a claim, so nothing was claimed."""
        told = self._run("claim", token, CLAIM_MS, *_words(identities))
        return _entry(told[0]), bool(told[1])

    def release(self, identities: Sequence[Identity], token: str) -> None:
        """Give a claim up: nothing became durable."""
        self._run("release", token, *_words(identities))

    def keep(
        self, kept: Kept, gateway: str, life: str, *, token: str = "", seconds: int, most: int
    ) -> None:
        """Say what this gateway has, which must be durable there; ends the claim of ``token``.
        ``life`` names this memory of the gateway: entries of an earlier one count no more."""
        alive, settled = int(kept.alive), int(kept.settled)
        self._run(
            "keep", token, gateway, life, seconds * 1000, most, alive, settled, kept.id,
            kept.receipt, *_words(kept.identities),
        )  # fmt: skip

    def look(self, image: str) -> Entry | None:
        """What is known of an image, by its id."""
        return _entry(self._run("look", image))

    def look_up(self, identity: Identity) -> Entry | None:
        """What is known of the image with this identity."""
        return _entry(self._run("look_up", *identity.words))

    def withdraw(self, images: Sequence[str], gateway: str, life: str) -> None:
        """Nothing is said of these any more, until they are kept again a minute later or more."""
        self._run("withdraw", gateway, life, *images)

    def open(self, gateway: str, life: str, most: int) -> list[str]:
        """Ids of images whose state may have changed since it was kept, those first that were not
        asked for the longest."""
        return [str(one) for one in self._run("open", gateway, life, most)]

    def close(self) -> None:
        """Give the connection up."""
        disconnect(self._client)

    def _run(self, *words: str | int) -> Any:
        operation, *others = words
        with troubles(self._client):
            return self._script(keys=[self._images], args=[operation, self._prefix, *others])


def _words(identities: Iterable[Identity]) -> list[str]:
    return [word for identity in identities for word in identity.words]


def _entry(text: str) -> Entry | None:
    """An entry, read; None for none, and for one that cannot be read."""
    try:
        gateway, _, at, receipt = text.split(" ", 3)
        fields = read_json_object(receipt)
        said_at = datetime.fromtimestamp(int(at) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None if fields is None else Entry(gateway, said_at, fields)
