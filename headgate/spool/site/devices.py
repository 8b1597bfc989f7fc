"""Who may send: devices and their tokens, in ``state/site.sqlite3``. Commits are FULL.

A token is 256 random bits. Only its SHA-256 is stored: a reader of the file cannot send with it,
and a plain hash is enough, because 256 bits cannot be guessed (unlike a password). A revoked token
is gone with the commit: each request reads the file. Devices that log in by HTTP Digest have tokens
of 128 bits, and what is stored of theirs can be sent with.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from headgate.spool import sqlite
from headgate.spool.image import names
from headgate.spool.site import enrolments
from headgate.spool.site.enrolments import Enrolment, Taken
from headgate.spool.sqlite import instant, stamp

TOKEN_BYTES = 32
DIGEST_TOKEN_BYTES = 16
"""Of a device that logs in by Digest: cameras have little room for a password."""
DIGEST_REALM = "headgate"
_DIGEST_KEY = "digest.key"
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


DIGEST = """
    CREATE TABLE digest_logins (
        device TEXT NOT NULL REFERENCES devices (name),
        md5 TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        made_at INTEGER NOT NULL,
        ends_at INTEGER
    ) STRICT;
    CREATE INDEX digest_logins_by_device ON digest_logins (device);
    ALTER TABLE devices ADD COLUMN by_digest INTEGER NOT NULL DEFAULT 0;
    """
"""For devices that log in by HTTP Digest, and for those alone: what is stored is as good as the
token (RFC 7616, 5.1)."""


@dataclass(frozen=True, slots=True)
class Device:
    """One enrolled device. ``tokens`` counts those that are valid now."""

    name: str
    urgent: bool  # it may mark images as urgent
    added_at: datetime
    revoked_at: datetime | None
    tokens: int
    may_drain: bool = False  # it may ask for drains (POST /jobs/drain)
    may_forward: bool = False  # it may send images of other devices, as another gateway does
    digest: bool = False  # it may log in by HTTP Digest


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


@dataclass(frozen=True, slots=True)
class DigestLogin:
    """What HTTP Digest needs of a device's token: H(name:realm:token) in hex, by each hash."""

    credential: Credential
    md5: str = field(repr=False)
    sha256: str = field(repr=False)


class DeviceTrouble(Exception):
    """What was asked for cannot be done; the sentence says why. Nothing was changed. ``missing``:
    no device of that name is enrolled."""

    def __init__(self, sentence: str, *, missing: bool = False) -> None:
        super().__init__(sentence)
        self.missing = missing


