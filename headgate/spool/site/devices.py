"""Who may send: devices and their tokens, in ``state/site.sqlite3``. Commits are FULL.

A token is 256 random bits. Only its SHA-256 is stored: a reader of the file cannot send with it,
and a plain hash is enough, because 256 bits cannot be guessed (unlike a password). A revoked token
is gone with the commit: each request reads the file.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from headgate.spool import sqlite
from headgate.spool.image import names
from headgate.spool.sqlite import instant, stamp

TOKEN_BYTES = 32
_PREFIX = "hg_"  # so that people, and scanners of repositories, know one when they see it

TABLES = """
    CREATE TABLE devices (
        name TEXT PRIMARY KEY,
        urgent INTEGER NOT NULL DEFAULT 0,
        added_at INTEGER NOT NULL,
        revoked_at INTEGER
    ) STRICT;
    CREATE TABLE tokens (
        digest BLOB PRIMARY KEY,
        device TEXT NOT NULL REFERENCES devices (name),
        made_at INTEGER NOT NULL,
        ends_at INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tokens_by_device ON tokens (device);
    """
FORWARDING = "ALTER TABLE devices ADD COLUMN may_forward INTEGER NOT NULL DEFAULT 0;"


@dataclass(frozen=True, slots=True)
class Device:
    """One that was enrolled. ``tokens`` counts those that are valid now."""

    name: str
    urgent: bool  # it may mark images as urgent
    added_at: datetime
    revoked_at: datetime | None
    tokens: int
    may_drain: bool = False  # it may ask for drains (POST /jobs/drain)
    may_forward: bool = False  # it may send images of other devices, as another gateway does


@dataclass(frozen=True, slots=True)
class Token:
    """A new token, readable only now."""

    device: str
    secret: str


@dataclass(frozen=True, slots=True)
class Credential:
    """What a valid token says of its bearer."""

    device: str
    urgent: bool
    may_drain: bool = False
    may_forward: bool = False


class DeviceTrouble(Exception):
    """What was asked for cannot be done; the sentence says why. Nothing was changed."""


class Devices:
    """Belongs to ``Site``, whose connection and lock it shares."""

    def __init__(self, db: sqlite.Connection, lock: threading.Lock) -> None:
        self._db = db
        self._lock = lock

    def authenticate(self, secret: str, now: datetime) -> Credential | None:
        """Whose token this is; None if it is unknown, was revoked, or has expired."""
        digest = _digest(secret)
        with self._lock:
            row = self._db.execute(
                "SELECT digest, device, urgent, may_drain, may_forward FROM tokens "
                "JOIN devices ON name = device "
                "WHERE digest = ? AND (ends_at IS NULL OR ends_at > ?)",
                (digest, stamp(now)),
            ).fetchone()
        # The index found it by its digest, of which an attacker cannot choose a single byte.
        if row is None or not hmac.compare_digest(row[0], digest):
            return None
        return Credential(row[1], *map(bool, row[2:]))

    def add(
        self,
        wanted: Sequence[str],
        now: datetime,
        *,
        urgent: bool = False,
        may_drain: bool = False,
        may_forward: bool = False,
    ) -> list[Token]:
        """Enrol devices, all or none; DeviceTrouble if one is enrolled or its name is unusable.

        One that was revoked may be enrolled again.
        """
        if unusable := [name for name in wanted if not names.DEVICE.fullmatch(name)]:
            raise DeviceTrouble(
                f"{_some(unusable)}: a device is called by 1 to 64 letters, digits, dots, "
                "underscores or hyphens, the first a letter or digit"
            )
        if len(set(wanted)) < len(wanted):
            raise DeviceTrouble("the same device is named twice")
        tokens = [_new(name) for name in wanted]
        with self._lock, sqlite.transaction(self._db) as db:
            held = [name for name in wanted if self._row(name) and not self._is_revoked(name)]
            if held:
                raise DeviceTrouble(
                    f"{_some(held)}: enrolled already; headgate device rotate makes a new token"
                )
            db.executemany(
                "INSERT INTO devices (name, urgent, added_at, may_drain, may_forward) "
                "VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (name) DO UPDATE SET urgent = ?2, "
                "added_at = ?3, revoked_at = NULL, may_drain = ?4, may_forward = ?5",
                [
                    (name, int(urgent), stamp(now), int(may_drain), int(may_forward))
                    for name in wanted
                ],
            )
            self._keep(tokens, now)
        return tokens

    def rotate(self, wanted: Sequence[str], now: datetime, overlap: timedelta) -> list[Token]:
        """New tokens, all or none; the old ones end after ``overlap``. DeviceTrouble if one is not
        enrolled."""
        tokens = [_new(name) for name in wanted]
        with self._lock, sqlite.transaction(self._db) as db:
            self._require(wanted)
            ends_at = stamp(now + overlap)
            for name in wanted:
                db.execute(
                    "DELETE FROM tokens WHERE device = ? AND ends_at <= ?", (name, stamp(now))
                )
                db.execute(
                    "UPDATE tokens SET ends_at = ?2 WHERE device = ?1 "
                    "AND (ends_at IS NULL OR ends_at > ?2)",
                    (name, ends_at),
                )
            self._keep(tokens, now)
        return tokens

    def revoke(self, wanted: Sequence[str], now: datetime) -> None:
        """From the commit on none of their tokens is valid. DeviceTrouble if one is not enrolled;
        then none was revoked."""
        with self._lock, sqlite.transaction(self._db) as db:
            self._require(wanted)
            db.executemany("DELETE FROM tokens WHERE device = ?", [(name,) for name in wanted])
            db.executemany(
                "UPDATE devices SET revoked_at = ?2 WHERE name = ?1",
                [(name, stamp(now)) for name in wanted],
            )

    def any_valid(self, now: datetime) -> bool:
        """Whether a device has a token that is good now."""
        with self._lock:
            row = self._db.execute(
                "SELECT 1 FROM tokens WHERE ends_at IS NULL OR ends_at > ? LIMIT 1", (stamp(now),)
            ).fetchone()
        return row is not None

    def is_named(self, name: str) -> bool:
        """Whether a device of this name was ever enrolled, revoked or not."""
        with self._lock:
            return self._row(name) is not None

    def all(self, now: datetime) -> list[Device]:
        """Every device that was ever enrolled, by name."""
        with self._lock:
            rows = self._db.execute(
                "SELECT name, urgent, added_at, revoked_at, (SELECT count(*) FROM tokens "
                "WHERE device = name AND (ends_at IS NULL OR ends_at > ?)), may_drain, may_forward "
                "FROM devices "
                "ORDER BY name",
                (stamp(now),),
            ).fetchall()
        return [
            Device(
                name=name,
                urgent=bool(urgent),
                added_at=instant(added_at),
                revoked_at=None if revoked_at is None else instant(revoked_at),
                tokens=tokens,
                may_drain=bool(may_drain),
                may_forward=bool(may_forward),
            )
            for name, urgent, added_at, revoked_at, tokens, may_drain, may_forward in rows
        ]

    def _row(self, name: str) -> tuple[object, ...] | None:
        row = self._db.execute("SELECT revoked_at FROM devices WHERE name = ?", (name,)).fetchone()
        return None if row is None else tuple(row)

    def _is_revoked(self, name: str) -> bool:
        row = self._row(name)
        return row is not None and row[0] is not None

    def _require(self, wanted: Iterable[str]) -> None:
        unknown = [name for name in wanted if self._row(name) is None or self._is_revoked(name)]
        if unknown:
            raise DeviceTrouble(
                f"{_some(unknown)}: not enrolled; headgate device list shows who is"
            )

    def _keep(self, tokens: Iterable[Token], now: datetime) -> None:
        self._db.executemany(
            "INSERT INTO tokens (digest, device, made_at) VALUES (?, ?, ?)",
            [(_digest(token.secret), token.device, stamp(now)) for token in tokens],
        )


def _new(device: str) -> Token:
    return Token(device, _PREFIX + secrets.token_urlsafe(TOKEN_BYTES))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _some(wanted: Sequence[str]) -> str:
    shown = ", ".join(name if names.DEVICE.fullmatch(name) else repr(name) for name in wanted[:5])
    return shown + (f" and {len(wanted) - 5} more" if len(wanted) > 5 else "")
