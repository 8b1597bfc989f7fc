"""Images that are made byte by byte."""

from __future__ import annotations

import os
import struct


def small_jpeg(repeats: int = 8) -> bytes:
    """2 kB with the structure of a JPEG: a segment, a scan, the end."""
    scan = bytes(range(255)) * repeats
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xda\x00\x02" + scan + b"\xff\xd9"


def box(name: bytes, content: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack(">I", len(content) + 8 if size is None else size) + name + content


def picture(size: int) -> bytes:
    """A JPEG of this many bytes that no other test has."""
    head, end = b"\xff\xd8\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xda\x00\x02", b"\xff\xd9"
    scan = os.urandom(size - len(head) - len(end)).replace(b"\xff", b"\xfe")
    return head + scan + end
