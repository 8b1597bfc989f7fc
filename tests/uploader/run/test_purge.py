"""Images that are purged are gone everywhere, are counted, and cannot be found any more."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from headgate.actions import holds
from headgate.actions.errors import ActionRefused
from headgate.spool.disk import durable
from headgate.spool.image.image import State
from headgate.spool.receipts.receipts import Receipts
from headgate.spool.site.audit import TERMINAL, Actor
from headgate.spool.site.gone import Gone
from headgate.spool.site.holds import Kind, Subject
from headgate.spool.site.site import Site
from headgate.spool.spool import Spool
from headgate.spool.upkeep import verify
from headgate.spool.upkeep.mover import Mover
from tests.support.gateway import Gateway
from tests.support.spooling import images_below, open_spool, put, upload_all
from uploader.cli.main import headgate
from uploader.run import purge
from uploader.wire.errors import ErrorKind, SendError

BY = Actor("anna", TERMINAL)
CAM = Subject(Kind.DEVICE, "cam-secret")


def fill(spool: Spool) -> list[str]:
    """One image of the device in each state, and one of another device."""
    images = []
    for number, state in enumerate(("pruned", "uploaded", "aside", "lost", "discarded", "waits")):
        image = put(spool, f"{state} secret".encode(), CAM.name, sequence=number).receipt.id
        images.append(image)
        with spool.hold_drain_lock("a test", 0) as lock:
            mover = Mover(spool, lock)
            item = spool.catalog.get(image)
            assert item is not None
            if state in ("aside", "discarded"):
                mover.set_aside(item, "secret", spool.now())
            if state == "discarded":
                spool.site.gone.ask(item, spool.now(), "anna", "a test")
                mover.discard()
            if state == "lost":
                spool.files.in_new(item.name).unlink()
                mover.lose(item, spool.now())
        if state in ("pruned", "uploaded"):
            upload_all(spool)
        if state == "pruned":
            spool.receipts.mark_pruned(item.name.day, [image])
            durable.remove(spool.files.in_done(item.name))
    put(spool, b"kept", "cam-kept")
    return images


def erased(*_told: str) -> None:
    """The bucket deletes whatever it is asked to."""


def assert_gone(spool: Spool, images: list[str]) -> None:
    inventory = spool.inventory()
    assert (inventory.purged.images, inventory.unaccounted) == (len(images), 0)
    assert inventory.received.images == len(images) + 1
    assert not any(spool.receipt(image) for image in images)
    assert len(images_below(spool.path)) == 1
    assert verify.disagreements(spool, sleep=lambda _: None) == []
    assert list(purge.of(spool, CAM)) == []


def test_every_state_ends_as_purged_and_nothing_names_it(tmp_path: Path) -> None:
    with closing(open_spool(tmp_path)) as spool:
        images = fill(spool)
        done = purge.run(spool, BY, CAM, "request 4711", erased)
        assert (done.images.images, done.left) == (len(images), {})
        assert_gone(spool, images)
        lines = [(one.subject, one.detail) for one in spool.site.audit.entries()]
        assert lines[0][0] == "device" and "6 images" in lines[0][1]
        assert "secret" not in repr(lines)
        again = purge.run(spool, BY, CAM, "request 4711", erased)
        assert again.images.images == 0
        spool.catalog.corrections.forget_device(CAM.name)
    with closing(open_spool(tmp_path)) as spool:  # a start recounts what arrived lately
        spool.recover()
        assert_gone(spool, images)
    state = spool.files.state
    for path in (state / "site.sqlite3", *(state / "receipts").iterdir()):
        assert b"secret" not in path.read_bytes(), path


class Killed(BaseException):
    """The program ended here."""


STEPS: list[tuple[Any, str]] = [
    (Site, "put"),
    (durable, "remove"),
    (durable, "sync_folders"),
    (Gone, "purged"),
    (Receipts, "withdraw"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("where", "step"), STEPS, ids=lambda one: getattr(one, "__name__", one))
def test_a_kill_at_any_step_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, step: str, after: bool
) -> None:
    real = getattr(where, step)

    def killed(*told: Any, **more: Any) -> Any:
        if after:
            real(*told, **more)
        raise Killed

    with closing(open_spool(tmp_path)) as spool:
        images = fill(spool)
        with spool.hold_drain_lock("a run", 0) as lock:
            Mover(spool, lock).reconcile(spool.now())
        known = list(purge.of(spool, CAM))
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(where, step, killed)
            from headgate.spool.upkeep import purge as erasing

            erasing.carry_out(spool, known)
    with closing(open_spool(tmp_path)) as spool:
        spool.recover()
        purge.run(spool, BY, CAM, "request 4711", erased)
        assert_gone(spool, images)


def test_what_the_bucket_keeps_keeps_its_receipt_and_no_copy(tmp_path: Path) -> None:
    def refuses(*_told: str) -> None:
        raise SendError(ErrorKind.FATAL, "403", "the bucket refuses it")

    with closing(open_spool(tmp_path)) as spool:
        image = put(spool, b"secret", CAM.name).receipt.id
        upload_all(spool)
        done = purge.run(spool, BY, CAM, "request 4711", refuses)
        assert list(done.left.values()) == ["the bucket refuses it [403]"]
        receipt = spool.receipt(image)
        assert receipt is not None and receipt.key and not receipt.local
        assert receipt.pruned_by == "headgate purge"
        assert images_below(spool.path) == {}
        assert spool.inventory().unaccounted == 0
        assert purge.run(spool, BY, CAM, "request 4711", erased).images.images == 1


def test_what_is_held_is_not_purged(tmp_path: Path) -> None:
    with closing(open_spool(tmp_path)) as spool:
        image = put(spool, b"secret", CAM.name).receipt.id
        holds.hold(spool, BY, image)
        with pytest.raises(ActionRefused, match="held"):
            purge.run(spool, BY, CAM, "request 4711", erased)
        receipt = spool.receipt(image)
        assert receipt is not None and receipt.state is State.HELD


def call(gateway: Gateway, *words: str) -> Result:
    return CliRunner().invoke(headgate, ["--config", str(gateway.config), *words])


def test_every_version_goes_from_the_bucket(gateway: Gateway) -> None:
    client = gateway.place.client
    client.put_bucket_versioning(
        Bucket=gateway.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    image = put(gateway.spool, b"secret", CAM.name).receipt.id
    kept = put(gateway.spool, b"kept", "cam-kept").receipt.id
    assert gateway.call("drain").returncode == 0
    receipt = gateway.spool.receipt(image)
    assert receipt is not None
    client.put_object(Bucket=gateway.bucket, Key=receipt.key, Body=b"another version")
    client.delete_object(Bucket=gateway.bucket, Key=receipt.key)
    words = ("purge", "--device", CAM.name)
    plan = json.loads(call(gateway, *words, "--dry-run", "--json").stdout)
    assert (plan["images"]["images"], plan["in_bucket"]) == (1, 1)
    assert call(gateway, *words, "--reason", "x").exit_code == 2  # no one can be asked
    assert call(gateway, *words, "--yes").exit_code == 2  # no reason
    done = call(gateway, *words, "--reason", "request 4711", "--yes")
    assert done.exit_code == 0 and "purged: 1 image" in done.stdout
    listed = client.list_object_versions(Bucket=gateway.bucket)
    keys = {one["Key"] for part in ("Versions", "DeleteMarkers") for one in listed.get(part, [])}
    assert receipt.key not in keys and any(kept in key for key in keys)
    why = call(gateway, "why", image)
    assert why.exit_code == 1 and "it was purged on" in why.stderr
