"""One upload from the first header to the receipt: admit, receive, accept, answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from flask import Response
from werkzeug.http import parse_options_header

from app import admission, answers, fields, intake
from app.admission import Room
from app.body import Body
from app.latch import Latch
from app.refusals import Refused
from app.reservations import Reservations
from app.stalls import Stalls
from spool import names
from spool.durable import Incoming
from spool.errors import DiskTrouble, IdentityConflict
from spool.facts import Accepted
from spool.item import Metadata, MetadataTooLarge
from spool.logs import get as get_log
from spool.spool import Spool
from spool.units import of_disk

Environ = Mapping[str, Any]


class Uploads:
    """Receives images into one spool; one a receiver. Thread-safe."""

    def __init__(
        self, spool: Spool, stalls: Stalls, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.spool = spool
        self.latch = Latch(spool.probe, monotonic)
        self.reservations = Reservations()
        self.max_image = int(spool.settings["receiver.max_image"])
        self._stalls = stalls
        self._monotonic = monotonic
        self._log = get_log()

    def room(self) -> Room:
        """What is free on the spool's disk, and the floor."""
        free, size, inodes = self.spool.free()
        return Room(free, of_disk(self.spool.settings["spool.keep_free"], size), inodes)

    def check_open(self, wanted: int) -> None:
        """Refused unless an image of ``wanted`` bytes would be taken from somebody now."""
        trouble = self.latch.trouble()
        admission.latch(trouble is not None, trouble is not None and trouble.full)
        admission.room(wanted, self.room(), self.reservations.size, self.reservations.images)

    def receive(self, environ: Environ, raw_allowed: bool) -> Response:
        """The answer to one upload; every refusal is a ``Refused`` whose body has been drained."""
        body: Body | None = None
        try:
            self._admit_sender(environ)
            length = admission.framing(
                environ.get("CONTENT_LENGTH") or None, environ.get("HTTP_TRANSFER_ENCODING")
            )
            body = self._body(environ, length)
            return self._receive(environ, body, length, raw_allowed)
        except Refused:
            # A client that waits for 100 Continue has sent nothing: reading would make it send.
            if body is not None and (body.received or "HTTP_EXPECT" not in environ):
                body.drain()
            raise

    def _admit_sender(self, environ: Environ) -> None:
        settings = self.spool.settings
        admission.credential(
            str(settings["receiver.auth"]),
            settings["receiver.allow"],
            str(environ.get("REMOTE_ADDR", "")),
            admission.is_forwarded(environ),
        )
        admission.headers(sum(name.startswith("HTTP_") for name in environ))

    def _body(self, environ: Environ, length: int | None) -> Body:
        return Body(
            environ["wsgi.input"],
            length,
            self.max_image + admission.FORM_OVERHEAD,
            lambda: Refused("too_large", limit=self.max_image),
            self._stalls,
            str(environ.get("REMOTE_ADDR", "")),
            self._monotonic,
        )

    def _receive(
        self, environ: Environ, body: Body, length: int | None, raw_allowed: bool
    ) -> Response:
        media_type, options = parse_options_header(environ.get("CONTENT_TYPE", ""))
        multipart = media_type == "multipart/form-data"
        trouble = self.latch.trouble()
        admission.latch(trouble is not None, trouble is not None and trouble.full)
        reserved = admission.length(length, multipart, self.max_image)
        room = self.room()  # not under the reservations' lock, where a slow disk would queue all
        with self.reservations.hold(
            reserved, lambda size, images: admission.room(reserved, room, size, images)
        ):
            boundary = options.get("boundary", "")
            admission.body_type(
                media_type, boundary, environ.get("HTTP_CONTENT_ENCODING"), raw_allowed
            )
            try:
                with self.spool.incoming() as incoming:
                    taken = self._take(environ, body, incoming, boundary if multipart else "")
                    accepted = self._accept(environ, incoming, taken)
            except DiskTrouble as trouble:
                self.latch.trip(trouble)
                self._log.error("disk.trouble", doing=trouble.doing, reason=str(trouble))
                raise Refused("disk_full" if trouble.full else "disk_trouble") from trouble
        self._log.info(
            "image.duplicate" if accepted.duplicate else "image.accepted",
            image=accepted.receipt.id,
            size=accepted.receipt.size,
        )
        status = int(self.spool.settings["receiver.upload_status"])
        return answers.accepted(accepted.receipt, accepted.duplicate, status)

    def _take(
        self, environ: Environ, body: Body, incoming: Incoming, boundary: str
    ) -> intake.Taken:
        if boundary:
            field = str(self.spool.settings["receiver.field"])
            return intake.take_form(body, incoming, self.max_image, boundary, field)
        disposition = str(environ.get("HTTP_CONTENT_DISPOSITION", ""))
        return intake.take_raw(body, incoming, self.max_image, disposition)

    def _accept(self, environ: Environ, incoming: Incoming, taken: intake.Taken) -> Accepted:
        said = fields.read(taken.form, _field_headers(environ))
        device = said.device or names.address_device(str(environ.get("REMOTE_ADDR", "")))
        meta = Metadata(
            sha256=incoming.sha256,
            size=incoming.size,
            media_type=taken.media_type,
            file_name=taken.file_name,
            captured_at=said.captured_at,
            sequence=said.sequence,
            key=said.key,
            tags=said.tags,
        )
        try:
            return self.spool.accept(incoming, device, meta)
        except MetadataTooLarge as error:
            raise Refused("metadata_too_large", reason=str(error)) from error
        except IdentityConflict as error:
            raise Refused("key_conflict", held=error.held.id) from error


def _field_headers(environ: Environ) -> dict[str, str]:
    found = {}
    for name, header in fields.HEADERS.items():
        variable = "HTTP_" + header.upper().replace("-", "_")
        if variable in environ:
            found[name] = str(environ[variable])
    return found
