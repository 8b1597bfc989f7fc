"""Who may send: by token, by address, and never by a name that is another's."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.admission.auth import Caller, Principal, identify
from app.http.request import caller, is_forwarded
from app.refusals import Refused
from app.upload import clock_skew
from app.upload.digests import ContentDigest
from headgate.spool.site.devices import Credential

NAMES = frozenset({"gateway.lan"})
TOKENS = {"good": Credential("cam-7", False), "fast": Credential("cam-8", True)}


def who(auth: str = "auto", peer: str = "127.0.0.1", allow: str = "", **headers: str) -> str:
    environ = {"REMOTE_ADDR": peer} | {f"HTTP_{name.upper()}": v for name, v in headers.items()}
    try:
        sender = identify(caller(environ), auth, tuple(allow.split()), TOKENS.get, names=NAMES)
    except Refused as refused:
        return refused.refusal.code
    return f"{sender.device or 'anybody'}{' urgent' if sender.urgent else ''}"


def basic(name: str, token: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{token}".encode()).decode()


@pytest.mark.parametrize(
    ("auth", "allow", "peer", "forwarded", "expected"),
    [
        ("auto", "", "127.0.0.1", False, "anybody"),
        ("auto", "", "127.8.9.1", False, "anybody"),
        ("auto", "", "::1", False, "anybody"),
        ("auto", "", "::ffff:127.0.0.1", False, "anybody"),
        ("auto", "", "127.0.0.1", True, "unauthorized"),
        ("auto", "", "192.168.10.7", False, "unauthorized"),
        ("auto", "192.168.10.0/24", "192.168.10.7", False, "unauthorized"),
        ("auto", "", "", False, "forbidden"),
        ("token", "", "127.0.0.1", False, "unauthorized"),
        ("token", "127.0.0.0/8", "127.0.0.1", False, "unauthorized"),
        ("open", "", "203.0.113.5", True, "anybody"),
        ("open", "192.168.10.0/24", "192.168.10.7", False, "anybody"),
        ("open", "192.168.10.0/24", "::ffff:192.168.10.7", False, "anybody"),
        ("open", "192.168.10.0/24", "192.168.11.7", False, "forbidden"),
        ("open", "192.168.10.0/24", "127.0.0.1", False, "forbidden"),
        ("open", "10.0.0.0/8 fe80::/10", "fe80::1%eth0", False, "anybody"),
    ],
)
def test_without_a_token(auth: str, allow: str, peer: str, forwarded: bool, expected: str) -> None:
    headers = {"x_forwarded_for": "127.0.0.1"} if forwarded else {}
    assert who(auth, peer, allow, **headers) == expected


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    ("on_network", "enrolled", "code"),
    [
        (False, False, ""),
        (True, False, "unauthorized"),
        (False, True, "unauthorized"),
        (True, True, "unauthorized"),
    ],
)
def test_auto_means_token_as_soon_as_anything_hints_at_others(
    peer: str, on_network: bool, enrolled: bool, code: str
) -> None:
    def ask(auth: str) -> str:
        try:
            identify(Caller(peer), auth, (), TOKENS.get, on_network=on_network,
                     enrolled=lambda: enrolled)  # fmt: skip
        except Refused as refused:
            assert "headgate device add" in str(refused.facts["reason"])
            return refused.refusal.code
        return ""

    assert ask("auto") == code
    assert ask("open") == ""


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost:8080", "anybody"), ("127.0.0.1", "anybody"), ("[::1]:80", "anybody"),
     ("192.168.1.5:8080", "anybody"), ("[fe80::1]", "anybody"), ("LOCALHOST.", "anybody"),
     ("gateway.lan:8080", "anybody"), ("Gateway.LAN", "anybody"), ("lan", "forbidden"),
     ("evil.example:8080", "forbidden"), ("localhost.evil.example", "forbidden"),
     ("127.0.0.1.evil.example", "forbidden"), ("evil.example@127.0.0.1", "forbidden"),
     ("127.0.0.1:80:80", "forbidden"), ("0x7f.1", "forbidden"), ("", "anybody")],
)  # fmt: skip
def test_a_name_that_was_made_to_lead_here_is_not_this_machines(host: str, expected: str) -> None:
    assert who("auto", host=host) == expected
    assert who("auto", host=host, authorization="Bearer good") == "cam-7"


@pytest.mark.parametrize("auth", ["auto", "token", "open"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "203.0.113.5"])
def test_a_token_counts_wherever_it_comes_from(auth: str, peer: str) -> None:
    allow = "10.0.0.0/8"
    assert who(auth, peer, allow, authorization="Bearer good") == "cam-7"
    assert who(auth, peer, allow, authorization="bearer  fast ") == "cam-8 urgent"
    assert who(auth, peer, allow, authorization=basic("cam-7", "good")) == "cam-7"
    assert who(auth, peer, allow, authorization=basic("", "good")) == "cam-7"
    assert who(auth, peer, allow, authorization=basic("cam-8", "good")) == "wrong_device"
    # One that is wrong is refused, except where none is needed: there it counts as none.
    for wrong in ("Bearer bad", basic("cam-7", "bad"), basic("admin", "admin")):
        expected = "forbidden" if auth == "open" else "unauthorized"
        assert who(auth, peer, allow, authorization=wrong) == expected


def test_a_token_in_the_address_counts_where_it_is_allowed() -> None:
    def ask(url_tokens: bool, token: str) -> str:
        try:
            caller = Caller("203.0.113.5", url_token=token)
            return identify(caller, "token", (), TOKENS.get, url_tokens=url_tokens).device
        except Refused as refused:
            return refused.sentence

    assert ask(True, "good") == "cam-7"
    assert "invalid" in ask(True, "bad")
    assert "receiver.token_in_url" in ask(False, "good")


@pytest.mark.parametrize("text", ["Bearer", "Bearer ", "good", "Digest x=1", "Basic", "Basic !!",
                                  "Basic " + base64.b64encode(b"no colon").decode(),
                                  "Basic " + base64.b64encode(b"\xff\xfe:x").decode()])  # fmt: skip
def test_a_header_that_is_no_use(text: str) -> None:
    assert who("token", authorization=text) == "unauthorized"
    assert (
        who("open", authorization=text) == "anybody"
    )  # cameras send logins that are not asked for


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_no_header_breaks_it(text: str) -> None:
    assert who("token", authorization=text) in ("unauthorized", "cam-7", "cam-8", "wrong_device")


@pytest.mark.parametrize(
    ("name", "forwarded"),
    [
        ("HTTP_FORWARDED", True),
        ("HTTP_X_FORWARDED_FOR", True),
        ("HTTP_X_FORWARDED_HOST", True),
        ("HTTP_X_REAL_IP", True),
        ("HTTP_VIA", True),
        ("HTTP_CF_CONNECTING_IP", True),
        ("HTTP_CF_RAY", True),
        ("HTTP_TRUE_CLIENT_IP", True),
        ("HTTP_X_CLIENT_IP", True),
        ("HTTP_CDN_LOOP", True),
        ("HTTP_X_ORIGINAL_FORWARDED_FOR", True),
        ("HTTP_X_AMZN_TRACE_ID", True),
        ("HTTP_X_FORWARD", False),
        ("HTTP_HOST", False),
    ],
)
def test_what_a_proxy_leaves(name: str, forwarded: bool) -> None:
    assert is_forwarded({name: ""}) is forwarded


def test_nobody_is_urgent_without_a_token() -> None:
    assert Principal().urgent is False


# -- Content-Digest

HELLO_256 = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="  # printf hello | openssl dgst
HELLO_512 = (
    "m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw=="
)


def digest(header: str, *pieces: bytes) -> str:
    try:
        found = ContentDigest(header)
        for piece in pieces:
            found.update(piece)
        found.check()
    except Refused as refused:
        return refused.refusal.code
    return ""


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"sha-256=:{HELLO_256}:", ""),
        (f"sha-512=:{HELLO_512}:", ""),
        (f"sha-512=:{HELLO_512}:, sha-256=:{HELLO_256}:", ""),
        (f"sha-256=:{HELLO_256}:,sha-512=:{HELLO_256}:", "digest_mismatch"),
        ("sha-256=:" + "A" * 43 + "=:", "digest_mismatch"),
        ("sha-256=::", "digest_mismatch"),
        ("md5=:XUFAKrxLKna5cZ2REBfFkg==:", ""),  # not one that we know: nothing is promised
        (HELLO_256, "bad_field"),
        (f"sha-256={HELLO_256}", "bad_field"),
        ("sha-256=:?:", "bad_field"),
        ("sha-256=:AAA:", "bad_field"),
        ("", "bad_field"),
    ],
)
def test_the_promised_digest_is_that_of_the_body(header: str, expected: str) -> None:
    assert digest(header, b"hel", b"lo") == expected


# -- clocks

NOW = datetime(2026, 11, 23, 16, 4, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("date", "captured", "offset", "exact"),
    [
        ("Mon, 23 Nov 2026 16:04:30 GMT", "", 30, True),
        ("Mon, 23 Nov 2026 16:04:30 GMT", "2026-11-23T12:00:00Z", 30, True),
        ("", "2026-11-23T16:03:00Z", -60, False),
        ("nonsense", "2026-11-23T17:03:00+01:00", -60, False),
        ("Thu, 01 Jan 1970 00:00:05 GMT", "", 5 - NOW.timestamp(), True),
    ],
)
def test_how_far_a_clock_is_off(date: str, captured: str, offset: float, exact: bool) -> None:
    reading = clock_skew.reading(date, captured, NOW)
    assert reading is not None
    assert (reading.offset_seconds, reading.exact) == (offset, exact)


@pytest.mark.parametrize("captured", ["", "2026:11:23 16:03:00", "2026-11-23T16:03:00", "x"])
def test_a_time_without_a_zone_says_nothing_of_the_clock(captured: str) -> None:
    assert clock_skew.reading("", captured, NOW) is None
