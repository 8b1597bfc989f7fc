"""The timetable of a site: the last change at any gateway, and nothing else, makes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headgate.settings.timetable import parse
from headgate.spool.budget import site_timetable
from headgate.spool.budget.site_timetable import TIMETABLE, SiteTimetable

NOW = datetime(2026, 12, 1, 8, tzinfo=UTC)
DAY, NIGHT, WEEKEND = "08:00-18:00 10%", "22:00-06:00 50%", "Sat,Sun 100%"


class Gateway(dict[str, Any]):
    """A gateway's memory, and the commands that read its settings."""

    name = ""

    def put(self, name: str, value: Any) -> None:
        self[name] = value

    def reads(self, *entries: str, minute: int) -> bool:
        at = NOW + timedelta(minutes=minute)
        return site_timetable.notice(self, parse(entries), self.name, at)

    @property
    def held(self) -> SiteTimetable:
        found = site_timetable.held(self)
        assert found is not None
        return found


def gateway(name: str) -> Gateway:
    made = Gateway()
    made.name = name
    return made


def meet(*gateways: Gateway, minute: int = 0) -> None:
    """All tell each other, through Redis: the newest is kept, and the first tells first."""
    newest: Any = None
    for one in (*gateways, *gateways):
        mine = one.get(TIMETABLE)
        if mine and (not newest or (mine["version"], mine["gateway"]) > _version(newest)):
            newest = mine
        if newest is None:
            entries = parse(one.get("timetable_of_settings") or ())
            site_timetable.begin(one, entries, one.name, NOW + timedelta(minutes=minute))
            newest = one[TIMETABLE]
        site_timetable.follow(one, newest)


def _version(record: Any) -> tuple[int, str]:
    return record["version"], record["gateway"]


def texts(one: Gateway) -> list[str]:
    return [entry.text for entry in one.held.entries]


def test_the_last_change_is_the_sites_and_who_differs_is_told() -> None:
    one, two, new = gateway("gw1"), gateway("gw2"), gateway("gw3")
    for each in (one, two):
        assert not each.reads(DAY, minute=0)
    meet(one, two)
    assert texts(two) == [DAY] and not two.held.differs

    assert one.reads(NIGHT, DAY, minute=5)
    meet(one, two, minute=6)
    assert texts(two) == [NIGHT, DAY]
    assert (two.held.gateway, two.held.since) == ("gw1", NOW + timedelta(minutes=5))
    assert two.held.differs and not one.held.differs
    assert two.held.words == (
        "from gw1, since Tue 01 Dec 08:05 UTC; uplink.timetable here differs and is not used"
    )
    assert two.reads("08:00 - 18:00 10%", NIGHT, minute=9), "it is noticed, and says the same"
    meet(two, one)
    assert two.held.gateway == "gw1" and not two.held.differs

    new.reads(WEEKEND, minute=10)  # a gateway that joins changes nothing, whatever its settings say
    meet(new, one, two, minute=11)
    assert texts(new) == texts(one) == [NIGHT, DAY] and new.held.differs
    assert not new.reads(WEEKEND, minute=12) and texts(new) == [NIGHT, DAY]
    assert new.reads(minute=13)  # its owner takes its entries out: now that is a change
    meet(one, two, new)
    assert texts(one) == [] and one.held.differs and not new.held.differs


def test_changes_apart_from_each_other_end_with_the_later_one_everywhere() -> None:
    """Redis is away for both; the clock of the one that changes last is behind by a minute."""
    one, two = gateway("gw1"), gateway("gw2")
    for each in (one, two):
        each.reads(DAY, minute=0)
    meet(one, two)
    one.reads(NIGHT, minute=5)
    two.reads(WEEKEND, minute=7)
    meet(one, two)
    assert texts(one) == texts(two) == [WEEKEND]
    late = {"version": 1, "gateway": "gw9", "entries": [DAY], "since": NOW.isoformat()}
    assert not site_timetable.follow(one, late) and texts(one) == [WEEKEND]
    one.reads(DAY, minute=6)
    meet(two, one)
    assert texts(one) == texts(two) == [DAY], "it had heard of the one before"


def test_two_that_begin_at_once_agree_on_one() -> None:
    one, two = gateway("gw1"), gateway("gw2")
    one.reads(DAY, minute=0)
    two.reads(NIGHT, minute=0)
    for each, entries in ((one, DAY), (two, NIGHT)):  # both find Redis empty at the same time
        site_timetable.begin(each, parse([entries]), each.name, NOW)
    meet(one, two)
    assert texts(one) == texts(two) == [NIGHT] and one.held.differs


@pytest.mark.parametrize(
    "found",
    [
        {"version": 9e15, "gateway": "gw9", "entries": ["Someday 10%"], "since": NOW.isoformat()},
        {"version": 9e15, "gateway": "gw9", "entries": [], "since": "soon"},
        {"version": 9e15, "gateway": "gw9"},
        {"version": "9", "gateway": "gw9", "entries": []},
    ],
)
def test_what_cannot_be_read_is_not_followed(found: dict[str, Any]) -> None:
    one = gateway("gw1")
    one.reads(DAY, minute=0)
    meet(one)
    with pytest.raises((KeyError, TypeError, ValueError)):
        site_timetable.follow(one, found)
    assert texts(one) == [DAY]
