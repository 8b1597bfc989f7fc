"""``headgate watch`` and ``headgate alert``, and what a run says at its end and to a heartbeat."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headgate.settings.load import load
from headgate.spool.budget.uplink import Part
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool, utc_now
from tests.support.http_server import Handler, serving
from tests.support.ledger_time import runs_wait_for_no_second
from tests.support.s3_server import environment
from tests.support.spooling import put
from uploader.alerts import heartbeat
from uploader.alerts.heartbeat import address
from uploader.cli.main import headgate
from uploader.run.bounds import RunRequest
from uploader.run.start import run


@dataclass
class Ear:
    """Hears whatever is asked of it; ``status`` is what it answers."""

    url: str = ""
    status: int = 200
    statuses: list[int] = field(default_factory=list)  # before that
    heard: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    code: str = ""  # of /readyz


@pytest.fixture
def ear() -> Iterator[Ear]:
    at = Ear()

    class Hears(Handler):
        def do_GET(self) -> None:
            at.heard.append(self.path)
            body = b"ok" if self.command == "POST" else b"{}"  # as Slack answers
            status = at.statuses.pop(0) if at.statuses else at.status
            if at.code and self.path == "/readyz":
                status = 503
                body = json.dumps({"code": at.code, "detail": "The disk says EIO."}).encode()
            self.answer(status, body)

        def do_POST(self) -> None:
            at.said.append(json.loads(self.body())["text"])
            self.do_GET()

    with serving(Hears) as port:
        at.url = f"http://127.0.0.1:{port}"
        yield at


pytestmark = pytest.mark.usefixtures("alone", "soon")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ping that failed is tried again at once, and nothing waits for the ledger."""
    runs_wait_for_no_second(monkeypatch)
    monkeypatch.setattr(heartbeat, "_AGAIN_AFTER", (0.0, 0.0))


@pytest.fixture
def nowhere() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        yield nobody.getsockname()[1]


@pytest.fixture
def site(tmp_path: Path, ear: Ear, nowhere: int) -> Spool:
    """A spool whose receiver is the ear, as are Slack and the heartbeat; the bucket is nowhere."""
    (tmp_path / "headgate.toml").write_text(
        f"""
        [site]
        name = "north"
        [receiver]
        bind = "{ear.url.removeprefix("http://")}"
        [s3]
        bucket = "pictures"
        endpoint_url = "http://127.0.0.1:{nowhere}"
        region = "us-east-1"
        [alerts]
        slack_webhook = "{ear.url}/hook"
        heartbeat_url = "{ear.url}/ping/0a1b?rid=7"
        """
    )
    return Spool.open(load(str(tmp_path / "headgate.toml"), environment={}))


