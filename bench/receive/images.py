"""Images and requests for the load: built once, a stamp makes each one's bytes its own."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

STAMP = 16
"""Bytes of an image that differ from one to the next."""

DEVICES = 5000
"""So many cameras that none sends often: as many as any limit for one device lets in."""

_BOUNDARY = b"----geckoformboundary6f0d1a"
_SEGMENT = b"\xff\xfe\x00\x12"  # a comment with the stamp
_START = b"\xff\xd8\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0" + _SEGMENT
_FRAME = b"\xff\xc0\x00\x0b\x08\x01\xe0\x02\x80\x01\x01\x11\x00"  # 640 x 480, one component
_SCAN = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
_END = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class Image:
    """The structure of a JPEG of ``size`` bytes, around a stamp."""

    before: bytes
    after: bytes

    @classmethod
    def of(cls, size: int) -> Image:
        """Its scan is noise, as a photograph's nearly is: no FF in it, so its end is its end."""
        scan = size - len(_START) - STAMP - len(_FRAME) - len(_SCAN) - len(_END)
        if scan < 0:
            raise ValueError(f"{size} bytes are too few for a JPEG")
        noise = random.Random(size).randbytes(scan).replace(b"\xff", b"\xfe")
        return cls(_START, _FRAME + _SCAN + noise + _END)

    def sha256(self, number: int) -> str:
        """Of the image with this number."""
        return hashlib.sha256(self.before + stamp(number) + self.after).hexdigest()


def stamp(number: int) -> bytes:
    """``STAMP`` bytes that no other number has."""
    return b"%016d" % number


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests that carry an image each, as pieces for sendmsg(2)."""

    image: Image
    raw: bool = False  # PUT the image itself below /new/, for nginx

    def pieces(self, number: int) -> list[bytes]:
        """The request with the image of this number."""
        image = self.image
        if self.raw:
            size = len(image.before) + STAMP + len(image.after)
            top = b"PUT /new/%d.jpg HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            return [top % (number, size) + image.before, stamp(number), image.after]
        parts = (
            b'--%s\r\nContent-Disposition: form-data; name="device"\r\n\r\ncam-%04d\r\n'
            b'--%s\r\nContent-Disposition: form-data; name="image"; filename="image.jpg"\r\n'
            b"Content-Type: image/jpeg\r\n\r\n"
        ) % (_BOUNDARY, number % DEVICES, _BOUNDARY)
        end = b"\r\n--%s--\r\n" % _BOUNDARY
        size = len(parts) + len(image.before) + STAMP + len(image.after) + len(end)
        top = (
            b"POST /uploadImage HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: multipart/form-data; boundary=%s\r\nContent-Length: %d\r\n\r\n"
        ) % (_BOUNDARY, size)
        return [top + parts + image.before, stamp(number), image.after, end]
