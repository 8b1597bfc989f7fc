"""The verdict, the status page and its JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from app import create_app
from headgate.monitor import collect
from headgate.monitor.snapshot import Snapshot
from headgate.monitor.summary import Level, Place, verdict
from headgate.settings.load import load
from headgate.spool.budget.uplink import BudgetUse
from headgate.spool.catalog.refused import RefusedLately
from headgate.spool.disk.room import Receiving
from headgate.spool.image.image import Count, State
from headgate.spool.site.confirmation import Confirmation, ProofKind
from headgate.spool.site.runs import Proof
from tests.support.page import NONE, NOW, PLACE, Page, Told, facts, receipt, room, run
from tests.support.paths import ROOT
from tests.support.receiver import Receiver, running

OLD = NOW - timedelta(hours=2)
AGO_4 = NOW - timedelta(minutes=4)


@pytest.mark.parametrize(
    ("found", "place", "level", "words"),
    [
        (facts(), PLACE, Level.OK, "All is well: 12 images (3.0 MB) are waiting; the last run"),
        (facts(waiting=Count(1, 9)), PLACE, Level.OK, "1 image (9 B) is waiting"),
        (facts(waiting=NONE, oldest_waiting_at=None), PLACE, Level.OK, "no image is waiting"),
        (facts(runs=()), PLACE, Level.OK, "no run has started yet"),
        (facts(runs=(run(""),)), PLACE, Level.OK, "a run is sending now"),
        (facts(runs=(run("nothing to do", 0),)), PLACE, Level.OK, "found none of them due"),
        (
            facts(runs=(run("nothing to do", 0),), waiting=NONE, oldest_waiting_at=None),
            PLACE,
            Level.OK,
            "had nothing to send",
        ),
        (
            facts(runs=(run("nothing to do", 0),), proof=Proof(None, AGO_4, 1, "It says 503.")),
            PLACE,
            Level.WARN,
            "Runs have tried for 4 min, but no image was confirmed in the bucket. 12 images "
            "(3.0 MB) are waiting, safe on disk. The last run: It says 503. To check or fix: "
            "headgate config check",
        ),
        (
            facts(runs=(run("nothing to do", 0),), proof=Proof(OLD, OLD, 3, "It says 503.")),
            PLACE,
            Level.BAD,
            "Runs have tried for 2 h, but no image was confirmed",
        ),
        (
            facts(runs=(run("nothing to do", 0), run(attempts=900, message="560 of 900 failed"))),
            PLACE,
            Level.WARN,
            "Most attempts of the last run that had something to send failed: 560 of 900 failed",
        ),
        (
            facts(received=NONE, uploaded_local=NONE, waiting=NONE, runs=()),
            PLACE,
            Level.NOTE,
            "Nothing has been received",
        ),
        (facts(runs=(run("uplink down", 0),)), PLACE, Level.WARN, "The uplink is down. 12 images"),
        (
            facts(runs=(run("failed", 0, message="no bucket"),)),
            PLACE,
            Level.BAD,
            "failed: no bucket",
        ),
        (
            facts(set_aside=Count(1, 1)),
            PLACE,
            Level.WARN,
            "1 image (1 B) set aside and not sent, for you to retry or discard.",
        ),
        (
            facts(set_aside=Count(3, 1)),
            PLACE,
            Level.WARN,
            "3 images (1 B) set aside and not sent, for you to retry or discard. To check or fix: ",
        ),
        (facts(unaccounted=2), PLACE, Level.BAD, "headgate verify"),
        (facts(lost=Count(1, 1)), PLACE, Level.BAD, "1 image is lost: it was received"),
        (facts(unaccounted=-2), PLACE, Level.BAD, "2 images cannot be accounted for"),
        (facts(**room(10**10 - 1)), PLACE, Level.BAD, "The disk is full"),
        (facts(**room(10**10 + 10**7)), PLACE, Level.BAD, "The disk is full"),  # not 20 MB
        (facts(**room(14 * 10**9)), PLACE, Level.WARN, "nearly full"),
        (
            facts(**room(10**12, Receiving(trouble="no"))),
            PLACE,
            Level.BAD,
            "The disk refuses to write (no)",
        ),
        (facts(**room(10**12, Receiving(stopping=True))), PLACE, Level.WARN, "is stopping"),
        (
            facts(refused=(RefusedLately("unauthorized", 91, 15, 0.5),)),
            PLACE,
            Level.WARN,
            "91 uploads were refused in the last 15 min, 50% of all, with unauthorized",
        ),
        (
            facts(),
            replace(PLACE, open_to_all=True),
            Level.WARN,
            "Anyone who can reach this machine",
        ),
        (
            facts(oldest_waiting_at=OLD, runs=(run(minutes=100),)),
            PLACE,
            Level.BAD,
            "No run for 1 h 40 min, and one is due every 5 min",
        ),
        (facts(oldest_waiting_at=OLD, runs=()), PLACE, Level.BAD, "No run for 2 h"),
    ],
)
def test_the_verdict_is_one_sentence(
    found: Snapshot, place: Place, level: Level, words: str
) -> None:
    said = verdict(found, place)
    assert said.level is level
    assert words in said.sentence
    assert said.remarks == ()


def test_a_backlog_that_runs_work_on_is_well_with_a_remark() -> None:
    said = verdict(facts(oldest_waiting_at=OLD, waiting=Count(10**6, 240 * 10**9)), PLACE)
    assert said.level is Level.OK
    (remark,) = said.remarks
    assert "the oldest for 2 h" in remark
    assert "about 1 h 40 min" in remark


def test_the_gravest_finding_comes_first_and_none_is_dropped() -> None:
    found = facts(set_aside=Count(1, 1), runs=(run("uplink down", 0),), **room(0))
    said = verdict(found, replace(PLACE, open_to_all=True))
    assert said.level is Level.BAD
    assert "disk is full" in said.sentence
    for word in ("aside", "uplink", "machine"):
        assert any(word in remark for remark in said.remarks), word
    assert len(said.remarks) == 3


def test_the_page_names_the_proof_in_force(told: tuple[Told, FlaskClient]) -> None:
    spool, client = told
    local = {"environ_base": {"REMOTE_ADDR": "127.0.0.1"}}
    spool.said = facts()
    assert "confirmed by" not in client.get("/", **local).text
    spool.said = facts(confirmation=Confirmation(ProofKind.SHA256, "2026-11-30T08:00:00+00:00"))
    page = client.get("/", **local).text
    assert "each image confirmed by the SHA-256 that the server reports (seen 2026-11-30)" in page
    document = client.get("/status.json", **local).json
    assert document["confirmation"]["kind"] == "sha256"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Told, FlaskClient]]:
    monkeypatch.setattr(collect, "snapshot", lambda spool, *_: spool.said)
    flags = {"spool.path": str(tmp_path / "spool"), "s3.bucket": "north", "spool.keep_free": "1MB"}
    spool = Told.open(load(None, flags, {}))
    assert isinstance(spool, Told)
    try:
        yield spool, create_app(spool).test_client()
    finally:
        spool.close()


def test_the_page_shows_images_runs_and_places(told: tuple[Told, FlaskClient]) -> None:
    spool, client = told
    spool.said = facts(
        latest=(
            receipt(State.UPLOADED, bucket="north", key="site/cam-07/2026/11/23/x.jpg"),
            receipt(State.WAITING),
            receipt(State.SET_ASIDE, reason="AccessDenied: grant <b>PutObject</b>"),
        ),
        runs=(run(message="went well"),),
    )
    answer = client.get("/", headers={"Host": "127.0.0.1:8080"})
    page = Page(answer.text)
    assert answer.status_code == 200
    for words in (
        "All is well: 12 images",
        "4 s ago cam-07 250 kB uploaded site/cam-07/2026/11/23/x.jpg",
        "4 s ago cam-07 250 kB waiting not yet",
        "set aside AccessDenied: grant <b>PutObject</b>",
        "cron done went well 340 85.0 MB 30 s",
        "85.0 MB of 12.0 GB in the last 5 min",
        "The cap is 40.0 MB/s: 20% of the link",
        str(spool.path),
        "curl -F image=@docs/photos/china.jpg http://127.0.0.1:8080/uploadImage",
    ):
        assert words in page.text, words


def test_a_limit_in_force_is_shown(told: tuple[Told, FlaskClient]) -> None:
    spool, client = told
    held = BudgetUse(10**6, 3 * 10**8, 300, 0, 4 * 10**7, "backup runs", NOW + timedelta(hours=1))
    spool.said = facts(budget=held)
    text = Page(client.get("/").text).text
    assert "1.0 MB/s instead of 40.0 MB/s until Mon 23 Nov 17:04 UTC: backup runs" in text
    spool.said = facts(budget=BudgetUse(10**5, 3 * 10**7, 300, 0, 4 * 10**7, paused=True))
    text = Page(client.get("/").text).text
    assert "instead of 40.0 MB/s, and no image leaves, until headgate resume" in text
    assert "Uploads are paused until headgate resume" in text
    assert "All is well" not in text


def test_the_page_holds_no_code_and_its_scripts_are_its_own(told: tuple[Told, FlaskClient]) -> None:
    spool, client = told
    spool.said = facts(latest=(receipt(State.WAITING),))
    answer = client.get("/")
    page = Page(answer.text)
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    assert scripts and all(attrs["src"].startswith("/static/") for attrs in scripts)
    assert not re.search(r"<script[^>]*>[^<]", answer.text)
    assert not [attrs for _, attrs in page.tags if "style" in attrs]
    assert ("meta", {"http-equiv": "refresh", "content": "15"}) in page.tags
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'" in policy
    for tag, attrs in page.tags:
        for link in (attrs.get("href"), attrs.get("src")):
            if tag in ("link", "img", "script") and link:
                style = client.get(link)
                assert style.status_code == 200
                style.close()
    assert page.tags[0] == ("html", {"lang": "en"})


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "[::1]:8080", "localhost"])
def test_the_empty_page_shows_the_line_that_posts_the_first(
    told: tuple[Told, FlaskClient], host: str
) -> None:
    spool, client = told
    spool.said = facts(
        received=NONE, uploaded_local=NONE, waiting=NONE, oldest_waiting_at=None, runs=()
    )
    text = Page(client.get("/", headers={"Host": host}).text).text
    assert f"curl -F image=@docs/photos/china.jpg http://{host}/uploadImage" in text
    assert (ROOT / "docs/photos/china.jpg").is_file()


def test_a_forged_host_does_not_reach_the_line(told: tuple[Told, FlaskClient]) -> None:
    spool, client = told
    spool.said = facts()
    for host in ("x;rm -rf /", "a$(b)", "<b>"):
        answer = client.get("/", headers={"Host": host})
        assert (answer.status_code, host in answer.text) == (403, False)


def test_the_json_has_the_same_facts(told: tuple[Told, FlaskClient]) -> None:
    spool, client = told
    spool.said = facts(latest=(receipt(State.WAITING),))
    document = client.get("/status.json").json
    assert document is not None
    assert document["verdict"]["level"] == "ok"
    assert document["waiting"] == {"images": 12, "bytes": 3_000_000}
    assert document["at"] == "2026-11-23T16:04:05Z"
    assert document["latest"][0]["device"] == "cam-07"
    assert document["runs"][0]["images"] == 340
    assert document["budget"]["rate"] == 40_000_000
    assert document["bucket"] == "north"


def test_a_real_receiver_shows_what_it_took(own: Path, photo: object) -> None:
    with running(own, spool__keep_free="1MB") as receiver:
        assert "Nothing has been received" in page_of(receiver).text
        assert callable(photo)
        sent = receiver.post_raw(photo(), X_Device="cam-page").json
        page = page_of(receiver)
        assert "cam-page" in page.text
        assert "1 image" in page.text
        assert ("a", {"href": f"/images/{sent['id']}/view"}) in page.tags
        ready = receiver.get("/readyz")
        assert (ready.status, ready.json) == (200, {"accepting": True})


def page_of(receiver: Receiver) -> Page:
    answer = receiver.get("/")
    assert answer.status == 200
    return Page(answer.body.decode())
