"""What the other gateways of the site have, as they said it in the memory that all of them share.

A gateway says of an image only what is durable there, and that it may be erased only while its own
receipt says so: before it withdraws such a receipt it withdraws what it said, and where Redis
cannot take that now, all that it ever said counts no more from the next time that it says
anything. Nothing here holds an upload up for long, or makes one fail.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol

from headgate.host import logs
from headgate.settings.instants import read_rfc3339
from headgate.settings.settings import Settings
from headgate.shared.connection import SharedTrouble
from headgate.shared.impatient import DEADLINE_SECONDS, ImpatientCaller
from headgate.shared.memory import ANY, Entry, Identity, Kept, Memory
from headgate.spool import sqlite
from headgate.spool.errors import DiskError
from headgate.spool.identity import identity_of
from headgate.spool.image import names
from headgate.spool.image.image import GONE, Foreign, Metadata, Receipt, Remarks, State

LIVES = "memory"
"""The site's memory of how often this gateway had to take back all that it had said."""
CLAIMED_SECONDS = 2.0
"""How long an upload waits for another one of the same identity at another gateway."""
_LOOK_SECONDS = 0.05
_LEAST_SECONDS = 3600
"""An entry stays so long at least, so that a device can ask for its receipt anywhere."""
_BATCH = 200
_SETTLED = GONE | {State.UPLOADED}


class Remembering(Protocol):
    """The site's memory (``headgate.spool.site.site``)."""

    def get(self, name: str) -> Any: ...

    def put(self, name: str, value: Any) -> None: ...


class Claim:
    """What one upload knows of others of its identity: ``held`` is the first receipt, if another
    gateway has the image. Otherwise a context for making it durable here; left by an error, it
    lets the others go on."""

    def __init__(
        self,
        elsewhere: Elsewhere,
        known: tuple[Identity, ...] = (),
        token: str = "",
        held: Receipt | None = None,
    ) -> None:
        """``token`` "": no other upload waits for this one."""
        self._elsewhere, self._known, self._token = elsewhere, known, token
        self.held = held

    def keep(self, receipt: Receipt) -> None:
        """Say that this gateway has the image, which must be durable by now."""
        self._elsewhere.keep(receipt, self._token)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and self._token:
            self._elsewhere.give_up(self._known, self._token)


class Elsewhere:
    """The shared memory for one process of a gateway. Thread-safe; it connects when it is first
    asked, in a thread of its own, so make no use of it before a fork."""

    def __init__(
        self, settings: Settings, site: Remembering, waiting: AbstractContextManager[None]
    ) -> None:
        """``waiting`` stands around each wait for Redis."""
        self._settings, self._site, self._waiting = settings, site, waiting
        self._caller = ImpatientCaller(DEADLINE_SECONDS)
        self._memory: Memory | None = None
        self._trouble = ""

    # -- uploads

    def claim(self, device: str, meta: Metadata) -> Claim:
        """Whether another gateway has this image; otherwise its uploads elsewhere wait for this
        one, for a while. Without an answer from Redis it may become a second object."""
        known = identities(device, meta.sha256, meta.sequence, meta.key)
        if not known:
            return Claim(self)
        token, until = uuid.uuid4().hex, time.monotonic() + CLAIMED_SECONDS
        with self._waiting:
            while True:
                try:
                    entry, claimed = self._call(lambda memory: memory.claim(known, token))
                except SharedTrouble:
                    return Claim(self)
                found = self._foreign(entry)
                if found is not None and found.receipt.state not in GONE:
                    return Claim(self, held=found.receipt)
                if not claimed:
                    return Claim(self, known, token)
                if time.monotonic() >= until:
                    return Claim(self)
                time.sleep(_LOOK_SECONDS)

    def give_up(self, known: tuple[Identity, ...], token: str) -> None:
        """Nothing became durable of what was claimed."""
        with self._waiting, contextlib.suppress(SharedTrouble):
            self._call(lambda memory: memory.release(known, token))

    def keep(self, receipt: Receipt, token: str) -> None:
        """Say that this gateway has an image, which must be durable by now."""
        with self._waiting, contextlib.suppress(SharedTrouble, DiskError, sqlite.Error):
            self._keep(receipt, token)

    # -- questions

    def receipt(self, ref: str, device: str, key: str = "") -> Foreign | None:
        """What another gateway said of an image, by its id, or by its device with its SHA-256 or
        its Idempotency-Key; only of ``device``, if one is named. SharedTrouble if Redis does not
        answer."""
        if key:
            entry = self._look_up(Identity(("key", device, key)))
        elif names.is_sha256(ref):
            if not device:
                return None  # whose, is not known, and devices may send the same bytes
            entry = self._look_up(Identity(("digest", device, ref), ANY))
        else:
            entry = self._call(lambda memory: memory.look(ref))
        found = self._foreign(entry)
        if found is None or device not in ("", found.receipt.device):
            return None
        return found if not key or ref in (found.receipt.id, found.receipt.sha256) else None

    def _look_up(self, identity: Identity) -> Entry | None:
        found: Entry | None = self._call(lambda memory: memory.look_up(identity))
        return found

    # -- what became of images

    def say(self, receipts: Iterable[Receipt]) -> None:
        """Say what became of images of this gateway. SharedTrouble."""
        for receipt in receipts:
            self._keep(receipt)

    def withdraw(self, images: Sequence[str]) -> None:
        """Take back what was said of images, before their receipts are withdrawn."""
        life = self._life()
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            try:
                self._call(lambda memory, some=batch: memory.withdraw(some, self._name, life))  # type: ignore[misc]
            except SharedTrouble:
                self._site.put(LIVES, (self._site.get(LIVES) or 0) + 1)
                return

    def settle(self, look: Callable[[str], Receipt | None], most: int) -> int:
        """Say what became of images of which something else was said long ago; how many were
        looked at. ``look`` gives a receipt by its id. SharedTrouble."""
        life = self._life()
        ids = self._call(lambda memory: memory.open(self._name, life, most))
        for one in ids:
            receipt = look(one)
            if receipt is not None:
                self._keep(receipt)
            else:
                self.withdraw([one])
        return len(ids)

    # -- within

    @property
    def _name(self) -> str:
        return self._settings.uplink.gateway

    def _life(self) -> str:
        """Names all that this gateway said since it last had to take everything back; another
        spool under the same name has another one."""
        identity = identity_of(self._settings.spool.path) or "none"
        return f"{identity}.{self._site.get(LIVES) or 0}"

    def _keep(self, receipt: Receipt, token: str = "") -> None:
        kept = Kept(
            receipt.id,
            encode(receipt),
            tuple(identities(receipt.device, receipt.sha256, receipt.sequence, receipt.key_given)),
            alive=receipt.state not in GONE,
            settled=receipt.state in _SETTLED,
        )
        life = self._life()
        seconds = max(self._settings.spool.dedupe, _LEAST_SECONDS)
        most = self._settings.uplink.remember
        self._call(
            lambda memory: memory.keep(
                kept, self._name, life, token=token, seconds=seconds, most=most
            )
        )

    def _foreign(self, entry: Entry | None) -> Foreign | None:
        """An entry of another gateway. What this one once said of itself counts for nothing: its
        own books do."""
        if entry is None or entry.gateway == self._name:
            return None
        try:
            return Foreign(decode(entry.receipt), entry.gateway, entry.at)
        except (KeyError, TypeError, ValueError):
            return None  # of another version

    def _call(self, do: Callable[[Memory], Any]) -> Any:
        try:
            found = self._caller.call(lambda: do(self._connected()))
        except SharedTrouble as trouble:
            if not self._trouble:
                logs.get().warning("fleet.memory-away", why=str(trouble))
            self._trouble = str(trouble)
            raise
        if self._trouble:
            logs.get().info("fleet.memory-back")
            self._trouble = ""
        return found

    def _connected(self) -> Memory:
        """In the caller's thread alone."""
        if self._memory is None:
            url, site = self._settings.uplink.shared, self._settings.site.name
            self._memory = Memory(url, site, timeout_seconds=DEADLINE_SECONDS)
        return self._memory


