"""What the bucket's server can confirm, seen by trying it with one small object.

The object is ``{prefix}.headgate-probe``; it is always the same few bytes and stays there, because
removing it would need a right (s3:DeleteObject) that the uploader should not have.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import replace

from headgate.settings.logins import without_login
from uploader.s3.client import S3Sender
from uploader.s3.contract import Capability
from uploader.s3.errors import skew_words
from uploader.wire.http import HttpResponse

KEY = ".headgate-probe"
BODY = b"headgate config check: proof that this bucket can confirm an image\n"
_OTHER = b"other bytes than those that are sent"
_NOTHING = hashlib.sha256(b"").hexdigest()
_SHA256 = hashlib.sha256(BODY).hexdigest()
_MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()


def _sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode("ascii")


def _md5(data: bytes) -> str:
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")


def probe(sender: S3Sender, prefix: str) -> Capability:
    """What the bucket's server can confirm, seen with one small object beside the images: up to six
    requests. SendError where not even the first can be made (no credentials, no connection)."""
    key = prefix + KEY

    def put(**more: str) -> HttpResponse:
        headers = {"Content-Length": str(len(BODY)), "Content-Type": "text/plain"}
        named = {name.replace("_", "-"): value for name, value in more.items()}
        return sender.ask("PUT", key, {**headers, **named}, _SHA256, BODY)

    def head(name: str) -> HttpResponse:
        return sender.ask("HEAD", name, {"x-amz-checksum-mode": "ENABLED"}, _NOTHING)

    first = put(x_amz_checksum_sha256=_sha256(BODY))
    place, endpoint = sender.place, without_login(sender.access.base)
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
    wrong_sha256 = put(x_amz_checksum_sha256=_sha256(_OTHER)).is_error
    wrong_md5 = put(Content_MD5=_md5(_OTHER)).is_error
    taken = put(x_amz_checksum_sha256=_sha256(BODY), If_None_Match="*").status == 412
    seen = head(key)
    missing = head(f"{prefix}{KEY}-{secrets.token_hex(8)}")
    echoed = first.headers.get("x-amz-checksum-sha256", "")
    etag = first.etag
    rights = []
    if seen.status == 403:
        rights.append("s3:GetObject")
    elif missing.status == 403:
        rights.append("s3:ListBucket")
    capability = Capability(
        bucket=place.bucket,
        endpoint=endpoint,
        writable=True,
        readable=_holds(seen, etag),
        tells_missing=missing.status == 404,
        echoes_sha256=echoed == _sha256(BODY),
        refuses_wrong_sha256=wrong_sha256,
        etag_is_md5=etag == _MD5,
        refuses_wrong_md5=wrong_md5,
        honours_if_none_match=taken,
        clock_offset_seconds=sender.clock_offset,
        missing_rights=tuple(rights),
        sentences=(),
    )
    sender.echoes_sha256 = capability.echoes_sha256
    seen_so_far = _with_sentences(capability, seen.status)
    proxy = sender.access.target.proxy
    if proxy is None:
        return seen_so_far
    notice = f"Images go through the proxy {proxy.host}:{proxy.port} that the environment names."
    return replace(seen_so_far, sentences=(*seen_so_far.sentences, notice))


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
    else:
        said.append(
            "The server reports neither SHA-256 nor an MD5 as ETag: nothing that is sent there can "
            "be confirmed, so nothing would ever be called uploaded. Use another server."
        )
    if not seen.honours_if_none_match:
        said.append(
            "The server ignores If-None-Match: an object with the same key would be overwritten."
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
            f"This machine's clock {skew_words(seen.clock_offset_seconds)}; "
            "from 15 minutes on S3 refuses everything."
        )
    return replace(seen, sentences=tuple(said))


def _denied(answer: HttpResponse) -> bool:
    return answer.status == 403 and answer.code in ("AccessDenied", "AllAccessDisabled")
