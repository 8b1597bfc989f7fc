"""The request's body, read in pieces and counted by us: servers hand on a cut body as a clean end.

Socket trouble ends here, as a refusal; it never looks like trouble with the disk.
"""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from app.refusals import Refused
from app.upload.digests import ContentDigest
from app.upload.request import InputStream
from app.upload.stalled import Stalls

PIECE = 64 * 1024
"""Bytes asked for at once; larger pieces were measured to be hardly faster, and take memory."""

DRAIN_BYTES = 32 * 1024 * 1024
DRAIN_SECONDS = 60

_ALONE: AbstractContextManager[None] = nullcontext()


class RequestBody:
    """Reads one request's body: of ``length`` bytes, or (None) chunked and of at most ``limit``.

    ``waiting`` stands around each wait for the client.
    """

    def __init__(
        self,
        source: InputStream,
        length: int | None,
        limit: int,
        too_large: Callable[[], Refused],
        stalls: Stalls,
        peer: str,
        monotonic: Callable[[], float] = time.monotonic,
        digest: ContentDigest | None = None,
        waiting: AbstractContextManager[None] = _ALONE,
    ) -> None:
        self._waiting = waiting
        self._source = source
        self._length = length
        self._limit = limit
        self._too_large = too_large
        self._stalls = stalls
        self._peer = peer
        self._digest = digest
        self._monotonic = monotonic
        self._started_at = monotonic()
        self.received = 0
        self.ended = False

    @property
    def end_known(self) -> bool:
        """Whether a body that was cut is noticed: by its length, or by a digest of all of it."""
        promised = self._digest is not None and self._digest.promises
        return self._length is not None or promised

    def read(self) -> bytes:
        """The next bytes, b"" at the end; Refused when it is short, too slow or too large.

        How long it may take follows from its length: progress alone is judged, here and, while a
        read blocks, by ``Stalls``."""
        if self.ended:
            return b""
        left = self._limit + 1 if self._length is None else self._length
        wanted = min(PIECE, left - self.received)
        asked_at = self._monotonic()
        piece = self._take(wanted) if wanted else b""
        self.received += len(piece)
        if len(piece) < wanted or self.received == self._length:
            self.ended = True
        if self._length is not None and self.ended and self.received < self._length:
            if self._monotonic() - asked_at >= self._stalls.grace_seconds:
                raise self._too_slow()
            raise Refused("short_body", received=self.received, expected=self._length)
        if self.received > self._limit:
            raise self._too_large()
        if self._digest is not None:
            self._digest.update(piece)
            if self.ended:
                self._digest.check()
        self._check_pace()
        return piece

    def _take(self, wanted: int) -> bytes:
        try:
            with self._stalls.reading(self._peer), self._waiting:
                return self._source.read(wanted)
        except OSError:  # the client is gone; the caller gets a short body
            return b""

    def _check_pace(self) -> None:
        if self.ended:
            return
        elapsed = self._monotonic() - self._started_at
        slowest = (elapsed - self._stalls.grace_seconds) * self._stalls.min_rate
        if self.received < slowest:
            raise self._too_slow()

    def _too_slow(self) -> Refused:
        self.ended = True
        return Refused(
            "too_slow",
            grace=round(self._stalls.grace_seconds),
            rate=self._stalls.min_rate,
        )


def drain(
    source: InputStream,
    stalls: Stalls,
    peer: str,
    stopping: Callable[[], bool],
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Read on and forget, within bounds, so that a client that reads only after it has written all
    of its body can still read the answer."""
    until = monotonic() + DRAIN_SECONDS
    left = DRAIN_BYTES
    with contextlib.suppress(OSError):  # the client is gone
        while left > 0 and monotonic() < until and not stopping():
            with stalls.reading(peer):
                piece = source.read(PIECE)
            left -= len(piece)
            if len(piece) < PIECE:
                return


class DecodedBody:
    """A compressed body as it was before: at most ``limit`` bytes of it, so that a small body that
    stands for a huge one (a bomb) costs no more than a large one."""

    def __init__(
        self, body: RequestBody, coding: str, limit: int, too_large: Callable[[], Refused]
    ) -> None:
        self._body = body
        # 32: zlib or gzip by their header (zlib's manual, inflateInit2).
        self._inflate = zlib.decompressobj(32 + zlib.MAX_WBITS)
        self._left = limit
        self._too_large = too_large
        self._coding = coding

    def read(self) -> bytes:
        """The next decoded bytes; b"" at the end."""
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._body.read()
            if not packed:
                raise self._damaged()
            try:
                piece = self._inflate.decompress(packed, PIECE)
            except zlib.error:
                raise self._damaged() from None
            self._left -= len(piece)
            if self._left < 0:
                raise self._too_large()
            if piece:
                return piece
        while self._body.read():  # counts the rest, and compares its digest
            pass
        return b""

    def _damaged(self) -> Refused:
        return Refused("bad_coding", coding=self._coding)
