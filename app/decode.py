"""Makes one small JPEG of the image on stdin: a program of its own, because it decodes.

An image may be made to harm whoever decodes it. So this never runs in the receiver: it is started
for one image, gets an open file and no name, little memory, processor time and no files of its
own, and, where the kernel lets it, no network. It knows nothing of the spool.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import resource
import sys
import warnings

from PIL import Image, ImageOps

SIDE = 320
"""Pixels of the longer side, at most."""
CPU_SECONDS = 5
MEMORY_BYTES = 1 << 30
PIXELS_MAX = 64_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # of unshare(2)
_LIBC = ctypes.CDLL(None)
NO_IMAGE = 3
"""The exit code: this is nothing that can be shown."""


def confine() -> None:
    """Give up what decoding does not need; what the kernel refuses to take stays."""
    for what, most in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (most, most))
    with contextlib.suppress(OSError):
        os.nice(10)
    _LIBC.unshare(_NEW_USER | _NEW_NETWORK)


def main() -> None:
    """Read the image from stdin, write the small one to stdout."""
    Image.init()  # all modules are there before nothing more can be opened
    confine()
    warnings.simplefilter("error")
    Image.MAX_IMAGE_PIXELS = PIXELS_MAX
    try:
        with Image.open(sys.stdin.buffer, formats=_FORMATS) as image:
            image.draft("RGB", (2 * SIDE, 2 * SIDE))
            image.thumbnail((SIDE, SIDE))
            small = ImageOps.exif_transpose(image).convert("RGB")
    except (Exception, Warning):
        sys.exit(NO_IMAGE)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=75)
    sys.stdout.buffer.write(out.getvalue())


if __name__ == "__main__":
    main()
