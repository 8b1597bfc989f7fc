"""The longer procedures of docs/OPERATING.md, run as the page has them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dev.s3_local.strict import Strict, error_reply
from headgate.spool.image.image import Sent
from headgate.spool.spool import Spool
from headgate.spool.upkeep.mover import Mover
from headgate.spool.upkeep.verify import disagreements
from tests.support.booted_gateway import procedure
from tests.support.gateway import Gateway
from tests.support.paths import ROOT
from tests.support.receiver import Receiver
from tests.support.spooling import open_spool, put, settings_for
from uploader.cli.main import headgate

PAGE = (ROOT / "docs" / "OPERATING.md").read_text(encoding="utf-8")
PHOTO = (ROOT / "docs" / "photos" / "rocket.jpg").read_bytes()


def block(title: str) -> str:
    """The commands for a shell below a heading."""
    part = PAGE.partition(f"\n### {title}\n")[2].partition("\n### ")[0]
    (found,) = re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
    return str(found)


def carry_out(title: str, root: Path) -> None:
    """As the page has it, with all its places below ``root``."""
    text = re.sub(r"/(var|etc|mnt)/", rf"{root}/\1/", block(title))
    text = text.replace("/opt/headgate/bin/python", sys.executable)
    done = subprocess.run(["bash", "-euc", text], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def site(root: Path) -> Path:
    """A settings file and a spool where the page has them."""
    (root / "etc" / "headgate").mkdir(parents=True)
    (root / "var" / "lib" / "headgate").mkdir(parents=True)
    spool = root / "var" / "lib" / "headgate" / "spool"
    config = root / "etc" / "headgate" / "headgate.toml"
    config.write_text(f'[spool]\npath = "{spool}"\nkeep_free = "0B"\n')
    return spool


def run(root: Path, *words: str) -> str:
    config = str(root / "etc" / "headgate" / "headgate.toml")
    result = CliRunner().invoke(headgate, ["--config", config, *words], prog_name="headgate")
    assert result.exit_code == 0, result.output
    return result.output


def start(root: Path, spool: Path) -> Receiver:
    named = {"spool.path": str(spool), "spool.keep_free": "0B", "receiver.auth": "token"}
    return Receiver(root, **named).start()


def test_a_backup_made_while_it_runs_brings_devices_and_receipts_to_an_empty_disk(
    tmp_path: Path,
) -> None:
    spool = site(tmp_path)
    receiver = start(tmp_path, spool)
    try:
        settings = settings_for(tmp_path, spool__path=str(spool))
        with closing(Spool.open(settings, create=False, probe=False)) as opened:
            (token,) = opened.site.devices.add(["cam-1"], opened.now(), urgent=False)
            bearer = f"Bearer {token.secret}"
            assert receiver.post_raw(PHOTO, Authorization=bearer).status == 201
            (item,) = opened.catalog.after(0, 1)
            with opened.hold_drain_lock("a test", 0) as lock:
                sent = Sent("bucket", f"k/{item.name.file}", "etag")
                Mover(opened, lock).finish([(item, sent)], opened.now())
        carry_out("Back up", tmp_path)
    finally:
        receiver.stop()
    shutil.rmtree(spool)
    carry_out("Restore", tmp_path)
    receiver = start(tmp_path, spool)
    try:
        said = run(tmp_path, "verify", "--repair")
        assert "0 left" in said
        assert "uploaded   1 image" in run(tmp_path, "status")
        again = receiver.post_raw(PHOTO, Authorization=bearer)
        assert (again.status, again.json["duplicate"], again.json["state"]) == (
            200, True, "uploaded",
        )  # fmt: skip
        assert receiver.post_raw(PHOTO + b"x", Authorization=bearer).status == 201
        run(tmp_path, "verify")
    finally:
        receiver.stop()


def test_a_spool_that_is_copied_as_the_page_says_is_whole(tmp_path: Path) -> None:
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed (.ci/run installs it)")
    spool = site(tmp_path)
    with closing(open_spool(tmp_path, spool__path=str(spool))) as opened:
        put(opened, b"x", file_name="gate.jpg")
    (tmp_path / "mnt" / "new").mkdir(parents=True)
    carry_out("Another disk, or another machine", tmp_path)
    shutil.rmtree(spool)
    moved = settings_for(tmp_path, spool__path=str(tmp_path / "mnt" / "new" / "spool"))
    with closing(Spool.open(moved, create=False)) as opened:
        assert disagreements(opened, deep=True) == []
    (image,) = (tmp_path / "mnt" / "new" / "spool" / "new").rglob("*.jpg")
    assert b"gate.jpg" in os.getxattr(image, "user.headgate")


@pytest.mark.slow
def test_keys_are_rotated_as_the_page_says_and_one_that_went_too_early_costs_no_image(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valid, reply = {"first"}, Strict._reply

    def refuses_others(server: Strict, environ: dict[str, Any], *more: Any) -> Any:
        (key,) = re.findall(r"Credential=([^/]+)/", environ["HTTP_AUTHORIZATION"])
        if key in {"first", "second"} - valid:
            return error_reply(403, "InvalidAccessKeyId", "There is no such key.")
        return reply(server, environ, *more)

    def write(key: str) -> None:
        keys = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n"
        (tmp_path / "credentials").write_text(keys)

    monkeypatch.setattr(Strict, "_reply", refuses_others)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    write("first")
    gateway.fill(2)
    assert gateway.call("drain").returncode == 0 and gateway.uploaded() == 2

    valid |= {"second"}
    gateway.fill(1)
    edit, *commands = procedure("Rotate the keys to the bucket")
    assert edit.startswith("editor ") and len(commands) == 2
    write("second")
    for line in commands:
        ran = gateway.call(*line.removeprefix("headgate ").split())
        assert ran.returncode == 0, ran.stdout + ran.stderr
        valid -= {"first"}
    assert gateway.uploaded() == 3

    valid -= {"second"}
    gateway.fill(1)
    ran = gateway.call("drain")
    assert ran.returncode != 0 and "does not know this access key" in ran.stdout + ran.stderr
    assert gateway.json("status")["set_aside"]["images"] == 0
    valid |= {"second"}
    assert gateway.call("drain").returncode == 0 and gateway.uploaded() == 4


def test_no_procedure_is_without_its_commands() -> None:
    titles = re.findall(
        r"^### ([A-Z].*)$", PAGE.partition("\n## What to do when\n")[2], re.MULTILINE
    )
    assert len(titles) >= 10
    for title in titles:
        part = PAGE.partition(f"\n### {title}\n")[2].partition("\n### ")[0]
        assert "```" in part, title
