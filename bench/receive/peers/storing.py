"""What the Python peers do with a file that they were handed: the work that Headgate does."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import BinaryIO

PIECE = 64 * 1024


class Store:
    """A folder of images, each durable before its answer."""

    def __init__(self, folder: str, durable: bool = True) -> None:
        self.tmp = Path(folder) / "tmp"
        self.kept = Path(folder) / "new"
        self.durable = durable
        for one in (self.tmp, self.kept):
            one.mkdir(parents=True, exist_ok=True)

    def keep(self, upload: BinaryIO, device: str) -> dict[str, object]:
        """Copied, hashed, flushed, renamed, its folder flushed."""
        name = f"{secrets.token_hex(16)}.jpg"
        digest, size = hashlib.sha256(), 0
        with (self.tmp / name).open("xb", buffering=0) as file:
            while piece := upload.read(PIECE):
                digest.update(piece)
                size += file.write(piece)
            if self.durable:
                os.fsync(file.fileno())
        os.rename(self.tmp / name, self.kept / name)
        if self.durable:
            parent = os.open(self.kept, os.O_RDONLY)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)
        return {"id": name, "size": size, "sha256": digest.hexdigest(), "device": device}
