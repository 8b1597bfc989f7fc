"""What a retry does with each image: told by its result, and not by its words."""

from __future__ import annotations

from pathlib import Path

from headgate.actions.images import Answer, Result, retry
from headgate.spool.site.audit import Action, Actor
from headgate.spool.spool import RETRY
from tests.support.spooling import open_spool, put

BY = Actor("anna", "192.168.1.20")


def test_an_image_gets_the_answer_of_where_it_is(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool")
    try:
        waits = put(spool, b"one").receipt.id
        unknown = waits.replace("cam-1", "cam-9")
        assert retry(spool, BY, (waits, unknown)) == {
            waits: Answer(Result.PUT_BACK),
            unknown: Answer(Result.UNKNOWN),
        }
        with spool.hold_drain_lock("a run", 0):
            assert retry(spool, BY, (waits, unknown)) == {
                waits: Answer(Result.ASKED),
                unknown: Answer(Result.UNKNOWN),
            }
        assert [(one.word, one.image) for one in spool.site.requests()] == [(RETRY, waits)]
        lines = spool.site.audit.entries()
        assert [(one.who, one.action, one.subject) for one in lines] == [
            ("anna", Action.RETRY, waits)
        ] * 2
    finally:
        spool.close()


def test_a_reason_is_apart_from_the_result() -> None:
    assert str(Answer(Result.GONE, "the disk lost it")) == (
        "there is no file of it any more: the disk lost it"
    )
