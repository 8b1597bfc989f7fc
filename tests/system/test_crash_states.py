"""Crash states enumerated from a trace of system calls: what a power cut at any instant may leave.

A program works under strace. From what it wrote and flushed follows what the disk may hold at each
point: every subset of what was not flushed where those are few, else the telling ones and a sample
(``tests.support.crash_states``). Each is made in a folder, a receiver and a run start on it, and
what the program had said by then has to hold.
"""

from __future__ import annotations

import copy
import hashlib
import os
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headgate.spool import sqlite
from headgate.spool.budget.ledger import LedgerState
from headgate.spool.budget.uplink import Part
from headgate.spool.image.image import Item, Sent, State
from headgate.spool.spool import Spool
from headgate.spool.upkeep import verify
from headgate.spool.upkeep.mover import Mover
from headgate.spool.upkeep.verify import DisagreementKind
from tests.support import system_call_trace
from tests.support.crash_states import Effect, Entries, FileSystem
from tests.support.environment import without_settings
from tests.support.s3_server import looked_at, strict_place
from tests.support.spooling import Clock, images_below, open_spool, put
from tests.support.system_call_trace import Replay
from uploader.run.bounds import RunRequest
from uploader.run.start import run

STATES = int(os.environ.get("HEADGATE_TEST_CRASH_STATES", "30"))
"""About how many states of each program are drawn, in addition to two before each flush: nothing of
what was not flushed is there, and all of it but what this flush is about."""
MORE = max(20, STATES // 50)
"""How many there are at random before each flush, where not all subsets can be made."""
ACKED = "acked"
SPOOL = Path("var", "spool")
EARLIER = timedelta(minutes=90)
"""What waits arrived so long ago that its minute is none of those that a start scans."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]


# -- the programs that are traced


def say(*words: object) -> None:
    """Said to the witness: from here on it has to hold."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def clock() -> Clock:
    made = Clock()
    made.at = datetime.now(UTC) - EARLIER
    return made


def accept(root: Path, _url: str) -> None:
    """A first start, images in two minutes that follow each other, then from many at once."""
    now = clock()
    spool = open_spool(root, now)

    def one(number: int) -> None:
        data = b"image %d " % number * 500
        say(ACKED, put(spool, data, "cam-1").receipt.id, hashlib.sha256(data).hexdigest())

    for minute in range(2):
        for number in range(2):
            one(10 * minute + number)
        now.advance(minutes=1)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(100, 112)))


def _waiting(spool: Spool) -> list[Item]:
    return spool.catalog.after(0, 100)


def finish(root: Path, _url: str) -> None:
    """Finish what waits in two batches, then drop the copies here."""
    spool = open_spool(root)
    with spool.hold_drain_lock("a test", 0) as lock:
        mover, items = Mover(spool, lock), _waiting(spool)
        for batch in (items[:2], items[2:]):
            spool.catalog.claim(batch)
            sent = [(item, Sent("bucket", f"k/{item.name.file}", "etag")) for item in batch]
            mover.finish(sent, spool.now())
        mover.prune(spool.now(), need=10**9)


def set_aside(root: Path, _url: str) -> None:
    """Set all aside, and put half of it back."""
    spool = open_spool(root)
    with spool.hold_drain_lock("a test", 0) as lock:
        mover, items = Mover(spool, lock), _waiting(spool)
        for item in items:
            mover.set_aside(item, "a test says so", spool.now())
        for item in items[::2]:
            mover.retry(item.id)


def send(root: Path, url: str) -> None:
    """Runs that send all that waits; the second drops the copies here."""
    for keep in ("1d", "0s"):
        with closing(open_spool(root, **flags(url), spool__keep_done=keep)) as spool:
            run(spool, RunRequest(until_empty=True))


PROGRAMS = {"accept": accept, "finish": finish, "set_aside": set_aside, "send": send}


def flags(url: str) -> dict[str, str]:
    return {
        "s3__bucket": "test", "s3__endpoint_url": url, "s3__region": "us-east-1",
        "uplink__link": "1GB/s", "uplink__share": "100%", "uplink__interval": "1h",
    }  # fmt: skip


# -- what has to hold


@dataclass(frozen=True)
class Promise:
    """What was said by then: the digest of each acknowledged image, and the bytes that left."""

    acked: dict[str, str]
    sent: int
    uploaded: frozenset[str]
    """What may be called uploaded: it is in the bucket."""


