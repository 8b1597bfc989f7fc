#!/usr/bin/env python3
"""Hands pictures to a Headgate gateway and erases each only when its receipt says that it may.

One file, Python 3.8 or newer, nothing to install: copy it to the device. It works as a command
(``headgate_client.py --help``) and as a module::

    client = Client(Config(gateway="http://gateway:8080", token="...", spool="/data/pictures"))
    client.put("picture.jpg")  # from here on a power cut does not lose it
    client.send()              # one pass over all that waits; call it every minute

What it speaks is docs/PROTOCOL.md. Pictures lie in a folder of this program's own until the
gateway's receipt says ``safe_to_erase``. A pass tries a picture three times and goes on with the
next one, so no picture blocks another; one that failed is kept and tried again later, and one that
the gateway refuses is kept for a person. Repeats are safe: each picture has an ``Idempotency-Key``
that is written down before the first attempt.
"""

from __future__ import annotations

import argparse
import calendar
import configparser
import contextlib
import email.utils
import enum
import hashlib
import http.client
import json
import logging
import os
import random
import ssl
import sys
import time
import uuid
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple
from urllib.parse import quote, urlsplit

try:
    import fcntl
except ImportError:  # no POSIX: one process at a time is then up to the person who starts it
    fcntl = None  # type: ignore[assignment]

TRIES = 3
"""Attempts of one picture in a pass; then the next picture has its turn."""
CONNECT_SECONDS = 10
ANSWER_SECONDS = 90
LONGEST_WAIT_SECONDS = 60
"""A ``Retry-After`` up to this is waited for in the pass; a longer one ends the pass."""
LONGEST_PAUSE_SECONDS = 3600
"""Nothing waits longer for its next attempt, whatever an answer says: it may be a mistake."""
FIRST_PAUSE_SECONDS = 60
"""Before the next pass tries a picture again that failed in this one; it doubles each time."""
HANDSHAKE_SECONDS = 60
"""The gateway's limits may be cached for so long (docs/PROTOCOL.md, "Limits")."""
ANSWER_BYTES_MAX = 1 << 20
PIECE = 1 << 16
EARLIEST_CLOCK = calendar.timegm((2020, 1, 1, 0, 0, 0))
"""A clock that shows an earlier time was never set, so it says nothing about a picture."""

log = logging.getLogger("headgate_client")


class ClientError(Exception):
    """A sentence that says what to do."""


class SpoolFull(ClientError):
    """There is no room for another picture, and none of those here may be erased."""


class Busy(ClientError):
    """Another process is sending from this spool."""


# -- settings


@dataclass
class Config:
    """What the client needs to know. ``load`` reads it from an INI file."""

    gateway: str
    spool: str | Path
    token: str = ""
    device: str = ""  # who sends, where the gateway takes pictures without a token
    ca_file: str = ""  # for https:// with a certificate that this machine does not know
    max_bytes: int = 0  # of all pictures in the spool; 0: as much as the disk holds
    erase: str = "safe"  # "safe": proved to be in the bucket; "accepted": on the gateway's disk
    keep_seconds: float = 0  # how long a picture stays after it may be erased
    ask_seconds: float = 3600  # how often a receipt is asked for

    def __post_init__(self) -> None:
        parts = urlsplit(self.gateway)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ClientError(f"gateway: {self.gateway!r} is no address like http://gateway:8080")
        if not (self.token or self.device):
            raise ClientError(
                "Set token or device: a gateway cannot tell a repeat of a sender without a name."
            )
        if self.erase not in ("safe", "accepted"):
            raise ClientError(f"erase: {self.erase!r} is neither safe nor accepted")
        for name in ("token", "device"):
            if not _is_header(getattr(self, name)):
                raise ClientError(f"{name}: only printable ASCII can be sent")


