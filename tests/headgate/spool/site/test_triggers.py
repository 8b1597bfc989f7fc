"""What starts runs: remembered through openings, told as the settings have it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from headgate.monitor.collect import snapshot, triggers
from headgate.monitor.metrics import measures
from headgate.monitor.snapshot import TriggerFacts
from headgate.settings.settings import SettingsError
from headgate.spool.spool import Spool
from tests.support.spooling import Clock, open_spool, settings_for


@pytest.fixture
def spool(tmp_path: Path, clock: Clock) -> Iterator[Spool]:
    opened = open_spool(
        tmp_path, clock, uplink__trigger="queue", queue__broker="redis://127.0.0.1/0"
    )
    yield opened
    opened.close()


def told(spool: Spool) -> dict[str, TriggerFacts]:
    return {one.kind: one for one in triggers(spool)}


def test_with_cron_alone_there_is_one_and_it_never_fired(tmp_path: Path) -> None:
    with_cron = open_spool(tmp_path)
    try:
        assert triggers(with_cron) == (TriggerFacts("cron", configured=True, every_seconds=300),)
    finally:
        with_cron.close()


def test_with_a_queue_cron_is_the_floor(spool: Spool) -> None:
    found = told(spool)
    assert list(found) == ["cron", "queue"]
    assert found["cron"].every_seconds == 3600
    assert found["queue"].every_seconds == 300


def test_when_each_fired_last_and_by_whom_outlives_the_program(
    spool: Spool, tmp_path: Path, clock: Clock
) -> None:
    spool.site.triggers.fired("queue", clock.at, "beat")
    clock.advance(minutes=1)
    spool.site.triggers.fired("queue", at := clock.at, "scheduler")
    spool.site.triggers.fired("hand", clock.at)
    again = open_spool(tmp_path, clock)  # and with cron alone, it is remembered but not expected
    try:
        found = told(again)
    finally:
        again.close()
    assert (found["queue"].last_at, found["queue"].sender) == (at, "scheduler")
    assert not found["queue"].configured
    assert found["queue"].every_seconds is None
    assert found["hand"].configured
    assert list(found) == ["cron", "queue", "hand"]


def test_silence_is_counted_from_when_it_was_expected_to_fire(spool: Spool, clock: Clock) -> None:
    site = spool.site
    site.triggers.fired("queue", clock.at)
    clock.advance(hours=5)  # with cron in between
    site.triggers.expect({"queue"}, clock.at)
    clock.advance(minutes=4)
    site.triggers.expect({"queue"}, clock.at)  # said at every look
    assert told(spool)["queue"].quiet_seconds(clock.at) == pytest.approx(240, abs=1)
    site.triggers.expect((), clock.at)
    clock.advance(minutes=1)
    site.triggers.expect({"queue"}, clock.at)  # a new start
    assert told(spool)["queue"].quiet_seconds(clock.at) == pytest.approx(0, abs=1)
    clock.advance(minutes=2)
    site.triggers.fired("queue", clock.at)
    quiet = told(spool)["queue"].quiet_seconds(clock.at + timedelta(seconds=30))
    assert quiet == pytest.approx(30, abs=1)
    assert "cron" in told(spool)
    assert told(spool)["cron"].quiet_seconds(clock.at) is None


def test_each_that_fired_is_a_series_and_no_other(spool: Spool, clock: Clock) -> None:
    spool.site.triggers.fired("http", clock.at, "token-of-the-scheduler")
    found = {one.name: one for one in measures(snapshot(spool), "1", "3")}
    series = found["headgate_trigger_last_fired_timestamp_seconds"].samples
    assert [(labels, round(value)) for labels, value in series] == [
        (("http",), round(clock.at.timestamp()))
    ]


def test_a_floor_that_is_denser_than_the_queue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"queue\.floor: shorter than uplink\.interval"):
        settings_for(
            tmp_path,
            uplink__trigger="queue",
            uplink__interval="2h",
            queue__broker="redis://127.0.0.1/0",
        )
    settings_for(tmp_path, uplink__interval="2h")  # with cron it means nothing
