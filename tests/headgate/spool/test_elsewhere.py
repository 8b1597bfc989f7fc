"""One image is one object at all gateways of a site, and any of them tells what became of it."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headgate.host.board import Board
from headgate.monitor.fleet_reports import Reports
from headgate.shared import memory
from headgate.shared.connection import SharedTrouble, connect
from headgate.shared.impatient import ImpatientCaller
from headgate.shared.keys import key
from headgate.shared.memory import Identity, Kept, Memory
from headgate.spool import elsewhere
from headgate.spool.elsewhere import Elsewhere, decode, encode
from headgate.spool.errors import DiskError, IdentityConflict
from headgate.spool.image.image import Metadata, Receipt, State
from headgate.spool.spool import Accepted, Spool
from headgate.spool.upkeep import purge
from tests.support.queueing import Redis, needs_redis
from tests.support.spooling import Disk, images_below, open_spool, put, upload_all
from tests.support.wait import join

pytestmark = needs_redis
Open = Callable[..., Spool]
_SITES = itertools.count()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def site(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens gateways of one site, each with a folder of its own. No deadline is met by luck."""
    monkeypatch.setattr(elsewhere, "DEADLINE_SECONDS", 60.0)
    monkeypatch.setattr(elsewhere, "CLAIMED_SECONDS", 60.0)
    monkeypatch.setattr(memory, "CLAIM_MS", 600_000)
    opened: list[Spool] = []
    name = f"north{next(_SITES)}"

    def gateway(gateway: str, folder: str = "", board: Board | None = None) -> Spool:
        root = tmp_path / (folder or gateway)
        root.mkdir(exist_ok=True)
        flags = {
            "site__name": name, "uplink__gateway": gateway, "uplink__shared": redis.url,
            "uplink__gateways": "2", "uplink__floor": "1MB/s",
        }  # fmt: skip
        opened.append(open_spool(root, None, board, **flags))
        return opened[-1]

    yield gateway
    for one in opened:
        one.close()


def at(spool: Spool) -> Elsewhere:
    assert spool.elsewhere is not None
    return spool.elsewhere


@pytest.mark.parametrize("more", [{}, {"key": "k"}, {"sequence": 7}])
def test_a_repeat_at_another_gateway_gets_the_first_receipt(
    site: Open, more: dict[str, str]
) -> None:
    first, second = site("gw1"), site("gw2")
    held = put(first, b"image", **more).receipt
    again = put(second, b"image", **more)
    assert again.duplicate and again.receipt.id == held.id
    assert (again.receipt.state, again.receipt.sha256) == (State.WAITING, held.sha256)
    assert not images_below(second.path), "there is one object"
    assert not put(second, b"image", device="cam-2", **more).duplicate, "of each device"
    assert put(second, b"other", sequence=8).duplicate is False
    if "key" in more:
        with pytest.raises(IdentityConflict):
            put(second, b"other bytes", **more)


def test_of_uploads_at_the_same_time_everywhere_one_is_new(site: Open) -> None:
    board = Board.shared(2)
    gateways = [site("gw1", board=board.of(0)), site("gw1", board=board.of(1)), site("gw2")]
    everyone, accepted = threading.Barrier(9), list[Accepted]()

    def send(spool: Spool) -> None:
        everyone.wait(60)
        accepted.append(put(spool, b"image", key="k"))

    threads = [threading.Thread(target=send, args=(gateways[n % 3],)) for n in range(9)]
    for thread in threads:
        thread.start()
    join(*threads)
    assert sum(not one.duplicate for one in accepted) == 1
    assert len({one.receipt.id for one in accepted}) == 1
    assert len(images_below(gateways[0].path) | images_below(gateways[2].path)) == 1


