"""Makes small JPEGs of images: a program of its own, because it decodes.

An image may be made to attack its decoder. So this never runs in the receiver: a process of its
own is forked for each image, gets an open file and no name, and is confined
(``headgate.host.confinement``) before it reads a byte of it. Where the kernel cannot do that
nothing is decoded. It knows nothing of the spool.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import stat
import sys
import warnings
from typing import BinaryIO

from PIL import AvifImagePlugin, Image, ImageOps

from headgate.host.confinement import UNCONFINED, Unconfined, confine
from headgate.host.processes import end_with_parent

SIDE = 320
"""Pixels of the longer side, at most."""
PIXELS_MAX = 64_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")
NO_IMAGE = 3
"""The exit code: this is nothing that can be shown."""
IDLE_SECONDS = 60.0
"""After so long without an image it ends, and gives back its memory."""


def small(source: BinaryIO) -> bytes:
    """Make a small JPEG of an image."""
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


def decode() -> int:
    """Read the image from stdin, write the small one to stdout, confined from here on; the exit
    code."""
    try:
        confine()
    except Unconfined as error:
        print(error, end="", flush=True)
        return UNCONFINED
    warnings.simplefilter("error")
    Image.MAX_IMAGE_PIXELS = PIXELS_MAX
    try:
        made = small(sys.stdin.buffer)
    except (Exception, Warning):
        return NO_IMAGE
    sys.stdout.buffer.write(made)
    sys.stdout.buffer.flush()
    return 0


def serve(asked: socket.socket) -> None:
    """Fork a process for each image: it has the decoders in memory already, which is nearly all
    that a thumbnail costs. This one reads no byte of an image. Each message brings the image and
    where to write, and is answered by the exit code; it ends when the receiver does, or when none
    came for a while."""
    asked.settimeout(IDLE_SECONDS)
    while True:
        try:
            message, files, _, _ = socket.recv_fds(asked, 1, 2)
        except OSError:
            return
        if not message or len(files) != 2:
            return
        parent, child = os.getpid(), os.fork()
        if child == 0:
            end_with_parent(parent, signal.SIGKILL)
            asked.close()
            for number, file in enumerate(files):
                os.dup2(file, number)
                os.close(file)
            try:
                os._exit(decode())
            finally:
                os._exit(1)
        for file in files:
            os.close(file)
        _, status = os.waitpid(child, 0)
        try:
            asked.send(bytes([os.waitstatus_to_exitcode(status) & 0xFF]))
        except OSError:
            return


def main() -> None:
    """Make the thumbnail of one image on stdin, or of those that come through a socket there."""
    with contextlib.suppress(OSError):
        os.nice(19)
    rehearse()
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        sys.exit(decode())
    with socket.socket(fileno=os.dup(0)) as asked:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        serve(asked)


if __name__ == "__main__":
    main()
