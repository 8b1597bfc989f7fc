"""What is called wrong: each rule by a table of what is seen, with the two sides of its limits."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headgate.monitor import silence
from headgate.monitor.checks import Signs, find
from headgate.monitor.devices import DeviceFacts
from headgate.monitor.forecast import Estimate, Forecast
from headgate.monitor.receiver import PROXIED, open_to_all
from headgate.monitor.rules import BY_CODE, RULES
from headgate.monitor.snapshot import Snapshot, TriggerFacts
from headgate.spool.budget.uplink import BudgetUse, LeaseState
from headgate.spool.catalog.device_stats import Arrivals, Unusable
from headgate.spool.catalog.refused import RefusedLately
from headgate.spool.catalog.traffic import Flow
from headgate.spool.disk.room import NO_RECEIVER, Admission, FreeSpace, Receiving, admission
from headgate.spool.image.image import Count
from headgate.spool.site.outcome import Outcome
from headgate.spool.site.runs import Proof, Run
from tests.support.page import with_unaccounted
from tests.support.spooling import open_spool

AT = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)
MB = 1_000_000
NOTHING = Count(0, 0)


def ago(**how: float) -> datetime:
    return AT - timedelta(**how)


def run(outcome: str = "done", code: int = 0, **more: Any) -> Run:
    fields: dict[str, Any] = {"started_at": ago(minutes=4), "ended_at": ago(minutes=3), **more}
    return Run("run", outcome=Outcome(outcome), exit_code=code, **fields)


def facts(*, unaccounted: int = 0, **more: Any) -> Snapshot:
    fields: dict[str, Any] = {
        "at": AT, "received": Count(1000, 250 * MB), "waiting": Count(10, MB), "sending": NOTHING,
        "set_aside": NOTHING, "uploaded_local": Count(990, 249 * MB), "uploaded_pruned": NOTHING,
        "lost": NOTHING, "discarded": NOTHING, "held": NOTHING, "purged": NOTHING,
        "oldest_waiting_at": ago(minutes=2),
        "latest": (), "runs": (run(),),
        "budget": BudgetUse(rate=MB, budget=300 * MB, interval=300, used=0, full_rate=MB),
        "free_bytes": 1000 * MB, "disk_bytes": 2000 * MB, "free_inodes": 10**6,
        "admission": room(1000 * MB), **more,
    }  # fmt: skip
    made = Snapshot(**fields)
    return with_unaccounted(made, 0 if "received" in more else unaccounted - made.unaccounted)


def room(free: int, receiving: Receiving = NO_RECEIVER) -> Admission:
    """Of a disk with so much free, of which 100 MB stay so, for images of 20 MB at most."""
    return admission(20 * MB, FreeSpace(free, 100 * MB, 10**6), receiving)


def refused(code: str, requests: int, share: float) -> RefusedLately:
    return RefusedLately(code, requests, 15, share)


def signs(*, flows: Any = (), more: Any = None, **of: Any) -> Signs:
    return Signs(facts(**of), minutes=flows, **(more or {}))


def cam(last_at: datetime = AT, **more: Any) -> tuple[DeviceFacts, ...]:
    return (DeviceFacts("cam-7", True, last_at=last_at, **more),)


def flow(came: int, went: int, sent: int = 0, minutes: int = 75) -> tuple[Flow, ...]:
    """As much each minute, up to now."""
    return tuple(
        Flow(ago(minutes=back), 1, Count(1, came), Count(1, went), sent)
        for back in range(minutes, 0, -1)
    )


def codes(seen: Signs, *before: tuple[str, str]) -> list[str]:
    return [finding.code for finding in find(seen, set(before))]


def test_nothing_is_wrong_on_an_ordinary_day() -> None:
    assert codes(signs()) == []
    assert codes(signs(received=NOTHING, uploaded_local=NOTHING, waiting=NOTHING, runs=(),
                       oldest_waiting_at=None)) == []  # fmt: skip


def queue(**of: Any) -> tuple[TriggerFacts, ...]:
    """The queue's messages start the runs, and cron is the floor."""
    return (
        TriggerFacts("cron", configured=True, every_seconds=3600),
        TriggerFacts("queue", configured=True, every_seconds=300, **of),
    )


HTTP_EARLIER = TriggerFacts("http", configured=True, last_at=ago(minutes=15))
HTTP_LATELY = TriggerFacts("http", configured=True, last_at=ago(minutes=5))

