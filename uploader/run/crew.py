"""The threads that send: each takes a job, makes one attempt, and says how it ended."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from spool import attributes
from spool.errors import DiskTrouble, Missing
from spool.files import read_metadata
from spool.item import Item, Sent
from uploader.run.pacer import Closed
from uploader.s3.errors import Kind, SendError
from uploader.s3.keys import object_key, object_metadata
from uploader.s3.sender import Sender, Upload


@dataclass(frozen=True, slots=True)
class Result:
    """One attempt: proof, or why there is none. ``missing``: no file was where it should be."""

    item: Item
    sent: Sent | None = None
    error: SendError | None = None
    missing: bool = False
    closed: bool = False  # the run ended before it could be sent
    trouble: Exception | None = None  # this machine's own: the ledger cannot be written
    seconds: float = 0.0  # at work, without waiting for the pacer


@dataclass(frozen=True, slots=True)
class Keys:
    """What makes a key out of a name."""

    site: str
    prefix: str
    layout: str


class Crew:
    """As many threads as ``resize`` asks for; ``send`` feeds them, ``result`` takes what comes."""

    def __init__(
        self,
        sender: Sender,
        place: Callable[[Item], Path],
        keys: Keys,
        waited: Callable[[], float],
    ) -> None:
        self._sender = sender
        self._place = place
        self._keys = keys
        self._waited = waited
        self._jobs: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    @property
    def size(self) -> int:
        return len(self._threads)

    def resize(self, size: int) -> None:
        """Grow to so many threads; a crew never shrinks within a run."""
        while len(self._threads) < size:
            thread = threading.Thread(target=self._work, name=f"send-{len(self._threads)}")
            self._threads.append(thread)
            thread.start()

    def send(self, item: Item) -> None:
        self._jobs.put(item)

    def result(self, seconds: float) -> Result | None:
        """The next result, within ``seconds``."""
        try:
            return self._results.get(timeout=seconds) if seconds > 0 else self._results.get_nowait()
        except queue.Empty:
            return None

    def recall(self) -> list[Item]:
        """Jobs that nobody has begun."""
        items: list[Item] = []
        while True:
            try:
                item = self._jobs.get_nowait()
            except queue.Empty:
                return items
            if item is not None:
                items.append(item)

    def dismiss(self) -> None:
        """End the threads, after what each is doing now."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            started, waited = time.monotonic(), self._waited()
            result = self._attempt(item)
            seconds = time.monotonic() - started - (self._waited() - waited)
            self._results.put(replace(result, seconds=seconds))

    def _attempt(self, item: Item) -> Result:
        try:
            upload = self.upload(item)
            sent = self._sender.find(upload) if item.unknown else None
            return Result(item, sent or self._sender.send(upload))
        except Missing:
            return Result(item, missing=True)
        except Closed:
            return Result(item, closed=True)
        except SendError as error:
            if error.code == "file-gone":
                return Result(item, missing=True)
            return Result(item, error=self._judged(item, error))
        except DiskTrouble as error:
            return Result(item, trouble=error)
        except OSError as error:
            return Result(item, error=_unreadable(error))
        except Exception as error:  # a bug must not leave an image in limbo: the run says so
            return Result(item, trouble=error)

    def upload(self, item: Item) -> Upload:
        """What S3 is to be given. Missing, OSError, or SendError if the bytes are not the image."""
        path = self._place(item)
        meta = read_metadata(path, item.name)
        if meta.sha256 != item.sha256 or not meta.sha256.startswith(item.name.digest):
            raise _changed(meta.sha256)
        key = object_key(self._keys.site, self._keys.prefix, self._keys.layout, item.name)
        metadata = object_metadata(item.name, meta)
        return Upload(path, key, item.sha256, item.size, meta.media_type, metadata)

    def _judged(self, item: Item, error: SendError) -> SendError:
        """S3 says the bytes are not those promised: hash again, to tell the disk from the line."""
        if not error.rehash:
            return error
        sha256, _ = attributes.hash_file(self._place(item))
        return error if sha256 == item.sha256 else _changed(sha256)


def _changed(sha256: str) -> SendError:
    return SendError(
        Kind.PERMANENT,
        "changed",
        "Its bytes are not those that were received (SHA-256 is now "
        f"{sha256[:16]}...): the disk, or somebody, changed them. Compare with the camera's copy.",
    )


def _unreadable(error: OSError) -> SendError:
    return SendError(
        Kind.PERMANENT,
        "unreadable",
        f"It cannot be read ({error.strerror or error}); mend its permissions or the disk, then "
        "headgate retry.",
    )
