"""What ``headgate retry`` does with each image: told by its result, and not by its words."""

from __future__ import annotations

from pathlib import Path

from headgate.spool.spool import RETRY
from tests.support.spooling import open_spool, put
from uploader.cli.commands.retry import Answer, Result, _retry


def test_an_image_gets_the_answer_of_where_it_is(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool")
    try:
        waits = put(spool, b"one").receipt.id
        unknown = waits.replace("cam-1", "cam-9")
        assert _retry(spool, (waits, unknown)) == {
            waits: Answer(Result.PUT_BACK),
            unknown: Answer(Result.UNKNOWN),
        }
        with spool.hold_drain_lock("a run", 0):
            assert _retry(spool, (waits, unknown)) == {
                waits: Answer(Result.ASKED),
                unknown: Answer(Result.UNKNOWN),
            }
        assert [(one.word, one.image) for one in spool.site.requests()] == [(RETRY, waits)]
    finally:
        spool.close()


def test_a_reason_is_apart_from_the_result() -> None:
    assert str(Answer(Result.GONE, "the disk lost it")) == (
        "there is no file of it any more: the disk lost it"
    )
