"""Every refusal, one row each: code, HTTP status, title, what to do, when to come back. Pure.

``app.responses`` makes an RFC 9457 problem document of it, whose ``type`` is the relative URI
``/problems/<code>``; ``Retry-After`` is set where waiting helps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """One row. ``sentence`` has ``{placeholders}``; ``retry_seconds`` None: no use in waiting.

    Where it is known better, the fact ``retry_after`` of the case counts instead.
    """

    code: str
    status: int
    title: str
    sentence: str
    retry_seconds: int | None = None
    of_image: bool = False  # the image itself is to blame, so it counts against its device
    paced: bool = False  # the device exceeds a limit of its own: it keeps the image and comes back

    @property
    def retry(self) -> bool:
        """Whether the same request may succeed later as it is."""
        return self.retry_seconds is not None

    @property
    def counts(self) -> bool:
        """Whether many of these raise the alert ``uploads-refused``: images may be lost on the
        device, and no other alert reports it."""
        return not (self.of_image or self.paced)


_ROWS = (
    Refusal(
        "bad_request",
        400,
        "The request cannot be understood",
        "The request is not valid HTTP for this address: {reason}.",
    ),
    Refusal(
        "bad_length",
        400,
        "The length is not usable",
        "Send one Content-Length of decimal digits, or Transfer-Encoding: chunked, and never both.",
    ),
    Refusal(
        "short_body",
        400,
        "The body ended too early",
        "{received} bytes came of {expected}; nothing was stored. Send the image again.",
        0,
    ),
    Refusal(
        "bad_multipart",
        400,
        "The form cannot be read",
        "The multipart/form-data body is damaged or cut off: {reason}. Nothing was stored.",
    ),
    Refusal(
        "form_too_large",
        400,
        "The form is too large",
        "A form may have {parts} parts, 8 header lines a part and {field_bytes} bytes of fields.",
    ),
    Refusal(
        "wrong_field",
        400,
        "The file is under another name",
        "The file came in the field {came}; this receiver expects it in the field {field}.",
    ),
    Refusal(
        "no_image",
        400,
        "There is no image in the form",
        "The field {field} with the image is missing; what came: {came}.",
    ),
    Refusal(
        "two_files",
        400,
        "There is more than one file in the form",
        "Send one image a request; nothing of this one was stored.",
    ),
    Refusal(
        "empty_image",
        400,
        "The image is empty",
        "The image has no bytes; nothing was stored.",
        of_image=True,
    ),
    Refusal(
        "bad_field",
        400,
        "A field is not usable",
        "{reason} Nothing was stored; correct it and send again.",
    ),
    Refusal(
        "metadata_too_large",
        400,
        "There is too much metadata",
        "{reason}; send a shorter file name or fewer tags.",
    ),
    Refusal(
        "bad_job",
        400,
        "The job cannot be understood",
        "The body cannot be used: {reason}. Send none at all, or JSON with max_time, max_bytes or "
        "device; nothing was started.",
    ),
    Refusal(
        "unauthorized",
        401,
        "Who is sending?",
        "{reason} Send Authorization: Bearer with the device's token.",
    ),
    Refusal(
        "forbidden",
        403,
        "This sender may not send",
        "{reason}",
    ),
    Refusal(
        "wrong_device",
        403,
        "The token is another device's",
        "The token belongs to {device}, and the request names {named}; send the device's own "
        "token, or leave its name out.",
    ),
    Refusal(
        "not_urgent",
        403,
        "This sender may not mark images as urgent",
        "The right belongs to a token (headgate device add --urgent); send the image without "
        "priority.",
    ),
    Refusal(
        "may_not_drain",
        403,
        "This sender may not ask for drains",
        "{reason}",
    ),
    Refusal(
        "not_found",
        404,
        "There is nothing here",
        "Images are sent to POST /uploadImage or POST /images; GET /limits says how.",
    ),
    Refusal(
        "no_receipt",
        404,
        "No such image is known",
        "No image with this id or SHA-256 was received, or its receipt has expired.",
    ),
    Refusal(
        "no_thumbnail",
        404,
        "There is no small picture of it",
        "No small picture of this image can be shown: {reason}",
    ),
    Refusal(
        "no_job",
        404,
        "No such job is known",
        "No job has this id, or it was done so long ago that it is forgotten.",
    ),
    Refusal(
        "no_sequence",
        404,
        "No sequence numbers are known",
        "This device has sent no image with a sequence number.",
    ),
    Refusal(
        "method_not_allowed",
        405,
        "The method does not fit",
        "This address takes {allowed}.",
    ),
    Refusal(
        "too_slow",
        408,
        "The body came too slowly",
        "A body has {seconds} s, and after the first {grace} s at least {rate} bytes a second; "
        "nothing was stored.",
        10,
    ),
    Refusal(
        "key_conflict",
        409,
        "The key names another image",
        "This Idempotency-Key already names the image {held}, which has other bytes; "
        "send new bytes under a new key.",
    ),
    Refusal(
        "length_required",
        411,
        "The length is missing",
        "Send a Content-Length header with a raw image (curl: --data-binary @file); a stream of "
        "unknown length: send it as multipart/form-data, which may come chunked.",
    ),
    Refusal(
        "too_large",
        413,
        "The image is too large",
        "An image may have {limit} bytes here (receiver.max_image); this one has more.",
        of_image=True,
    ),
    Refusal(
        "content_encoding",
        415,
        "The body is compressed",
        "Send the image as it is, without Content-Encoding: images are compressed already.",
    ),
    Refusal(
        "unsupported_body",
        415,
        "This kind of body is not taken",
        "Send multipart/form-data{raw}; this body is {came}.",
    ),
    Refusal(
        "unsupported_image",
        415,
        "This is not an image that is taken",
        "The content is none of {types}, whatever its name says; nothing was stored.",
        of_image=True,
    ),
    Refusal(
        "truncated_image",
        422,
        "The image is cut off",
        "The bytes begin like {type} but their end is missing; nothing was stored. "
        "Send the whole file.",
        0,
        of_image=True,
    ),
    Refusal(
        "digest_mismatch",
        422,
        "The bytes are not those that were promised",
        "Their {algorithm} is {found}, and {promised} was promised: they changed on the way. "
        "Nothing was stored; send the image again.",
        0,
        of_image=True,
    ),
    Refusal(
        "too_many_pixels",
        422,
        "The image declares too many pixels",
        "It declares {pixels} pixels, and {limit} are taken here (receiver.max_pixels); nothing "
        "was stored.",
        of_image=True,
    ),
    Refusal(
        "too_many_requests",
        429,
        "This device sends too often",
        "A device may send {limit} requests a second (receiver.device_rate). Keep the image.",
        1,
        paced=True,
    ),
    Refusal(
        "too_many_at_once",
        429,
        "This device sends too much at once",
        "A device may send {limit} images at once (receiver.device_parallel). Keep the image.",
        1,
        paced=True,
    ),
    Refusal(
        "too_many_jobs",
        429,
        "Too many drains are asked for",
        "{limit} a minute are taken here (jobs.rate).",
        10,
    ),
    Refusal(
        "jobs_busy",
        503,
        "Other jobs are being read",
        "At most {limit} are read at once, and those that came before are slow. Ask again.",
        1,
    ),
    Refusal(
        "too_many_headers",
        431,
        "There are too many or too long headers",
        "A request may have {limit} header lines of {bytes} bytes each.",
    ),
    Refusal(
        "internal",
        500,
        "The receiver made a mistake",
        "Nothing was acknowledged; send the image again. The receiver's log has the cause.",
        10,
    ),
    Refusal(
        "intake_spent",
        503,
        "All devices together send too much",
        "What the site may take in (receiver.intake) is spent for now. Keep the image.",
        1,
    ),
    Refusal(
        "stopping",
        503,
        "The receiver is stopping",
        "It was told to stop, and only finishes what is arriving. Keep the image.",
        10,
    ),
    Refusal(
        "disk_trouble",
        503,
        "The disk refuses to write",
        "Nothing was stored. The receiver tests its disk and accepts again by itself; "
        "keep the image.",
        10,
    ),
    Refusal(
        "disk_full",
        507,
        "The disk has no room",
        "Nothing was stored: what is being received needs the free space. "
        "Keep the image and send it later.",
        30,
    ),
)

REFUSALS: Mapping[str, Refusal] = {row.code: row for row in _ROWS}


class Refused(Exception):
    """A request is refused; ``facts`` fill the sentence and go into the answer as members."""

    def __init__(self, code: str, **facts: str | int) -> None:
        self.refusal = REFUSALS[code]
        self.facts = facts
        super().__init__(self.sentence)

    @property
    def sentence(self) -> str:
        return self.refusal.sentence.format_map(self.facts)

    @property
    def retry_after(self) -> int | None:
        """Seconds after which to come back; None: no use in waiting."""
        known = self.facts.get("retry_after")
        return int(known) if known is not None else self.refusal.retry_seconds