def audit(root: Path, promise: Promise) -> None:
    """Before anything is repaired: no ledger holds less than left. Then a receiver and a run start,
    and each image is whole, in one place, and known, or it is uploaded."""
    state = root / SPOOL / "state"
    if promise.sent:
        charged = sum(
            sum(LedgerState.decode((state / part).read_bytes()).charges.values()) for part in Part
        )
        assert charged >= promise.sent, "bytes left whose charge is not on the disk"
    with closing(open_spool(root)) as spool:
        spool.recover()
        unknown = [image for image in promise.acked if spool.receipt(image) is None]
        assert not unknown, f"acknowledged, and unknown: {unknown}"
        with spool.hold_drain_lock("a test", 0) as lock:
            settle(spool, Mover(spool, lock))
        places = images_below(spool.path)
        for image, sha256 in promise.acked.items():
            receipt = spool.receipt(image)
            assert receipt is not None, f"nobody knows of {image}"
            assert receipt.state is not State.UPLOADED or image in promise.uploaded, image
            if receipt.state is State.UPLOADED and not receipt.local:
                assert image not in places, f"{image} is here beside a receipt that denies it"
                continue
            assert len(places.get(image, ())) == 1, f"{image} lies in {places.get(image)}"
            file = spool.open_original(receipt)
            assert file is not None, f"{image} is not whole"
            with file:
                assert hashlib.sha256(file.read()).hexdigest() == sha256, image
        found = verify.disagreements(spool, deep=True, sleep=lambda _: None)
        assert {one.kind for one in found} <= {DisagreementKind.TOTALS}, found
        with spool.hold_drain_lock("a test", 0) as lock:
            assert verify.repair(spool, Mover(spool, lock), found) == []
        assert spool.inventory().unaccounted == 0
    for file in [*state.glob("*.sqlite3"), *(state / "receipts").glob("*.sqlite3")]:
        assert sqlite.damage(file) == "", file


def settle(spool: Spool, mover: Mover) -> None:
    """What a run does about what an earlier one left: when it starts, and when it picks a file that
    is not there."""
    mover.reconcile(spool.now())
    for item in spool.catalog.after(0, 1000):
        if not spool.files.in_new(item.name).exists():
            assert mover.locate(item, spool.now()) != "nowhere", item


# -- the campaign


def prepared(root: Path) -> dict[str, str]:
    """A spool with images of three minutes that wait; their digests by id."""
    now, images = clock(), {}
    with closing(open_spool(root, now)) as spool:
        for number in range(6):
            data = b"image %d " % number * (1 + 700 * (number % 3))
            images[put(spool, data, "cam-1").receipt.id] = hashlib.sha256(data).hexdigest()
            now.advance(seconds=30)
        looked_at(spool)
    return images


@pytest.mark.parametrize("word", PROGRAMS)
def test_whatever_a_power_cut_leaves_of_a_program_keeps_what_it_said(
    folder: Path, word: str, record_property: Callable[[str, int], None]
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    root = folder / "worked-in"
    root.mkdir()
    images = {} if word == "accept" else prepared(root)
    disk = system_call_trace.disk_of(root)
    with strict_place(folder, bucket="test") as place:
        words = [__file__, word, str(root), place.url]
        environment = {**without_settings(), "HOME": str(folder)}
        trace = system_call_trace.record(folder / "trace", words, environment)
        stored = {name.rpartition("/")[2].removesuffix(".jpg") for name in place.names()}
    uploaded = frozenset(images) if word == "finish" else frozenset(stored)
    dice, replay = random.Random(seed), Replay(root, disk)
    seen: set[tuple[bytes, int, int]] = set()
    chosen: list[list[Effect]]
    rehearsal = Replay(root, copy.deepcopy(disk))
    found = sum(len([*rehearsal.disk.states(dice, MORE)]) for _ in rehearsal.points(trace))
    points = 0
    for points, flushing in enumerate(replay.points(trace), 1):
        said = [line.split() for line in replay.said]
        acked = images | {words[1]: words[2] for words in said if words[0] == ACKED}
        promise = Promise(acked, replay.sent, uploaded)
        flushed = {id(one) for one in flushing}
        chosen = [[], [one for one in disk.pending if id(one) not in flushed]]
        chosen += [one for one in disk.states(dice, MORE) if dice.random() * found < STATES]
        for survived in chosen:
            tree = disk.tree(survived)
            state = system_call_trace.digest(tree), len(acked), replay.sent
            if state in seen:
                continue
            seen.add(state)
            left = folder / "left"
            system_call_trace.make(tree, left)
            try:
                audit(left, promise)
            except BaseException as error:
                error.add_note(f"seed {seed}, point {points}: {lost(disk, survived)}")
                raise
            shutil.rmtree(left)
    whole = system_call_trace.without_maps(disk.tree(disk.pending))
    real = system_call_trace.disk_of(root)
    assert whole == system_call_trace.without_maps(real.tree([])), "the model is not what happened"
    record_property("programs traced", 1)
    print(f"{len(seen)} states before {points} flushes")
    record_property("crash states", len(seen))
    record_property("flushes", points)


def lost(disk: FileSystem, survived: Sequence[Effect]) -> str:
    """What was written and not flushed, with what of it was lost, for a failure."""
    kept = {id(one) for one in survived}
    names = {inode: name for name, inode in disk.names()}
    lines = []
    for one in disk.pending:
        what = one.names if isinstance(one, Entries) else names.get(one.inode, one.inode)
        lines.append(f"{'kept' if id(one) in kept else 'lost'} {type(one).__name__} {what}")
    return "\n".join(dict.fromkeys(lines))


if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
    os._exit(0)
