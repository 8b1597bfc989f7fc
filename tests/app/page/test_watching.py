"""What the page shows beside the counts, who may see it, and what its button may do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from headgate.monitor import collect
from headgate.monitor.collect import snapshot
from headgate.monitor.devices import DeviceFacts
from headgate.monitor.forecast import Estimate, Forecast
from headgate.monitor.rules import RULES
from headgate.monitor.summary import Level, verdict
from headgate.spool.catalog.traffic import Flow
from headgate.spool.image.image import Count, State
from headgate.spool.site.alerts import Alert
from headgate.spool.spool import RETRY, Spool
from headgate.spool.upkeep.mover import Mover
from tests.support.page import ELSEWHERE, NOW, PLACE, Page, Told, basic, facts, receipt
from tests.support.spooling import open_spool, put, settings_for

SEEN = DeviceFacts("cam-b", True, NOW - timedelta(minutes=1), "id-b", 90, 9000, usual_seconds=60,
                   quiet_seconds=600)  # fmt: skip


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Told, FlaskClient]]:
    monkeypatch.setattr(collect, "snapshot", lambda spool, *_: spool.said)
    spool = Told.open(settings_for(tmp_path, spool__keep_free="1MB"))
    assert isinstance(spool, Told)
    yield spool, create_app(spool).test_client()
    spool.close()


def test_a_device_is_silent_after_as_long_as_is_known_of_it() -> None:
    assert not replace(SEEN, quiet_seconds=0.0).is_silent(NOW + timedelta(days=1))
    assert not SEEN.is_silent(NOW + timedelta(minutes=9))
    assert SEEN.is_silent(NOW + timedelta(minutes=9, seconds=1))


def test_the_verdict_names_the_silent() -> None:
    silent = [replace(SEEN, device=f"cam-{n}", last_at=NOW - timedelta(hours=2)) for n in range(7)]
    said = verdict(facts(devices=(SEEN, silent[0])), PLACE)
    assert (said.level, said.sentence) == (
        Level.WARN, "cam-0 has sent nothing for 2 h. To check or fix: headgate device list"
    )  # fmt: skip
    said = verdict(facts(devices=tuple(silent)), PLACE)
    others = "The same applies to cam-1, cam-2, cam-3, cam-4, cam-5 and 1 more."
    others = f"cam-0 has sent nothing for 2 h. {others}"
    assert said.sentence == f"{others} To check or fix: headgate device list"
    assert said.remarks == ()


def test_the_verdict_names_a_clock_that_is_off() -> None:
    off = replace(SEEN, device="cam-1", clock_offset_seconds=-90.0)
    said = verdict(facts(devices=(off,)), PLACE)
    assert said.sentence.startswith("The clock of cam-1 is 1 min 30 s behind:")
    told = Alert("device-clock", "cam-1", "It is off.", NOW)
    nearer = replace(off, clock_offset_seconds=45.0)  # as an alert has it: not right again yet
    assert verdict(facts(devices=(nearer,)), PLACE).level is Level.OK
    said = verdict(facts(devices=(nearer,), alerts=(told,)), PLACE)
    assert said.sentence.startswith("The clock of cam-1 is 45 s ahead:") and not said.remarks


def test_an_alert_or_a_disk_that_fills_up_is_not_well() -> None:
    alert = Alert("gaps", "cam-7", "Images of cam-7 never arrived.", NOW)
    said = verdict(facts(alerts=(alert,)), PLACE)
    assert (said.level, said.sentence) == (Level.WARN, alert.sentence)
    worse = verdict(facts(alerts=(alert,), unaccounted=1), PLACE)
    assert worse.level is Level.BAD and worse.remarks == (alert.sentence,)
    at = NOW + timedelta(hours=5)
    full = verdict(facts(forecast=Forecast(full=Estimate(at, at, None))), PLACE)
    assert full.level is Level.WARN and "the disk is full in 5 h" in full.sentence
    at = NOW + timedelta(hours=25)
    later = verdict(facts(forecast=Forecast(full=Estimate(at, at, None))), PLACE)
    assert later.level is Level.OK


def test_the_day_the_alerts_and_what_is_set_aside_are_shown(
    told: tuple[Told, FlaskClient],
) -> None:
    spool, client = told
    aside = receipt(State.SET_ASIDE, reason="AccessDenied: <b>no</b>")
    other = replace(aside, id=aside.id.replace("cam-07", "cam-08"))
    spool.said = facts(
        flow=(
            Flow(
                NOW.replace(hour=15, minute=0, second=0),
                10,
                Count(9, 5 * 10**9),
                Count(8, 4 * 10**9),
                0,
            ),
        ),
        alerts=(Alert("uplink_down", "", "It is down.", NOW),),
        set_aside=Count(30, 1),
        aside=(aside, other),
        asked=(other.id,),
    )
    page = Page(client.get("/").text)
    for words in (
        "warning Something is wrong It is down. since just now",
        "In: 5.0 GB, at most 500 MB/min Out: 4.0 GB, at most 400 MB/min Cap: 2.4 GB/min",
        "AccessDenied: <b>no</b> Retry",
        "requested; the next run puts it back",
        "And 28 more",
    ):
        assert words in page.text, words
    assert ("form", {"method": "post", "action": f"/images/{aside.id}/retry"}) in page.tags
    assert len([tag for tag, _ in page.tags if tag == "button"]) == 1
    assert len([tag for tag, _ in page.tags if tag == "path"]) == 2
    document = client.get("/status.json").json
    assert document is not None
    (alert,) = document["alerts"]
    assert alert == {
        "code": "uplink_down",
        "subject": "",
        "sentence": "It is down.",
        "since": "2026-11-23T16:04:05Z",
        "bad": True,
        "told": False,
        "mend": "",
        "level": "warn",
        "title": "Something is wrong",
        "help": "/help/uplink_down",
    }


def test_alerts_stand_by_gravity_in_groups_that_lead_to_what_to_do(
    told: tuple[Told, FlaskClient],
) -> None:
    spool, client = told
    gaps = [Alert("device-gaps", f"cam-{n}", f"{n} images never arrived.", NOW) for n in range(18)]
    spool.said = facts(alerts=(*gaps, Alert("disk-full", "", "It is full.", NOW, fix="df -h")))
    page = Page(client.get("/").text)
    first, second = (
        page.text.index("serious The disk is full It is full."),
        page.text.index(
            "warning 18 devices miss images 0 images never arrived. See and close its gaps"
        ),
    )
    assert first < second and "And 13 more: all that need a look." in page.text
    links = {dict(found).get("href") for tag, found in page.tags if tag == "a"}
    assert {"/help/disk-full", "/help/device-gaps", "/devices/cam-4#gaps"} <= links
    assert "/devices/cam-5#gaps" not in links
    for rule in RULES:  # what each leads to is there, and is what the docs say
        said = Page(client.get(f"/help/{rule.code}").text).text
        assert rule.title in said and rule.fix in said and "`" not in said, rule.code
    assert "<code>headgate device list\nheadgate device gaps cam-07\n" in (
        client.get("/help/device-gaps").text
    )
    assert client.get("/help/nothing").status_code == 404
    assert client.get("/help/disk-full", environ_base=ELSEWHERE).status_code == 403


def test_the_page_stands_still_if_told_to(told: tuple[Told, FlaskClient]) -> None:
    spool, client = told
    spool.said = facts()
    assert "http-equiv" not in client.get("/?still").text
    assert 'content="15"' in client.get("/").text


# -- who may see it


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = open_spool(tmp_path, spool__keep_free="0B")
    yield opened
    opened.close()


@pytest.mark.parametrize("address", ["/", "/status.json", "/metrics"])
def test_no_device_opens_it_and_only_this_machine_needs_no_log_in(
    spool: Spool, address: str
) -> None:
    client = create_app(spool).test_client()
    closed = 401 if address == "/metrics" else 403
    assert client.get(address).status_code == 200
    assert client.get(address, environ_overrides=ELSEWHERE).status_code == closed
    assert client.get(address, headers={"X-Forwarded-For": "192.0.2.7"}).status_code == closed
    (token,) = spool.site.devices.add(["desk"], spool.now(), may_drain=True)
    login = basic("desk", token.secret)
    for where in ({}, ELSEWHERE):
        refused = client.get(address, headers=login, environ_overrides=where)
        assert refused.status_code == closed
    if address == "/metrics":
        assert refused.headers["WWW-Authenticate"].startswith('Basic realm="headgate"')
        scrape = spool.site.users.add_scrape_token("prometheus", spool.now())
        for shown in (basic("anything", scrape), {"Authorization": f"Bearer {scrape}"}):
            answer = client.get(address, headers=shown, environ_overrides=ELSEWHERE)
            assert answer.status_code == 200
        assert client.get("/", headers=basic("x", scrape)).status_code == 403


# -- another try


@pytest.fixture
def aside(spool: Spool) -> str:
    image = put(spool, b"image").receipt
    item = spool.catalog.get(image.id)
    assert item is not None
    with spool.hold_drain_lock("a test", 0) as lock:
        Mover(spool, lock).set_aside(item, "no", spool.now())
    return image.id


def asked(spool: Spool) -> list[str]:
    return [one.image for one in spool.site.requests() if one.word == RETRY]


def test_the_button_leaves_a_request_that_the_next_run_carries_out(
    spool: Spool, aside: str
) -> None:
    client = create_app(spool).test_client()
    answer = press(client, aside, {"Host": "127.0.0.1:8080"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/#aside")
    assert snapshot(spool).set_aside.images == 1  # the receiver moves nothing
    assert snapshot(spool).asked == (aside,)
    with spool.hold_drain_lock("a test", 0) as lock:
        assert Mover(spool, lock).answer_requests(spool.now()) == 1
    assert snapshot(spool).waiting.images == 1


def press(client: FlaskClient, image: str, headers: dict[str, str]) -> TestResponse:
    """Press the button, with the token that the page gave this browser."""
    host = {"Host": headers["Host"]}
    found = re.search(r'name="form_token" value="([^"]+)"', client.get("/", headers=host).text)
    form = {"form_token": found[1] if found else ""}
    return client.post(f"/images/{image}/retry", headers=headers, data=form)


OWN = {"Host": "127.0.0.1:8080"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (OWN, 303),
        ({"Host": "localhost"}, 303),
        ({"Host": "[::1]:8080"}, 303),
        ({**OWN, "Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8080"}, 303),
        ({**OWN, "Origin": "http://127.0.0.1:8080"}, 303),
        ({**OWN, "Sec-Fetch-Site": "cross-site"}, 403),
        ({**OWN, "Sec-Fetch-Site": "same-site"}, 403),
        ({**OWN, "Origin": "http://127.0.0.1:9999"}, 403),
        ({**OWN, "Origin": "null"}, 403),
        (
            {"Host": "evil.example", "Sec-Fetch-Site": "same-origin"},
            403,
        ),  # a name made to lead here
        ({**OWN, "X-Forwarded-For": "192.0.2.7"}, 403),
    ],
)
def test_only_its_own_page_may_press_it(
    spool: Spool, aside: str, headers: dict[str, str], status: int
) -> None:
    client = create_app(spool).test_client()
    assert press(client, aside, headers).status_code == status
    assert asked(spool) == ([aside] if status == 303 else [])


def test_open_to_devices_is_not_open_to_commands(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, spool__keep_free="0B", receiver__auth="open")
    try:
        image = put(spool, b"image").receipt.id
        client = create_app(spool).test_client()
        address = f"/images/{image}/retry"
        assert client.post(address, environ_overrides=ELSEWHERE).status_code == 403
        (token,) = spool.site.devices.add(["desk"], spool.now(), urgent=False, may_drain=True)
        login = basic("desk", token.secret)
        with_token = client.post(address, headers=login, environ_overrides=ELSEWHERE)
        assert with_token.status_code == 403
    finally:
        spool.close()


def test_what_is_not_there_cannot_be_tried_again(spool: Spool, aside: str) -> None:
    client = create_app(spool).test_client()
    assert press(client, "nothing", OWN).status_code == 404
    assert asked(spool) == []
