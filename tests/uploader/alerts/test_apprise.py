"""Alerts by a library that speaks many services, to a real server that takes its JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headgate.settings.settings import SettingsError
from headgate.spool.site.alerts import Message
from tests.support.http_server import Handler, serving
from tests.support.s3_server import CountingPacer
from tests.support.spooling import open_spool, settings_for
from uploader.alerts import outbox
from uploader.alerts.apprise import Other
from uploader.alerts.channel import DeliveryError
from uploader.alerts.notify import let_out

AT = datetime.now(UTC)  # a letter that is a week old is dropped
TOLD = Message("alert", "no-run.1", "north: No run & more", "No run for 12 min.", AT, "no-run")


@dataclass
class Service:
    """``url`` as Apprise has it."""

    url: str = ""
    status: int = 200
    got: list[dict[str, Any]] = field(default_factory=list)
    bytes: int = 0


@pytest.fixture
def service() -> Iterator[Service]:
    at = Service()

    class Takes(Handler):
        def do_POST(self) -> None:
            body = self.body()
            at.bytes += len(body) + len(str(self.headers)) + len(self.requestline)
            if at.status == 200:
                at.got.append(json.loads(body))
            self.answer(at.status)

    with serving(Takes) as port:
        patient = "cto=120&rto=120"  # seconds; it gives up after 4 else
        at.url = f"json://someuser:s3cret-token@127.0.0.1:{port}/hidden-path?{patient}"
        yield at


def test_it_gets_the_message_and_more_than_that_was_charged(service: Service) -> None:
    pacer = CountingPacer()
    Other(service.url).send(TOLD, pacer)
    (got,) = service.got
    assert (got["title"], got["message"], got["type"]) == (TOLD.title, TOLD.text, "warning")
    assert service.bytes + 8 * 1024 < pacer.written  # what TLS would take is in it


def test_what_fails_is_tried_again_and_no_sentence_has_the_secret(service: Service) -> None:
    service.status = 500
    with pytest.raises(DeliveryError) as refused:
        Other(service.url).send(TOLD, CountingPacer())
    assert not refused.value.dead
    assert "500" in str(refused.value)
    for secret in ("s3cret", "someuser", "hidden-path"):
        assert secret not in str(refused.value) + Other(service.url).name


def test_an_address_that_nobody_knows_is_dead() -> None:
    with pytest.raises(DeliveryError, match="not one that Apprise supports") as refused:
        Other("carrierpigeon://north/s3cret").send(TOLD, CountingPacer())
    assert refused.value.dead
    assert "s3cret" not in str(refused.value)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(DeliveryError, match="headgate\\[apprise\\]") as refused:
        Other("json://127.0.0.1/x").send(TOLD, CountingPacer())
    assert refused.value.dead


def test_each_address_is_a_channel_of_its_own(tmp_path: Path, service: Service) -> None:
    """The one that fails keeps its letter, and the other is not told twice."""
    dead = "json://127.0.0.1:1/"
    with closing(open_spool(tmp_path, alerts__apprise=f"{service.url} {dead}")) as spool:
        ways = outbox.channels(spool.settings)
        assert [way.name[:5] for way in ways] == ["json-", "json-"]
        spool.site.alerts.post([TOLD], [way.name for way in ways])
        assert let_out(spool.site.alerts, spool.uplink, "a test", ways) == 1
        assert let_out(spool.site.alerts, spool.uplink, "a test", ways) == 0
        assert len(service.got) == 1
        (left,) = spool.site.alerts.letters()
        assert left.channel == Other(dead).name


def test_the_setting_takes_a_list_or_words_and_never_shows_them(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, alerts__apprise="tgram://a/b  json://c/d,e")
    assert settings.alerts.apprise == ("tgram://a/b", "json://c/d,e")
    with pytest.raises(SettingsError) as refused:
        settings_for(tmp_path, alerts__apprise="s3cret")
    assert "s3cret" not in str(refused.value)
