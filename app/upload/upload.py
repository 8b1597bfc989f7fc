"""One upload from the first header to the receipt: admit, receive, accept, answer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from app import responses
from app.admission import checks
from app.admission.admission import Gate
from app.admission.auth import Principal, refuse_foreign_page
from app.refusals import Refused
from app.responses import Answer
from app.upload import form
from app.upload.accept import PictureTaker
from app.upload.body import DecodedBody, RequestBody, drain
from app.upload.digests import ContentDigest
from app.upload.form import BodyKind, FormContents
from app.upload.policy import Policy
from app.upload.quoted import is_quoted
from app.upload.request import Framing, UploadRequest
from app.upload.stalled import Stalls
from headgate.host.logs import get as get_log
from headgate.spool.image import names
from headgate.spool.spool import Accepted, Spool

DRAINED_SHARE = 8
"""One thread in eight may read the rest of a refused body, because a silent client holds its
thread until ``Stalls`` ends it. Further clients get their answer without that."""


class Uploads:
    """Receives images into one spool; one a receiver. Thread-safe."""

    def __init__(
        self,
        spool: Spool,
        gate: Gate,
        taker: PictureTaker,
        stalls: Stalls,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool = spool
        self._gate = gate
        self._taker = taker
        self._receiver = spool.settings.receiver
        self._stalls = stalls
        self._monotonic = monotonic
        self._draining = threading.BoundedSemaphore(
            max(1, spool.settings.receiver.threads // DRAINED_SHARE)
        )
        self._log = get_log()

    def receive(self, request: UploadRequest) -> Answer:
        """The answer to one upload, or Refused; then not all of its body may have been read."""
        device, contents = "", FormContents()
        try:
            sender = self._gate.identify(request.caller)
            policy = self._taker.policy(sender)
            if self._receiver.auth != "open":  # where any page may send, too
                refuse_foreign_page(request.caller)
            checks.headers(request.header_sizes)
            length = _length(request.framing)
            body = self._body(request, length, _promised(request, policy))
            device = self._device_before_body(request, sender)
            with self._gate.of_device("" if sender.may_forward else device):
                return self._receive(request, sender, device, body, length, contents, policy)
        except Refused as refused:
            if refused.refusal.of_image:
                self._note_unusable(request, sender, device or contents.form.get("device", ""))
            raise

    def drain(self, request: UploadRequest) -> None:
        """Read the rest of a body after its answer, for clients that write all before they read.

        One that waits for 100 Continue has sent nothing, and reading would make it send."""
        if request.expects_continue and not request.body.received:
            return
        if self._draining.acquire(blocking=False):
            try:
                drain(request.body, self._stalls, request.caller.peer, lambda: self._gate.stopping)
            finally:
                self._draining.release()

    def _body(
        self, request: UploadRequest, length: int | None, digest: ContentDigest | None = None
    ) -> RequestBody:
        return RequestBody(
            request.body,
            length,
            self._receiver.max_image + checks.FORM_OVERHEAD,
            self._too_large,
            self._stalls,
            request.caller.peer,
            self._monotonic,
            digest,
            self._spool.cpu_turns.waiting,
        )

    def _too_large(self) -> Refused:
        return Refused("too_large", limit=self._receiver.max_image)

    def _receive(
        self,
        request: UploadRequest,
        sender: Principal,
        counted: str,
        body: RequestBody,
        length: int | None,
        contents: FormContents,
        policy: Policy,
    ) -> Answer:
        self._gate.check_running()
        coding = checks.coding(request.content_encoding, strict=policy.strict)
        size = checks.length(length, self._receiver.max_image, coded=bool(coding))
        read = body.read
        if coding:
            most = self._receiver.max_image + checks.FORM_OVERHEAD
            read = DecodedBody(body, coding, most, self._too_large).read
        quoted = is_quoted(request.transfer_coding) and not policy.strict
        kind = BodyKind(
            request.media_type,
            request.boundary,
            request.disposition,
            request.raw_allowed,
            body.end_known,
            None if coding or quoted else length,
            quoted=quoted,
        )

        def of_device(device: str) -> contextlib.AbstractContextManager[None]:
            # A device that is only named in the form could not be counted before.
            # A gateway keeps to its own budget, and sends many images of one device at once.
            known = counted or sender.may_forward
            return self._gate.of_device("" if known else device)

        with (
            self._gate.let_in(size, lambda: body.received),
            self._taker.receiving(size) as target,
        ):
            form.take(read, kind, target, self._receiver.field, policy, contents)
            accepted = self._taker.accept(
                contents.pictures,
                (contents.form, request.fields, request.query),
                sender,
                request.caller.peer,
                policy,
                date=request.date,
                admitted=of_device,
            )
        return self._answer(accepted, contents)

    def _answer(self, accepted: list[Accepted], contents: FormContents) -> Answer:
        for one in accepted:
            self._log.info(
                "image.duplicate" if one.duplicate else "image.accepted",
                image=one.receipt.id,
                size=one.receipt.size,
            )
        if len(accepted) == 1 and not contents.refused:
            return responses.accepted(
                accepted[0].receipt, accepted[0].duplicate, self._receiver.upload_status
            )
        return responses.several(
            [(one.receipt, one.duplicate) for one in accepted],
            contents.refused,
            self._receiver.upload_status,
        )

    def _device_before_body(self, request: UploadRequest, sender: Principal) -> str:
        """Whose upload this is, as far as the headers name it; "" otherwise."""
        named = request.fields.get("device", "") or request.query.get("device", "")
        return self._taker.device_of(sender, names.device_name(named), self._taker.policy(sender))

    def _note_unusable(self, request: UploadRequest, sender: Principal, device: str) -> None:
        """Count the image against its device."""
        who = names.device_name(device) or names.address_device(request.caller.peer)
        self._spool.note_unusable(who, enrolled=bool(sender.device))


def _promised(request: UploadRequest, policy: Policy) -> ContentDigest | None:
    """The digest that the body has to have; one that cannot be read promises nothing."""
    if not request.content_digest:
        return None
    try:
        return ContentDigest(request.content_digest)
    except Refused as refused:
        policy.remark(refused)
        policy.keep("content_digest", request.content_digest)
        return None


def _length(framing: Framing) -> int | None:
    return checks.framing(framing.content_length, framing.transfer_encoding)