_SECTIONS = {
    "gateway": {"url": "gateway", "token": "token", "device": "device", "ca_file": "ca_file"},
    "spool": {"path": "spool", "max_bytes": "max_bytes"},
    "retention": {"erase": "erase", "keep": "keep_seconds", "ask_every": "ask_seconds"},
}
_UNITS = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86400,
          "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}  # fmt: skip


def load(path: str | Path) -> Config:
    """The settings in an INI file; clients/headgate-client.ini shows each of them."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except (OSError, configparser.Error, UnicodeDecodeError) as error:
        raise ClientError(f"The settings cannot be read: {error}") from error
    found: dict[str, Any] = {}
    for section in parser.sections():
        for name, text in parser[section].items():
            if (section, name) == ("gateway", "token_file"):
                try:
                    found["token"] = Path(text).read_text(encoding="ascii").strip()
                except (OSError, UnicodeDecodeError) as error:
                    raise ClientError(f"token_file cannot be read: {error}") from error
                continue
            target = _SECTIONS.get(section, {}).get(name)
            if target is None:
                raise ClientError(f"{path}: there is no setting {name} in [{section}]")
            try:
                number = target in ("max_bytes", "keep_seconds", "ask_seconds")
                found[target] = _number(text) if number else text
            except ValueError:
                raise ClientError(f"{path}: {name} = {text} is no number with a unit") from None
    if token := os.environ.get("HEADGATE_CLIENT_TOKEN"):
        found["token"] = token
    for needed, said in (("gateway", "url in [gateway]"), ("spool", "path in [spool]")):
        if not found.get(needed):
            raise ClientError(f"{path}: set {said}")
    return Config(**found)


def _number(text: str) -> int:
    digits = text.strip().rstrip("".join(_UNITS) + " ")
    unit = text.strip()[len(digits) :].strip()
    if unit not in _UNITS:
        raise ValueError(text)
    return int(float(digits) * _UNITS[unit])


def _is_header(text: str) -> bool:
    return text.isascii() and (text.isprintable() or not text)


# -- the spool


class State(str, enum.Enum):
    """How far a picture has come."""

    WAITING = "waiting"  # the gateway has not acknowledged it
    HELD = "held"  # the gateway has it; its receipt does not say yet that it may be erased
    SAFE = "safe"  # it may be erased, once its time to be kept is over
    REFUSED = "refused"  # not sent again until a person says so


@dataclass
class Picture:
    """What is known of one picture; lies beside it as JSON."""

    number: int
    sha256: str
    size: int
    key: str  # the Idempotency-Key, made once
    captured_at: str = ""
    tags: str = ""
    urgent: bool = False
    state: State = State.WAITING
    id: str = ""  # the gateway's; the receipt is asked for with it
    passes: int = 0  # that tried it in vain
    next_at: float = 0  # when it is tried, or its receipt asked for, again
    safe_at: float = 0
    said: str = ""  # why it was not taken, for a person

    def is_due(self, now: float) -> bool:
        """Whether its time has come; a clock that was set back does not make it wait for ever."""
        return self.next_at <= now or self.next_at > now + 2 * LONGEST_PAUSE_SECONDS


class Spool:
    """A folder with ``00004711.picture`` and ``00004711.json`` for each picture.

    A picture is in the spool once its JSON is; each file is flushed before it gets its name. A
    ``.picture`` without JSON was being put when the power went, and its put did not return.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.locked("put.lock"):
            known = {path.stem for path in self.folder.glob("*.json")}
            for path in self.folder.iterdir():
                if path.suffix == ".picture" and path.stem not in known:
                    path.unlink()
            for picture in self.pictures():
                if not self.path(picture).exists():  # the power went while it was being erased
                    if picture.state is State.SAFE:
                        self._json(picture.number).unlink()
                    else:
                        log.error("picture %d is gone from the spool", picture.number)
            self._write_counter(self._next_number())

    @contextlib.contextmanager
    def locked(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Hold one of the spool's locks; the kernel gives it back when its holder dies."""
        with open(self.folder / name, "ab") as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                except BlockingIOError:
                    raise Busy("Another process is sending from this spool.") from None
            yield

    def path(self, picture: Picture) -> Path:
        """The picture's file."""
        return self.folder / f"{picture.number:08d}.picture"

    def pictures(self) -> list[Picture]:
        """All of them, in the order in which they were put."""
        names = (path for path in self.folder.glob("*.json") if path.stem.isdigit())
        found = (self._read(path) for path in sorted(names))
        return [picture for picture in found if picture is not None]

    def put(self, source: Any, expected: int, **known: Any) -> Picture:
        """Copy what ``source`` reads into the spool; on return it survives a power cut."""
        with self.locked("put.lock"):
            number = self._next_number()
            path = self.folder / f"{number:08d}.picture"
            digest, size = hashlib.sha256(), 0
            try:
                with open(path, "wb") as file:
                    for piece in iter(lambda: source.read(PIECE), b""):
                        file.write(piece)
                        digest.update(piece)
                        size += len(piece)
                    file.flush()
                    os.fsync(file.fileno())
                if size == 0 or size != expected:
                    raise ClientError("The picture is empty, or it changed while it was copied.")
                picture = Picture(number, digest.hexdigest(), size, uuid.uuid4().hex, **known)
                self.save(picture)
            except BaseException:
                for begun in (path, self._json(number)):
                    with contextlib.suppress(OSError):
                        begun.unlink()
                raise
            with contextlib.suppress(OSError):  # the picture's own name says its number as well
                self._write_counter(number + 1)
        return picture

    def save(self, picture: Picture) -> None:
        """Write what is known of a picture, durably."""
        self._write(self._json(picture.number), json.dumps(asdict(picture)))

    def erase(self, picture: Picture) -> None:
        """Remove a picture that may go."""
        assert picture.state is State.SAFE
        self.remove(picture)

    def remove(self, picture: Picture) -> None:
        """Remove a picture: the file first, so that its JSON still says what it was."""
        for path in (self.path(picture), self._json(picture.number)):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def _json(self, number: int) -> Path:
        return self.folder / f"{number:08d}.json"

    def _read(self, path: Path) -> Picture | None:
        """None for one that was erased meanwhile. Where the JSON is damaged the picture is sent
        without its key; the gateway knows it by its bytes and its number then."""
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            names = {one.name for one in fields(Picture)}
            picture = Picture(**{name: value for name, value in known.items() if name in names})
            picture.state = State(picture.state)
            return picture
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, AttributeError) as error:
            log.error("%s cannot be read (%s); it is made again from the picture", path, error)
        file = path.with_suffix(".picture")
        try:
            return Picture(int(path.stem), _sha256_of(file), file.stat().st_size, key="")
        except OSError:
            return None

    def _next_number(self) -> int:
        """One more than was ever used. The counter may be one behind the pictures, never ahead."""
        counter = self.folder / "next"
        text = counter.read_text(encoding="ascii").strip() if counter.exists() else ""
        used = [int(path.stem) for path in self.folder.glob("*.json") if path.stem.isdigit()]
        return max([int(text) if text.isdigit() else 1, *(number + 1 for number in used)])

    def _write_counter(self, number: int) -> None:
        self._write(self.folder / "next", f"{number}\n")

    def _write(self, path: Path, text: str) -> None:
        new = path.with_name(path.name + ".new")
        with open(new, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
        if os.name == "posix":
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


# -- the wire


class Outcome(enum.Enum):
    """What an answer means for the picture, and for those after it."""

    TAKEN = "taken"
    NO_ANSWER = "no answer"  # none, half of one, or none of the gateway's: sending again is safe
    AGAIN = "again"  # the bytes may have changed on the way
    LATER = "later"  # the gateway is busy, full or stopping
    REFUSED = "refused"  # this picture, as it is
    NOT_ADMITTED = "not admitted"  # this sender, so every picture


class Answer(NamedTuple):
    """One answer, judged."""

    outcome: Outcome
    said: str = ""
    wait_seconds: float = 0
    document: dict[str, Any] = {}


class Connection:
    """One gateway. A connection is kept as long as answers come at once, and never into a wait."""

    def __init__(self, config: Config) -> None:
        parts = urlsplit(config.gateway)
        assert parts.hostname is not None
        self._host, self._port, self._base = parts.hostname, parts.port, parts.path.rstrip("/")
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "https":
            try:
                self._tls = ssl.create_default_context(cafile=config.ca_file or None)
            except (OSError, ssl.SSLError) as error:
                raise ClientError(f"ca_file cannot be read: {error}") from error
        self._always = {"User-Agent": "headgate-client"}
        if config.token:
            self._always["Authorization"] = f"Bearer {config.token}"
        if config.device:
            self._always["X-Device"] = config.device
        self._open: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: Any = None
    ) -> Answer:
        """One attempt; ``body`` is a file, and its length is in the headers."""
        try:
            connection = self._open or self._connect()
            self._open = connection
            connection.putrequest(method, self._base + path, skip_accept_encoding=True)
            for name, value in {**self._always, **(headers or {})}.items():
                connection.putheader(name, value)
            connection.endheaders()
            try:
                if body is not None:
                    for piece in iter(lambda: body.read(PIECE), b""):
                        connection.send(piece)
            except (BrokenPipeError, ConnectionResetError):
                pass  # a refusal may have come before the end of the body: read it
            response = connection.getresponse()
            text = response.read(ANSWER_BYTES_MAX)
            if response.length or (response.chunked and not response.isclosed()):
                raise http.client.IncompleteRead(text)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            return Answer(Outcome.NO_ANSWER, f"{type(error).__name__}: {error}")
        if response.will_close:
            self.close()
        return judge(response.status, response.getheader("Retry-After", ""), text)

    def _connect(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=CONNECT_SECONDS, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=CONNECT_SECONDS)
        connection.connect()
        connection.sock.settimeout(ANSWER_SECONDS)
        return connection


