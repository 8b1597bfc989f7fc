"""A spool whose disk is not mounted is told by the channels, once, with reminders and an end."""

from __future__ import annotations

import json
import os
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headgate.settings.load import load
from headgate.settings.settings import Settings
from headgate.spool import identity
from headgate.spool.disk import durable
from headgate.spool.errors import DiskError
from headgate.spool.site.alerts import Message
from headgate.spool.spool import Spool
from uploader.alerts import missing_spool, outbox
from uploader.alerts.channel import DeliveryError
from uploader.cli.main import headgate
from uploader.wire.meter import Meter

WHY = "there is no spool at /disk/spool, and there was one"


class Told:
    """A channel that takes what it is given, unless it is down."""

    name = "told"

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.down = False

    def send(self, message: Message, pacer: Meter) -> None:
        if self.down:
            raise DeliveryError("it is down")
        pacer.wrote(pacer.take(1), 1)
        self.messages.append(message)

    @property
    def kinds(self) -> list[str]:
        return [one.kind for one in self.messages]


class Hours:
    def __init__(self) -> None:
        self.at = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def later(self, **how: float) -> None:
        self.at += timedelta(**how)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    channel = Told()
    monkeypatch.setattr(outbox, "channels", lambda _settings: [channel])
    return channel


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(identity, "INSTALLED", tmp_path / "no-such-folder")
    (tmp_path / "etc").mkdir()
    (tmp_path / "disk").mkdir()
    file = tmp_path / "etc" / "headgate.toml"
    file.write_text(f'[site]\nname = "north"\n[spool]\npath = "{tmp_path}/disk/spool"\n')
    found = load(str(file), environment={})
    Spool.open(found).close()
    os.rename(tmp_path / "disk", tmp_path / "unmounted")
    (tmp_path / "disk" / "spool").mkdir(parents=True)
    return found


def test_it_is_told_once_then_rarely_and_its_end_is_told(settings: Settings, told: Told) -> None:
    now = Hours()
    assert missing_spool.report(settings, WHY, now) == 0  # a disk may be late at boot
    for _ in range(10):
        now.later(minutes=1)
        missing_spool.report(settings, WHY, now)
    assert told.kinds == ["alert"]
    assert WHY in told.messages[0].text
    now.later(hours=4)
    missing_spool.report(settings, WHY, now)
    missing_spool.report(settings, WHY, now)
    assert told.kinds == ["alert", "reminder"]
    now.later(hours=1)
    missing_spool.clear(settings, now)
    missing_spool.clear(settings, now)
    assert told.kinds == ["alert", "reminder", "recovery"]
    assert "there again" in told.messages[-1].text
    now.later(days=2)
    assert missing_spool.clear(settings, now) == 0


def test_what_a_channel_does_not_take_is_kept_for_the_next_look(
    settings: Settings, told: Told
) -> None:
    now = Hours()
    missing_spool.report(settings, WHY, now)
    told.down = True
    now.later(minutes=2)
    missing_spool.report(settings, WHY, now)
    told.down = False
    now.later(minutes=1)
    assert missing_spool.report(settings, WHY, now) == 1
    assert missing_spool.report(settings, WHY, now) == 0
    assert told.kinds == ["alert"]


def test_what_cannot_be_remembered_is_not_sent_each_minute(
    settings: Settings, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise DiskError(OSError(28, "No space left on device"), "writing")

    now = Hours()
    missing_spool.report(settings, WHY, now)
    now.later(minutes=2)  # so that it is due
    monkeypatch.setattr(durable, "write_file", full)
    for _ in range(5):
        missing_spool.report(settings, WHY, now)
        now.later(minutes=1)
    assert told.messages == []


def test_a_spool_that_was_never_missing_leaves_nothing_behind(
    tmp_path: Path, settings: Settings, told: Told
) -> None:
    (tmp_path / "disk" / "spool").rmdir()
    (tmp_path / "disk").rmdir()
    os.rename(tmp_path / "unmounted", tmp_path / "disk")
    with closing(Spool.open(settings)):
        assert missing_spool.clear(settings, Hours()) == 0
    place = missing_spool.folder(settings)
    assert place is not None and not place.exists()


def test_watch_and_runs_report_it_and_its_end(
    tmp_path: Path, settings: Settings, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_S3_BUCKET", "bucket")
    config = ["--config", str(settings.file)]

    def call(*words: str) -> Result:
        return CliRunner().invoke(headgate, [*config, *words])

    assert call("watch", "--dry-run").exit_code == 1
    place = missing_spool.folder(settings)
    assert place is not None and not place.exists()
    first = call("watch", "--cron")
    assert (first.exit_code, told.messages) == (1, [])
    assert "there is no spool at" in first.output
    file = place / "alert.json"  # as if it were some minutes later
    state = json.loads(file.read_text())
    began = datetime.fromisoformat(state["alerts"][0]["began_at"]) - timedelta(minutes=5)
    state["alerts"][0]["began_at"] = began.isoformat()
    file.write_text(json.dumps(state))
    assert call("drain", "--cron").exit_code == 1
    assert call("watch", "--cron").exit_code == 1
    assert told.kinds == ["alert"]
    assert "Mount" in told.messages[0].text
    (tmp_path / "disk" / "spool").rmdir()
    (tmp_path / "disk").rmdir()
    os.rename(tmp_path / "unmounted", tmp_path / "disk")
    assert call("watch", "--cron").exit_code == 0
    assert [one.kind for one in told.messages if one.about == "spool-missing"] == [
        "alert", "recovery",
    ]  # fmt: skip
