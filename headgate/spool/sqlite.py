"""Opening SQLite files the one way that all of ours are opened.

The library comes with us (``apsw`` carries it): SQLite 3.7.0 to 3.51.2, which is what most systems
have, can lose commits of a database in WAL mode. A checkpoint that starts while a commit begins the
log again then takes the new log for one that it has copied (https://sqlite.org/wal.html, "the WAL
reset bug").
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import apsw

from headgate.host import job_control
from headgate.spool.disk import durable
from headgate.spool.disk.write_queue import WriteQueue
from headgate.spool.errors import SpoolUnsuitable

Error = apsw.Error
"""Everything that a database can raise: a full disk, a lock that was not given, damage."""
Damaged = (apsw.CorruptError, apsw.NotADBError)
"""Raised where the file itself is damaged."""
OLDEST = (3, 51, 3)
"""The first SQLite without the WAL reset bug."""
VERSION = apsw.sqlite_lib_version()
"""Of the SQLite that opens our files."""
BUSY_SECONDS = 10.0
POLITE_SECONDS = 0.2
"""How long a checkpoint waits for another program's commit; then it is left for the next time."""
LOG_BYTES = 16 * 1024 * 1024
"""What a log that had to grow is cut to once all of it is in the database."""
MANY_PAGES = 1000
"""In the log, from which on a program that is not the receiver makes a checkpoint as well."""
_MODE = 0o660


class Rows(Protocol):
    """The rows that a statement finds. Use it up on the spot: while rows are left, its snapshot
    stays."""

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Connection(apsw.Connection):
    """A connection to one file. It never begins a transaction by itself."""

    _copier: apsw.Connection | None = None

    def copier(self) -> apsw.Connection:
        """A second connection to the same file, for checkpoints: none runs inside a transaction."""
        if self._copier is None:
            copier = apsw.Connection(self.filename, flags=apsw.SQLITE_OPEN_READWRITE)
            copier.set_busy_timeout(int(POLITE_SECONDS * 1000))
            copier.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # opens the log
            self._copier = copier
        return self._copier

    def close(self, force: bool = False) -> None:
        if self._copier is not None:
            self._copier.close()
        super().close(force)

    if TYPE_CHECKING:  # the same, where a row is Any: the tables are STRICT

        def execute(self, statements: str, bindings: Sequence[object] = ()) -> Rows: ...  # type: ignore[override]


def unsafe(version: str) -> str:
    """Why this SQLite may not open a database in WAL mode; empty if it may."""
    if tuple(int(number) for number in version.split(".")) >= OLDEST:
        return ""
    return (
        f"SQLite {version} can lose images' rows and devices' tokens (the WAL reset bug); Headgate "
        f"needs {'.'.join(map(str, OLDEST))} or newer, which comes with the package apsw: install "
        "Headgate's own requirements.lock instead of this system's apsw"
    )


def connect(
    path: Path, migrations: Sequence[str], *, full: bool, read_only: bool = False
) -> Connection:
    """A connection in WAL mode with its schema up to date.

    ``migrations[n]`` takes schema ``n`` to ``n + 1``; ``PRAGMA user_version`` counts them. With
    ``full`` every commit is flushed. Transactions are explicit. Checkpoints are the caller's: an
    automatic one inside a request made the slowest answers 75 times slower. SpoolUnsuitable when
    the file was made by a newer Headgate, or this SQLite is too old; Damaged when it is that.
    """
    if refused := unsafe(VERSION):
        raise SpoolUnsuitable(refused)
    if not read_only:
        _share(path)
    connection = raw(path, read_only=read_only)
    try:
        if not read_only:
            _write_ahead(connection)
            connection.wal_autocheckpoint(0)
            connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
            connection.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
            if full:  # what is purged from the only copy of a record is not left in free pages
                connection.execute("PRAGMA secure_delete = ON").fetchall()
            _migrate(connection, path, migrations)
        else:
            _version(connection, path, migrations)
    except BaseException:
        connection.close()
        raise
    return connection


