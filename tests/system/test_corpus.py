"""Pictures from other projects' packages, with decoders as the oracle: what they read is taken, and
what is cut off is noticed. ``python -m dev.corpus FOLDER`` collects them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.formats.sniff import media_type
from tests.support.receiver import Receiver, running, stored

CORPUS = os.environ.get("HEADGATE_TEST_CORPUS", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CORPUS, reason="HEADGATE_TEST_CORPUS names no folder of pictures"),
]

LENIENT = {
    "truncated.heic": "is cut itself; libheif fills in the rest",
    "mmap_error.bmp": "says that its rows begin in its palette, so a cut of a tenth cuts no row",
}


RAW = {
    "CanonRaw.cr2": "image/x-canon-cr2",
    "CanonRaw.cr3": "image/x-canon-cr3",
    "DNG.dng": "image/x-adobe-dng",
    "FujiFilm.raf": "image/x-fuji-raf",
    "Nikon.nef": "image/x-nikon-nef",
    "Panasonic.rw2": "image/x-panasonic-rw2",
}
"""Files of real cameras, of which exiftool's tests keep the structure and a preview: no decoder
reads them."""


@pytest.fixture(scope="module")
def taker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    settings = {"receiver__device_rate": "0", "receiver__max_pixels": "1000000000000"}
    with running(tmp_path_factory.mktemp("corpus"), **settings) as found:
        yield found


def decoded() -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """Name, bytes and the decoders' word for each picture of a format that is taken."""
    for line in (Path(CORPUS) / "decoded.jsonl").read_text().splitlines():
        said = json.loads(line)
        path = Path(said["file"])
        data = path.read_bytes()
        if media_type(data[:64]):
            yield path.name.partition("-")[2], data, said


def outcome(receiver: Receiver, data: bytes) -> str:
    """What became of it: "whole", "marked" as incomplete, or the refusal's code."""
    answer = receiver.post_raw(data)
    if answer.status not in (200, 201):
        assert answer.json["retry"] is False, answer.body
        return answer.code
    return "whole" if answer.json.get("complete", True) else "marked"


def test_what_decoders_read_is_taken_and_what_is_cut_is_noticed(taker: Receiver) -> None:
    counts, wrong = Counter[str](), list[str]()
    for name, data, said in decoded():
        if not said["read"] or name in LENIENT:
            continue
        whole = outcome(taker, data)
        counts[whole] += 1
        if whole != "whole":
            wrong.append(f"{name}: {whole}, and decoders read it")
        for share, is_read in said["cuts"].items():
            cut = outcome(taker, data[: int(len(data) * float(share))])
            counts[f"cut {cut}"] += 1
            if cut == "whole" and not is_read:
                wrong.append(f"{name}: cut to {share}, and taken as whole")
    assert wrong == []
    assert counts["whole"] > 800, counts


def test_raw_files_of_cameras_are_taken_under_their_own_types(taker: Receiver) -> None:
    files = {path.name.partition("-")[2]: path for path in (Path(CORPUS) / "pictures").iterdir()}
    if "CanonRaw.cr2" not in files:
        pytest.skip("Debian's source packages with raw files could not be had")
    for name, kind in RAW.items():
        answer = taker.post_raw(
            files[name].read_bytes(), kind="application/octet-stream", X_Device="cam-raw"
        )
        assert (answer.status, answer.json["media_type"]) == (201, kind), (name, answer)
        assert stored(taker, answer.json["id"]).suffix == Path(name).suffix
    if whole := files.get("Canon-R6-pruned.CR3"):  # its pixels were taken out: so it is cut
        assert taker.post_raw(whole.read_bytes()).code == "truncated_image"
