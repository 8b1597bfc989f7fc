"""A program under strace, and what its system calls did to the folder that it works in."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.crash_states import Effect, FileSystem, Tree
from tests.support.paths import ROOT
from tests.support.wait import wait_for_exit

_CALLS = (
    "open,openat,creat,close,close_range,dup,dup2,dup3,fcntl,lseek,clone,clone3,fork,vfork,"
    "write,pwrite64,writev,pwritev,pwritev2,socket,sendto,sendmsg,sendfile,copy_file_range,"
    "fsync,fdatasync,sync,syncfs,sync_file_range,rename,renameat,renameat2,link,linkat,unlink,"
    "unlinkat,mkdir,mkdirat,rmdir,truncate,ftruncate,fallocate,setxattr,lsetxattr,fsetxattr,"
    "removexattr,lremovexattr,fremovexattr,symlink,symlinkat"
)
_FLUSHES = ("fsync", "fdatasync")
_LONGEST = 8 * 1024 * 1024
_LINE = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*)$", re.DOTALL)
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_ENDED = re.compile(r"\) += (-?\d+)")
_UNFINISHED = " <unfinished ...>"


@dataclass(frozen=True)
class Call:
    """One call: the lines of the trace in which it began and ended, and what it returned."""

    task: int
    name: str
    words: Sequence[str]
    strings: Sequence[bytes]
    returned: int
    began: int
    ended: int


def record(log: Path, words: Sequence[str], environment: dict[str, str]) -> list[Call]:
    """Run a Python program to its end under strace; what it called, in the order of the ends."""
    command = ["strace", "-f", "--seccomp-bpf", "-qq", "-xx", "-s", str(_LONGEST),
               "-o", str(log), "-e", f"trace={_CALLS}", sys.executable, *words]  # fmt: skip
    program = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**environment, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    _, error = wait_for_exit(program, "the traced program ends")
    assert program.returncode == 0, error.decode(errors="replace")[-4000:]
    return list(calls(log.read_text().splitlines()))


def calls(lines: Sequence[str]) -> Iterator[Call]:
    """The calls of a trace that did not fail."""
    open_calls: dict[int, tuple[str, int]] = {}
    for number, line in enumerate(lines):
        found = _LINE.match(line)
        if found is None:
            continue  # a signal, or the end of a thread
        task, name, rest = int(found[1]), found[2], found[3]
        began = number
        if line.endswith(_UNFINISHED):
            open_calls[task] = rest.removesuffix(_UNFINISHED), number
            continue
        if "resumed>" in line[:60]:
            start, began = open_calls.pop(task)
            rest = start + rest
        ended = list(_ENDED.finditer(rest))[-1:]
        if not ended or int(ended[0][1]) < 0:
            continue
        arguments = rest[: ended[0].start()]
        strings = _STRING.findall(arguments)
        assert not any(cut for _, cut in strings), "strace has cut a string"
        found_strings = [bytes.fromhex(text.replace("\\x", "")) for text, _ in strings]
        words = _STRING.sub('"', arguments).split(", ")
        yield Call(task, name, words, found_strings, int(ended[0][1]), began, number)


@dataclass
class _Open:
    """An open file: where the next write goes, or that it is a socket."""

    inode: int = 0
    position: int = 0
    append: bool = False
    is_socket: bool = False


@dataclass
class Replay:
    """A file system, and what the traced program has said and sent, call by call."""

    root: Path
    disk: FileSystem
    said: list[str] = field(default_factory=list)
    sent: int = 0
    _rest: bytes = b""
    _names: dict[int, str] = field(default_factory=dict)
    _tables: dict[int, dict[int, _Open]] = field(default_factory=dict)
    _parents: dict[int, tuple[int, bool]] = field(default_factory=dict)
    _written: dict[int, set[int]] = field(default_factory=dict)

    def points(self, trace: Sequence[Call]) -> Iterator[list[Effect]]:
        """Stop before each flush, with what it is about to keep, and at the end. A state that a cut
        at another point may leave is one of those before the next flush, where no less was said and
        sent."""
        for call in trace:
            if call.name in ("clone", "clone3", "fork", "vfork"):
                shared = any("CLONE_FILES" in word for word in call.words)
                self._parents[call.returned] = call.task, shared
        # What a flush that took a while found written when it began, and no more, is kept by it.
        waiting = sorted(
            (call for call in trace if call.name in _FLUSHES and call.began < call.ended),
            key=lambda call: call.began,
        )
        for call in trace:
            while waiting and waiting[0].began <= call.ended:
                self._written[waiting.pop(0).began] = {id(one) for one in self.disk.pending}
            if call.name in _FLUSHES and (opened := self._opened(call)) is not None:
                yield self.disk.flushed_by(opened.inode, data_only=call.name == "fdatasync")
            self._do(call)
        yield []

    def _table(self, task: int) -> dict[int, _Open]:
        if task not in self._tables:
            parent, shared = self._parents.get(task, (0, False))
            above = self._table(parent) if parent else {}
            self._tables[task] = above if shared else dict(above)
        return self._tables[task]

    def _opened(self, call: Call) -> _Open | None:
        """The file or socket that the call's first argument stands for."""
        word = call.words[0]
        return self._table(call.task).get(int(word)) if word.isdecimal() else None

    def _path(self, call: Call, folder: str, path: bytes) -> str | None:
        """A path below the root; None for another."""
        text = os.fsdecode(path)
        if text.startswith("/"):
            inside = text == str(self.root) or text.startswith(f"{self.root}/")
            return text[len(str(self.root)) :].strip("/") if inside else None
        opened = self._table(call.task).get(int(folder)) if folder.isdecimal() else None
        if opened is None or opened.is_socket:
            return None
        above = self._names[opened.inode]
        return f"{above}/{text}".strip("/")

    def _do(self, call: Call) -> None:
        action = getattr(self, f"_{_SAME.get(call.name, call.name)}", None)
        assert action is not None, f"the model does not know {call.name}"
        action(call)

    # -- descriptors

    def _openat(self, call: Call) -> None:
        words = call.words if call.name == "openat" else ("AT_FDCWD", *call.words)
        path = self._path(call, words[0], call.strings[0])
        table = self._table(call.task)
        table.pop(call.returned, None)
        if path is None:
            return
        inode = self.disk.find(path)
        if inode is None:
            assert "O_CREAT" in words[2], f"{path} is not in the model"
            inode = self.disk.create(path)
        elif "O_TRUNC" in words[2] and self.disk.lengths[inode]:
            self.disk.set_length(inode, 0)
        self._names[inode] = path
        table[call.returned] = _Open(inode, append="O_APPEND" in words[2])

    def _close(self, call: Call) -> None:
        self._table(call.task).pop(int(call.words[0]), None)

    def _close_range(self, call: Call) -> None:
        table, first, last = self._table(call.task), int(call.words[0]), call.words[1]
        for number in [one for one in table if one >= first]:
            if not last.isdecimal() or number <= int(last):
                del table[number]

    def _dup(self, call: Call) -> None:
        opened = self._opened(call)
        if opened is not None:
            self._table(call.task)[call.returned] = opened

    def _fcntl(self, call: Call) -> None:
        if call.words[1].startswith("F_DUPFD"):
            self._dup(call)

    def _socket(self, call: Call) -> None:
        if call.words[0] in ("AF_INET", "AF_INET6"):
            self._table(call.task)[call.returned] = _Open(is_socket=True)

    def _lseek(self, call: Call) -> None:
        opened = self._opened(call)
        if opened is not None:
            opened.position = call.returned

    def _clone(self, call: Call) -> None:
        """Its table was noted before."""

    # -- bytes

    def _write(self, call: Call) -> None:
        opened = self._opened(call)
        if opened is None:
            if call.words[0] == "1":
                *whole, self._rest = (self._rest + call.strings[0]).split(b"\n")
                self.said += [line.decode() for line in whole]
        elif opened.is_socket:
            self.sent += call.returned
        else:
            at = self.disk.lengths[opened.inode] if opened.append else opened.position
            self.disk.write(opened.inode, at, b"".join(call.strings)[: call.returned])
            opened.position = at + call.returned

    def _pwrite64(self, call: Call) -> None:
        if (opened := self._opened(call)) is not None:
            data = b"".join(call.strings)[: call.returned]
            self.disk.write(opened.inode, int(call.words[-1]), data)

    def _send(self, call: Call) -> None:
        opened = self._opened(call)
        if opened is not None and opened.is_socket:
            self.sent += call.returned

    def _ftruncate(self, call: Call) -> None:
        if (opened := self._opened(call)) is not None:
            self.disk.set_length(opened.inode, int(call.words[1]))

    def _fallocate(self, call: Call) -> None:
        opened = self._opened(call)
        if opened is not None:
            assert call.words[1] == "0", "the model knows no fallocate with flags"
            end = int(call.words[2]) + int(call.words[3])
            if end > self.disk.lengths[opened.inode]:
                self.disk.set_length(opened.inode, end)

    def _fsync(self, call: Call) -> None:
        if (opened := self._opened(call)) is not None:
            written = self._written.pop(call.began, None)
            self.disk.flush(opened.inode, data_only=call.name == "fdatasync", of=written)

    # -- attributes and names

    def _setxattr(self, call: Call) -> None:
        if (inode := self._named(call)) is not None:
            name, value = call.strings[-2:]
            self.disk.set_attribute(inode, name.decode(), value)

    def _removexattr(self, call: Call) -> None:
        if (inode := self._named(call)) is not None:
            self.disk.set_attribute(inode, call.strings[-1].decode(), None)

    def _named(self, call: Call) -> int | None:
        if call.name.startswith("f"):
            return None if (opened := self._opened(call)) is None else opened.inode
        path = self._path(call, "", call.strings[0])
        return None if path is None else self.disk.at(path)

    def _mkdirat(self, call: Call) -> None:
        folder = call.words[0] if call.name == "mkdirat" else ""
        path = self._path(call, folder, call.strings[0])
        if path is not None:
            self.disk.create(path, folder=True)

    def _unlinkat(self, call: Call) -> None:
        folder = call.words[0] if call.name == "unlinkat" else ""
        path = self._path(call, folder, call.strings[0])
        if path is not None:
            self.disk.set_entries({path: None})

    def _two(self, call: Call) -> tuple[str | None, str | None]:
        folders = (call.words[0], call.words[2]) if "at" in call.name else ("", "")
        source, target = (
            self._path(call, folder, path)
            for folder, path in zip(folders, call.strings, strict=True)
        )
        assert (source is None) == (target is None), call
        return source, target

    def _renameat(self, call: Call) -> None:
        source, target = self._two(call)
        if source is not None and target is not None:
            self.disk.set_entries({source: None, target: self.disk.at(source)})

    def _linkat(self, call: Call) -> None:
        source, target = self._two(call)
        if source is not None and target is not None:
            self.disk.set_entries({target: self.disk.at(source)})