def _share(path: Path) -> None:
    """Make the file, or see to it that the other user of the spool may write it: SQLite gives -wal
    and -shm the mode of the database.

    By descriptor: another user may write to the folder, and could put a link there that leads to a
    file of ours. SpoolUnsuitable where it is no plain file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, _MODE)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _foreign(path) from None
        return  # SQLite says what is wrong with it
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            raise _foreign(path)
        # A second name of it may be where others were never meant to read it.
        if stat.S_IMODE(seen.st_mode) != _MODE and seen.st_nlink == 1:
            with contextlib.suppress(PermissionError):  # made by the other user of the spool
                os.fchmod(fd, _MODE)
    finally:
        os.close(fd)


def _foreign(path: Path) -> SpoolUnsuitable:
    return SpoolUnsuitable(
        f"{path} is no file of Headgate's but a link, a folder or a device: see who put it there, "
        "remove it, and run headgate verify --repair"
    )


def raw(path: Path | str, *, read_only: bool = False) -> Connection:
    """A connection to a file as it is, whatever is in it: to look at damage, to copy, to test."""
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    if read_only:
        flags = apsw.SQLITE_OPEN_READONLY
    whole = str(path)
    if isinstance(path, Path):  # with NOFOLLOW no part of the path may be a link
        whole, flags = f"{path.parent.resolve()}/{path.name}", flags | apsw.SQLITE_OPEN_NOFOLLOW
    connection = Connection(whole, flags=flags)
    connection.set_busy_timeout(int(BUSY_SECONDS * 1000))
    return connection


def unlocked(path: str) -> Connection:
    """A connection that only reads, takes no lock and looks at no log: what it says holds if no
    program wrote to the file from before it was opened until after the last read. No part of the
    path may be a link."""
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_NOFOLLOW
    return Connection(f"file:{quote(path)}?immutable=1", flags=flags)


class Pair:
    """One connection that writes and one that reads a file, each under its lock."""

    def __init__(
        self,
        path: Path,
        migrations: Sequence[str],
        waiting: AbstractContextManager[None] | None = None,
    ) -> None:
        """Open both. All that write to the file, threads and programs, queue for it; ``waiting``
        as ``WriteQueue`` has it."""
        self.writer = connect(path, migrations, full=False)
        self.reader = connect(path, migrations, full=False, read_only=True)
        self.write = WriteQueue(path.with_suffix(".queue"), waiting)
        self.read = threading.Lock()

    def close(self) -> None:
        with self.write, self.read:
            self.reader.close()
            self.writer.close()  # last: who only reads leaves the log where it is
        self.write.close()


def _write_ahead(connection: Connection) -> None:
    """Set WAL mode. SQLite does not wait for others who do that at the same time, so this does."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except apsw.BusyError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def schema_of(connection: Connection) -> int:
    """The version of the schema of a file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _version(connection: Connection, path: Path, migrations: Sequence[str]) -> int:
    version = schema_of(connection)
    if version > len(migrations):
        raise SpoolUnsuitable(
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
            connection.execute(migrations[number]).fetchall()  # all of its statements
            connection.execute(f"PRAGMA user_version = {number + 1}")


def stamp(at: datetime) -> int:
    """An instant as our tables keep it: microseconds since 1970."""
    return int(at.timestamp() * 1_000_000)


def instant(stamp: int) -> datetime:
    """The inverse of ``stamp``: aware, in UTC."""
    return datetime.fromtimestamp(stamp / 1_000_000, UTC)


@contextlib.contextmanager
def transaction(connection: Connection) -> Iterator[Connection]:
    """A transaction, all or nothing; takes the write lock at once, so that it rarely fails later.

    Inside another transaction it is a part of that one (a savepoint), and is committed with it.

    Whatever fails, no transaction is left open, and the first error is the one that is raised: a
    full disk ends the transaction by itself, and a ROLLBACK after that would be an error of its
    own. A COMMIT that fails leaves it open.
    """
    if connection.in_transaction:
        begin, end, undo = "SAVEPOINT part", "RELEASE part", "ROLLBACK TO part; RELEASE part"
    else:
        begin, end, undo = "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK"
    job_control.enter_transaction()
    try:
        connection.execute(begin)
        try:
            yield connection
            connection.execute(end)
        except BaseException:
            if connection.in_transaction:
                connection.execute(undo).fetchall()
            raise
    finally:
        job_control.leave_transaction()


def changes(connection: Connection) -> int:
    """How many rows the last INSERT, UPDATE or DELETE changed; what triggers did is not counted."""
    return connection.changes()


def newest_first(
    connection: Connection, select: str, tests: Mapping[str, object | None], limit: int
) -> list[tuple[Any, ...]]:
    """Rows of a log that pass all ``tests``, by ``number``, the highest first. A test is a
    condition with one ``?``, and its value; None: that was not asked."""
    given = {test: value for test, value in tests.items() if value is not None}
    where = f"WHERE {' AND '.join(given)} " if given else ""
    return connection.execute(
        f"{select} {where}ORDER BY number DESC LIMIT ?", (*given.values(), limit)
    ).fetchall()


def is_full(error: Error) -> bool:
    """Whether a statement failed because the disk, or a quota on it, is full."""
    return isinstance(error, apsw.FullError)


def damage(path: Path) -> str:
    """What SQLite's own check says is wrong with a file; empty if nothing."""
    try:
        with contextlib.closing(raw(path)) as connection:
            return damage_in(connection)
    except Damaged as error:
        return str(error)


