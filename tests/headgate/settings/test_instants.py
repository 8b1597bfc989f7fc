"""Dates of other programs: an instant or none, whatever they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.settings.instants import read_http_date, read_mail_date, read_rfc3339, rfc3339

HUGE = "9" * 20
NO_DATES = [
    "",
    "Sun",
    "Sun,",
    f"Sun, 06 Nov {HUGE} 08:49:37 GMT",
    f"Sun, {HUGE} Nov 1994 08:49:37 GMT",
    f"Sun, 06 Nov 1994 {HUGE}:49:37 GMT",
    f"Sun, 06 Nov 1994 08:49:37 +{HUGE}",
    "Sun, 06 Nov 1994 08:49:37 +9999",
    "Sun, 31 Feb 2026 08:49:37 GMT",
    "\0",
    HUGE,
]
PARTS = st.sampled_from(
    f"Sun, 6 06 Nov 1994 {HUGE} -1 08:49:37 25:61:61 GMT +0100 -0000 +9999 +{HUGE} T : . , "
    "\x00 0001-01-01 9999-12-31 23:59:60 Z".split(" ")
)
AWARE = st.datetimes(
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
)


@pytest.mark.parametrize("text", NO_DATES)
def test_what_is_no_date_is_none(text: str) -> None:
    assert read_http_date(text) is None
    assert read_rfc3339(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00+14:00",  # the year 0 in UTC
        "9999-12-31T23:59:59-12:00",  # and the year 10000
        "2026-11-30T16:00:00",  # where is that?
        None,
        7,
        [],
    ],
)
def test_what_is_no_instant_is_none(text: object) -> None:
    assert read_rfc3339(text) is None


@given(st.lists(PARTS, max_size=9), st.sampled_from(["", " "]), st.text(max_size=12))
def test_no_text_raises_anything(parts: list[str], between: str, end: str) -> None:
    text = between.join(parts) + end
    for at in (read_http_date(text), read_rfc3339(text)):
        assert at is None or at.tzinfo is not None
    read_mail_date(text)


@given(AWARE)
def test_an_instant_is_read_as_it_was_written(at: datetime) -> None:
    fits = read_rfc3339(at.isoformat())
    assert fits == at or (fits is None and at.year in (1, 9999))
    if fits is not None:
        assert read_rfc3339(rfc3339(at)) == at
    if at.year >= 1000:  # RFC 5322 has years of four digits
        assert read_http_date(format_datetime(at)) == at.replace(microsecond=0)


def test_an_http_date_is_in_utc_though_it_names_no_zone() -> None:
    at = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
    for text in ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 -0000"):
        assert read_http_date(text) == at
    assert read_http_date("Sun, 06 Nov 1994 08:49:37") == at
    assert read_mail_date("Sun, 06 Nov 1994 08:49:37") == at.replace(tzinfo=None)
