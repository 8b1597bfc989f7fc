"""Keys follow from the name alone; metadata survives S3's ASCII headers and its 2 KB."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.spool.image.image import Metadata
from headgate.spool.image.names import Name, make, parse
from uploader.s3.keys import LAYOUTS, described, metadata_size, object_key, object_metadata

SHA256 = "0123456789abcdef" * 4
NAME = make(datetime(2026, 11, 23, 16, 4, 12, 345678, tzinfo=UTC), "cam-07", SHA256, "jpg")
FILE = "20261123T160412.345678Z_cam-07_0123456789abcdef.jpg"

devices = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
names = st.builds(
    make,
    st.integers(0, 250_000_000_000_000_000).map(
        lambda microseconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    ),
    devices,
    st.just(SHA256),
    st.sampled_from(["jpg", "png", "heic"]),
)
texts = st.text(max_size=400)
metas = st.builds(
    Metadata,
    sha256=st.just(SHA256),
    size=st.just(5),
    media_type=st.just("image/jpeg"),
    file_name=texts,
    captured_at=st.text(max_size=60),
    sequence=st.none() | st.integers(0, 2**63),
    key=texts,
    tags=st.dictionaries(texts, texts, max_size=5),
    urgent=st.booleans(),
)


@pytest.mark.parametrize(
    ("layout", "key"),
    [
        ("device", f"p/north/cam-07/2026/11/23/{FILE}"),
        ("date", f"p/north/2026/11/23/16/cam-07/{FILE}"),
        ("hive", f"p/site=north/date=2026-11-23/device=cam-07/{FILE}"),
    ],
)
def test_each_layout_is_as_documented(layout: str, key: str) -> None:
    assert object_key("north", "p/", layout, NAME) == key


@pytest.mark.parametrize(
    ("layout", "key"),
    [
        ("device", f"p/north/gw1/cam-07/2026/11/23/{FILE}"),
        ("date", f"p/north/gw1/2026/11/23/16/cam-07/{FILE}"),
        ("hive", f"p/site=north/gateway=gw1/date=2026-11-23/device=cam-07/{FILE}"),
    ],
)
def test_gateways_of_one_site_never_share_a_key(layout: str, key: str) -> None:
    """Two may get the same image in the same microsecond."""
    assert object_key("north", "p/", layout, NAME, "gw1") == key
    assert object_key("north", "p/", layout, NAME, "gw2") != key


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="one of device, date, hive"):
        object_key("north", "", "weekly", NAME)


@given(names, st.sampled_from(LAYOUTS))
def test_a_key_ends_in_the_name_and_has_no_empty_part(name: Name, layout: str) -> None:
    key = object_key("north", "", layout, name)
    parts = key.split("/")
    assert parse(parts[-1]) == name
    assert all(part not in ("", ".", "..") for part in parts)
    assert len(key.encode()) < 1024
    assert re.fullmatch(r"[A-Za-z0-9._=/-]+", key)


@given(names, names, st.sampled_from(LAYOUTS))
def test_two_images_never_share_a_key(one: Name, other: Name, layout: str) -> None:
    keys = {object_key("north", "", layout, name) for name in (one, other)}
    assert len(keys) == len({one, other})


@given(names, metas)
def test_metadata_is_ascii_and_at_most_2_kb(name: Name, meta: Metadata) -> None:
    headers = object_metadata(name, meta)
    at = name.received_at.isoformat(timespec="microseconds")
    assert headers["x-amz-meta-received-at"] == quote(at, safe=":")
    assert headers.get("x-amz-meta-key", "") in ("", quote(meta.key, safe=":"))
    assert sum(len(word.encode()) + len(value.encode()) for word, value in headers.items()) <= 2048
    assert metadata_size(headers) <= 2048
    for word, value in headers.items():
        assert re.fullmatch(r"x-amz-meta-[a-z0-9-]+", word)
        assert re.fullmatch(r"[!-~]+", value)


@given(names, metas)
def test_metadata_reads_back_except_what_it_says_was_omitted(name: Name, meta: Metadata) -> None:
    seen = described(object_metadata(name, meta))
    assert (seen.sha256, seen.device, seen.received_at) == (SHA256, name.device, name.received_at)
    expected = {
        "tags": dict(meta.tags),
        "key": meta.key,
        "file-name": meta.file_name,
        "captured-at": meta.captured_at,
        "sequence": meta.sequence,
    }
    found = {
        "tags": dict(seen.tags),
        "key": seen.key,
        "file-name": seen.file_name,
        "captured-at": seen.captured_at,
        "sequence": seen.sequence,
    }
    for word, value in expected.items():
        if word in seen.omitted:
            assert not found[word]
        else:
            assert found[word] == value


@pytest.mark.parametrize(
    "file_name", ["Küche 1.jpg", "é" * 255, "日本.jpg", "a&b=c%20+d\r\n.jpg", "a+b"]
)
def test_any_file_name_survives(file_name: str) -> None:
    meta = Metadata(SHA256, 5, "image/jpeg", file_name=file_name)
    headers = object_metadata(NAME, meta)
    assert unquote(headers["x-amz-meta-file-name"]) == file_name
    assert headers["x-amz-meta-file-name"] == quote(file_name, safe=":")
    assert described(headers).omitted == ()


def test_what_is_dropped_first_is_what_can_be_missed_first() -> None:
    meta = Metadata(
        SHA256,
        5,
        "image/jpeg",
        file_name="é" * 255,
        captured_at="2026-11-23T16:04:12+01:00",
        sequence=7,
        key="k" * 400,
        tags={"a": "b" * 100},
    )
    seen = described(object_metadata(NAME, meta))
    assert seen.omitted == ("tags", "key")
    assert (seen.file_name, seen.sequence) == ("é" * 255, 7)
    assert seen.captured_at == "2026-11-23T16:04:12+01:00"


def test_damaged_metadata_is_read_as_far_as_it_goes() -> None:
    seen = described(
        {
            "X-Amz-Meta-Sequence": "many",
            "X-Amz-Meta-Received-At": "yesterday",
            "X-Amz-Meta-Device": "cam-07",
            "X-Amz-Meta-File-Name": "%ff%zz",
        }
    )
    assert (seen.device, seen.sequence, seen.received_at) == ("cam-07", None, None)
