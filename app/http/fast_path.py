"""In front of Flask: uploads, which are nearly all requests, are answered without its dispatch.

Flask's request, response and routing cost as much as receiving a small image (docs/PERFORMANCE.md).
Everything else, and every other method of the same addresses, is Flask's; refusals and mistakes
become answers in the one place that does that for Flask as well (``app.http.error_responses``).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from app.http import request
from app.http.error_responses import Troubles
from app.http.metrics import Metrics
from app.refusals import Refused
from app.responses import Answer, mark
from app.upload.request import UploadRequest
from headgate.host.logs import get as get_log
from headgate.spool.disk.cpu_turns import CpuTurns

RAW_ALLOWED = {"/uploadImage": False, "/images": True}
"""The addresses of uploads, and whether a strict receiver takes the image itself as the body."""


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> None: ...


Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Addresses:
    """Which requests are uploads: the two addresses, in any case, with more slashes or a prefix
    that a proxy left on, and ``receiver.paths``. A strict receiver knows the two alone."""

    def __init__(self, paths: Sequence[str] = (), *, strict: bool = False) -> None:
        self._strict = strict
        self._known = {_plain(path): raw for path, raw in RAW_ALLOWED.items()}
        self._known |= dict.fromkeys(map(_plain, paths), True)
        self._end = _plain("/uploadImage")

    def upload(self, path: str, method: str) -> bool | None:
        """Whether the body may be the image itself; None: this is no upload."""
        if method != "POST" and (self._strict or method.upper() != "POST"):
            return None
        exact = RAW_ALLOWED.get(path)
        if exact is not None or self._strict:
            return exact
        plain = _plain(path)
        known = self._known.get(plain)
        return False if known is None and plain.endswith(self._end) else known


def _plain(path: str) -> str:
    return re.sub(r"/+", "/", path).rstrip("/").lower()


class Front:
    """A WSGI application around Flask's own."""

    def __init__(
        self,
        flask: Wsgi,
        receive: Callable[[UploadRequest], Answer],
        drain: Callable[[UploadRequest], None],
        addresses: Addresses,
        note_refused: Callable[[str], None],
        cpu_turns: CpuTurns,
        metrics: Metrics,
        troubles: Troubles,
    ) -> None:
        self._flask = flask
        self._receive = receive
        self._drain = drain
        self._addresses = addresses
        self._note_refused = note_refused
        self._cpu_turns = cpu_turns
        self._metrics = metrics
        self._troubles = troubles
        self._log = get_log().bind()  # bound once: a line that is not wanted costs nothing

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        raw_allowed = self._addresses.upload(environ["PATH_INFO"], environ["REQUEST_METHOD"])
        if raw_allowed is None:
            return self._other(environ, start_response)
        with self._cpu_turns:
            asked = request.upload(environ, raw_allowed)
            answer = self._upload(asked, environ["PATH_INFO"])
            sent = answer(environ, start_response)
        return sent if answer.status_code < 400 else self._and_drain(asked, sent)

    def _other(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer a request that is no upload: Flask does."""
        has_body = environ.get("CONTENT_LENGTH") not in (None, "", "0")
        if not has_body and not environ.get("HTTP_TRANSFER_ENCODING"):
            return self._flask(environ, start_response)
        asked = request.upload(environ, False)
        environ["wsgi.input"] = asked.body
        return self._and_drain(asked, self._flask(environ, start_response))

    def _and_drain(self, asked: UploadRequest, answer: Iterable[bytes]) -> Iterator[bytes]:
        """The answer, sent at once, and then the rest of the body: a client that reads only after
        it has written all would meet a closed connection."""
        try:
            yield from answer
        finally:
            if isinstance(answer, _Closable):
                answer.close()
        self._drain(asked)

    def _upload(self, asked: UploadRequest, path: str) -> Answer:
        began = time.monotonic()
        peer = asked.caller.peer
        try:
            answer = self._receive(asked)
            self._metrics.acknowledged(time.monotonic() - began)
        except Exception as error:
            if not isinstance(error, Refused) or error.refusal.counts:
                self._note_refused(error.refusal.code if isinstance(error, Refused) else "internal")
            answer = self._troubles.answer(error, path, peer)
        mark(answer.headers)
        self._log.debug(
            "upload.answered",
            status=answer.status_code,
            seconds=round(time.monotonic() - began, 4),
            peer=peer,
        )
        return answer