def judge(status: int, retry_after: str, text: bytes) -> Answer:
    """What an answer means: docs/PROTOCOL.md, "When it is refused"."""
    try:
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ValueError
    except (ValueError, RecursionError):
        return Answer(Outcome.NO_ANSWER, f"{status} without an answer of the gateway's")
    if status in (200, 201):
        return Answer(Outcome.TAKEN, document=document)
    if "retry" not in document:
        return Answer(Outcome.NO_ANSWER, f"{status} without an answer of the gateway's")
    code = str(document.get("code", status))
    said = f"{code}: {document.get('detail') or document.get('title') or status}"
    if document["retry"] is True:
        wait = _seconds(retry_after)
        outcome = Outcome.AGAIN if wait is None else Outcome.LATER
        return Answer(outcome, said, wait or 0, document)
    # What concerns the sender concerns every picture; the right to be urgent is one picture's.
    sender = status in (401, 403, 404, 405, 407) and code != "not_urgent"
    return Answer(Outcome.NOT_ADMITTED if sender else Outcome.REFUSED, said, 0, document)


def _seconds(retry_after: str) -> float | None:
    """``Retry-After`` in seconds: a number, or a date (RFC 9110, 10.2.3)."""
    text = retry_after.strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    with contextlib.suppress(ValueError, OverflowError, TypeError):  # a year that no date can have
        when = email.utils.parsedate_tz(text)
        if when:
            return max(0.0, email.utils.mktime_tz(when) - time.time())
    return 1.0