def damage_in(connection: Connection) -> str:
    """What SQLite's own check says is wrong with a file that is open; empty if nothing. Each index
    is compared with its table, which quick_check leaves out: an index that lost rows is what the
    WAL reset bug leaves behind."""
    try:
        found = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except Damaged as error:
        return str(error)
    return "" if found == "ok" else found


@dataclass(frozen=True, slots=True)
class Repaired:
    """What became of a damaged file: what is ``left`` wrong with it, and how many rows are ``lost``
    for good: an index named them, and the table has them no more."""

    left: str
    lost: int = 0


def repair(path: Path, kept: Path | None = None) -> Repaired:
    """Make the indexes of a damaged file again from its tables.

    The file as it was is copied to ``kept`` first, because the names of rows that only an index has
    go with it. If the file cannot be repaired, it stays as it is, and there is no copy.
    """
    try:
        with contextlib.closing(raw(path)) as connection:
            lost = _only_in_an_index(connection)
            if kept is not None:
                _copy(connection, kept)
            with transaction(connection):
                connection.execute("REINDEX")
            left = damage_in(connection)
    except (*Damaged, apsw.ConstraintError) as error:  # the same id twice: its index had lost one
        left = str(error)
    if left and kept is not None:
        kept.unlink(missing_ok=True)
    return Repaired(left) if left else Repaired("", lost)


def _copy(connection: Connection, to: Path) -> None:
    """Page by page, damaged or not; complete, or not there under this name."""
    half = to.with_name(f"{to.name}.part")
    half.unlink(missing_ok=True)
    with contextlib.closing(raw(half)) as target:
        with target.backup("main", connection, "main") as copying:
            copying.step(-1)
    durable.move_over(half, to)


def _only_in_an_index(connection: Connection) -> int:
    """How many rows indexes name that their tables have no more; of a table, the most of any."""
    lost = 0
    tables = (
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE '%WITHOUT ROWID%'"
    )
    for (table,) in connection.execute(tables).fetchall():
        found = connection.execute(f'SELECT count(*) FROM "{table}" NOT INDEXED').fetchone()[0]
        query = "SELECT name FROM pragma_index_list(?) WHERE NOT partial"
        for (index,) in connection.execute(query, (table,)).fetchall():
            named = f'SELECT count(*) FROM "{table}" INDEXED BY "{index}"'
            lost = max(lost, connection.execute(named).fetchone()[0] - found)
    return lost


def checkpoint(connection: Connection, least: int = 1) -> bool:
    """Move the log into the database while no program commits; False if that was not possible now.

    The caller holds the lock of the connection. It takes SQLite's own lock on writes for as long as
    the checkpoint lasts, so that no commit of any program, this one included, runs during it: the
    WAL reset bug needs both. The kernel gives that lock back when its holder dies. And a checkpoint
    without concurrent commits always copies all of the log, unless a reader still needs it, so that
    the next commit begins the log again: during a stream of commits it would grow without end.

    Left for another time where less than ``least`` pages wait, where another program writes, and
    where the disk is full: what was committed stays in the log.
    """
    connection.set_busy_timeout(int(POLITE_SECONDS * 1000))
    try:
        copier = connection.copier()
        in_log, copied = copier.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        if in_log - copied < least:
            return in_log == copied
        connection.execute("BEGIN IMMEDIATE")
        try:
            in_log, copied = copier.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        finally:
            connection.execute("ROLLBACK")
    except (apsw.BusyError, apsw.FullError):
        return False
    finally:
        connection.set_busy_timeout(int(BUSY_SECONDS * 1000))
    return in_log == copied
