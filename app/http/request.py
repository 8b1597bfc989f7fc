"""The edge: a WSGI environment (PEP 3333) becomes the types that the rooms below use. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from app.admission.auth import Caller
from app.upload import fields
from app.upload.request import CountedInput, Framing, UploadRequest

Environ = Mapping[str, Any]

QUERY_MAX = 8192
"""Characters of an address's query that are read."""
_BOUNDARY = re.compile(
    r"(?:^|[;,\s])boundary\s*=\s*(?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<bare>[^;]*))",
    re.IGNORECASE,
)

_FORWARDED = re.compile(
    r"HTTP_(FORWARDED|X_(ORIGINAL_)?FORWARDED(_.*)?|VIA|X_REAL_IP|CF_(CONNECTING_IP(V6)?|RAY|VISITOR)|"
    r"(TRUE|FASTLY|FLY|X|X_CLUSTER|X_ENVOY_EXTERNAL)_CLIENT_IP|CLIENT_IP|CDN_LOOP|"
    r"X_(ORIGINAL_(HOST|URL)|PROXYUSER_IP|ENVOY_EXTERNAL_ADDRESS|AMZN_TRACE_ID|AZURE_CLIENTIP))"
)
_FIELD_HEADERS = {
    name: "HTTP_" + header.upper().replace("-", "_") for name, header in fields.HEADERS.items()
}


def is_forwarded(environ: Environ) -> bool:
    """Whether a proxy passed the request on: then the peer's address says nothing of the sender."""
    return any(_FORWARDED.fullmatch(name) for name in environ)


def caller(environ: Environ) -> Caller:
    """The peer of a request, its headers and its credentials, as the checks of admission need
    them."""
    return Caller(
        method=environ.get("REQUEST_METHOD", ""),
        path=environ.get("PATH_INFO", ""),
        peer=environ.get("REMOTE_ADDR", ""),
        authorization=environ.get("HTTP_AUTHORIZATION", ""),
        host=environ.get("HTTP_HOST", ""),
        origin=environ.get("HTTP_ORIGIN"),
        fetch_site=environ.get("HTTP_SEC_FETCH_SITE"),
        forwarded=is_forwarded(environ),
        url_token=_query(environ).get("token", ""),
    )


def framing(environ: Environ) -> Framing:
    """What is said of the body's length; an empty Content-Length is none."""
    return Framing(environ.get("CONTENT_LENGTH") or None, environ.get("HTTP_TRANSFER_ENCODING"))


def content_type(value: str) -> tuple[str, str]:
    """The media type, and the boundary as it stands there: clients leave out the quotes that
    RFC 2045 wants around one with ``=``, ``:`` or ``/`` in it."""
    media_type, _, parameters = value.partition(";")
    found = _BOUNDARY.search(parameters)
    if found is None:
        return media_type.strip().lower(), ""
    quoted = found["quoted"]
    boundary = found["bare"].strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    return media_type.strip().lower(), boundary


def cursor(text: str) -> int | None:
    """The number before which a page of a log begins; None, at the newest, for what is none."""
    return int(text) if text.isdecimal() and len(text) < 19 else None


def _query(environ: Environ) -> dict[str, str]:
    """Fields in the address, for cameras that can be given nothing else; the first of each name."""
    text = environ.get("QUERY_STRING", "")
    found: dict[str, str] = {}
    if text:
        for name, value in parse_qsl(text[:QUERY_MAX], errors="replace", max_num_fields=None):
            if name in fields.FIELDS or name == "token":
                found.setdefault(name, value)
    return found


def upload(environ: Environ, raw_allowed: bool) -> UploadRequest:
    """The upload that a request makes; nothing of it is judged here."""
    media_type, boundary = content_type(environ.get("CONTENT_TYPE", ""))
    return UploadRequest(
        caller=caller(environ),
        body=CountedInput(environ["wsgi.input"]),
        framing=framing(environ),
        raw_allowed=raw_allowed,
        media_type=media_type,
        boundary=boundary,
        content_encoding=environ.get("HTTP_CONTENT_ENCODING"),
        transfer_coding=environ.get("HTTP_CONTENT_TRANSFER_ENCODING", ""),
        content_digest=environ.get("HTTP_CONTENT_DIGEST", ""),
        disposition=environ.get("HTTP_CONTENT_DISPOSITION", ""),
        date=environ.get("HTTP_DATE", ""),
        fields={
            name: environ[variable]
            for name, variable in _FIELD_HEADERS.items()
            if variable in environ
        },
        query=_query(environ),
        header_sizes=tuple(len(v) for k, v in environ.items() if k.startswith("HTTP_")),
        expects_continue="HTTP_EXPECT" in environ,
    )
