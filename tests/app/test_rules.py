"""The pure rules: admission, reservations, the latch, file names, the table of refusals."""

from __future__ import annotations

import errno
import string
import threading
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import admission
from app.admission import SPARE_INODES, Room
from app.fields import read
from app.filenames import file_name
from app.latch import Latch
from app.refusals import REFUSALS, Refused
from app.reservations import Reservations
from spool.errors import DiskTrouble

IMAGE = 20_000_000


def code_of(rule: Callable[[], object]) -> str:
    try:
        rule()
    except Refused as refused:
        return refused.refusal.code
    return ""


@pytest.mark.parametrize(
    ("auth", "allow", "peer", "forwarded", "may"),
    [
        ("auto", (), "127.0.0.1", False, True),
        ("auto", (), "127.8.9.1", False, True),
        ("auto", (), "::1", False, True),
        ("auto", (), "::ffff:127.0.0.1", False, True),
        ("auto", (), "127.0.0.1", True, False),
        ("auto", (), "192.168.10.7", False, False),
        ("auto", ("192.168.10.0/24",), "192.168.10.7", False, False),
        ("auto", (), "", False, False),
        ("open", (), "203.0.113.5", True, True),
        ("open", ("192.168.10.0/24",), "192.168.10.7", False, True),
        ("open", ("192.168.10.0/24",), "::ffff:192.168.10.7", False, True),
        ("open", ("192.168.10.0/24",), "192.168.11.7", False, False),
        ("open", ("192.168.10.0/24",), "127.0.0.1", False, False),
        ("open", ("10.0.0.0/8", "fe80::/10"), "fe80::1%eth0", False, True),
    ],
)
def test_who_may_send(
    auth: str, allow: tuple[str, ...], peer: str, forwarded: bool, may: bool
) -> None:
    found = code_of(lambda: admission.credential(auth, allow, peer, forwarded))
    assert found == ("" if may else "forbidden")


@pytest.mark.parametrize(
    ("name", "forwarded"),
    [
        ("HTTP_FORWARDED", True),
        ("HTTP_X_FORWARDED_FOR", True),
        ("HTTP_X_FORWARDED_HOST", True),
        ("HTTP_X_REAL_IP", True),
        ("HTTP_X_FORWARD", False),
        ("HTTP_HOST", False),
    ],
)
def test_what_a_proxy_leaves(name: str, forwarded: bool) -> None:
    assert admission.is_forwarded({name: ""}) is forwarded


@given(
    wanted=st.integers(0, 10**9),
    free=st.integers(0, 10**10),
    floor=st.integers(0, 10**9),
    reserved=st.integers(0, 10**9),
)
def test_there_is_room_if_the_floor_stays_free_after_everybody(
    wanted: int, free: int, floor: int, reserved: int
) -> None:
    left = free - floor - reserved - wanted
    found = code_of(lambda: admission.room(wanted, Room(free, floor, 10**6), reserved, 1))
    assert found == ("" if left >= 0 else "disk_full")


def test_inodes_are_room_too() -> None:
    enough = Room(10**9, 0, SPARE_INODES + 5)
    assert code_of(lambda: admission.room(1, enough, 0, 5)) == ""
    assert code_of(lambda: admission.room(1, enough, 0, 6)) == "disk_full"


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
        assert code_of(lambda: admission.framing(length, coding)) == outcome
    else:
        assert admission.framing(length, coding) == outcome


def test_what_a_length_reserves() -> None:
    assert admission.length(5000, False, IMAGE) == 5000
    assert admission.length(None, True, IMAGE) == IMAGE
    assert admission.length(IMAGE + 1000, True, IMAGE) == IMAGE
    for size, multipart, code in (
        (None, False, "length_required"),
        (IMAGE + 1, False, "too_large"),
        (IMAGE + admission.FORM_OVERHEAD + 1, True, "too_large"),
        (0, True, "empty_image"),
    ):
        found = code_of(lambda s=size, m=multipart: admission.length(s, m, IMAGE))  # type: ignore[misc]
        assert found == code