# -- the client


@dataclass
class Report:
    """What one pass did. ``trouble`` says why it ended before its end."""

    taken: int = 0
    erased: int = 0
    failed: int = 0  # kept, and tried again later
    refused: int = 0  # kept, for a person
    trouble: str = ""
    wait_seconds: float = 0  # the gateway asks for so much peace
    numbers: dict[str, list[int]] = field(default_factory=dict)

    def note(self, what: str, picture: Picture) -> None:
        """Count a picture."""
        setattr(self, what, getattr(self, what) + 1)
        self.numbers.setdefault(what, []).append(picture.number)


class Client:
    """Puts pictures into the spool, and sends what waits there.

    ``put`` may be called while another process sends. ``now`` and ``sleep`` are for tests.
    """

    def __init__(
        self,
        config: Config,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.config = config
        self.spool = Spool(config.spool)
        self._connection = Connection(config)
        self._now, self._sleep = now, sleep
        self._limits: dict[str, Any] = {}
        self._limits_at = 0.0

    # -- pictures in

    def put(
        self,
        source: Any,
        *,
        captured_at: str = "",
        tags: dict[str, str] | None = None,
        urgent: bool = False,
    ) -> Picture:
        """Take a picture into the spool: a path, bytes, or a file opened for reading in binary."""
        if isinstance(source, (bytes, bytearray)):
            import io

            source = io.BytesIO(source)
        if not hasattr(source, "read"):
            with open(source, "rb") as file:
                if not captured_at:
                    captured_at = self._when(os.fstat(file.fileno()).st_mtime)
                return self.put(file, captured_at=captured_at, tags=tags, urgent=urgent)
        text = ", ".join(f"{name}={value}" for name, value in (tags or {}).items())
        if not (_is_header(captured_at) and _is_header(text)):
            raise ClientError("captured_at and tags can only be printable ASCII.")
        at = source.tell()
        size = source.seek(0, os.SEEK_END) - at
        source.seek(at)
        self._make_room(size)
        return self.spool.put(source, size, captured_at=captured_at, tags=text, urgent=urgent)

    def _make_room(self, size: int) -> None:
        """Erase what may go before its time, the oldest first; SpoolFull if that is too little."""
        if not self.config.max_bytes:
            return
        pictures = self.spool.pictures()
        used = sum(picture.size for picture in pictures)
        for picture in pictures:
            if used + size <= self.config.max_bytes:
                return
            if picture.state is State.SAFE:
                self.spool.erase(picture)
                used -= picture.size
        if used + size > self.config.max_bytes:
            raise SpoolFull(
                f"{used} of {self.config.max_bytes} bytes hold pictures that may not be erased yet."
            )

    def _when(self, at: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) if at > EARLIEST_CLOCK else ""

    # -- pictures out

    def send(self) -> Report:
        """One pass: every picture that is due, three times at most; then receipts; then erasing."""
        with self.spool.locked("send.lock", wait=False):
            report = Report()
            try:
                self._pass(report)
            finally:
                self._connection.close()
            return report

    def _pass(self, report: Report) -> None:
        pictures = self.spool.pictures()
        for picture in pictures:
            self._erase_if_over(picture, report)
        now = self._now()
        waiting = [p for p in pictures if p.state is State.WAITING and p.is_due(now)]
        held = [p for p in pictures if p.state is State.HELD and p.is_due(now)]
        if not (waiting or held) or not self._reach(report):
            return
        # Those that failed least come first, so one that never gets through keeps nobody waiting.
        for picture in sorted(waiting, key=lambda p: (p.passes, not p.urgent, p.number)):
            if not self._send_one(picture, report):
                return
        failures = 0
        for picture in held:
            if not self._ask_receipt(picture, report):
                failures += 1
                if failures == TRIES:
                    report.trouble = report.trouble or "The receipts cannot be asked for."
                    return

    def _reach(self, report: Report) -> bool:
        """The handshake: whether the gateway is there, knows this sender, and takes pictures."""
        if self._limits and 0 <= self._now() - self._limits_at < HANDSHAKE_SECONDS:
            return True
        self._limits = {}
        for attempt in range(TRIES):
            answer = self._connection.ask("GET", "/limits")
            if answer.outcome is Outcome.TAKEN:
                break
            if answer.outcome in (Outcome.REFUSED, Outcome.NOT_ADMITTED):
                report.trouble = f"The gateway takes nothing from this sender. {answer.said}"
                return False
            if attempt + 1 < TRIES:
                self._wait(answer, attempt)
        else:
            report.trouble = f"The gateway cannot be reached. {answer.said}"
            return False
        known = answer.document
        if known.get("accepting") is False:
            wait = known.get("retry_after")
            if isinstance(wait, (int, float)) and wait > 0:  # which "not a number" is not
                report.wait_seconds = float(min(wait, LONGEST_PAUSE_SECONDS))
            report.trouble = f"The gateway takes no pictures now ({known.get('reason')})."
            return False
        self._limits, self._limits_at = known, self._now()
        return True

    def _send_one(self, picture: Picture, report: Report) -> bool:
        """Try one picture up to three times. False: the pass ends, no picture would fare better."""
        largest = self._limits.get("max_image")
        if isinstance(largest, int) and picture.size > largest:
            self._refuse(picture, f"too_large: the gateway takes {largest} bytes at most", report)
            return True
        answers: list[Answer] = []
        for attempt in range(TRIES):
            answer = self._post(picture)
            answers.append(answer)
            if answer.outcome is Outcome.TAKEN:
                self._taken(picture, answer.document, report)
                return True
            if answer.outcome is Outcome.REFUSED:
                self._refuse(picture, answer.said, report)
                return True
            if answer.outcome is Outcome.NOT_ADMITTED:
                report.trouble = f"The gateway takes nothing from this sender. {answer.said}"
                return False
            if answer.wait_seconds > LONGEST_WAIT_SECONDS:
                break
            if attempt + 1 < TRIES:
                self._wait(answer, attempt)
        last = answers[-1]
        if len(answers) == TRIES and all(one.outcome is Outcome.AGAIN for one in answers):
            said = last.said
            if _sha256_of(self.spool.path(picture)) != picture.sha256:
                said += " (the file in this spool is no longer what was put into it)"
            self._refuse(picture, said, report)
            return True
        picture.passes += 1
        picture.said = last.said
        pause = FIRST_PAUSE_SECONDS * 2 ** min(picture.passes - 1, 10)
        picture.next_at = self._now() + _jittered(
            min(max(pause, last.wait_seconds), LONGEST_PAUSE_SECONDS)
        )
        self.spool.save(picture)
        report.note("failed", picture)
        log.warning("picture %d is kept and tried again later: %s", picture.number, last.said)
        if last.wait_seconds > LONGEST_WAIT_SECONDS:
            report.wait_seconds, report.trouble = last.wait_seconds, last.said
            return False
        self._limits = {}
        return self._reach(report)  # was it the picture, or the gateway?

    def _post(self, picture: Picture) -> Answer:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(picture.size),
            "X-Sequence": str(picture.number),
            "X-Sha256": picture.sha256,
        }
        if picture.key:
            headers["Idempotency-Key"] = picture.key
        if picture.captured_at:
            headers["X-Captured-At"] = picture.captured_at
        if picture.tags:
            headers["X-Tags"] = picture.tags
        if picture.urgent:
            headers["X-Priority"] = "urgent"
        try:
            with open(self.spool.path(picture), "rb") as file:
                if os.fstat(file.fileno()).st_size != picture.size:
                    return Answer(Outcome.REFUSED, "its file in this spool has another length")
                answer = self._connection.ask("POST", "/images", headers, file)
        except OSError as error:
            return Answer(Outcome.REFUSED, f"its file in this spool cannot be read: {error}")
        if answer.outcome is Outcome.TAKEN and not _is_of(picture, answer.document):
            return Answer(Outcome.NO_ANSWER, "the answer is no receipt of this picture")
        return answer

    def _taken(self, picture: Picture, receipt: dict[str, Any], report: Report) -> None:
        picture.state, picture.id, picture.said = State.HELD, str(receipt["id"]), ""
        picture.next_at = self._now() + self.config.ask_seconds
        picture.passes = 0
        report.note("taken", picture)
        log.info("picture %d is %s", picture.number, picture.id)
        if receipt.get("safe_to_erase") is True or self.config.erase == "accepted":
            picture.state, picture.safe_at = State.SAFE, self._now()
        self.spool.save(picture)
        self._erase_if_over(picture, report)

    def _ask_receipt(self, picture: Picture, report: Report) -> bool:
        """Whether there was an answer; what it says is done."""
        answer = self._connection.ask("GET", f"/images/{quote(picture.id, safe='')}")
        picture.next_at = self._now() + self.config.ask_seconds
        if answer.document.get("code") == "no_receipt":
            return self._send_again(picture, "the gateway knows it no longer")
        if answer.outcome is not Outcome.TAKEN:
            log.warning("the receipt of picture %d: %s", picture.number, answer.said)
            return False
        receipt = answer.document
        if not _is_of(picture, receipt) or receipt["id"] != picture.id:
            log.warning("the receipt of picture %d is another picture's", picture.number)
            return False
        if receipt.get("safe_to_erase") is True:
            picture.state, picture.safe_at = State.SAFE, self._now()
            self.spool.save(picture)
            self._erase_if_over(picture, report)
            return True
        if receipt.get("state") == "lost":
            return self._send_again(picture, "the gateway has lost it")
        if receipt.get("state") == "discarded":
            self._refuse(picture, "discarded: a person at the gateway gave it up", report)
            return True
        self.spool.save(picture)
        return True

    def _send_again(self, picture: Picture, why: str) -> bool:
        log.warning("picture %d is sent again: %s", picture.number, why)
        picture.state, picture.id, picture.next_at = State.WAITING, "", 0
        self.spool.save(picture)
        return True

    def _erase_if_over(self, picture: Picture, report: Report) -> None:
        if picture.state is not State.SAFE:
            return
        kept = self._now() - picture.safe_at
        if kept < 0:  # the clock was set back
            picture.safe_at = self._now()
            self.spool.save(picture)
        elif kept >= self.config.keep_seconds:
            self.spool.erase(picture)
            report.note("erased", picture)

    def _refuse(self, picture: Picture, said: str, report: Report) -> None:
        picture.state, picture.said = State.REFUSED, said
        self.spool.save(picture)
        report.note("refused", picture)
        log.error("picture %d is kept and not sent again: %s", picture.number, said)

    def _wait(self, answer: Answer, attempt: int) -> None:
        """Between two attempts, with jitter, so that many cameras do not come back together."""
        self._connection.close()
        usual = {Outcome.AGAIN: 0.5, Outcome.LATER: answer.wait_seconds}
        seconds = usual.get(answer.outcome, 2.0**attempt)
        self._sleep(_jittered(min(max(seconds, 0.5), LONGEST_WAIT_SECONDS)))

    # -- for a person

    def retry(self, numbers: list[int] | None = None) -> int:
        """Send refused pictures again: these, or all. How many there are."""
        with self.spool.locked("send.lock"):
            found = self._refused(numbers)
            for picture in found:
                picture.state, picture.passes, picture.next_at = State.WAITING, 0, 0
                self.spool.save(picture)
        return len(found)

    def discard(self, numbers: list[int]) -> int:
        """Give up refused pictures, which removes them. How many there were."""
        with self.spool.locked("send.lock"):
            found = self._refused(numbers)
            for picture in found:
                self.spool.remove(picture)
        return len(found)

    def _refused(self, numbers: list[int] | None) -> list[Picture]:
        return [
            picture
            for picture in self.spool.pictures()
            if picture.state is State.REFUSED and (numbers is None or picture.number in numbers)
        ]


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1, 1.5)