VAIN = run("nothing confirmed", 6, attempts=3)
STUCK = Proof(ago(hours=2), ago(minutes=10), 1)
ALONE = BudgetUse(
    rate=MB, budget=300 * MB, interval=300, used=0, full_rate=MB,
    lease=LeaseState(MB, MB, "Redis: Timeout connecting to server", AT),
)  # fmt: skip
PAUSED = BudgetUse(rate=0, budget=0, interval=300, used=0, full_rate=MB)
HELD = replace(PAUSED, paused=True)
BIG = Count(4000, 1000 * MB)
WRONG: list[tuple[str, Signs]] = [
    ("uplink-down", signs(runs=(run("uplink down", 5),))),
    ("uplink-down", signs(runs=(run("nothing to do"), run("uplink down", 5)))),
    ("uplink-down", signs(runs=(run("paused by the timetable"), run("uplink down", 5)))),
    ("nothing-confirmed", signs(runs=(VAIN,), proof=Proof(None, ago(minutes=10), 3))),
    ("nothing-confirmed", signs(runs=(run("nothing to do"), VAIN), proof=STUCK)),
    ("backlog-old", signs(oldest_waiting_at=ago(minutes=61), oldest_attempts=1)),
    ("runs-fail", signs(runs=(run("failed", 1, message="no such bucket"),))),
    ("no-run", signs(runs=(run(started_at=ago(minutes=20), ended_at=ago(minutes=12)),))),
    ("no-run", signs(runs=(), oldest_waiting_at=ago(minutes=12))),
    ("no-run", signs(runs=(run("", 0, started_at=ago(minutes=20), ended_at=None),))),
    (
        "no-run",
        signs(
            runs=(run(started_at=ago(hours=3), ended_at=ago(hours=2.1)),),
            triggers=queue(last_at=ago(minutes=1)),
        ),
    ),
    ("queue-silent", signs(triggers=queue(last_at=ago(minutes=12)))),
    ("queue-silent", signs(triggers=queue(expected_since=ago(minutes=12)))),
    ("queue-silent", signs(triggers=(*queue(last_at=ago(minutes=12)), HTTP_EARLIER))),
    ("backlog-old", signs(oldest_due_at=ago(minutes=16), flows=flow(100, 90))),
    ("backlog-grows", signs(waiting=BIG, flows=flow(100, 90, MB * 60))),
    ("cap-unused", signs(waiting=BIG, flows=flow(90, 100, MB * 29))),
    ("disk-full", signs(admission=room(99 * MB))),
    ("disk-full", signs(admission=room(110 * MB))),  # above the floor, and no 20 MB are
    ("uploads-refused", signs(refused=(refused("unauthorized", 10, 0.1),))),
    ("disk-soon", signs(forecast=Forecast(full=Estimate(ago(hours=-23), AT, None)))),
    ("inodes-soon", signs(free_inodes=9_999)),
    ("inodes-soon", signs(forecast=Forecast(inodes=Estimate(ago(hours=-23), AT, None)))),
    ("disk-refuses", signs(admission=room(1000 * MB, Receiving(trouble="EIO")))),
    ("paused", signs(budget=HELD)),
    ("cap-not-shared", signs(budget=ALONE)),
    ("gateway-silent", signs(more={"silent_gateways": {"gw3": ago(minutes=4)}})),
    ("set-aside", signs(set_aside=Count(2, MB))),
    ("unaccounted", signs(unaccounted=-1)),
    ("unaccounted", signs(lost=Count(1, 250_000))),
    ("receiver-silent", signs(more={"receiver": "It does not run."})),
    ("open-network", signs(more={"open_to_all": True})),
    ("s3-clock", signs(more={"s3_clock_offset_seconds": -61.0})),
    ("s3-clock", signs(clock_behind="This machine's clock is 3 d behind.")),
    ("channel-fails", signs(more={"channels": {"slack": "404"}})),
    ("device-silent", signs(devices=cam(ago(minutes=16), quiet_seconds=900.0))),
    ("device-gaps", signs(devices=cam(missing=3))),
    ("device-clock", signs(devices=cam(clock_offset_seconds=-61.0))),
    ("device-unusable", signs(devices=cam(unusable=Unusable(9, AT, lately=5, good=20)))),
]


@pytest.mark.parametrize(("code", "seen"), WRONG)
def test_each_is_found_and_nothing_else_with_it(code: str, seen: Signs) -> None:
    assert codes(seen) == [code]
    (found,) = find(seen, set())
    assert found.sentence


def test_every_rule_is_shown_a_case() -> None:
    assert {code for code, _ in WRONG} == set(BY_CODE)
    assert {cause for rule in RULES for cause in rule.causes} <= set(BY_CODE)
    assert len(BY_CODE) == len(RULES)


RIGHT: list[tuple[str, Signs]] = [
    ("a run that tells nothing of the uplink does not hide one that was fine",
     signs(runs=(run("nothing to do"), run("done", images=5), run("uplink down", 5)))),
    ("a long run is at work", signs(runs=(), more={"at_work": True})),
    ("eleven minutes are two intervals and a minute",
     signs(runs=(run(started_at=ago(minutes=20), ended_at=ago(minutes=11)),))),
    ("an old backlog that shrinks", signs(oldest_due_at=ago(hours=2), flows=flow(90, 100))),
    ("nobody expects anything to leave at 0 %",
     signs(waiting=BIG, oldest_due_at=ago(hours=5),
           budget=BudgetUse(rate=0, budget=0, interval=300, used=0, full_rate=0))),
    ("one quarter of the hour in which it shrank",
     signs(waiting=BIG, flows=flow(100, 90, MB * 60)[:50] + flow(90, 100, MB * 60)[50:])),
    ("two intervals of the queue", signs(triggers=queue(last_at=ago(minutes=11)))),
    ("a queue set up just now", signs(triggers=queue(last_at=ago(days=1), expected_since=AT))),
    ("somebody asks by HTTP instead",
     signs(triggers=(*queue(last_at=ago(minutes=12)), HTTP_LATELY))),
    ("the floor of an hour", signs(runs=(run(started_at=ago(minutes=70), ended_at=ago(hours=1)),),
                                   triggers=queue(last_at=ago(minutes=1)))),
    ("an image that waits for its next attempt, and backlog beside it that is fresh",
     signs(oldest_waiting_at=ago(hours=9), oldest_due_at=ago(minutes=1), flows=flow(100, 90))),
    ("the runs of less than two intervals in vain",
     signs(runs=(VAIN,), proof=Proof(None, ago(minutes=9.9), 3))),
    ("failed attempts after the last confirmed one, in the same run",
     signs(proof=Proof(ago(hours=2), ago(hours=1), 0))),
    ("nothing waits any more", signs(proof=STUCK, waiting=NOTHING)),
    ("a pause begins no trouble", signs(proof=STUCK, budget=PAUSED)),
    ("the oldest was tried in vain for less than an hour",
     signs(oldest_waiting_at=ago(minutes=59), oldest_attempts=9)),
    ("a device of which nothing is known", signs(devices=cam(ago(days=2)))),
    ("one that is nobody's",
     signs(devices=cam(ago(days=2), missed=False, quiet_seconds=1, missing=1,
                       clock_offset_seconds=99.0, unusable=Unusable(9, AT, 9, 0)))),
    ("a clock that was off the day before",
     signs(devices=cam(ago(hours=25), clock_offset_seconds=99.0))),
    ("four unusable images, and one in six",
     signs(devices=cam(unusable=Unusable(4, AT, 4, 0)) + cam(unusable=Unusable(9, AT, 5, 25)))),
]  # fmt: skip


@pytest.mark.parametrize(("why", "seen"), RIGHT, ids=[why for why, _ in RIGHT])
def test_what_is_not_wrong(why: str, seen: Signs) -> None:
    assert codes(seen) == []


BETWEEN: list[tuple[str, str, Signs]] = [
    ("disk-full", "", signs(admission=room(134 * MB))),
    ("uploads-refused", "disk_full", signs(refused=(refused("disk_full", 4, 0.06),))),
    ("nothing-confirmed", "", signs(proof=STUCK, budget=PAUSED)),
    ("backlog-old", "", signs(oldest_waiting_at=ago(minutes=45), oldest_attempts=1)),
    ("disk-soon", "",
     signs(forecast=Forecast(full=Estimate(ago(hours=-30), AT, None)))),
    ("inodes-soon", "", signs(free_inodes=11_000)),
    ("inodes-soon", "",
     signs(forecast=Forecast(inodes=Estimate(ago(hours=-30), AT, None)))),
    ("backlog-old", "", signs(oldest_due_at=ago(minutes=12), flows=flow(100, 90))),
    ("cap-unused", "", signs(waiting=BIG, flows=flow(90, 100, MB * 35))),
    ("backlog-grows", "",
     signs(waiting=BIG, flows=flow(90, 100, MB * 60)[:50] + flow(100, 90, MB * 60)[50:])),
    ("device-clock", "cam-7", signs(devices=cam(clock_offset_seconds=45.0))),
    ("device-unusable", "cam-7", signs(devices=cam(unusable=Unusable(1, AT, 1, 9)))),
    ("s3-clock", "", signs(more={"s3_clock_offset_seconds": 45.0})),
]  # fmt: skip


