"""``headgate check`` and its older names: one judgement, whatever the command is called."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner, Result

from app import create_app
from headgate.monitor.rules import AlertCondition
from headgate.settings.instants import rfc3339
from headgate.settings.load import load
from headgate.spool.site import alert_history
from headgate.spool.site.alert_history import AlertEvent
from headgate.spool.site.alerts import Alert, Message, Silence
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool, utc_now
from tests.support.http_server import Handler, serving
from tests.support.spooling import put
from uploader.alerts.lifecycle import step
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


def test_the_history_says_what_became_of_each_alert_and_by_whom(site: Spool) -> None:
    began = utc_now() - timedelta(days=3)
    found = [AlertCondition("device-gaps", f"{n} never arrived.", f"cam-{n}") for n in (1, 2)]
    for minutes, wrong in (
        (0, found),
        (11, found),
        (300, found),
        (301, found[:1]),
        (304, found[:1]),
    ):
        at = began + timedelta(minutes=minutes)

        def look(
            before: tuple[Alert, ...], _: object,
            wrong: list[AlertCondition] = wrong, at: datetime = at,
        ) -> tuple[list[Alert], list[Message]]:  # fmt: skip
            return step(before, wrong, at)[0], []

        site.site.alerts.change(look, ())
    call("alert", "silence", "device-gaps:cam-1", "--for", "2h", "--reason", "a new lens")
    call("alert", "silence", "device-gaps:cam-1", "--off")
    said = json.loads(call("alert", "history", "--json").stdout)
    assert said["cursor"] is None
    assert [(one["kind"], one["subject"]) for one in said["events"]] == [
        ("silence-ended", "cam-1"), ("silenced", "cam-1"), ("cleared", "cam-2"),
        ("reminded", "cam-2"), ("reminded", "cam-1"), ("raised", "cam-2"), ("raised", "cam-1"),
    ]  # fmt: skip
    silenced, cleared = said["events"][1], said["events"][2]
    assert silenced["who"] and silenced["sentence"].endswith("UTC: a new lens")
    assert (cleared["at"], cleared["since"]) == (
        rfc3339(began + timedelta(minutes=304)), rfc3339(began),
    )  # fmt: skip
    first = json.loads(call("alert", "history", "--limit", "2", "--json").stdout)
    rest = call("alert", "history", "--cursor", str(first["cursor"]), "--json").stdout
    assert first["events"] + json.loads(rest)["events"] == said["events"]
    early = call(
        "alert", "history", "--until", rfc3339(began + timedelta(hours=1)), "--json"
    ).stdout
    assert {one["kind"] for one in json.loads(early)["events"]} == {"raised"}
    assert "no such alert" in call("alert", "history", "--code", "paused").stdout
    assert "Did you mean paused" in call("alert", "history", "--code", "pausd").output
    page = create_app(site).test_client().get("/alerts?code=device-gaps").text
    assert page.count("raised") == 2 and "silenced by " in page and "a new lens" in page


def test_the_history_is_bounded(site: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_history, "MOST_EVENTS", 3)
    history, now = site.site.alerts.history, utc_now()
    for age in (400, 5, 4, 3, 2, 1):
        at = now - timedelta(days=age)
        history.record([AlertEvent(at, "raised", "paused", str(age))])
    assert [one.subject for one in history.entries()] == ["1", "2", "3"]
    history.record([AlertEvent(now + timedelta(days=364), "raised", "paused", "later")])
    assert [one.subject for one in history.entries()] == ["later", "1"]


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
