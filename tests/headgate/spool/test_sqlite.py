"""The SQLite that opens our files, and what is left when a statement or a commit fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from headgate.spool import sqlite
from headgate.spool.catalog.catalog import Catalog
from headgate.spool.errors import SpoolUnsuitable
from tests.support.paths import ROOT
from tests.support.spooling import open_spool
from tests.support.wait import kill

SCHEMA = """
    CREATE TABLE t (i INTEGER PRIMARY KEY, v BLOB);
    CREATE TABLE n (t REFERENCES t DEFERRABLE INITIALLY DEFERRED);
    """
ROW = "INSERT INTO t (v) VALUES (zeroblob(3000))"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[sqlite.Connection]:
    connection = sqlite.connect(tmp_path / "t.sqlite3", [SCHEMA], full=False)
    yield connection
    connection.close()


@pytest.mark.parametrize(
    "version, refused",
    [("3.40.1", True), ("3.51.2", True), ("3.51.3", False), ("3.54.1", False), ("4.0.0", False)],
)
def test_a_sqlite_with_the_wal_reset_bug_opens_nothing(
    version: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "VERSION", version)
    path = tmp_path / "catalog.sqlite3"
    if refused:
        with pytest.raises(SpoolUnsuitable, match=f"SQLite {version} .* needs 3.51.3 or newer"):
            Catalog(path)
        assert not path.exists()
    else:
        Catalog(path).close()


def test_the_sqlite_that_comes_with_us_is_safe() -> None:
    assert sqlite.unsafe(sqlite.VERSION) == ""


def test_a_full_disk_is_told_as_that_and_the_next_transaction_works(
    opened: sqlite.Connection,
) -> None:
    """SQLite ends the transaction by itself then; a ROLLBACK would hide why."""
    opened.execute("PRAGMA max_page_count = 10")
    with pytest.raises(sqlite.Error) as told, sqlite.transaction(opened) as db:
        db.execute("INSERT INTO t (v) VALUES (zeroblob(100000))")
    assert sqlite.is_full(told.value)
    opened.execute("PRAGMA max_page_count = 1000")
    with sqlite.transaction(opened) as db:
        db.execute("INSERT INTO t (v) VALUES (zeroblob(100000))")
        assert sqlite.changes(db) == 1
    assert opened.execute("SELECT count(*) FROM t").fetchall() == [(1,)]


def test_a_commit_that_fails_leaves_no_transaction_open(opened: sqlite.Connection) -> None:
    opened.execute("PRAGMA foreign_keys = ON")
    with pytest.raises(sqlite.Error, match="FOREIGN KEY"), sqlite.transaction(opened) as db:
        db.execute("INSERT INTO n VALUES (7)")
    with sqlite.transaction(opened) as db:
        db.execute("INSERT INTO t (v) VALUES (x'00')")
    assert opened.execute("SELECT count(*) FROM n").fetchone() == (0,)
    assert opened.execute("SELECT count(*) FROM t").fetchone() == (1,)


def test_an_error_of_the_caller_undoes_all_of_it(opened: sqlite.Connection) -> None:
    with pytest.raises(KeyError), sqlite.transaction(opened) as db:
        db.execute("INSERT INTO t (v) VALUES (x'00')")
        raise KeyError
    assert opened.execute("SELECT count(*) FROM t").fetchall() == [(0,)]


# -- checkpoints

INSIDE = """
import sys
from headgate.spool import sqlite
db = sqlite.raw(sys.argv[1])
db.execute("BEGIN IMMEDIATE")
db.execute("INSERT INTO t (v) VALUES (zeroblob(3000))")
print("inside", flush=True)
sys.stdin.readline()
db.execute("COMMIT")
"""


@pytest.fixture
def committing(opened: sqlite.Connection) -> Iterator[subprocess.Popen[str]]:
    """Another program in the middle of a transaction, until it reads a line."""
    with subprocess.Popen(
        [sys.executable, "-c", INSIDE, opened.filename],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as program:  # fmt: skip
        assert program.stdout is not None and program.stdout.readline() == "inside\n"
        yield program
        program.kill()


def log_of(connection: sqlite.Connection) -> Path:
    return Path(connection.filename + "-wal")


def test_no_checkpoint_runs_while_another_program_is_inside_a_transaction(
    opened: sqlite.Connection, committing: subprocess.Popen[str]
) -> None:
    before = Path(opened.filename).read_bytes()
    assert not sqlite.checkpoint(opened)
    assert Path(opened.filename).read_bytes() == before
    committing.communicate("go on\n", timeout=60)
    assert committing.returncode == 0
    assert sqlite.checkpoint(opened)
    assert Path(opened.filename).read_bytes() != before
    assert opened.execute("SELECT count(*) FROM t").fetchone() == (1,)


def test_a_program_killed_inside_a_transaction_stops_no_checkpoint(
    opened: sqlite.Connection, committing: subprocess.Popen[str]
) -> None:
    kill(committing)
    assert sqlite.checkpoint(opened)
    assert opened.execute("SELECT count(*) FROM t").fetchone() == (0,)


class Watched:
    """The connection that makes checkpoints, with a look at what others can do meanwhile."""

    def __init__(
        self, real: apsw.Connection, meanwhile: Any, mode: int = apsw.SQLITE_CHECKPOINT_PASSIVE
    ) -> None:
        self._real = real
        self._meanwhile = meanwhile
        self._mode = mode

    def wal_checkpoint(self, mode: int) -> tuple[int, int]:
        if mode == self._mode:
            self._meanwhile()
        return self._real.wal_checkpoint(mode=mode)

    def close(self) -> None:
        self._real.close()


COMMIT = """
import sys
from headgate.spool import sqlite
db = sqlite.raw(sys.argv[1])
db.set_busy_timeout(0)
try:
    with sqlite.transaction(db):
        db.execute("INSERT INTO t (v) VALUES (zeroblob(3000))")
