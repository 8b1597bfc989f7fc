"""Quantities: every unit means what the standard says, and a number alone means nothing."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.settings import units
from headgate.settings.units import Percent, UnitError

calm = settings(deadline=None)

PREFIXES = {
    "": 1,
    "k": 10**3,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
SECONDS = {"s": 1, "sec": 1, "min": 60, "h": 60 * 60, "d": 24 * 60 * 60, "w": 7 * 24 * 60 * 60}
SPACE = st.sampled_from(["", " ", "  "])
NATURAL = st.integers(0, 2**60)


@st.composite
def numbers(draw: st.DrawFn) -> tuple[str, int, int]:
    """A decimal as text, and as mantissa / 10^places."""
    whole, places = draw(st.integers(0, 10**6)), draw(st.integers(0, 4))
    if not places:
        return str(whole), whole, 0
    part = draw(st.integers(0, 10**places - 1))
    return f"{whole}.{part:0{places}}", whole * 10**places + part, places


@calm
@given(numbers(), SPACE, st.sampled_from(sorted(PREFIXES)))
def test_a_size_is_its_number_times_its_prefix(
    number: tuple[str, int, int], space: str, prefix: str
) -> None:
    text, mantissa, places = number
    assert (
        units.parse_size(f" {text}{space}{prefix}B ") == mantissa * PREFIXES[prefix] // 10**places
    )


@calm
@given(
    numbers(),
    SPACE,
    st.sampled_from(sorted(PREFIXES)),
    st.sampled_from([("B", 1), ("bit", 8)]),
    st.sampled_from(["s", "sec", "min", "h"]),
)
def test_a_rate_is_bytes_a_second_rounded_down(
    number: tuple[str, int, int], space: str, prefix: str, unit: tuple[str, int], per: str
) -> None:
    text, mantissa, places = number
    (word, bits), seconds = unit, SECONDS[per]
    expected = mantissa * PREFIXES[prefix] // (10**places * bits * seconds)
    assert units.parse_rate(f"{text}{space}{prefix}{word}/{per}") == expected


@calm
@given(numbers(), SPACE, st.sampled_from(sorted(SECONDS)))
def test_a_duration_is_whole_seconds_or_refused(
    number: tuple[str, int, int], space: str, unit: str
) -> None:
    text, mantissa, places = number
    seconds, rest = divmod(mantissa * SECONDS[unit], 10**places)
    if rest:
        with pytest.raises(UnitError, match="whole number of seconds"):
            units.parse_duration(f"{text}{space}{unit}")
    else:
        assert units.parse_duration(f"{text}{space}{unit}") == seconds


@calm
@given(st.integers(0, 10_000), st.integers(0, 2**60))
def test_a_percentage_reads_back_and_its_share_is_rounded_down(hundredths: int, whole: int) -> None:
    share = Percent(hundredths)
    assert units.parse_percent(str(share)) == share
    part = share.of(whole)
    assert 0 <= whole * hundredths - part * 10_000 < 10_000


@calm
@given(NATURAL, st.sampled_from([1, 60, 1000, 1024, 3600, 10**6, 2**20, 10**9, 2**30]))
def test_what_is_written_reads_back_exactly(number: int, factor: int) -> None:
    for value in (number, number * factor):
        assert units.parse_rate(units.format_rate(value)) == value
        assert units.parse_duration(units.format_duration(value)) == value


@pytest.mark.parametrize(
    ("value", "rate", "duration"),
    [
        (0, "0B/s", "0s"),
        (86400, "86400B/s", "1d"),
        (40_000_000, "40MB/s", "40000000s"),
        (20 * 2**20, "20971520B/s", "20971520s"),
    ],
)
def test_the_largest_unit_that_is_exact_is_written(value: int, rate: str, duration: str) -> None:
    assert units.format_rate(value) == rate
    assert units.format_duration(value) == duration


def test_the_owners_numbers() -> None:
    assert units.parse_rate("12000MB/min") == 200_000_000
    assert units.parse_percent("20%").of(200_000_000) == 40_000_000
    assert units.parse_duration("5min") == 300


@pytest.mark.parametrize("text", ["5", "5.5", " 12000 ", "0"])
def test_a_number_alone_is_refused_with_what_to_write(text: str) -> None:
    for parse, unit in (
        (units.parse_size, "MB"),
        (units.parse_rate, "Mbit/s"),
        (units.parse_duration, "min"),
        (units.parse_percent, "%"),
        (units.parse_room, "MB"),
    ):
        with pytest.raises(UnitError, match="no unit") as refusal:
            parse(text)
        assert f"{text.strip()}{unit}" in str(refusal.value)


@pytest.mark.parametrize(
    "text", ["12000mbpm", "100Mb/s", "100mbps", "100 MBps", "100Mbps", "5kb/min", "1Gib/h", "5b/s"]
)
def test_a_rate_that_may_be_bits_or_bytes_is_asked_about(text: str) -> None:
    with pytest.raises(UnitError, match="bits or bytes") as refusal:
        units.parse_rate(text)
    assert "Mbit/s" in str(refusal.value) and "MB/min" in str(refusal.value)


@pytest.mark.parametrize("text", ["20Mb", "5 kb", "1Gib", "8b"])
def test_a_size_that_may_be_bits_or_bytes_is_asked_about(text: str) -> None:
    with pytest.raises(UnitError, match="bits or bytes"):
        units.parse_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "B",
        "MB",
        "-5MB",
        "+5MB",
        "5 M",
        "5mB",
        "5iB",
        "1e3MB",
        "5,5MB",
        "5MB\n5MB",
        ".5MB",
        "5.MB",
        "5 MBit",
    ],
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UnitError):
        units.parse_size(text)


@pytest.mark.parametrize(
    "text", ["", "MB/s", "-5MB/s", "5MB", "5MB/d", "5MB/", "5MB/m", "5iB/s", "5Mbits/s", "nan MB/s"]
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(UnitError):
        units.parse_rate(text)


@pytest.mark.parametrize(
    "text", ["", "5m", "5 m", "-5s", "5y", "5 minutes", "5ms", "min", "1h30min", "5S"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UnitError) as refusal:
        units.parse_duration(text)
    assert ("write min" in str(refusal.value)) == text.endswith("m")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("100.01%", "at most 100%"),
        ("1000%", "at most 100%"),
        ("0.001%", "hundredth"),
        ("-5%", "like 20%"),
        ("5 percent", "like 20%"),
        ("%", "like 20%"),
        ("", "like 20%"),
    ],
)
def test_what_is_no_percentage(text: str, hint: str) -> None:
    with pytest.raises(UnitError, match=hint):
        units.parse_percent(text)


@pytest.mark.parametrize(
    "parse",
    [units.parse_size, units.parse_rate, units.parse_duration, units.parse_percent],
)
@pytest.mark.parametrize("unit", ["MB", "MB/s", "d", "%"])
@pytest.mark.parametrize("number", ["9" * 5000, "٣"])
def test_a_number_that_no_person_meant_is_refused_in_a_sentence(
    parse: object, unit: str, number: str
) -> None:
    assert callable(parse)
    with pytest.raises(UnitError):
        parse(number + unit)


def test_room_is_a_size_or_a_share() -> None:
    assert units.parse_room("5 %") == Percent(500)
    assert units.parse_room("5GB") == 5 * 10**9


UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


NEAR_A_STEP = st.builds(
    lambda digits, off: max(0, 10**digits + off * 10**digits // 10_000),
    st.integers(0, 14),
    st.integers(-60, 60),
)


@calm
@given(st.integers(0, 999 * 10**12) | NEAR_A_STEP)
def test_a_size_for_people_has_three_digits_and_is_right_in_the_last(size: int) -> None:
    text = units.human_size(size)
    match = re.fullmatch(r"(\d{1,3}|\d{1,2}\.\d) ([kMGT]?B)", text)
    assert match, text
    number, unit = float(match[1]), UNITS[match[2]]
    step = unit / 10 if "." in match[1] else unit
    assert abs(number * unit - size) <= step * 0.500001
    assert unit == 1 or number >= 1
    assert units.human_size(-size) == (f"-{text}" if size else text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12_345_678, "12.3 MB"),
        (99_960, "100 kB"),
        (999_600, "1.0 MB"),
        (500_000_000, "500 MB"),
        (3_000_000_000_000, "3.0 TB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert units.human_size(size) == text


SPANS = {"d": 86400, "h": 3600, "min": 60, "s": 1}


@calm
@given(st.integers(0, 10**8))
def test_a_duration_for_people_has_two_units_and_drops_less_than_the_smaller(seconds: int) -> None:
    words = units.human_duration(seconds).split()
    parts = [
        (int(amount), SPANS[unit]) for amount, unit in zip(words[::2], words[1::2], strict=True)
    ]
    assert 1 <= len(parts) <= 2
    shown = sum(amount * span for amount, span in parts)
    largest = parts[0][1]
    smallest = {86400: 3600, 3600: 60, 60: 1, 1: 1}[largest]
    assert 0 <= seconds - shown < smallest
    assert parts[0][0] >= 1 or seconds == 0
    assert units.human_duration(-seconds) == (f"-{' '.join(words)}" if seconds else "0 s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.6, "1 min"),
        (7500, "2 h 5 min"),
        (86399, "23 h 59 min"),
        (90061, "1 d 1 h"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert units.human_duration(seconds) == text


@pytest.mark.parametrize(
    "text, advice",
    [
        ("0.2", '"20%" or "0.2%", whichever you mean'),
        ("1", '"100%" or "1%", whichever you mean'),
        ("20", 'write it as "20%"'),
        ("0", 'write it as "0%"'),
    ],
)
def test_a_share_without_its_sign_names_each_thing_that_it_may_mean(text: str, advice: str) -> None:
    with pytest.raises(UnitError, match=re.escape(advice)):
        units.parse_percent(text)
