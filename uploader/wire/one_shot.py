"""One small HTTP request over the metered wire: for webhooks and heartbeats."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import closing
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from uploader.wire.http import Exchange, HttpRequest, HttpResponse, Target, Timeouts
from uploader.wire.meter import Meter
from uploader.wire.proxy import proxy_from

PATIENCE = Timeouts(connect=10.0, stall=20.0, answer=20.0)
HASTE = Timeouts(connect=5.0, stall=5.0, answer=10.0)


def target_of(url: str, tls: ssl.SSLContext | None = None) -> Target:
    """Where to connect to for a URL, through the proxy that the environment names for it."""
    parts = urlsplit(url)
    if parts.scheme == "https" and tls is None:
        tls = ssl.create_default_context()
    host = parts.hostname or ""
    proxy = proxy_from({} if proxy_bypass(host) else getproxies(), parts.scheme)
    return Target(host, parts.port or (443 if tls else 80), tls, proxy)


def path_of(url: str) -> str:
    """The request target of a URL (RFC 9112, 3.2.1)."""
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def host_of(url: str) -> str:
    """What the Host header says for a URL."""
    return urlsplit(url).netloc.rpartition("@")[2]


def ask(
    method: str,
    url: str,
    pacer: Meter,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    patience: Timeouts = PATIENCE,
) -> HttpResponse:
    """Send it once, through the proxy that the environment names; SendError when no whole answer
    came back."""
    own = {
        "Host": host_of(url),
        "User-Agent": "headgate",
        "Connection": "close",
        "Content-Length": str(len(body)),
    }
    with closing(Exchange(target_of(url), pacer, patience)) as exchange:
        return exchange.ask(HttpRequest(method, path_of(url), {**own, **(headers or {})}, body))