def test_what_is_not_durable_is_never_answered_for(
    site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = site("gw1"), site("gw2")
    for step in itertools.count(1):
        image, disk = b"image %d" % step, Disk(step, errno.EIO)
        try:
            with disk():
                put(first, image)
        except DiskError:
            assert not put(second, image).duplicate, f"{disk.calls[-1]} failed at the first gateway"
        if not disk.fired:
            break
    assert step > 5 and put(second, image).duplicate

    claim = at(first).claim("cam-1", meta_of(b"died"))  # and this gateway ends here
    assert claim.held is None
    monkeypatch.setattr(elsewhere, "CLAIMED_SECONDS", 0.1)
    assert not put(second, b"died").duplicate, "a claim is no image"


def meta_of(data: bytes) -> Metadata:
    return Metadata(hashlib.sha256(data).hexdigest(), len(data), "image/jpeg")


def test_a_new_spool_under_an_old_name_knows_nothing_of_the_old_one(site: Open) -> None:
    put(site("gw1"), b"image")
    fresh, other = site("gw1", "replaced"), site("gw2")
    assert not put(fresh, b"image").duplicate, "its own books count, and the old spool is gone"
    put(site("gw1", "again"), b"another")
    assert at(other).receipt(put(fresh, b"image").receipt.id, "") is None


def test_any_gateway_tells_what_became_of_an_image(site: Open) -> None:
    first, second = site("gw1"), site("gw2")
    held = put(first, b"image", sequence=3, key="k").receipt

    def told(ref: str = held.id, device: str = "", key: str = "") -> Receipt | None:
        found = at(second).receipt(ref, device, key)
        assert found is None or found.gateway == "gw1"
        return found and found.receipt

    assert told() is not None and not told().safe_to_erase  # type: ignore[union-attr]
    assert told(device="cam-1") == told(held.sha256, "cam-1") == told(device="cam-1", key="k")
    assert told(device="cam-2") is told(held.sha256, "cam-2") is None, "a device sees its own"
    assert told(device="cam-1", key="other") is told("20261123T160405.000000Z_c_00") is None
    assert at(first).receipt(held.id, "") is None, "its own books say it"

    upload_all(first)
    assert not told().safe_to_erase, "its gateway has not said so"  # type: ignore[union-attr]
    assert at(first).settle(first.receipt, 10) == 1
    now = told()
    assert now is not None and now.safe_to_erase and now.bucket == "bucket" and not now.local
    assert at(first).settle(first.receipt, 10) == 0, "nothing is open any more"

    first.withdraw(held.name.day, [held.id])
    assert told() is None, "before its receipt is withdrawn here it is withdrawn there"
    at(first).say([now])
    assert told() is None, "what was said a moment before comes too late"


def test_what_cannot_be_withdrawn_counts_no_more_once_redis_is_back(
    site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = site("gw1"), site("gw2")
    held = put(first, b"image").receipt
    upload_all(first)
    at(first).settle(first.receipt, 10)
    receipt = first.receipt(held.id)
    assert receipt is not None

    class Away(ImpatientCaller):
        def call(self, _work: object) -> None:  # type: ignore[override]
            raise SharedTrouble("away")

    with monkeypatch.context() as away:
        away.setattr(at(first), "_caller", Away())
        purge.carry_out(first, [receipt])
        put(first, b"another")
    put(first, b"third")  # its next word is enough, whatever it is about
    assert at(second).receipt(held.id, "") is None
    assert not put(second, b"image").duplicate, "it was purged"


def test_the_memory_is_bounded_and_ends(redis: Redis) -> None:
    with (
        closing(Memory(redis.url, "bounds", timeout_seconds=60)) as known,
        closing(connect(redis.url, timeout_seconds=60)) as client,
    ):
        for number in range(10):
            identity = Identity(("digest", "cam-1", str(number)))
            kept = Kept(f"image-{number}", "{}", (identity,), alive=True, settled=number == 9)
            known.keep(kept, "gw1", "spool.0", seconds=100, most=3)
        assert known.look("image-6") is None and known.look("image-9") is not None
        assert sorted(known.open("gw1", "spool.0", 10)) == ["image-7", "image-8"]
        names = set(client.scan_iter(key("bounds", "*")))
        assert len(names) == 2 * 3 + 3, "three images with their identities, and three lists"
        assert all(0 < client.ttl(one) <= 100 for one in names - {key("bounds", "memory", "gw1")})

        client.set(key("bounds", "image", "image-9"), "gw1 spool.0 x {")
        assert known.look("image-9") is None, "what cannot be read says nothing"
        assert known.look("image-8") is not None
        with closing(Reports(redis.url, "bounds")) as reports:
            assert not reports.forget("gw1"), "no report of it is known"
        assert known.look("image-8") is None, "that gateway was taken away"


def test_a_receipt_survives_the_way_there_and_back(site: Open) -> None:
    spool = site("gw1")
    put(spool, b"image", key="k", sequence=0, file_name="Tür.jpg")
    upload_all(spool)
    (receipt,) = spool.images(None, 10)
    found = decode(json.loads(encode(receipt)))
    assert found.id == receipt.id and found.key == receipt.key and found.sequence == 0
    assert found.uploaded_at == receipt.uploaded_at and found.warnings == receipt.warnings
    with pytest.raises(ValueError, match=r"\w"):
        decode(json.loads(encode(receipt)) | {"id": "../x"})
