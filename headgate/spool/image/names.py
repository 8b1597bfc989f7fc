"""File names: made by us alone, sortable by time, and readable back. Pure.

``{received:%Y%m%dT%H%M%S.%fZ}_{device}_{sha256[:16]}.{ext}``, with ``-unset`` after the time where
this machine's clock could not be believed; ``parse(str(name)) == name``. The
name carries what a lost catalog and lost attributes would take with them: when, who, and enough of
the digest to notice a changed byte.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DEVICE_OR_ADDRESS = re.compile(r"_?[A-Za-z0-9.-][A-Za-z0-9._-]{0,63}")
_NAME = re.compile(
    r"(?P<time>\d{8}T\d{6}\.\d{6}Z)(?P<unset>-unset)?_(?P<device>_?[A-Za-z0-9.-][A-Za-z0-9._-]{0,63})"
    r"_(?P<digest>[0-9a-f]{16})(?:\.(?P<ext>[a-z0-9]{1,8}))?",
    re.ASCII,
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIME = "%Y%m%dT%H%M%S.%fZ"
_UNSET = "-unset"
_FOLDER = re.compile(r"\d{4}-\d{2}-\d{2}/\d{4}", re.ASCII)

MEDIA_TYPES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "tiff": "image/tiff",
    "bmp": "image/bmp",
    "heic": "image/heic",
    "avif": "image/avif",
    "jxl": "image/jxl",
    "jp2": "image/jp2",
    "j2c": "image/j2c",
    "dng": "image/x-adobe-dng",
    "cr2": "image/x-canon-cr2",
    "cr3": "image/x-canon-cr3",
    "raf": "image/x-fuji-raf",
    "nef": "image/x-nikon-nef",
    "orf": "image/x-olympus-orf",
    "rw2": "image/x-panasonic-rw2",
}
"""The extension of each accepted type: it follows from the content, never from the client."""

EXTENSIONS = {media_type: ext for ext, media_type in MEDIA_TYPES.items()}


ESCAPED = "x--"
"""What the safe form of a device's name begins with, where the name itself is none."""
_PLAIN = re.compile(r"[A-Za-z0-9.-]", re.ASCII)
_DEVICE_MAX = 64


def device_name(named: str) -> str:
    """A device's name in the form that paths and keys have room for; "" for an empty one.

    A name of letters, digits, dots, underscores and hyphens is its own form. Any other is
    ``x--`` and its UTF-8, in which each other byte is ``_`` and two hex digits: ``Front Door`` is
    ``x--Front_20Door``. One that is longer than fits is cut, and ends in 16 hex digits of its
    SHA-256.
    """
    named = named.strip()
    if not named or DEVICE.fullmatch(named):
        return named
    escaped = ESCAPED + "".join(
        chr(byte) if _PLAIN.fullmatch(chr(byte)) else f"_{byte:02X}"
        for byte in named.encode(errors="surrogatepass")
    )
    if len(escaped) > _DEVICE_MAX:
        digest = hashlib.sha256(named.encode(errors="surrogatepass")).hexdigest()[:16]
        escaped = f"{escaped[: _DEVICE_MAX - 18].rstrip('_')}__{digest}"
    return escaped


@functools.lru_cache(maxsize=4096)
def device_shown(device: str) -> str:
    """The name that a device gave itself: the inverse of ``device_name``, but for a name that was
    cut."""
    if not device.startswith(ESCAPED) or "__" in device:
        return device
    escaped = device.removeprefix(ESCAPED)
    try:
        raw = re.sub(
            rb"_([0-9A-F]{2})", lambda one: bytes.fromhex(one[1].decode()), escaped.encode()
        )
        named = raw.decode()
    except UnicodeDecodeError:
        return device
    return named if named and device_name(named) == device else device


