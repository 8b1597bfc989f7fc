"""Enrolled devices and the hashes of their tokens, to be carried to another gateway.

A hash cannot be sent in place of its token, so a copy of these opens nothing. What HTTP Digest
needs can be, so devices that log in that way are not among them.

Of two enrolments of one device the later one counts, as a whole: tokens from before a revocation do
not come back. Of the same enrolment a revocation counts at both, a token ends at the earlier of its
two ends, and a token that is older than the newest one here is not added again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from headgate.settings.instants import read_rfc3339, rfc3339
from headgate.spool import sqlite
from headgate.spool.image import names
from headgate.spool.sqlite import instant, stamp

_SHA256 = re.compile(r"[0-9a-f]{64}")
_RIGHTS = ("urgent", "may_drain", "may_forward")


class NotEnrolments(Exception):
    """The text is not what ``encode`` wrote; a sentence."""


@dataclass(frozen=True, slots=True)
class TokenHash:
    """A token as it is stored."""

    sha256: str  # hex
    made_at: datetime
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One device. A revoked one has no tokens."""

    name: str
    added_at: datetime
    revoked_at: datetime | None
    urgent: bool = False
    may_drain: bool = False
    may_forward: bool = False
    tokens: tuple[TokenHash, ...] = ()

    def encode(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "added_at": rfc3339(self.added_at),
            "revoked_at": None if self.revoked_at is None else rfc3339(self.revoked_at),
            **{right: getattr(self, right) for right in _RIGHTS},
            "tokens": [
                {
                    "sha256": token.sha256,
                    "made_at": rfc3339(token.made_at),
                    "ends_at": None if token.ends_at is None else rfc3339(token.ends_at),
                }
                for token in self.tokens
            ],
        }

    @classmethod
    def decode(cls, found: Any) -> Enrolment:
        """The inverse. NotEnrolments."""
        try:
            name, tokens = str(found["name"]), found["tokens"]
            if not names.DEVICE.fullmatch(name):
                raise NotEnrolments(f"{name[:80]!r} is no name of a device")
            made = cls(
                name,
                _required(found["added_at"]),
                _optional(found["revoked_at"]),
                tokens=tuple(_token(token) for token in tokens),
                **{right: found[right] is True for right in _RIGHTS},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise NotEnrolments(f"a device without {error}, or it is of another kind") from error
        return made if made.revoked_at is None else replace(made, tokens=())


def _token(found: Mapping[str, Any]) -> TokenHash:
    digest = str(found["sha256"])
    if not _SHA256.fullmatch(digest):
        raise ValueError("sha256")
    return TokenHash(digest, _required(found["made_at"]), _optional(found["ends_at"]))


def _required(text: Any) -> datetime:
    if (at := read_rfc3339(text)) is None:
        raise ValueError("an instant")
    return at


def _optional(text: Any) -> datetime | None:
    return None if text is None else _required(text)


def merge(here: Enrolment | None, there: Enrolment) -> Enrolment:
    """What counts here after ``there`` was heard of."""
    if here is None or there.added_at > _last(here):
        return there
    if here.added_at > _last(there):
        return here
    revoked = [at for at in (here.revoked_at, there.revoked_at) if at is not None]
    if revoked:
        later = max(here, there, key=lambda one: one.added_at)
        return replace(later, revoked_at=max(revoked), tokens=())
    newest = max((token.made_at for token in here.tokens), default=here.added_at)
    known = {token.sha256: token for token in here.tokens}
    for token in there.tokens:
        if token.sha256 in known:
            mine = known[token.sha256]
            known[token.sha256] = replace(mine, ends_at=_earlier(mine, token))
        elif token.made_at > newest:
            known[token.sha256] = token
    return replace(here, tokens=tuple(known.values()))


def _last(one: Enrolment) -> datetime:
    return one.added_at if one.revoked_at is None else max(one.added_at, one.revoked_at)


def _earlier(one: TokenHash, other: TokenHash) -> datetime | None:
    ends = [token.ends_at for token in (one, other) if token.ends_at is not None]
    return min(ends, default=None)


class Taken(StrEnum):
    """What became of a device that was heard of."""

    ADDED = "added"
    CHANGED = "changed"
    REVOKED = "revoked"
    SAME = "unchanged"
    BY_DIGEST = "left alone"  # it logs in by Digest here


def read(db: sqlite.Connection, now: datetime) -> dict[str, Enrolment]:
    """All devices but those that log in by Digest, with the tokens that are valid now."""
    tokens: dict[str, list[TokenHash]] = {}
    held = db.execute(
        "SELECT device, digest, made_at, ends_at FROM tokens "
        "WHERE ends_at IS NULL OR ends_at > ? ORDER BY made_at, digest",
        (stamp(now),),
    )
    for device, digest, made, ends in held.fetchall():
        end = None if ends is None else instant(ends)
        tokens.setdefault(device, []).append(TokenHash(digest.hex(), instant(made), end))
    rows = db.execute(
        f"SELECT name, added_at, revoked_at, {', '.join(_RIGHTS)} FROM devices "
        "WHERE by_digest = 0 ORDER BY name"
    ).fetchall()
    return {
        name: Enrolment(
            name,
            instant(added),
            None if revoked is None else instant(revoked),
            bool(urgent),
            bool(may_drain),
            bool(may_forward),
            tuple(tokens.get(name, ())),
        )
        for name, added, revoked, urgent, may_drain, may_forward in rows
    }


def take_over(db: sqlite.Connection, heard: Iterable[Enrolment], now: datetime) -> dict[str, Taken]:
    """Let these count here, inside one transaction; what became of each."""
    here, taken = read(db, now), {}
    digests = db.execute("SELECT name FROM devices WHERE by_digest = 1").fetchall()
    by_digest = {name for (name,) in digests}
    for there in heard:
        if there.name in by_digest:
            taken[there.name] = Taken.BY_DIGEST
            continue
        before = here.get(there.name)
        after = merge(before, there)
        taken[there.name] = _became(before, after)
        if after != before:
            _write(db, after)
    return taken


def _became(before: Enrolment | None, after: Enrolment) -> Taken:
    if after == before:
        return Taken.SAME
    if after.revoked_at is not None:
        return Taken.REVOKED
    return Taken.ADDED if before is None else Taken.CHANGED


def _write(db: sqlite.Connection, one: Enrolment) -> None:
    revoked = None if one.revoked_at is None else stamp(one.revoked_at)
    db.execute(
        "INSERT INTO devices (name, added_at, revoked_at, urgent, may_drain, may_forward) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (name) DO UPDATE SET added_at = ?2, "
        "revoked_at = ?3, urgent = ?4, may_drain = ?5, may_forward = ?6",
        (one.name, stamp(one.added_at), revoked, one.urgent, one.may_drain, one.may_forward),
    )
    db.execute("DELETE FROM tokens WHERE device = ?", (one.name,))
    # A token that another name has here is that of a device that was renamed there.
    db.executemany(
        "INSERT OR REPLACE INTO tokens (digest, device, made_at, ends_at) VALUES (?, ?, ?, ?)",
        [
            (
                bytes.fromhex(token.sha256),
                one.name,
                stamp(token.made_at),
                None if token.ends_at is None else stamp(token.ends_at),
            )
            for token in one.tokens
        ],
    )
