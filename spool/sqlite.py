"""Opening SQLite files the one way that all of ours are opened."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from spool.errors import SpoolUnfit

Connection = sqlite3.Connection
Error = sqlite3.Error
"""Everything that a database can raise: a full disk, a lock that was not given, damage."""
Damaged = sqlite3.DatabaseError
"""Raised where the file itself is damaged."""
BUSY_SECONDS = 10.0


def connect(
    path: Path, migrations: Sequence[str], *, full: bool, read_only: bool = False
) -> Connection:
    """A connection in WAL mode with its schema up to date.

    ``migrations[n]`` takes schema ``n`` to ``n + 1``; ``PRAGMA user_version`` counts them. With
    ``full`` every commit is flushed. Transactions are explicit. Checkpoints are the caller's: an
    automatic one inside a request made the slowest answers 75 times slower. SpoolUnfit when the
    file was made by a newer Headgate; Damaged when it is that.
    """
    if read_only:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
    else:
        connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
    try:
        if not read_only:
            with contextlib.suppress(PermissionError):  # made by the other user of the spool
                path.chmod(0o660)  # SQLite gives -wal and -shm the mode of the database
            _write_ahead(connection)
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
            _migrate(connection, path, migrations)
        else:
            _version(connection, path, migrations)
    except BaseException:
        connection.close()
        raise
    return connection


class Pair:
    """One connection that writes and one that reads a file, each under its lock."""

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        self.writer = connect(path, migrations, full=False)
        self.reader = connect(path, migrations, full=False, read_only=True)
        self.write = threading.Lock()
        self.read = threading.Lock()

    def close(self) -> None:
        with self.write, self.read:
            self.writer.close()
            self.reader.close()


def _write_ahead(connection: Connection) -> None:
    """Set WAL mode. SQLite does not wait for others who do that at the same time, so this does."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _version(connection: Connection, path: Path, migrations: Sequence[str]) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(migrations):
        raise SpoolUnfit(
            f"{path.name} was made by a newer Headgate (schema {version}, this one knows "
            f"{len(migrations)}); upgrade this installation"
        )
    return version


def _migrate(connection: Connection, path: Path, migrations: Sequence[str]) -> None:
    if _version(connection, path, migrations) == len(migrations):
        return
    with transaction(connection):
        # Read again under the lock: another program may have come first.
        for number in range(_version(connection, path, migrations), len(migrations)):
            for statement in _statements(migrations[number]):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script (executescript() would commit the transaction around it)."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def stamp(at: datetime) -> int:
    """An instant as our tables keep it: microseconds since 1970."""
    return int(at.timestamp() * 1_000_000)


def instant(stamp: int) -> datetime:
    """The inverse of ``stamp``: aware, in UTC."""
    return datetime.fromtimestamp(stamp / 1_000_000, UTC)


@contextlib.contextmanager
def transaction(connection: Connection) -> Iterator[Connection]:
    """All or nothing; takes the write lock at once, so that it can only fail at the start."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def changes(connection: Connection) -> int:
    """How many rows the last INSERT, UPDATE or DELETE changed; what triggers did is not counted."""
    return int(connection.execute("SELECT changes()").fetchone()[0])


def is_full(error: Error) -> bool:
    """Whether a statement failed because the disk, or a quota on it, is full."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def damage(path: Path) -> str:
    """What SQLite's own check says is wrong with a file; empty if nothing."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except Damaged as error:
        return str(error)
    return "" if found == "ok" else found


def checkpoint(connection: Connection) -> None:
    """Move the WAL into the database as far as readers let it; never waits."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
