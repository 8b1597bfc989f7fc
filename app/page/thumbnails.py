"""Thumbnails of images, on demand, each made by ``app.page.thumbnail_worker``, a program of
its own, and kept on disk."""

from __future__ import annotations

import enum
import io
import os
import select
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

from app.refusals import Refused
from headgate.host.confinement import UNCONFINED
from headgate.host.logs import get as get_log
from headgate.spool.disk.room import Admission
from headgate.spool.disk.thumbnail_files import NOT_AN_IMAGE
from headgate.spool.image.image import Receipt, State
from headgate.spool.spool import Spool

_PROGRAM = Path(__file__).with_name("thumbnail_worker.py")
_SECONDS = 10
WAITING_MOST = 24
"""Requests that wait for the decoder, and hold a thread meanwhile, as many as four browsers make at
once; more are refused."""
LARGEST = 256 * 1024
"""Bytes that are read of what the decoder writes, at most."""


class Missing(enum.StrEnum):
    """Why there is no thumbnail, as shown in its place."""

    DISCARDED = "discarded"
    NOT_HERE = "no longer on this disk"
    NOT_DECODED = "cannot be shown here"
    OFF = "thumbnails are off"


class NoThumbnail(Exception):
    """There is none, and asking again does not help."""

    def __init__(self, why: Missing, reason: str) -> None:
        super().__init__(reason)
        self.why = why
        self.refused = Refused("no_thumbnail", reason=reason)


class Thumbnails:
    """Makes thumbnails, one at a time, and keeps them on disk for all processes
    (``Spool.thumbnails``); a process has one. Thread-safe. ``room``: whether the next upload would
    be taken."""

    def __init__(self, spool: Spool, room: Callable[[], Admission]) -> None:
        self._spool = spool
        self._room = room
        self._making = threading.Lock()
        self._places = threading.BoundedSemaphore(1 + WAITING_MOST)
        self._told = False
        self._decoder = _Decoder()

    def of(self, receipt: Receipt) -> bytes:
        """A JPEG of at most 320 pixels a side; NoThumbnail where there is none, Refused where it
        could not be made now."""
        if receipt.state is State.DISCARDED:
            raise NoThumbnail(Missing.DISCARDED, "the image was discarded.")
        small = self._spool.thumbnails.get(receipt.id)
        if small is None:
            small = self._make_in_turn(receipt)
        if small == NOT_AN_IMAGE:
            raise NoThumbnail(Missing.NOT_DECODED, "the image cannot be decoded.")
        return small

    def _make_in_turn(self, receipt: Receipt) -> bytes:
        if not self._places.acquire(blocking=False):
            raise Refused("thumbnails_busy")
        try:
            if not self._making.acquire(timeout=_SECONDS):
                raise Refused("thumbnails_busy")
            try:
                # Someone else may have asked for the same one, and waited before.
                small = self._spool.thumbnails.get(receipt.id)
                return self._make(receipt) if small is None else small
            finally:
                self._making.release()
        finally:
            self._places.release()

    def _make(self, receipt: Receipt) -> bytes:
        image = self._spool.files.open_image(receipt.name)
        if image is None:
            raise NoThumbnail(Missing.NOT_HERE, "the local copy of the image was deleted.")
        with image:
            made, code = self._decoder.make(image.fileno())
        if code == UNCONFINED:
            why = made.decode(errors="replace")
            if not self._told:
                self._told = True
                get_log().warning("thumbnails.off", why=why)
            raise NoThumbnail(Missing.OFF, f"thumbnails are off: {why}.")
        if code != 0:
            made = NOT_AN_IMAGE
        if code is not None:  # on a busy machine it may only have been too slow
            seen = self._room()
            self._spool.thumbnails.put(
                receipt.id,
                made,
                seen.free_bytes - seen.needed_bytes,
                seen.free_inodes - seen.needed_inodes,
            )
        return made


class _Ended(Exception):
    """The program that decodes is not there any more."""


class _Decoder:
    """The program that decodes, started when it is needed; one caller at a time."""

    def __init__(self) -> None:
        self._asked: socket.socket | None = None
        self._end: Callable[[], object] = lambda: None

    def make(self, image: int) -> tuple[bytes, int | None]:
        """What is written for an open file, and the exit code; None where it took too long, wrote
        too much or died."""
        for _ in range(2):
            try:
                return self._ask(image)
            except _Ended:  # it was idle, and one that is started now is not
                self.stop()
        return b"", None

    def _ask(self, image: int) -> tuple[bytes, int | None]:
        asked = self._asked or self._start()
        until = time.monotonic() + _SECONDS
        read, write = os.pipe2(os.O_CLOEXEC)
        with open(read, "rb", buffering=0) as out:
            try:
                socket.send_fds(asked, [b"1"], [image, write])
            except OSError as error:
                raise _Ended from error
            finally:
                os.close(write)
            made = _read(out, until)
        code = b""
        try:
            asked.settimeout(max(0.001, until - time.monotonic()))
            code = asked.recv(1) if made is not None else b""
        except TimeoutError:
            made = None
        except OSError as error:
            raise _Ended from error
        if made is None:
            self.stop()
            return b"", None
        if not code:
            raise _Ended
        return made, code[0]

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-I", str(_PROGRAM)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
            )
        self._asked = ours
        self._end = weakref.finalize(self, _stop, process, ours)
        return ours

    def stop(self) -> None:
        """End it, and with it what it decodes."""
        self._end()
        self._asked = None


def _stop(process: subprocess.Popen[bytes], asked: socket.socket) -> None:
    asked.close()
    process.kill()
    process.wait()


def _read(out: io.FileIO, until: float) -> bytes | None:
    """All that the decoder writes; None where that is too much or takes too long. It may be in a
    stranger's hands: no more is read than a thumbnail has."""
    made = bytearray()
    ready = select.poll()
    ready.register(out, select.POLLIN)
    while len(made) <= LARGEST and ready.poll(max(0, until - time.monotonic()) * 1000):
        piece = os.read(out.fileno(), LARGEST + 1 - len(made))
        if not piece:
            return bytes(made)
        made += piece
    return None
