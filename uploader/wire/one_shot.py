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
    parts = urlsplit(url)
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    host = parts.hostname or ""
    proxies = {} if proxy_bypass(host) else getproxies()
    proxy = proxy_from(proxies, parts.scheme)
    target = Target(host, parts.port or (443 if tls else 80), tls, proxy)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    own = {
        "Host": parts.netloc.rpartition("@")[2],
        "User-Agent": "headgate",
        "Connection": "close",
        "Content-Length": str(len(body)),
    }
    with closing(Exchange(target, pacer, patience)) as exchange:
        return exchange.ask(HttpRequest(method, path, {**own, **(headers or {})}, body))
