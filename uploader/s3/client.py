"""The sender for S3: one metered attempt, confirmed by the digest that S3 reports.

What counts as proof, in this order: the SHA-256 in the answer; where the server reports none, an
ETag equal to the MD5 (a single-part object without KMS); a CRC-32 that it checks and reports; else
what a HEAD reports. A status of 200 by itself proves nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headgate.settings.instants import read_http_date
from headgate.settings.settings import Settings
from headgate.spool.image.image import Presence, Receipt, Sent
from headgate.spool.site.confirmation import ProofKind
from uploader.destination.contract import Page, Stored, Upload
from uploader.s3.dialect import CRC32, Dialect, IfNoneMatch, Taken, as_header, is_about_headers
from uploader.s3.errors import (
    THERE_ALREADY,
    RequestTarget,
    classify,
    different_object,
    not_confirmed,
    not_s3,
)
from uploader.s3.listing import page_of, versions_of
from uploader.s3.signed_requests import SignedRequests
from uploader.wire.connection import SEND_BUFFER, Cutoff
from uploader.wire.errors import ErrorKind, SendError
from uploader.wire.file_body import FileBody
from uploader.wire.http import HttpResponse, Timeouts, normal_etag
from uploader.wire.meter import Meter

if TYPE_CHECKING:
    from uploader.s3.endpoint import Access

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
_LISTING_MAX = 4 * 1024 * 1024  # bytes: a thousand keys of a kilobyte, escaped
_DOWNLOADS = (ProofKind.DOWNLOAD, ProofKind.SAMPLE)
_WITHOUT_SHA256 = (ProofKind.CRC32, ProofKind.HEAD, *_DOWNLOADS)
"""Proofs that stay in force where a HEAD confirms an image without its SHA-256."""
CONTINUE_SECONDS = 1.0
"""How long a body is held back at most until the server asks for it: as long as curl waits."""
MD5_ETAG = re.compile(r"[0-9a-f]{32}")


class S3Sender:
    """A ``Sender`` for one bucket. Nothing is opened, or imported, before first use.

    ``dialect``: what is known of the server (None: nothing yet); it changes with what is seen, so
    that a caller can remember it. ``learn``: finds out what the server takes, before the first
    image if nothing is known, and when an answer contradicts what is known.
    """

    def __init__(
        self,
        settings: Settings,
        pacer: Meter,
        *,
        dialect: Dialect | None = None,
        learn: Callable[[S3Sender], object] = lambda _sender: None,
        timeouts: Timeouts | None = None,
        cutoff: Cutoff | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._now = now
        self.dialect = dialect or Dialect()
        self._learning = threading.Lock()
        self._learn = learn
        self.download_proof = settings.s3.download_proof  # bytes of the largest image for it
        self.download_sample = settings.s3.download_sample  # of larger ones, one in this many
        self._sampling = threading.Lock()
        # A body waits for the server's 100 only where it takes a second or more of the uplink: a
        # refusal then saves that, and the wait costs one round trip.
        self._continue_from = max(SEND_BUFFER, settings.usual_rate)
        self._looked = self._looked_again = False
        self._lock = threading.Lock()
        self._requests = SignedRequests(
            settings, pacer, timeouts, cutoff, now, in_host=self.dialect.in_host
        )

    def send(self, upload: Upload) -> Sent:
        if not self.dialect.seen_at:
            with self._learning:
                if not (self.dialect.seen_at or self._looked):
                    self._looked = True
                    self._find_out()
        return self._send(upload, again=True)

    def _send(self, upload: Upload, *, again: bool) -> Sent:
        """``again``: a request that is refused for a header is made once more without it."""
        dialect = self.dialect
        conditional = dialect.if_none_match is IfNoneMatch.HONOURED
        if not conditional and (there := self._before(upload)) is not None:
            return there
        with FileBody(upload.path, upload.size) as body:
            headers = {
                "Content-Length": str(upload.size),
                "Content-Type": upload.media_type,
                **upload.metadata,
            }
            if conditional:
                headers["If-None-Match"] = "*"
            weak = dialect.proof not in (None, ProofKind.SHA256) or not dialect.sha256
            if weak:
                body.check(upload.sha256)
            if dialect.by_crc32:
                headers[CRC32] = as_header(body.crc32())
            elif dialect.sha256:
                headers["x-amz-checksum-sha256"] = as_header(bytes.fromhex(upload.sha256))
            if (weak and not dialect.by_crc32) or dialect.wants_md5:
                headers["Content-MD5"] = as_header(body.md5())
            holds_back = dialect.says_continue and upload.size >= self._continue_from
            wait = CONTINUE_SECONDS if holds_back else 0.0
            answer = self.ask(
                "PUT", upload.key, headers, upload.sha256, body, continue_seconds=wait
            )
            if holds_back:
                self._note_continue(answer)
            if answer.status == 412:
                return self._there_already(upload)
            if answer.is_error and again and self._adapted(dialect, answer):
                return self._send(upload, again=False)
            if answer.is_error:
                raise self.error("PUT", answer)
            if self._proves(answer, upload, body):
                return self._sent(upload, answer, answer.headers.get("x-amz-checksum-sha256", ""))
            try:
                found = self._after_doubt(upload)
            except SendError as error:
                # HEAD has no body: the words are in the PUT's answer.
                raise (self._no_s3(answer) if error.code == "not-s3" else error) from error
        if found is not None and not found.sha256 and self.dialect.proof not in _WITHOUT_SHA256:
            self._note(proof=ProofKind.ETAG)  # it was another server, or it could once
        if found is None:
            raise not_confirmed(
                "S3 answered 200 but does not have the image; it is sent again later."
            )
        return found

    def find(self, upload: Upload) -> Sent | None:
        answer = self._head(upload.key)
        if answer.status == 404:
            return None
        if answer.is_error:
            raise self.error("HEAD", answer)
        if not answer.is_from_s3:
            raise self._no_s3(answer)
        etag, size = answer.etag, answer.headers.get("content-length", "")
        reported = answer.headers.get("x-amz-checksum-sha256", "")
        if reported and "-" not in reported:  # "-N" is a hash of parts' hashes
            if reported != as_header(bytes.fromhex(upload.sha256)):
                raise different_object(upload.key, upload.size, size, "its SHA-256 is another")
            if size in ("", str(upload.size)):
                return self._sent(upload, answer, reported)
            raise not_confirmed(
                f"The server reports the image's SHA-256 for an object of {size} bytes, and the "
                f"image has {upload.size}: it repeats the request's checksum and does not have the "
                "image; see `headgate config check`."
            )
        with FileBody(upload.path, upload.size) as body:
            crc32 = answer.headers.get(CRC32, "") if self.dialect.by_crc32 else ""
            if size == str(upload.size) and (
                etag == body.md5().hex() or crc32 == as_header(body.crc32())
            ):
                body.check(upload.sha256)
                return self._sent(upload, answer, "")
            if size == str(upload.size) and crc32:
                raise different_object(upload.key, upload.size, size, "its CRC-32 is another")
        # An ETag need not be an MD5 (KMS, parts, some servers), so another one proves nothing.
        named = answer.headers.get("x-amz-meta-sha256") == upload.sha256
        if self.dialect.proof is ProofKind.HEAD and named and size == str(upload.size) and etag:
            return self._sent(upload, answer, "")
        known = size == str(upload.size) or (not size and upload.size <= self.download_proof)
        if known and self._comes_back(upload.key, upload.size, upload.sha256):
            return self._sent(upload, answer, "")
        if size and size != str(upload.size) and not (named or reported):
            raise different_object(upload.key, upload.size, size, "its length is another")
        raise not_confirmed(
            f"An object of {size or 'an unknown number of'} bytes is there, and the server reports "
            "no digest to compare with the image; see `headgate config check`."
        )

    def see(self, stored: Stored) -> Presence:
        answer = self._head(stored.key)
        if answer.status == 404:
            return Presence.GONE
        if answer.is_error:
            raise self.error("HEAD", answer)
        if not answer.is_from_s3:
            raise self._no_s3(answer)
        if answer.headers.get("content-length") != str(stored.size):
            return Presence.GONE
        reported = answer.headers.get("x-amz-checksum-sha256", "")
        if reported and "-" not in reported:
            same = reported == as_header(bytes.fromhex(stored.sha256))
            return Presence.THERE if same else Presence.GONE
        ours = answer.headers.get("x-amz-meta-sha256") == stored.sha256
        alike = bool(answer.etag) and answer.etag == normal_etag(stored.etag)
        if ours or alike or self._comes_back(stored.key, stored.size, stored.sha256):
            return Presence.THERE
        return Presence.UNKNOWN

    def listed(self, prefix: str, after: str) -> Page:
        words = {"encoding-type": "url", "list-type": "2", "prefix": prefix, "start-after": after}
        query = "&".join(f"{word}={quote(words[word], safe='-_.~')}" for word in sorted(words))
        answer = self._requests.ask("GET", "", {}, EMPTY_SHA256, query=query, most=_LISTING_MAX)
        if answer.is_error:
            raise self.error("GET", answer)
        return page_of(answer.body)

    def download(self, receipt: Receipt) -> bytes:
        """The bytes of an object that was confirmed, of the version that was: not compared with
        anything. SendError where they do not come."""
        query = f"versionId={quote(receipt.version_id, safe='-_.~')}" if receipt.version_id else ""
        most = receipt.size + 1
        answer = self._requests.ask("GET", receipt.key, {}, EMPTY_SHA256, query=query, most=most)
        if answer.status != 200:
            raise self.error("GET", answer)
        return answer.body

    def versions(self, key: str) -> list[str]:
        """The ids of every version of one key, delete markers among them; "" for an object without
        versions where they cannot be listed. SendError where the server does not answer."""
        query = f"encoding-type=url&prefix={quote(key, safe='-_.~')}&versions="
        answer = self._requests.ask("GET", "", {}, EMPTY_SHA256, query=query, most=_LISTING_MAX)
        if answer.status in (400, 403, 404, 405, 501):
            return [""]
        if answer.is_error:
            raise self.error("GET", answer)
        return versions_of(answer.body, key)

    def delete(self, key: str, version: str) -> None:
        """Delete an object, or one version of it; gone already is as good. SendError otherwise."""
        query = f"versionId={quote(version, safe='-_.~')}" if version else ""
        answer = self._requests.ask("DELETE", key, {}, EMPTY_SHA256, query=query)
        if answer.is_error and answer.status != 404:
            raise self.error("DELETE", answer)

    def close(self) -> None:
        self._requests.close()

    @property
    def place(self) -> str:
        return self._settings.s3.bucket

    # -- for the probe as well

    @property
    def request_target(self) -> RequestTarget:
        return RequestTarget(self.access.bucket, self.access.target.host)

    @property
    def access(self) -> Access:
        """How the bucket is reached."""
        return self._requests.access

    @property
    def clock_offset(self) -> float | None:
        return self._requests.clock_offset

    @property
    def connections(self) -> int:
        """How many connections were opened so far."""
        return self._requests.connections

    def ask(
        self,
        method: str,
        key: str,
        headers: dict[str, str],
        sha256: str,
        body: FileBody | bytes = b"",
        *,
        query: str = "",
        continue_seconds: float = 0.0,
    ) -> HttpResponse:
        """Send one signed request; SendError when no answer came."""
        answer = self._requests.ask(
            method, key, headers, sha256, body, query=query, continue_seconds=continue_seconds
        )
        if self._requests.in_host and not self.dialect.in_host:
            self._note(in_host=True)
        return answer

    def error(self, method: str, answer: HttpResponse) -> SendError:
        """What an answer that is a failure means."""
        place = self.request_target
        place = RequestTarget(place.bucket, place.host, answer.region, self.clock_offset)
        if answer.status == 400 and b"Content-MD5" in answer.body and not self.dialect.wants_md5:
            # Some servers hold a bucket with Object Lock to it, whatever other digest they get.
            self._note(wants_md5=True)
            return SendError(
                ErrorKind.TRANSIENT,
                "wants-md5",
                "The server asks for Content-MD5; it gets it next time.",
            )
        error = classify(method, answer.status, answer.code, place, answer.said)
        error.wait_seconds = answer.retry_after
        if answer.status == 200:
            error.unknown = True  # it may have been stored before the trouble
        return error

    # -- inside

    def _head(self, key: str) -> HttpResponse:
        """A HEAD, with its checksum mode where the server takes that."""
        if self.dialect.checksum_mode:
            answer = self.ask("HEAD", key, {"x-amz-checksum-mode": "ENABLED"}, EMPTY_SHA256)
            if answer.status not in (400, 501):
                return answer
        plain = self.ask("HEAD", key, {}, EMPTY_SHA256)
        if plain.status in (200, 403, 404):  # anything else says nothing about the header
            self._note(checksum_mode=False)
        return plain

    def _comes_back(self, key: str, size: int, sha256: str) -> bool:
        """Whether a download gives these bytes, or the image is one that is confirmed by its
        length alone, which the caller has compared; False where neither is used for it."""
        proof = self.dialect.proof
        is_small = size <= self.download_proof
        if proof not in _DOWNLOADS or not (is_small or proof is ProofKind.SAMPLE):
            return False
        if not is_small and int(sha256[:8], 16) % max(1, self.download_sample):
            return True
        with contextlib.nullcontext() if is_small else self._sampling:  # it is held in memory
            answer = self._requests.fetch(key, size)
            return answer.status == 200 and hashlib.sha256(answer.body).hexdigest() == sha256

    def _before(self, upload: Upload) -> Sent | None:
        """Whether the image is there already, asked where the server keeps no condition."""
        try:
            return self.find(upload)
        except SendError as error:
            # Without s3:ListBucket a missing key is 403 as well; keys name the image's own digest.
            if error.kind is ErrorKind.TRANSIENT and error.code == "403":
                return None
            raise

    def _adapted(self, used: Dialect, answer: HttpResponse) -> bool:
        """Learn what the server takes, once, after an answer that contradicts what is known.
        Whether it takes something else than was sent."""
        if answer.status == 417:  # Expectation Failed (RFC 9110, 15.5.18)
            return used.says_continue
        if not is_about_headers(answer.status, answer.code) or b"Content-MD5" in answer.body:
            return False
        with self._learning:
            if self.dialect.takes_as(used) and not self._looked_again:
                self._looked_again = True
                self._find_out()
            return not self.dialect.takes_as(used)

    def _find_out(self) -> None:
        """Learn what the server takes. The caller holds ``_learning``."""
        with contextlib.suppress(SendError):  # then the image's own answer says more
            self._learn(self)

    def _note(self, **seen: Any) -> None:
        """Note one more fact about the server, from an answer."""
        with self._lock:
            self.dialect = replace(self.dialect, **seen)

    def _note_continue(self, answer: HttpResponse) -> None:
        """After a body that was held back: no other one is where the server did not ask for it,
        unless the image was refused."""
        if answer.status == 417 or not (answer.continued or answer.is_error):
            seen = Taken.REFUSED if answer.status == 417 else Taken.TAKEN
            self._note(extras=replace(self.dialect.extras, expect_continue=seen))

    def _proves(self, answer: HttpResponse, upload: Upload, body: FileBody) -> bool:
        reported, etag = answer.headers.get("x-amz-checksum-sha256", ""), answer.etag
        if etag == EMPTY_MD5 and upload.size:
            return False  # whatever digest it repeats, it has stored nothing
        if reported:
            if reported == as_header(bytes.fromhex(upload.sha256)) and etag:
                if self.dialect.proof is not ProofKind.SHA256:
                    self._note(proof=ProofKind.SHA256)
                return True
            return False
        weak = self.dialect.proof is not ProofKind.SHA256
        if weak and MD5_ETAG.fullmatch(etag) and etag == body.md5().hex():
            body.check(upload.sha256)
            if self.dialect.proof is not ProofKind.ETAG:
                self._note(proof=ProofKind.ETAG)
            return True
        crc32 = answer.headers.get(CRC32, "") if self.dialect.by_crc32 else ""
        if etag and crc32 == as_header(body.crc32()):
            body.check(upload.sha256)
            return True
        return False

    def _no_s3(self, answer: HttpResponse) -> SendError:
        return not_s3(self.request_target.host, answer.status, answer.said)

    def _there_already(self, upload: Upload) -> Sent:
        """The object after a 412 if it is the same image, or the reason why this one cannot go
        there."""
        found = self._after_doubt(upload)
        if found is None:
            raise SendError(
                ErrorKind.TRANSIENT,
                THERE_ALREADY,
                "The key was taken a moment ago and is free now; it is tried again.",
            )
        return found

    def _after_doubt(self, upload: Upload) -> Sent | None:
        try:
            return self.find(upload)
        except SendError as error:
            if error.kind is not ErrorKind.PERMANENT:
                error.unknown = True
            if error.kind is not ErrorKind.UPLINK_DOWN and not error.passing:
                error.refusal = True  # a body went before it, for nothing
            raise
        except Exception as error:  # the pacer's: the run ends between the PUT and the HEAD
            raise SendError(
                ErrorKind.TRANSIENT,
                "not-confirmed",
                "The run ended before S3 could be asked for the image; the next one asks.",
                unknown=True,
            ) from error

    def _sent(self, upload: Upload, answer: HttpResponse, reported: str) -> Sent:
        # A date that cannot be read is no reason to doubt the digest.
        modified = read_http_date(answer.headers.get("last-modified", ""))
        version = answer.headers.get("x-amz-version-id", "")
        return Sent(
            bucket=self.access.bucket,
            key=upload.key,
            etag=answer.etag,
            sha256=reported,
            version_id="" if version == "null" else version,
            uploaded_at=modified or datetime.fromtimestamp(self._now(), UTC),
        )
