"""Files that cannot be read: the machine's fault sets no image aside, one bad file delays none."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.host.exit_codes import Exit
from headgate.spool.errors import DiskError
from headgate.spool.upkeep.mover import Mover
from tests.support.s3_server import Place, strict_place
from tests.support.site import Site, unpaced
from uploader.wire import connection, file_body

MACHINE = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT)
QUICK = (errno.EACCES, errno.EIO)
"""Rights and the disk, for every day; the others in make test-slow."""


class FailingReads:
    """Stands before ``os`` in ``file_body``: opening or reading chosen files fails."""

    def __init__(self) -> None:
        self.error = 0
        self.reads = False  # opening works, and reading does not
        self.which: Callable[[str], bool] = lambda _name: True
        self._open: dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _check(self, name: str) -> None:
        if self.error and self.which(name):
            raise OSError(self.error, os.strerror(self.error))

    def open(self, path: Path | str, flags: int) -> int:
        name = os.path.basename(path)
        if not self.reads:
            self._check(name)
        fd = os.open(path, flags)
        self._open[fd] = name
        return fd

    def preadv(self, fd: int, buffers: list[Any], offset: int) -> int:
        if self.reads:
            self._check(self._open[fd])
        return os.preadv(fd, buffers, offset)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with strict_place(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture
def site(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with unpaced(tmp_path, place, monkeypatch) as made:
        yield made


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FailingReads:
    made = FailingReads()
    monkeypatch.setattr(file_body, "os", made)
    return made


@pytest.mark.parametrize("reads", [False, True], ids=["open", "read"])
@pytest.mark.parametrize(
    "number",
    [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in MACHINE],
    ids=errno.errorcode.get,
)
def test_where_no_file_can_be_read_none_is_set_aside_and_the_run_says_why(
    site: Site, disk: FailingReads, number: int, reads: bool
) -> None:
    images = site.fill(6)
    disk.error, disk.reads = number, reads
    for _ in range(3):
        report = site.run()
        assert site.aside == []
        assert report.exit_code == Exit.ERROR, report
        assert os.strerror(number) in report.message
    assert {item.attempts for item in site.spool.catalog.after(0, 100)} == {0}
    disk.error = 0
    report = site.run()
    assert (report.exit_code, report.set_aside) == (0, 0), report
    site.assert_arrived(images)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_machine_out_of_room_ends_the_run_at_once(
    site: Site, disk: FailingReads, number: int
) -> None:
    images = site.fill(4)
    disk.error = number
    report = site.run()
    assert report.exit_code == Exit.ERROR
    assert "out of room" in report.message
    assert site.aside == []
    disk.error = 0
    assert site.run().exit_code == 0
    site.assert_arrived(images)


def test_a_machine_without_a_descriptor_for_a_connection_is_no_network_that_is_down(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(1)

    def full(*_args: object, **_more: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(connection.socket, "socket", full)
    report = site.run()
    assert report.exit_code == Exit.ERROR
    assert "out of room" in report.message


def test_one_file_among_good_ones_is_set_aside_once_others_were_confirmed(
    site: Site, disk: FailingReads
) -> None:
    images = site.fill(8)
    bad = next(iter(images))
    disk.error, disk.which = errno.EIO, lambda name: name.startswith(bad)
    for _ in range(3):
        assert site.run().exit_code in (0, Exit.SET_ASIDE)
        images.update(site.fill(3))
    site.run()
    assert site.aside == [bad]
    del images[bad]
    assert site.objects() == images


def test_a_single_file_with_which_no_other_can_be_compared_is_never_set_aside(
    site: Site, disk: FailingReads
) -> None:
    site.fill(1)
    disk.error = errno.EACCES
    for _ in range(4):
        assert site.run().exit_code == Exit.ERROR
        assert site.aside == []


def test_attributes_that_cannot_be_read_are_the_same_and_block_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = site.fill(5)
    bad = next(iter(images))
    honest = os.getxattr

    def fails(path: Path, name: str, **more: Any) -> bytes:
        if Path(path).name.startswith(bad):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return honest(path, name, **more)

    monkeypatch.setattr("headgate.spool.disk.xattrs.os.getxattr", fails)
    site.run()
    assert len(site.objects()) == 4


def test_a_file_that_cannot_be_hashed_again_does_not_hang_the_run(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(1)
    site.server.answer = (
        "400 Bad", [("Content-Type", "application/xml")],
        b"<Error><Code>BadDigest</Code><Message>No.</Message></Error>",
    )  # fmt: skip

    def fails(path: Path) -> tuple[str, int]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("uploader.run.workers.xattrs.hash_file", fails)
    report = site.run()
    assert report.exit_code == Exit.ERROR
    assert os.strerror(errno.EIO) in report.message


def test_no_image_counts_as_lost_while_the_whole_spool_is_gone(site: Site, tmp_path: Path) -> None:
    site.fill(3)
    root = site.spool.path
    with site.spool.hold_drain_lock("test", 0) as lock:
        mover = Mover(site.spool, lock)
        away = root.rename(tmp_path / "away")
        root.mkdir()
        (item, *_) = site.spool.catalog.after(0, 1)
        assert mover.locate(item, site.spool.now()) == "nowhere"
        with pytest.raises(DiskError):
            mover.lose(item, site.spool.now())
        root.rmdir()
        away.rename(root)
        assert site.spool.site.gone.totals()[0].images == 0