def identities(device: str, sha256: str, sequence: int | None, key: str) -> tuple[Identity, ...]:
    """What an image is known by at all gateways, what decides first; nothing where its device did
    not say its name: another one may have the same address elsewhere."""
    if not device or names.is_address(device):
        return ()
    digest = Identity(("digest", device, sha256), "-" if sequence is None else str(sequence))
    return (Identity(("key", device, key)), digest) if key else (digest,)


def encode(receipt: Receipt) -> str:
    """A receipt as JSON, without what only its own gateway needs."""
    fields: dict[str, Any] = {
        "id": receipt.id, "sha256": receipt.sha256, "size": receipt.size,
        "device": receipt.device, "received": receipt.received_at.isoformat(),
        "state": receipt.state.value, "type": receipt.media_type,
    }  # fmt: skip
    for word, value in (
        ("key", receipt.key_given),
        ("seq", receipt.sequence),
        ("bucket", receipt.bucket),
        ("object", receipt.key),
        ("etag", receipt.etag),
        ("version", receipt.version_id),
        ("uploaded", receipt.uploaded_at and receipt.uploaded_at.isoformat()),
        ("reason", receipt.reason),
        ("remarks", receipt.remarks.encode()),
    ):
        if value not in ("", None):
            fields[word] = value
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def decode(fields: dict[str, Any]) -> Receipt:
    """The inverse of ``encode``; KeyError, TypeError or ValueError for anything else. ``local`` is
    false: no copy is on this disk."""
    uploaded, sequence = fields.get("uploaded"), fields.get("seq")
    found = Receipt(
        id=str(fields["id"]),
        sha256=str(fields["sha256"]),
        size=int(fields["size"]),
        device=str(fields["device"]),
        received_at=_instant(fields["received"]),
        state=State(fields["state"]),
        local=False,
        media_type=str(fields["type"]),
        key_given=str(fields.get("key", "")),
        sequence=None if sequence is None else int(sequence),
        bucket=str(fields.get("bucket", "")),
        key=str(fields.get("object", "")),
        etag=str(fields.get("etag", "")),
        version_id=str(fields.get("version", "")),
        uploaded_at=None if uploaded is None else _instant(uploaded),
        reason=str(fields.get("reason", "")),
    )
    _ = found.name  # or it is no id of an image
    return replace(found, remarks=Remarks.decode(str(fields.get("remarks", ""))))


def _instant(text: object) -> datetime:
    at = read_rfc3339(text)
    if at is None:
        raise ValueError(f"{text!r} is no time")
    return at
