"""The audit log: its lines are added, read in pages, and only age removes them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from headgate.actions import uplink
from headgate.spool import sqlite
from headgate.spool.budget.limit import LIMIT
from headgate.spool.site.audit import DETAIL_MAX, Action, Actor, Audit
from headgate.spool.spool import Spool
from headgate.spool.upkeep.mover import Mover
from tests.support.spooling import Clock, open_spool

ANNA, BEN = Actor("anna", "192.168.1.20"), Actor("ben", "terminal")


@pytest.fixture
def spool(tmp_path: Path, clock: Clock) -> Iterator[Spool]:
    opened = open_spool(tmp_path, clock)
    yield opened
    opened.close()


def test_lines_come_newest_first_in_pages_and_by_person_and_time(
    spool: Spool, clock: Clock
) -> None:
    audit, start = spool.site.audit, spool.now()
    for hour in range(5):
        by = BEN if hour == 3 else ANNA
        audit.record(by, Action.DEVICE_ADD, start + timedelta(hours=hour), f"cam-{hour}", "x" * 999)
    page = audit.entries(limit=2)
    assert [entry.subject for entry in page] == ["cam-4", "cam-3"]
    assert all(len(entry.detail) == DETAIL_MAX for entry in page)
    rest = audit.entries(cursor=page[-1].number)
    assert [entry.subject for entry in rest] == ["cam-2", "cam-1", "cam-0"]
    assert [entry.address for entry in audit.entries(who="ben")] == ["terminal"]
    some = audit.entries(since=start + timedelta(hours=1), until=start + timedelta(hours=3))
    assert [entry.subject for entry in some] == ["cam-2", "cam-1"]


def test_no_line_can_be_changed(spool: Spool) -> None:
    spool.site.audit.record(ANNA, Action.PAUSE, spool.now())
    with sqlite.raw(spool.files.state / "site.sqlite3") as other:
        with pytest.raises(sqlite.Error, match="never changed"):
            other.execute("UPDATE audit SET who = 'ben'")
    assert spool.site.audit.entries()[0].who == "anna"


def test_a_change_and_its_line_are_one_commit(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no room for the line")

    monkeypatch.setattr(Audit, "record", full)
    with pytest.raises(OSError, match="no room"):
        uplink.pause(spool, ANNA)
    monkeypatch.undo()
    assert spool.site.get(LIMIT) is None and not spool.uplink.cap().is_pause
    uplink.pause(spool, ANNA)
    assert [entry.action for entry in spool.site.audit.entries()] == [Action.PAUSE]


def test_lines_go_when_they_are_older_than_they_are_kept(tmp_path: Path, clock: Clock) -> None:
    spool = open_spool(tmp_path, clock, auth__keep_audit="10d")
    try:
        spool.site.audit.record(ANNA, Action.PAUSE, spool.now() - timedelta(days=11))
        spool.site.audit.record(ANNA, Action.RESUME, spool.now() - timedelta(days=9))
        with spool.hold_drain_lock("a test", 0) as lock:
            Mover(spool, lock).drop_old_receipts(spool.now())
        assert [entry.action for entry in spool.site.audit.entries()] == [Action.RESUME]
    finally:
        spool.close()
