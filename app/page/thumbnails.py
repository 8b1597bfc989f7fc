"""Thumbnails of images, on demand, each made by ``app.page.thumbnail_worker``, a program of
its own, and kept on disk."""

from __future__ import annotations

import enum
import os
import select
import subprocess
import sys
import threading
import time
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
WAITING_MOST = 4
"""Requests that wait for the decoder, and hold a thread meanwhile; more are refused."""
LARGEST = 256 * 1024
"""Bytes that are read of what the decoder writes, at most."""
_NO_IMAGE = 3
"""``thumbnail_worker.NO_IMAGE``; importing that would load the decoders into the receiver."""


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
    """One a process. Thread-safe; makes one at a time, and keeps them on disk for all processes
    (``Spool.thumbnails``). ``room``: whether the next upload would be taken."""

    def __init__(self, spool: Spool, room: Callable[[], Admission]) -> None:
        self._spool = spool
        self._room = room
        self._making = threading.Lock()
        self._places = threading.BoundedSemaphore(1 + WAITING_MOST)
        self._told = False

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
            child = subprocess.Popen(
                [sys.executable, "-I", str(_PROGRAM)],
                stdin=image,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={},
            )
        made, code = _outcome(child)
        if code == UNCONFINED:
            why = made.decode(errors="replace")
            if not self._told:
                self._told = True
                get_log().warning("thumbnails.off", why=why)
            raise NoThumbnail(Missing.OFF, f"thumbnails are off: {why}.")
        if code != 0:
            made = NOT_AN_IMAGE
        if code in (0, _NO_IMAGE):  # killed for its time, it may have better luck later
            seen = self._room()
            self._spool.thumbnails.put(
                receipt.id,
                made,
                seen.free_bytes - seen.needed_bytes,
                seen.free_inodes - seen.needed_inodes,
            )
        return made


def _outcome(child: subprocess.Popen[bytes]) -> tuple[bytes, int | None]:
    """What it wrote and its exit code; None where it wrote too much or took too long. It may be
    in a stranger's hands: no more is read than a thumbnail has."""
    assert child.stdout is not None
    until = time.monotonic() + _SECONDS
    made = bytearray()
    try:
        with child.stdout as out:
            ready = select.poll()
            ready.register(out, select.POLLIN)
            while len(made) <= LARGEST and ready.poll(max(0, until - time.monotonic()) * 1000):
                piece = os.read(out.fileno(), LARGEST + 1 - len(made))
                if not piece:
                    return bytes(made), child.wait(max(0, until - time.monotonic()))
                made += piece
    except subprocess.TimeoutExpired:
        pass
    finally:
        child.kill()
        child.wait()
    return b"", None
