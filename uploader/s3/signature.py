"""Signatures of requests (AWS Signature Version 4) whose body's digest is known.

botocore's signer is the authority, and costs more than everything else about a request. So the same
signature is computed here from a key that is derived once a day, and the first one of each key is
compared with botocore's: if they ever differ, botocore signs everything.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from botocore.auth import SIGNED_HEADERS_BLACKLIST, SIGV4_TIMESTAMP, S3SigV4Auth

from headgate.host import logs

_SERVICE = "s3"
_UNSIGNED = frozenset({*SIGNED_HEADERS_BLACKLIST, "authorization"})
_SETS_OF_NAMES = 64  # a few kinds of requests, with more or less metadata


class FrozenCredentials(Protocol):
    """botocore's ``ReadOnlyCredentials``."""

    access_key: str
    secret_key: str
    token: str | None


class _Headers(dict[str, str]):
    """Headers as botocore's signer asks for them; each name stands once, spelt in one way."""

    def get_all(self, name: str) -> list[str]:
        return [self[name]]


@dataclass(slots=True)
class _SignedRequest:
    """As much of an ``AWSRequest`` as the signer looks at, at a fraction of its cost."""

    method: str
    url: str
    headers: _Headers
    context: dict[str, Any]
    params: None = None


class _Botocore(S3SigV4Auth):
    """botocore's signer, told the body's digest instead of reading the body, and the time."""

    def _modify_request_before_signing(self, request: Any) -> None:
        at = datetime.fromtimestamp(request.context["at"], UTC)
        request.context["timestamp"] = at.strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)  # type: ignore[misc]

    def payload(self, request: Any) -> str:
        digest = request.context["payload_sha256"]
        assert isinstance(digest, str)
        return digest

    def headers_to_sign(self, request: Any) -> Any:
        named = {name.lower(): value for name, value in request.headers.items()}
        return _Headers({name: named[name] for name in named if name not in _UNSIGNED})


class Signer:
    """Signs requests for one region. Thread-safe."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._key: tuple[tuple[str, str, str], bytes] | None = None  # whose, of which day
        self._second: tuple[int, str] = (-1, "")
        self._orders: dict[tuple[str, ...], tuple[list[tuple[str, str]], str]] = {}
        self._agrees = True

    def sign(
        self,
        credentials: FrozenCredentials,
        method: str,
        url: str,
        path: str,
        headers: dict[str, str],
        sha256: str,
        at: float,
    ) -> dict[str, str]:
        """Sign a request for ``url``, whose path is ``path``: all of its headers; ``at``: the time
        that it is signed with, in seconds of the epoch."""
        if not self._agrees or "?" in url:
            return self._by_botocore(credentials, method, url, headers, sha256, at)
        stamp = self._stamp(at)
        signed = {**headers, "X-Amz-Date": stamp}
        if credentials.token:
            signed["X-Amz-Security-Token"] = credentials.token
        signed["X-Amz-Content-SHA256"] = sha256
        whose = (credentials.access_key, credentials.secret_key, stamp[:8])
        known = self._key
        if known is not None and known[0] == whose:
            key = known[1]
        else:
            key = self._derived(credentials.secret_key, stamp[:8])
            known = None
        names, listed = self._order(signed)
        text = "".join([f"{lower}:{signed[name]}\n" for lower, name in names])
        values = "".join([signed[name] for _, name in names])
        if " " in values or not values.isprintable():  # white space is taken together
            text = "".join([f"{lower}:{' '.join(signed[name].split())}\n" for lower, name in names])
        canonical = f"{method.upper()}\n{path}\n\n{text}\n{listed}\n{sha256}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        scope = f"{stamp[:8]}/{self._region}/{_SERVICE}/aws4_request"
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        signed["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={listed}, Signature={signature}"
        )
        if known is None:
            theirs = self._by_botocore(credentials, method, url, headers, sha256, at)
            if theirs != signed:
                self._agrees = False
                why = "This version of botocore signs otherwise than Headgate; it signs everything."
                logs.get().warning("s3.signer", why=why)
                return theirs
            self._key = whose, key
        return signed

    def _by_botocore(
        self,
        credentials: FrozenCredentials,
        method: str,
        url: str,
        headers: dict[str, str],
        sha256: str,
        at: float,
    ) -> dict[str, str]:
        context = {"payload_sha256": sha256, "at": at}
        request: Any = _SignedRequest(method, url, _Headers(headers), context)
        signer: Any = _Botocore(credentials, _SERVICE, self._region)  # type: ignore[arg-type]
        signer.add_auth(request)
        return dict(request.headers)

    def _stamp(self, at: float) -> str:
        """The second in which it is signed; most requests share it with others."""
        second, text = self._second
        if second != int(at):
            text = datetime.fromtimestamp(int(at), UTC).strftime(SIGV4_TIMESTAMP)
            self._second = int(at), text
        return text

    def _derived(self, secret: str, day: str) -> bytes:
        key = f"AWS4{secret}".encode()
        for word in (day, self._region, _SERVICE, "aws4_request"):
            key = hmac.digest(key, word.encode(), "sha256")
        return key

    def _order(self, headers: dict[str, str]) -> tuple[list[tuple[str, str]], str]:
        """The names to sign, in lower case and as they are spelt, in order; and their list."""
        spelt = tuple(headers)
        known = self._orders.get(spelt)
        if known is None:
            names = sorted((name.lower(), name) for name in spelt if name.lower() not in _UNSIGNED)
            known = names, ";".join(lower for lower, _ in names)
            if len(self._orders) >= _SETS_OF_NAMES:
                self._orders.clear()
            self._orders[spelt] = known
        return known
