"""The sender for HTTP: one metered POST, confirmed by the receipt of the Headgate that took it.

A receipt counts if it names the image's SHA-256, its length and the Idempotency-Key that came with
it. A status by itself proves nothing, unless ``destination.proof`` says that it is to do.
"""

from __future__ import annotations

import base64
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from headgate.host import logs
from headgate.host.foreign_json import read_json_object
from headgate.settings.instants import read_rfc3339
from headgate.settings.settings import Settings
from headgate.spool.image.image import Presence, Sent, State
from uploader.destination.contract import Page, Stored, Upload
from uploader.http_post import description
from uploader.http_post.errors import classify
from uploader.http_post.form_body import FormBody
from uploader.wire.connection import Cutoff, send_buffer
from uploader.wire.errors import ErrorKind, SendError
from uploader.wire.file_body import Body, FileBody
from uploader.wire.http import Exchange, HttpRequest, HttpResponse, Timeouts
from uploader.wire.meter import Meter
from uploader.wire.one_shot import host_of, path_of, target_of

_HELD = frozenset({State.WAITING, State.SENDING, State.UPLOADED, State.SET_ASIDE})
"""States of an image that is there, on its way further or not."""
_NO_RECEIPT = "no_receipt"
_NO_UPLOADS_THERE = (301, 302, 303, 307, 308)


