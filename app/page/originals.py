"""An image as it arrived: from this disk while it is here, else by a link to the bucket."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import BinaryIO

from flask import Response

from app.refusals import Refused
from headgate.settings.settings import Settings
from headgate.spool.image.image import Receipt, State
from headgate.spool.spool import Spool

AT_ONCE = 4
"""Downloads at the same time in one process: each holds a thread, and uploads need threads, too."""
LINK_SECONDS = 300
"""How long a link to the bucket is good."""
_SIGN_SECONDS = 20
_PIECE = 256 * 1024
_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
"""Whatever the bytes are for a browser that shows them, none of it runs."""
_PASSED_ON = (
    "s3.endpoint_url", "s3.region", "s3.profile", "s3.addressing", "s3.ca_bundle",
)  # fmt: skip


class Elsewhere(Exception):
    """The bytes are not on this disk, and no link leads to them; the sentence says how to get
    them."""


class Originals:
    """Hands out images as they arrived; a process has one. Thread-safe."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._signing = threading.Lock()

    def answer(self, held: Receipt, *, with_body: bool) -> Response:
        """The image to be saved, or the way to it; Elsewhere where there is none."""
        file = self._spool.open_original(held)
        if file is None:
            return Response(status=302, headers={
                "Location": self._link(held), "Cache-Control": "no-store",
                "Referrer-Policy": "no-referrer",
            })  # fmt: skip
        if not self._places.acquire(blocking=False):
            file.close()
            raise Refused("downloads_busy")
        response = Response(_pieces(file) if with_body else None, content_type=held.media_type)
        response.call_on_close(file.close)
        response.call_on_close(self._places.release)
        response.headers["Content-Length"] = str(held.size)
        response.headers["Content-Disposition"] = f'attachment; filename="{held.name.file}"'
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Cache-Control"] = "private, max-age=3600"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return response

    def _link(self, held: Receipt) -> str:
        """A link to the object, signed with the credentials that this receiver has, if any. By a
        program of its own: the receiver knows nothing of S3."""
        by_hand = f"On the gateway, headgate get {held.id} gets it"
        if held.state is not State.UPLOADED:
            raise Elsewhere("Its file is not on this machine's disk, nor in the bucket.")
        settings = self._spool.settings
        if settings.destination.kind != "s3" or not held.bucket:
            raise Elsewhere(f"It was sent to {settings.goes_to or 'another server'}. {by_hand}.")
        if not self._signing.acquire(timeout=_SIGN_SECONDS):
            raise Refused("downloads_busy")
        try:
            ran = subprocess.run(
                [sys.executable, "-I", "-m", "uploader.s3.presign"],
                input=json.dumps(_asked(settings, held)),
                capture_output=True, text=True, timeout=_SIGN_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Elsewhere(f"No link to the bucket could be signed in time. {by_hand}.") from None
        finally:
            self._signing.release()
        if ran.returncode or not ran.stdout.startswith(("https://", "http://")):
            why = ran.stdout.strip() or "No link to the bucket could be signed."
            raise Elsewhere(f"This receiver cannot link to the bucket: {why} {by_hand}.")
        return ran.stdout.strip()


def _asked(settings: Settings, held: Receipt) -> dict[str, object]:
    known = {name: str(settings.value(name) or "") for name in _PASSED_ON}
    return {
        "settings": {**{k: v for k, v in known.items() if v}, "s3.bucket": held.bucket},
        "key": held.key,
        "version": held.version_id,
        "file": held.name.file,
        "seconds": LINK_SECONDS,
    }


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece
