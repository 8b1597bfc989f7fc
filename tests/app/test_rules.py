"""The pure rules: admission, file names, fields, the table of refusals."""

from __future__ import annotations

import string
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.admission import checks
from app.refusals import REFUSALS, Refused
from app.upload.fields import FIELDS, read
from app.upload.filenames import file_name
from app.upload.policy import Policy
from headgate.spool.disk.room import Admission
from headgate.spool.image import names

IMAGE = 20_000_000


def code_of(rule: Callable[[], object]) -> str:
    try:
        rule()
    except Refused as refused:
        return refused.refusal.code
    return ""


def test_a_refusal_has_the_code_and_the_numbers_of_the_answer() -> None:
    checks.admitted(Admission())
    full = Admission(False, "disk_full", "why", needed_bytes=10, free_bytes=3)
    for answer, tell_why, facts in (
        (full, False, {"missing": 7}),
        (full, True, {"missing": 7, "why": "why"}),
        (Admission(False, "intake_spent", "why", retry_after=4), False, {"retry_after": 4}),
    ):
        with pytest.raises(Refused) as refused:
            checks.admitted(answer, tell_why=tell_why)
        assert (refused.value.refusal.code, refused.value.facts) == (answer.code, facts)


@pytest.mark.parametrize(
    ("length", "coding", "outcome"),
    [
        ("10", None, 10),
        ("0", None, 0),
        (None, "chunked", None),
        (None, "Chunked ", None),
        ("10", "chunked", "bad_length"),
        (None, "gzip, chunked", "bad_length"),
        (None, "identity", "bad_length"),
        (None, "", "bad_length"),
        (None, None, "length_required"),
        ("-1", None, "bad_length"),
        ("+1", None, "bad_length"),
        (" 1", None, "bad_length"),
        ("1_0", None, "bad_length"),
        ("\u0661", None, "bad_length"),
        ("1" * 19, None, "bad_length"),
    ],
)
def test_framing(length: str | None, coding: str | None, outcome: int | str | None) -> None:
    if isinstance(outcome, str):
        assert code_of(lambda: checks.framing(length, coding)) == outcome
    else:
        assert checks.framing(length, coding) == outcome


def test_what_a_length_reserves() -> None:
    assert checks.length(5000, IMAGE) == 5000
    assert checks.length(None, IMAGE) == IMAGE
    assert checks.length(5000, IMAGE, coded=True) == IMAGE
    assert checks.length(IMAGE + 1000, IMAGE) == IMAGE
    for size, code in ((IMAGE + checks.FORM_OVERHEAD + 1, "too_large"), (0, "empty_image")):
        assert code_of(lambda s=size: checks.length(s, IMAGE)) == code  # type: ignore[misc]


@pytest.mark.parametrize(
    ("encoding", "coding"),
    [(None, ""), ("", ""), ("identity", ""), ("gzip", "gzip"), ("X-GZIP ", "gzip"),
     ("deflate", "deflate")],
)  # fmt: skip
def test_codings(encoding: str | None, coding: str) -> None:
    assert checks.coding(encoding) == coding
    refused = code_of(lambda: checks.coding(encoding, strict=True))
    assert refused == ("content_encoding" if coding else "")


def test_other_codings_are_refused() -> None:
    assert code_of(lambda: checks.coding("br")) == "content_encoding"


_PLAIN = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters='/\\"%'), max_size=100
)


@given(_PLAIN)
def test_a_file_name_in_raw_utf_8(name: str) -> None:
    sent = f'form-data; name="image"; filename="{name}"'.encode().decode("latin-1")
    assert file_name(sent) == name


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\")))
def test_a_file_name_in_extended_notation(name: str) -> None:
    sent = f"form-data; name=image; filename=x; filename*=UTF-8''{quote(name, safe='')}"
    assert file_name(sent) == name


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ('form-data; name="image"; filename="K\xfcche.jpg"', "Küche.jpg"),  # Latin-1 bytes
        ("form-data; name=image; filename*=iso-8859-1'de'K%FCche.jpg", "Küche.jpg"),
        ("form-data; name=image; filename*=utf-8'en'%e2%82%ac%20rates", "€ rates"),
        ('form-data; name="image"; filename="a\\"b.jpg"', 'a"b.jpg'),
        ('form-data; name="image"; filename="a%22b.jpg"', 'a"b.jpg'),
        ('form-data; name="image"; filename="100%25.jpg"', "100%25.jpg"),
        ('form-data; name="image"; filename="a%0D%0Ab.jpg"', "ab.jpg"),
        ('form-data; name="image"; filename="K%C3%BCche%201.jpg"', "Küche 1.jpg"),  # aiohttp
        ('form-data; name="image"; filename="80%FF.jpg"', "80%FF.jpg"),
        ('form-data; name="image"; filename="ü%C3%BC.jpg"', "ü%C3%BC.jpg"),
        ('form-data; name="image"; filename="C:\\photos\\a.jpg"', "a.jpg"),
        ('form-data; name="image"; filename="../a.jpg"', "a.jpg"),
        ('form-data; name="image"; filename=".."', ".."),
        ("form-data; name=image; filename=plain.jpg", "plain.jpg"),
        ('form-data; name="filename"', ""),
        ('form-data; name="image"; filename=""', ""),
        ('form-data; FILENAME="a.jpg"', "a.jpg"),
        ("", ""),
    ],
)
def test_file_names_as_clients_send_them(sent: str, name: str) -> None:
    assert file_name(sent) == name


@given(st.text(st.characters(max_codepoint=255), max_size=200))
def test_no_disposition_breaks_it(sent: str) -> None:
    found = file_name("form-data; filename" + sent)
    found.encode()
    assert not set(found) & set("/\\\0\r\n")


@given(
    st.dictionaries(
        st.sampled_from(FIELDS),
        st.text(st.characters(exclude_categories=("Cs",)), max_size=50),
    )
)
def test_any_field_is_kept_or_said(form: dict[str, str]) -> None:
    policy = Policy()
    said = read((form,), policy)
    device = form.get("device", "").strip()
    assert said.device == names.device_name(device)
    assert names.DEVICE.fullmatch(said.device) or not said.device
    sequence = form.get("sequence", "").strip()
    assert said.sequence is not None or not sequence or policy.as_sent["sequence"] == sequence
    key = form.get("idempotency_key", "").strip()
    assert said.key == key or policy.as_sent["idempotency_key"] == key
    assert bool(policy.as_sent) <= bool(policy.warnings)


def test_the_table_of_refusals_is_whole() -> None:
    statuses = {row.status for row in REFUSALS.values()}
    assert {400, 401, 403, 404, 405, 408, 409, 411, 413, 415, 422, 429, 503, 507} <= statuses
    for code, row in REFUSALS.items():
        assert row.code == code
        names = [name for _, name, _, _ in string.Formatter().parse(row.sentence) if name]
        refused = Refused(code, **dict.fromkeys(names, "X"))
        assert "{" not in refused.sentence
        assert refused.sentence.rstrip().endswith((".", "X", "?"))
        assert 400 <= row.status < 600
        assert not row.title.endswith(".")
