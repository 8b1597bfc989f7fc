"""A clock that cannot be true is waited for, within bounds, and told of; images are still taken."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headgate.host import set_clock
from headgate.host.set_clock import (
    BOOTING_SECONDS,
    RELEASED,
    WAIT_SECONDS,
    ArrivalClock,
    behind,
    has_own_clock,
    not_set,
    unset_at_boot,
    wait,
)
from headgate.monitor.collect import snapshot
from headgate.spool.site.runs import Run
from tests.support.slept_clock import SleptClock
from tests.support.spooling import Clock, open_spool, put

NOW = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "newest", "words"),
    [
        (NOW, None, ""),
        (NOW, NOW - timedelta(days=3), ""),
        (NOW, NOW + timedelta(minutes=5), ""),  # a clock that was stepped a little
        (NOW, NOW + timedelta(minutes=6), "6 min behind"),
        (NOW - timedelta(days=3), NOW, "3 d"),
        (datetime(1970, 1, 1, tzinfo=UTC), NOW, "before this program was made"),
        (datetime(1970, 1, 1, tzinfo=UTC), None, "before this program was made"),
        (RELEASED, None, ""),
        (NOW, NOW + timedelta(days=367), ""),  # that one was written by a clock far ahead
    ],
)
def test_a_clock_before_what_is_known_cannot_be_true(
    now: datetime, newest: datetime | None, words: str
) -> None:
    why = behind(now, newest)
    assert (words in why) if words else why == ""


@pytest.mark.parametrize(
    ("uptime", "synchronised", "kept", "doubted"),
    [
        (20.0, False, True, True),
        (20.0, True, True, False),
        (20.0, None, True, False),  # the kernel does not say
        (20.0, False, False, False),  # nobody keeps it, so nobody will set it
        (BOOTING_SECONDS, False, True, False),  # who keeps it had its time
    ],
)
def test_after_a_boot_whoever_keeps_the_clock_is_waited_for(
    uptime: float, synchronised: bool | None, kept: bool, doubted: bool
) -> None:
    assert bool(unset_at_boot(uptime, synchronised, kept=kept)) is doubted


def test_a_restart_long_after_a_boot_waits_for_no_clock() -> None:
    ahead = NOW + timedelta(hours=2)
    assert "2 h behind" in set_clock.doubt(NOW, ahead, uptime=20.0)
    assert set_clock.doubt(NOW, ahead, uptime=BOOTING_SECONDS) == ""


def waited(reasons: list[str], stops_at: float = 1e9) -> tuple[str, float, list[str]]:
    """What is left, how long it took, and what was told; the last of the reasons stays."""
    clock, told = SleptClock(), []

    def reason() -> str:
        return reasons.pop(0) if len(reasons) > 1 else reasons[0]

    left = wait(reason, lambda: clock.now >= stops_at, told.append, clock.sleep, clock.monotonic)
    return left, clock.now, told


def test_it_waits_until_the_clock_is_set_and_not_for_one_that_is() -> None:
    assert waited([""]) == ("", 0.0, [])
    assert waited(["behind", "behind", ""]) == ("", 2.0, ["behind"])


def test_it_waits_no_longer_than_a_minute_nor_while_it_is_to_stop() -> None:
    assert waited(["behind"]) == ("behind", WAIT_SECONDS, ["behind"])
    assert waited(["behind"], stops_at=3.0) == ("behind", 3.0, ["behind"])


def test_the_spool_knows_the_newest_image_and_run(tmp_path: Path) -> None:
    clock = Clock()
    with closing(open_spool(tmp_path, clock)) as spool:
        assert spool.newest_known_at() is None
        put(spool, b"image")
        image_at = spool.newest_known_at()
        assert image_at is not None and abs(image_at - clock.at) < timedelta(seconds=1)
        later = clock.at + timedelta(hours=2)
        spool.site.save_run(Run("r1", clock.at, later, "cron", "done", 0))
        assert spool.newest_known_at() == later
        assert "2 h behind" in snapshot(spool, latest=0).clock_behind
        clock.at = later
        assert snapshot(spool, latest=0).clock_behind == ""


def test_the_kernel_is_asked() -> None:
    assert set_clock.synchronised() in (True, False, None)


@pytest.mark.parametrize(
    ("now", "newest", "synchronised", "kept", "own", "words"),
    [
        (NOW, NOW, None, False, False, ""),  # nobody keeps it, and nothing speaks against it
        (NOW, NOW, False, False, False, ""),
        (NOW, NOW, False, True, True, ""),  # its own clock set it, and NTP is not reached
        (NOW, NOW, False, True, False, "no clock of its own"),
        (NOW, NOW, None, True, False, ""),  # a kernel that does not say
        (NOW, NOW, True, True, False, ""),
        (NOW, NOW + timedelta(days=1), False, False, True, "behind, or was ahead"),
        (NOW, NOW + timedelta(days=1), True, True, True, ""),  # it was ahead before
        (RELEASED - timedelta(days=1), None, True, True, True, "before this program was made"),
    ],
)
def test_when_the_time_of_an_arrival_can_be_believed(
    now: datetime, newest: datetime, synchronised: bool | None, kept: bool, own: bool, words: str
) -> None:
    why = not_set(now, newest, synchronised, kept=kept, own_clock=own)
    assert (words in why) if words else why == ""


def test_a_clock_of_its_own_counts_where_it_set_the_kernels_and_agrees(tmp_path: Path) -> None:
    assert not has_own_clock(NOW, tmp_path / "none")
    one, two = tmp_path / "rtc0", tmp_path / "rtc1"
    for clock, hctosys in ((one, 0), (two, 1)):
        clock.mkdir()
        (clock / "hctosys").write_text(f"{hctosys}\n")
        (clock / "since_epoch").write_text(f"{int(NOW.timestamp()) + 3600}\n")
    assert has_own_clock(NOW, tmp_path)
    assert not has_own_clock(NOW + timedelta(days=3), tmp_path)  # its battery is empty
    (two / "hctosys").write_text("0\n")
    assert not has_own_clock(NOW, tmp_path)


def test_it_is_asked_once_a_second_until_it_can_be_believed() -> None:
    seconds, answers, asked = 100.0, ["behind", "behind", "", "behind"], 0

    def why(now: datetime, newest: datetime | None) -> str:
        nonlocal asked
        assert (now, newest) == (NOW, NOW + timedelta(days=1))
        asked += 1
        return answers[asked - 1]

    clock = ArrivalClock(NOW + timedelta(days=1), why, lambda: seconds)
    assert [clock.reason(NOW) for _ in range(5)] == ["behind"] * 5 and asked == 1
    for later, said in ((101.0, "behind"), (102.0, ""), (103.0, ""), (900.0, "")):
        seconds = later
        assert clock.reason(NOW) == said
    assert asked == 3
