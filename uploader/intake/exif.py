"""When a picture was taken, as its camera wrote it (EXIF 2.32): read, never trusted."""

from __future__ import annotations

import re
import warnings
from typing import BinaryIO

_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)")
_ZONE = re.compile(r"[+-]\d\d:\d\d")
_EXIF_IFD, _ORIGINAL, _DIGITIZED, _ZONE_ORIGINAL = 0x8769, 0x9003, 0x9004, 0x9011


def captured_at(file: BinaryIO) -> str:
    """ISO 8601, with a zone where the camera wrote one; "" where it wrote nothing of use.

    Pixels are not decoded. Whatever is wrong with the file is left to the receiver to tell.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=("JPEG", "TIFF", "PNG", "WEBP")) as picture:
                said = picture.getexif().get_ifd(_EXIF_IFD)
    except Exception:  # a file of others: whatever it does to a parser
        return ""
    for tag in (_ORIGINAL, _DIGITIZED):
        found = _TIME.match(str(said.get(tag, "")))
        if found is not None and found[1] > "1970":
            zone = _ZONE.fullmatch(str(said.get(_ZONE_ORIGINAL, "")))
            return f"{found[1]}-{found[2]}-{found[3]}T{found[4]}{zone[0] if zone else ''}"
    return ""
