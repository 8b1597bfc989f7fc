"""Addresses to listen on, and requests to this machine itself."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from headgate.host.addresses import Address, NoAnswer, address_of, free_port, request
from tests.support.wait import join


@pytest.mark.parametrize(
    ("bind", "address", "near", "loopback"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080), "127.0.0.1:8080", True),
        ("127.8.0.1:1", Address("127.8.0.1", 1), "127.8.0.1:1", True),
        ("localhost:80", Address("localhost", 80), "localhost:80", True),
        ("0.0.0.0:80", Address("0.0.0.0", 80), "127.0.0.1:80", False),
        ("[::]:0", Address("::", 0), "[::1]:0", False),
        ("[::1]:8080", Address("::1", 8080), "[::1]:8080", True),
        ("192.168.1.5:80", Address("192.168.1.5", 80), "192.168.1.5:80", False),
        ("[fe80::1]:80", Address("fe80::1", 80), "[fe80::1]:80", False),
    ],
)
def test_an_address_reads_back(bind: str, address: Address, near: str, loopback: bool) -> None:
    found = address_of(bind)
    assert found == address
    assert str(found) == bind
    assert str(found.from_here) == near
    assert found.is_loopback is loopback
    assert found.url == f"http://{bind}/"


@contextmanager
def answering(answer: bytes) -> Iterator[Address]:
    """A server that says this to its one connection, once it has read a whole header."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(30)
                seen = b""
                while b"\r\n\r\n" not in seen:
                    seen += connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Address("127.0.0.1", server.getsockname()[1])
        join(thread)


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("body", "document"),
    [(b'{"code": "x"}', {"code": "x"}), (b"", {}), (b"<html>", None), (b"[1]", None)],
)
def test_an_answer_is_its_status_and_its_document(body: bytes, document: object) -> None:
    with answering(http(body, "503 Service Unavailable")) as address:
        assert request(address, "GET", "/readyz") == (503, document)


@pytest.mark.parametrize("said", [b"", b"220 mail.example ESMTP\r\n"])
def test_what_listens_and_speaks_no_http_is_told_from_nothing(said: bytes) -> None:
    with answering(said) as address, pytest.raises(NoAnswer) as caught:
        request(address, "GET", "/")
    assert caught.value.listens
    with pytest.raises(NoAnswer) as caught:
        request(Address("127.0.0.1", free_port()), "GET", "/")
    assert not caught.value.listens
    assert "refused" in str(caught.value)
