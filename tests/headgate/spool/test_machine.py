"""The spool against a small reference model, under crashes, power cuts and disk errors.

The model knows only what a device was told and what the bucket holds. After every step the files
are walked and must tell the same story.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headgate.host.board import Board
from headgate.monitor.collect import snapshot
from headgate.spool import sqlite
from headgate.spool.disk.locks import Lock
from headgate.spool.errors import DiskError, IdentityConflict
from headgate.spool.image.image import Item, Sent, State
from headgate.spool.site.gone import Stage
from headgate.spool.spool import Spool
from headgate.spool.upkeep import verify
from headgate.spool.upkeep.mover import Mover
from headgate.spool.upkeep.verify import DisagreementKind
from tests.support.spooling import (
    Clock,
    Crash,
    Disk,
    folder_in_memory,
    images_below,
    open_spool,
    put,
)

DEVICES = ("cam-1", "cam-2", "_10.0.0.9")
FAULT = st.one_of(
    st.none(),
    st.tuples(st.integers(1, 25), st.sampled_from(["", "before", "after"])),
)
"""No fault, or: at the nth disk call an error, or the end of the program before or after it."""


@dataclass
class Held:
    """What a device was told about one image."""

    device: str
    data: bytes
    key: str
    id: str
    key_lost: bool = False  # with the file's attributes, once the catalog is lost as well


class Machine(RuleBasedStateMachine):
    processes = 0
    """That receive; 0: what recovers and uploads receives as well."""

    def __init__(self) -> None:
        super().__init__()
        self.root = folder_in_memory()
        self.clock = Clock()
        self.acked: dict[str, Held] = {}
        self.bucket: set[str] = set()
        self.stale: Path | None = None  # an older catalog that a power cut may bring back
        self.stale_named: set[str] = set()
        self.removed: set[str] = set()  # by hand
        self.faulty = False  # since the last start, so that the catalog may lag behind

    @initialize()
    def start(self) -> None:
        self.open()

    def open(self, *, complete: bool = True) -> None:
        self.spool: Spool = open_spool(self.root, self.clock, spool__keep_done="2h")
        self.spool.recover()
        self.board = Board.shared(max(1, self.processes))
        self.receivers = [self.open_receiver(number) for number in range(self.processes)]
        self.lock: Lock = self.spool.hold_drain_lock("the machine", 0)
        self.mover = Mover(self.spool, self.lock)
        self.mover.reconcile(self.clock())
        assert self.spool.catalog.totals().sending.images == 0
        self.locate_all()
        self.faulty = False
        assert snapshot(self.spool).unaccounted == 0 or not complete

    def open_receiver(self, number: int) -> Spool:
        board = self.board.of(number)
        return open_spool(self.root, self.clock, board, spool__keep_done="2h")

    def die_alone(self, number: int) -> None:
        """A process that receives is killed, and another one takes its place; the others go on."""
        self.receivers[number].close()
        self.board.clear(number)
        self.receivers[number] = self.open_receiver(number)
        self.receivers[number].recover_from(number)

    def locate_all(self) -> None:
        """What picking does for a row whose file is not in new/."""
        for item in self.spool.catalog.after(0, 1000):
            waits = item.state is not State.SET_ASIDE
            if waits and not self.spool.files.in_new(item.name).exists():
                assert self.mover.locate(item, self.clock()) != "nowhere", f"{item.id} is lost"

    def die(self) -> None:
        """As a kill leaves it: nothing flushed, nothing tidied."""
        self.lock.release()
        for receiver in self.receivers:
            receiver.close()
        self.spool.close()

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.mend()
            assert snapshot(self.spool).unaccounted == 0
            self.die()
        shutil.rmtree(self.root)

    def broken(self, fault: tuple[int, str] | None) -> Disk:
        self.faulty = self.faulty or fault is not None
        return Disk() if fault is None else Disk(fault[0], errno.EIO, fault[1])

    # -- the receiver

    @rule(
        device=st.sampled_from(DEVICES),
        data=st.sampled_from([b"1", b"22", b"333"]),
        key=st.sampled_from(["", "", "a"]),
        fault=FAULT,
        process=st.integers(0, 7),
    )
    def receive(
        self, device: str, data: bytes, key: str, fault: tuple[int, str] | None, process: int
    ) -> None:
        faulty, number = self.faulty, process % max(1, self.processes)
        receiver = self.receivers[number] if self.receivers else self.spool
        try:
            with self.broken(fault)():
                accepted = put(receiver, data, device=device, key=key)
        except Crash:
            if self.receivers:
                self.die_alone(number)
                self.faulty = faulty  # what it left is made good
            else:
                self.die()
                self.open()
        except DiskError:
            pass  # not acknowledged
        except IdentityConflict as conflict:
            assert (conflict.held.device, conflict.held.key_given) == (device, key)
            assert conflict.held.sha256 != hashlib.sha256(data).hexdigest()
        else:
            if accepted.duplicate:
                # It may be one that was linked and never acknowledged: then its own key counts.
                own_key, image = accepted.receipt.key_given, accepted.receipt.id
                held = self.acked.setdefault(image, Held(device, data, own_key, image))
                assert (held.device, held.data) == (device, data)
                assert not key or held.key == key
            else:
                assert accepted.receipt.id not in self.acked
                assert not self.expected(device, data, key)
                image = accepted.receipt.id
                self.acked[image] = Held(device, data, key, image)

    def expected(self, device: str, data: bytes, key: str) -> list[Held]:
        """Acknowledged images that this upload repeats (the machine never runs for two days)."""
        if key:
            return [
                h
                for h in self.acked.values()
                if (h.device, h.key) == (device, key) and not h.key_lost and self.is_here(h)
            ]
        if device.startswith("_"):
            return []
        return [
            h
            for h in self.acked.values()
            if (h.device, h.data) == (device, data) and self.is_here(h)
        ]

    def is_here(self, held: Held) -> bool:
        """Whether the gateway still counts an upload of it as a repetition."""
        line = self.spool.site.gone.get(held.id)
        return line is None or line.stage is Stage.ASKED

    # -- the uploader

    @rule(
        outcome=st.sampled_from(["stored", "stored, answer lost", "refused", "busy"]),
        count=st.integers(1, 5),
        fault=FAULT,
    )
    def upload(self, outcome: str, count: int, fault: tuple[int, str] | None) -> None:
        self.spool.catalog.due(self.clock())
        items = [
            item
            for device in self.spool.catalog.backlog.waiting_devices()
            for item in self.spool.catalog.backlog.oldest_of(device, 0, count)
        ]
        try:
            with self.broken(fault)():
                self.spool.catalog.claim(items)
                self.carry(items, outcome)
        except Crash:
            self.die()
            self.open()
        except DiskError:
            self.mover.reconcile(self.clock())  # the run ends, the next one begins
            self.locate_all()

    def carry(self, items: list[Item], outcome: str) -> None:
        present = [item for item in items if self.spool.files.in_new(item.name).exists()]
        for item in items:
            if item not in present:
                assert self.mover.locate(item, self.clock()) != "nowhere"
        match outcome:
            case "stored":
                self.bucket.update(item.id for item in present)
                sent = [(i, Sent("bucket", f"k/{i.name.file}", "etag")) for i in present]
                self.mover.finish(sent, self.clock())
            case "stored, answer lost":
                self.bucket.update(item.id for item in present)
                for item in present:
                    self.spool.catalog.defer(item, self.clock(), "no answer", unknown=True)
            case "refused":
                for item in present:
                    self.mover.set_aside(item, "refused", self.clock())
            case "busy":
                for item in present:
                    self.spool.catalog.defer(item, self.clock(), "busy", unknown=False)

    @rule(fault=FAULT)
    def retry(self, fault: tuple[int, str] | None) -> None:
        aside = self.spool.catalog.in_state(State.SET_ASIDE, 2)
        self.risk(lambda: [self.mover.retry(item.id) for item in aside], fault)

    @rule(fault=FAULT)
    def discard(self, fault: tuple[int, str] | None) -> None:
        for item in self.spool.catalog.in_state(State.SET_ASIDE, 1):
            self.spool.site.gone.ask(item, self.clock(), "a person", "a test")
        self.risk(self.mover.discard, fault)

    @precondition(lambda self: not self.faulty)
    @rule(top=st.sampled_from(["new", "aside"]))
    def remove_by_hand(self, top: str) -> None:
        """As nobody should; the run that is at work notices when it is restarted."""
        for image, places in sorted(images_below(self.root / "var/spool").items()):
            if places == [top] and image in self.acked:
                next((self.root / "var/spool" / top).rglob(f"{image}.jpg")).unlink()
                self.removed.add(image)
                break
        self.mover.reconcile(self.clock())
        for item in self.spool.catalog.after(0, 1000):
            if item.id in self.removed and self.mover.locate(item, self.clock()) == "nowhere":
                self.mover.lose(item, self.clock())

    @rule()
    def discard_what_is_lost(self) -> None:
        for line in self.spool.site.gone.of(Stage.LOST, 1):
            self.spool.site.gone.discarded(line.id, self.clock(), "a person", "a test")

    @rule(need=st.sampled_from([0, 2, 10**6]), fault=FAULT)
    def prune(self, need: int, fault: tuple[int, str] | None) -> None:
        self.risk(lambda: self.mover.prune(self.clock(), need=need), fault)

    @rule(fault=FAULT)
    def sweep(self, fault: tuple[int, str] | None) -> None:
        self.risk(lambda: self.mover.sweep(self.clock()), fault)

    def risk(self, act, fault) -> None:  # type: ignore[no-untyped-def]
        try:
            with self.broken(fault)():
                act()
        except Crash:
            self.die()
            self.open()
        except DiskError:
            pass

    # -- the world

    @rule(minutes=st.sampled_from([1, 61, -30]))
    def pass_time(self, minutes: int) -> None:
        self.clock.advance(minutes=minutes)

    @rule()
    def crash(self) -> None:
        self.die()
        self.open()

    @rule()
    def remember_catalog(self) -> None:
        """Keep the catalog as it is: a power cut before the next FULL commit may bring it back."""
        self.stale = self.root / "stale.sqlite3"
        self.stale.unlink(missing_ok=True)
        state = self.spool.files.state
        with closing(sqlite.raw(state / "catalog.sqlite3")) as source:
            source.execute("VACUUM INTO ?", (str(self.stale),))
        self.stale_named = set(self.spool.catalog.minutes.named())

    @precondition(lambda self: self.stale is not None)
    @rule()
    def cut_power(self) -> None:
        """The catalog loses a suffix of its rows; files and FULL commits do not."""
        self.die()
        assert self.stale is not None
        if self.stale_named == set(self.named_on_disk()):
            catalog = self.root / "var/spool/state/catalog.sqlite3"
            for suffix in ("-wal", "-shm"):
                catalog.with_name(catalog.name + suffix).unlink(missing_ok=True)
            shutil.copy(self.stale, catalog)
        self.stale = None
        self.open()

    def named_on_disk(self) -> list[str]:
        db = sqlite.raw(self.root / "var/spool/state/catalog.sqlite3")
        try:
            return [folder for (folder,) in db.execute("SELECT folder FROM minutes")]
        finally:
            db.close()

    @rule(lose=st.sampled_from(["", "catalog", "attributes", "receipts"]))
    def mend(self, lose: str = "") -> None:
        self.die()
        state = self.root / "var/spool/state"
        if lose in ("catalog", "receipts"):
            for path in state.glob("catalog.sqlite3*"):
                path.unlink()
            self.stale = None
        if lose == "receipts" and set(self.acked) <= set(images_below(self.root / "var/spool")):
            shutil.rmtree(state / "receipts")  # the proofs on the files have to do
        if lose == "attributes":
            for folder in ("new", "done", "aside"):
                old, new = self.root / "var/spool" / folder, self.root / "var/spool/copied"
                shutil.copytree(old, new, copy_function=shutil.copyfile)
                shutil.rmtree(old)
                new.rename(old)
            for image in images_below(self.root / "var/spool"):
                if image in self.acked:
                    self.acked[image].key_lost = True
        self.open(complete=not lose)
        found = verify.disagreements(self.spool, deep=True, sleep=lambda _: None)
        lost = {line.id for line in self.spool.site.gone.of(Stage.LOST)}
        assert {
            trouble.what for trouble in found if trouble.kind is DisagreementKind.LOST
        } <= self.removed
        left = verify.repair(self.spool, self.mover, found)
        assert {trouble.what for trouble in left} == lost
        again = verify.disagreements(self.spool, deep=True, sleep=lambda _: None)
        assert {(trouble.kind, trouble.what) for trouble in again} == {
            (DisagreementKind.LOST, image) for image in lost
        }

    # -- what must hold after every step

    @invariant()
    def every_acknowledged_image_is_in_one_place_or_was_pruned(self) -> None:
        if not hasattr(self, "spool"):
            return
        places = images_below(self.root / "var/spool")
        for image, held in self.acked.items():
            receipt = self.spool.receipt(image)
            where = places.get(image, [])
            assert receipt is not None, f"nobody knows of {image}, in {where}"
            assert len(where) <= 1, f"{image} is in {where}"
            line = self.spool.site.gone.get(image)
            if line is not None and line.stage is Stage.DISCARDED:
                assert not where
                assert (receipt.state, line.reason) == (State.DISCARDED, "a test")
                continue
            if image in self.removed and not where:
                assert receipt.state is State.LOST, f"{image} was removed, and is {receipt.state}"
                continue
            if line is not None and not where:
                assert line.stage is Stage.ASKED, f"{image} is gone, and nobody asked for it"
                continue
            if not where:
                assert receipt.safe_to_erase, f"{image} is gone and not uploaded"
            elif where == ["done"]:
                assert image in self.bucket
            if receipt.safe_to_erase:
                assert image in self.bucket, f"{image} may be erased but is not in the bucket"
            if where:
                path = next((self.root / "var/spool" / where[0]).rglob(f"{image}.jpg"))
                assert path.read_bytes() == held.data

    @invariant()
    def nothing_disagrees_unless_something_failed(self) -> None:
        if hasattr(self, "spool") and not self.faulty:
            lost = {line.id for line in self.spool.site.gone.of(Stage.LOST)}
            assert lost <= self.removed
            assert {(found.kind, found.what) for found in verify.look(self.spool)} == {
                (DisagreementKind.LOST, image) for image in lost
            }

    @invariant()
    def received_never_becomes_less(self) -> None:
        """While the catalog is the one that it was: what a device was told is counted."""
        if hasattr(self, "spool") and not self.faulty:
            assert snapshot(self.spool, 0, 0).unaccounted == 0
            assert self.spool.catalog.totals().received.images >= len(self.acked)


class TwoReceive(Machine):
    processes = 2

    @rule(number=st.integers(0, 1))
    def kill_one(self, number: int) -> None:
        self.die_alone(number)


class FourReceive(TwoReceive):
    processes = 4


TestMachine = Machine.TestCase
TestTwoReceive = pytest.mark.slow(TwoReceive.TestCase)
TestFourReceive = pytest.mark.slow(FourReceive.TestCase)
TestMachine.settings = TestTwoReceive.settings = TestFourReceive.settings = settings(
    max_examples=int(os.environ.get("HEADGATE_TEST_HISTORIES", "8")),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    database=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
