"""Every refusal, one row each: code, HTTP status, title, what to do, when to retry. Pure.

``app.responses`` makes an RFC 9457 problem document of it, whose ``type`` is the relative URI
``/problems/<code>``; ``Retry-After`` is set if waiting helps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """One kind of refusal, a row of the table.

    ``sentence`` has ``{placeholders}``; ``retry_seconds`` None: waiting does not help.

    The fact ``retry_after`` of a case overrides ``retry_seconds``.
    """

    code: str
    status: int
    title: str
    sentence: str
    retry_seconds: int | None = None
    of_image: bool = False  # the image itself is the cause, so it counts against its device
    for_people: bool = False  # it has to do with the page, and with no device
    paced: bool = False  # the device exceeds a limit of its own: it keeps the image and comes back

    @property
    def retry(self) -> bool:
        """Whether the same request may succeed later as it is."""
        return self.retry_seconds is not None

    @property
    def counts(self) -> bool:
        """Whether many of these raise the alert ``uploads-refused``: images may be lost on the
        device, and no other alert reports it."""
        return not (self.of_image or self.paced or self.for_people)


_ROWS = (
    Refusal(
        "bad_request",
        400,
        "Bad request",
        "The request is not valid HTTP for this address: {reason}.",
    ),
    Refusal(
        "bad_length",
        400,
        "Invalid length",
        "Send one Content-Length of decimal digits, or Transfer-Encoding: chunked, but not both.",
    ),
    Refusal(
        "short_body",
        400,
        "Incomplete body",
        "{received} of {expected} bytes arrived; nothing was stored. Send the image again.",
        0,
    ),
    Refusal(
        "bad_multipart",
        400,
        "Invalid form",
        "The multipart/form-data body is damaged or incomplete: {reason}. Nothing was stored.",
    ),
    Refusal(
        "form_too_large",
        400,
        "Form too large",
        "A form may have {parts} parts, {headers} header lines a part and {field_bytes} bytes of "
        "text fields.",
    ),
    Refusal(
        "wrong_field",
        400,
        "Wrong form field",
        "The file is in the field {came}; this receiver expects it in the field {field}.",
    ),
    Refusal(
        "no_image",
        400,
        "No image in the form",
        "The field {field} with the image is missing; the form has: {came}.",
    ),
    Refusal(
        "two_files",
        400,
        "More than one file",
        "Send one image a request; nothing of this one was stored.",
    ),
    Refusal(
        "empty_image",
        400,
        "Empty image",
        "The image has no bytes; nothing was stored.",
        of_image=True,
    ),
    Refusal(
        "bad_field",
        400,
        "Invalid field",
        "{reason} Nothing was stored; correct it and send again.",
    ),
    Refusal(
        "metadata_too_large",
        400,
        "Metadata too large",
        "{reason}; send a shorter file name or fewer tags.",
    ),
    Refusal(
        "bad_job",
        400,
        "Invalid job",
        "The body is not valid: {reason}. Send no body, or JSON with max_time, max_bytes or "
        "device; nothing was started.",
    ),
    Refusal(
        "unauthorized",
        401,
        "Authentication required",
        "{reason} Send Authorization: Bearer with the device's token.",
    ),
    Refusal(
        "forbidden",
        403,
        "Not allowed to send",
        "{reason}",
    ),
    Refusal(
        "login_required",
        403,
        "Log-in required",
        "{reason}",
        for_people=True,
    ),
    Refusal(
        "role_needed",
        403,
        "Not allowed for this role",
        "This is for users with the role {role}: headgate user role changes a user's role.",
        for_people=True,
    ),
    Refusal(
        "stale_form",
        400,
        "Form no longer valid",
        "The form is not one that this browser got from here, or was open for too long: load the "
        "page again, and send it again.",
        for_people=True,
    ),
    Refusal(
        "too_many_logins",
        429,
        "Too many attempts to log in",
        "Wait before the next attempt.",
        30,
        for_people=True,
    ),
    Refusal(
        "wrong_device",
        403,
        "Token of another device",
        "The token belongs to {device}, but the request names {named}; use the device's own "
        "token, or omit the name.",
    ),
    Refusal(
        "not_urgent",
        403,
        "Not allowed to mark images as urgent",
        "This needs a token with that permission (headgate device add --urgent); send the image "
        "without priority.",
    ),
    Refusal(
        "may_not_drain",
        403,
        "Not allowed to start drains",
        "{reason}",
    ),
    Refusal(
        "not_found",
        404,
        "Not found",
        "Send images to POST /uploadImage or POST /images; GET /limits describes them.",
    ),
    Refusal(
        "no_receipt",
        404,
        "Image not found",
        "No image with this id or SHA-256 was received, or its receipt has expired.",
    ),
    Refusal(
        "gateways_away",
        503,
        "Other gateways cannot be asked",
        "This gateway does not have the image, and what the others have cannot be asked now: "
        "{reason}. Ask again later.",
        retry_seconds=10,
    ),
    Refusal(
        "no_thumbnail",
        404,
        "No thumbnail",
        "There is no thumbnail of this image: {reason}",
    ),
    Refusal(
        "thumbnails_busy",
        503,
        "Thumbnails are being made",
        "Other thumbnails are being made first, one at a time. Ask again in a moment.",
        2,
    ),
    Refusal(
        "no_original",
        404,
        "Not on this disk",
        "The image as it arrived cannot be downloaded here: {reason}",
    ),
    Refusal(
        "downloads_busy",
        503,
        "Too many downloads",
        "Other images are being downloaded, and uploads come first. Ask again in a moment.",
        5,
    ),
    Refusal(
        "no_device",
        404,
        "Device not found",
        "No device of this name was enrolled or has sent an image.",
    ),
    Refusal(
        "no_job",
        404,
        "Job not found",
        "No job has this id, or its record has expired.",
    ),
    Refusal(
        "no_sequence",
        404,
        "No sequence numbers",
        "This device has sent no image with a sequence number.",
    ),
    Refusal(
        "method_not_allowed",
        405,
        "Method not allowed",
        "This address accepts {allowed}.",
    ),
    Refusal(
        "too_slow",
        408,
        "Upload too slow",
        "After the first {grace} s, a body must arrive at {rate} bytes a second or more; nothing "
        "was stored.",
        10,
    ),
    Refusal(
        "key_conflict",
        409,
        "Idempotency key already used",
        "This Idempotency-Key belongs to the image {held}, which has different bytes; "
        "send new bytes with a new key.",
    ),
    Refusal(
        "length_required",
        411,
        "Length required",
        "Send a Content-Length header with this image (curl: --data-binary @file), or a "
        "Content-Digest: a raw body of unknown length is taken only if the image itself says where "
        "it ends, as JPEG, PNG, WebP and TIFF do. Multipart/form-data may be chunked with any.",
    ),
    Refusal(
        "too_large",
        413,
        "Image too large",
        "An image may have at most {limit} bytes (receiver.max_image); this one has more.",
        of_image=True,
    ),
    Refusal(
        "content_encoding",
        415,
        "Compressed body",
        "Send the image as it is, without Content-Encoding, or with gzip: images are compressed "
        "already.",
    ),
    Refusal(
        "bad_coding",
        400,
        "Damaged compressed body",
        "The body says that it is {coding}, and cannot be decoded; nothing was stored. Send the "
        "image as it is, without Content-Encoding.",
    ),
    Refusal(
        "unsupported_body",
        415,
        "Unsupported body type",
        "Send multipart/form-data with the image as a file, or the image itself as the body; this "
        "body is {came}.",
    ),
    Refusal(
        "unsupported_image",
        415,
        "Unsupported image type",
        "The content is none of {types}, whatever its name says; nothing was stored.{hint}",
        of_image=True,
    ),
    Refusal(
        "truncated_image",
        422,
        "Truncated image",
        "The bytes begin like {type}, all that were announced came, and the image's end is not "
        "among them; nothing was stored. The file itself is cut off: send the next one.",
        of_image=True,
    ),
    Refusal(
        "no_picture",
        422,
        "No picture in the file",
        "The bytes are a file of {type} with no picture in it; nothing was stored. Send the next "
        "one.",
        of_image=True,
    ),
    Refusal(
        "digest_mismatch",
        422,
        "Checksum mismatch",
        "The received bytes have the {algorithm} {found}, but the request declares {promised}: "
        "they changed in transit. Nothing was stored; send the image again.",
        0,
        of_image=True,
    ),
    Refusal(
        "too_many_pixels",
        422,
        "Too many pixels",
        "The image declares {pixels} pixels; the maximum is {limit} (receiver.max_pixels). "
        "Nothing was stored.",
        of_image=True,
    ),
    Refusal(
        "too_many_requests",
        429,
        "Too many requests",
        "A device may send {limit} requests a second (receiver.device_rate). Keep the image.",
        1,
        paced=True,
    ),
    Refusal(
        "too_many_at_once",
        429,
        "Too many concurrent uploads",
        "A device may send {limit} images at once (receiver.device_parallel). Keep the image.",
        1,
        paced=True,
    ),
    Refusal(
        "too_many_jobs",
        429,
        "Too many jobs",
        "The limit is {limit} a minute (jobs.rate).",
        10,
    ),
    Refusal(
        "jobs_busy",
        503,
        "Busy with other jobs",
        "At most {limit} are read at once, and the ones before this are slow. Try again.",
        1,
    ),
    Refusal(
        "too_many_headers",
        431,
        "Headers too large",
        "A request may have {limit} header lines of {bytes} bytes each.",
    ),
    Refusal(
        "internal",
        500,
        "Internal error",
        "Nothing was acknowledged; send the image again. The receiver's log has the cause.",
        10,
    ),
    Refusal(
        "intake_spent",
        503,
        "Site over its intake limit",
        "All devices together send more than receiver.intake allows. Keep the image.",
        1,
    ),
    Refusal(
        "stopping",
        503,
        "Receiver is stopping",
        "It only finishes the uploads in progress. Keep the image.",
        10,
    ),
    Refusal(
        "safe_off",
        503,
        "Receiver is taken out of service",
        "It sends what it has and accepts nothing new. Keep the image and send it later.",
        60,
    ),
    Refusal(
        "disk_trouble",
        503,
        "Disk error",
        "Nothing was stored. The receiver tests its disk and accepts images again by itself; "
        "keep the image.",
        10,
    ),
    Refusal(
        "disk_full",
        507,
        "Disk full",
        "Nothing was stored, because there is not enough free space. "
        "Keep the image and send it later.",
        30,
    ),
)

REFUSALS: Mapping[str, Refusal] = {row.code: row for row in _ROWS}


class Refused(Exception):
    """A refused request; ``facts`` fill the sentence and become members of the answer."""

    def __init__(self, code: str, **facts: str | int) -> None:
        self.refusal = REFUSALS[code]
        self.facts = facts
        self.challenges: tuple[str, ...] | None = None  # of a 401, beside Basic and Bearer
        super().__init__(self.sentence)

    @property
    def sentence(self) -> str:
        return self.refusal.sentence.format_map(self.facts)

    @property
    def retry_after(self) -> int | None:
        """Seconds to wait before retrying; None: waiting does not help."""
        known = self.facts.get("retry_after")
        return int(known) if known is not None else self.refusal.retry_seconds