def _is_of(picture: Picture, receipt: dict[str, Any]) -> bool:
    """Whether a receipt speaks of this picture: its id alone would not prove that."""
    same = receipt.get("sha256") == picture.sha256 and receipt.get("size") == picture.size
    return same and isinstance(receipt.get("id"), str) and bool(receipt["id"])


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(PIECE), b""):
            digest.update(piece)
    return digest.hexdigest()


# -- the command

EXIT_WAITING, EXIT_USAGE, EXIT_PERSON = 1, 2, 3


def _put(client: Client, options: argparse.Namespace) -> int:
    tags = dict(tag.split("=", 1) for tag in options.tag if "=" in tag)
    if len(tags) < len(options.tag):
        raise ClientError("--tag is a name and a value: --tag lens=wide")
    for path in options.files:
        picture = client.put(path, tags=tags, urgent=options.urgent)
        print(f"{picture.number} {path}")
        if options.move:
            os.unlink(path)
    return 0


def _send(client: Client, options: argparse.Namespace) -> int:
    while True:
        report = client.send()
        left = [picture.state for picture in client.spool.pictures()]
        print(
            f"{report.taken} taken, {report.erased} erased, {left.count(State.WAITING)} waiting, "
            f"{left.count(State.HELD)} held, {left.count(State.REFUSED)} refused",
            *([report.trouble] if report.trouble else []),
            sep="\n",
            flush=True,
        )
        if not options.every:
            break
        time.sleep(min(max(options.every, _jittered(report.wait_seconds)), LONGEST_PAUSE_SECONDS))
    if State.REFUSED in left:
        return EXIT_PERSON
    return EXIT_WAITING if report.trouble or State.WAITING in left else 0