class HttpSender:
    """A ``Sender`` for one URL. Nothing is opened before first use."""

    def __init__(
        self,
        settings: Settings,
        pacer: Meter,
        *,
        timeouts: Timeouts | None = None,
        cutoff: Cutoff | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._to = settings.destination
        self._pacer = pacer
        self._timeouts = timeouts or Timeouts.for_rate(max(1, settings.usual_rate))
        self._buffer = send_buffer(settings.usual_rate)
        self._cutoff = cutoff
        self._now = now
        self._by_status = self._to.proof == "status"
        self._log = logs.get().bind()
        self._lock = threading.Lock()
        self._exchange: Exchange | None = None
        self.clock_offset: float | None = None

    @property
    def place(self) -> str:
        return self._to.url

    @property
    def host(self) -> str:
        """The destination's host, for sentences."""
        return host_of(self._to.url)

    @property
    def connections(self) -> int:
        """How many connections were opened so far."""
        return self._exchange.opened if self._exchange else 0

    def send(self, upload: Upload) -> Sent:
        with FileBody(upload.path, upload.size) as file:
            if self._by_status:
                file.check(upload.sha256)
            headers, body = self._request(upload, file)
            answer = self.ask("POST", self._to.url, headers, body)
        if 200 <= answer.status < 300:
            return self._confirmed(upload, answer)
        if answer.status in (409, 412) and (found := self._settled(upload, answer)) is not None:
            return found
        raise self.error(answer)

    def find(self, upload: Upload) -> Sent | None:
        if self._by_status:
            return None  # no one to ask: it is posted again, with the same Idempotency-Key
        answer = self._ask_about(upload.sha256, upload.metadata)
        if answer is None:
            return None
        receipt = document(answer)
        return self._proved(upload, receipt) if _is_of(receipt, upload) else None

    def see(self, stored: Stored) -> Presence:
        if self._by_status:
            raise SendError(
                ErrorKind.TRANSIENT,
                "no-look",
                f"{self.host} cannot be asked what it holds (destination.proof is status).",
                blind=True,
            )
        answer = self._ask_about(stored.key, {})
        receipt = {} if answer is None else document(answer)
        same = receipt.get("sha256") == stored.sha256 and receipt.get("size") == stored.size
        if not same or receipt.get("state") not in _HELD:
            return Presence.GONE
        return Presence.UNKNOWN if self._is_awaited(receipt) else Presence.THERE

    def listed(self, prefix: str, after: str) -> Page:
        raise SendError(ErrorKind.TRANSIENT, "no-listing", f"{self.host} lists no images.")

    def close(self) -> None:
        if self._exchange is not None:
            self._exchange.close()

    # -- for the probe as well

    def ask(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | bytes = b""
    ) -> HttpResponse:
        """Send one request to the destination's own server; SendError when no answer came."""
        all_of_them = {"Host": host_of(url), "User-Agent": "headgate", **headers}
        if self._to.token:
            all_of_them["Authorization"] = f"Bearer {self._to.token}"
        exchange = self._open()
        began = time.monotonic()
        answer = exchange.ask(HttpRequest(method, path_of(url), all_of_them, body))
        seconds = round(time.monotonic() - began, 3)
        self._log.debug("http.answered", method=method, status=answer.status, seconds=seconds)
        if (date := answer.date) is not None:
            self.clock_offset = date.timestamp() + 0.5 - self._now()  # Date has whole seconds
        return answer

    def beside(self, path: str) -> str:
        """The URL of another address of the same receiver: next to the one that takes uploads."""
        return urljoin(self._to.url.partition("?")[0], path)

    def error(self, answer: HttpResponse) -> SendError:
        """What an answer that is a failure means."""
        problem = document(answer)
        said = str(problem.get("detail") or problem.get("title") or answer.said)
        if answer.status in _NO_UPLOADS_THERE:
            said = answer.headers.get("location", "")
        said = " ".join("".join(c if c.isprintable() else " " for c in said[:200]).split())
        error = classify(self.host, answer.status, problem, said.rstrip("."))
        error.wait_seconds = answer.retry_after
        return error

    # -- inside

    def _request(self, upload: Upload, file: FileBody) -> tuple[dict[str, str], Body]:
        headers = dict(upload.metadata)
        if not self._to.field:
            headers["Content-Type"] = upload.media_type
            headers["Content-Length"] = str(upload.size)
            digest = bytes.fromhex(upload.sha256)
            headers["Content-Digest"] = description.content_digest(digest)
            return headers, file
        named = description.file_name(headers) or Path(upload.path).name
        headers.pop(description.FILE_NAME, None)
        boundary = f"headgate-{secrets.token_hex(16)}"
        form = FormBody(
            file, boundary, description.fields(headers), self._to.field, named, upload.media_type
        )
        headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
        headers["Content-Length"] = str(form.size)
        headers["Content-Digest"] = description.content_digest(form.sha256())
        return headers, form

    def _confirmed(self, upload: Upload, answer: HttpResponse) -> Sent:
        receipt = document(answer)
        if _is_of(receipt, upload):
            return self._proved(upload, receipt)
        if self._by_status:
            key = answer.headers.get("location", "") or upload.key
            return Sent(self.place, key, "", uploaded_at=datetime.fromtimestamp(self._now(), UTC))
        if "sha256" in receipt:
            raise SendError(
                ErrorKind.TRANSIENT,
                "not-confirmed",
                f"{self.host} answered with the receipt of another image; this one is sent again.",
                unknown=True,
                refusal=True,
            )
        raise self._no_headgate(answer)

    def _proved(self, upload: Upload, receipt: Mapping[str, Any]) -> Sent:
        """The proof in a receipt of this image; SendError if it is not there, or not yet safe."""
        state = receipt.get("state")
        if state not in _HELD:
            raise SendError(
                ErrorKind.PERMANENT,
                "gone-there",
                f"{self.host} had this image, and it is {state} there: look after it there, then "
                "`headgate retry`.",
                unknown=True,
                refusal=True,
            )
        if self._is_awaited(receipt):
            raise SendError(
                ErrorKind.TRANSIENT,
                "not-yet-safe",
                f"{self.host} has the image and does not call it safe to erase yet "
                "(destination.await_safe); it is asked again later.",
                unknown=True,
                held=True,
            )
        # A time that cannot be read is no reason to doubt the digest.
        at = read_rfc3339(receipt.get("received_at")) or datetime.fromtimestamp(self._now(), UTC)
        digest = base64.b64encode(bytes.fromhex(upload.sha256)).decode("ascii")
        return Sent(self.place, str(receipt["id"]), "", digest, uploaded_at=at)

    def _is_awaited(self, receipt: Mapping[str, Any]) -> bool:
        return self._to.await_safe and receipt.get("safe_to_erase") is not True

    def _settled(self, upload: Upload, answer: HttpResponse) -> Sent | None:
        """The proof that the same image is there, after 409 or 412; None: that cannot be known."""
        if self._by_status:
            return self._at_location(upload, answer.headers.get("location", ""))
        found = self.find(upload)
        if found is None and document(answer).get("code") == "key_conflict":
            raise SendError(
                ErrorKind.PERMANENT,
                "different-object",
                f"{self.host} holds another image under this one's Idempotency-Key "
                f"({upload.key}), and nothing is overwritten: look whether another gateway's spool "
                "was copied here, then `headgate retry`.",
                unknown=True,
                refusal=True,
            )
        return found

    def _at_location(self, upload: Upload, location: str) -> Sent | None:
        """What a server says that names the image which it has: its length has to be ours."""
        there = urljoin(self._to.url, location)
        if not location or urlsplit(there)[:2] != urlsplit(self._to.url)[:2]:
            return None  # the token goes to no other server
        answer = self.ask("HEAD", there, {})
        if answer.status != 200 or answer.headers.get("content-length") != str(upload.size):
            return None
        return Sent(self.place, location, "", uploaded_at=datetime.fromtimestamp(self._now(), UTC))

    def _ask_about(self, ref: str, metadata: Mapping[str, str]) -> HttpResponse | None:
        """The answer with a receipt; None if the receiver has none."""
        names = (description.HEADERS["device"], description.HEADERS["idempotency_key"])
        headers = {name: metadata[name] for name in names if name in metadata}
        answer = self.ask("GET", self.beside(f"images/{quote(ref, safe='')}"), headers)
        if answer.status == 200 and "sha256" in document(answer):
            return answer
        if answer.status == 404 and document(answer).get("code") == _NO_RECEIPT:
            return None
        raise self._no_headgate(answer) if answer.status in (200, 404) else self.error(answer)

    def _no_headgate(self, answer: HttpResponse) -> SendError:
        return SendError(
            ErrorKind.FATAL,
            "no-receipt",
            f"{self.host} answers {answer.status} with no receipt, so nothing proves that an image "
            "is there: it is no Headgate, or something stands before it. Correct destination.url; "
            'for a server that gives none, set destination.proof to "status".',
            unknown=True,
            refusal=True,
        )

    def _open(self) -> Exchange:
        with self._lock:
            if self._exchange is None:
                target = replace(
                    target_of(self._to.url, self._trusted()),
                    url_setting="destination.url",
                    ca_setting="destination.ca_bundle",
                )
                self._exchange = Exchange(
                    target, self._pacer, self._timeouts, self._buffer, self._cutoff
                )
            return self._exchange

    def _trusted(self) -> ssl.SSLContext | None:
        if not self._to.ca_bundle:
            return None
        try:
            return ssl.create_default_context(cafile=self._to.ca_bundle)
        except (OSError, ssl.SSLError) as error:
            raise SendError(
                ErrorKind.FATAL,
                "ca-bundle",
                f"The certificates in {self._to.ca_bundle} cannot be read ({error}); correct "
                "destination.ca_bundle.",
            ) from error


def document(answer: HttpResponse) -> dict[str, Any]:
    """A JSON object in the answer, or nothing."""
    return read_json_object(answer.body) or {}


def _is_of(receipt: Mapping[str, Any], upload: Upload) -> bool:
    """Whether it is the receipt of this image, and not of another one with the same bytes."""
    key = upload.metadata.get(description.HEADERS["idempotency_key"], "")
    return (
        receipt.get("sha256") == upload.sha256
        and receipt.get("size") == upload.size
        and receipt.get("idempotency_key", "") == key
        and bool(receipt.get("id"))
    )
