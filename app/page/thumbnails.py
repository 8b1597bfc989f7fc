"""Thumbnails of images, on demand, each made by ``app.page.thumbnail_worker``, a program of
its own."""

from __future__ import annotations

import os
import select
import stat
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from pathlib import Path

from app.refusals import Refused
from headgate.host.confinement import UNCONFINED
from headgate.host.logs import get as get_log
from headgate.spool.image.image import Receipt
from headgate.spool.spool import Spool

_PROGRAM = Path(__file__).with_name("thumbnail_worker.py")
_SECONDS = 10
_KEPT = 200
LARGEST = 256 * 1024
"""Bytes that are read of what the decoder writes, at most."""


class Thumbnails:
    """One a receiver. Thread-safe; makes one at a time, and keeps the last ones."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._making = threading.Lock()
        self._told = False
        self._kept: OrderedDict[str, bytes] = OrderedDict()  # empty: it cannot be decoded

    def of(self, receipt: Receipt) -> bytes:
        """A JPEG of at most 320 pixels a side; Refused where there is none."""
        if not self._making.acquire(timeout=_SECONDS):
            raise Refused("no_thumbnail", reason="Other thumbnails are being made; try again.")
        try:
            small = self._kept.get(receipt.id)
            if small is None:
                small = self._make(receipt)
                self._kept[receipt.id] = small
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(receipt.id)
        finally:
            self._making.release()
        if not small:
            raise Refused("no_thumbnail", reason="the image cannot be decoded.")
        return small

    def _make(self, receipt: Receipt) -> bytes:
        image = self._open(receipt)
        try:
            child = subprocess.Popen(
                [sys.executable, "-I", str(_PROGRAM)],
                stdin=image,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={},
            )
        finally:
            os.close(image)
        made, code = _outcome(child)
        if code == UNCONFINED:
            why = made.decode(errors="replace")
            if not self._told:
                self._told = True
                get_log().warning("thumbnails.off", why=why)
            raise Refused("no_thumbnail", reason=f"thumbnails are off: {why}.")
        return made if code == 0 else b""

    def _open(self, receipt: Receipt) -> int:
        """The image's file, wherever it lies now."""
        for path in self._spool.files.places(receipt.name):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                continue  # a run moved it meanwhile
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return fd
            os.close(fd)
        raise Refused("no_thumbnail", reason="the local copy of the image was deleted.")


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
