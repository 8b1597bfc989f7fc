"""The wall of cameras: whose picture is where, and which part of it one asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from app import create_app
from app.page.wall import A_PAGE, Asked, Need, wall
from headgate.monitor import collect
from headgate.monitor.devices import OTHERS_MAX, DeviceFacts
from headgate.spool.catalog.device_stats import Unusable
from headgate.spool.image.names import device_name
from headgate.spool.site.alerts import Alert
from headgate.spool.site.holds import Hold, Kind, Subject
from headgate.spool.site.labels import Label
from tests.support.page import NOW, Page, Told, facts
from tests.support.spooling import settings_for

SEEN = DeviceFacts("cam-b", True, NOW - timedelta(minutes=1), "id-b", 90, 9000, usual_seconds=60,
                   quiet_seconds=600)  # fmt: skip
SILENT = replace(SEEN, device="cam-z", last_at=NOW - timedelta(hours=1))
GAPS = replace(SEEN, device="cam-x", missing=1234, enrolled=False, clock_offset_seconds=-90.0)
UNUSABLE = replace(SEEN, device="cam-w", unusable=Unusable(7, NOW, lately=2, good=8))
MANY = tuple(replace(SEEN, device=f"cam-{n:04}", last_image=f"id-{n}") for n in range(1000))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Told, FlaskClient]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "snapshot", lambda spool, *_: spool.said)
        spool = Told.open(settings_for(tmp_path_factory.mktemp("told"), spool__keep_free="1MB"))
        assert isinstance(spool, Told)
        yield spool, create_app(spool).test_client()
        spool.close()


def test_those_that_need_a_person_come_first_and_say_why(
    told: tuple[Told, FlaskClient],
) -> None:
    never = DeviceFacts("cam-y", True)
    alert = Alert("uplink-down", "cam-v", "The link of cam-v is down.", NOW)
    told_of = replace(SEEN, device="cam-v")
    devices = (SEEN, UNUSABLE, GAPS, never, SILENT, told_of)
    spool, client = told
    spool.said = facts(devices=devices, alerts=(alert,))
    page = Page(client.get("/").text)
    order = [attrs["id"] for tag, attrs in page.tags if tag == "li" and attrs.get("id")]
    assert order == [f"camera-cam-{letter}" for letter in "zyvwxb"]
    for words in (
        "cam-z 1 h ago silent usually every 1 min",
        "cam-y no image yet never sent",
        "cam-w 1 min ago needs a look 2 of the last 10 unusable",
        "cam-x 1 min ago needs a look 1,234 never arrived clock 1 min 30 s behind",
        "cam-v 1 min ago needs a look The link of cam-v is down.",
        "cam-b 1 min ago on time",
        "6 · 5 need a look",
    ):
        assert words in page.text, (words, page.text)
    (shot,) = [attrs for tag, attrs in page.tags if "images/id-b/" in str(attrs.get("src"))][:1]
    assert shot["loading"] == "lazy" and shot["alt"]
    assert ("a", {"href": "/devices/cam-b"}) in page.tags


def test_a_thousand_cameras_are_all_there_a_page_at_a_time(
    told: tuple[Told, FlaskClient],
) -> None:
    spool, client = told
    spool.said = facts(devices=MANY)
    address, seen = "/?q=cam&still=1", []
    for _ in range(20):
        page = Page(client.get(address).text)
        seen += [str(a["id"]) for tag, a in page.tags if tag == "li" and a.get("id")]
        following = [a["href"] for tag, a in page.tags if tag == "a" and a.get("rel") == "next"]
        if not following:
            break
        address = str(following[0])
        assert "q=cam" in address and "still=1" in address
    assert len(seen) == len(set(seen)) == 1000


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (Asked(query="0999"), ["cam-0999"]),
        (Asked(query="CAM 12 07"), ["cam-0712", "cam-1207"]),
        (Asked(query="front"), ["x--Front_20Door"]),
        (Asked(query="back yard"), ["cam-0002"]),
        (Asked(group="north", query="cam"), ["cam-0001"]),
        (Asked(group="none"), []),
        (Asked(urgent_only=True), ["cam-z"]),
    ],
)
def test_cameras_are_found_by_name_group_and_need(asked: Asked, found: list[str]) -> None:
    devices = (
        *MANY, replace(SEEN, device="cam-1207"), replace(SEEN, device=device_name("Front Door")),
        SILENT,
    )  # fmt: skip
    labels = {
        "cam-0001": Label("", "north"), "cam-z": Label("", "South"),
        "cam-0002": Label("Back Yard", ""),
    }  # fmt: skip
    shown = wall(devices, (), labels, NOW, asked)
    assert [one.facts.device for one in shown.cameras] == found
    assert (shown.total, shown.urgent, shown.groups) == (1003, 1, ("north", "South"))


def test_the_wall_says_that_devices_without_a_token_may_be_left_out(
    told: tuple[Told, FlaskClient],
) -> None:
    spool, client = told
    strangers = tuple(replace(one, enrolled=False) for one in MANY)
    said = f"only the {OTHERS_MAX:,} that were seen last"
    for devices, left_out in ((strangers, True), ((*strangers[1:], SEEN), False), (MANY, False)):
        spool.said = facts(devices=devices)
        assert (said in client.get("/?q=cam-0007").text) == left_out


def test_a_camera_that_is_held_says_so(told: tuple[Told, FlaskClient]) -> None:
    spool, client = told
    hold = Hold(Subject(Kind.DEVICE, "cam-b"), NOW, "otto", "the police asked")
    spool.site.holds.add(hold)
    spool.said = facts(devices=(SEEN,))
    said = "held its device is held by otto since 2026-11-23 16:04 UTC: the police asked"
    assert said in Page(client.get("/").text).text
    spool.site.holds.remove(hold.subject)
    assert "police" not in client.get("/").text


def test_a_page_beyond_the_last_is_the_last() -> None:
    assert wall(MANY, (), {}, NOW, Asked(page=99)).page == -(-1000 // A_PAGE)
    assert wall((), (), {}, NOW, Asked(page=0)).page == 1


def test_what_is_not_known_of_a_camera_is_not_said() -> None:
    (one,) = wall([replace(SEEN, quiet_seconds=0.0)], (), {}, NOW, Asked()).cameras
    assert one.need is Need.UNKNOWN and not one.need.is_urgent


@pytest.mark.parametrize("name", ["<b>Küche</b>", "a/../b", "倉庫 1", 'q"x', "٣"])
def test_a_name_is_shown_as_it_is_and_its_address_is_safe(
    told: tuple[Told, FlaskClient], name: str
) -> None:
    spool, client = told
    spool.said = facts(devices=(replace(SEEN, device=device_name(name)),))
    page = Page(client.get("/").text)
    assert f"{name} 1 min ago" in page.text
    assert ("a", {"href": f"/devices/{device_name(name)}"}) in page.tags


@pytest.mark.parametrize("word", ["1h", "24h", "7d", "nonsense"])
def test_the_chart_shows_the_time_that_was_asked_for(
    told: tuple[Told, FlaskClient], word: str
) -> None:
    spool, client = told
    spool.said = facts(devices=(SEEN,))
    page = Page(client.get(f"/?range={word}&q=cam").text)
    said = {"1h": "last hour", "7d": "last 7 days"}.get(word, "last 24 hours")
    assert f"In and out, the {said}" in page.text
    links = [str(a["href"]) for tag, a in page.tags if tag == "a" and "#flow" in str(a.get("href"))]
    assert len(links) == 2 and all("q=cam" in one for one in links)
