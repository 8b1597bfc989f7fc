"""One upload from the first header to the receipt: admit, receive, accept, answer."""

from __future__ import annotations

import time
from collections.abc import Callable

from app import responses
from app.admission import checks
from app.admission.admission import Gate
from app.admission.auth import Principal, refuse_foreign_page
from app.admission.reservations import Reservation
from app.refusals import Refused
from app.responses import Answer
from app.upload import clock_skew, fields, form
from app.upload.body import RequestBody
from app.upload.digests import ContentDigest
from app.upload.form import FormContents, ImageTarget
from app.upload.request import Framing, UploadRequest
from app.upload.stalled import Stalls
from headgate.host.clock import CLOCK_OFF_SECONDS
from headgate.host.logs import get as get_log
from headgate.spool.catalog.device_stats import ClockReading
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
        gate: Gate,
        stalls: Stalls,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool = spool
        self._gate = gate
        self._max_image = spool.settings.receiver.max_image
        self._stalls = stalls
        self._monotonic = monotonic
        self._clocks_off: set[str] = set()
        self._log = get_log()

    def receive(self, request: UploadRequest) -> Answer:
        """The answer to one upload; every refusal is a ``Refused`` whose body has been drained."""
        body: RequestBody | None = None
        device, taken = "", FormContents()
        try:
            sender = self._gate.identify(request.caller)
            if self._spool.settings.receiver.auth != "open":  # where any page may send, too
                refuse_foreign_page(request.caller)
            checks.headers(request.header_sizes)
            length = _length(request.framing)
            body = self._body(request, length, request.content_digest)
            device = self._device_before_body(request, sender)
            with self._gate.of_device(device):
                return self._receive(request, sender, device, body, length, taken)
        except Refused as refused:
            if refused.refusal.of_image:
                self._note_unusable(request, sender, device or taken.form.get("device", ""))
            body = body or self._unread(request)
            # A client that waits for 100 Continue has sent nothing: reading would make it send.
            if body is not None and (body.received or not request.expects_continue):
                body.drain()
            raise

    def _unread(self, request: UploadRequest) -> RequestBody | None:
        """The body of a request that was refused before it; None if its length is of no use."""
        try:
            length = _length(request.framing)
        except Refused:
            return None
        return self._body(request, length)

    def _body(self, request: UploadRequest, length: int | None, digest: str = "") -> RequestBody:
        return RequestBody(
            request.body,
            length,
            self._max_image + checks.FORM_OVERHEAD,
            lambda: Refused("too_large", limit=self._max_image),
            self._stalls,
            request.caller.peer,
            self._monotonic,
            ContentDigest(digest) if digest else None,
            self._spool.cpu_turns.waiting,
        )

    def _receive(
        self,
        request: UploadRequest,
        sender: Principal,
        counted: str,
        body: RequestBody,
        length: int | None,
        taken: FormContents,
    ) -> Answer:
        self._gate.check_running()
        size = checks.length(length, request.multipart, self._max_image)
        checks.body_type(
            request.media_type, request.boundary, request.content_encoding, request.raw_allowed
        )
        with self._gate.reserved(size) as reserved, self._gate.let_in(size, lambda: body.received):
            try:
                with self._spool.incoming() as incoming:
                    reserved.made()
                    self._take(request, body, incoming, reserved, taken)
                    accepted = self._accept(request, sender, counted, incoming, taken)
            except DiskError as trouble:
                self._gate.latch.trip(trouble)
                self._log.error("disk.trouble", doing=trouble.doing, reason=str(trouble))
                raise Refused("disk_full" if trouble.full else "disk_trouble") from trouble
        self._log.info(
            "image.duplicate" if accepted.duplicate else "image.accepted",
            image=accepted.receipt.id,
            size=accepted.receipt.size,
        )
        status = self._spool.settings.receiver.upload_status
        return responses.accepted(accepted.receipt, accepted.duplicate, status)

    def _take(
        self,
        request: UploadRequest,
        body: RequestBody,
        incoming: Incoming,
        reserved: Reservation,
        taken: FormContents,
    ) -> None:
        max_pixels = self._spool.settings.receiver.max_pixels
        landing = ImageTarget(incoming, self._max_image, max_pixels, reserved.writing)
        if request.multipart:
            field = self._spool.settings.receiver.field
            form.take_form(body, landing, request.boundary, field, taken)
        else:
            form.take_raw(body, landing, request.disposition, taken)

    def _device(self, sender: Principal, named: str) -> str:
        """Whose upload this is. A name that was enrolled is its token's alone: with another's, an
        image or a key could be taken for that device's own."""
        if sender.device and named and named != sender.device:
            raise Refused("wrong_device", device=sender.device, named=named)
        if sender.is_local:
            return named
        if named and not sender.device and self._spool.site.devices.is_named(named):
            raise Refused(
                "unauthorized",
                reason=f"The device {named} was enrolled, so its uploads need its token: send it "
                "as Authorization: Bearer, or use another name; headgate device rotate makes a "
                "new token.",
            )
        return sender.device or named

    def _device_before_body(self, request: UploadRequest, sender: Principal) -> str:
        """The device that the headers name; "" if they name none."""
        named = request.fields.get("device", "").strip()
        return self._device(sender, named if names.DEVICE.fullmatch(named) else "")

    def _note_unusable(self, request: UploadRequest, sender: Principal, device: str) -> None:
        """Count the image against its device."""
        known = names.DEVICE.fullmatch(device)
        who = device if known else names.address_device(request.caller.peer)
        self._spool.note_unusable(who, enrolled=bool(sender.device))

    def _accept(
        self,
        request: UploadRequest,
        sender: Principal,
        counted: str,
        incoming: Incoming,
        taken: FormContents,
    ) -> Accepted:
        said = fields.read(taken.form, request.fields)
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
        clock = clock_skew.reading(request.date, said.captured_at, self._spool.now())
        # A device that is only named in the form could not be counted before.
        with self._gate.of_device("" if counted else device):
            try:
                accepted = self._spool.accept(
                    incoming,
                    device or names.address_device(request.caller.peer),
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
        known = self._spool.catalog.arrivals_of(device)
        if known is None or known.clock_is_off == (device in self._clocks_off):
            return
        if known.clock_is_off:
            self._clocks_off.add(device)
            self._log.warning("device.clock_off", device=device, seconds=known.clock_offset_seconds)
        else:
            self._clocks_off.discard(device)
            self._log.info("device.clock_right", device=device)


def _length(framing: Framing) -> int | None:
    return checks.framing(framing.content_length, framing.transfer_encoding)
