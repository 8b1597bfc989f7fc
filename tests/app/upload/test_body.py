"""Bodies from real sockets: counted, paced, and never waited for without end."""

from __future__ import annotations

import contextlib
import gzip
import io
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.refusals import Refused
from app.upload.body import (
    DRAIN_BYTES,
    DRAIN_SECONDS,
    PIECE,
    DecodedBody,
    RequestBody,
    drain,
)
from app.upload.form import BodyKind, FormContents, take
from app.upload.picture import ImageTarget
from app.upload.policy import Policy
from app.upload.request import CountedInput
from app.upload.stalled import MIN_RATE, Stalls, seconds_for
from headgate.spool.disk.durable import Incoming
from tests.support.wait import join, spend, wait_until


def body_of(
    source: object,
    length: int | None,
    limit: int = 10**9,
    stalls: Stalls | None = None,
    clock: list[float] | None = None,
    peer: str = "192.0.2.1",
) -> RequestBody:
    return RequestBody(
        source,  # type: ignore[arg-type]
        length,
        limit,
        lambda: Refused("too_large", limit=limit),
        stalls or Stalls(),
        peer,
        time.monotonic if clock is None else lambda: clock[0],
    )


def read_all(body: RequestBody) -> bytes:
    return b"".join(iter(body.read, b""))


def code_of(body: RequestBody) -> str:
    with pytest.raises(Refused) as caught:
        read_all(body)
    return caught.value.refusal.code


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
def test_a_body_of_the_promised_length_is_read_to_its_end_and_no_further(size: int) -> None:
    source = io.BytesIO(b"x" * size + b"next request")
    assert read_all(body_of(source, size)) == b"x" * size
    assert source.read() == b"next request"


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1])
def test_a_chunked_body_is_read_to_its_end(size: int) -> None:
    assert read_all(body_of(io.BytesIO(b"x" * size), None)) == b"x" * size


@pytest.mark.parametrize("missing", [1, 100, PIECE, 2 * PIECE])
def test_a_short_body_is_short(missing: int) -> None:
    body = body_of(io.BytesIO(b"x" * (3 * PIECE - missing)), 3 * PIECE)
    assert code_of(body) == "short_body"
    assert body.read() == b""


def test_a_body_over_the_limit_is_too_large() -> None:
    assert read_all(body_of(io.BytesIO(b"x" * 5000), None, limit=5000)) == b"x" * 5000
    assert code_of(body_of(io.BytesIO(b"x" * 5001), None, limit=5000)) == "too_large"


