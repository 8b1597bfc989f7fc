"""Makes one small JPEG of the image on stdin: a program of its own, because it decodes.

An image may be made to attack its decoder. So this never runs in the receiver: it is started
for one image, gets an open file and no name, and is confined (``headgate.host.confinement``)
before it reads a byte of it. Where the kernel cannot do that nothing is decoded. It knows nothing
of the spool.
"""

from __future__ import annotations

import io
import sys
import warnings
from typing import BinaryIO

from PIL import AvifImagePlugin, Image, ImageOps

from headgate.host.confinement import UNCONFINED, Unconfined, confine

SIDE = 320
"""Pixels of the longer side, at most."""
PIXELS_MAX = 64_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")
NO_IMAGE = 3
"""The exit code: this is nothing that can be shown."""


def small(source: BinaryIO) -> bytes:
    """A small JPEG of an image."""
    with Image.open(source, formats=FORMATS) as image:
        image.draft("RGB", (2 * SIDE, 2 * SIDE))
        image.thumbnail((SIDE, SIDE))
        turned = ImageOps.exif_transpose(image).convert("RGB")
    out = io.BytesIO()
    turned.save(out, "JPEG", quality=75)
    return out.getvalue()


def rehearse() -> None:
    """Make one of each kind, so that every module is there before no file can be opened."""
    Image.init()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # no thread can be started either
    for kind in FORMATS:
        sample = io.BytesIO()
        for mode in ("RGB", "P"):
            try:
                Image.new(mode, (2 * SIDE, 8)).save(sample, kind)
            except (OSError, KeyError):  # not in this mode, or not in this Pillow
                continue
            small(io.BytesIO(sample.getvalue()))


def main() -> None:
    """Read the image from stdin, write the small one to stdout."""
    rehearse()
    try:
        confine()
    except Unconfined as error:
        print(error, end="", flush=True)
        sys.exit(UNCONFINED)
    warnings.simplefilter("error")
    Image.MAX_IMAGE_PIXELS = PIXELS_MAX
    try:
        made = small(sys.stdin.buffer)
    except (Exception, Warning):
        sys.exit(NO_IMAGE)
    sys.stdout.buffer.write(made)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
