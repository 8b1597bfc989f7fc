"""Programs that commit and checkpoint the same databases without a pause lose no row (R21).

A witness outside the databases counts: each program notes in a file of its own how many images it
added and dropped, after the commit. SQLite 3.40.1 loses rows here within minutes where checkpoints
run beside commits.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headgate.spool import sqlite
from headgate.spool.catalog.catalog import Catalog
from headgate.spool.image import names
from headgate.spool.image.image import Metadata
from headgate.spool.site.site import Site
from tests.support.wait import kill, moments, wait_until

SECONDS = float(os.environ.get("HEADGATE_TEST_COMMITS_SECONDS", "2"))
"""Each change; the published campaign sets more."""
ROUND_SECONDS = 60.0
"""A longer campaign looks at the databases after each of these."""
COMMITTERS = ("cam-a", "cam-b", "cam-c", "cam-d")
"""As many as processes that serve on a machine of four cores."""
CHECKPOINTERS = ("checkpoints-1", "checkpoints-2")
KEEP = 1000
BEGAN = datetime(2026, 11, 23, tzinfo=UTC)


class Note:
    """Numbers of one program that outlive it: added, dropped, remembered, checkpoints, complete."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8 * 5))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * 5)

    def __getitem__(self, place: int) -> int:
        return int(struct.unpack_from("q", self._map, 8 * place)[0])

    def __setitem__(self, place: int, value: int) -> None:
        struct.pack_into("q", self._map, 8 * place, value)


def image(device: str, number: int) -> tuple[names.Name, Metadata]:
    sha256 = hashlib.sha256(f"{device} {number}".encode()).hexdigest()
    at = BEGAN + timedelta(seconds=number)
    return names.make(at, device, sha256, "jpg"), Metadata(sha256, 10, "image/jpeg")


def commit(root: Path, device: str, stop: Note) -> None:
    """Add an image, drop the old ones now and then, remember a number in the site."""
    note = Note(root / device)
    with (
        closing(Catalog(root / "catalog.sqlite3")) as catalog,
        closing(Site(root / "site.sqlite3")) as site,
    ):
        # One that was killed between a commit and its note makes good the note.
        if catalog.get(image(device, note[0])[0].id):
            note[0] += 1
        if note[0] > note[1] and not catalog.get(image(device, note[1])[0].id):
            note[1] += KEEP // 2
        remembered = site.get(device) or 0
        assert remembered in (note[2], note[2] + 1), (remembered, note[2])
        note[2] = remembered
        while not stop[0]:
            name, meta = image(device, note[0])
            catalog.minutes.enter(name.folder)  # a FULL commit, each minute
            catalog.add(name, meta)
            catalog.minutes.leave(name.folder)
            note[0] += 1
            if note[0] - note[1] > KEEP:
                old = range(note[1], note[1] + KEEP // 2)
                catalog.drop([image(device, number)[0].id for number in old])
                note[1] += KEEP // 2
            if note[0] % 50 == 0:
                site.put(device, note[2] + 1)
                note[2] += 1


def count(catalog: Catalog, device: str, how: str) -> int:
    query = f"SELECT count(*) FROM images {how} WHERE device = ? AND state = 0"
    return int(catalog._on.reader.execute(query, (device,)).fetchone()[0])


def checkpoint(root: Path, who: str, stop: Note) -> None:
    """Without the pause of two seconds, and without asking whether it is worth it."""
    note = Note(root / who)
    with (
        closing(Catalog(root / "catalog.sqlite3")) as catalog,
        closing(Site(root / "site.sqlite3")) as site,
    ):
        while not stop[0]:
            note[4] += catalog.checkpoint(0)
            sqlite.checkpoint(site._db, 0)
            note[3] += 1


class Programs:
    """All of them at work, until ``end``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._stop = Note(root / "stop")
        self._stop[0] = 0
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._before: dict[str, int] = {}
        for who in (*COMMITTERS, *CHECKPOINTERS):
            self._start(who)

    def _start(self, who: str) -> None:
        self._before[who] = self._done(who)
        self._running[who] = subprocess.Popen(
            [sys.executable, __file__, str(self._root), who],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )  # fmt: skip

    def _done(self, who: str) -> int:
        note = Note(self._root / who)
        return note[0] + note[3]

    def wait_for(self, who: str) -> None:
        """Until it has done something since it was started."""
        wait_until(
            lambda: self._done(who) > self._before[who], f"{who} is at work", 300,
            process=self._running[who],
        )  # fmt: skip

    def wait_for_all(self) -> None:
        for who in self._running:
            self.wait_for(who)

    def kill(self, who: str) -> None:
        kill(self._running[who])
        self._start(who)

    def end(self) -> None:
        self._stop[0] = 1
        for who, program in self._running.items():
            said, _ = program.communicate(timeout=300)
            assert program.returncode == 0, f"{who}: {said}"

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *_: object) -> None:
        for program in self._running.values():
            kill(program)


def look(root: Path) -> None:
    """What the witness counted is there, by every index and without one, and nothing is broken."""
    with (
        closing(Catalog(root / "catalog.sqlite3")) as catalog,
        closing(Site(root / "site.sqlite3")) as site,
    ):
        for db in (catalog._on.reader, site._db):
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for device in COMMITTERS:
            note = Note(root / device)
            noted = note[0] - note[1]
            assert count(catalog, device, "NOT INDEXED") == noted, device
            assert count(catalog, device, "INDEXED BY images_waiting") == noted, device
            assert (site.get(device) or 0) == note[2], device
        assert catalog.totals().waiting.images == sum(
            Note(root / device)[0] - Note(root / device)[1] for device in COMMITTERS
        )


@pytest.mark.timeout(300 + 5 * SECONDS)
@pytest.mark.parametrize(
    "kills_too", [pytest.param(False, marks=pytest.mark.slow), True], ids=["in-peace", "with-kills"]
)
def test_no_row_is_lost_where_programs_commit_and_checkpoint_at_once(
    tmp_path: Path, kills_too: bool, record_property: Callable[[str, int], None]
) -> None:
    left, kills, looks = SECONDS, 0, 0
    while left > 0:
        seconds = min(left, ROUND_SECONDS)
        left -= seconds
        with Programs(tmp_path) as programs:
            programs.wait_for_all()
            for _ in moments(seconds, lambda: random.random() / 2):
                if kills_too:
                    who = random.choice([*COMMITTERS, *CHECKPOINTERS])
                    programs.wait_for(who)
                    programs.kill(who)
                    kills += 1
            programs.wait_for_all()
            programs.end()
        look(tmp_path)
        looks += 1
        added = sum(Note(tmp_path / who)[0] for who in COMMITTERS)
        tried = sum(Note(tmp_path / who)[3] for who in CHECKPOINTERS)
        whole = sum(Note(tmp_path / who)[4] for who in CHECKPOINTERS)
        print(
            f"SQLite {sqlite.VERSION}, {looks} looks: {added} images added, {tried} checkpoints, "
            f"{whole} of them copied all, {kills} kills",
            flush=True,
        )
        assert added and whole
    record_property("images added", added)
    record_property("checkpoints", tried)
    record_property("kills", kills)


if __name__ == "__main__":
    act = commit if sys.argv[2] in COMMITTERS else checkpoint
    act(Path(sys.argv[1]), sys.argv[2], Note(Path(sys.argv[1]) / "stop"))
