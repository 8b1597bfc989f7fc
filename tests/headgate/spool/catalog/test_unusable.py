"""Images that could not be taken, counted by device, and when a device counts as silent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from headgate.monitor import devices, silence
from headgate.monitor.collect import snapshot
from headgate.monitor.devices import DeviceFacts
from headgate.spool.catalog.device_stats import Unusable
from headgate.spool.spool import Spool
from tests.support.spooling import Clock, open_spool, put


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[tuple[Spool, Clock]]:
    clock = Clock()
    with closing(open_spool(tmp_path, clock)) as opened:
        yield opened, clock


def of(spool: Spool, device: str = "cam-1") -> DeviceFacts:
    (found,) = [one for one in snapshot(spool).devices if one.device == device]
    return found


def spoil(spool: Spool, times: int = 1, device: str = "cam-1", *, enrolled: bool = False) -> None:
    for _ in range(times):
        spool.catalog.unusable(device, spool.now(), enrolled=enrolled)


def test_its_share_is_of_what_came_in_the_hour_that_the_first_began(
    spool: tuple[Spool, Clock],
) -> None:
    opened, clock = spool
    for number in range(10):
        put(opened, b"good %d" % number, device="cam-1")
    assert of(opened).unusable == Unusable()
    spoil(opened, 2)
    for number in range(6):
        put(opened, b"better %d" % number, device="cam-1")
    told = of(opened).unusable
    assert (told.images, told.lately, told.good, told.share) == (2, 2, 6, 0.25)
    clock.advance(minutes=59)
    spoil(opened)
    told = of(opened).unusable
    assert (told.lately, told.good) == (3, 6)
    clock.advance(minutes=2)
    told = of(opened).unusable
    assert (told.images, told.lately, told.share) == (3, 0, 0.0)  # the hour is over
    spoil(opened)
    told = of(opened).unusable
    assert (told.images, told.lately, told.good, told.share) == (4, 1, 0, 1.0)
    assert told.last_at is not None and clock.at - told.last_at < timedelta(seconds=1)


def test_a_clock_that_was_set_back_begins_a_new_hour(spool: tuple[Spool, Clock]) -> None:
    opened, clock = spool
    put(opened, b"good", device="cam-1")
    spoil(opened, 5)
    clock.advance(days=-30)
    assert of(opened).unusable.lately == 0
    spoil(opened)
    assert of(opened).unusable.lately == 1


def test_names_that_somebody_invents_fill_nothing(spool: tuple[Spool, Clock]) -> None:
    opened, clock = spool
    opened.site.devices.add(["cam-9"], clock.at)
    spoil(opened, device="nobody")
    spoil(opened, device="cam-9", enrolled=True)
    assert [one.device for one in snapshot(opened).devices] == ["cam-9"]
    assert of(opened, "cam-9").unusable.images == 1
    assert opened.catalog.unusable_of(["nobody"], clock.at) == {}


def test_what_is_learnt_of_a_device_counts_for_all_who_tell(spool: tuple[Spool, Clock]) -> None:
    """It sends each hour: by the average of its images it would be silent after five of them."""
    opened, clock = spool
    for number in range(20):
        put(opened, b"%d" % number, device="cam-1")
        clock.advance(hours=1)
    clock.advance(hours=3)
    assert of(opened).is_silent(clock.at) is False  # five times as long as usual
    clock.advance(hours=1, minutes=1)
    assert of(opened).is_silent(clock.at) is True
    for _ in range(60):  # nobody could take its images, so nothing is learnt of it
        devices.learn(opened.catalog, opened.site, clock.at, receiver_up=False)
        clock.advance(hours=1)
    put(opened, b"again", device="cam-1")
    devices.learn(opened.catalog, opened.site, clock.at, receiver_up=True)
    assert of(opened).quiet_seconds == pytest.approx(5 * 3600, rel=0.01)
    for _ in range(10):  # and now it was its own night
        clock.advance(hours=1)
        devices.learn(opened.catalog, opened.site, clock.at, receiver_up=True)
    put(opened, b"morning", device="cam-1")
    devices.learn(opened.catalog, opened.site, clock.at, receiver_up=True)
    assert of(opened).quiet_seconds == pytest.approx(1.5 * 10 * 3600, rel=0.01)


def test_addresses_and_the_revoked_and_the_long_gone_are_not_missed(
    spool: tuple[Spool, Clock],
) -> None:
    opened, clock = spool
    opened.site.devices.add(["kept", "revoked"], clock.at)
    opened.site.devices.revoke(["revoked"], clock.at)
    for number in range(silence.LEAST_IMAGES):
        for device in ("kept", "revoked", "stranger", "_192.0.2.7"):
            put(opened, b"%d %s" % (number, device.encode()), device=device)
    clock.advance(days=13)
    missed = {one.device: one.missed for one in snapshot(opened).devices}
    assert missed == {"kept": True, "revoked": False, "stranger": True, "_192.0.2.7": False}
    silent = {one.device for one in snapshot(opened).devices if one.is_silent(clock.at)}
    assert silent == {"kept", "stranger"}
    clock.advance(days=2)
    silent = {one.device for one in snapshot(opened).devices if one.is_silent(clock.at)}
    assert silent == {"kept"}


def test_how_long_it_may_be_quiet_can_be_set(tmp_path: Path) -> None:
    clock = Clock()
    with closing(open_spool(tmp_path, clock, alerts__device_silent="1h")) as opened:
        put(opened, b"one", device="cam-1")
        assert of(opened).quiet_seconds == 3600
    with closing(open_spool(tmp_path / "2", clock, alerts__device_silent="never")) as opened:
        put(opened, b"one", device="cam-1")
        clock.advance(days=9)
        assert of(opened).is_silent(clock.at) is False
