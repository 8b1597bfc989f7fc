"""The WSGI application between the wire and moto: checks what S3 checks and moto does not.

Every PUT of an object is hashed as it streams into the folder and compared with
``x-amz-content-sha256``, ``x-amz-checksum-sha256``, ``x-amz-checksum-crc32`` and ``Content-MD5``;
it is answered once its bytes are in the folder. ``If-None-Match: *`` holds for two at once, too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from dev.s3_local.faults import Act, Fault, Script
from dev.s3_local.folder import Draft
from dev.s3_local.request_body import AwsChunked, Incomplete, Reset
from dev.s3_local.shelf import Reply, Shelf, keys_in

_READ = 64 * 1024
_XML_MAX = 4 * 1024 * 1024  # ten thousand parts, or a thousand keys, with room to spare
_CHECKSUM = "x-amz-checksum-"
_SUBRESOURCES = {"acl", "tagging", "retention", "legal-hold", "uploadId", "partNumber"}
_BEFORE = {Act.STATUS, Act.RESET, Act.RESET_MIDWAY}
_WITHOUT_STORING = {
    Act.STATUS_LATE, Act.SILENT, Act.UNSTORED, Act.ECHO_UNSTORED, Act.ERROR_IN_200,
}  # fmt: skip
_OK = "200 OK"


@dataclass(frozen=True, slots=True)
class _Call:
    """A request taken apart; path style only."""

    method: str
    bucket: str
    key: str
    query: dict[str, str]

    @property
    def stores(self) -> bool:
        """Whether the body, or a copy, becomes an object."""
        return self.method == "PUT" and bool(self.key) and not self.query.keys() & _SUBRESOURCES


class Strict:
    """``echo_sha256=False`` acts as servers do that know no ``x-amz-checksum-*`` (Ceph RGW 16):
    they neither check nor report it, and confirm by the ETag."""

    def __init__(self, shelf: Shelf, script: Script, *, echo_sha256: bool = True) -> None:
        self._shelf = shelf
        self._script = script
        self._echo = echo_sha256

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path, _, query = str(environ["RAW_URI"]).partition("?")
        bucket, _, key = unquote(path.lstrip("/")).partition("/")
        words = dict(parse_qsl(query, keep_blank_values=True))
        call = _Call(str(environ["REQUEST_METHOD"]), bucket, key, words)
        fault = self._script.fate(call.method, key) if key else None
        try:
            status, headers, body = self._reply(environ, call, fault)
        except Reset:
            raise
        except Exception as error:  # moto's, or the disk's: an S3 answers all the same
            print(f"s3-local: {call.method} {path!r}: {error!r}", file=sys.stderr)
            status, headers, body = error_reply(500, "InternalError", "The stand-in failed.")
        start(status, headers)
        return [body]

    def _reply(self, environ: dict[str, Any], call: _Call, fault: Fault | None) -> Reply:
        act = fault.act if fault is not None else None
        if fault is not None and act in _BEFORE:
            return _early(environ, fault)
        if fault is not None and act is Act.SLOW:
            time.sleep(fault.seconds)
        if call.method == "PUT" and call.key:
            reply = self._put(environ, call, act in _WITHOUT_STORING)
        else:
            reply = self._other(environ, call, act in _WITHOUT_STORING)
        if fault is not None and reply[0].startswith("2"):
            reply = _late(environ, fault, reply)
        return reply if self._echo else _without_checksums(reply)

    def _put(self, environ: dict[str, Any], call: _Call, discard: bool) -> Reply:
        chunks = "HTTP_X_AMZ_DECODED_CONTENT_LENGTH" in environ
        if not environ["CONTENT_LENGTH"] and not chunks and not _is_copy(environ):
            return error_reply(411, "MissingContentLength", "Send a Content-Length.")
        if call.bucket not in self._shelf.folder.buckets():
            return self._shelf.call(environ)  # NoSuchBucket, in moto's words
        draft = self._shelf.folder.draft(call.bucket)
        kept = False
        try:
            refusal = _receive(environ, draft, check_sha256=self._echo)
            if refusal is not None or discard:
                return refusal or (_OK, [], b"")
            with open(draft.part, "rb") as body:
                asked = self._for_moto(environ, body)
                if not call.stores:
                    return self._shelf.call(asked)
                given = None if _is_copy(environ) else draft
                reply, kept = self._shelf.store(asked, call.bucket, call.key, given)
            return reply
        finally:
            if not kept:
                draft.discard()

    def _for_moto(self, environ: dict[str, Any], body: io.BufferedReader) -> dict[str, Any]:
        length = str(os.fstat(body.fileno()).st_size)
        changed = {**environ, "wsgi.input": body, "CONTENT_LENGTH": length}
        changed.pop("HTTP_TRANSFER_ENCODING", None)
        for algorithm in ("SHA256", "CRC32") if self._echo else ():
            if f"HTTP_X_AMZ_CHECKSUM_{algorithm}" in environ:
                changed["HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM"] = algorithm  # else moto forgets it
        return changed

    def _other(self, environ: dict[str, Any], call: _Call, discard: bool) -> Reply:
        body = b""
        if call.method == "POST":
            source, body = environ["wsgi.input"], b""
            while len(body) <= _XML_MAX and (piece := source.read(_READ)):
                body += piece
            if len(body) > _XML_MAX:
                return error_reply(400, "MaxMessageLengthExceeded", "Your request was too big.")
            if source.left:
                raise Reset  # the client hung up
            environ = {**environ, "wsgi.input": io.BytesIO(body)}
        if discard:
            return _OK, [], b""
        if call.method == "POST" and call.key:
            return self._shelf.store(environ, call.bucket, call.key, None)[0]
        reply = self._shelf.call(environ)
        if reply[0].startswith("2"):
            if call.method == "DELETE" and call.key:
                self._shelf.reconcile(call.bucket, [call.key])
            elif call.method == "POST":
                self._shelf.reconcile(call.bucket, keys_in(body))
            elif call.method in ("PUT", "DELETE") and call.bucket:
                self._shelf.bucket_changed(call.bucket)
        return reply


def _is_copy(environ: dict[str, Any]) -> bool:
    """Whether moto makes up the object's bytes from another's."""
    return "HTTP_X_AMZ_COPY_SOURCE" in environ


def _receive(environ: dict[str, Any], draft: Draft, *, check_sha256: bool) -> Reply | None:
    """Stream the body into the draft; the refusal that S3 would give, if any.

    S3's own chunks are taken off: afterwards ``environ`` is that of a plain body, with the trailers
    as headers.
    """
    source = environ["wsgi.input"]
    wrapped = str(environ.get("HTTP_X_AMZ_CONTENT_SHA256", "")).startswith("STREAMING-")
    chunks = AwsChunked(source) if wrapped else None
    try:
        while piece := (chunks or source).read(_READ):
            draft.write(piece)
    except Incomplete:
        while source.read(_READ):
            pass
        if not source.left:
            return _incomplete()
    if source.left:
        raise Reset  # the client hung up: there is nobody to answer
    if chunks is not None:
        if environ.get("HTTP_X_AMZ_DECODED_CONTENT_LENGTH") != str(draft.size):
            return _incomplete()
        for name, text in chunks.trailers.items():
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = text
        environ["HTTP_X_AMZ_CONTENT_SHA256"] = "UNSIGNED-PAYLOAD"
    if _is_copy(environ):
        return None
    signed = str(environ.get("HTTP_X_AMZ_CONTENT_SHA256", "UNSIGNED-PAYLOAD"))
    if signed != "UNSIGNED-PAYLOAD" and signed != draft.sha256.hex():
        return error_reply(
            400,
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )
    given = {"HTTP_CONTENT_MD5": draft.md5}
    if check_sha256:
        given["HTTP_X_AMZ_CHECKSUM_SHA256"] = draft.sha256
        given["HTTP_X_AMZ_CHECKSUM_CRC32"] = draft.crc32.to_bytes(4, "big")
    for header, digest in given.items():
        if (value := environ.get(header)) is None:
            continue
        try:
            wanted = base64.b64decode(value, validate=True)
        except binascii.Error:
            wanted = b""
        if len(wanted) != len(digest):
            return error_reply(400, "InvalidDigest", "The checksum you specified is not valid.")
        if wanted != digest:
            name = header.removeprefix("HTTP_").replace("_", "-").lower()
            return error_reply(400, "BadDigest", f"The {name} you specified did not match.")
    return None


def _incomplete() -> Reply:
    return error_reply(400, "IncompleteBody", "The body is not what its headers promise.")


def _early(environ: dict[str, Any], fault: Fault) -> Reply:
    if fault.act is Act.RESET_MIDWAY:
        left = int(environ.get("CONTENT_LENGTH") or 0) // 2
        while left > 0 and (piece := environ["wsgi.input"].read(min(_READ, left))):
            left -= len(piece)
        raise Reset
    if fault.act is Act.RESET:
        raise Reset
    return error_reply(fault.status, fault.code, "Injected before the body was read.")


def _late(environ: dict[str, Any], fault: Fault, reply: Reply) -> Reply:
    """The answer after the body was read, and after it was stored unless the act forbids that."""
    status, headers, body = reply
    match fault.act:
        case Act.STATUS_LATE | Act.STATUS_STORED:
            return error_reply(fault.status, fault.code, "Injected after the body was read.")
        case Act.RESET_STORED:
            raise Reset
        case Act.SILENT | Act.SILENT_STORED:
            environ["headgate.silence"]()
            raise Reset
        case Act.ERROR_IN_200:
            return (_OK, *error_reply(500, "InternalError", "Injected with status 200.")[1:])
        case Act.ECHO_UNSTORED:
            md5 = base64.b64decode(environ.get("HTTP_CONTENT_MD5", "")).hex() or "0" * 32
            sha256 = environ.get("HTTP_X_AMZ_CHECKSUM_SHA256", "")
            return status, [("ETag", f'"{md5}"'), ("x-amz-checksum-sha256", sha256)], body
        case Act.WRONG_CHECKSUM:
            wrong = base64.b64encode(hashlib.sha256(b"something else").digest()).decode()
            return status, _with(headers, "x-amz-checksum-sha256", wrong), body
        case Act.WRONG_ETAG:
            kept = _with(headers, "x-amz-checksum-sha256", None)
            return status, _with(kept, "ETag", f'"{"0" * 32}"'), body
        case Act.NO_CHECKSUM:
            return status, _with(headers, "x-amz-checksum-sha256", None), body
        case Act.NO_PROOF:
            return status, _with(_with(headers, "x-amz-checksum-sha256", None), "ETag", None), body
    return reply


def _with(headers: list[tuple[str, str]], name: str, value: str | None) -> list[tuple[str, str]]:
    kept = [(word, text) for word, text in headers if word.lower() != name.lower()]
    return kept if value is None else [*kept, (name, value)]


def _without_checksums(reply: Reply) -> Reply:
    status, headers, body = reply
    kept = [(name, value) for name, value in headers if not name.lower().startswith(_CHECKSUM)]
    return status, kept, body


_PHRASES = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 411: "Length Required"}


def error_reply(status: int, code: str, message: str) -> Reply:
    """An error response as S3 gives it."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
        f"<Message>{message}</Message><RequestId>stand-in</RequestId></Error>"
    ).encode()
    phrase = _PHRASES.get(status, "Injected")
    return f"{status} {phrase}", [("Content-Type", "application/xml")], body
