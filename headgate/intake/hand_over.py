"""Hands a picture to the receiver on this machine, which makes it durable as it does any other.

For programs of this machine that got a picture in another way (a folder, a card): there is one
process that accepts, so names, repeats, room, limits and the books are the same for all. It knows
such a program by a key that it leaves in the spool's site.sqlite3 at each start: who can read that
may do anything to the spool anyway. Such a program says itself which device sent the picture, and
has to know.
"""

from __future__ import annotations

import http.client
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, BinaryIO
from urllib.parse import quote

from headgate.host.addresses import Address, address_of
from headgate.host.foreign_json import read_json_object
from headgate.spool.site.site import Site
from headgate.spool.spool import Spool

KEY = "local_key"
_SECONDS = 120.0
_PIECE = 256 * 1024
_ANSWER_MAX = 64 * 1024
_OF_PICTURE = frozenset({"truncated_image", "empty_image", "short_body", "digest_mismatch"})
"""Refusals of bytes of which more may come: the file is still being written."""


def leave_key(site: Site) -> str:
    """A new key for this start of the receiver; the one before is worth nothing from then on."""
    key = secrets.token_urlsafe(32)
    site.put(KEY, key)
    return key


class Outcome(StrEnum):
    """What became of one picture."""

    TAKEN = "taken"
    HELD = "held"  # it was here already
    REFUSED = "refused"  # the same bytes will never be taken
    LATER = "later"  # no room, stopping, too often, or the receiver does not answer


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What the receiver answered to a picture. ``sentence`` says why not; ``code`` is the
    refusal's."""

    outcome: Outcome
    receipt: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""
    sentence: str = ""
    retry_after: float = 5.0  # seconds

    @property
    def is_of_picture(self) -> bool:
        """Whether it is about these bytes, which may yet change, and not about the receiver."""
        return self.code in _OF_PICTURE

    @property
    def is_here(self) -> bool:
        """Whether it is durable: then its sender may get an acknowledgement."""
        return self.outcome in (Outcome.TAKEN, Outcome.HELD)


@dataclass(frozen=True, slots=True)
class Sent:
    """The metadata of a picture; all of it is optional."""

    device: str = ""
    file_name: str = ""
    captured_at: str = ""
    sha256: str = ""  # hex, of all its bytes
    tags: Mapping[str, str] = field(default_factory=dict)


class LocalReceiver:
    """The receiver of an open spool. A connection for each request: one lasts no longer."""

    def __init__(self, spool: Spool) -> None:
        self._address: Address = address_of(spool.settings.receiver.bind).from_here
        self._site = spool.site

    def hand_over(self, picture: BinaryIO, sent: Sent) -> HandedOver:
        """Send all of a file that can be sought; whatever fails is an outcome."""
        size = os.fstat(picture.fileno()).st_size
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        headers |= _headers(sent)
        picture.seek(0)
        status, document = self._ask("POST", "/images", headers, picture)
        return _outcome(status, document)

    def held(self, sha256: str, device: str) -> bool:
        """Whether an image of this device with these bytes is known here."""
        status, document = self._ask("GET", f"/images/{sha256}", {})
        return status == 200 and document.get("device") == device

    def _ask(
        self, method: str, path: str, headers: dict[str, str], body: BinaryIO | None = None
    ) -> tuple[int, dict[str, Any]]:
        key = self._site.get(KEY)
        if key is None:
            return 0, {"detail": "The receiver has not started here yet: start it."}
        headers = {"Authorization": f"Bearer {key}", **headers}
        connection = http.client.HTTPConnection(
            self._address.host, self._address.port, timeout=_SECONDS, blocksize=_PIECE
        )
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = answer.read(_ANSWER_MAX)
        except (OSError, http.client.HTTPException) as error:
            why = str(error) or type(error).__name__
            return 0, {"detail": f"The receiver does not answer at {self._address}: {why}"}
        finally:
            connection.close()
        return answer.status, read_json_object(said) or {}


def _headers(sent: Sent) -> dict[str, str]:
    tags = ",".join(f"{name}={value.replace(',', ' ')}" for name, value in sent.tags.items())
    found = {
        "X-Device": sent.device,
        "X-Captured-At": sent.captured_at,
        "X-Sha256": sent.sha256,
        "X-Tags": tags.encode("ascii", "replace").decode(),
    }
    if sent.file_name:
        name = quote(sent.file_name, errors="surrogateescape")
        found["Content-Disposition"] = f"attachment; filename*=UTF-8''{name}"
    return {name: value for name, value in found.items() if value}


def _outcome(status: int, document: Mapping[str, Any]) -> HandedOver:
    if status in (200, 201):
        held = Outcome.HELD if document.get("duplicate") else Outcome.TAKEN
        return HandedOver(held, receipt=document)
    said = str(document.get("detail") or f"The receiver answered {status}.")
    # An answer that is no problem document says nothing of the picture. The key is another's after
    # a restart of the receiver: the next try reads the new one.
    later = status in (0, 401) or bool(document.get("retry")) or "code" not in document
    seconds = document.get("retry_after")
    return HandedOver(
        Outcome.LATER if later else Outcome.REFUSED,
        code=str(document.get("code", "")),
        sentence=said,
        retry_after=float(seconds) if isinstance(seconds, int | float) else 5.0,
    )
