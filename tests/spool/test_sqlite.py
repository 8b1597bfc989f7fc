"""The SQLite that opens our files, and what is left when a statement or a commit fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spool import sqlite
from spool.catalog import Catalog
from spool.errors import SpoolUnfit


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[sqlite.Connection]:
    schema = (
        "CREATE TABLE t (i INTEGER PRIMARY KEY, v BLOB); "
        "CREATE TABLE n (t REFERENCES t DEFERRABLE INITIALLY DEFERRED)"
    )
    connection = sqlite.connect(tmp_path / "t.sqlite3", [schema], full=False)
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
        with pytest.raises(SpoolUnfit, match=f"SQLite {version} .* needs 3.51.3 or newer"):
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
