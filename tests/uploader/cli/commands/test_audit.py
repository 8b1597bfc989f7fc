"""``headgate audit``, and that each command by which a person changes something adds its line."""

from __future__ import annotations

import csv
import io
import json
import os
import pwd
from pathlib import Path

import pytest
from click.testing import CliRunner

from headgate.spool.image.image import State
from headgate.spool.site.audit import Action
from headgate.spool.spool import Spool
from headgate.spool.upkeep.mover import Mover
from tests.support.spooling import open_spool, put
from uploader.cli.cron.trial import Trial
from uploader.cli.main import headgate

SITE = '[spool]\npath = "{0}/var/spool"\n[s3]\nbucket = "images"\n'


def call(root: Path, *words: str, code: int = 0) -> str:
    ran = CliRunner().invoke(headgate, ["--config", str(root / "headgate.toml"), *words])
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    assert ran.exit_code == code, ran.output
    return ran.output


def set_aside(spool: Spool) -> str:
    ident = put(spool, os.urandom(20)).receipt.id
    item = spool.catalog.get(ident)
    assert item is not None
    with spool.hold_drain_lock("a test", 0) as lock:
        Mover(spool, lock).set_aside(item, "refused", spool.now())
    assert spool.catalog.in_state(State.SET_ASIDE, 9)
    return ident


def test_each_command_that_changes_something_has_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "anna")
    (tmp_path / "headgate.toml").write_text(SITE.format(tmp_path))
    spool = open_spool(tmp_path)
    image, other = set_aside(spool), set_aside(spool)
    spool.close()
    monkeypatch.setattr(Trial, "check", lambda _self, _settings: None)
    tab = ("--file", str(tmp_path / "headgate"), "--user", pwd.getpwuid(os.geteuid()).pw_name)
    for words in (
        ("device", "add", "cam-01", "cam-02", "--urgent"),
        ("device", "rotate", "cam-01", "--overlap", "2h"),
        ("device", "revoke", "cam-01"),
        ("pause", "--for", "8h", "--reason", "work on the line"),
        ("resume",),
        ("limit", "60%", "--for", "30min"),
        ("limit", "--off"),
        ("cron", "install", *tab),
        ("cron", "remove", *tab),
        ("alert", "silence", "all", "--for", "1h", "--reason", "a new switch"),
        ("alert", "silence", "all", "--off"),
        ("retry", image),
        ("discard", other, "--reason", "=1+1"),
        ("verify", "--repair"),
        ("spool", "adopt"),
    ):
        call(tmp_path, *words)
    # What changes nothing leaves no line.
    call(tmp_path, "cron", "remove", *tab)
    call(tmp_path, "resume")
    call(tmp_path, "limit", "60%", code=2)
    call(tmp_path, "device", "revoke", "cam-99", code=1)
    call(tmp_path, "discard", "nothing", "--reason", "a test", code=1)
    lines = json.loads(call(tmp_path, "audit", "--json"))
    assert {line["who"] for line in lines} == {"anna"}
    assert {line["address"] for line in lines} == {"terminal"}
    said = [(line["action"], line["subject"]) for line in reversed(lines)]
    assert said[:-1] == [
        (Action.DEVICE_ADD, "cam-01"),
        (Action.DEVICE_ADD, "cam-02"),
        (Action.DEVICE_ROTATE, "cam-01"),
        (Action.DEVICE_REVOKE, "cam-01"),
        (Action.PAUSE, ""),
        (Action.RESUME, ""),
        (Action.LIMIT, ""),
        (Action.LIMIT_END, ""),
        (Action.CRON_INSTALL, tab[1]),
        (Action.CRON_REMOVE, tab[1]),
        (Action.SILENCE, "all"),
        (Action.SILENCE_END, "all"),
        (Action.RETRY, image),
        (Action.DISCARD, other),
        (Action.SPOOL_REPAIR, ""),
    ]
    assert said[-1][0] == Action.SPOOL_ADOPT
    assert "urgent" in lines[-1]["detail"] and "work on the line" in lines[-5]["detail"]
    text = call(tmp_path, "audit", "--limit", "1", "--who", "anna")
    assert "terminal" in text and "spool.adopt" in text and text.count("\n") == 1
    rows = list(csv.DictReader(io.StringIO(call(tmp_path, "audit", "--csv", "--since", "1h"))))
    assert [row["action"] for row in rows] == [line["action"] for line in lines]
    assert rows[2]["detail"] == "'=1+1", "a spreadsheet must not run it"
    assert call(tmp_path, "audit", "--until", "2001-01-01") == "no such change is recorded\n"
    assert "not a time" in call(tmp_path, "audit", "--since", "soon", code=2)
