"""The stand-in put together: for the command, and in a thread for tests."""

from __future__ import annotations

import secrets
import ssl
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path

from dev.s3_local.faults import Fault, Script
from dev.s3_local.folder import Folder
from dev.s3_local.http_server import Server
from dev.s3_local.shelf import Shelf
from dev.s3_local.strict import Strict


class StrictS3:
    """A strict S3 on loopback in threads of this process; a context manager.

    ``url``, ``bucket`` and ``objects()`` are what a test needs; ``script`` can be replaced while it
    runs. Without ``folder``, objects go to a temporary one. moto keeps its buckets for the whole
    process: two of these at once need different ones (the default is a fresh name).
    """

    def __init__(
        self,
        faults: Iterable[Fault] = (),
        *,
        bucket: str = "",
        folder: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        echo_sha256: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.bucket = bucket or f"test-{secrets.token_hex(6)}"
        self.script = Script(faults)
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="headgate-s3-")
        path = folder if folder is not None else Path(self._temporary.name)  # type: ignore[union-attr]
        self.shelf = Shelf(Folder(path))
        try:
            self.loaded = self.shelf.load()
            self.damaged = tuple(self.shelf.folder.damaged)
            self.shelf.make_bucket(self.bucket)
            application = Strict(self.shelf, self.script, echo_sha256=echo_sha256)
            self.server = Server(host, port, application, tls)
        except BaseException:
            self.shelf.close()
            raise
        self.url = f"{'https' if tls else 'http'}://{host}:{self.server.port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))

    def __enter__(self) -> StrictS3:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.server.close()
        self._thread.join()
        self.shelf.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def objects(self) -> dict[str, bytes]:
        """Every object in the bucket, by key."""
        return self.shelf.objects(self.bucket)