def _list(client: Client, _options: argparse.Namespace) -> int:
    for picture in client.spool.pictures():
        print(picture.number, picture.state.value, picture.size, picture.id or "-", picture.said)
    return 0


def _retry(client: Client, options: argparse.Namespace) -> int:
    print(f"{client.retry(options.numbers or None)} put back")
    return 0


def _discard(client: Client, options: argparse.Namespace) -> int:
    print(f"{client.discard(options.numbers)} discarded")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="headgate_client.py",
        description="Keep pictures until a Headgate gateway proves that they are in the bucket.",
        epilog="exit codes: 0 nothing waits; 1 pictures wait; 2 usage or settings; "
        "3 pictures are refused and need a person",
    )
    parser.add_argument("--config", default="headgate-client.ini", metavar="FILE")
    parser.add_argument("-v", "--verbose", action="store_true", help="one line for each picture")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    put = commands.add_parser("put", help="take pictures into the spool")
    put.add_argument("files", nargs="+", metavar="FILE")
    put.add_argument("--move", action="store_true", help="remove each once it is in the spool")
    put.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE")
    put.add_argument("--urgent", action="store_true", help="let it leave the gateway first")
    send = commands.add_parser("send", help="send what waits, and erase what may be erased")
    send.add_argument("--every", type=float, default=0, metavar="SECONDS", help="again and again")
    commands.add_parser("list", help="what is in the spool")
    retry = commands.add_parser("retry", help="send refused pictures again: these, or all")
    retry.add_argument("numbers", nargs="*", type=int, metavar="NUMBER")
    discard = commands.add_parser("discard", help="give up refused pictures")
    discard.add_argument("numbers", nargs="+", type=int, metavar="NUMBER")
    options = parser.parse_args(arguments)
    do = {"put": _put, "send": _send, "list": _list, "retry": _retry, "discard": _discard}
    if options.command is None:
        parser.print_usage(sys.stderr)
        return EXIT_USAGE
    level = logging.INFO if options.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s")
    try:
        return do[options.command](Client(load(options.config)), options)
    except Busy as busy:
        print(busy, file=sys.stderr)
        return 0
    except ClientError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    except OSError as error:
        print(f"{error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        return EXIT_WAITING


if __name__ == "__main__":
    sys.exit(main())
