"""The forms of the page, read within bounds: of length, of time, and of how many at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from urllib.parse import parse_qsl

from flask import request

from app.http.small_body import small_body
from app.refusals import Refused
from app.upload.stalled import Stalls

FORM_MAX = 16 * 1024
FIELDS_MAX = 50
READERS_MAX = 4
"""Forms that one process reads at once: every other thread is there for images."""


class Forms:
    """Reads the form of a request (application/x-www-form-urlencoded)."""

    def __init__(self, stalls: Stalls) -> None:
        self._stalls = stalls
        self._readers = threading.BoundedSemaphore(READERS_MAX)

    def read(self) -> Mapping[str, str]:
        """Read the fields of a form, the first of each name; Refused if the body is no form."""
        if not self._readers.acquire(blocking=False):
            raise Refused("too_many_logins", retry_after=1)
        try:
            body = small_body(request.environ, FORM_MAX, _too_long, self._stalls)
        finally:
            self._readers.release()
        try:
            pairs = parse_qsl(
                body.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS_MAX
            )
        except ValueError:
            raise Refused("bad_request", reason="the form cannot be read") from None
        found: dict[str, str] = {}
        for name, value in pairs:
            found.setdefault(name, value)
        return found


def _too_long() -> Refused:
    return Refused("bad_request", reason=f"the form has more than {FORM_MAX} bytes")
