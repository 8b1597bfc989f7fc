"""The threads that send: each takes a job, makes one attempt, and says how it ended."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from headgate.spool.disk import xattrs
from headgate.spool.disk.layout import read_metadata
from headgate.spool.errors import DiskError, FileMissing
from headgate.spool.image.image import Item, Presence, Sent
from uploader.destination.contract import Describe, Sender, Stored, Upload
from uploader.wire.connection import BrokenOff
from uploader.wire.errors import ErrorKind, SendError
from uploader.wire.file_body import unreadable
from uploader.wire.pacer import Closed

_LOOK_SECONDS = 0.1
_LOOK_PAUSES = (0.0, 0.3, 1.2)
"""Seconds before each look at an object that was confirmed."""


@dataclass(slots=True)
class Result:
    """The result of one attempt: proof, or why there is none. ``missing``: no file was where it
    should be."""

    item: Item
    sent: Sent | None = None
    error: SendError | None = None
    missing: bool = False
    closed: bool = False  # the run ended before it could be sent
    trouble: Exception | None = None  # this machine's own: the ledger cannot be written
    began: float = 0.0  # seconds of the monotonic clock
    presence: Presence | None = None  # the result of a look, and of nothing else


class Workers:
    """As many threads at work as ``resize`` asks for; ``send`` feeds them, ``result`` takes what
    comes. The threads are the drain's to start and to end."""

    def __init__(
        self,
        sender: Sender,
        place: Callable[[Item], Path | str],
        describe: Describe,
    ) -> None:
        self._sender = sender
        self._place = place
        self._describe = describe
        self._jobs: deque[Item] = deque()
        self._looks: deque[tuple[Item, Sent]] = deque()
        self._news = threading.Condition()  # jobs, another size, or the end
        self._size = 0
        self._over = False
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._under_way: dict[int, Item] = {}  # by the number of its thread

    @property
    def size(self) -> int:
        return self._size

    def resize(self, size: int) -> None:
        """This many send at once from now on; what is too many finishes what it is doing."""
        if size == self._size:
            return
        with self._news:
            self._size = size
            self._news.notify_all()
        while len(self._threads) < size:
            number = len(self._threads)
            # No thread may keep a run that was broken off from ending: a name lookup can hang.
            thread = threading.Thread(
                target=self._work, args=(number,), name=f"send-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def send(self, items: Iterable[Item]) -> None:
        """Jobs for the first free worker."""
        with self._news:
            self._jobs.extend(items)
            self._news.notify_all()

    def look(self, item: Item, sent: Sent) -> None:
        """See whether the bucket holds what it confirmed; before all other jobs."""
        with self._news:
            self._looks.append((item, sent))
            self._news.notify_all()

    def result(self, seconds: float) -> Result | None:
        """The next result, within ``seconds``."""
        try:
            return self._results.get(timeout=seconds) if seconds > 0 else self._results.get_nowait()
        except queue.Empty:
            return None

    def cancel_pending(self) -> list[Item]:
        """Jobs that no thread has begun."""
        with self._news:
            items = list(self._jobs)
            self._jobs.clear()
        return items

    def shutdown(self, given_up: Callable[[], bool] = lambda: False) -> None:
        """End the threads, after what each is doing now; or leave them to it, and take its outcome
        for unknown, as soon as ``given_up`` says that the caller no longer waits."""
        with self._news:
            self._over = True
            self._news.notify_all()
        for thread in self._threads:
            while thread.is_alive() and not given_up():
                thread.join(_LOOK_SECONDS)
        with self._news:
            for item in self._under_way.values():
                self._results.put(Result(item, closed=True))
            self._under_way.clear()

    def _work(self, number: int) -> None:
        while (job := self._next(number)) is not None:
            began = time.monotonic()
            look = isinstance(job, tuple)
            result = self._look(*job) if isinstance(job, tuple) else self._attempt(job)
            result.began = began
            with self._news:
                if self._under_way.pop(number, None) is not None or look:
                    self._results.put(result)

    def _next(self, number: int) -> Item | tuple[Item, Sent] | None:
        """A job for the thread with this number; None at the end."""
        with self._news:
            while not self._over:
                if self._looks:
                    return self._looks.popleft()
                if self._jobs and number < self._size:
                    self._under_way[number] = self._jobs[0]
                    return self._jobs.popleft()
                self._news.wait()
        return None

    def _attempt(self, item: Item) -> Result:
        try:
            try:
                return self._send(item)
            except SendError as error:
                return Result(item, error=self._judged(item, error))
        except FileMissing:
            return Result(item, missing=True)
        except (Closed, BrokenOff):
            return Result(item, closed=True)
        except DiskError as error:
            return Result(item, trouble=error)
        except OSError as error:
            return Result(item, error=unreadable(self._place(item), error))
        except Exception as error:  # a bug must not leave an image in limbo: the run says so
            return Result(item, trouble=error)

    def _send(self, item: Item) -> Result:
        try:
            upload = self.upload(item)
            sent = self._sender.find(upload) if item.unknown else None
            return Result(item, sent or self._sender.send(upload))
        except SendError as error:
            if error.code == "file-gone":
                return Result(item, missing=True)
            raise

    def _look(self, item: Item, sent: Sent) -> Result:
        """Asked more than once: a store may be slow to show what it took, or be in trouble."""
        stored = Stored(sent.key, item.size, item.sha256, sent.etag)
        result = Result(item, presence=Presence.UNKNOWN)
        for pause in _LOOK_PAUSES:
            with self._news:
                self._news.wait_for(lambda: self._over, pause)
            try:
                presence = self._sender.see(stored)
            except (Closed, BrokenOff):
                return Result(item, presence=Presence.UNKNOWN, closed=True)
            except SendError as error:
                result = Result(item, presence=Presence.UNKNOWN, error=error)
            except Exception as error:
                return Result(item, presence=Presence.UNKNOWN, trouble=error)
            else:
                result = Result(item, presence=presence)
                if presence is Presence.THERE:
                    break
        return result

    def upload(self, item: Item) -> Upload:
        """What the destination is given. Missing, OSError, or SendError if the bytes are not the
        image."""
        path = self._place(item)
        try:
            meta = read_metadata(path, item.name)
        except DiskError as error:  # in reading; what else the disk refuses is not this file's
            raise unreadable(path, OSError(error.errno, str(error))) from error
        if meta.sha256 != item.sha256 or not meta.sha256.startswith(item.name.digest):
            raise _changed(meta.sha256)
        key, metadata = self._describe(item.name, meta)
        return Upload(path, key, item.sha256, item.size, meta.media_type, metadata)

    def _judged(self, item: Item, error: SendError) -> SendError:
        """S3 says the bytes are not those promised: hash again, to tell the disk from the line."""
        if not error.rehash:
            return error
        sha256, _ = xattrs.hash_file(self._place(item))
        if sha256 != item.sha256:
            return _changed(sha256)
        error.message = (
            f"The server says that it got other bytes than those promised ({error.code}), and the "
            "file is unchanged: something on the way changes them, or the server computes the "
            "digest otherwise; see `headgate config check`."
        )
        return error


def _changed(sha256: str) -> SendError:
    return SendError(
        ErrorKind.PERMANENT,
        "changed",
        "Its bytes are not those that were received (SHA-256 is now "
        f"{sha256[:16]}...): the disk or a program changed them. Compare with the camera's copy.",
    )
