"""HTTP over metered connections: one request, one answer, never a request sent twice.

The head of a request is put together here and leaves with the body's first bytes in one write;
answers are read by ``http.client``.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from html import unescape

from headgate.settings.instants import read_http_date
from uploader.wire.connection import (
    SEND_BUFFER,
    Answered,
    Cutoff,
    TooMuch,
    Wire,
)
from uploader.wire.dialing import CONNECTS, connect
from uploader.wire.errors import ErrorKind, SendError
from uploader.wire.file_body import OUT_OF_ROOM, Body, no_room
from uploader.wire.meter import Meter
from uploader.wire.proxy import Proxy, tunnel

_READ = 64 * 1024
_HEAD_MAX = 16 * 1024  # of a request: metadata is 2 KB at most, session tokens some KB
_ANSWER_MAX = 64 * 1024  # bytes of an answer's body that are looked at
_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9._-]{1,100})\s*</Code>")
_MESSAGE = re.compile(
    rb"<Message>(.{1,2000}?)</Message>|<title[^>]*>(.{1,2000}?)</title>", re.DOTALL | re.IGNORECASE
)
RETRY_AFTER_MAX = 3600.0
"""Seconds: no server keeps images here for longer by one answer."""
_SAID_MAX = 200  # characters of a server's own words that are repeated
_ORDINARY = re.compile(rb"HTTP/1\.1 (?:200|404) [\t -~]*\r\n(?:[!-9;-~]+:[\t -~]*\r\n)+\r\n")
_REGION = re.compile(rb"<Region>\s*([a-z0-9-]{1,40})\s*</Region>")
_IDLE_SECONDS = 15.0  # S3 hangs up on idle connections; a fresh one costs less than an unknown


@lru_cache(maxsize=8)
def _instant(date: str) -> datetime | None:
    """A Date header read; answers of the same second have the same one."""
    return read_http_date(date)


def normal_etag(etag: str) -> str:
    """An ETag for comparisons: without weakness, quotes and case."""
    return etag.strip().removeprefix("W/").strip('"').lower()


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What the server said."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes = b""
    continued: bool = False  # the server asked for the body before it was sent

    @property
    def code(self) -> str:
        """S3's error code, or nothing."""
        match = _CODE.search(self.body)
        return match[1].decode("ascii") if match else ""

    @property
    def etag(self) -> str:
        """Without what servers spell in different ways; nothing if there is none."""
        return normal_etag(self.headers.get("etag", ""))

    @property
    def said(self) -> str:
        """The server's own words: S3's message, or the title of a page; or nothing. One line."""
        match = _MESSAGE.search(self.body)
        text = unescape((match[1] or match[2]).decode("utf-8", "replace")) if match else ""
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text[:_SAID_MAX].rstrip(".").replace('"', "'")

    @property
    def is_from_s3(self) -> bool:
        """Whether anything in it is what an S3 server says, and no other web server."""
        amazon = any(name.startswith("x-amz") for name in self.headers)
        return "etag" in self.headers or amazon or bool(self.code)

    @property
    def region(self) -> str:
        """Where the server says the bucket is, or nothing."""
        match = _REGION.search(self.body)
        return self.headers.get("x-amz-bucket-region", "") or (match[1].decode() if match else "")

    @property
    def is_error(self) -> bool:
        """Whether it is a failure, even with status 200 (S3 may say so in the body)."""
        return not 200 <= self.status < 300 or b"<Error" in self.body[:1024]

    @property
    def date(self) -> datetime | None:
        """The server's clock."""
        return _instant(self.headers.get("date", ""))

    @property
    def retry_after(self) -> float:
        """Seconds until the server wants to be asked again (RFC 9110, 10.2.3): a number, or an
        HTTP-date less its own Date; 0 where it says nothing of use, an hour at most."""
        said = self.headers.get("retry-after", "").strip()
        if said.isascii() and said.isdigit():
            return float(min(RETRY_AFTER_MAX, int(said[:9])))
        until, now = read_http_date(said), self.date or datetime.now(UTC)
        if until is None:
            return 0.0
        return min(RETRY_AFTER_MAX, max(0.0, (until - now).total_seconds()))


