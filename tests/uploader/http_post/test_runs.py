"""Whole runs that post to another Headgate, which is a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from headgate.host.exit_codes import Exit
from headgate.settings.settings import combine
from headgate.spool.image.image import State
from headgate.spool.image.names import address_device
from headgate.spool.site.confirmation import ProofKind, confirmation
from headgate.spool.spool import Spool
from headgate.spool.upkeep import verify
from tests.support.images import picture
from tests.support.ledger_time import runs_wait_for_no_second
from tests.support.posting import Upstream, upstream
from tests.support.receiver import metadata, stored
from tests.support.scripted_server import read_request, server
from tests.support.site import FreePacer
from tests.support.spooling import images_below, put
from uploader.cli.main import headgate
from uploader.run import start
from uploader.run.start import RunRequest, run


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    with upstream(tmp_path_factory.mktemp("there")) as made:
        yield made


def flags(root: Path, there: Upstream, **more: str) -> dict[str, str]:
    named = {name.replace("__", "."): value for name, value in more.items()}
    return {
        "spool.path": str(root / "spool"), "site.name": "field", "destination.kind": "http",
        "destination.url": there.url, "destination.token": there.token, **named,
    }  # fmt: skip


@contextlib.contextmanager
def box(root: Path, there: Upstream, **more: str) -> Iterator[Spool]:
    """The spool of a gateway that posts to the other one."""
    with contextlib.closing(
        Spool.open(combine(None, None, {}, flags(root, there, **more), root))
    ) as spool:
        yield spool


@pytest.fixture(autouse=True)
def unpaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "Pacer", FreePacer)
    runs_wait_for_no_second(monkeypatch)


def test_images_arrive_under_their_devices_and_with_what_is_known_of_them(
    tmp_path: Path, there: Upstream
) -> None:
    with box(tmp_path, there) as spool:
        sent = [
            put(spool, picture(3000), device="cam-07", sequence=41, tags={"raum": "Küche, 1"},
                file_name="Küche.jpg", captured_at="2026-11-23T16:04:05Z").receipt,
            put(spool, picture(3000), device=address_device("192.168.1.20")).receipt,
        ]  # fmt: skip
        done = run(spool, RunRequest())
        assert (done.exit_code, done.images) == (Exit.OK, 2), done.message
        assert images_below(spool.path) == {one.id: ["done"] for one in sent}
        assert verify.disagreements(spool, deep=True, sleep=lambda _: None) == []
        receipts = [spool.receipt(one.id) for one in sent]
        seen = confirmation(spool.site, spool.settings)
    assert seen is not None and seen.kind is ProofKind.RECEIPT
    assert all(one is not None and one.safe_to_erase for one in receipts)
    named, unnamed = (metadata(there.receiver, one.key) for one in receipts if one is not None)
    assert receipts[0] is not None and "_cam-07_" in receipts[0].key
    assert receipts[0].bucket == there.url
    assert (named.sequence, named.file_name) == (41, "Küche.jpg")
    assert named.captured_at.startswith("2026-11-23T16:04:05")
    assert named.tags["raum"] == "Küche, 1" and "received" in named.tags
    assert named.key == sent[0].id
    assert receipts[1] is not None and "_box-1_" in receipts[1].key
    assert unnamed.tags["address"] == sent[1].device


def test_a_run_cut_off_anywhere_sends_nothing_twice(tmp_path: Path, there: Upstream) -> None:
    """The claim is on disk before the image leaves: after a kill the next run asks first."""
    with box(tmp_path, there) as spool:
        receipt = put(spool, picture(3000), device="cam-08").receipt
        assert run(spool, RunRequest()).images == 1
        (item,) = spool.receipts.oldest_local(spool.receipts.days()[0], 1)
        again = put(spool, picture(3000), device="cam-08").receipt
        with there_again(there, spool, again.id) as before:
            assert run(spool, RunRequest()).images == 1
        assert len(there.receiver.images()) == before
        assert item.id == receipt.id


@contextlib.contextmanager
def there_again(there: Upstream, spool: Spool, image: str) -> Iterator[int]:
    """The image was posted by a run that was killed before it knew: it is there, and unknown."""
    from tests.support.s3_server import PATIENT
    from uploader.http_post.client import HttpSender
    from uploader.http_post.description import describe
    from uploader.run.workers import Workers

    with contextlib.closing(HttpSender(spool.settings, FreePacer(), timeouts=PATIENT)) as sender:
        workers = Workers(sender, lambda item: spool.files.in_new(item.name), describe)
        (item,) = (one for one in spool.catalog.in_state(State.WAITING, 10) if one.id == image)
        spool.catalog.claim([item])
        sender.send(workers.upload(item))
    yield len(there.receiver.images())


def test_an_image_waits_as_long_as_the_server_asks(tmp_path: Path) -> None:
    def busy(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(
            b"HTTP/1.1 503 Busy\r\nRetry-After: 1800\r\nContent-Length: 0\r\n"
            b"Connection: close\r\n\r\n"
        )

    with server(busy) as port:
        named = {
            "destination.kind": "http", "destination.url": f"http://127.0.0.1:{port}/images",
            "spool.path": str(tmp_path / "spool"),
        }  # fmt: skip
        with contextlib.closing(Spool.open(combine(None, None, {}, named, tmp_path))) as spool:
            put(spool, picture(3000))
            began = spool.now()
            run(spool, RunRequest(max_seconds=1))
            due = spool.catalog.next_due()
    assert due is not None
    assert (due - began).total_seconds() > 1798  # whole seconds


def test_what_is_not_safe_there_yet_waits_and_is_no_failure(
    tmp_path: Path, there: Upstream
) -> None:
    with box(tmp_path, there, destination__await_safe="true") as spool:
        images = [put(spool, picture(3000), device="cam-09").receipt.id for _ in range(6)]
        first = run(spool, RunRequest())
        assert (first.exit_code, first.images, first.attempts) == (Exit.OK, 0, 0)
        assert first.success and first.failing_since is None
        assert sorted(one.id for one in spool.catalog.in_state(State.WAITING, 10)) == images
        before = len(there.receiver.images())
        with spool.hold_drain_lock("test", 0):
            for one in spool.catalog.in_state(State.WAITING, 10):
                spool.catalog.unclaim([one])
        again = run(spool, RunRequest())
        assert again.exit_code == Exit.OK and len(there.receiver.images()) == before
        assert stored(there.receiver, there_id(there, images[0])).exists()


def there_id(there: Upstream, key: str) -> str:
    (found,) = (
        path.stem for path in there.receiver.images()
        if metadata(there.receiver, path.stem).key == key
    )  # fmt: skip
    return found


def test_a_refusal_of_every_image_ends_the_run_and_sets_nothing_aside(
    tmp_path: Path, there: Upstream
) -> None:
    with box(tmp_path, there, destination__token="hg_wrong") as spool:
        for _ in range(5):
            put(spool, picture(3000), device="cam-10")
        ended = run(spool, RunRequest())
        assert ended.exit_code == Exit.ERROR and "destination.token" in ended.message
        assert spool.catalog.in_state(State.SET_ASIDE, 10) == []
        assert len(spool.catalog.in_state(State.WAITING, 10)) == 5


def test_an_image_that_is_refused_for_itself_is_set_aside_alone(
    tmp_path: Path, there: Upstream
) -> None:
    with box(tmp_path, there) as spool:
        bad = put(spool, b"\x89PNG but no picture" * 9, device="cam-11").receipt.id
        good: list[str] = []
        for _ in range(6):  # it is compared with others, as many runs as that takes
            good += [put(spool, picture(3000), device="cam-11").receipt.id for _ in range(6)]
            run(spool, RunRequest())
            if spool.catalog.in_state(State.SET_ASIDE, 10):
                break
        run(spool, RunRequest())
        assert [one.id for one in spool.catalog.in_state(State.SET_ASIDE, 10)] == [bad]
        below = images_below(spool.path)
        assert {one: below[one] for one in good} == {one: ["done"] for one in good}


def invoke(root: Path, there: Upstream, *words: str, **more: str) -> tuple[int, str]:
    values = [f"--set={name}={value}" for name, value in flags(root, there, **more).items()]
    found = CliRunner().invoke(headgate, [*values, *words])
    return found.exit_code, found.output


def test_the_commands_name_the_destination_and_its_proof(tmp_path: Path, there: Upstream) -> None:
    with box(tmp_path, there):
        pass
    code, said = invoke(tmp_path, there, "config", "check", "--json")
    found = json.loads(said)
    assert code == 0, said
    assert found["destination"]["url"] == there.url and found["bucket"] is None
    assert any("receipt of the Headgate" in note for note in found["notes"])
    code, said = invoke(tmp_path, there, "status")
    assert f"sent to    {there.url}, each image confirmed by the receipt" in said
    code, said = invoke(tmp_path, there, "doctor", "--json")
    findings = {one["check"]: one for one in json.loads(said)["findings"]}
    assert findings["destination"]["level"] == "ok" and "bucket" not in findings
    code, said = invoke(tmp_path, there, "config", "check", destination__token="hg_wrong")
    assert code == Exit.ERROR and "destination.token" in said
    code, said = invoke(tmp_path, there, "doctor", destination__token="hg_wrong")
    assert code == Exit.ERROR and "So nothing is sent" in said
    code, said = invoke(tmp_path, there, "drain", "--dry-run")
    assert code == 0 and there.url in said


def test_settings_that_do_not_fit_are_refused() -> None:
    for section, words in (
        ({"kind": "http"}, "destination.url"),
        ({"await_safe": True}, "destination.await_safe"),
        ({"kind": "http", "url": "https://a.example/", "proof": "status", "await_safe": True},
         "destination.await_safe"),
        ({"kind": "http", "url": "https://user:secret@a.example/"}, "a user or a password"),
    ):  # fmt: skip
        with pytest.raises(Exception, match=words) as caught:
            combine({"destination": section}, None, {}, {}, Path.cwd())
        assert "secret" not in str(caught.value)


def test_bytes_are_those_that_were_received(tmp_path: Path, there: Upstream) -> None:
    with box(tmp_path, there, destination__field="") as spool:
        data = picture(70_000)
        receipt = put(spool, data, device="cam-12").receipt
        assert run(spool, RunRequest()).images == 1
        found = spool.receipt(receipt.id)
    assert found is not None
    held = stored(there.receiver, found.key).read_bytes()
    assert hashlib.sha256(held).digest() == hashlib.sha256(data).digest()
