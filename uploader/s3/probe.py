"""What the bucket's server can confirm, seen by trying it with one small object.

The object is ``{prefix}.headgate-probe``; it is always the same few bytes and stays there, because
removing it would need a right (s3:DeleteObject) that the uploader should not have.
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from headgate.host.clock import SIGNED_ALL_THE_SAME
from headgate.settings.logins import without_login
from uploader.s3.capability import Capability
from uploader.s3.client import CONTINUE_SECONDS, S3Sender
from uploader.s3.dialect import CRC32, Extras, Taken, as_header, is_about_headers
from uploader.s3.errors import skew_words
from uploader.wire.errors import SendError
from uploader.wire.http import HttpResponse

KEY = ".headgate-probe"
BODY = b"headgate config check: proof that this bucket can confirm an image\n"
_OTHER = b"other bytes than those that are sent"
_CHECKSUM, _MD5_HEADER = "x-amz-checksum-sha256", "Content-MD5"
_NOTHING = hashlib.sha256(b"").hexdigest()
_SHA256 = hashlib.sha256(BODY).hexdigest()
_MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()


def _sha256(data: bytes) -> str:
    return as_header(hashlib.sha256(data).digest())


def _crc32(data: bytes) -> str:
    return as_header(zlib.crc32(data).to_bytes(4, "big"))


def _md5(data: bytes) -> str:
    return as_header(hashlib.md5(data, usedforsecurity=False).digest())


_CRC32C, _CRC64NVME = "eh+SPQ==", "LRA3wCpagAY="
"""Of BODY, as base64; the standard library has neither of them."""
_UTF8 = "Stra\u00dfe, \u6771\u4eac"
_UNSIGNED = "UNSIGNED-PAYLOAD"


def probe(sender: S3Sender, prefix: str) -> Capability:
    """What the bucket's server can confirm, found out with one small test object: up to twenty
    requests. SendError if not even the first can be made (no credentials, no connection)."""
    key = prefix + KEY

    def put(more: dict[str, str], signed: str = _SHA256, *, wait: float = 0.0) -> HttpResponse:
        headers = {"Content-Length": str(len(BODY)), "Content-Type": "text/plain"}
        headers |= {"x-amz-meta-sha256": _SHA256, **more}
        return sender.ask("PUT", key, headers, signed, BODY, continue_seconds=wait)

    usual, first = _first(put)
    place, endpoint = sender.request_target, without_login(sender.access.base)
    if first.is_error:
        error = sender.error("PUT", first)
        if not _denied(first):
            raise error
        return Capability(
            bucket=place.bucket,
            endpoint=endpoint,
            clock_offset_seconds=sender.clock_offset,
            missing_rights=("s3:PutObject",),
            sentences=(error.message,),
        )
    takes_sha256 = _CHECKSUM in usual
    wrong_sha256 = takes_sha256 and put({**usual, _CHECKSUM: _sha256(_OTHER)}).is_error
    wrong_md5 = put({**usual, _MD5_HEADER: _md5(_OTHER)}).is_error
    conditional = put({**usual, "If-None-Match": "*"})
    seen, takes_mode = _look(sender, key)
    mode = {"x-amz-checksum-mode": "ENABLED"} if takes_mode else {}
    missing = sender.ask("HEAD", f"{prefix}{KEY}-{secrets.token_hex(8)}", mode, _NOTHING)
    echoed = first.headers.get("x-amz-checksum-sha256", "") == _sha256(BODY)
    etag = first.etag
    rights = []
    if seen.status == 403:
        rights.append("s3:GetObject")
    elif missing.status == 403:
        rights.append("s3:ListBucket")
    readable = _holds(seen, etag)
    by_digest = echoed or etag == _MD5
    plain = {name: value for name, value in usual.items() if name != _CHECKSUM}
    extras = _extras(sender, put, key, plain, mode)
    crc32_proves = (
        readable
        and not by_digest
        and bool(etag)
        and extras.crc32 is Taken.CONFIRMED
        and sender.ask("HEAD", key, mode, _NOTHING).headers.get(CRC32) == _crc32(BODY)
        and put({**plain, CRC32: _crc32(_OTHER)}).is_error
    )
    head_proves = (
        readable and not (by_digest or crc32_proves) and bool(etag) and seen.etag == etag
        and seen.headers.get("x-amz-meta-sha256") == _SHA256
        and (wrong_sha256 or wrong_md5 or put(usual, hashlib.sha256(_OTHER).hexdigest()).is_error)
    )  # fmt: skip
    proved = by_digest or crc32_proves or head_proves
    downloads = bool(sender.download_proof) and not proved and _comes_back(sender, key)
    capability = Capability(
        bucket=place.bucket,
        endpoint=endpoint,
        writable=True,
        readable=readable,
        tells_missing=missing.status == 404,
        echoes_sha256=echoed,
        refuses_wrong_sha256=wrong_sha256,
        etag_is_md5=etag == _MD5,
        refuses_wrong_md5=wrong_md5,
        honours_if_none_match=conditional.status == 412,
        refuses_if_none_match=conditional.is_error and conditional.status != 412,
        takes_sha256=takes_sha256,
        takes_checksum_mode=takes_mode,
        wants_md5=_MD5_HEADER in usual and takes_sha256,
        crc32_proves=crc32_proves,
        head_proves=head_proves,
        download_proves=downloads,
        samples=bool(sender.download_sample),
        clock_offset_seconds=sender.clock_offset,
        extras=extras,
        in_host=sender.dialect.in_host,
        missing_rights=tuple(rights),
        sentences=(),
    )
    seen_at = datetime.now(UTC).isoformat(timespec="seconds")
    sender.dialect = capability.dialect(seen_at)
    seen_so_far = _with_sentences(capability, seen.status)
    proxy = sender.access.target.proxy
    if proxy is None:
        return seen_so_far
    notice = f"Images go through the proxy {proxy.host}:{proxy.port} that the environment names."
    return replace(seen_so_far, sentences=(*seen_so_far.sentences, notice))


def _first(put: Callable[..., HttpResponse]) -> tuple[dict[str, str], HttpResponse]:
    """The strongest headers that a PUT is taken with, and its answer; else the first refusal."""
    checksum, md5 = {_CHECKSUM: _sha256(BODY)}, {_MD5_HEADER: _md5(BODY)}
    refused: HttpResponse | None = None
    for usual in (checksum, {**checksum, **md5}, md5, {}):
        answer = put(usual)
        if answer.is_error:
            refused = refused or answer
            if not is_about_headers(answer.status, answer.code):
                break
        elif refused is None:
            return usual, answer
        else:
            strongest = put(checksum)  # or was the refusal a passing one?
            return (usual, answer) if strongest.is_error else (checksum, strongest)
    assert refused is not None
    return {}, refused


def _look(sender: S3Sender, key: str) -> tuple[HttpResponse, bool]:
    """A HEAD, and whether it was taken with its checksum mode."""
    seen = sender.ask("HEAD", key, {"x-amz-checksum-mode": "ENABLED"}, _NOTHING)
    if seen.status not in (400, 501):
        return seen, True
    plain = sender.ask("HEAD", key, {}, _NOTHING)
    return plain, plain.status not in (200, 403, 404)


def _extras(
    sender: S3Sender,
    put: Callable[..., HttpResponse],
    key: str,
    usual: dict[str, str],
    mode: dict[str, str],
) -> Extras:
    """What the server supports beyond what each upload needs: a PUT for each; ``usual`` are the
    headers that it takes, without a checksum."""

    def text() -> Taken:
        taken = _taken(put({**usual, "x-amz-meta-text": _UTF8}), shown=False)
        if taken is not Taken.TAKEN:
            return taken
        seen = sender.ask("HEAD", key, mode, _NOTHING)
        if seen.is_error:
            return Taken.UNKNOWN
        returned = seen.headers.get("x-amz-meta-text", "").encode("latin-1", "replace")
        return Taken.CONFIRMED if returned == _UTF8.encode() else Taken.TAKEN

    def waiting() -> Taken:
        answer = put(usual, wait=CONTINUE_SECONDS)
        return Taken.REFUSED if answer.status == 417 else _taken(answer, shown=answer.continued)

    def checksum(name: str, value: str) -> Taken:
        header = f"x-amz-checksum-{name}"
        answer = put({**usual, header: value})
        return _taken(answer, shown=answer.headers.get(header) == value)

    return Extras(
        utf8_metadata=_tried(text),
        expect_continue=_tried(waiting),
        unsigned_payload=_tried(lambda: _taken(put(usual, _UNSIGNED), shown=False)),
        crc64nvme=_tried(lambda: checksum("crc64nvme", _CRC64NVME)),
        crc32c=_tried(lambda: checksum("crc32c", _CRC32C)),
        crc32=_tried(lambda: checksum("crc32", _crc32(BODY))),  # the last: it may become the proof
    )


def _tried(ask: Callable[[], Taken]) -> Taken:
    """Nothing is known where no answer comes: the images do not depend on it."""
    try:
        return ask()
    except SendError:
        return Taken.UNKNOWN


def _taken(answer: HttpResponse, *, shown: bool) -> Taken:
    if not answer.is_error:
        return Taken.CONFIRMED if shown else Taken.TAKEN
    passing = answer.status >= 500 and answer.status != 501
    return Taken.UNKNOWN if passing or answer.status in (408, 429) else Taken.REFUSED


def _comes_back(sender: S3Sender, key: str) -> bool:
    got = sender.ask("GET", key, {}, _NOTHING)
    return got.status == 200 and got.body == BODY


def _holds(seen: HttpResponse, etag: str) -> bool:
    """Whether the HEAD found what was put: its size, and the digest or ETag where it has one."""
    if seen.is_error or not seen.is_from_s3:
        return False
    digest = seen.headers.get("x-amz-checksum-sha256", _sha256(BODY))
    same = seen.etag == etag or not (seen.etag and etag)
    return seen.headers.get("content-length") == str(len(BODY)) and digest == _sha256(BODY) and same


def _with_sentences(seen: Capability, head_status: int) -> Capability:
    said = []
    if not seen.readable and "s3:GetObject" not in seen.missing_rights:
        said.append(
            f"The server took a small object, and a HEAD did not find it again ({head_status}): "
            "what is sent there is not kept, or something in between answers in its place. Use "
            "another server, or correct s3.endpoint_url and s3.bucket."
        )
    if seen.echoes_sha256 and seen.refuses_wrong_sha256:
        said.append("The server checks the SHA-256 of every image and reports it back.")
    elif seen.echoes_sha256:
        said.append("The server reports a SHA-256 but does not check it: confirmation is weak.")
    elif seen.etag_is_md5 and seen.refuses_wrong_md5:
        said.append(
            "The server does not report SHA-256; images are sent with Content-MD5, which it "
            "checks, and confirmed by the ETag."
        )
    elif seen.etag_is_md5:
        said.append("The server checks no checksum; images are confirmed by the ETag alone.")
    elif seen.crc32_proves:
        said.append(
            "The server reports neither SHA-256 nor an MD5 as ETag, but checks a CRC-32 and "
            "reports it: images are sent with that, and confirmed by it."
        )
    elif seen.head_proves:
        said.append(
            "The server reports neither SHA-256 nor an MD5 as ETag, but checks what arrives: "
            "images are confirmed by the size, ETag and metadata that a HEAD finds."
        )
    elif seen.download_proves and seen.samples:
        said.append(
            "The server reports neither SHA-256 nor an MD5 as ETag: images up to "
            "s3.download_proof, and of larger ones those in the sample (s3.download_sample), are "
            "downloaded again to confirm them. The other large ones count once a HEAD finds their "
            "length: nothing proves their bytes."
        )
    elif seen.download_proves:
        said.append(
            "The server reports neither SHA-256 nor an MD5 as ETag: each image up to "
            "s3.download_proof is downloaded again to confirm it, and no larger one ever is."
        )
    else:
        said.append(
            "The server reports neither SHA-256 nor an MD5 as ETag: nothing that is sent there can "
            "be confirmed, so nothing would ever be called uploaded. Use another server, "
            "or set s3.download_proof for small images."
        )
    if not seen.takes_sha256:
        said.append("The server does not take x-amz-checksum-sha256; it is left out.")
    if not seen.takes_checksum_mode:
        said.append("The server does not take x-amz-checksum-mode; it is left out.")
    if not seen.honours_if_none_match:
        does = "refuses" if seen.refuses_if_none_match else "ignores"
        said.append(
            f"The server {does} If-None-Match, so a HEAD asks before each image whether its key is "
            "taken; two gateways that write the same key at once could still overwrite each other."
        )
    if "s3:GetObject" in seen.missing_rights:
        said.append("HEAD is refused: grant s3:GetObject, or lost answers cannot be settled.")
    if "s3:ListBucket" in seen.missing_rights:
        said.append(
            "A missing key is answered with 403: grant s3:ListBucket, to distinguish it from "
            "a refusal after a lost answer."
        )
    if seen.clock_offset_seconds is not None and abs(seen.clock_offset_seconds) > 60:
        said.append(
            f"This machine's clock {skew_words(seen.clock_offset_seconds)}. {SIGNED_ALL_THE_SAME}"
        )
    return replace(seen, sentences=tuple(said))


def _denied(answer: HttpResponse) -> bool:
    return answer.status == 403 and answer.code in ("AccessDenied", "AllAccessDisabled")
