"""``headgate get``: the very bytes that arrived, or no file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headgate.spool.disk import durable
from headgate.spool.errors import DiskError
from headgate.spool.image.image import Receipt
from tests.support.gateway import Gateway
from tests.support.spooling import put, upload_all
from uploader.cli.main import headgate


@pytest.fixture
def there(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """A gateway whose commands run here, in its folder."""
    monkeypatch.chdir(gateway.root)
    return gateway


def call(gateway: Gateway, *words: str) -> Result:
    return CliRunner().invoke(headgate, ["--config", str(gateway.config), "get", *words])


def pruned(gateway: Gateway) -> tuple[Receipt, bytes]:
    """An image that a run uploaded, and of which no copy is here any more."""
    data = b"\xff\xd8 an image with <Error> in it"
    image = put(gateway.spool, data).receipt
    assert gateway.call("drain").returncode == 0
    receipt = gateway.spool.receipt(image.id)
    assert receipt is not None and receipt.key
    gateway.spool.receipts.mark_pruned(receipt.name.day, [receipt.id])
    gateway.spool.files.in_done(receipt.name).unlink()
    return receipt, data


def test_it_comes_from_the_bucket_when_no_copy_is_here(there: Gateway) -> None:
    receipt, data = pruned(there)
    said = json.loads(call(there, receipt.sha256, "--json").stdout)
    assert (said["source"], said["id"]) == ("bucket", receipt.id)
    assert Path(said["file"]).read_bytes() == data
    there.write(bucket="another-bucket")  # its receipt says where it is
    assert call(there, receipt.id, "-o", "-").stdout_bytes == data


def test_other_bytes_get_no_name(there: Gateway) -> None:
    receipt, data = pruned(there)
    there.place.client.put_object(Bucket=there.bucket, Key=receipt.key, Body=data[::-1])
    if receipt.version_id:
        pytest.skip("the stand-in keeps the version that was confirmed")
    refused = call(there, receipt.id)
    assert refused.exit_code == 1 and "has other bytes" in refused.stderr
    there.place.client.delete_object(Bucket=there.bucket, Key=receipt.key)
    assert "could not be fetched" in call(there, receipt.id).stderr
    assert not list(there.root.glob("*.jpg")) and not list(there.root.glob(".*.part"))


def test_a_copy_on_this_disk_is_taken_if_it_is_unchanged(there: Gateway) -> None:
    waiting = put(there.spool, b"it waits").receipt
    assert call(there, waiting.id).stdout.endswith("from this disk\n")
    assert (there.root / waiting.name.file).read_bytes() == b"it waits"
    there.spool.files.in_new(waiting.name).write_bytes(b"it WAITS")
    changed = call(there, waiting.id, "--force")
    assert changed.exit_code == 1 and "other bytes than were received" in changed.stderr
    assert (there.root / waiting.name.file).read_bytes() == b"it waits"


def test_a_file_that_is_there_stays_unless_it_is_forced(
    there: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = put(there.spool, b"image").receipt.id
    target = there.root / "front.jpg"
    target.write_bytes(b"mine")
    assert call(there, image, "-o", "front.jpg").exit_code == 1
    assert target.read_bytes() == b"mine"
    assert call(there, image, "-o", "front.jpg", "--force").exit_code == 0
    assert target.read_bytes() == b"image"

    def full(*_told: object) -> None:
        raise DiskError(OSError(28, "no space"), "writing")

    monkeypatch.setattr(durable, "move", full)
    assert call(there, image, "-o", "other.jpg").exit_code == 1
    assert sorted(path.name for path in there.root.glob("*.jpg")) == ["front.jpg"]
    assert not list(there.root.glob(".*.part"))


def test_what_cannot_be_had_is_said(there: Gateway) -> None:
    assert "headgate find" in call(there, "nothing").stderr
    image = put(there.spool, b"posted").receipt
    upload_all(there.spool)
    receipt = there.spool.receipt(image.id)
    assert receipt is not None
    there.spool.files.in_done(receipt.name).unlink()
    with there.spool.receipts._lock:  # as a destination over HTTP leaves it
        connection = there.spool.receipts._connection(receipt.name.day, create=False)
        assert connection is not None
        connection.execute("UPDATE places SET bucket = 'https://there.example'")
    assert "ask that server" in call(there, image.id).stderr
    assert call(there, image.id, "-o", "-", "--json").exit_code == 2


def test_a_device_or_a_pipe_is_written_to_and_a_link_is_followed(there: Gateway) -> None:
    """As root, -o /dev/null --force once replaced the device by a file."""
    waiting = put(there.spool, b"it waits").receipt
    pipe, link, file = there.root / "pipe", there.root / "link", there.root / "file"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert call(there, waiting.id, "-o", str(pipe)).exit_code == 1  # it is there already
        assert call(there, waiting.id, "-o", str(pipe), "--force").exit_code == 0
        assert os.read(reader, 100) == b"it waits"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    file.write_bytes(b"before")
    link.symlink_to(file)
    assert call(there, waiting.id, "-o", str(link), "--force").exit_code == 0
    assert link.is_symlink() and file.read_bytes() == b"it waits"
    (there.root / "folder").mkdir()
    refused = call(there, waiting.id, "-o", "folder", "--force")
    assert refused.exit_code == 1 and "cannot be written" in refused.stderr
