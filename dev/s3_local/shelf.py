"""moto's S3 over the folder: what moto stores is moved into a file, and put back at start.

moto keeps every object's bytes in memory, or each in an open temporary file; neither lasts, and
tens of thousands of them exhaust one or the other. So after each write the object's buffer is
exchanged for one that reads from the folder. Needs the ``local`` extra.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from html import unescape
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import create_backend_app
from moto.s3.models import FakeBucket, FakeKey, get_canned_acl, s3_backends

from dev.s3_local.folder import Contents, Draft, Folder, Record, remove

_KEY = re.compile(rb"<Key>(.*?)</Key>", re.DOTALL)
_CHUNK = 1024 * 1024
Reply = tuple[str, list[tuple[str, str]], bytes]


class Shelf:
    """All buckets of the stand-in. Every call takes ``lock``: moto's dictionaries are not made for
    threads."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self._app = create_backend_app("s3")
        self._backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        self._files: dict[tuple[str, str], list[str]] = {}
        self._acl = get_canned_acl("private")
        self._own: set[str] = set()

    def load(self) -> int:
        """Put every kept object back into moto; how many there are."""
        count = 0
        for bucket in self.folder.buckets():
            self.make_bucket(bucket)
            for path, record in self.folder.load(bucket):
                self._put_back(bucket, str(path), record)
                count += 1
        return count

    def make_bucket(self, bucket: str) -> None:
        with self.lock:
            self.folder.make_bucket(bucket)
            if bucket not in self._backend.buckets:
                self._backend.create_bucket(bucket, "us-east-1")
            self._own.add(bucket)

    def call(self, environ: dict[str, Any]) -> Reply:
        """Ask moto, and return its answer."""
        status, headers = "", []

        def start(
            line: str, fields: list[tuple[str, str]], _info: object = None
        ) -> Callable[[bytes], object]:
            nonlocal status, headers
            status, headers = line, fields
            return lambda _data: None

        with self.lock:
            answer = self._app(environ, start)
            try:
                return status, headers, b"".join(answer)
            finally:
                if hasattr(answer, "close"):
                    answer.close()

    def store(
        self, environ: dict[str, Any], bucket: str, key: str, draft: Draft | None
    ) -> tuple[Reply, bool]:
        """moto's answer to what makes an object, and whether the draft was kept.

        The object is in the folder before anybody sees it; where that fails, the key has what it
        had before. ``draft`` has the bytes, unless moto makes them up (a copy, or of parts).
        """
        with self.lock:
            before, kept = self._versions(bucket, key), False
            try:
                reply = self.call(environ)
                if reply[0].startswith("2"):
                    self._adopt(bucket, key, draft)
                    kept = True
            finally:
                if not kept and self._versions(bucket, key) != before:
                    held = self._backend.buckets[bucket].keys
                    held.setlist(key, before) if before else held.pop(key)
            return reply, kept and draft is not None

    def _adopt(self, bucket: str, key: str, draft: Draft | None) -> None:
        """Move what moto has just stored into a file."""
        stored = self._newest(bucket, key)
        fresh = stored is not None and not isinstance(stored._value_buffer, Contents)
        if draft is None and not fresh:
            return  # nothing was stored: a multipart upload begins
        own = draft is None
        if draft is None:
            draft = self.folder.draft(bucket)
        try:
            if own:
                stored._value_buffer.seek(0)
                while piece := stored._value_buffer.read(_CHUNK):
                    draft.write(piece)
            same = fresh and stored.size == draft.size
            if not same or not (own or stored.etag == f'"{draft.md5.hex()}"'):
                raise RuntimeError(f"moto did not store the {draft.size} bytes of {key}")
            record = _record(stored, draft)
            draft.commit(record)
        except BaseException:
            draft.discard()
            raise
        stored._value_buffer.close()
        stored._value_buffer = Contents(str(draft.path), record.size, record.sha256)
        stored.acl = self._acl  # one for all: moto makes several objects for each
        self._files.setdefault((bucket, key), []).append(str(draft.path))
        self.reconcile(bucket, [key])

    def reconcile(self, bucket: str, keys: Iterable[str]) -> None:
        """Remove the files of versions that are no longer there."""
        with self.lock:
            for key in keys:
                files = self._files.get((bucket, key), [])
                versions = self._versions(bucket, key)
                live = {getattr(one, "_value_buffer", None) for one in versions}
                paths = {one.path for one in live if isinstance(one, Contents)}
                for file in [file for file in files if file not in paths]:
                    files.remove(file)
                    remove(file)
                if not files:
                    self._files.pop((bucket, key), None)

    def bucket_changed(self, bucket: str) -> None:
        """Bring the folder up to date after a request made or deleted a bucket."""
        with self.lock:
            if bucket in self._backend.buckets:
                self.make_bucket(bucket)
            elif bucket in self._own:
                self._own.discard(bucket)
                self.folder.drop_bucket(bucket)

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Every object's bytes by key."""
        with self.lock:
            held = self._backend.buckets[bucket].keys
            return {name: held[name].value for name in list(held)}

    def close(self) -> None:
        """Forget everything in memory; the files stay."""
        with self.lock:
            for bucket in self._own:
                held: FakeBucket | None = self._backend.buckets.pop(bucket, None)
                if held is None:
                    continue
                s3_backends.bucket_accounts.pop(bucket, None)
                for name in list(held.keys):
                    held.keys.pop(name)
            self._own.clear()
            self._files.clear()
            self.folder.close()

    def _versions(self, bucket: str, key: str) -> list[Any]:
        held = self._backend.buckets.get(bucket)
        return list(held.keys.getlist(key, [])) if held is not None else []

    def _newest(self, bucket: str, key: str) -> Any:
        versions = [one for one in self._versions(bucket, key) if isinstance(one, FakeKey)]
        return versions[-1] if versions else None

    def _put_back(self, bucket: str, path: str, record: Record) -> None:
        held = self._backend.buckets[bucket]
        key = FakeKey(
            name=record.key,
            value=b"",
            account_id=held.account_id,
            region_name=held.region_name,
            bucket_name=bucket,
            etag=record.etag,
            version_id=record.version_id,
            checksum_value=record.checksums.get("value"),
            checksum_type=record.checksums.get("type"),
        )
        key._value_buffer.close()
        key._value_buffer = Contents(path, record.size, record.sha256)  # type: ignore[assignment]
        key.contentsize = record.size
        key.checksum_algorithm = record.checksums.get("algorithm")
        key.last_modified = datetime.fromtimestamp(record.modified_at, UTC).replace(tzinfo=None)
        key.acl = self._acl
        key.set_metadata(dict(record.metadata))
        held.keys.setlist(record.key, [key])
        self._files.setdefault((bucket, record.key), []).append(path)
        self.reconcile(bucket, [record.key])


def _record(stored: Any, draft: Draft) -> Record:
    checksums = {
        "algorithm": stored.checksum_algorithm,
        "value": stored.checksum_value,
        "type": stored.checksum_type,
    }
    return Record(
        key=stored.name,
        size=stored.size,
        etag=stored.etag.strip('"'),
        modified_at=stored.last_modified.replace(tzinfo=UTC).timestamp(),
        metadata={str(name): str(value) for name, value in stored.metadata.items()},
        checksums={name: value for name, value in checksums.items() if value},
        version_id=stored.version_id,
        sha256=draft.sha256.hex(),
    )


def keys_in(body: bytes) -> list[str]:
    """The keys that a DeleteObjects request names."""
    return [unescape(key.decode()) for key in _KEY.findall(body)]
