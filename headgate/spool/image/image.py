"""What both halves say about one image: its metadata, where it is, its receipt. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from headgate.host.foreign_json import read_json
from headgate.spool.image import names
from headgate.spool.image.names import Name

_SHA256 = re.compile(r"[0-9a-f]{64}")
_EXIF_DATE = re.compile(r"\d{4}:\d\d:\d\d ")
_MOST = 2**63  # what SQLite keeps in an integer
CLOCK_UNSET = (
    "The receiver's clock was not set when this image arrived: the time in its id and its key may "
    "be wrong."
)
METADATA_MAX = 2048
"""Bytes of one image's metadata as stored: what every supported file system has room for."""
_SURELY_FITS = METADATA_MAX // 8
"""So much JSON never becomes too long when it is read and written again, whatever is in it: a
number such as 1e15 grows the most, to less than five times its length."""


class State(StrEnum):
    """The words of receipts, metrics and the page; the folders are in ``spool/__init__``."""

    WAITING = "waiting"
    SENDING = "sending"
    UPLOADED = "uploaded"
    HELD = "held"  # a person holds it, or its device: it is not sent until it is released
    SET_ASIDE = "set_aside"
    LOST = "lost"  # its file is gone, and no one has proof of it elsewhere
    DISCARDED = "discarded"  # a person gave it up


GONE = frozenset({State.LOST, State.DISCARDED})
"""Of an image that is neither here nor on its way; no list shows it unless it is asked for."""


@dataclass(frozen=True, slots=True)
class Remarks:
    """What was noticed about an image that was taken all the same; kept as long as its receipt."""

    warnings: tuple[str, ...] = ()
    complete: bool = True  # False: its end was missing when its device sent it

    def encode(self) -> str:
        """JSON; "" if there is nothing to say."""
        if not self.warnings and self.complete:
            return ""
        fields = {"warnings": list(self.warnings), "complete": self.complete}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Remarks:
        """The inverse of ``encode``."""
        if not text:
            return _NO_REMARKS
        fields = json.loads(text)
        return cls(tuple(fields.get("warnings", ())), bool(fields.get("complete", True)))


_NO_REMARKS = Remarks()


def encode_tags(tags: Mapping[str, str]) -> str:
    """JSON; "" if there are none."""
    return json.dumps(dict(tags), ensure_ascii=False, separators=(",", ":")) if tags else ""


def decode_tags(text: str) -> Mapping[str, str]:
    """The inverse of ``encode_tags``."""
    return json.loads(text) if text else {}


class MetadataTooLarge(ValueError):
    """The metadata does not fit into the attributes; the device has to send less."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What travels with the file, in one extended attribute, and on to S3.

    ``captured_at`` is kept as the device wrote it: its clock may be wrong, and nothing is ordered
    by it. ``as_sent`` has the values that could not be used, as they came, by field. ``lost``
    says that the attribute was gone (cp, tar, rsync without -X) and only what the
    name and the content tell is left; it is never written.
    """

    sha256: str  # 64 hex digits
    size: int  # bytes
    media_type: str
    file_name: str = ""  # the client's
    captured_at: str = ""
    sequence: int | None = None
    key: str = ""  # Idempotency-Key
    tags: Mapping[str, str] = field(default_factory=dict)
    urgent: bool = False
    as_sent: Mapping[str, str] = field(default_factory=dict)
    remarks: Remarks = _NO_REMARKS
    lost: bool = False

    @property
    def captured(self) -> datetime | None:
        """When it was taken, to search by; None where that is not known. A time without a zone, as
        EXIF has it, is this machine's local time."""
        text = self.captured_at
        if _EXIF_DATE.match(text):
            text = f"{text[:4]}-{text[5:7]}-{text[8:]}"
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            return None

    def encode(self) -> bytes:
        """UTF-8 JSON of at most ``METADATA_MAX`` bytes; MetadataTooLarge otherwise."""
        fields: dict[str, Any] = {"v": 1, "sha256": self.sha256, "size": self.size}
        fields["type"] = self.media_type
        for word, value in (
            ("file", self.file_name),
            ("captured", self.captured_at),
            ("seq", self.sequence),
            ("key", self.key),
            ("tags", dict(self.tags)),
            ("urgent", self.urgent),
            ("said", dict(self.as_sent)),
            ("warn", list(self.remarks.warnings)),
            ("cut", not self.remarks.complete),
        ):
            if value or (word == "seq" and value is not None):
                fields[word] = value
        data = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
        if len(data) > METADATA_MAX:
            raise MetadataTooLarge(
                f"file name, tags and the other fields take {len(data)} bytes together; "
                f"at most {METADATA_MAX} fit"
            )
        return data

    @classmethod
    def decode(cls, data: bytes) -> Metadata:
        """The inverse of ``encode``; ValueError for anything else."""
        try:
            fields = read_json(data.decode())
            meta = cls(
                sha256=str(fields["sha256"]),
                size=int(fields["size"]),
                media_type=str(fields["type"]),
                file_name=str(fields.get("file", "")),
                captured_at=str(fields.get("captured", "")),
                sequence=None if fields.get("seq") is None else int(fields["seq"]),
                key=str(fields.get("key", "")),
                tags={str(k): str(v) for k, v in fields.get("tags", {}).items()},
                urgent=bool(fields.get("urgent", False)),
                as_sent={str(k): str(v) for k, v in fields.get("said", {}).items()},
                remarks=Remarks(
                    tuple(str(one) for one in fields.get("warn", ())),
                    not fields.get("cut", False),
                ),
            )
            if len(data) > _SURELY_FITS or b"\\" in data:
                meta.encode()  # whatever can be read can be written again
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not the metadata of an image: {error}") from error
        # A changed byte must not reach the catalog, which takes these as they are.
        if (
            not _SHA256.fullmatch(meta.sha256)
            or meta.media_type not in names.EXTENSIONS
            or not 0 <= meta.size < _MOST
            or not 0 <= (meta.sequence or 0) < _MOST
        ):
            raise ValueError("not the metadata of an image: a field is out of its range")
        return meta


