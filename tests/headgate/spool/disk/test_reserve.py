"""What the spool keeps of its disk for itself, given up piece by piece and made again."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headgate.spool.disk import locks, reserve
from headgate.spool.disk.reserve import LOW_BYTES, LOW_INODES, Free, free, give_up, make, pieces_of
from headgate.spool.spool import Spool
from tests.support.spooling import open_spool

ROOMY = Free(10**12, 10**12, 10**6, 10**6)


class Disk:
    """Says that only so much is free, beside what pieces gave back since."""

    def __init__(self, state: Path, left: Free) -> None:
        self.folder, self.left = state / "reserve", left
        self.began = self._held()

    def _held(self) -> tuple[int, int]:
        sizes = [path.stat().st_blocks * 512 for path in self.folder.iterdir()]
        return sum(sizes), len(sizes)

    def __call__(self, _path: Path) -> Free:
        held_bytes, held = self._held()
        return replace(
            self.left,
            bytes=self.left.bytes + self.began[0] - held_bytes,
            inodes=self.left.inodes + self.began[1] - held,
        )


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(reserve, "free", lambda _path: ROOMY)
    assert make(tmp_path, 10**9, 10**6) == 32
    return tmp_path


def pieces(state: Path) -> int:
    return len(list((state / "reserve").iterdir()))


def test_the_pieces_are_real_blocks(state: Path) -> None:
    sizes = {path.stat().st_blocks * 512 for path in (state / "reserve").iterdir()}
    assert sizes == {512 * 1024}
    assert make(state, 10**9, 10**6) == 0  # they are all there


def test_while_there_is_room_nothing_is_given_up(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve, "free", Disk(state, replace(ROOMY, bytes=LOW_BYTES)))
    assert give_up(state) == 0


def test_without_a_byte_as_many_go_as_it_takes(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(state, replace(ROOMY, bytes=0))
    monkeypatch.setattr(reserve, "free", disk)
    assert give_up(state) == LOW_BYTES // (512 * 1024)
    assert disk(state).bytes >= LOW_BYTES
    assert give_up(state) == 0
    disk.left = replace(ROOMY, bytes=-(10**12))  # somebody takes whatever is given up
    assert give_up(state) == pieces(state) + 30
    assert pieces(state) == 0


def test_without_an_inode_as_many_go_as_it_takes(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve, "free", Disk(state, replace(ROOMY, inodes=0)))
    assert give_up(state) == LOW_INODES


def test_it_is_made_of_what_nobody_else_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve, "free", lambda _path: ROOMY)
    assert make(tmp_path, 512 * 1024 - 1, 100) == 0
    assert make(tmp_path, 3 * 512 * 1024, 100) == 3
    assert make(tmp_path, 10**9, 2) == 2
    assert make(tmp_path, -1, -1) == 0
    assert pieces(tmp_path) == 5


def test_a_small_disk_gives_a_small_part() -> None:
    small = pieces_of(Free(10**6, 60 * 10**6, 100, 160))
    assert len(small) == 20  # an eighth of its inodes
    assert sum(small) <= 60 * 10**6 // 32
    assert pieces_of(Free(10**6, 10**6, 10, 0)) == []
    assert len(pieces_of(Free(10**12, 10**12, 2**63 - 1, 0))) == 32  # btrfs counts none


@pytest.mark.parametrize("link", [True, False])
def test_what_is_in_the_way_is_left_alone(tmp_path: Path, link: bool) -> None:
    """Root opens spools as well: no link is followed, and nothing that is foreign goes."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "00").write_text("somebody's")
    state = tmp_path / "state"
    state.mkdir()
    if link:
        (state / "reserve").symlink_to(elsewhere)
    else:
        (state / "reserve").write_text("a file")
    assert give_up(state, everything=True) == 0
    assert make(state, 10**9, 10**6) == 0
    assert [path.name for path in elsewhere.iterdir()] == ["00"]


def test_a_quota_gives_all_of_it_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quota's end is nothing that statvfs(2) tells; the first write does."""
    spool = open_spool(tmp_path)
    state = spool.files.state
    spool.close()
    assert make(state, 10**9, 10**6)
    real = os.setxattr

    def setxattr(*args: object) -> None:
        if pieces(state):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "setxattr", setxattr)
    Spool.open(spool.settings).close()
    assert pieces(state) == 0


@pytest.mark.parametrize("call", ["pwrite", "open"])
def test_a_lock_needs_no_byte_and_no_inode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real = getattr(os, call)

    def full(*args: Any, **more: Any) -> Any:
        if call == "pwrite" or args[1] & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **more)

    monkeypatch.setattr(os, call, full)
    with locks.acquire(tmp_path, tmp_path / "drain.lock", "a run"):
        with pytest.raises(locks.LockHeld):
            locks.acquire(tmp_path, tmp_path / "drain.lock", "another")
    locks.acquire(tmp_path, tmp_path / "drain.lock", "another").release()


def test_free_tells_what_the_file_system_tells(tmp_path: Path) -> None:
    said = os.statvfs(tmp_path)
    assert free(tmp_path).size == said.f_blocks * said.f_frsize