@dataclass(frozen=True)
class Timeouts:
    """Seconds. ``stall``: without room to write, and for each part of a handshake; ``answer``: from
    the last byte that was sent to the last one of the answer."""

    connect: float = 10.0
    stall: float = 20.0
    answer: float = 60.0

    @property
    def longest(self) -> float:
        """As long as one exchange may go without a byte either way."""
        return max(CONNECTS * self.connect, self.stall, self.answer)

    @classmethod
    def for_rate(cls, rate: int) -> Timeouts:
        """Long enough that a link of ``rate`` bytes a second can empty the kernel's buffer twice
        (Linux grants twice what is asked for)."""
        emptied = 4 * SEND_BUFFER / rate
        return cls(stall=max(cls.stall, emptied), answer=max(cls.answer, emptied))


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect to."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    proxy: Proxy | None = None
    url_setting: str = "s3.endpoint_url"  # names of settings, for the sentences of errors
    ca_setting: str = "s3.ca_bundle"

    @property
    def first(self) -> tuple[str, int]:
        """What a connection is really made to."""
        return (self.proxy.host, self.proxy.port) if self.proxy else (self.host, self.port)

    def through(self, request: HttpRequest) -> HttpRequest:
        """The request as the next hop expects it: a proxy needs the whole URL for plain HTTP."""
        if self.proxy is None or self.tls is not None:
            return request
        url = f"http://{request.headers['Host']}{request.target}"
        return replace(request, target=url, headers={**request.headers, **self.proxy.headers})


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is asked. ``headers`` are complete and signed; a body needs its Content-Length there."""

    method: str
    target: str  # path and query, encoded
    headers: Mapping[str, str]
    body: Body | bytes = b""
    most: int = _ANSWER_MAX  # bytes of the answer's body that are looked at
    continue_seconds: float = 0.0
    """How long the body is held back until the server asks for it; 0: it is sent at once."""

    @property
    def head(self) -> bytes:
        """Request line and headers as they are sent; ValueError if they cannot be."""
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.continue_seconds:
            lines.append("Expect: 100-continue")
        text = "\r\n".join((*lines, "", ""))
        if text.count("\n") != len(lines) + 1 or text.count("\r") != len(lines) + 1:
            raise ValueError("a line break in a header")
        head = text.encode()
        if len(head) > _HEAD_MAX:
            raise ValueError("the headers are too long")
        return head


@dataclass(slots=True)
class _Connection:
    """A wire, what is read into on the way to it, and when it last carried an answer."""

    wire: Wire
    block: bytearray
    used_at: float = 0.0


@dataclass(slots=True)
class Exchange:
    """A pool of kept-alive connections to one server. Thread-safe."""

    target: Target
    pacer: Meter
    timeouts: Timeouts = Timeouts()
    buffer: int = SEND_BUFFER
    cutoff: Cutoff | None = None  # ends whatever is under way
    opened: int = 0  # connections so far
    closed: bool = False
    _free: list[_Connection] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, request: HttpRequest) -> HttpResponse:
        """Send the request once. SendError when no whole answer came back.

        ``unknown`` is set if the whole request had been written: a server cannot have stored a body
        of which it was not sent every byte.
        """
        connection = self._connection()
        request = self.target.through(request)
        whole = continued = False
        try:
            whole, continued = self._write(connection, request)
            connection.wire.settimeout(self.timeouts.answer)
            connection.wire.expect(self.timeouts.answer, request.most)
            answer, keep = _read(connection.wire, request)
        except (OSError, http.client.HTTPException) as error:
            # Not only a timeout can come after everything was written; see ``unknown`` above.
            _reset(connection)
            raise lost(error, self.target.host, unknown=whole) from error
        except BaseException:
            _reset(connection)
            raise
        connection.used_at = time.monotonic()
        with self._lock:
            # Behind a name there are many servers, and a new connection may lead to another.
            overloaded = answer.status == 503
            if keep := keep and whole and not overloaded and not self.closed:
                self._free.append(connection)
        if not keep:
            _reset(connection)
        return replace(answer, continued=True) if continued else answer

    def close(self) -> None:
        """Close every connection; one that is in use, when its answer came."""
        with self._lock:
            self.closed = True
            free, self._free = self._free, []
        for connection in free:
            connection.wire.close()

    def _connection(self) -> _Connection:
        while True:
            with self._lock:
                connection = self._free.pop() if self._free else None
            if connection is None:
                return self._open()
            try:
                if time.monotonic() - connection.used_at < _IDLE_SECONDS and connection.wire.idle():
                    return connection
            except OSError:
                pass
            _reset(connection)

    def _open(self) -> _Connection:
        target = self.target
        host, port = target.first
        try:
            sock = connect(
                host,
                port,
                timeout=self.timeouts.connect,
                stall=self.timeouts.stall,
                buffer=self.buffer,
                cutoff=self.cutoff,
            )
        except OSError as error:
            raise unreached(error, host, port, target) from error
        try:
            wire = self._wire(sock)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):
                raise unreached(error, target.host, target.port, target) from error
            raise
        with self._lock:
            self.opened += 1
        return _Connection(wire, bytearray(_HEAD_MAX + max(_READ, self.pacer.max_piece)))

    def _wire(self, sock: socket.socket) -> Wire:
        target, stall = self.target, self.timeouts.stall
        if target.proxy is not None and target.tls is not None:
            plain = Wire(sock, self.pacer, stall=stall, buffer=self.buffer, cutoff=self.cutoff)
            tunnel(plain, target.proxy, target.host, target.port, stall)
        return Wire(
            sock,
            self.pacer,
            stall=stall,
            buffer=self.buffer,
            tls=target.tls,
            server_name=target.host,
            cutoff=self.cutoff,
        )

    def _write(self, connection: _Connection, request: HttpRequest) -> tuple[bool, bool]:
        """Whether everything was written (if not, the server answered before that), and whether
        the server asked for the body."""
        wire, head, body = connection.wire, request.head, request.body
        continued = False
        wire.begin()
        try:
            if request.continue_seconds:
                wire.sendall(head)
                continued, head = wire.wait_for_continue(request.continue_seconds), b""
            if isinstance(body, bytes):
                wire.sendall(head + body)
            else:
                for piece in body.pieces(connection.block, head):
                    wire.sendall(piece)
        except Answered:
            return False, continued
        return True, continued


def _read(wire: Wire, request: HttpRequest) -> tuple[HttpResponse, bool]:
    """The answer, and whether the connection can be used again."""
    found = _plain(wire.final_head(_ANSWER_MAX), request)
    if found is not None:
        status, head, headers, length = found
        wire.take(head)
        body = wire.take(length)
        if len(body) < length:
            raise http.client.IncompleteRead(body, length - len(body))
        return HttpResponse(status, headers, body), True
    response = http.client.HTTPResponse(wire, method=request.method)  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read(request.most + 1)
        if len(body) <= request.most and response.length:  # read(n) does not say so itself
            raise http.client.IncompleteRead(body, response.length)
        headers = {name.lower(): value for name, value in response.getheaders()}
        keep = len(body) <= request.most and not response.will_close
        return HttpResponse(response.status, headers, body[: request.most]), keep
    finally:
        response.close()


def _plain(head: bytes, request: HttpRequest) -> tuple[int, int, dict[str, str], int] | None:
    """The usual answer taken apart: status, length of its head, headers, length of its body.

    None for whatever is not an ordinary 200 or 404 with a length: ``http.client`` reads that, at
    several times the cost. (404 is what a HEAD hears before each image where the server ignores
    If-None-Match.)
    """
    if not _ORDINARY.fullmatch(head):
        return None
    lines = head[:-4].decode("ascii").split("\r\n")
    headers = {
        name.lower(): value.strip(" \t")
        for name, _, value in [line.partition(":") for line in lines[1:]]
    }
    length = headers.get("content-length", "")
    twice = len(headers) < len(lines) - 1
    if twice or not length.isdecimal() or len(length) > 18 or len(lines) > 100:
        return None
    if "transfer-encoding" in headers or headers.get("connection", "keep-alive") != "keep-alive":
        return None
    size = 0 if request.method == "HEAD" else int(length)
    return None if size > request.most else (int(head[9:12]), len(head), headers, size)


def _reset(connection: _Connection) -> None:
    connection.wire.reset()


def unreached(error: OSError, host: str, port: int, target: Target) -> SendError:
    """No connection could be made, so nothing was asked."""
    if error.errno in OUT_OF_ROOM:
        return no_room(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return SendError(
            ErrorKind.FATAL,
            "certificate",
            f"The certificate of {host} cannot be trusted ({error.verify_message}); correct "
            f"{target.url_setting}, or name the authority's file in {target.ca_setting}.",
        )
    if isinstance(error, ssl.SSLError):
        return SendError(
            ErrorKind.UPLINK_DOWN,
            "tls",
            f"{host}:{port} does not speak TLS as expected ({error.args[-1]}).",
        )
    if isinstance(error, socket.gaierror):
        return SendError(
            ErrorKind.UPLINK_DOWN,
            "name-lookup",
            f"The name {host} cannot be looked up ({error.strerror}); see whether the network "
            "and its DNS work.",
        )
    return SendError(
        ErrorKind.UPLINK_DOWN,
        "no-connection",
        f"No connection to {host}:{port} ({error.strerror or error}); see whether "
        "the network works.",
    )


def lost(error: Exception, host: str, *, unknown: bool) -> SendError:
    """A connection failed in the middle; ``unknown``: the whole request had been written."""
    if isinstance(error, TimeoutError):
        what = "did not answer in time" if unknown else "took nothing more"
        message = f"{host} {what}; it is tried again later."
        return SendError(ErrorKind.UPLINK_DOWN, "timeout", message, unknown=unknown)
    if isinstance(error, TooMuch):
        return SendError(
            ErrorKind.TRANSIENT,
            "endless-answer",
            f"The answer of {host} has no end: {error.strerror}. Another kind of server answers "
            "there, or something stands before it; it is tried again later.",
            unknown=unknown,
        )
    if isinstance(error, OSError | http.client.RemoteDisconnected):
        return SendError(
            ErrorKind.TRANSIENT,
            "connection-lost",
            f"The connection to {host} was lost before an answer came; it is tried again.",
            unknown=unknown,
            passing=True,
        )
    return SendError(
        ErrorKind.TRANSIENT,
        "no-http",
        f"{host} gave half an answer, or one that is not HTTP; it is tried again later.",
        unknown=unknown,
    )
