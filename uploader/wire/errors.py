"""Why an attempt to send ended without a confirmed image. Pure."""

from __future__ import annotations

from enum import StrEnum

from headgate.settings.logins import without_login


class ErrorKind(StrEnum):
    """What the run does about it."""

    TRANSIENT = "transient"  # try this image again later
    PERMANENT = "permanent"  # set this image aside
    FATAL = "fatal"  # stop the run: no image would fare better
    UPLINK_DOWN = "uplink_down"  # nothing was reached; transient if other images get through


class SendError(Exception):
    """An attempt that did not end with a confirmed image.

    ``code`` is S3's, or one of ours in lower case. ``message`` is a sentence that says what to do.
    ``unknown``: the request may have been carried out; ask with ``find`` before sending again.
    ``rehash``: the server says that the bytes are not the ones promised; hash the file again.
    ``refusal``: an answer to a PUT that any other image might get as well, so by itself it proves
    nothing against this one (``uploader.run.breaker``).
    ``passing``: trouble of the server or the line, which passes by itself.
    ``slow_down``: the server asks for fewer requests, of everybody and not for this image.
    ``held``: no failure: the image is there, and what confirms it is still to come.
    ``blind``: the destination cannot be asked what it holds.
    ``wait_seconds``: how long the server asks to be left alone (Retry-After).
    """

    wait_seconds = 0.0

    def __init__(
        self,
        kind: ErrorKind,
        code: str,
        message: str,
        *,
        unknown: bool = False,
        rehash: bool = False,
        refusal: bool = False,
        passing: bool = False,
        slow_down: bool = False,
        held: bool = False,
        blind: bool = False,
    ) -> None:
        message = without_login(message)  # an error of a library's may name a URL
        super().__init__(f"{message} [{code}]")
        self.kind = kind
        self.code = code
        self.message = message
        self.unknown = unknown
        self.rehash = rehash
        self.refusal = refusal
        self.passing = passing
        self.slow_down = slow_down
        self.held = held
        self.blind = blind
