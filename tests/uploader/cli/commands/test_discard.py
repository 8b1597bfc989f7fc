"""``headgate discard``, and that no command and no hand ever takes a line out of the books."""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from headgate.monitor.collect import snapshot
from headgate.spool.image.image import Metadata, Receipt, Sent, State
from headgate.spool.site.gone import Stage
from headgate.spool.spool import Spool
from headgate.spool.upkeep.mover import Mover
from tests.support.spooling import Crash, Disk, images_below, open_spool, put
from uploader.cli.main import headgate

WHY = ("--reason", "a test picture")


class Books:
    """A spool, its commands in this process, and everything that a device was ever told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "headgate.toml"
        self.config.write_text(f'[spool]\npath = "{root}/var/spool"\n[s3]\nbucket = "images"\n')
        self.spool: Spool = open_spool(root)
        self.told: dict[str, Receipt] = {}

    def receive(self) -> Receipt:
        receipt = put(self.spool, os.urandom(20)).receipt
        self.told[receipt.id] = receipt
        return receipt

    def aside(self) -> Receipt:
        receipt = self.receive()
        item = self.spool.catalog.get(receipt.id)
        assert item is not None
        with self.spool.hold_drain_lock("a test", 0) as lock:
            Mover(self.spool, lock).set_aside(item, "refused", self.spool.now())
        return receipt

    def call(self, *words: str, code: int | None = 0) -> str:
        ran = CliRunner().invoke(headgate, ["--config", str(self.config), *words])
        assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
        assert code is None or ran.exit_code == code, ran.output
        return ran.output

    def json(self, *words: str, code: int | None = 0) -> Any:
        return json.loads(self.call(*words, "--json", code=code))


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    made = Books(tmp_path)
    yield made
    made.spool.close()


def test_what_is_set_aside_is_discarded_and_its_line_stays(books: Books) -> None:
    image = books.aside()
    assert books.call("discard", image.id, *WHY) == f"{image.id}: discarded\n"
    assert images_below(books.spool.path) == {}
    (line,) = books.spool.site.gone.of(Stage.DISCARDED)
    assert (line.id, line.reason, bool(line.who)) == (image.id, "a test picture", True)
    receipt = books.spool.receipt(image.id)
    assert receipt is not None and receipt.state is State.DISCARDED
    assert (receipt.sha256, receipt.size, receipt.local) == (image.sha256, image.size, False)
    assert "a test picture" in books.call("list", "--state", "discarded")
    assert "discarded  1 image" in books.call("status")
    books.call("verify")
    facts = snapshot(books.spool)
    assert (facts.received.images, facts.discarded.images, facts.unaccounted) == (1, 1, 0)


def test_a_reason_is_needed(books: Books) -> None:
    image = books.aside()
    books.call("discard", image.id, code=2)
    books.call("discard", image.id, "--reason", "  ", code=2)
    assert images_below(books.spool.path) == {image.id: ["aside"]}


def test_what_waits_or_is_unknown_or_discarded_is_left(books: Books) -> None:
    waits, gone = books.receive(), books.aside()
    books.call("discard", gone.id, *WHY)
    said = books.json("discard", waits.id, gone.id, "nothing", *WHY, code=1)
    assert said[waits.id].startswith("it is waiting to be sent")
    assert "a test picture" in said[gone.id]
    assert said["nothing"] == "there is no such image"
    assert images_below(books.spool.path) == {waits.id: ["new"]}


def test_beside_a_run_it_is_carried_out_by_the_run(books: Books) -> None:
    image, other = books.aside(), books.aside()
    with books.spool.hold_drain_lock("a run", 0) as lock:
        said = books.json("discard", image.id, other.id, *WHY)
        assert set(said.values()) == {"the active run will discard it"}
        assert set(images_below(books.spool.path)) == {image.id, other.id}
        mover = Mover(books.spool, lock)
        assert mover.retry(other.id)  # somebody put it back meanwhile: it stays
        mover.answer_requests(books.spool.now())
    assert images_below(books.spool.path) == {other.id: ["new"]}
    books.call("verify")


def test_a_removed_file_is_lost_until_it_is_discarded(books: Books) -> None:
    image = books.aside()
    books.spool.files.in_aside(image.name).unlink()
    for words in (("verify",), ("verify", "--repair"), ("verify",)):
        out = books.call(*words, code=1)
        assert image.id in out and "headgate discard" in out
    assert "LOST       1 image" in books.call("status", code=1)
    books.call("retry", image.id, code=1)
    books.call("discard", image.id, *WHY)
    books.call("verify")
    assert "received   1 image" in books.call("status")


@pytest.mark.parametrize("turn", range(int(os.environ.get("HEADGATE_TEST_BOOKS", "1"))))
def test_every_command_and_rm_by_hand_in_any_order_never_lose_a_line(
    books: Books, turn: int
) -> None:
    """The witness knows only what devices were told; the books have to know each of them."""
    chance = random.Random(random.random() + turn)
    history: list[str] = []
    received = 0

    def step() -> None:
        word = chance.choice([
            "receive", "receive", "aside", "upload", "rm", "rm", "prune", "retry", "retry all",
            "discard", "verify", "repair", "status", "list", "reconcile", "reopen",
        ])  # fmt: skip
        history.append(word)
        some = chance.choice([*books.told, "nothing"])
        match word:
            case "receive":
                books.receive()
            case "aside":
                books.aside()
            case "upload":
                with books.spool.hold_drain_lock("a test", 0) as lock:
                    mover = Mover(books.spool, lock)
                    items = books.spool.catalog.in_state(State.WAITING, 2)
                    here = [i for i in items if books.spool.files.in_new(i.name).exists()]
                    for item in items:
                        if item not in here and mover.locate(item, books.spool.now()) == "nowhere":
                            mover.lose(item, books.spool.now())
                    sent = [(i, Sent("b", f"k/{i.name.file}", "e")) for i in here]
                    mover.finish(sent, books.spool.now())
            case "rm":
                files = sorted(
                    path
                    for top in ("new", "aside", "done")
                    for path in (books.spool.path / top).rglob("*.jpg")
                )
                if files:
                    chance.choice(files).unlink()
            case "prune":
                with books.spool.hold_drain_lock("a test", 0) as lock:
                    Mover(books.spool, lock).prune(books.spool.now(), need=10**6)
            case "reconcile":
                with books.spool.hold_drain_lock("a test", 0) as lock:
                    Mover(books.spool, lock).reconcile(books.spool.now())
            case "reopen":
                books.spool.close()
                books.spool = open_spool(books.root)
            case "retry all":
                books.call("retry", "--all", code=None)
            case "retry":
                books.call("retry", some, code=None)
            case "discard":
                books.call("discard", some, *WHY, code=None)
            case "repair":
                books.call("verify", "--repair", code=None)
            case _:
                books.call(word, code=None)

    books.receive()
    for _ in range(40):
        step()
        facts = snapshot(books.spool)
        assert facts.received.images == len(books.told) >= received, history
        assert facts.unaccounted == 0, history
        received = facts.received.images
    books.call("verify", "--repair", code=None)
    named = {trouble["what"] for trouble in books.json("verify", code=None)["left"]}
    places = images_below(books.spool.path)
    for image in books.told:
        receipt = books.spool.receipt(image)
        assert receipt is not None, history
        lost = receipt.state is State.LOST
        assert (image in named) == lost, history
        assert lost or image in places or not receipt.local, history


@pytest.mark.parametrize("crash", ["before", "after"])
def test_a_crash_in_the_middle_of_a_discard_is_finished_by_the_next_run(
    books: Books, crash: str
) -> None:
    """At each disk call in turn: until the file is gone, nothing says that it was discarded."""
    for nth in range(1, 20):
        item = books.spool.catalog.get(books.aside().id)
        assert item is not None
        books.spool.site.gone.ask(item, books.spool.now(), "ann", "a test")
        disk = Disk(nth, crash=crash)
        with books.spool.hold_drain_lock("a test", 0) as lock:
            with disk(), contextlib.suppress(Crash):
                Mover(books.spool, lock).discard()
            line = books.spool.site.gone.get(item.id)
            assert line is not None
            if item.id in images_below(books.spool.path):
                assert line.stage is Stage.ASKED
            Mover(books.spool, lock).reconcile(books.spool.now())
        assert images_below(books.spool.path) == {}
        assert snapshot(books.spool).unaccounted == 0
        books.call("verify")
        if not disk.fired:
            return
    raise AssertionError("a discard never comes to its end")


def test_a_row_that_a_power_cut_brings_back_does_not_bring_the_image_back(books: Books) -> None:
    image = books.aside()
    item = books.spool.catalog.get(image.id)
    assert item is not None
    books.call("discard", image.id, *WHY)
    meta = Metadata(item.sha256, item.size, "image/jpeg")
    books.spool.catalog.restore(item.name, meta, State.SET_ASIDE)
    with books.spool.hold_drain_lock("a test", 0) as lock:
        Mover(books.spool, lock).reconcile(books.spool.now())
    receipt = books.spool.receipt(image.id)
    assert receipt is not None and receipt.state is State.DISCARDED
    assert snapshot(books.spool).unaccounted == 0
    books.call("verify")


@pytest.mark.parametrize("stage", [Stage.LOST, Stage.DISCARDED])
@pytest.mark.parametrize("top", ["new", "aside"])
def test_a_file_that_comes_back_from_a_backup_counts_again_after_a_restart(
    books: Books, stage: Stage, top: str
) -> None:
    """The receiver's start gives it a row, so it would count twice if its line in the books still
    counted."""
    image = books.aside() if top == "aside" else books.receive()
    files = books.spool.files
    path = files.in_aside(image.name) if top == "aside" else files.in_new(image.name)
    backup, attribute = path.read_bytes(), os.getxattr(path, "user.headgate")
    path.unlink()
    books.call("verify", "--repair", code=1)
    if stage is Stage.DISCARDED:
        books.call("discard", image.id, *WHY)
    assert [line.id for line in books.spool.site.gone.of(stage)] == [image.id]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(backup)
    os.setxattr(path, "user.headgate", attribute)
    books.spool.close()
    books.spool = open_spool(books.root)
    with books.spool.hold_receiver_lock():
        books.spool.recover()
    with books.spool.hold_drain_lock("a run", 0) as lock:
        Mover(books.spool, lock).reconcile(books.spool.now())
    assert [line.id for line in books.spool.site.gone.of(Stage.RETURNED)] == [image.id]
    receipt = books.spool.receipt(image.id)
    assert receipt is not None
    assert receipt.state is (State.SET_ASIDE if top == "aside" else State.WAITING)
    facts = snapshot(books.spool)
    gone = (facts.lost.images, facts.discarded.images)
    assert (facts.received.images, *gone, facts.unaccounted) == (1, 0, 0, 0)
    books.call("verify")


def test_a_lost_image_whose_upload_is_found_counts_as_uploaded(books: Books) -> None:
    image = books.receive()
    item = books.spool.catalog.get(image.id)
    assert item is not None
    with books.spool.hold_drain_lock("a run", 0) as lock:
        mover = Mover(books.spool, lock)
        books.spool.files.in_new(image.name).unlink()
        mover.lose(item, books.spool.now())
        sent = Sent("b", f"k/{image.name.file}", "e")
        books.spool.receipts.add([(image.name, item, sent, books.spool.now())])
        books.spool.receipts.mark_pruned(image.name.day, [image.id])
        mover.reconcile(books.spool.now())
    facts = snapshot(books.spool)
    assert (facts.lost.images, facts.uploaded_pruned.images, facts.unaccounted) == (0, 1, 0)
    books.call("verify")
