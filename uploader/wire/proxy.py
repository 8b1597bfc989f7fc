"""The proxy that the environment names, and the way through it: CONNECT, or the whole URL.

Every byte to it passes the pacer like any other: it leaves over the same link.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from uploader.wire.connection import Wire
from uploader.wire.errors import ErrorKind, SendError

_ANSWER_MAX = 16 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where to connect to instead, and what to say there."""

    host: str
    port: int
    authorization: str = ""  # of its own user, where the URL names one

    @property
    def headers(self) -> dict[str, str]:
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}


def proxy_from(proxies: Mapping[str, str], scheme: str) -> Proxy | None:
    """What HTTP_PROXY, HTTPS_PROXY and NO_PROXY come to for a URL of this scheme.

    SendError FATAL where that cannot be used; the sentence leaves out its password.
    """
    url = proxies.get(scheme, "")
    if not url:
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port:
        raise SendError(
            ErrorKind.FATAL,
            "proxy",
            f"The proxy that {scheme.upper()}_PROXY names cannot be used ({parts.scheme}); "
            "name one like http://proxy.example.net:3128, or except the server in NO_PROXY.",
        )
    login = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
    return Proxy(parts.hostname, port, login)


def tunnel(wire: Wire, proxy: Proxy, host: str, port: int, seconds: float) -> None:
    """Ask the proxy on the other side of ``wire`` for a connection to the server (RFC 9110, 9.3.6).

    SendError if it gives none, TimeoutError if its answer takes longer than ``seconds``.
    """
    there = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {there} HTTP/1.1", f"Host: {there}"]
    lines += [f"{name}: {value}" for name, value in proxy.headers.items()]
    wire.sendall("\r\n".join((*lines, "", "")).encode("ascii"))
    wire.expect(seconds)
    head = wire.final_head(_ANSWER_MAX)
    match = _STATUS.match(head)
    status = int(match[1]) if match else 0
    if 200 <= status < 300:
        wire.take(len(head))
        return
    if 400 <= status < 500:
        raise SendError(
            ErrorKind.FATAL,
            "proxy-refused",
            f"The proxy {proxy.host}:{proxy.port} refuses the connection to {host}:{port} "
            f"({status}); "
            "correct its rules or its login in HTTPS_PROXY, or except the server in NO_PROXY.",
        )
    raise SendError(
        ErrorKind.UPLINK_DOWN,
        "proxy-unreached",
        f"The proxy {proxy.host}:{proxy.port} did not reach {host}:{port} "
        f"({status or 'no answer'}); see whether its network works.",
    )