class Slow:
    """Hands out whole pieces, each after some seconds of a clock that only it moves."""

    def __init__(self, clock: list[float], seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds

    def read(self, size: int, /) -> bytes:
        self.clock[0] += self.seconds
        return bytes(size)


@pytest.mark.parametrize(
    ("size", "rate"), [(5 << 20, 60_000), (20 << 20, 300_000), (20 << 20, MIN_RATE)]
)
def test_the_time_for_a_body_grows_with_its_length(size: int, rate: int) -> None:
    """What is judged is progress: a slow line carries a large image, too."""
    clock = [0.0]
    body = body_of(Slow(clock, PIECE / rate), size, clock=clock)
    assert len(read_all(body)) == size
    assert clock[0] <= seconds_for(size)


def test_a_compressed_body_is_read_as_it_was_before() -> None:
    data = bytes(range(256)) * 1000
    for packed, coding in ((gzip.compress(data), "gzip"), (zlib.compress(data), "deflate")):
        decoded = DecodedBody(body_of(io.BytesIO(packed), len(packed)), coding, 10**6, too_large)
        assert b"".join(iter(decoded.read, b"")) == data


def too_large() -> Refused:
    return Refused("too_large", limit=1)


def decoding(packed: bytes, limit: int = 10**6) -> str:
    body = body_of(io.BytesIO(packed), len(packed))
    with pytest.raises(Refused) as caught:
        list(iter(DecodedBody(body, "gzip", limit, too_large).read, b""))
    return caught.value.refusal.code


def test_a_bomb_is_too_large_and_a_damaged_body_is_told() -> None:
    assert decoding(gzip.compress(bytes(2_000_000))) == "too_large"
    assert decoding(b"no gzip at all") == "bad_coding"
    assert decoding(gzip.compress(b"x" * 5000)[:-12]) == "bad_coding"


def test_a_body_that_falls_behind_the_slowest_pace_is_too_slow() -> None:
    clock = [0.0]
    stalls = Stalls(min_rate=PIECE)
    assert code_of(body_of(Slow(clock, 1.5), 10**8, clock=clock, stalls=stalls)) == "too_slow"
    assert 10 < clock[0] < 60


@pytest.mark.parametrize(("seconds", "most"), [(0.0, DRAIN_BYTES), (DRAIN_SECONDS / 4, 4 * PIECE)])
def test_draining_is_bounded(seconds: float, most: int) -> None:
    clock = [0.0]
    source = CountedInput(Slow(clock, seconds))
    drain(source, Stalls(), "192.0.2.1", lambda: False, lambda: clock[0])
    assert source.received == most


def test_a_receiver_that_stops_drains_no_more() -> None:
    source = CountedInput(io.BytesIO(bytes(10 * PIECE)))
    drain(source, Stalls(), "192.0.2.1", lambda: source.received >= PIECE)
    assert source.received == PIECE


def test_what_is_no_image_is_refused_at_its_first_bytes(tmp_path: Path) -> None:
    wrote: list[int] = []

    def writing(size: int) -> contextlib.AbstractContextManager[None]:
        wrote.append(size)
        return contextlib.nullcontext()

    with Incoming(tmp_path) as incoming:
        body = body_of(io.BytesIO(b"%PDF" + bytes(10 * PIECE)), 10 * PIECE + 4)
        target = ImageTarget(lambda: incoming, 10**9, 10**9, writing)
        kind = BodyKind("image/jpeg", "", "", raw_allowed=True, end_known=True)
        with pytest.raises(Refused) as caught:
            take(body.read, kind, target, ("image", "*"), Policy(), FormContents())
        assert caught.value.refusal.code == "unsupported_image"
        assert body.received == PIECE
        assert incoming.size == sum(wrote) == 0
    assert list(tmp_path.iterdir()) == []


class Gone:
    def read(self, size: int, /) -> bytes:
        raise ConnectionResetError


def test_a_broken_connection_is_a_short_body() -> None:
    assert code_of(body_of(Gone(), 10)) == "short_body"


@contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            yield client, accepted


class Watched:
    """A body that comes over a real connection, read in a thread of its own."""

    def __init__(
        self,
        accepted: socket.socket,
        length: int = 100_000,
        grace_seconds: float = 0.2,
        min_rate: int = 4096,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.outcome = ""
        port = accepted.getsockname()[1]
        self.stalls = stalls = Stalls(port, grace_seconds, min_rate, monotonic)
        self._body = body_of(accepted.makefile("rb"), length, stalls=stalls, peer="127.0.0.1")
        self._source = self._body._source
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        try:
            read_all(self._body)
            self.outcome = "whole"
        except Refused as refused:
            self.outcome = refused.refusal.code
        finally:
            self._source.close()  # type: ignore[attr-defined]


def look_until_done(watched: Watched) -> None:
    def ended() -> bool:
        watched.stalls.look()
        return not watched.thread.is_alive()

    wait_until(ended, "the connection is ended")
    join(watched.thread)


def test_a_silent_connection_is_ended_and_can_still_be_answered() -> None:
    with connection() as (client, accepted):
        client.sendall(b"x" * 100)
        watched = Watched(accepted)
        look_until_done(watched)
        assert watched.outcome == "too_slow"
        accepted.sendall(b"HTTP/1.1 408 ")
        assert client.recv(100) == b"HTTP/1.1 408 "


def test_a_dripping_connection_is_ended() -> None:
    with connection() as (client, accepted):
        watched, stop = Watched(accepted), threading.Event()

        def drip() -> None:
            while not stop.wait(0.02):
                client.sendall(b"x")

        dripping = threading.Thread(target=drip)
        dripping.start()
        look_until_done(watched)
        stop.set()
        join(dripping)
        assert watched.outcome == "too_slow"


def test_a_slow_connection_above_the_pace_is_left_alone() -> None:
    clock = [0.0]  # the kernel's own, of how long nothing came, is nowhere near the grace
    with connection() as (client, accepted):
        watched = Watched(
            accepted, length=20_000, grace_seconds=60, min_rate=90, monotonic=lambda: clock[0]
        )
        for _ in range(20):
            client.sendall(b"x" * 1000)
            clock[0] += 10
            assert watched.stalls.look() == 0
        join(watched.thread)
        assert watched.outcome == "whole"


def test_only_the_address_that_stalls_is_looked_at() -> None:
    with connection() as (_client, accepted):
        stalls = Stalls(accepted.getsockname()[1], grace_seconds=0.05)
        with stalls.reading("192.0.2.7"):
            spend(0.1)
            assert stalls.look() == 0
        accepted.setblocking(False)
        with pytest.raises(BlockingIOError):
            accepted.recv(1)  # still open for reading


def test_nothing_is_ended_while_nobody_waits() -> None:
    stalls = Stalls(grace_seconds=0.05)
    with connection():
        spend(0.1)
        assert stalls.look() == 0
