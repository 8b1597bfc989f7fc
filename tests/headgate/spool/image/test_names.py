"""Names are made by us alone: they read back, they sort by time, and nothing else reads as one."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.spool.image import names
from headgate.spool.image.names import Name, NotOurName

calm = settings(deadline=None)

YEARS = datetime(1000, 1, 1), datetime(9999, 12, 31)  # noqa: DTZ001
TIMES = st.datetimes(*YEARS, timezones=st.just(UTC))
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
ADDRESSES = st.ip_addresses().map(lambda address: names.address_device(str(address)))
GIVEN_DEVICES = st.builds(
    str.__add__, st.sampled_from(LETTERS), st.text(LETTERS + "._-", max_size=63)
)
DEVICES = GIVEN_DEVICES | ADDRESSES
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
NAMES = st.builds(
    names.make, TIMES, DEVICES, DIGESTS, st.sampled_from(sorted(names.MEDIA_TYPES)),
    clock_unset=st.booleans(),
)  # fmt: skip

GOOD = "20261123T160405.000007Z_cam-07_0123456789abcdef.jpg"


@calm
@given(TIMES, DEVICES, DIGESTS, st.sampled_from(sorted(names.MEDIA_TYPES)), st.booleans())
def test_a_name_says_when_who_and_what_and_reads_back(
    at: datetime, device: str, sha256: str, ext: str, unset: bool
) -> None:
    name = names.make(at, device, sha256, ext, clock_unset=unset)
    time = (
        f"{at.year:04}{at.month:02}{at.day:02}T"
        f"{at.hour:02}{at.minute:02}{at.second:02}.{at.microsecond:06}Z{'-unset' if unset else ''}"
    )
    assert name.bumped().clock_unset is unset
    assert name.file == f"{time}_{device}_{sha256[:16]}.{ext}"
    assert name.id == name.file.removesuffix(f".{ext}")
    read = names.parse(name.file)
    assert (read, read.id) == (name, name.id)
    assert name.folder == f"{at.year:04}-{at.month:02}-{at.day:02}/{at.hour:02}{at.minute:02}"
    assert names.is_folder(name.folder)
    assert name.day == name.folder.partition("/")[0] == names.day_of_id(name.id)
    assert names.day_of_id(name.file) is None


@calm
@given(NAMES)
def test_a_name_is_one_component_of_a_path_whatever_the_device_is_called(name: Name) -> None:
    assert "/" not in name.file and "\0" not in name.file
    assert not name.file.startswith(".")
    assert len(name.file.encode()) <= 255


@calm
@given(NAMES, NAMES)
def test_files_sort_by_time_as_their_names_do(one: Name, other: Name) -> None:
    if one.received_at < other.received_at:
        assert one.file < other.file and one < other and one.folder <= other.folder
    assert sorted([one, other]) == sorted([other, one])


@calm
@given(TIMES, st.integers(-14 * 60, 14 * 60))
def test_the_time_is_in_utc_wherever_it_was_taken(at: datetime, minutes: int) -> None:
    at = max(at, datetime(1000, 1, 3, tzinfo=UTC))
    local = at.astimezone(datetime.strptime(f"{minutes // 60:+03}00", "%z").tzinfo)
    assert names.make(local, "cam", "a" * 64, "png") == names.make(at, "cam", "a" * 64, "png")


@pytest.mark.parametrize(
    "file",
    [
        "",
        ".",
        "..",
        "../" + GOOD,
        "new/" + GOOD,
        GOOD + "\n",
        "\n" + GOOD,
        GOOD + "\0",
        " " + GOOD,
        GOOD.replace("cam-07", "cam/07"),
        GOOD.replace("cam-07", "cam 07"),
        GOOD.replace("cam-07", "cäm"),
        GOOD.replace("cam-07", "__cam"),
        GOOD.replace("cam-07", ""),
        GOOD.replace("cam-07", "a" * 66),
        GOOD.replace("abcdef", "ABCDEF"),
        GOOD.replace("abcdef", "abcde"),
        GOOD.replace("abcdef", "abcdeg"),
        GOOD.replace(".jpg", ""),
        GOOD.replace(".jpg", ".exe"),
        GOOD.replace(".jpg", ".JPG"),
        GOOD.replace(".jpg", ".jpg.part"),
        GOOD.replace("2026", "0999"),
        GOOD.replace("20261123", "20261323"),
        GOOD.replace("20261123", "20260230"),
        GOOD.replace("T160405", "T240405"),
        GOOD.replace("T160405", "T160460"),
        GOOD.replace("2026", "٢٠٢٦"),  # digits, though not ours
        GOOD.replace("0123456789", "٠123456789"),
        GOOD.replace("Z_", "_"),
        GOOD.replace(".000007", ""),
    ],
)
def test_what_we_did_not_make_never_reads_as_a_name(file: str) -> None:
    with pytest.raises(NotOurName):
        names.parse(file)


@calm
@given(NAMES, st.data())
def test_a_changed_name_reads_as_exactly_itself_or_not_at_all(
    name: Name, data: st.DataObject
) -> None:
    file = name.file
    at = data.draw(st.integers(0, len(file)))
    put = data.draw(st.text(max_size=3) | st.sampled_from(["/", "\0", "\n", "_", ".", "0", "Z"]))
    cut = data.draw(st.integers(0, 3))
    changed = file[:at] + put + file[at + cut :]
    try:
        found = names.parse(changed)
    except NotOurName:
        return
    assert found.file == changed
    assert "/" not in changed and "\0" not in changed


@calm
@given(st.text())
def test_no_other_string_has_a_day_or_is_a_folder(text: str) -> None:
    assert names.day_of_id(text) is None
    assert not names.is_folder(text) or (len(text) == 15 and text.isascii())


@pytest.mark.parametrize(
    "text",
    ["2026-11-23", "2026-11-23/160", "2026-11-23/1604\n", "2026-11-23/../x", "/2026-11-23/1604"],
)
def test_what_is_no_minute_folder(text: str) -> None:
    assert not names.is_folder(text)


@pytest.mark.parametrize(
    ("address", "device"),
    [
        ("192.168.1.20", "_192.168.1.20"),
        ("fe80::1%eth0", "_fe80--1"),
        ("fe80::1%../../etc", "_fe80--1"),
        ("2001:0db8:0:0:0:0:0:1", "_2001-db8--1"),
        ("::", "_--"),
        ("unix:/run/x", "_unknown"),
        ("", "_unknown"),
        ("10.0.0.1, 10.0.0.2", "_unknown"),
    ],
)
def test_an_address_stands_in_for_a_device(address: str, device: str) -> None:
    assert names.address_device(address) == device


@calm
@given(st.ip_addresses(), st.ip_addresses())
def test_addresses_stay_apart_and_are_never_a_device_that_could_be_given(
    one: ipaddress.IPv4Address | ipaddress.IPv6Address,
    other: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    device = names.address_device(str(one))
    assert (device == names.address_device(str(other))) == (one == other)
    assert names.is_address(device) and not names.DEVICE.fullmatch(device)
    file = names.make(datetime(2026, 11, 23, tzinfo=UTC), device, "a" * 64, "jpg").file
    assert names.parse(file).device == device


@calm
@given(GIVEN_DEVICES)
def test_a_device_that_was_given_is_not_an_address(device: str) -> None:
    assert names.DEVICE.fullmatch(device) and not names.is_address(device)


@calm
@given(NAMES)
def test_a_taken_name_becomes_the_next_microsecond(name: Name) -> None:
    later = name.bumped()
    assert later.received_at - name.received_at == timedelta(microseconds=1)
    assert later.file > name.file
    assert (later.device, later.digest, later.ext) == (name.device, name.digest, name.ext)


def test_a_bump_may_lead_into_the_next_minute() -> None:
    last = names.make(datetime(2026, 12, 31, 23, 59, 59, 999_999, UTC), "cam", "a" * 64, "jpg")
    assert (last.folder, last.bumped().folder) == ("2026-12-31/2359", "2027-01-01/0000")


@pytest.mark.parametrize(
    ("at", "device", "digest", "ext"),
    [
        (datetime(2026, 1, 1), "cam", "a" * 16, "jpg"),  # noqa: DTZ001
        (datetime(2026, 1, 1, tzinfo=UTC), "../cam", "a" * 16, "jpg"),
        (datetime(2026, 1, 1, tzinfo=UTC), "cam\n", "a" * 16, "jpg"),
        (datetime(2026, 1, 1, tzinfo=UTC), "cam", "a" * 15, "jpg"),
        (datetime(2026, 1, 1, tzinfo=UTC), "cam", "A" * 16, "jpg"),
        (datetime(2026, 1, 1, tzinfo=UTC), "cam", "a" * 16, "sh"),
        (datetime(999, 1, 1, tzinfo=UTC), "cam", "a" * 16, "jpg"),
    ],
)
def test_a_name_that_would_not_read_back_is_never_made(
    at: datetime, device: str, digest: str, ext: str
) -> None:
    with pytest.raises(ValueError):
        Name(at, device, digest, ext)


def test_every_extension_has_its_type_and_back() -> None:
    assert {names.EXTENSIONS[kind]: kind for kind in names.EXTENSIONS} == names.MEDIA_TYPES


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=300))
def test_any_name_of_a_device_has_a_safe_form_that_reads_back(named: str) -> None:
    named = named.strip()
    device = names.device_name(named)
    assert (device == "") == (named == "")
    if named:
        assert names.DEVICE.fullmatch(device)
        assert names.device_name(device) == device
        assert names.device_shown(device) == named or "__" in device


@given(DEVICES)
def test_a_usual_name_is_its_own_form(device: str) -> None:
    if names.DEVICE.fullmatch(device):
        assert names.device_name(device) == device


def test_two_long_names_are_two() -> None:
    assert names.device_name("ü" * 90) != names.device_name("ü" * 91)
