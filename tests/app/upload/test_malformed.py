"""Malformed requests by the thousand: a clear refusal, never a 5xx, never an image that was not
sent whole."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import small_jpeg
from tests.support.receiver import (
    BOUNDARY,
    FORM_TYPE,
    Answer,
    Receiver,
    chunked,
    form,
    head,
    part,
    read_answer,
    running,
)
from tests.support.spooling import folder_in_memory
from tests.support.wait import readable

BODIES = int(os.environ.get("HEADGATE_TEST_MALFORMED", "1000"))
SHARES = 4


@pytest.fixture(scope="module")
def lenient() -> Iterator[Receiver]:
    """A receiver that counts nobody's requests, where flushes cost nothing."""
    settings = {"receiver__device_rate": "0", "receiver__device_parallel": "0"}
    folder = folder_in_memory()
    with running(folder, **settings) as found:
        yield found
    shutil.rmtree(folder)


class Line:
    """A connection that is used again for as long as the server lets it."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._connection: socket.socket | None = None

    def post(self, body: bytes, content_type: str) -> Answer | None:
        top = (
            b"POST /images HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n"
            % (content_type.encode("latin-1"), len(body))
        )
        for _ in range(2):  # one that was closed meanwhile is no answer
            reused = self._connection is not None
            if self._connection is None:
                self._connection = self._receiver.connect()
            answer = None
            with contextlib.suppress(ConnectionError):
                self._connection.sendall(top + body)
                answer = read_answer(self._connection)
            if answer is None or answer.headers.get("connection") == "close":
                self.close()
            if answer is not None or not reused:
                return answer
        return None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


# -- mutated forms

_TOKENS = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"--", b"--" + BOUNDARY, b"--" + BOUNDARY + b"--\r\n",
    b'"', b";", b":", b"\0", b'; filename="x"', b'; filename*=UTF-8\'\'%ff', b"name=", b"\xff",
    b"Content-Disposition: form-data", b"Content-Length: 5\r\n", b"Content-Type: multipart/mixed",
    b"Content-Transfer-Encoding: base64\r\n", b"\xff\xd9", b"\xff\xd8\xff", b"A" * 300,
    b"Content-Disposition: form-data; name=\"image\"; filename=\"b.jpg\"\r\n\r\n",
)  # fmt: skip


def mutated(body: bytes, chance: random.Random) -> bytes:
    """One to four changes: bytes flipped, cut out, doubled, moved, or put in."""
    found = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(found) + 1)
        end = min(len(found), at + chance.choice((1, 1, 2, 5, 40, 400)))
        match chance.randrange(6):
            case 0 if at < len(found):
                found[at] ^= 1 << chance.randrange(8)
            case 1:
                del found[at:end]
            case 2:
                found[at:at] = found[at:end]
            case 3:
                moved = found[at:end]
                del found[at:end]
                to = chance.randrange(len(found) + 1)
                found[to:to] = moved
            case 4:
                found[at:at] = chance.choice(_TOKENS)
            case _:
                del found[at:]
        if not found:
            break
    return bytes(found)


def a_form(number: int) -> bytes:
    image = small_jpeg()[:-2] + b"%012d" % number + b"\xff\xd9"
    return form(
        part("device", "cam-fuzz"),
        part("sequence", str(number)),
        part("tags", "site=north"),
        part("image", image, "a.jpg", "image/jpeg"),
    )


def stored_as(receiver: Receiver, receipt: dict[str, Any]) -> bytes:
    (path,) = (receiver.spool / "new").rglob(f"{receipt['id']}.*")
    return path.read_bytes()


@pytest.mark.parametrize("share", range(SHARES))
def test_mutated_forms_are_refused_or_hold_a_whole_image(lenient: Receiver, share: int) -> None:
    chance, line = random.Random(20261123 + share), Line(lenient)
    found: Counter[int] = Counter()
    for number in range(BODIES // SHARES):
        body = mutated(a_form(share * BODIES + number), chance)
        answer = line.post(body, FORM_TYPE)
        assert answer is not None, (share, number)
        found[answer.status] += 1
        assert answer.status < 500, (share, number, answer.body)
        if answer.status in (200, 201, 207):
            for receipt in answer.json.get("images", [answer.json]):
                # By the bytes alone: a part's content, between a blank line and a boundary.
                data = stored_as(lenient, receipt)
                part_of = rb"\r\n\r\n\s*" + re.escape(data) + rb"(\r\n)?--" + BOUNDARY
                assert re.search(part_of, body), (share, number)
                assert data[:3] == b"\xff\xd8\xff"
                assert b"\xff\xd9" in data or receipt["complete"] is False
        else:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json["detail"]
            assert "Traceback" not in answer.body.decode()
    line.close()
    assert set(found) <= {200, 201, 207, 400, 413, 415, 422}
    assert found[400] > BODIES // SHARES // 5  # many changes break the form
    assert found[201] > 0  # and some do not
    assert lenient.half_received() == []
    assert not [event for event in lenient.events if event["level"] == "error"]


@pytest.mark.parametrize("seed", range(3))
def test_any_content_type(lenient: Receiver, seed: int) -> None:
    chance, line = random.Random(seed), Line(lenient)
    letters = "abc=;\"' /\\,:*%-_\t\xe9\xff" + BOUNDARY.decode()
    for number in range(200):
        kind = chance.choice(("multipart/form-data", "multipart/mixed", "image/jpeg", "", "x/y"))
        more = "".join(chance.choice(letters) for _ in range(chance.randrange(40)))
        content_type = f"{kind};{chance.choice(('', ' boundary='))}{more}".strip()
        body = a_form(10**9 + number)
        answer = line.post(body, content_type)
        assert answer is not None
        if answer.status < 300:  # the bytes tell what the header does not
            assert b"\r\n\r\n" + stored_as(lenient, answer.json) + b"\r\n--" + BOUNDARY in body
        else:
            assert 400 <= answer.status < 500, (content_type, answer.body)
    line.close()


# -- raw bytes

_IMAGE = small_jpeg()
_TOP = b"POST /images HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
_RAW = b"Content-Type: image/jpeg\r\n"
_LENGTH = b"Content-Length: %d\r\n" % len(_IMAGE)


def _lengths() -> Iterator[tuple[str, bytes]]:
    """What a length may not be (RFC 9110, 8.6; RFC 9112, 6.3)."""
    for text in (
        b"-1", b"+5", b"0x10", b"1e3", b"5 5", b"5,6", b"5;", b"\xb2", b"99999999999999999999",
        b"18446744073709551616", b"9223372036854775808", b"1.5", b"", b"five", b"\t", b"5\0",
    ):  # fmt: skip
        yield f"length {text!r}", _TOP + _RAW + b"Content-Length: " + text + b"\r\n\r\n" + _IMAGE
    for first, second in ((5, len(_IMAGE)), (len(_IMAGE), 5), (0, len(_IMAGE))):
        lengths = b"Content-Length: %d\r\nContent-Length: %d\r\n" % (first, second)
        yield f"lengths {first} and {second}", _TOP + _RAW + lengths + b"\r\n" + _IMAGE
    yield "no length", _TOP + _RAW + b"\r\n" + _IMAGE
    yield "no length, a form", _TOP + b"Content-Type: " + FORM_TYPE.encode() + b"\r\n\r\n"


def _codings() -> Iterator[tuple[str, bytes]]:
    """Codings that are not chunked alone, and chunks that are none (RFC 9112, 7.1)."""
    for coding in (
        b"gzip", b"chunked, gzip", b"identity", b"chunkedd", b"xchunked", b"chunked;q=1",
        b"gzip, chunked", b"chunked, chunked", b"\x0bchunked", b"chunked\0", b"",
    ):  # fmt: skip
        yield (
            f"coding {coding!r}",
            _TOP + _RAW + b"Transfer-Encoding: " + coding + b"\r\n\r\n" + chunked(_IMAGE),
        )
    form_top = (
        _TOP + b"Content-Type: " + FORM_TYPE.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    body = form(part("image", _IMAGE, "a.jpg"))
    half = body[: len(body) // 2]
    for name, sent in (
        ("no chunk size", b"\r\n" + half),
        ("a size that is no number", b"zz\r\n" + half),
        ("a negative size", b"-5\r\n" + half),
        ("a size of eighteen digits", b"f" * 18 + b"\r\n" + half),
        ("a size with a sign", b"+a\r\n" + half),
        ("a size in 0x", b"0x5\r\n" + half),
        ("a chunk longer than its size", b"5\r\n" + half + b"\r\n0\r\n\r\n"),
        ("a chunk without its end", b"%x\r\n%s0\r\n\r\n" % (len(half), half)),
        ("an extension without end", b"5;" + b"x" * 70_000),
        ("half a form", chunked(half)),
    ):
        yield name, form_top + sent
    cut = chunked(_IMAGE[:-2])  # an image that is whole is taken
    yield "chunked and raw", _TOP + _RAW + b"Transfer-Encoding: chunked\r\n\r\n" + cut


def _lines() -> Iterator[tuple[str, bytes]]:
    """Request lines and header lines that are none (RFC 9112, 3 and 5)."""
    rest = b"Host: localhost\r\nConnection: close\r\n" + _RAW + _LENGTH + b"\r\n" + _IMAGE
    for line in (
        b"POST /images\r\n", b"POST /images HTTP/9.9\r\n", b"POST  /images HTTP/1.1\r\n",
        b"POST\r\n", b" POST /images HTTP/1.1\r\n", b"POST /im ages HTTP/1.1\r\n",
        b"P\0ST /images HTTP/1.1\r\n", b"POST /images HTTP/1.1 x\r\n", b"\0\0\0\0\r\n",
        b"GET /images HTTP/1.1\r\n", b"PUT /images HTTP/1.1\r\n", b"DELETE /images HTTP/1.1\r\n",
        b"POST /limits HTTP/1.1\r\n", b"POST /none HTTP/1.1\r\n", b"POST * HTTP/1.1\r\n",
        b"POST /images/../images HTTP/1.1\r\n", b"POST /images%00 HTTP/1.1\r\n",
        b"POST /images/x HTTP/1.1\r\n", b"BREW /images HTTP/1.1\r\n", b"POST images HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
        b"POST /" + b"a" * 100_000 + b" HTTP/1.1\r\n",
    ):  # fmt: skip
        yield f"line {line[:30]!r}", line + rest
    for header in (
        b"X\0Y: 1\r\n", b": nothing\r\n", b"Bad Name: 1\r\n", b"NoColon\r\n", b"Space : 1\r\n",
        b"Content-Encoding: gzip\r\n", b"Content-Encoding: br\r\n",
        b"Authorization: Bearer x\r\n", b"Authorization: Basic !\r\n", b"X-Forwarded-For: 1\r\n",
        b"X-Real-IP: 127.0.0.1\r\n", b"Forwarded: for=x\r\n", b"X: " + b"v" * 100_000 + b"\r\n",
        b"".join(b"X-%d: 1\r\n" % number for number in range(2000)),
    ):  # fmt: skip
        yield f"header {header[:30]!r}", _TOP + header + _RAW + _LENGTH + b"\r\n" + _IMAGE


def _random(count: int) -> Iterator[tuple[str, bytes]]:
    """A good request with one to three bytes of its head changed for ones that break it."""
    chance = random.Random(1)
    good = _TOP + _RAW + _LENGTH + b"\r\n"
    for number in range(count):
        top = bytearray(good)
        at = chance.randrange(len(b"POST /images HTTP/1.1"))
        top[at] = chance.choice(b"\0\x01\x7f\xff{}<>\\^`|")
        yield f"random {number}", bytes(top) + _IMAGE


def patiently(receiver: Receiver, request: bytes) -> Answer | None:
    """The answer; a request that the server takes for unfinished is ended after a while: when it
    has answered others that came later, and still says nothing to this one."""
    with receiver.connect() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        for _ in range(3):
            assert receiver.get("/healthz").status == 200
        if not readable(connection, 1):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        return read_answer(connection)


REQUESTS = [*_lengths(), *_codings(), *_lines(), *_random(110)]


ODD_HEADERS = (
    b"X-Device: a/b", b"X-Device: " + b"a" * 65, b"X-Device: _10.0.0.1", b"X-Sequence: -1",
    b"X-Sequence: 1e9", b"X-Sequence: 99999999999999999999", b"X-Tags: =", b"X-Tags: a=1,a=2",
    b"X-Captured-At: yesterday", b"Idempotency-Key: " + b"k" * 256, b"Idempotency-Key: \xff",
    b"X-Sha256: 00", b"X-Priority: now", b"X-Priority: urgent", b"Content-Digest: sha-256=x",
    b"\r\n".join(b"X-%d: 1" % number for number in range(40)),
)  # fmt: skip


@pytest.mark.parametrize("header", ODD_HEADERS, ids=lambda header: repr(header[:20]))
def test_a_header_that_cannot_be_used_costs_no_picture(lenient: Receiver, header: bytes) -> None:
    image = small_jpeg() + header  # another one each time
    top = _TOP + header + b"\r\n" + _RAW + b"Content-Length: %d\r\n\r\n" % len(image)
    answer = lenient.send(top + image)
    assert answer is not None
    assert answer.status == 201, answer.body
    assert stored_as(lenient, answer.json) == image


def test_the_raw_requests_are_many() -> None:
    assert len(REQUESTS) >= 190


def test_no_raw_request_is_taken_or_breaks_anything(lenient: Receiver) -> None:
    before = lenient.images()
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda one: patiently(lenient, one[1]), REQUESTS))
    refused = 0
    for (name, _), answer in zip(REQUESTS, answers, strict=True):
        assert answer is None or 400 <= answer.status < 500, (name, answer)
        refused += answer is not None
    assert lenient.images() == before
    assert refused > len(REQUESTS) // 2  # a connection that is just closed is the exception
    assert lenient.get("/healthz").status == 200
    assert lenient.half_received() == []
    assert not [event for event in lenient.events if event["level"] == "error"]


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("two lengths", _TOP + _RAW + _LENGTH + b"Content-Length: 5\r\n\r\n" + _IMAGE),
        (
            "a length and chunks",
            _TOP + b"Content-Type: " + FORM_TYPE.encode() + b"\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + chunked(form(part("image", _IMAGE, "a.jpg"))),
        ),
    ],
    ids=["two lengths", "a length and chunks"],
)
def test_no_second_request_is_smuggled_behind_a_first(
    lenient: Receiver, name: str, request_: bytes
) -> None:
    """Where two readers could see two ends of a body, nothing after it is taken for a request
    (RFC 9112, 6.3: with both, chunked counts, and the connection is closed)."""
    hidden = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    kept_alive = request_.replace(b"Connection: close\r\n", b"")
    with lenient.connect() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(kept_alive + hidden)
        read_answer(connection)
        rest = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            connection.settimeout(5)
            while piece := connection.recv(65536):
                rest += piece
    assert b'"alive"' not in rest


Photo = Callable[[], bytes]


@pytest.mark.slow
def test_the_fuzzers_oracle_can_fail(tmp_path: Path) -> None:
    body = a_form(1)
    assert b"\r\n\r\n" + small_jpeg() + b"\r\n--" + BOUNDARY not in body  # another image's bytes
    assert mutated(body, random.Random(1)) != body
    assert head("GET", "/").endswith(b"\r\n\r\n")