def call(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(headgate, arguments, prog_name="headgate")
    assert result.exit_code == code, result.output
    return result


def wrong() -> list[str]:
    result = CliRunner().invoke(headgate, ["watch", "--json"], prog_name="headgate")
    return [alert["code"] for alert in json.loads(result.stdout)["wrong"]]


def past_run(spool: Spool, at: datetime, outcome: str = "done") -> None:
    spool.site.save_run(Run(f"run-{at}", at, at, "cron", outcome, 0))


def test_on_an_ordinary_day_nothing_is_said(site: Spool, ear: Ear) -> None:
    with closing(site):
        put(site, b"image")
        past_run(site, utc_now())
    assert call("watch").stdout.startswith("nothing is wrong\n")
    assert call("watch", "--cron").output == ""
    assert "nothing is wrong" in call("alert", "list").stdout
    assert ear.said == []


def test_a_crontab_without_its_line_is_noticed_and_told_once(site: Spool, ear: Ear) -> None:
    with closing(site):
        put(site, b"image")
        past_run(site, utc_now() - timedelta(minutes=12))
    assert "headgate cron install" in call("watch", code=1).stdout
    call("watch", code=1)
    (said,) = ear.said
    assert said.startswith("*north: No run has started*\nNo run for 12 min")
    assert said.endswith("To check or fix: headgate cron install")
    (alert,) = json.loads(call("alert", "list", "--json").stdout)["alerts"]
    assert (alert["code"], alert["told"], alert["bad"]) == ("no-run", True, True)


def test_a_run_under_way_is_no_silent_uploader(site: Spool) -> None:
    with closing(site):
        past_run(site, utc_now() - timedelta(minutes=12))
        with site.hold_drain_lock("a long run", 0):
            assert wrong() == []
        assert wrong() == ["no-run"]


def test_a_receiver_that_is_not_well_is_noticed(site: Spool, ear: Ear) -> None:
    with closing(site):
        past_run(site, utc_now())
    ear.status = 500
    assert wrong() == ["receiver-silent"]
    ear.status, ear.code = 200, "disk_trouble"
    assert wrong() == ["disk-refuses"]
    ear.code = "disk_full"  # for what it has promised to uploads in flight, perhaps
    assert wrong() == ["disk-full"]


def test_a_receiver_that_does_not_run_is_told_from_one_that_hangs(
    site: Spool, tmp_path: Path, nowhere: int
) -> None:
    bind = ("--set", f"receiver.bind=127.0.0.1:{nowhere}")
    with closing(site):
        past_run(site, utc_now())
        assert "It does not run" in call(*bind, "watch", "--dry-run", code=1).stdout
        with site.hold_receiver_lock():
            assert "does not answer" in call(*bind, "watch", "--dry-run", code=1).stdout


def test_a_run_without_an_uplink_pings_and_tells_and_never_fails_for_it(
    site: Spool, ear: Ear
) -> None:
    """The bucket is nowhere, and the ear is not: so what the run says can be heard."""
    with closing(site), environment(AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret"):
        put(site, b"image")
        report = run(site, RunRequest(trigger="cron"))
        assert report.outcome == "uplink down"
        assert [path for path in ear.heard if "/ping" in path] == [
            "/ping/0a1b/start?rid=7", "/ping/0a1b/5?rid=7",
        ]  # fmt: skip
        (said,) = ear.said
        assert (
            said.startswith("*north: The uplink is down*\n")
            and "1 image (5 B) is waiting, safe on disk" in said
        )
        ear.status = 500  # neither the monitor's nor Slack's trouble is the run's
        assert run(site, RunRequest(trigger="cron")).outcome == "uplink down"
        use = site.uplink.budget()
        assert use.used > 0 and (site.files.state / Part.OTHER).exists()
    call("watch", code=5)


@pytest.mark.parametrize(("failures", "pings"), [(0, 1), (1, 2), (9, 3)])
def test_the_ping_at_the_end_is_tried_again(
    site: Spool, ear: Ear, failures: int, pings: int
) -> None:
    ear.statuses = [200, *[500] * failures]  # the first is for the start
    with closing(site):
        beat = heartbeat.Heartbeat(site)
        beat.start()
        beat.end(0)
    assert ear.heard == ["/ping/0a1b/start?rid=7", *["/ping/0a1b/0?rid=7"] * pings]


@pytest.mark.parametrize(
    ("url", "there"),
    [
        ("https://hc-ping.com/uuid", "https://hc-ping.com/uuid/start"),
        ("https://hc-ping.com/key/slug/?create=1", "https://hc-ping.com/key/slug/start?create=1"),
    ],
)
def test_where_a_ping_goes(url: str, there: str) -> None:
    assert address(url, "start") == there


# -- headgate alert


def test_a_test_message_goes_through_each_channel(site: Spool, ear: Ear) -> None:
    site.close()
    assert "would get" in call("alert", "test", "--dry-run").stdout and ear.said == []
    assert "delivered" in call("alert", "test").stdout
    assert ear.said[0].startswith("*north: this is a test*")
    ear.status = 404
    refused = call("alert", "test", code=1)
    assert "this webhook is dead" in refused.stdout
    assert "channel    slack: failing" in call("alert", "list").stdout
    ear.status = 200
    call("alert", "test")
    assert "channel    slack: ok" in call("alert", "list").stdout


def test_without_a_channel_a_test_says_what_to_write(site: Spool) -> None:
    site.close()
    refused = call("--set", "alerts.slack_webhook=", "alert", "test", code=2)
    assert "set slack_webhook, mail_to or apprise under [alerts]" in refused.stderr


def test_a_silence_has_an_end_and_can_be_ended(site: Spool, ear: Ear) -> None:
    with closing(site):
        put(site, b"image")
        past_run(site, utc_now() - timedelta(minutes=12))
    assert "needs a duration" in call("alert", "silence", "no-run", code=2).stderr
    assert "there is no alert" in call("alert", "silence", "norun", "--for", "2h", code=2).stderr
    call("alert", "silence", "no-run", "--for", "2h", "--reason", "new disk")
    call("watch", code=1)
    assert ear.said == [] and "new disk" in call("alert", "list").stdout
    call("alert", "silence", "no-run", "--off")
    call("watch", code=1)
    assert len(ear.said) == 1
    assert "was not silenced" in call("alert", "silence", "no-run", "--off", code=1).stderr


def test_secrets_are_never_shown(site: Spool, ear: Ear) -> None:
    site.close()
    shown = call("config", "show").stdout + call("config", "show", "--json").stdout
    assert "/hook" not in shown and "0a1b" not in shown and "(secret)" in shown
    refused = call("--set", "alerts.slack_webhook=my-secret-word", "watch", code=2)
    assert "alerts.slack_webhook" in refused.stderr and "my-secret-word" not in refused.stderr


def test_mail_without_a_server_is_refused_at_the_start(site: Spool) -> None:
    site.close()
    refused = call("--set", "alerts.mail_to=ops@example.net", "watch", code=2)
    assert "set alerts.smtp_url" in refused.stderr
