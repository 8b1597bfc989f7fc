"""Where files lie, and what they say about themselves."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from headgate.host.foreign_json import read_json
from headgate.settings.instants import read_rfc3339
from headgate.spool.disk import xattrs
from headgate.spool.errors import DiskError, FileMissing
from headgate.spool.image import names
from headgate.spool.image.image import Metadata, Sent
from headgate.spool.image.names import MEDIA_TYPES, Name, NotOurName

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
FOLDERS = ("tmp", "new", "done", "aside", "state", "state/receipts")


class Files:
    """The spool's folders, without the catalog: what a rebuild has to go by."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tmp, self.new = root / "tmp", root / "new"
        self.done, self.aside = root / "done", root / "aside"
        self._new, self._done = str(self.new), str(self.done)
        self.state = root / "state"

    def in_new(self, name: Name) -> Path:
        return Path(self.new_file(name))

    def in_done(self, name: Name) -> Path:
        return Path(self.done_file(name))

    def new_file(self, name: Name) -> str:
        """``in_new`` as text: a Path costs more than the system call that is given it."""
        return f"{self._new}/{name.folder}/{name.file}"

    def done_file(self, name: Name) -> str:
        """The path of an image's file in done/ as text."""
        return f"{self._done}/{name.folder}/{name.file}"

    def in_aside(self, name: Name) -> Path:
        return self.aside / name.file

    def places(self, name: Name) -> list[Path]:
        """Every place where this image lies; one, unless something is wrong."""
        known = (self.in_new(name), self.in_done(name), self.in_aside(name))
        return [path for path in known if os.path.lexists(path)]

    def open_image(self, name: Name, size: int | None = None) -> BinaryIO | None:
        """An image's file, wherever it lies now, to be read; None if there is none, or if it is no
        regular file of this size."""
        for _ in range(2):  # a run may move it between the two looks
            for path in self.places(name):
                with contextlib.suppress(OSError):
                    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                    seen = os.fstat(fd)
                    if stat.S_ISREG(seen.st_mode) and size in (None, seen.st_size):
                        return open(fd, "rb")
                    os.close(fd)
        return None

    def metadata_of(self, name: Name) -> Metadata | None:
        """What an image's file says of it; None if it is not here, or says nothing."""
        for path in self.places(name):
            with contextlib.suppress(DiskError, FileMissing, ValueError):
                attribute = xattrs.get_attribute(path, xattrs.ATTRIBUTE)
                return None if attribute is None else Metadata.decode(attribute)
        return None

    def minutes(self, base: Path) -> Iterator[str]:
        """The minute folders below new/ or done/, oldest first."""
        for day in _listed(base):
            for minute in _listed(base / day):
                folder = f"{day}/{minute}"
                if names.is_folder(folder):
                    yield folder

    def names_in(self, folder: Path) -> list[Name]:
        """The images in one folder, in order; foreign files are left out."""
        found = []
        for file in _listed(folder):
            try:
                found.append(names.parse(file))
            except NotOurName:
                continue
        return sorted(found)

    def foreign(self) -> Iterator[Path]:
        """Whatever lies below new/, done/ and aside/ that Headgate did not put there."""
        for base in (self.new, self.done):
            for day in _listed(base):
                if not (base / day).is_dir():
                    yield base / day
                    continue
                for minute in _listed(base / day):
                    folder = base / day / minute
                    if not names.is_folder(f"{day}/{minute}") or not folder.is_dir():
                        yield folder
                        continue
                    yield from self._foreign_in(folder, f"{day}/{minute}")
        yield from self._foreign_in(self.aside, None)

    def _foreign_in(self, folder: Path, minute: str | None) -> Iterator[Path]:
        for file in _listed(folder):
            try:
                name = names.parse(file)
            except NotOurName:
                yield folder / file
                continue
            if minute is not None and name.folder != minute:
                yield folder / file


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_metadata(path: Path | str, name: Name) -> Metadata:
    """What the file says of itself; where the attribute is gone, what its bytes and name say.

    ``lost`` then marks it. OSError if it cannot be read, Missing if it is gone.
    """
    attribute = xattrs.get_attribute(path, xattrs.ATTRIBUTE)
    if attribute is not None:
        try:
            meta = Metadata.decode(attribute)
            if meta.sha256.startswith(name.digest):
                return meta
        except ValueError:
            pass  # as good as gone
    sha256, size = xattrs.hash_file(path)
    return Metadata(sha256, size, MEDIA_TYPES[name.ext], lost=True)


def write_sent(path: Path | str, sent: Sent) -> None:
    """Put the proof of the upload on the file. Without room for it, the receipt has to do."""
    fields = {
        "bucket": sent.bucket,
        "key": sent.key,
        "etag": sent.etag,
        "sha256": sent.sha256,
        "version": sent.version_id,
        "at": sent.uploaded_at.isoformat() if sent.uploaded_at else "",
    }
    data = _JSON.encode(fields).encode()
    if len(data) <= xattrs.ATTRIBUTE_MAX:
        xattrs.set_attribute(path, xattrs.SENT_ATTRIBUTE, data)


def read_sent(path: Path) -> Sent | None:
    """The proof that ``write_sent`` left, or None."""
    data = xattrs.get_attribute(path, xattrs.SENT_ATTRIBUTE)
    if data is None:
        return None
    try:
        fields = read_json(data)
        return Sent(
            bucket=str(fields["bucket"]),
            key=str(fields["key"]),
            etag=str(fields["etag"]),
            sha256=str(fields.get("sha256", "")),
            version_id=str(fields.get("version", "")),
            uploaded_at=read_rfc3339(fields.get("at")),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def write_reason(path: Path, reason: str, at: datetime) -> None:
    """Put with the file why it was set aside."""
    text = reason
    while True:
        data = json.dumps({"reason": text, "at": at.isoformat()}, ensure_ascii=False).encode()
        if len(data) <= xattrs.ATTRIBUTE_MAX:
            break
        text = text[: len(text) * 3 // 4]
    xattrs.set_attribute(path, xattrs.ASIDE_ATTRIBUTE, data)


def read_reason(path: Path) -> str:
    """Why it was set aside; empty if that is gone."""
    data = xattrs.get_attribute(path, xattrs.ASIDE_ATTRIBUTE)
    try:
        return str(read_json(data)["reason"]) if data else ""
    except (ValueError, KeyError, TypeError):
        return ""
