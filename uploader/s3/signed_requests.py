"""Signed requests to one bucket: over kept connections, signed again where that was refused.

Nothing is opened, or imported, before the first of them.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from headgate.host import logs
from headgate.host.clock import CLOCK_OFF_SECONDS, S3_REFUSES_SECONDS
from headgate.settings.settings import Settings
from uploader.s3.errors import OTHER_REGION, PATH_STYLE_REFUSED, SKEWED
from uploader.s3.request_headers import options
from uploader.wire.connection import Cutoff, send_buffer
from uploader.wire.file_body import FileBody
from uploader.wire.http import Exchange, HttpRequest, HttpResponse, Timeouts
from uploader.wire.meter import Meter

if TYPE_CHECKING:
    from uploader.s3.endpoint import Access

_EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
REGION = re.compile(r"[a-z0-9-]{1,40}")
"""A region's name; what a server says becomes part of a host name."""


class SignedRequests:
    """Sends signed requests to one bucket. Thread-safe. ``clock_offset``: seconds that the
    server's clock was ahead of ours at the last answer. ``in_host``: the server takes the bucket
    in the host name alone; it is found out where ``s3.addressing`` is auto."""

    def __init__(
        self,
        settings: Settings,
        pacer: Meter,
        timeouts: Timeouts | None = None,
        cutoff: Cutoff | None = None,
        now: Callable[[], float] = time.time,
        *,
        in_host: bool = False,
    ) -> None:
        self._may_change_style = settings.s3.addressing == "auto"
        self.in_host = in_host and self._may_change_style
        self._settings, self._pacer, self._cutoff, self._now = settings, pacer, cutoff, now
        self._options = options(settings)
        self._timeouts = timeouts or Timeouts.for_rate(max(1, settings.usual_rate))
        self._log = logs.get().bind()  # bound once: a line that is not wanted costs nothing
        self._lock = threading.Lock()
        self._access: Access | None = None
        self._exchange: Exchange | None = None
        self.clock_offset: float | None = None
        self._skew = 0.0  # what is added to this machine's clock in signatures
        self._region, self._moved = "", False

    @property
    def access(self) -> Access:
        """How the bucket is reached."""
        return self._open()[0]

    @property
    def connections(self) -> int:
        """How many connections were opened so far."""
        return self._exchange.opened if self._exchange else 0

    def close(self) -> None:
        """Close every connection."""
        if self._exchange is not None:
            self._exchange.close()

    def ask(
        self,
        method: str,
        key: str,
        headers: dict[str, str],
        sha256: str,
        body: FileBody | bytes = b"",
        *,
        query: str = "",
        most: int = 0,
        continue_seconds: float = 0.0,
    ) -> HttpResponse:
        """Send one signed request; SendError when no answer came. ``continue_seconds``: how long
        the body is held back until the server asks for it."""
        for again in (True, False):
            access, answer = self._ask_once(
                method, key, headers, sha256, body, query, most, continue_seconds
            )
            if not (again and self._corrected(method, access, answer)):
                break
        return answer

    def fetch(self, key: str, size: int) -> HttpResponse:
        """The object of ``size`` bytes, charged before they come: they take the same line."""
        left = size
        while left > 0:
            grant = self._pacer.take(min(left, self._pacer.max_piece))
            self._pacer.wrote(grant, grant.size)
            left -= grant.size
        return self.ask("GET", key, {}, _EMPTY_SHA256, most=size + 1)

    def _ask_once(
        self,
        method: str,
        key: str,
        headers: dict[str, str],
        sha256: str,
        body: FileBody | bytes,
        query: str,
        most: int,
        continue_seconds: float,
    ) -> tuple[Access, HttpResponse]:
        access, exchange = self._open()
        more = self._options.headers(method)
        at = self._now() + self._skew
        signed = access.sign(method, key, {**headers, **more}, sha256, query, at)
        began = time.monotonic()
        target = f"{access.path(key)}?{query}" if query else access.path(key)
        request = HttpRequest(method, target, signed, body, continue_seconds=continue_seconds)
        answer = exchange.ask(replace(request, most=most) if most else request)
        seconds = round(time.monotonic() - began, 3)
        self._log.debug(
            "s3.answered", method=method, key=key, status=answer.status, seconds=seconds
        )
        if (date := answer.date) is not None:
            self.clock_offset = date.timestamp() + 0.5 - self._now()  # Date has whole seconds
        return access, answer

    def _corrected(self, method: str, access: Access, answer: HttpResponse) -> bool:
        """Whether a refused request is worth repeating at once, signed otherwise: with the server's
        time (as Amazon's SDKs do), for the region that the bucket is in, or with the bucket in the
        host name."""
        offset = self.clock_offset or 0.0
        bare = method == "HEAD" and answer.status == 403 and abs(offset) > S3_REFUSES_SECONDS / 2
        if answer.code in SKEWED or bare:
            if abs(offset - self._skew) < CLOCK_OFF_SECONDS:
                return False
            self._skew = offset
            return True
        if answer.code in PATH_STYLE_REFUSED and self._may_change_style:
            with self._lock:
                if self._access is access and not self.in_host:
                    self.in_host = True
                    self.close()
                    self._access = self._exchange = None
                return self._access is not access
        elsewhere = answer.status in (301, 307, 308) or (method, answer.status) == ("HEAD", 400)
        region = answer.region
        if not (elsewhere or answer.code in OTHER_REGION) or not REGION.fullmatch(region):
            return False
        with self._lock:
            if self._access is access and region != access.region and not self._moved:
                self._moved = True
                self.close()
                self._access = self._exchange = None
                self._region = region
                self._log.warning("s3.region", region=region, why=f"Set s3.region to {region}.")
            return self._access is not access

    def _open(self) -> tuple[Access, Exchange]:
        access, exchange = self._access, self._exchange
        if access is not None and exchange is not None and exchange.target is access.target:
            return access, exchange
        with self._lock:
            if self._access is None or self._exchange is None:
                from uploader.s3.endpoint import open_access

                self._access = open_access(
                    self._settings, self._timeouts.connect, self._region, in_host=self.in_host
                )
                buffer = send_buffer(self._settings.usual_rate)
                self._exchange = Exchange(
                    self._access.target, self._pacer, self._timeouts, buffer, self._cutoff
                )
            return self._access, self._exchange
