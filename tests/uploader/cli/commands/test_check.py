"""``headgate check`` and its older names: one judgement, whatever the command is called."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner, Result

from headgate.settings.load import load
from headgate.spool.site.alerts import Silence
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool, utc_now
from tests.support.http_server import Handler, serving
from tests.support.spooling import put
from uploader.cli.main import headgate

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Spool]:
    """A spool without a receiver, a run or a channel."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        (tmp_path / "headgate.toml").write_text(
            f'[receiver]\nbind = "127.0.0.1:{nobody.getsockname()[1]}"\n'
        )
        with closing(Spool.open(load(str(tmp_path / "headgate.toml"), environment={}))) as spool:
            put(spool, b"image")
            past = utc_now() - timedelta(hours=2)
            spool.site.save_run(Run("run", past, past, "cron", "done", 0))
            yield spool


def call(*arguments: str) -> Result:
    return CliRunner().invoke(headgate, arguments, prog_name="headgate")


def test_the_older_names_answer_the_same(site: Spool) -> None:
    until = utc_now() + timedelta(hours=1)
    site.site.alerts.silence(Silence("no-run", until, "a new disk"))
    named = [("check",), ("watch",), ("watch", "--dry-run"), ("alert", "list"), ("doctor",),
             ("check", "--machine")]  # fmt: skip
    ran = {words: call(*words, "--json") for words in named}
    said = {words: json.loads(result.stdout) for words, result in ran.items()}
    assert [result.exit_code for result in ran.values()] == [1, 1, 1, 0, 1, 1]
    for words, answer in said.items():
        machine = {"loses", "findings"} if words in named[4:] else set()
        assert set(answer) == set(said[named[0]]) | machine, words
        assert answer["level"] == "bad"
        groups = [(one["code"], one["level"], one["help"]) for one in answer["groups"]]
        assert groups == [
            ("receiver-silent", "bad", "/help/receiver-silent"),
            ("no-run", "bad", "/help/no-run"),
        ], words
        wrong = {one["code"]: one["silenced_until"] for one in answer["wrong"]}
        assert wrong["receiver-silent"] is None and wrong["no-run"] is not None
        assert answer["alerts"] and [one["reason"] for one in answer["silences"]] == ["a new disk"]
    heads = [[line for line in call(*words).stdout.split("\n") if line.startswith("BAD ")]
             for words in named]  # fmt: skip
    assert (
        heads == [["BAD        The receiver does not answer", "BAD        No run has started"]] * 6
    )


def test_nagios_gets_one_line_and_its_own_exit_codes(site: Spool) -> None:
    wrong = call("check", "--nagios")
    (line,) = wrong.stdout.splitlines()
    assert line.startswith(
        "HEADGATE CRITICAL - The receiver does not answer; No run has started | "
        "waiting=1 set_aside=0 unaccounted=0 free_bytes="
    )
    assert wrong.exit_code == 2


class Well(Handler):
    """A receiver that takes everything, and a channel that takes every message."""

    said: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.answer(200, b"{}")

    def do_POST(self) -> None:
        self.said.append(json.loads(self.body())["text"])
        self.answer(200, b"ok")


def test_only_notify_sends_and_a_warning_is_one(site: Spool, tmp_path: Path) -> None:
    now = utc_now()
    site.site.save_run(Run("run-2", now, now, "cron", "done", 0))
    with serving(Well) as port:
        way = ("--set", f"receiver.bind=127.0.0.1:{port}",
               "--set", f"alerts.slack_webhook=http://127.0.0.1:{port}/hook")  # fmt: skip
        ran = call(*way, "check", "--nagios")
        assert (ran.exit_code, ran.stdout[:30]) == (0, "HEADGATE OK - nothing is wrong")
        call(*way, "pause")
        ran = call(*way, "check", "--nagios")
        assert (ran.exit_code, ran.stdout[:42]) == (1, "HEADGATE WARNING - Uploads are paused | wa")
        assert "channel    slack: ok" in call(*way, "check").stdout and Well.said == []
        assert json.loads(call(*way, "check", "--notify", "--json").stdout)["sent"] == 1
        assert len(Well.said) == 1 and "Uploads are paused" in Well.said[0]
    missing = call("--set", f"spool.path={tmp_path / 'none'}", "check", "--nagios")
    assert missing.exit_code == 2 and missing.stdout.startswith("HEADGATE CRITICAL - there is no")
    unread = call("--set", "uplink.share=much", "check", "--nagios")
    assert unread.exit_code == 3 and unread.stdout.startswith("HEADGATE UNKNOWN - ")
    assert call("check", "--nagios", "--json").exit_code == 2
