"""``python dev/corpus_decode.py FILE...``: whether decoders read each file, and what is left of it
when it is cut; a line of JSON for each."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import warnings
from pathlib import Path

import imagecodecs  # type: ignore[import-not-found]
import pillow_heif  # type: ignore[import-not-found]
from PIL import Image

CUTS = (0.3, 0.6, 0.9)
"""Shares of a file that are left of it."""


def is_read(data: bytes) -> bool:
    """Whether a decoder reads it to its end."""
    with contextlib.suppress(Exception):
        with Image.open(io.BytesIO(data)) as image:
            image.load()
        return True
    if data[:2] == b"\xff\x0a" or data[4:8] == b"JXL ":
        with contextlib.suppress(Exception):
            imagecodecs.jpegxl_decode(data)
            return True
    return False


def main() -> None:
    """Print a line of JSON for each file."""
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None
    pillow_heif.register_heif_opener()
    for name in sys.argv[1:]:
        data = Path(name).read_bytes()
        cuts = {share: is_read(data[: int(len(data) * share)]) for share in CUTS}
        print(json.dumps({"file": name, "read": is_read(data), "cuts": cuts}), flush=True)


if __name__ == "__main__":
    main()