_SAME = {
    "open": "openat", "creat": "openat", "dup2": "dup", "dup3": "dup", "clone3": "clone",
    "fork": "clone", "vfork": "clone", "writev": "write", "sendto": "send", "sendmsg": "send",
    "sendfile": "send", "fdatasync": "fsync", "lsetxattr": "setxattr", "fsetxattr": "setxattr",
    "lremovexattr": "removexattr", "fremovexattr": "removexattr", "mkdir": "mkdirat",
    "unlink": "unlinkat", "rmdir": "unlinkat", "rename": "renameat", "renameat2": "renameat",
    "link": "linkat",
}  # fmt: skip
"""Calls that do what another one does; one that is not known fails, and is not overlooked."""


# -- between a folder and the model


def disk_of(root: Path) -> FileSystem:
    """A folder as it is, all of it on the disk."""
    disk = FileSystem()
    inodes: dict[int, int] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        number = path.lstat().st_ino
        if path.is_dir():
            disk.create(name, folder=True)
        elif number in inodes:
            disk.set_entries({name: inodes[number]})
        else:
            inodes[number] = disk.create(name)
            disk.write(inodes[number], 0, path.read_bytes())
            for attribute in os.listxattr(path):
                disk.set_attribute(inodes[number], attribute, os.getxattr(path, attribute))
    disk.flush_all()
    return disk


def make(tree: Tree, root: Path) -> None:
    """Make a state of the disk below a folder that is not there yet."""
    root.mkdir()
    made: dict[int, Path] = {}
    for name, file in tree.items():
        path = root / name
        if file is None:
            path.mkdir(mode=0o2770)
        elif id(file) in made:
            os.link(made[id(file)], path)
        else:
            made[id(file)] = path
            path.write_bytes(file.data)
            path.chmod(0o660)
            for attribute, value in file.attributes.items():
                os.setxattr(path, attribute, value)


def without_maps(tree: Tree) -> dict[str, tuple[bytes, dict[str, bytes]] | None]:
    """What a trace shows: not what is written to a file that is mapped, SQLite's -shm."""
    return {
        name: None if file is None else (file.data, file.attributes)
        for name, file in tree.items()
        if not name.endswith("-shm")
    }


def digest(tree: Tree) -> bytes:
    """The same for trees that are the same."""
    whole = hashlib.sha256()
    for name, file in sorted(tree.items()):
        whole.update(repr((name, file and (file.data, sorted(file.attributes.items())))).encode())
    return whole.digest()
