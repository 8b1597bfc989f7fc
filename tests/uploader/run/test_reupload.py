"""Images that are sent again: to another bucket, once each, counted at every instant."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from headgate.spool.catalog.catalog import Catalog
from headgate.spool.disk import durable
from headgate.spool.receipts.receipts import Receipts
from headgate.spool.site.site import Site
from headgate.spool.upkeep import reupload, verify
from headgate.spool.upkeep.mover import Mover
from tests.support.gateway import Gateway
from tests.support.spooling import images_below, open_spool, put, upload_all
from uploader.cli.main import headgate


def test_copies_here_and_images_of_the_old_bucket_go_to_the_new_one(gateway: Gateway) -> None:
    images = gateway.fill(4)
    assert gateway.call("drain").returncode == 0
    receipts = [gateway.spool.receipt(image) for image in images]
    pruned = receipts[0]
    assert pruned is not None
    gateway.spool.receipts.mark_pruned(pruned.name.day, [pruned.id])
    durable.remove(gateway.spool.files.in_done(pruned.name))
    old = gateway.bucket
    gateway.bucket = f"{old}-new"
    gateway.place.client.create_bucket(Bucket=gateway.bucket)
    gateway.write()
    gateway.endpoint_is_known()
    words = ["--config", str(gateway.config), "reupload", "--bucket", old]
    plan = json.loads(CliRunner().invoke(headgate, [*words, "--dry-run", "--json"]).stdout)
    assert (plan["local"]["images"], plan["to_fetch"]["images"]) == (3, 1)
    assert CliRunner().invoke(headgate, words).exit_code == 2  # no one can be asked
    done = CliRunner().invoke(headgate, [*words, "--yes", "--json"])
    assert json.loads(done.stdout) == {"images": 4, "left": {}}
    assert gateway.spool.inventory().unaccounted == 0
    assert gateway.call("drain").returncode == 0
    gateway.assert_arrived(images)
    sent = [gateway.spool.receipt(image) for image in images]
    assert {one.bucket for one in sent if one} == {gateway.bucket}


class Killed(BaseException):
    """The program ended here."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("where", "step"),
    [(Site, "put"), (durable, "move"), (Catalog, "reopen"), (Receipts, "withdraw")],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_a_kill_at_any_step_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, step: str, after: bool
) -> None:
    real = getattr(where, step)

    def killed(*told: Any, **more: Any) -> Any:
        if after:
            real(*told, **more)
        raise Killed

    with closing(open_spool(tmp_path)) as spool:
        images = [put(spool, bytes([n])).receipt.id for n in range(3)]
        upload_all(spool)
        batch = [one for image in images if (one := spool.receipt(image))]
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(where, step, killed)
            reupload.put_back(spool, batch)
    with closing(open_spool(tmp_path)) as spool:
        spool.recover()
        with spool.hold_drain_lock("a run", 0) as lock:
            Mover(spool, lock).reconcile(spool.now())
        assert spool.inventory().unaccounted == 0
        assert spool.inventory().received.images == 3
        assert verify.disagreements(spool, sleep=lambda _: None) == []
        begun = (step, after) != ("put", False)
        assert images_below(spool.path) == {image: ["new" if begun else "done"] for image in images}
        assert spool.inventory().waiting.images == (3 if begun else 0)
