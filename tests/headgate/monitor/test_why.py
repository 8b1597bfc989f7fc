"""Why an image waits: each cause, in the order in which a person would have to end it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headgate.actions import uplink
from headgate.monitor import why
from headgate.monitor.why import Wait
from headgate.spool.budget.uplink import Uplink
from headgate.spool.image.image import Count
from headgate.spool.site.audit import TERMINAL, Actor
from headgate.spool.site.outcome import Outcome
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool
from headgate.spool.upkeep.mover import Mover
from tests.support.spooling import Clock, open_spool, put, upload_all
from uploader.cli.main import headgate

BY = Actor("anna", TERMINAL)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = open_spool(tmp_path, Clock(), uplink__link="10kB/s", uplink__share="10%")
    yield opened
    opened.close()


def ran(spool: Spool) -> None:
    """A run of the schedule came, and confirmed something."""
    now = spool.now()
    spool.site.save_run(
        Run("r", now, trigger="cron", ended_at=now, outcome=Outcome.DONE, exit_code=0, images=1,
            attempts=1, confirmed_at=now)
    )  # fmt: skip


def wait_of(spool: Spool, image: str) -> Wait:
    found = why.of_image(spool, image)
    assert found is not None
    return found.waits_for


def test_each_cause_is_named(spool: Spool) -> None:
    image = put(spool, b"one").receipt.id
    (item,) = spool.catalog.after(0, 1)
    assert wait_of(spool, image) is Wait.SCHEDULE
    ran(spool)
    assert wait_of(spool, image) is Wait.TURN
    later = spool.now() + timedelta(minutes=10)
    spool.catalog.defer(item, later, "it failed", unknown=False)
    found = why.of_image(spool, image)
    assert found is not None and found.waits_for is Wait.NEXT_ATTEMPT
    assert (found.attempts, found.receipt.reason) == (1, "it failed")
    assert found.next_attempt_at == found.departs_at == later.replace(microsecond=0)
    uplink.pause(spool, BY)
    assert wait_of(spool, image) is Wait.RESUME
    uplink.resume(spool, BY)
    spool.catalog.hold(item, spool.now(), "no", unknown=False, refusals=1)
    assert wait_of(spool, image) is Wait.BUCKET
    spool.catalog.release()
    spool.catalog.claim([item])
    assert wait_of(spool, image) is Wait.RUN_AT_WORK
    spool.catalog.reclaim()
    with spool.hold_drain_lock("a test", 0) as lock:
        Mover(spool, lock).set_aside(item, "it cannot be sent", spool.now())
        assert wait_of(spool, image) is Wait.PERSON
        Mover(spool, lock).retry(image)
    upload_all(spool)
    assert wait_of(spool, image) is Wait.NOTHING
    assert why.of_image(spool, image.replace("cam-1", "cam-2")) is None


def test_the_day_and_the_timetable_are_causes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {"uplink__timetable": "00:00-24:00 0%", "uplink__daily": "100MB"}
    with closing(open_spool(tmp_path, Clock(), **flags)) as opened:
        image = put(opened, b"one").receipt.id
        ran(opened)
        assert wait_of(opened, image) is Wait.TIMETABLE
        daily = opened.uplink.daily()
        assert daily is not None
        spent = replace(daily, used=daily.allowance)
        monkeypatch.setattr(Uplink, "daily", lambda _uplink: spent)
        assert wait_of(opened, image) is Wait.NEXT_DAY


@pytest.mark.parametrize(
    ("order", "first", "last"), [("oldest", 0, 3), ("newest", 3, 0), ("mixed", 3, 0)]
)
def test_what_goes_before_an_image_follows_the_order(
    spool: Spool, order: str, first: int, last: int
) -> None:
    images = [put(spool, bytes([n]) * 1000).receipt.id for n in range(4)]
    items = [spool.catalog.get(image) for image in images]
    front, back = items[first], items[last]
    assert front is not None and back is not None
    ahead = spool.catalog.backlog.ahead_of
    assert ahead(front, order) == Count()
    alone = ahead(back, order)
    assert alone == Count(3, 3000)
    put(spool, b"x" * 1000, "cam-2")
    for n in range(9):
        put(spool, bytes([n]) * 1001, "cam-3")
    # Devices get the same number of bytes: all of the small one, of the large one as many.
    assert ahead(front, order).images == 1
    assert alone.images + 1 < ahead(back, order).images <= 2 * alone.images + 2


def test_urgent_images_go_before_for_half_the_bytes(spool: Spool) -> None:
    images = [put(spool, bytes([n]) * 1000).receipt.id for n in range(4)]
    for n in range(20):
        put(spool, bytes([n]) * 1002, urgent=True)
    last = spool.catalog.get(images[-1])
    assert last is not None
    assert spool.catalog.backlog.ahead_of(last, "oldest").images == 3 + 2


def test_it_leaves_when_what_goes_before_it_is_gone(spool: Spool) -> None:
    images = [put(spool, bytes([n]) * 60_000).receipt.id for n in range(3)]
    ran(spool)
    order = spool.settings.uplink.order
    found = [why.of_image(spool, image) for image in images]
    rate = spool.uplink.cap().for_images
    for one in found:
        assert one is not None and one.departs_at is not None and one.ahead is not None
        seconds = (one.departs_at - spool.now()).total_seconds()
        assert seconds == pytest.approx(one.ahead.bytes / rate, abs=1), order


def call(spool: Spool, *words: str) -> Result:
    return CliRunner().invoke(headgate, ["--set", f"spool.path={spool.path}", *words])


def test_the_command_explains_images_and_devices_and_suggests_names(spool: Spool) -> None:
    image = put(spool, b"one", "Front Door".replace(" ", "-")).receipt
    by_sha256 = json.loads(call(spool, "why", image.sha256, "--json").stdout)
    assert by_sha256["receipt"]["id"] == image.id and by_sha256["waits_for"] == "schedule"
    device = call(spool, "why", "Front-Door").stdout
    assert "not enrolled" in device and image.id in device and "headgate cron install" in device
    fields = json.loads(call(spool, "why", "Front-Door", "--json").stdout)
    assert fields["waiting"]["images"] == 1 and fields["oldest"]["receipt"]["id"] == image.id
    unknown = call(spool, "why", "front-dor")
    assert unknown.exit_code == 1 and "Did you mean Front-Door?" in unknown.stderr
