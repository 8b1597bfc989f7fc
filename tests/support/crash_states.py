"""What a power cut may leave of what a program wrote: a model of a file system. Pure.

Everything that was not flushed may be on the disk or not, each part independently of the others:
a page or a single sector of a file, its length, an attribute, an entry of a folder. fsync(2) of a
file keeps its bytes, length and attributes, and not its entry; fsync of a folder keeps its entries,
and not the folder's own. A rename is kept whole or not at all, as any journal does.
This allows more than ext4 or xfs do; what survives here needs none of their habits.
"""

from __future__ import annotations

import random
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

PAGE = 4096
SECTOR = 512


@dataclass
class File:
    """A regular file as it is on the disk for certain."""

    data: bytes = b""
    attributes: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Folder:
    """A folder as it is on the disk for certain, and as programs see it."""

    kept: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Bytes:
    """Bytes within one page of a file."""

    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Length:
    """The length of a file."""

    inode: int
    length: int


@dataclass(frozen=True)
class Attribute:
    """An extended attribute of a file; None: removed."""

    inode: int
    name: str
    value: bytes | None


@dataclass(frozen=True)
class Entries:
    """Names of folders and what they stand for (None: nothing): one change, or none of it."""

    names: tuple[tuple[int, str, int | None], ...]  # the folder, the name, the inode


Effect: TypeAlias = Bytes | Length | Attribute | Entries
Tree: TypeAlias = dict[str, "File | None"]
"""A state of the disk: files by path, and folders as None. Names of one file share the object."""


