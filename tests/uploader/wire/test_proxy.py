"""Through a proxy: by CONNECT or with the whole URL, and every byte counted."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.s3_server import CountingPacer, Place, strict_place, upload_of
from tests.support.wait import join
from uploader.s3.client import S3Sender
from uploader.s3.probe import probe
from uploader.wire.errors import ErrorKind, SendError
from uploader.wire.proxy import proxy_from


class Passage:
    """A proxy for CONNECT and for whole URLs; counts what came from clients. ``status`` refuses."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.heads: list[str] = []
        self.received = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = []

    def __enter__(self) -> Passage:
        self._threads[0].start()
        return self

    def __exit__(self, *_error: object) -> None:
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            join(thread)
        for sock in (self._listener, *self._open):
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                thread = threading.Thread(target=self._serve, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                if not (more := client.recv(65536)):
                    return
                data += more
            self.received += len(data)
            head, _, rest = data.partition(b"\r\n\r\n")
            self.heads.append(head.decode())
            method, target, _ = self.heads[-1].split("\r\n")[0].split(" ")
            if self.status != 200:
                client.sendall(f"HTTP/1.1 {self.status} No\r\nContent-Length: 0\r\n\r\n".encode())
                return
            parts = urlsplit(target if method != "CONNECT" else f"//{target}")
            assert parts.hostname and parts.port
            server = socket.create_connection((parts.hostname, parts.port))
            self._open.append(server)
            back = threading.Thread(target=_pump, args=(server, client))
            self._threads.append(back)
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                server.sendall(rest)
            else:
                server.sendall(data.replace(target.encode(), parts.path.encode(), 1))
            back.start()
            while more := client.recv(65536):
                self.received += len(more)
                server.sendall(more)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module", params=["http", "https"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    with strict_place(tmp_path_factory.mktemp("s3"), tls=request.param == "https") as found:
        yield found


@pytest.fixture
def proxied(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Passage]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with Passage() as passage:
        variable = f"{urlsplit(place.url).scheme}_proxy"
        monkeypatch.setenv(variable, f"http://user:p%40ss@127.0.0.1:{passage.port}")
        yield passage


def send(place: Place, folder: Path, pacer: CountingPacer) -> None:
    path = folder / "image.jpg"
    path.write_bytes(os.urandom(200_000))
    with contextlib.closing(S3Sender(place.settings(), pacer)) as sender:
        for number in range(3):
            upload = upload_of(path, f"proxy/{os.urandom(6).hex()}-{number}.jpg")
            sender.send(upload)
            assert place.read(upload.key) == path.read_bytes()


def test_images_go_through_it_and_every_byte_is_counted(
    place: Place, proxied: Passage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pacer = CountingPacer()
    monkeypatch.setattr(place, "read", lambda key: place.strict.objects()[key])  # type: ignore[union-attr]
    send(place, tmp_path, pacer)
    assert pacer.written == proxied.received > 600_000
    (head,) = proxied.heads  # kept alive
    first = head.split(" ")
    if place.url.startswith("https"):
        assert first[:2] == ["CONNECT", place.url.removeprefix("https://")]
    else:
        assert first[1].startswith(f"{place.url}/{place.bucket}/")
    assert "Proxy-Authorization: Basic dXNlcjpwQHNz" in head


def test_a_server_that_is_excepted_is_reached_directly(
    place: Place, proxied: Passage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    send(place, tmp_path, CountingPacer())
    assert proxied.heads == []


@pytest.mark.parametrize(("status", "kind"), [(407, ErrorKind.FATAL), (502, None)])
def test_a_proxy_that_refuses_is_named(
    place: Place, proxied: Passage, tmp_path: Path, status: int, kind: ErrorKind | None
) -> None:
    proxied.status = status
    with pytest.raises(SendError) as caught:
        send(place, tmp_path, CountingPacer())
    secure = place.url.startswith("https")
    expected = kind or (ErrorKind.UPLINK_DOWN if secure else ErrorKind.TRANSIENT)
    assert caught.value.kind is expected
    assert "p@ss" not in caught.value.message and "p%40ss" not in caught.value.message
    if secure:
        assert f"127.0.0.1:{proxied.port}" in caught.value.message


def test_config_check_names_the_proxy_without_its_password(place: Place, proxied: Passage) -> None:
    with contextlib.closing(S3Sender(place.settings(), CountingPacer())) as sender:
        said = " ".join(probe(sender, "").sentences)
    assert f"127.0.0.1:{proxied.port}" in said
    assert "p@ss" not in said and "user" not in said


@pytest.mark.parametrize("url", ["socks5://p:1", "https://p:1", "http://p:port", "http://"])
def test_a_proxy_that_cannot_be_used_stops_the_run(url: str) -> None:
    with pytest.raises(SendError) as caught:
        proxy_from({"https": url}, "https")
    assert (caught.value.kind, caught.value.code) == (ErrorKind.FATAL, "proxy")
    assert "HTTPS_PROXY" in caught.value.message


def test_a_proxy_without_a_scheme_or_port_is_plain_http() -> None:
    found = proxy_from({"https": "proxy.example.net"}, "https")
    assert found is not None
    assert (found.host, found.port, found.headers) == ("proxy.example.net", 80, {})
    assert proxy_from({"https": "proxy.example.net"}, "http") is None