@dataclass(frozen=True, slots=True)
class Item:
    """One acknowledged image that is not yet proved to be in the bucket, as the catalog has it."""

    name: Name
    sha256: str
    size: int
    state: State
    arrival: int = 0  # order of arrival; no clock
    key: str = ""
    sequence: int | None = None
    attempts: int = 0
    next_attempt_at: datetime | None = None
    urgent: bool = False  # goes before the others, for up to half the bytes
    unknown: bool = False  # an attempt's outcome was never learned: ask before sending again
    last_error: str = ""  # why it is set aside, or why the last attempt failed
    refusals: int = 0  # how often S3 refused it in a way in which it may refuse any image
    remarks: Remarks = _NO_REMARKS
    captured_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.name.id


@dataclass(frozen=True, slots=True)
class Sent:
    """The proof that S3 holds an image, as S3 reported it."""

    bucket: str
    key: str
    etag: str
    sha256: str = ""  # base64 as S3 gave it; empty where the ETag is the proof
    version_id: str = ""
    uploaded_at: datetime | None = None


class PruneRule(StrEnum):
    """Why the copy of an uploaded image was deleted here."""

    AGE = "spool.keep_done"
    SIZE = "spool.keep_done_max"
    ROOM = "room for new images"
    MISSING = "its file was gone"
    PURGE = "headgate purge"


class Presence(StrEnum):
    """What a look at the bucket says of an object that was confirmed once."""

    THERE = "there"
    GONE = "gone"  # or another object is in its place
    UNKNOWN = "unknown"  # no one could tell


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a device may ask for before it erases its card."""

    id: str
    sha256: str
    size: int
    device: str
    received_at: datetime
    state: State
    local: bool  # a copy is still on this disk
    media_type: str
    key_given: str = ""  # Idempotency-Key
    sequence: int | None = None
    bucket: str = ""
    key: str = ""
    etag: str = ""
    version_id: str = ""
    uploaded_at: datetime | None = None
    reason: str = ""  # of an image set aside, or of the last failed attempt
    remarks: Remarks = _NO_REMARKS
    captured_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    pruned_at: datetime | None = None  # when the copy here was deleted
    pruned_by: str = ""  # by which rule: a PruneRule, or empty in an older receipt

    @property
    def name(self) -> Name:
        """The file's name, wherever it lies."""
        return names.parse(f"{self.id}.{names.EXTENSIONS[self.media_type]}")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be known of an image that was taken all the same, as sentences."""
        clock = (CLOCK_UNSET,) if self.name.clock_unset else ()
        return clock + self.remarks.warnings

    @property
    def safe_to_erase(self) -> bool:
        """Only what is proved to be in the bucket may go from the camera's card."""
        return self.state is State.UPLOADED


@dataclass(frozen=True, slots=True)
class Foreign:
    """The receipt of an image that another gateway has, as that gateway last said it."""

    receipt: Receipt
    gateway: str
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Count:
    """A number of images and their bytes."""

    images: int = 0
    bytes: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.images + other.images, self.bytes + other.bytes)

    def __sub__(self, other: Count) -> Count:
        return Count(self.images - other.images, self.bytes - other.bytes)


NONE = Count()


@dataclass(frozen=True, slots=True)
class Totals:
    """The maintained counts; ``received`` counts every arrival."""

    received: Count
    waiting: Count
    sending: Count
    set_aside: Count
    held: Count = NONE
