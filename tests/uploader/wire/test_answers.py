"""Ordinary answers are read by a short way, which gives what ``http.client`` gives, or nothing."""

from __future__ import annotations

import http.client
import io
from typing import Any

import pytest

from uploader.wire import http as ours
from uploader.wire.http import HttpRequest

PUT = HttpRequest("PUT", "/images/k", {})
OK = b"HTTP/1.1 200 OK\r\n"
ORDINARY = [
    OK + b'Date: Mon, 30 Nov 2026 12:17:05 GMT\r\nETag: "abc"\r\nContent-Length: 2\r\n\r\n',
    b"HTTP/1.1 200 \r\ncontent-length:2\r\nX-AMZ-Meta-Tags: \t a = b \t\r\n\r\n",
    OK + b"Content-Length: 2\r\nConnection: keep-alive\r\nx-empty:\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n",
]
OTHERS = {
    "another version": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n",
    "another status": b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n",
    "no header": OK + b"\r\n",
    "no length": OK + b"ETag: x\r\n\r\n",
    "a length with a sign": OK + b"Content-Length: +2\r\n\r\n",
    "no number": OK + b"Content-Length: 2, 2\r\n\r\n",
    "an endless number": OK + b"Content-Length: " + b"0" * 19 + b"2\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\ncontent-length: 3\r\n\r\n",
    "a header twice": OK + b"ETag: x\r\nETag: y\r\nContent-Length: 2\r\n\r\n",
    "a name with a blank": OK + b"Content-Length : 2\r\nContent-Length: 3\r\n\r\n",
    "a folded line": OK + b"ETag: x\r\n Content-Length: 3\r\nContent-Length: 2\r\n\r\n",
    "a line feed alone": OK + b"ETag: x\nContent-Length: 3\r\nContent-Length: 2\r\n\r\n",
    "a control character": OK + b"ETag: x\x00\r\nContent-Length: 2\r\n\r\n",
    "eight bits": OK + b"ETag: \xe9\r\nContent-Length: 2\r\n\r\n",
    "no colon": OK + b"ETag\r\nContent-Length: 2\r\n\r\n",
    "chunks": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
    "the last one": OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n",
    "more than is looked at": OK + b"Content-Length: 999999\r\n\r\n",
    "too many": OK
    + b"Content-Length: 2\r\n"
    + b"".join(b"x-%d: y\r\n" % number for number in range(100))
    + b"\r\n",
}


class Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._data)


def by_http_client(head: bytes) -> tuple[int, dict[str, str]]:
    sock: Any = Socket(head + b"ab")
    answer = http.client.HTTPResponse(sock, method="PUT")
    answer.begin()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}


@pytest.mark.parametrize("head", ORDINARY)
def test_an_ordinary_answer_is_what_http_client_makes_of_it(head: bytes) -> None:
    found = ours._plain(head, PUT)
    assert found is not None
    status, length, headers, size = found
    expected, theirs = by_http_client(head)
    assert (status, length, size) == (expected, len(head), 2)
    assert {name: value.strip(" \t") for name, value in theirs.items()} == headers


@pytest.mark.parametrize("head", OTHERS.values(), ids=OTHERS)
def test_whatever_else_comes_is_left_to_http_client(head: bytes) -> None:
    assert ours._plain(head, PUT) is None