except sqlite.Error as error:
    print(type(error).__name__)
"""


def test_no_program_commits_while_a_checkpoint_runs(
    opened: sqlite.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []

    def another_commits() -> None:
        command = [sys.executable, "-c", COMMIT, opened.filename]
        said.append(subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout)

    with sqlite.transaction(opened) as db:
        db.execute(ROW)
    watched = Watched(opened.copier(), another_commits)
    monkeypatch.setattr(opened, "copier", lambda: watched)
    assert sqlite.checkpoint(opened)
    assert said == ["BusyError\n"]
    another_commits()
    assert said == ["BusyError\n", ""]


def test_a_checkpoint_copies_all_so_that_the_log_begins_again(opened: sqlite.Connection) -> None:
    sizes = set()
    for _ in range(5):
        for _ in range(50):
            with sqlite.transaction(opened) as db:
                db.execute(ROW)
        assert sqlite.checkpoint(opened)
        sizes.add(log_of(opened).stat().st_size // 100_000)
    assert len(sizes) == 1  # it is written from its begin each time


def test_a_log_that_a_reader_made_grow_is_cut_when_the_reader_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LOG_BYTES", 100_000)
    path = tmp_path / "t.sqlite3"
    writer = sqlite.connect(path, ["CREATE TABLE t (v BLOB)"], full=False)
    reader = sqlite.raw(path)
    with sqlite.transaction(writer) as db:
        db.execute(ROW)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM t").fetchall()
    for _ in range(200):
        with sqlite.transaction(writer) as db:
            db.execute(ROW)
    assert not sqlite.checkpoint(writer)
    assert log_of(writer).stat().st_size > 400_000
    reader.execute("ROLLBACK")
    assert sqlite.checkpoint(writer)
    with sqlite.transaction(writer) as db:
        db.execute(ROW)
    assert log_of(writer).stat().st_size <= 100_000
    reader.close()
    writer.close()


def test_a_checkpoint_that_is_not_worth_it_is_left(opened: sqlite.Connection) -> None:
    sqlite.checkpoint(opened)
    with sqlite.transaction(opened) as db:
        db.execute(ROW)
    before = Path(opened.filename).read_bytes()
    assert not sqlite.checkpoint(opened, least=50)
    assert Path(opened.filename).read_bytes() == before
    assert sqlite.checkpoint(opened)
    assert sqlite.checkpoint(opened, least=50)  # all of it is there


@pytest.mark.parametrize("why", [apsw.FullError, apsw.BusyError])
@pytest.mark.parametrize("mode", [apsw.SQLITE_CHECKPOINT_NOOP, apsw.SQLITE_CHECKPOINT_PASSIVE])
def test_a_checkpoint_that_cannot_be_made_is_left_for_another_time(
    opened: sqlite.Connection, monkeypatch: pytest.MonkeyPatch, why: type[Exception], mode: int
) -> None:
    """The disk is full, or another program makes one: asking what there is to do fails as well."""

    def fails() -> None:
        raise why

    with sqlite.transaction(opened) as db:
        db.execute(ROW)
    watched = Watched(opened.copier(), fails, mode)
    monkeypatch.setattr(opened, "copier", lambda: watched)
    assert not sqlite.checkpoint(opened)
    with sqlite.transaction(opened) as db:  # no transaction was left open
        db.execute(ROW)
    monkeypatch.undo()
    assert sqlite.checkpoint(opened)


@pytest.mark.parametrize("name", ["catalog.sqlite3", "site.sqlite3"])
@pytest.mark.parametrize("leads_to", ["text", "empty", "database", "nowhere", "folder", "pipe"])
def test_a_link_in_the_state_folder_changes_nothing_where_it_leads(
    tmp_path: Path, name: str, leads_to: str
) -> None:
    """The receiver's user may write to the folder; the uploader's has files of its own."""
    spool = open_spool(tmp_path)
    state = spool.files.state
    spool.close()
    private = tmp_path / "private"
    private.mkdir()
    target = private / leads_to
    match leads_to:
        case "text" | "empty":
            target.write_text("a secret" * (leads_to == "text"))
        case "database":
            shutil.copy(state / name, target)
        case "folder":
            target.mkdir()
        case "pipe":
            os.mkfifo(target)
    if target.exists():
        target.chmod(0o600)
    seen = [(path.name, path.stat().st_mode) for path in private.iterdir()]
    data = target.read_bytes() if target.is_file() else None
    for end in ("", "-wal", "-shm"):
        (state / f"{name}{end}").unlink(missing_ok=True)
    (state / name).symlink_to(target)
    with pytest.raises(SpoolUnsuitable, match=f"{name} is no file of Headgate's but a link"):
        open_spool(tmp_path)
    assert [(path.name, path.stat().st_mode) for path in private.iterdir()] == seen
    assert data is None or target.read_bytes() == data
    with pytest.raises(sqlite.Error):
        sqlite.raw(state / name, read_only=True).execute("PRAGMA user_version").fetchone()


def test_a_file_of_two_names_keeps_its_mode(tmp_path: Path) -> None:
    private, shared = tmp_path / "private", tmp_path / "shared.sqlite3"
    private.touch(mode=0o600)
    os.link(private, shared)
    sqlite.connect(shared, [], full=False).close()
    assert private.stat().st_mode & 0o777 == 0o600


def test_a_file_that_lost_its_mode_is_the_groups_again(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite3"
    path.touch(mode=0o600)
    sqlite.connect(path, [], full=False).close()
    assert path.stat().st_mode & 0o777 == 0o660


def test_a_spool_may_lie_beyond_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "here").symlink_to(tmp_path / "disk")
    open_spool(tmp_path / "here").close()