class NotOurName(ValueError):
    """Not a name that Headgate made."""


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """One image's file name, taken apart. Orders by time, then device, then digest."""

    received_at: datetime
    device: str
    digest: str  # the first 16 hex digits of the SHA-256
    ext: str
    clock_unset: bool = False
    """The time is a clock's that could not be true, or that no one had set since the boot."""
    id: str = field(init=False, repr=False, compare=False)
    """What devices and people call the image: the name without its extension."""

    def __post_init__(self) -> None:
        if self.received_at.utcoffset() != timedelta(0):
            raise ValueError("received_at must be in UTC")
        if self.received_at.year < 1000:
            raise ValueError("a year has four digits")
        if not _DEVICE_OR_ADDRESS.fullmatch(self.device):
            raise ValueError(f"{self.device!r} cannot be part of a file name")
        if not re.fullmatch(r"[0-9a-f]{16}", self.digest):
            raise ValueError(f"{self.digest!r} is not 16 lower-case hex digits")
        if self.ext not in MEDIA_TYPES:
            raise ValueError(f"{self.ext!r} is not the extension of an accepted image type")
        # Once: every path, row and log line of an image asks for it.
        mark = _UNSET if self.clock_unset else ""
        ident = f"{self.received_at.strftime(_TIME)}{mark}_{self.device}_{self.digest}"
        object.__setattr__(self, "id", ident)

    @property
    def file(self) -> str:
        return f"{self.id}.{self.ext}"

    @property
    def folder(self) -> str:
        """The minute folder below new/ and done/: ``2026-11-23/1604``."""
        return f"{self.day}/{self.id[9:13]}"

    @property
    def day(self) -> str:
        """The UTC day of arrival, which names the file of receipts."""
        return f"{self.id[:4]}-{self.id[4:6]}-{self.id[6:8]}"

    def bumped(self) -> Name:
        """The same name a microsecond later, for when this one is taken."""
        return replace(self, received_at=self.received_at + timedelta(microseconds=1))


def make(
    received_at: datetime, device: str, sha256: str, ext: str, *, clock_unset: bool = False
) -> Name:
    """The name of an image; ``device`` as ``DEVICE`` allows it, or ``address_device()``'s."""
    return Name(received_at.astimezone(UTC), device, sha256[:16], ext, clock_unset)


def parse(file: str) -> Name:
    """The inverse of ``Name.file``; NotOurName for any other string."""
    match = _NAME.fullmatch(file)
    if match is None or match["ext"] is None:
        raise NotOurName(f"{file!r} is not a name that Headgate made")
    time, unset, device, digest, ext = match.groups()
    try:
        at = datetime.fromisoformat(time)
        if at.year < 1000 or ext not in MEDIA_TYPES:
            Name(at, device, digest, ext)  # says what is wrong
    except ValueError as error:
        raise NotOurName(f"{file!r} is not a name that Headgate made: {error}") from error
    # What the expression matched is valid: not checked again, as every pick reads hundreds.
    name = object.__new__(Name)
    set_ = object.__setattr__
    set_(name, "received_at", at)
    set_(name, "device", device)
    set_(name, "digest", digest)
    set_(name, "ext", ext)
    set_(name, "clock_unset", unset is not None)
    set_(name, "id", file[: -len(ext) - 1])
    return name


def day_of_id(image_id: str) -> str | None:
    """The UTC day in an id, or None if the string is no id."""
    match = _NAME.fullmatch(image_id)
    if match is None or match["ext"] is not None:
        return None
    text = match["time"]
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}"


def is_folder(text: str) -> bool:
    """Whether ``text`` has the form of a minute folder (``2026-11-23/1604``)."""
    return _FOLDER.fullmatch(text) is not None


def address_device(address: str) -> str:
    """The name under which an image without a device is kept: ``_192.168.1.20``, ``_fe80--1``.

    A device may not begin with an underscore, so the two cannot be confused.
    """
    try:
        plain = str(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return "_unknown"
    plain = plain.replace(":", "-")
    return f"_{plain}"


def is_sha256(ref: str) -> bool:
    """Whether a reference to an image is the SHA-256 of its bytes, and no id."""
    return _SHA256.fullmatch(ref) is not None


def is_address(device: str) -> bool:
    """Whether the image came without a device, and its sender's address stands for it."""
    return device.startswith("_")
