"""People: users and their roles, who is logged in, log-in attempts, and tokens of programs that
scrape; in ``state/site.sqlite3``. Commits are FULL.

A password is stored as its hash alone (``headgate.host.passwords``). A session is a random number;
its SHA-256 is stored, and the browser has the number in a signed cookie. So a log-out, a new
password, a new role or a removal ends sessions with their commit, in every process that serves.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from headgate.spool import sqlite
from headgate.spool.sqlite import instant, stamp

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
SCRAPE_PREFIX = "hgs_"
_TOKEN_BYTES = 32
ATTEMPTS = 10
"""Log-ins that may fail in a row, by one address or for one user."""
ATTEMPT_SECONDS = 30
"""After so long one more may be tried."""

TABLES = """
    CREATE TABLE users (
        name TEXT PRIMARY KEY,
        role TEXT NOT NULL,
        password TEXT NOT NULL,
        added_at INTEGER NOT NULL,
        seen_at INTEGER
    ) STRICT;
    CREATE TABLE sessions (
        digest BLOB PRIMARY KEY,
        user TEXT NOT NULL REFERENCES users (name),
        began_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX sessions_by_user ON sessions (user);
    CREATE TABLE login_attempts (
        key TEXT PRIMARY KEY,
        level REAL NOT NULL,
        at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE scrape_tokens (
        name TEXT PRIMARY KEY,
        digest BLOB NOT NULL UNIQUE,
        added_at INTEGER NOT NULL
    ) STRICT;
    """


class Role(StrEnum):
    """What a person may do; each may do what the ones before it may."""

    VIEWER = "viewer"  # see
    OPERATOR = "operator"  # retry, pause, resume, limit, silence, discard
    ADMIN = "admin"  # enrol devices and revoke their tokens

    def may(self, needed: Role) -> bool:
        """Whether this role is enough for what needs that one."""
        roles = list(Role)
        return roles.index(self) >= roles.index(needed)


@dataclass(frozen=True, slots=True)
class User:
    """A person who may log in."""

    name: str
    role: Role
    added_at: datetime
    seen_at: datetime | None  # the last log-in
    password: str = field(repr=False, default="")  # its hash


class UserTrouble(Exception):
    """What was asked for cannot be done; the sentence says why. Nothing was changed. ``missing``:
    there is no user, or no token, of that name."""

    def __init__(self, sentence: str, *, missing: bool = False) -> None:
        super().__init__(sentence)
        self.missing = missing


class Users:
    """Belongs to ``Site``, whose connection and lock it shares."""

    def __init__(self, db: sqlite.Connection, lock: threading.RLock) -> None:
        self._db = db
        self._lock = lock

    # -- users

    def get(self, name: str) -> User | None:
        """The user of this name; None if there is none."""
        found = self._users("WHERE name = ?", (name,))
        return found[0] if found else None

    def all(self) -> list[User]:
        """Every user, by name."""
        return self._users("ORDER BY name", ())

    def any(self) -> bool:
        """Whether there is a user."""
        with self._lock:
            return self._db.execute("SELECT 1 FROM users LIMIT 1").fetchone() is not None

    def _users(self, where: str, values: Sequence[object]) -> list[User]:
        with self._lock:
            rows = self._db.execute(
                f"SELECT name, role, added_at, seen_at, password FROM users {where}", values
            ).fetchall()
        return [
            User(name, Role(role), instant(added), None if seen is None else instant(seen), hashed)
            for name, role, added, seen, hashed in rows
        ]

    def add(self, name: str, role: Role, password: str, now: datetime) -> None:
        """A new user, with the hash of a password; UserTrouble if there is one of that name."""
        if not NAME.fullmatch(name):
            raise UserTrouble(
                f"{name!r}: a user is called by 1 to 64 letters, digits and . _ @ + -, the first a "
                "letter or digit"
            )
        with self._lock, sqlite.transaction(self._db) as db:
            if self.get(name) is not None:
                raise UserTrouble(
                    f"{name} is a user already; headgate user password and headgate user role "
                    "change one"
                )
            db.execute(
                "INSERT INTO users (name, role, password, added_at) VALUES (?, ?, ?, ?)",
                (name, role, password, stamp(now)),
            )

    def change(self, name: str, *, role: Role | None = None, password: str | None = None) -> None:
        """Set a user's role, or password hash. Ends the user's sessions."""
        with self._lock, sqlite.transaction(self._db) as db:
            self._require(name)
            db.execute(
                "UPDATE users SET role = coalesce(?2, role), password = coalesce(?3, password) "
                "WHERE name = ?1",
                (name, role, password),
            )
            db.execute("DELETE FROM sessions WHERE user = ?", (name,))

    def remove(self, name: str) -> None:
        """Remove a user, who from the commit on cannot log in, and is logged in nowhere."""
        with self._lock, sqlite.transaction(self._db) as db:
            self._require(name)
            db.execute("DELETE FROM sessions WHERE user = ?", (name,))
            db.execute("DELETE FROM users WHERE name = ?", (name,))

    def _require(self, name: str) -> None:
        if self.get(name) is None:
            raise UserTrouble(
                f"there is no user {name}; headgate user list shows all", missing=True
            )

    # -- sessions

    def begin_session(self, user: User, now: datetime, longest: timedelta) -> str | None:
        """Log a user in; the session's secret number. None if the user was changed or removed since
        ``user`` was read, so that a log-in cannot outrun a new password."""
        secret = secrets.token_urlsafe(_TOKEN_BYTES)
        with self._lock, sqlite.transaction(self._db) as db:
            held = self.get(user.name)
            if held is None or (held.password, held.role) != (user.password, user.role):
                return None
            db.execute("DELETE FROM sessions WHERE began_at < ?", (stamp(now - longest),))
            db.execute(
                "INSERT INTO sessions (digest, user, began_at) VALUES (?, ?, ?)",
                (_digest(secret), user.name, stamp(now)),
            )
            db.execute("UPDATE users SET seen_at = ? WHERE name = ?", (stamp(now), user.name))
        return secret

    def of_session(self, secret: str, now: datetime, longest: timedelta) -> User | None:
        """Who is logged in by it; None once it has ended."""
        oldest = stamp(now - longest)
        where = "JOIN sessions ON user = name WHERE digest = ? AND began_at BETWEEN ? AND ?"
        found = self._users(where, (_digest(secret), oldest, stamp(now + timedelta(minutes=5))))
        return found[0] if found else None

    def end_session(self, secret: str) -> None:
        """End a session: log out."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute("DELETE FROM sessions WHERE digest = ?", (_digest(secret),))

    # -- attempts: a leaky bucket for each address and each name that was tried

    def attempt(self, keys: Sequence[str], now: datetime) -> int:
        """Count an attempt to log in. Seconds to wait, if there were too many; then it is not
        counted, and 0 otherwise."""
        with self._lock:
            if wait := self._wait(keys, now):  # what is refused costs no commit
                return wait
            with sqlite.transaction(self._db) as db:
                if wait := self._wait(keys, now):
                    return wait
                for key in keys:
                    db.execute(
                        "INSERT OR REPLACE INTO login_attempts (key, level, at) VALUES (?, ?, ?)",
                        (_key(key), self._level(key, now) + 1, stamp(now)),
                    )
                emptied = now - timedelta(seconds=ATTEMPTS * ATTEMPT_SECONDS)
                db.execute("DELETE FROM login_attempts WHERE at < ?", (stamp(emptied),))
        return 0

    def forget_attempts(self, keys: Sequence[str]) -> None:
        """Forget failed attempts, after one has succeeded."""
        with self._lock, sqlite.transaction(self._db) as db:
            for key in keys:
                db.execute("DELETE FROM login_attempts WHERE key = ?", (_key(key),))

    def _wait(self, keys: Sequence[str], now: datetime) -> int:
        above = max(self._level(key, now) for key in keys) - (ATTEMPTS - 1)
        return math.ceil(above * ATTEMPT_SECONDS) if above > 0 else 0

    def _level(self, key: str, now: datetime) -> float:
        row = self._db.execute(
            "SELECT level, at FROM login_attempts WHERE key = ?", (_key(key),)
        ).fetchone()
        if row is None:
            return 0.0
        passed = max(0.0, (now - instant(row[1])).total_seconds())
        return max(0.0, float(row[0]) - passed / ATTEMPT_SECONDS)

    # -- tokens of programs that scrape /metrics

    def add_scrape_token(self, name: str, now: datetime) -> str:
        """A new token, readable only now."""
        if not NAME.fullmatch(name):
            raise UserTrouble(f"{name!r}: a token is called by letters, digits and . _ @ + -")
        secret = SCRAPE_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)
        with self._lock, sqlite.transaction(self._db) as db:
            if db.execute("SELECT 1 FROM scrape_tokens WHERE name = ?", (name,)).fetchone():
                raise UserTrouble(f"there is a token {name} already; remove it, or name another")
            db.execute(
                "INSERT INTO scrape_tokens (name, digest, added_at) VALUES (?, ?, ?)",
                (name, _digest(secret), stamp(now)),
            )
        return secret

    def remove_scrape_token(self, name: str) -> None:
        """Remove a token for /metrics, which opens nothing from the commit on."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute("DELETE FROM scrape_tokens WHERE name = ?", (name,))
            if not sqlite.changes(db):
                raise UserTrouble(
                    f"there is no token {name}; headgate token list shows them", missing=True
                )

    def scrape_tokens(self) -> list[tuple[str, datetime]]:
        """The name of each, and since when there is one."""
        with self._lock:
            rows = self._db.execute("SELECT name, added_at FROM scrape_tokens ORDER BY name")
            return [(name, instant(at)) for name, at in rows.fetchall()]

    def may_scrape(self, secret: str) -> bool:
        """Whether this is such a token."""
        with self._lock:
            row = self._db.execute(
                "SELECT 1 FROM scrape_tokens WHERE digest = ?", (_digest(secret),)
            ).fetchone()
        return row is not None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _key(key: str) -> str:
    # Hashed: people type passwords where their name belongs, and this is kept for a while.
    return _digest(key).hex()