class Devices:
    """Belongs to ``Site``, whose connection and lock it shares."""

    def __init__(self, db: sqlite.Connection, lock: threading.RLock) -> None:
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
        digest: bool = False,
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
        tokens = [_new(name, digest=digest) for name in wanted]
        with self._lock, sqlite.transaction(self._db) as db:
            held = [name for name in wanted if self._row(name) and not self._is_revoked(name)]
            if held:
                raise DeviceTrouble(
                    f"{_some(held)}: enrolled already; headgate device rotate makes a new token"
                )
            db.executemany(
                "INSERT INTO devices (name, urgent, added_at, may_drain, may_forward, by_digest) "
                "VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (name) DO UPDATE SET urgent = ?2, "
                "added_at = ?3, revoked_at = NULL, may_drain = ?4, may_forward = ?5, "
                "by_digest = ?6",
                [
                    (name, int(urgent), stamp(now), int(may_drain), int(may_forward), int(digest))
                    for name in wanted
                ],
            )
            if digest:
                db.execute(
                    "INSERT OR IGNORE INTO memory (name, value) VALUES (?, ?)",
                    (_DIGEST_KEY, secrets.token_urlsafe(TOKEN_BYTES)),
                )
            self._keep(tokens, now)
        return tokens

    def rotate(self, wanted: Sequence[str], now: datetime, overlap: timedelta) -> list[Token]:
        """New tokens, all or none; the old ones end after ``overlap``. DeviceTrouble if one is not
        enrolled."""
        with self._lock, sqlite.transaction(self._db) as db:
            self._require(wanted)
            by_digest = self._by_digest()
            tokens = [_new(name, digest=name in by_digest) for name in wanted]
            ends_at = stamp(now + overlap)
            for table in ("tokens", "digest_logins"):
                db.executemany(
                    f"DELETE FROM {table} WHERE device = ? AND ends_at <= ?",
                    [(name, stamp(now)) for name in wanted],
                )
                db.executemany(
                    f"UPDATE {table} SET ends_at = ?2 WHERE device = ?1 "
                    "AND (ends_at IS NULL OR ends_at > ?2)",
                    [(name, ends_at) for name in wanted],
                )
            self._keep(tokens, now)
        return tokens

    def revoke(self, wanted: Sequence[str], now: datetime) -> None:
        """From the commit on none of their tokens is valid. DeviceTrouble if one is not enrolled;
        then none was revoked."""
        with self._lock, sqlite.transaction(self._db) as db:
            self._require(wanted)
            for table in ("tokens", "digest_logins"):
                db.executemany(
                    f"DELETE FROM {table} WHERE device = ?", [(name,) for name in wanted]
                )
            db.executemany(
                "UPDATE devices SET revoked_at = ?2 WHERE name = ?1",
                [(name, stamp(now)) for name in wanted],
            )

    def change_name(self, device: str, name: str) -> None:
        """Give a device's tokens to its new name; nothing where it is not enrolled. Not for one
        that logs in by Digest: its secret contains the name."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute("UPDATE devices SET name = ? WHERE name = ?", (name, device))
            db.execute("UPDATE tokens SET device = ? WHERE device = ?", (name, device))

    def remove(self, device: str) -> None:
        """As if it had never been enrolled."""
        with self._lock, sqlite.transaction(self._db) as db:
            for table in ("tokens", "digest_logins"):
                db.execute(f"DELETE FROM {table} WHERE device = ?", (device,))
            db.execute("DELETE FROM devices WHERE name = ?", (device,))

    def enrolments(self, now: datetime) -> list[Enrolment]:
        """All devices but those that log in by Digest, to be carried to another gateway."""
        with self._lock:
            return list(enrolments.read(self._db, now).values())

    def take_over(self, heard: Iterable[Enrolment], now: datetime) -> dict[str, Taken]:
        """Let devices of another gateway count here, all or none; what became of each."""
        with self._lock, sqlite.transaction(self._db) as db:
            return enrolments.take_over(db, heard, now)

    def digest_key(self) -> str | None:
        """The key of Digest's nonces; None if no device was ever enrolled for Digest."""
        with self._lock:
            row = self._db.execute(
                "SELECT value FROM memory WHERE name = ?", (_DIGEST_KEY,)
            ).fetchone()
        return None if row is None else str(row[0])

    def digest_logins(self, name: str, now: datetime) -> list[DigestLogin]:
        """The Digest log-ins of a device that are valid now; after a change of its token there are
        two."""
        with self._lock:
            rows = self._db.execute(
                "SELECT urgent, may_drain, may_forward, md5, sha256 FROM digest_logins "
                "JOIN devices ON name = device "
                "WHERE device = ? AND (ends_at IS NULL OR ends_at > ?)",
                (name, stamp(now)),
            ).fetchall()
        return [
            DigestLogin(
                Credential(name, bool(urgent), bool(may_drain), bool(may_forward)), md5, sha256
            )
            for urgent, may_drain, may_forward, md5, sha256 in rows
        ]

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
                "WHERE device = name AND (ends_at IS NULL OR ends_at > ?)), may_drain, "
                "may_forward, by_digest FROM devices ORDER BY name",
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
                digest=bool(digest),
            )
            for name, urgent, added_at, revoked_at, tokens, may_drain, may_forward, digest in rows
        ]

    def tokens_of(self, name: str, now: datetime) -> list[tuple[datetime, datetime | None]]:
        """When each of its valid tokens was made and when it ends (None: never), the oldest
        first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT made_at, ends_at FROM tokens WHERE device = ? "
                "AND (ends_at IS NULL OR ends_at > ?) ORDER BY made_at",
                (name, stamp(now)),
            ).fetchall()
        return [(instant(made), None if ends is None else instant(ends)) for made, ends in rows]

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
                f"{_some(unknown)}: not enrolled; headgate device list shows all", missing=True
            )

    def _by_digest(self) -> set[str]:
        rows = self._db.execute("SELECT name FROM devices WHERE by_digest = 1").fetchall()
        return {str(name) for (name,) in rows}

    def _keep(self, tokens: Sequence[Token], now: datetime) -> None:
        self._db.executemany(
            "INSERT INTO tokens (digest, device, made_at) VALUES (?, ?, ?)",
            [(_digest(token.secret), token.device, stamp(now)) for token in tokens],
        )
        by_digest = self._by_digest()
        self._db.executemany(
            "INSERT INTO digest_logins (device, md5, sha256, made_at) VALUES (?, ?, ?, ?)",
            [
                (token.device, *_digest_login(token), stamp(now))
                for token in tokens
                if token.device in by_digest
            ],
        )


def _new(device: str, *, digest: bool = False) -> Token:
    size = DIGEST_TOKEN_BYTES if digest else TOKEN_BYTES
    return Token(device, _PREFIX + secrets.token_urlsafe(size))


def _digest_login(token: Token) -> tuple[str, str]:
    text = f"{token.device}:{DIGEST_REALM}:{token.secret}".encode()
    return hashlib.md5(text, usedforsecurity=False).hexdigest(), hashlib.sha256(text).hexdigest()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _some(wanted: Sequence[str]) -> str:
    shown = ", ".join(name if names.DEVICE.fullmatch(name) else repr(name) for name in wanted[:5])
    return shown + (f" and {len(wanted) - 5} more" if len(wanted) > 5 else "")
