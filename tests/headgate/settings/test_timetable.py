"""The timetable, against a calendar and a clock on the wall."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.settings import timetable
from headgate.settings.settings import SettingsError, combine
from headgate.settings.timetable import DAYS, next_change, parse, share_at
from headgate.settings.units import Percent, UnitError
from tests.support.spooling import settings_for

TWENTY = Percent(2000)


def at(text: str) -> datetime:
    """``"Mon 08:00"`` in a week of winter time."""
    day, _, time = text.partition(" ")
    hour, _, minute = time.partition(":")
    monday = datetime(2026, 11, 23, tzinfo=UTC)
    return monday + timedelta(days=DAYS.index(day), hours=int(hour), minutes=int(minute))


@pytest.mark.parametrize(
    ("entries", "shares"),
    [
        (
            ["Mon-Fri 08:00-18:00 10%"],
            {"Mon 07:59": 20, "Mon 08:00": 10, "Fri 17:59": 10, "Fri 18:00": 20, "Sat 12:00": 20},
        ),
        (["Sat,Sun 100%"], {"Fri 23:59": 20, "Sat 00:00": 100, "Sun 23:59": 100, "Mon 00:00": 20}),
        (["12:00-13:00 50%"], {"Wed 12:30": 50, "Sun 12:59": 50, "Sun 13:00": 20}),
        (
            ["Fri 22:00-06:00 80%"],
            {"Fri 05:00": 20, "Fri 22:00": 80, "Sat 05:59": 80, "Sat 06:00": 20, "Sat 22:30": 20},
        ),
        (["Sun 22:00-06:00 80%"], {"Sun 23:00": 80, "Mon 05:59": 80, "Mon 06:00": 20}),
        (["Fri-Mon 1%"], {"Thu 23:59": 20, "Fri 00:00": 1, "Sun 12:00": 1, "Tue 00:00": 20}),
        (["Mon,Wed-Thu 18:00-24:00 0%"], {"Mon 23:59": 0, "Tue 23:59": 20, "Thu 18:00": 0}),
        (["Mon 8:00 - 9:00 33.33%"], {"Mon 08:30": 33.33}),
        ([], {"Mon 08:30": 20}),
    ],
)
def test_an_entry_holds_on_its_days_from_its_first_minute_to_before_its_last(
    entries: list[str], shares: dict[str, float]
) -> None:
    table = parse(entries)
    for moment, share in shares.items():
        assert share_at(table, at(moment), TWENTY) == Percent(round(share * 100)), moment


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("10%", "is not days, hours and a share"),
        ("Mon-Fri 08:00-18:00", "is not days, hours and a share"),
        ("Mon-Fri 08:00-18:00 10", "is not days, hours and a share"),
        ("Mo 08:00-18:00 10%", "'Mo' is not a day; write Mon"),
        ("mon 10%", "'mon' is not a day"),
        ("Mon-Fri 8-18 10%", "'8' is not a time of day"),
        ("Mon 25:00-26:00 10%", "'25:00' is not a time of day"),
        ("Mon 08:60-09:00 10%", "'08:60' is not a time of day"),
        ("Mon 08:00 10%", "has no end"),
        ("Mon 08:00-08:00 10%", "begins where it ends"),
        ("Mon 24:00-02:00 10%", "write 00:00 of the next day"),
        ("Mon 08:00-18:00 120%", "at most 100%"),
        ("Mon 08:00-18:00 0.001%", "finer than"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said_in_a_sentence_that_quotes_it(
    entry: str, words: str
) -> None:
    with pytest.raises(UnitError) as caught:
        parse([entry])
    assert repr(entry) in str(caught.value) and words in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "moment"),
    [
        (["Mon-Fri 08:00-18:00 10%", "Wed 17:00-19:00 50%"], "Wed at 17:00"),
        (["Sun 22:00-06:00 10%", "Mon 05:00-07:00 50%"], "Mon at 05:00"),
        (["Sat,Sun 100%", "12:00-13:00 50%"], "Sat at 12:00"),
        (["Mon 10%", "Mon 10%"], "Mon at 00:00"),
    ],
)
def test_entries_that_overlap_are_refused_naming_both_and_when(
    entries: list[str], moment: str
) -> None:
    for order in (entries, entries[::-1]):
        with pytest.raises(UnitError) as caught:
            parse(order)
        assert all(repr(entry) in str(caught.value) for entry in entries)
        assert moment in str(caught.value)


def test_neighbours_do_not_overlap() -> None:
    parse(["Mon-Fri 08:00-18:00 10%", "Mon-Fri 18:00-08:00 60%", "Sat 08:00-24:00 1%", "Sun 2%"])


CLOCK = st.integers(0, 24 * 60)


@given(
    st.lists(st.sampled_from(DAYS), min_size=1, max_size=7, unique=True),
    CLOCK.filter(lambda minute: minute < 24 * 60),
    CLOCK,
    st.integers(0, 7 * 24 * 60 - 1),
)
def test_an_entry_covers_the_minutes_that_one_counts_on_a_calendar(
    days: list[str], start: int, end: int, minute: int
) -> None:
    if start == end:
        return
    text = f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"
    (entry,) = parse([f"{','.join(days)} {text} 10%"])
    moment = datetime(2026, 11, 23, tzinfo=UTC) + timedelta(minutes=minute)
    expected = False
    for back in (0, 1):  # began today, or yesterday
        day = moment.replace(hour=0, minute=0) - timedelta(days=back)
        begins = day + timedelta(minutes=start)
        ends = day + timedelta(minutes=end, days=end <= start)
        if DAYS[day.weekday()] in days and begins <= moment < ends:
            expected = True
    assert (timetable.entry_at([entry], moment) is entry) == expected
    assert str(entry) == f"{','.join(days)} {text} 10%"


def berlin() -> ZoneInfo:
    try:
        return ZoneInfo("Europe/Berlin")
    except ZoneInfoNotFoundError:
        pytest.skip("no time zone data here (Debian: tzdata)")


def test_the_clocks_going_forward_neither_lose_nor_add_an_entry() -> None:
    """29 March 2026: 02:00 becomes 03:00."""
    zone, table = berlin(), parse(["Sun 02:00-04:00 10%", "Sun 01:00-02:00 50%"])

    def share(utc: str) -> int:
        local = datetime.fromisoformat(f"2026-03-29T{utc}+00:00").astimezone(zone)
        return share_at(table, local, TWENTY).hundredths // 100

    assert [share(utc) for utc in ("00:59", "01:00", "01:59", "02:00")] == [50, 10, 10, 20]
    change = next_change(
        table,
        datetime(2026, 3, 29, 0, 30, tzinfo=UTC),
        TWENTY,
        lambda instant: instant.astimezone(zone),
    )
    assert change == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    hidden = parse(["Sun 02:15-02:45 10%"])  # never shown on that day
    moments = [datetime(2026, 3, 29, tzinfo=UTC) + timedelta(minutes=n) for n in range(24 * 60)]
    assert {share_at(hidden, moment.astimezone(zone), TWENTY) for moment in moments} == {TWENTY}


def test_an_hour_that_is_shown_twice_is_judged_twice() -> None:
    """25 October 2026: 03:00 becomes 02:00."""
    zone, table = berlin(), parse(["Sun 02:00-03:00 10%"])
    moments = [datetime(2026, 10, 25, tzinfo=UTC) + timedelta(minutes=n) for n in range(24 * 60)]
    held = [m for m in moments if share_at(table, m.astimezone(zone), TWENTY) != TWENTY]
    assert len(held) == 120
    assert (held[0].hour, held[-1].hour) == (0, 1)  # UTC: 02:00 summer to 03:00 winter time
    local = [moment.astimezone(zone) for moment in held]
    assert all(moment.hour == 2 for moment in local)
    change = next_change(table, held[0], TWENTY, lambda instant: instant.astimezone(zone))
    assert change == held[-1] + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("Mon 07:59", "Mon 08:00"),
        ("Mon 08:00", "Mon 18:00"),
        ("Fri 18:00", "Mon 08:00"),
        ("Sun 23:59", "Mon 08:00"),
    ],
)
def test_the_next_change_is_the_first_minute_with_another_share(now: str, expected: str) -> None:
    # The weekend has the share of the settings, so going there changes nothing.
    table = parse(["Mon-Fri 08:00-18:00 10%", "Sat,Sun 20%"])
    found = next_change(table, at(now) + timedelta(seconds=30), TWENTY, lambda instant: instant)
    assert found is not None
    assert f"{DAYS[found.weekday()]} {found:%H:%M}" == expected
    assert found.second == 0


def test_without_a_change_there_is_no_next_one() -> None:
    for entries in ([], ["Sat,Sun 20%"], ["Mon-Sun 5%"]):
        assert next_change(parse(entries), at("Mon 08:00"), TWENTY, lambda t: t) is None


def test_another_zone_is_another_hour() -> None:
    table = parse(["Mon 00:00-01:00 10%"])
    east = timezone(timedelta(hours=5, minutes=45))
    moment = at("Sun 18:30")  # Monday 00:15 there
    assert share_at(table, moment.astimezone(east), TWENTY) == Percent(1000)
    assert share_at(table, moment, TWENTY) == TWENTY


def test_the_setting_takes_a_list_or_a_text_with_semicolons() -> None:
    document = {"uplink": {"timetable": ["Mon-Fri 08:00-18:00 10%", "Sat,Sun 100%"]}}
    listed = combine(document, None, {}, {}, Path("/")).uplink.timetable
    text = {"HEADGATE_UPLINK_TIMETABLE": "Mon-Fri 08:00-18:00 10%; Sat,Sun 100%"}
    assert combine(None, None, text, {}, Path("/")).uplink.timetable == listed
    assert [str(entry) for entry in listed] == document["uplink"]["timetable"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"uplink__timetable": "Mon 20"}, "uplink.timetable: 'Mon 20'"),
        ({"uplink__link": "10kB/s", "uplink__timetable": "Mon 5%"}, "less than 1kB/s"),
        ({"uplink__daily": "30MB"}, "uplink.daily: less than twice receiver.max_image"),
        ({"uplink__daily": "30"}, "uplink.daily: '30' has no unit"),
    ],
)
def test_what_cannot_work_stops_the_start(flags: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_for(Path("/"), **flags)
    assert words in str(caught.value)


def test_a_share_of_nothing_is_a_pause_and_allowed() -> None:
    settings_for(Path("/"), uplink__timetable="Mon 0%")