def test_reservations_end_however_the_block_ends() -> None:
    held = Reservations()
    seen = []
    with held.hold(10, lambda size, images: seen.append((size, images))):
        with (
            pytest.raises(ValueError),
            held.hold(5, lambda size, images: seen.append((size, images))),
        ):
            assert (held.size, held.images) == (15, 2)
            raise ValueError
        assert (held.size, held.images) == (10, 1)
    assert (held.size, held.images) == (0, 0)
    assert seen == [(0, 0), (10, 1)]

    def deny(_size: int, _images: int) -> None:
        raise Refused("disk_full")

    with pytest.raises(Refused), held.hold(10, deny):
        pass
    assert (held.size, held.images) == (0, 0)


def test_two_are_never_promised_the_same_bytes() -> None:
    held, let_in, room = Reservations(), [], Room(100, 0, 10**6)
    both, inside = threading.Barrier(8), threading.Event()

    def upload() -> None:
        both.wait()
        try:
            with held.hold(30, lambda size, images: admission.room(30, room, size, images)):
                let_in.append(1)
                inside.wait(20)
        except Refused:
            refused.append(1)
            if len(refused) == 5:
                inside.set()

    refused: list[int] = []
    threads = [threading.Thread(target=upload) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(let_in), len(refused)) == (3, 5)


class Disk:
    """A probe that fails while it is told to."""

    def __init__(self) -> None:
        self.error: int | None = None
        self.probes = 0

    def probe(self) -> None:
        self.probes += 1
        if self.error is not None:
            raise DiskTrouble(OSError(self.error, "no"), "probing")


def test_the_latch_opens_again_when_a_probe_passes() -> None:
    disk, now = Disk(), [100.0]
    latch = Latch(disk.probe, lambda: now[0])
    assert latch.trouble() is None
    assert disk.probes == 0
    disk.error = errno.EIO
    latch.trip(DiskTrouble(OSError(errno.EIO, "Input/output error"), "writing an image"))
    assert latch.trouble() is not None
    assert disk.probes == 0  # not in the second after the failure
    now[0] += 2
    trouble = latch.trouble()
    assert trouble is not None
    assert not trouble.full
    assert latch.trouble() is not None
    assert disk.probes == 1  # one a second, however many ask
    disk.error = errno.ENOSPC
    now[0] += 2
    trouble = latch.trouble()
    assert trouble is not None
    assert trouble.full
    disk.error = None
    now[0] += 2
    assert latch.trouble() is None
    assert latch.trouble() is None
    assert disk.probes == 3


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
        st.sampled_from(["device", "captured_at", "sequence", "tags", "key"]),
        st.text(st.characters(exclude_categories=("Cs",)), max_size=50),
    )
)
def test_any_field_is_kept_or_refused(form: dict[str, str]) -> None:
    found = code_of(lambda: read(form, {}))
    assert found in ("", "bad_field")
    if not found:
        said = read(form, {})
        assert said.device == form.get("device", "").strip()
        assert said.key == form.get("key", "").strip()
        assert (said.sequence is None) == (not form.get("sequence", "").strip())


def test_the_table_of_refusals_is_whole() -> None:
    statuses = {row.status for row in REFUSALS.values()}
    assert {400, 401, 403, 404, 405, 408, 409, 411, 413, 415, 422, 503, 507} <= statuses
    for code, row in REFUSALS.items():
        assert row.code == code
        names = [name for _, name, _, _ in string.Formatter().parse(row.sentence) if name]
        refused = Refused(code, **dict.fromkeys(names, "X"))
        assert "{" not in refused.sentence
        assert refused.sentence.rstrip().endswith((".", "X", "?"))
        assert 400 <= row.status < 600
        assert not row.title.endswith(".")
