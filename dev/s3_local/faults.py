"""Faults by script: which request fails, and how. Pure but for a lock around the counting."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum


class Act(StrEnum):
    """What the server does instead of what it should."""

    STATUS = "status"  # answers an error before it reads the body
    STATUS_LATE = "status-late"  # reads the body, answers an error, stores nothing
    STATUS_STORED = "status-stored"  # stores, then answers an error
    RESET = "reset"  # resets the connection before it reads the body
    RESET_MIDWAY = "reset-midway"  # ... in the middle of the body
    RESET_STORED = "reset-stored"  # stores, then resets
    SILENT = "silent"  # reads the body, stores nothing, never answers
    SILENT_STORED = "silent-stored"  # stores, never answers
    UNSTORED = "unstored"  # 200 without storing, as something between here and S3 may say
    ECHO_UNSTORED = "echo-unstored"  # 200 with the right digests, without storing
    WRONG_CHECKSUM = "wrong-checksum"  # stores, reports another SHA-256
    WRONG_ETAG = "wrong-etag"  # stores, reports another ETag and no SHA-256
    NO_CHECKSUM = "no-checksum"  # stores, reports the ETag but no SHA-256
    NO_PROOF = "no-proof"  # stores, reports neither ETag nor SHA-256
    ERROR_IN_200 = "error-in-200"  # stores nothing, answers 200 with an error as its body
    SLOW = "slow"  # waits, then does the right thing


@dataclass(frozen=True, slots=True)
class Fault:
    """One line of a script of faults. Requests to objects are counted for each method, from 1.

    It fits when ``first <= n <= last`` (``last`` None: always), ``n`` is a multiple of ``every``,
    and ``when(key)``.
    """

    act: Act
    method: str = "PUT"
    first: int = 1
    last: int | None = None
    every: int = 1
    status: int = 503
    code: str = "SlowDown"
    seconds: float = 0.2
    when: Callable[[str], bool] = lambda _key: True

    def fits(self, method: str, n: int, key: str) -> bool:
        return (
            method == self.method
            and self.first <= n
            and (self.last is None or n <= self.last)
            and n % self.every == 0
            and self.when(key)
        )


def once(act: Act, n: int = 1, **more: object) -> Fault:
    """A fault of the ``n``-th request only."""
    return Fault(act, first=n, last=n, **more)  # type: ignore[arg-type]


class Script:
    """Faults in order; the first that fits a request is its fate. Thread-safe."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults = tuple(faults)
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def fate(self, method: str, key: str) -> Fault | None:
        """Count the request, and say what becomes of it."""
        with self._lock:
            self._seen[method] += 1
            n = self._seen[method]
            return next((fault for fault in self._faults if fault.fits(method, n, key)), None)

    def replace(self, faults: Iterable[Fault]) -> None:
        """Go on by another script; counting begins again."""
        with self._lock:
            self._faults = tuple(faults)
            self._seen.clear()

    def seen(self, method: str) -> int:
        """How many requests of this method came since the script began."""
        with self._lock:
            return self._seen[method]


class ScriptError(ValueError):
    """A line of a script that cannot be read; the message says what to write."""


_LINE = re.compile(
    r"(?P<method>PUT|HEAD|GET|DELETE|POST) (?P<which>\*|/\d+|\d+(-\d*)?) (?P<act>[a-z0-9-]+)"
    r"(?: (?P<status>\d{3})(?: (?P<code>[A-Za-z0-9.]+))?| (?P<seconds>\d+(?:\.\d+)?)s)?"
)


def parse(text: str) -> tuple[Fault, ...]:
    """A script, one fault a line: ``PUT 3 reset-midway``, ``PUT /10 status 503 SlowDown``,
    ``HEAD 2-5 status 403 AccessDenied``, ``PUT * slow 1.5s``. ``#`` begins a comment."""
    faults = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = " ".join(raw.partition("#")[0].split())
        if not line:
            continue
        match = _LINE.fullmatch(line)
        if match is None or match["act"] not in set(Act):
            raise ScriptError(
                f"line {number}: {line!r} is not a fault; write METHOD WHICH ACT [STATUS [CODE]] "
                f"with one of these acts: {', '.join(Act)}"
            )
        which = match["which"]
        first, last, every = 1, None, 1
        if which.startswith("/"):
            every = max(1, int(which[1:]))
        elif which != "*":
            low, dash, high = which.partition("-")
            first, last = int(low), int(high) if high else (None if dash else int(low))
        faults.append(
            Fault(
                Act(match["act"]),
                match["method"],
                first,
                last,
                every,
                int(match["status"] or 503),
                match["code"] or "SlowDown",
                float(match["seconds"] or 0.2),
            )
        )
    return tuple(faults)