class FileSystem:
    """Files and folders by their inodes; ``pending`` is what was not flushed, in order."""

    ROOT = 1

    def __init__(self) -> None:
        self.nodes: dict[int, File | Folder] = {self.ROOT: Folder()}
        self.lengths: dict[int, int] = {}  # as programs see them
        self.pending: list[Effect] = []

    # -- what programs do

    def find(self, path: str) -> int | None:
        """The inode at a path as programs see it."""
        at = self.ROOT
        for part in path.split("/"):
            node = self.nodes[at]
            if part in ("", "."):
                continue
            if not isinstance(node, Folder) or part not in node.seen:
                return None
            at = node.seen[part]
        return at

    def at(self, path: str) -> int:
        """The same, of a path that is there."""
        found = self.find(path)
        assert found is not None, path
        return found

    def names(self) -> Iterator[tuple[str, int]]:
        """Every path as programs see it, and its inode."""
        waiting = [("", self.ROOT)]
        while waiting:
            path, inode = waiting.pop()
            yield path, inode
            node = self.nodes[inode]
            if isinstance(node, Folder):
                waiting += [(f"{path}/{name}".strip("/"), at) for name, at in node.seen.items()]

    def create(self, path: str, *, folder: bool = False) -> int:
        inode = len(self.nodes) + 1
        self.nodes[inode] = Folder() if folder else File()
        if not folder:
            self.lengths[inode] = 0
        self.set_entries({path: inode})
        return inode

    def set_entries(self, names: Mapping[str, int | None]) -> None:
        """One change of one or of more names."""
        changed = []
        for path, inode in names.items():
            above, _, name = path.rpartition("/")
            folder = self._folder(self.at(above))
            if inode is None:
                folder.seen.pop(name)
            else:
                folder.seen[name] = inode
            changed.append((self.at(above), name, inode))
        self.pending.append(Entries(tuple(changed)))

    def write(self, inode: int, offset: int, data: bytes) -> None:
        end = offset + len(data)
        for start in range(offset - offset % PAGE, end, PAGE):
            first, last = max(start, offset), min(start + PAGE, end)
            self.pending.append(Bytes(inode, first, data[first - offset : last - offset]))
        if end > self.lengths[inode]:
            self.set_length(inode, end)

    def set_length(self, inode: int, length: int) -> None:
        self.lengths[inode] = length
        self.pending.append(Length(inode, length))

    def set_attribute(self, inode: int, name: str, value: bytes | None) -> None:
        self.pending.append(Attribute(inode, name, value))

    def flush(
        self, inode: int, *, data_only: bool = False, of: Container[int] | None = None
    ) -> None:
        """fsync, or fdatasync of a file; ``of``: what was written when it began, by ``id``."""
        flushed = self.flushed_by(inode, data_only=data_only)
        flushed = [one for one in flushed if of is None or id(one) in of]
        self._keep(flushed)
        ids = {id(one) for one in flushed}
        self.pending = [one for one in self.pending if id(one) not in ids]

    def flushed_by(self, inode: int, *, data_only: bool = False) -> list[Effect]:
        """What of the pending changes such a flush keeps."""
        if isinstance(self.nodes[inode], Folder):
            return self._entries_flushed_with(inode)
        kinds = (Bytes, Length) if data_only else (Bytes, Length, Attribute)
        return [one for one in self.pending if isinstance(one, kinds) and one.inode == inode]

    def _entries_flushed_with(self, folder: int) -> list[Effect]:
        """What changed a folder; and what changed a name before a rename of it that is kept."""
        names: set[tuple[int, str]] = set()
        flushed: list[Effect] = []
        for one in reversed(self.pending):
            if isinstance(one, Entries):
                own = {(at, name) for at, name, _ in one.names}
                if names & own or any(at == folder for at, _ in own):
                    names |= own
                    flushed.insert(0, one)
        return flushed

    def flush_all(self) -> None:
        """All is on the disk, as after a quiet minute."""
        self._keep(self.pending)
        self.pending = []

    def _keep(self, effects: Iterable[Effect]) -> None:
        folders, files = self._after(effects)
        for at, names in folders.items():
            self._folder(at).kept = names
        self.nodes.update(files)

    def _after(
        self, effects: Iterable[Effect]
    ) -> tuple[dict[int, dict[str, int]], dict[int, File]]:
        """The names in the folders that these changes reach, and the files, as they are then."""
        folders: dict[int, dict[str, int]] = {}
        files: dict[int, list[Effect]] = {}
        for one in effects:
            if isinstance(one, Entries):
                for at, name, inode in one.names:
                    _put(folders.setdefault(at, dict(self._folder(at).kept)), name, inode)
            else:
                files.setdefault(one.inode, []).append(one)
        return folders, {inode: changed(self._file(inode), own) for inode, own in files.items()}

    def _folder(self, inode: int) -> Folder:
        node = self.nodes[inode]
        assert isinstance(node, Folder)
        return node

    def _file(self, inode: int) -> File:
        node = self.nodes[inode]
        assert isinstance(node, File)
        return node

    # -- what is left

    def tree(self, survived: Iterable[Effect]) -> Tree:
        """The disk with these of the pending changes, in order, and without the others."""
        folders, files = self._after(survived)
        tree: Tree = {}

        def walk(inode: int, path: str) -> None:
            node = self.nodes[inode]
            if isinstance(node, File):
                tree[path] = files.get(inode, node)
                return
            if path:
                tree[path] = None
            for name, below in sorted(folders.get(inode, node.kept).items()):
                walk(below, f"{path}/{name}" if path else name)

        walk(self.ROOT, "")
        return tree

    def states(self, dice: random.Random, most: int) -> Iterator[list[Effect]]:
        """Subsets of the pending changes: every one where there are few, else all, all but one
        part, one part alone, and ``most`` at random. A part is a name, or a file."""
        parts: dict[object, list[Effect]] = {}
        for one in self.pending:
            parts.setdefault(_part(one), []).append(one)
        if 2 ** len(self.pending) <= most:
            for number in range(2 ** len(self.pending)):
                yield [one for at, one in enumerate(self.pending) if number >> at & 1]
            return
        yield self.pending
        for part in parts:
            yield [one for one in self.pending if _part(one) == part]
            yield [one for one in self.pending if _part(one) != part]
        for _ in range(most):
            yield self._drawn(dice, parts)

    def _drawn(self, dice: random.Random, parts: Iterable[object]) -> list[Effect]:
        chances = {part: dice.choice((0.0, 0.5, 0.9, 1.0)) for part in parts}
        found: list[Effect] = []
        for one in self.pending:
            chance = chances[_part(one)]
            if isinstance(one, Bytes) and 0 < chance < 1 and dice.random() < 0.3:
                found += [piece for piece in sectors(one) if dice.random() < chance]
            elif dice.random() < chance:
                found.append(one)
        return found


def sectors(page: Bytes) -> Iterator[Bytes]:
    """A page that is torn: the disk writes a sector whole."""
    end = page.offset + len(page.data)
    for start in range(page.offset - page.offset % SECTOR, end, SECTOR):
        first, last = max(start, page.offset), min(start + SECTOR, end)
        yield Bytes(page.inode, first, page.data[first - page.offset : last - page.offset])


def changed(file: File, effects: Iterable[Effect]) -> File:
    """The file after these changes: where its length was kept and its bytes were not, zeros."""
    data, length = bytearray(file.data), len(file.data)
    attributes = dict(file.attributes)
    for one in effects:
        if isinstance(one, Bytes):
            end = one.offset + len(one.data)
            data.extend(bytes(max(0, end - len(data))))
            data[one.offset : end] = one.data
        elif isinstance(one, Length):
            length = one.length
            if length < len(data):
                del data[length:]
        elif isinstance(one, Attribute):
            attributes.pop(one.name, None)
            if one.value is not None:
                attributes[one.name] = one.value
    data.extend(bytes(max(0, length - len(data))))
    return File(bytes(data[:length]), attributes)


def _part(one: Effect) -> object:
    if isinstance(one, Entries):
        return tuple((at, name) for at, name, _ in one.names)
    return one.inode if not isinstance(one, Attribute) else (one.inode, one.name)


def _put(entries: dict[str, int], name: str, inode: int | None) -> None:
    if inode is None:
        entries.pop(name, None)
    else:
        entries[name] = inode
