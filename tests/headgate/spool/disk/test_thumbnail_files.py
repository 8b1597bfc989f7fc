"""Thumbnails on disk: within a bound, never in the way, and safe to delete."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headgate.spool.disk import durable, reserve
from headgate.spool.disk.thumbnail_files import (
    MARGIN_BYTES,
    MARGIN_INODES,
    NOT_AN_IMAGE,
    ThumbnailFiles,
)
from headgate.spool.errors import DiskError
from headgate.spool.spool import Spool
from tests.support.spooling import open_spool, put

JPEG = b"\xff\xd8" + bytes(4000) + b"\xff\xd9"
ROOM = (1 << 40, 1 << 30)


@pytest.fixture
def kept(tmp_path: Path) -> ThumbnailFiles:
    return ThumbnailFiles(tmp_path, 16 * 4096)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "thumbnails"))


def test_what_is_kept_is_there_for_every_process_and_gone_when_forgotten(
    kept: ThumbnailFiles, tmp_path: Path
) -> None:
    assert kept.get("a") is None
    assert kept.put("a", JPEG, *ROOM) and kept.put("b", NOT_AN_IMAGE, *ROOM)
    other = ThumbnailFiles(tmp_path)
    assert (other.get("a"), other.get("b")) == (JPEG, NOT_AN_IMAGE)
    kept.forget("a")
    assert other.get("a") is None
    assert kept.give_up() == 1 and names(tmp_path) == []


def test_those_that_were_not_looked_at_for_longest_go_first(
    kept: ThumbnailFiles, tmp_path: Path
) -> None:
    for number in range(14):
        kept.put(f"image-{number:02}", JPEG, *ROOM)
        os.utime(tmp_path / "thumbnails" / f"image-{number:02}", (1000 + number, 1000 + number))
    assert kept.get("image-00") == JPEG  # looked at: it is the newest now
    for number in range(14, 20):
        kept.put(f"image-{number:02}", JPEG, *ROOM)
        assert sum(1 for _ in names(tmp_path)) <= 16
    assert "image-00" in names(tmp_path) and "image-19" in names(tmp_path)
    assert "image-01" not in names(tmp_path)


def test_a_small_disk_keeps_fewer(
    kept: ThumbnailFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = reserve.Free(1 << 30, 64 * 8 * 4096, 1 << 20, 1 << 20)
    monkeypatch.setattr(reserve, "free", lambda _path: small)
    for number in range(20):
        kept.put(f"{number:02}", JPEG, *ROOM)
    assert len(names(tmp_path)) <= 8


@pytest.mark.parametrize("damaged", [b"", b"\xff\xd8 cut", bytes(4096)])
def test_what_a_power_cut_left_counts_as_missing(
    kept: ThumbnailFiles, tmp_path: Path, damaged: bytes
) -> None:
    kept.put("a", JPEG, *ROOM)
    (tmp_path / "thumbnails" / "a").write_bytes(damaged)
    assert kept.get("a") is None


def test_nothing_is_kept_where_uploads_will_need_the_room(
    kept: ThumbnailFiles, tmp_path: Path
) -> None:
    assert not kept.put("a", JPEG, MARGIN_BYTES, MARGIN_INODES)
    assert not kept.put("a", JPEG, 1 << 40, MARGIN_INODES - 1)
    assert kept.put("a", JPEG, *ROOM)
    assert kept.make_room(MARGIN_BYTES, MARGIN_INODES) == 0
    assert kept.make_room(MARGIN_BYTES - 1, MARGIN_INODES) == 1
    assert names(tmp_path) == []


def test_a_link_in_their_place_leads_nowhere(kept: ThumbnailFiles, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(JPEG)
    kept.put("a", JPEG, *ROOM)
    os.unlink(tmp_path / "thumbnails" / "a")
    os.symlink(secret, tmp_path / "thumbnails" / "a")
    assert kept.get("a") is None
    assert kept.get("../secret") is None and not kept.put("../x", JPEG, *ROOM)
    kept.give_up()
    os.rmdir(tmp_path / "thumbnails")
    os.symlink(tmp_path, tmp_path / "thumbnails")
    assert kept.get("secret") is None and kept.give_up() == 0 and secret.exists()


def test_a_disk_that_a_quota_fills_is_given_their_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """statvfs(2) says nothing of a quota: the test write that keeps the receiver closed does."""
    spool: Spool = open_spool(tmp_path, spool__keep_free="0B")
    try:
        image = put(spool, b"image").receipt
        assert spool.thumbnails.put(image.id, JPEG, *ROOM)
        real = durable.probe

        def probe(root: Path) -> None:
            if names(spool.files.state):
                raise DiskError(OSError(28, "No space left on device"), "write")
            real(root)

        monkeypatch.setattr(durable, "probe", probe)
        spool.probe()
        assert names(spool.files.state) == []
    finally:
        spool.close()
