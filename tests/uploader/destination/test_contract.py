"""What every sender keeps, at every kind of destination: S3 and another Headgate.

S3 is the strict stand-in (plain, over TLS, without SHA-256) and the genuine server that
HEADGATE_TEST_S3_ENDPOINT names; a Headgate gets images as a form, as a raw body, and over TLS.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from headgate.spool.image.image import Presence
from tests.support.images import picture
from tests.support.posting import posted, upstream
from tests.support.s3_server import S3_PLACES, CountingPacer, Place, Proxy, upload_of
from uploader.destination.contract import Sender, Stored, Upload
from uploader.wire.errors import ErrorKind, SendError
from uploader.wire.meter import Meter


@dataclass
class Destination:
    """``held``: what it has of an image, one entry for each time that it was stored."""

    url: str
    sender: Callable[..., Any]
    upload: Callable[[Path], Upload]
    held: Callable[[Upload], list[bytes]]
    asks_first: bool = False  # before it sends, as the server keeps no condition

    def reached_by(self, proxy: Proxy, pacer: Meter | None = None) -> Any:
        """A sender whose bytes go through the proxy."""
        return self.sender(pacer, url=proxy.url + self.url.removeprefix(origin(self.url)))


def origin(url: str) -> str:
    return "/".join(url.split("/")[:3])


def bucket(place: Place) -> Destination:
    def held(upload: Upload) -> list[bytes]:
        return [place.read(upload.key)] if upload.key in place.names() else []

    def of(path: Path) -> Upload:
        return upload_of(path, f"contract/{secrets.token_hex(8)}.jpg")

    return Destination(place.url, place.sender, of, held, place.sloppy)


@pytest.fixture(scope="module", params=[*S3_PLACES, "http-form", "http-raw", "http-tls"])
def there(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Destination]:
    folder = tmp_path_factory.mktemp("there")
    if request.param.startswith("http"):
        field = "" if request.param == "http-raw" else "image"
        with upstream(folder, field=field, tls=request.param == "http-tls") as made:

            def held(upload: Upload) -> list[bytes]:
                key = upload.metadata["Idempotency-Key"]
                found = []
                for path in made.receiver.images():
                    if key in os.getxattr(path, "user.headgate").decode():
                        found.append(path.read_bytes())
                return found

            numbers = iter(range(10**6))
            yield Destination(
                made.url, made.sender, lambda path: posted(path, at=next(numbers)), held
            )
        return
    with S3_PLACES[request.param](folder) as place:
        yield bucket(place)


@pytest.fixture
def sender(there: Destination) -> Iterator[Sender]:
    made = there.sender()
    yield made
    made.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.jpg"
    path.write_bytes(picture(250_000))
    return path


@pytest.mark.parametrize("size", [100, 65536, 65537, 5_000_000])
def test_an_image_of_any_size_arrives(
    there: Destination, sender: Sender, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "sized.jpg"
    path.write_bytes(picture(size))
    upload = there.upload(path)
    sent = sender.send(upload)
    assert (sent.bucket, bool(sent.key)) == (sender.place, True)
    assert sent.uploaded_at is not None
    assert there.held(upload) == [path.read_bytes()]


def test_an_image_that_is_not_there_is_not_found(
    there: Destination, sender: Sender, image: Path
) -> None:
    assert sender.find(there.upload(image)) is None


def test_what_was_sent_is_found_with_the_same_proof(
    there: Destination, sender: Sender, image: Path
) -> None:
    upload = there.upload(image)
    sent, found = sender.send(upload), sender.find(upload)
    assert found is not None
    assert (found.bucket, found.key, found.etag) == (sent.bucket, sent.key, sent.etag)
    assert found.sha256 == sent.sha256


def test_the_same_image_again_is_confirmed_and_not_stored_again(
    there: Destination, sender: Sender, image: Path
) -> None:
    upload = there.upload(image)
    first, again = sender.send(upload), sender.send(upload)
    assert (again.key, again.etag) == (first.key, first.etag)
    assert len(there.held(upload)) == 1


def test_another_image_with_the_same_bytes_is_another_image(
    there: Destination, sender: Sender, image: Path
) -> None:
    one, other = there.upload(image), there.upload(image)
    sent = sender.send(one)
    assert sender.find(other) is None
    assert sender.send(other).key != sent.key
    assert len(there.held(one)) == len(there.held(other)) == 1


def test_a_look_tells_whether_it_holds_what_it_confirmed(
    there: Destination, sender: Sender, image: Path
) -> None:
    sent = sender.send(there.upload(image))
    data = image.read_bytes()
    stored = Stored(sent.key, len(data), hashlib.sha256(data).hexdigest(), sent.etag)
    assert sender.see(stored) is Presence.THERE
    assert sender.see(replace(stored, key=f"{sent.key[:-5]}other")) is Presence.GONE


def test_a_byte_changed_on_disk_is_noticed_and_nothing_is_stored(
    there: Destination, sender: Sender, image: Path
) -> None:
    upload = there.upload(image)
    data = bytearray(image.read_bytes())
    data[5000] ^= 1
    image.write_bytes(data)
    with pytest.raises(SendError) as caught:
        sender.send(upload)
    assert caught.value.rehash
    assert there.held(upload) == []


def test_a_lost_answer_is_unknown_and_settled_by_asking(there: Destination, image: Path) -> None:
    if there.asks_first:
        pytest.skip("the answer that is lost is not that of the image")
    with Proxy(origin(there.url)) as proxy:
        sender = there.reached_by(proxy)
        upload = there.upload(image)
        assert sender.find(upload) is None  # a connection that is kept alive
        proxy.eat_answers = True
        with pytest.raises(SendError) as caught:
            sender.send(upload)
        assert caught.value.unknown
        proxy.eat_answers = False
        found = sender.find(upload)
        sender.close()
    assert found is not None
    assert len(there.held(upload)) == 1


def test_every_byte_that_leaves_was_permitted_and_counted(there: Destination, image: Path) -> None:
    pacer = CountingPacer(max_piece=10_000)
    with Proxy(origin(there.url)) as proxy:
        sender = there.reached_by(proxy, pacer)
        for _ in range(5):
            upload = there.upload(image)
            sender.find(upload)
            sender.send(upload)
            sender.send(upload)  # it is there already
        sender.close()
    assert pacer.written == proxy.sent
    assert pacer.written > (5 if there.asks_first else 10) * image.stat().st_size
    assert pacer.largest <= 10_000
    assert proxy.connections == 1


def test_many_threads_share_few_connections(there: Destination, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(24)]
    for path in paths:
        path.write_bytes(picture(30_000))
    sender = there.sender()
    uploads = [there.upload(path) for path in paths]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(sender.send, uploads))
    assert 1 <= sender.connections <= 8
    sender.close()
    assert all(there.held(upload) == [upload.path.read_bytes()] for upload in uploads)


def test_of_two_at_once_exactly_one_is_stored(there: Destination, image: Path) -> None:
    if there.asks_first:
        pytest.skip("this server keeps no condition, and shows objects that are half written")
    sender = there.sender()
    for _ in range(3):
        upload, start = there.upload(image), threading.Barrier(2)

        def attempt(upload: Upload = upload, start: threading.Barrier = start) -> bool:
            start.wait(60)
            try:
                sender.send(upload)
            except SendError as error:
                assert error.kind is ErrorKind.TRANSIENT
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            outcomes = [one.result(60) for one in [pool.submit(attempt) for _ in range(2)]]
        assert any(outcomes)
        assert there.held(upload) == [image.read_bytes()]
    sender.close()


@pytest.mark.parametrize("kind", ["gone", "symlink", "fifo", "folder", "shorter", "longer"])
def test_what_is_not_the_image_is_never_sent(
    there: Destination, sender: Sender, image: Path, kind: str
) -> None:
    upload = there.upload(image)
    spare = image.with_suffix(".spare")
    match kind:
        case "gone":
            image.unlink()
        case "symlink":
            image.rename(spare)
            image.symlink_to(spare)
        case "fifo":
            image.unlink()
            os.mkfifo(image)
        case "folder":
            image.unlink()
            image.mkdir()
        case "shorter":
            os.truncate(image, 1000)
        case "longer":
            with image.open("ab") as file:
                file.write(b"more")
    with pytest.raises(SendError) as caught:
        sender.send(upload)
    assert caught.value.kind is ErrorKind.PERMANENT
    assert not caught.value.unknown
    assert there.held(upload) == []
