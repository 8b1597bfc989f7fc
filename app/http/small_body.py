"""A small body in memory: what a job says, or a form of the page."""

from __future__ import annotations

from collections.abc import Callable

from app.admission import checks
from app.http.request import Environ, caller, framing
from app.refusals import Refused
from app.upload.body import RequestBody
from app.upload.stalled import Stalls


def small_body(
    environ: Environ, most: int, too_long: Callable[[], Refused], stalls: Stalls
) -> bytes:
    """Read a whole body of at most ``most`` bytes; Refused if it is longer, cut off or too
    slow."""
    said = framing(environ)
    if said.content_length is None and not said.transfer_encoding:
        return b""
    length = checks.framing(said.content_length, said.transfer_encoding)
    if length is not None and length > most:
        raise too_long()
    body = RequestBody(environ["wsgi.input"], length, most, too_long, stalls, caller(environ).peer)
    whole = b""
    while piece := body.read():
        whole += piece
    return whole