@pytest.mark.parametrize(("code", "subject", "seen"), BETWEEN)
def test_between_the_two_limits_it_stays_what_it_was(code: str, subject: str, seen: Signs) -> None:
    assert codes(seen) == []
    assert codes(seen, (code, subject)) == [code]


@pytest.mark.parametrize(
    ("requests", "share", "before", "many"),
    [
        (10, 0.1, False, True),
        (9, 1.0, False, False),  # a handful is no matter
        (1000, 0.09, False, False),  # a scanner beside thousands of cameras' uploads
        (3, 0.05, True, True),
        (2, 1.0, True, False),
    ],
)
def test_how_many_refusals_are_many(requests: int, share: float, before: bool, many: bool) -> None:
    seen = signs(refused=(refused("unauthorized", requests, share),))
    was = [("uploads-refused", "unauthorized")] if before else []
    assert codes(seen, *was) == ["uploads-refused"] * many


@pytest.mark.parametrize(
    ("flags", "to_all"),
    [
        ({"receiver__auth": "open", "receiver__bind": "0.0.0.0:8080"}, True),
        ({"receiver__auth": "open", "receiver__bind": "127.0.0.1:8080"}, False),
        ({"receiver__auth": "token", "receiver__bind": "0.0.0.0:8080"}, False),
        ({"receiver__auth": "open", "receiver__bind": "0.0.0.0:8080",
          "receiver__allow": "10.0.0.0/8"}, False),
    ],
)  # fmt: skip
def test_who_may_send_is_judged_by_all_three_settings(
    tmp_path: Path, flags: dict[str, str], to_all: bool
) -> None:
    with closing(open_spool(tmp_path, **flags)) as spool:
        assert open_to_all(spool) is to_all
        spool.site.put(PROXIED, int(spool.now().timestamp()))
        assert open_to_all(spool) is (flags["receiver__auth"] == "open")


# -- how long a device may be quiet


def seen(last: datetime, images: int, first: datetime | None = None) -> Arrivals:
    return Arrivals("cam", first or ago(days=3), last, images, images)


def sends(every: float, hours: float) -> tuple[silence.SendingPattern, datetime]:
    """Looks each minute at a device that sends every so many seconds, and when that ended."""
    rhythm: silence.SendingPattern | None = None
    for minute in range(int(hours * 60)):
        now = AT + timedelta(minutes=minute)
        sent = int(minute * 60 / every)
        last = AT + timedelta(seconds=sent * every)
        rhythm = silence.learn(rhythm, seen(last, 100 + sent, AT - 100 * (now - AT)), now)
    assert rhythm is not None
    return rhythm, AT + timedelta(hours=hours)


def test_a_camera_that_sends_each_minute_is_missed_after_a_quarter_of_an_hour() -> None:
    rhythm, _ = sends(60, 2)
    assert silence.quiet_seconds(rhythm, "auto") == 900
    assert silence.quiet_seconds(rhythm, 120) == 120
    assert silence.quiet_seconds(rhythm, 0) == 0  # never


def test_a_camera_that_sends_each_hour_is_missed_before_the_second() -> None:
    rhythm, _ = sends(3600, 30)
    assert 3600 < silence.quiet_seconds(rhythm, "auto") < 2 * 3600


def test_a_night_is_learnt_once() -> None:
    rhythm, evening = sends(60, 10)
    night = rhythm
    for minute in range(12 * 60):
        night = silence.learn(night, seen(rhythm.last_at, rhythm.images), evening +
                              timedelta(minutes=minute))  # fmt: skip
    morning = evening + timedelta(hours=12)
    awake = silence.learn(night, seen(morning, rhythm.images + 1), morning)
    assert silence.quiet_seconds(awake, "auto") > 12 * 3600
    assert awake.usual == rhythm.usual


def test_of_a_device_that_hardly_sent_nothing_is_known() -> None:
    rhythm = silence.learn(None, seen(AT, 9), AT)
    assert silence.quiet_seconds(rhythm, "auto") == 0


def test_a_silence_while_nobody_could_take_images_is_not_the_devices_own() -> None:
    rhythm, now = sends(60, 2)
    dark = rhythm
    for minute in range(300):
        dark = silence.learn(dark, seen(rhythm.last_at, rhythm.images), now +
                             timedelta(minutes=minute), receiver_up=False)  # fmt: skip
    later = now + timedelta(hours=5)
    assert silence.learn(dark, seen(later, rhythm.images + 1), later).longest == 0


def test_what_is_learnt_is_remembered_as_it_is() -> None:
    rhythm, _ = sends(60, 1)
    assert silence.read(silence.dump({"cam": rhythm})) == {"cam": rhythm}
    assert silence.read(None) == {}
