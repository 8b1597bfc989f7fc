"""The model of a file system that the crash states come from: what it may lose, and what not."""

from __future__ import annotations

import random

from tests.support.crash_states import Bytes, FileSystem, Tree, sectors


def states(disk: FileSystem) -> list[Tree]:
    return [disk.tree(survived) for survived in disk.states(random.Random(7), 300)]


def contents(trees: list[Tree], path: str) -> set[bytes | None]:
    """What may be in the file; None: it may not be there."""
    return {None if (file := tree.get(path)) is None else file.data for tree in trees}


def test_what_was_not_flushed_may_be_lost_in_any_part() -> None:
    disk = FileSystem()
    disk.write(disk.create("image"), 0, b"whole")
    assert contents(states(disk), "image") == {None, b"", b"\0" * 5, b"whole"}


def test_a_flush_of_a_file_does_not_keep_its_name_nor_that_of_a_folder_its_own() -> None:
    disk = FileSystem()
    folder = disk.create("day", folder=True)
    image = disk.create("day/image")
    disk.write(image, 0, b"whole")
    disk.flush(image)
    assert contents(states(disk), "day/image") == {None, b"whole"}
    disk.flush(folder)
    assert contents(states(disk), "day/image") == {None, b"whole"}
    disk.flush(disk.ROOT)
    assert contents(states(disk), "day/image") == {b"whole"}


def test_a_rename_is_kept_whole_and_brings_nothing_older_back() -> None:
    disk = FileSystem()
    disk.create("new", folder=True), disk.create("done", folder=True)
    image = disk.create("new/image")
    disk.flush_all()
    disk.set_entries({"new/image": None, "done/image": image})
    for tree in states(disk):
        assert ("new/image" in tree) != ("done/image" in tree)
    disk.flush(disk.at("done"))
    assert all("new/image" not in tree and "done/image" in tree for tree in states(disk))


def test_fdatasync_keeps_no_attribute_and_a_page_may_be_torn_at_each_sector() -> None:
    disk = FileSystem()
    image = disk.create("image")
    disk.flush_all()
    disk.write(image, 100, b"x" * 1000)
    disk.set_attribute(image, "user.proof", b"sent")
    assert [len(piece.data) for piece in sectors(Bytes(image, 100, b"x" * 1000))] == [412, 512, 76]
    disk.flush(image, data_only=True)
    left = [tree["image"] for tree in states(disk)]
    assert {file.attributes.get("user.proof") for file in left if file} == {None, b"sent"}
    assert contents(states(disk), "image") == {b"\0" * 100 + b"x" * 1000}


def test_of_a_flush_that_took_a_while_only_what_was_there_when_it_began_is_kept() -> None:
    disk = FileSystem()
    first, second = disk.create("first"), None
    began = {id(one) for one in disk.pending}
    second = disk.create("second")
    assert first != second
    disk.flush(disk.ROOT, of=began)
    assert all("first" in tree for tree in states(disk))
    assert {"second" in tree for tree in states(disk)} == {True, False}
