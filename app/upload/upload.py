"""One upload from the first header to the receipt: admit, receive, accept, answer."""

from __future__ import annotations

import time
from collections.abc import Callable

from werkzeug.http import parse_options_header

from app import responses
from app.admission import checks
from app.admission.admission import Environ, Gate
from app.admission.auth import Principal, refuse_foreign_page
from app.admission.reservations import Reservation
from app.answer import Answer
from app.refusals import Refused
from app.upload import clock_skew, fields, form
from app.upload.body import RequestBody
from app.upload.digests import ContentDigest
from app.upload.form import FormContents, ImageTarget
from app.upload.stalled import Stalls
from headgate.host.logs import get as get_log
from headgate.spool.catalog.device_stats import CLOCK_OFF_SECONDS, ClockReading
from headgate.spool.disk.durable import Incoming
from headgate.spool.errors import DiskError, IdentityConflict
from headgate.spool.image import names
from headgate.spool.image.image import Metadata, MetadataTooLarge
from headgate.spool.spool import Accepted, Spool


class Uploads:
    """Receives images into one spool; one a receiver. Thread-safe."""

    def __init__(
        self,
        spool: Spool,
        stalls: Stalls,
        stopping: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = spool.settings
        self.spool = spool
        self.gate = Gate(spool, stopping, monotonic)
        self.max_image = settings.receiver.max_image
        self._stalls = stalls
        self._monotonic = monotonic
        self._clocks_off: set[str] = set()
        self._log = get_log()

    def receive(self, environ: Environ, raw_allowed: bool) -> Answer:
        """The answer to one upload; every refusal is a ``Refused`` whose body has been drained."""
        body: RequestBody | None = None
        device, taken = "", FormContents()
        try:
            sender = self.gate.identify(environ)
            if self.spool.settings.receiver.auth != "open":  # where any page may send, too
                refuse_foreign_page(environ)
            checks.headers([len(v) for k, v in environ.items() if k.startswith("HTTP_")])
            length = _framing(environ)
            body = self._body(environ, length)
            device = self._device_before_body(environ, sender)
            with self.gate.of_device(device):
                return self._receive(environ, sender, device, body, length, raw_allowed, taken)
        except Refused as refused:
            if refused.refusal.of_image:
                self._note_unusable(environ, sender, device or taken.form.get("device", ""))
            body = body or self._unread(environ)
            # A client that waits for 100 Continue has sent nothing: reading would make it send.
            if body is not None and (body.received or "HTTP_EXPECT" not in environ):
                body.drain()
            raise

    def small_body(
        self, environ: Environ, most: int, too_large: Callable[[], Refused]
    ) -> RequestBody:
        """The body of a request that brings no image: of ``most`` bytes, under the same watch."""
        length = _framing(environ)
        if length is not None and length > most:
            raise too_large()
        peer = str(environ.get("REMOTE_ADDR", ""))
        return RequestBody(
            environ["wsgi.input"], length, most, too_large, self._stalls, peer, self._monotonic
        )

    def _unread(self, environ: Environ) -> RequestBody | None:
        """The body of a request that was refused before it; None if its length is of no use."""
        try:
            length = _framing(environ)
        except Refused:
            return None
        return self._body({**environ, "HTTP_CONTENT_DIGEST": ""}, length)

    def _body(self, environ: Environ, length: int | None) -> RequestBody:
        promised = str(environ.get("HTTP_CONTENT_DIGEST", ""))
        return RequestBody(
            environ["wsgi.input"],
            length,
            self.max_image + checks.FORM_OVERHEAD,
            lambda: Refused("too_large", limit=self.max_image),
            self._stalls,
            str(environ.get("REMOTE_ADDR", "")),
            self._monotonic,
            ContentDigest(promised) if promised else None,
        )

    def _receive(
        self,
        environ: Environ,
        sender: Principal,
        counted: str,
        body: RequestBody,
        length: int | None,
        raw_allowed: bool,
        taken: FormContents,
    ) -> Answer:
        self.gate.check_running()
        media_type, options = parse_options_header(environ.get("CONTENT_TYPE", ""))
        multipart = media_type == "multipart/form-data"
        size = checks.length(length, multipart, self.max_image)
        boundary = options.get("boundary", "")
        checks.body_type(media_type, boundary, environ.get("HTTP_CONTENT_ENCODING"), raw_allowed)
        with self.gate.reserved(size) as reserved, self.gate.let_in(size, lambda: body.received):
            try:
                with self.spool.incoming() as incoming:
                    reserved.made()
                    self._take(
                        environ, body, incoming, reserved, boundary if multipart else "", taken
                    )
                    accepted = self._accept(environ, sender, counted, incoming, taken)
            except DiskError as trouble:
                self.gate.latch.trip(trouble)
                self._log.error("disk.trouble", doing=trouble.doing, reason=str(trouble))
                raise Refused("disk_full" if trouble.full else "disk_trouble") from trouble
        self._log.info(
            "image.duplicate" if accepted.duplicate else "image.accepted",
            image=accepted.receipt.id,
            size=accepted.receipt.size,
        )
        status = self.spool.settings.receiver.upload_status
        return responses.accepted(accepted.receipt, accepted.duplicate, status)

    def _take(
        self,
        environ: Environ,
        body: RequestBody,
        incoming: Incoming,
        reserved: Reservation,
        boundary: str,
        taken: FormContents,
    ) -> None:
        max_pixels = self.spool.settings.receiver.max_pixels
        landing = ImageTarget(incoming, self.max_image, max_pixels, reserved.writing)
        if boundary:
            field = self.spool.settings.receiver.field
            form.take_form(body, landing, boundary, field, taken)
        else:
            disposition = str(environ.get("HTTP_CONTENT_DISPOSITION", ""))
            form.take_raw(body, landing, disposition, taken)

    def _device(self, sender: Principal, named: str) -> str:
        """Whose upload this is. A name that was enrolled is its token's alone: with another's, an
        image or a key could be taken for that device's own."""
        if sender.device and named and named != sender.device:
            raise Refused("wrong_device", device=sender.device, named=named)
        if named and not sender.device and self.spool.site.devices.is_named(named):
            raise Refused(
                "unauthorized",
                reason=f"The device {named} was enrolled, so its uploads need its token: send it "
                "as Authorization: Bearer, or use another name; headgate device rotate makes a "
                "new token.",
            )
        return sender.device or named

    def _device_before_body(self, environ: Environ, sender: Principal) -> str:
        """Whose upload this is, as far as that can be told from the headers; "" otherwise."""
        named = str(environ.get("HTTP_X_DEVICE", "")).strip()
        return self._device(sender, named if names.DEVICE.fullmatch(named) else "")

    def _note_unusable(self, environ: Environ, sender: Principal, device: str) -> None:
        """Count the image against its device."""
        known = names.DEVICE.fullmatch(device)
        who = device if known else names.address_device(str(environ.get("REMOTE_ADDR", "")))
        self.spool.note_unusable(who, enrolled=bool(sender.device))

    def _accept(
        self,
        environ: Environ,
        sender: Principal,
        counted: str,
        incoming: Incoming,
        taken: FormContents,
    ) -> Accepted:
        said = fields.read(taken.form, _field_headers(environ))
        device = self._device(sender, said.device)
        if said.urgent and not sender.urgent:
            raise Refused("not_urgent")
        if said.sha256 and said.sha256 != incoming.sha256:
            raise Refused(
                "digest_mismatch",
                algorithm="SHA-256",
                promised=said.sha256,
                found=incoming.sha256,
            )
        meta = Metadata(
            sha256=incoming.sha256,
            size=incoming.size,
            media_type=taken.media_type,
            file_name=taken.file_name,
            captured_at=said.captured_at,
            sequence=said.sequence,
            key=said.key,
            tags=said.tags,
            urgent=said.urgent,
        )
        clock = clock_skew.reading(
            str(environ.get("HTTP_DATE", "")), said.captured_at, self.spool.now()
        )
        # A device that is only named in the form could not be counted before.
        with self.gate.of_device("" if counted else device):
            try:
                accepted = self.spool.accept(
                    incoming,
                    device or names.address_device(str(environ.get("REMOTE_ADDR", ""))),
                    meta,
                    clock,
                )
            except MetadataTooLarge as error:
                raise Refused("metadata_too_large", reason=str(error)) from error
            except IdentityConflict as error:
                raise Refused("key_conflict", held=error.held.id) from error
        if device and clock is not None:
            self._watch_clock(device, clock)
        return accepted

    def _watch_clock(self, device: str, clock: ClockReading) -> None:
        """Say once that a device's clock is off, by the best reading of it, and once that it is
        not any more."""
        if abs(clock.offset_seconds) < CLOCK_OFF_SECONDS and device not in self._clocks_off:
            return
        known = self.spool.catalog.arrivals_of(device)
        if known is None or known.clock_is_off == (device in self._clocks_off):
            return
        if known.clock_is_off:
            self._clocks_off.add(device)
            self._log.warning("device.clock_off", device=device, seconds=known.clock_offset_seconds)
        else:
            self._clocks_off.discard(device)
            self._log.info("device.clock_right", device=device)


def _framing(environ: Environ) -> int | None:
    return checks.framing(
        environ.get("CONTENT_LENGTH") or None, environ.get("HTTP_TRANSFER_ENCODING")
    )


def _field_headers(environ: Environ) -> dict[str, str]:
    found = {}
    for name, header in fields.HEADERS.items():
        variable = "HTTP_" + header.upper().replace("-", "_")
        if variable in environ:
            found[name] = str(environ[variable])
    return found
