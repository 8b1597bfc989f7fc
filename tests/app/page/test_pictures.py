"""The pages of a device and of an image, and the image as it arrived."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from pathlib import Path

import click
import pytest
from flask.testing import FlaskClient

from app import create_app
from app.page import originals
from app.page.chart import Range
from app.page.pictures import A_PAGE
from app.page.timeline import WIDTH, timeline
from headgate.spool.catalog import schema as catalog_schema
from headgate.spool.image.image import Metadata, Receipt, Remarks
from headgate.spool.image.names import device_name
from headgate.spool.query import DAYS, MINUTES
from headgate.spool.receipts import schema as receipts_schema
from headgate.spool.spool import Spool
from headgate.spool.sqlite import connect
from headgate.spool.upkeep.mover import Mover
from tests.support.page import ELSEWHERE, NOW, Page, basic
from tests.support.spooling import Clock, open_spool, put, upload_all
from uploader.cli.main import headgate

CAMERA = device_name("Küche <1>")
HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Spool, list[Receipt]]]:
    """A camera that sent two pages and a few more, paused for five hours, and lost three."""
    clock = Clock()
    spool = open_spool(
        tmp_path_factory.mktemp("site"), clock, spool__keep_free="0B", s3__bucket="north",
        spool__keep_done="30d", receiver__auth="open",
    )  # fmt: skip
    spool.site.devices.add([CAMERA], clock.at - timedelta(days=3), urgent=False, may_drain=True)
    sent = []
    for number in range(2 * A_PAGE + 5):
        clock.advance(minutes=300 if number == 100 else 2)
        sequence = number + 3 if number >= 99 else number
        sent.append(put(spool, b"image %d" % number, CAMERA, sequence=sequence).receipt)
        if number == 60:
            upload_all(spool)
    put(spool, b"another's", "cam-2")
    clock.advance(minutes=1)
    yield spool, sent
    spool.close()


@pytest.fixture(scope="module")
def client(site: tuple[Spool, list[Receipt]]) -> FlaskClient:
    return create_app(site[0]).test_client()


def get(client: FlaskClient, address: str) -> Page:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    return Page(answer.text)


def images_on(page: Page) -> list[str]:
    return [str(a["id"])[6:] for tag, a in page.tags if tag == "li" and "image-" in a.get("id", "")]  # type: ignore[operator]


def link(page: Page, rel: str) -> str:
    return next((str(a["href"]) for tag, a in page.tags if tag == "a" and a.get("rel") == rel), "")


def test_every_picture_of_a_device_is_on_its_timeline_once(
    site: tuple[Spool, list[Receipt]], client: FlaskClient
) -> None:
    newest_first = [one.id for one in reversed(site[1])]
    page = get(client, f"/devices/{CAMERA}?range=7d")
    seen, pages = images_on(page), [page]
    while following := link(page, "next"):
        page = get(client, following)
        seen += images_on(page)
        pages.append(page)
    assert seen == newest_first and len(pages) == 3
    assert link(pages[0], "prev") == ""
    back = get(client, link(pages[1], "prev"))
    assert images_on(back) == newest_first[:A_PAGE]


def test_a_device_is_shown_with_its_silences_gaps_days_and_tokens(client: FlaskClient) -> None:
    page = get(client, f"/devices/{CAMERA}")
    for words in (
        "Küche <1>", "Silent for 5 h", "silent for 5 h before", "3 images never arrived",
        "1 silence", "1 gap in its numbers", "made 3 d ago", "Mon 23 Nov",
    ):  # fmt: skip
        assert words in page.text, (words, page.text)
    classes = [a.get("class") for tag, a in page.tags if tag in ("rect", "line")]
    assert classes.count("silence") == 1 and classes.count("gap") == 1
    assert classes.count("sent") > 10


def test_what_only_a_shell_can_do_stands_where_one_looks_for_it(
    site: tuple[Spool, list[Receipt]], client: FlaskClient
) -> None:
    """Copied as it stands, it names this device or image, whatever it is called."""
    image = site[1][0].id
    wanted = {
        f"/devices/{CAMERA}": [
            ["headgate", "reupload", "--device", "Küche <1>", "--dry-run"],
            ["headgate", "purge", "--device", "Küche <1>", "--reason", "REASON", "--dry-run"],
        ],
        f"/images/{image}/view": [["headgate", "purge", "--image", image, "--reason", "REASON"]],
    }
    for address, commands in wanted.items():
        text = client.get(address, headers=HTML).text
        blocks = re.findall(r'<pre class="typed" tabindex="0"><code>(.*?)</code></pre>', text)
        assert [shlex.split(unescape(block)) for block in blocks] == commands
        if address.startswith("/devices/"):
            (line,) = re.findall(r"<code>headgate (device gaps .*?)</code>", text)
            assert shlex.split(unescape(line))[-2:] == ["--", "Küche <1>"]  # or "-x" is an option
        for _, word, *more in commands:
            command = headgate.get_command(click.Context(headgate), word)
            assert command is not None
            flags = {flag for param in command.params for flag in param.opts}
            assert {one for one in more if one.startswith("--")} <= flags


def test_pictures_are_for_people(site: tuple[Spool, list[Receipt]], client: FlaskClient) -> None:
    spool, sent = site
    (token,) = spool.site.devices.add(["cam-2"], spool.now(), urgent=False)
    for address in (
        f"/devices/{CAMERA}", f"/images/{sent[0].id}/view", f"/images/{sent[0].id}/original",
        f"/images/{sent[0].id}/thumbnail",
    ):  # fmt: skip
        for headers in (basic("cam-2", token.secret), {}):
            answer = client.get(address, headers=headers, environ_overrides=ELSEWHERE)
            assert answer.status_code in (302, 303, 403), (address, answer.status_code)
    assert client.get("/devices/nobody").json["code"] == "no_device"  # type: ignore[index]


def test_an_image_is_shown_with_its_neighbours_and_its_receipt_in_words(
    site: tuple[Spool, list[Receipt]], client: FlaskClient
) -> None:
    sent = site[1]
    for number in (0, 61, len(sent) - 1):
        page = get(client, f"/images/{sent[number].id}/view")
        neighbours = [sent[at].id if 0 <= at < len(sent) else "" for at in (number - 1, number + 1)]
        for rel, ident in zip(("prev", "next"), neighbours, strict=True):
            assert link(page, rel) == (f"/images/{ident}/view" if ident else "")
        state = "It is in bucket as k/" if number == 0 else "It waits to be sent"
        assert state in page.text and sent[number].sha256 in page.text


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = open_spool(tmp_path, spool__keep_free="0B", spool__keep_done="0s", s3__bucket="north",
                        s3__endpoint_url="https://s3.example.net")  # fmt: skip
    yield opened
    opened.close()


POLYGLOT = b"GIF89a/*\0\0*/=1;<svg onload=alert(1)><script>alert(1)</script>"


def test_the_original_is_saved_and_whatever_it_is_nothing_of_it_runs(spool: Spool) -> None:
    with spool.incoming() as incoming:
        incoming.write(POLYGLOT)
        remarks, tags = Remarks(("Its <end> is missing.",)), {"<i>": "</dd>"}
        meta = Metadata(
            incoming.sha256, incoming.size, "image/gif", "<b>.html", tags=tags, remarks=remarks
        )
        image = spool.accept(incoming, "cam-1", meta).receipt
    client = create_app(spool).test_client()
    with client.get(f"/images/{image.id}/original", headers=HTML) as answer:
        assert (answer.status_code, answer.data) == (200, POLYGLOT)
    assert answer.headers["Content-Type"] == "image/gif"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{image.name.file}"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert {"default-src 'none'", "sandbox"} <= set(
        answer.headers["Content-Security-Policy"].split("; ")
    )
    with client.head(f"/images/{image.id}/original") as head:
        assert (head.headers["Content-Length"], head.data) == (str(len(POLYGLOT)), b"")
    view = client.get(f"/images/{image.id}/view")
    assert "<b>.html" in Page(view.text).text and "Its <end> is missing." in Page(view.text).text
    assert "<b>.html" not in view.text and "<script>" not in view.text


def test_downloads_hold_no_more_threads_than_a_few(spool: Spool) -> None:
    image = put(spool, b"image").receipt
    client = create_app(spool).test_client()
    held = [client.get(f"/images/{image.id}/original") for _ in range(originals.AT_ONCE)]
    refused = client.get(f"/images/{image.id}/original")
    assert (refused.status_code, refused.json["code"]) == (503, "downloads_busy")  # type: ignore[index]
    for one in held:
        one.close()
    with client.get(f"/images/{image.id}/original") as again:
        assert again.status_code == 200


def pruned(spool: Spool) -> Receipt:
    image = put(spool, b"image").receipt
    upload_all(spool)
    with spool.hold_drain_lock("a test", 0) as lock:
        Mover(spool, lock).prune(spool.now() + timedelta(days=1))
    return image


def test_what_has_left_the_disk_is_linked_to_where_there_are_credentials(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    image = pruned(spool)
    client = create_app(spool).test_client()
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    answer = client.get(f"/images/{image.id}/original", headers=HTML)
    text = Page(answer.text).text
    assert answer.status_code == 404
    assert f"headgate get {image.id}" in text and "No AWS credentials" in text
    problem = client.get(f"/images/{image.id}/original").json
    assert problem is not None and problem["code"] == "no_original"

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    answer = client.get(f"/images/{image.id}/original", headers=HTML)
    assert answer.status_code == 302, answer.text
    where = answer.headers["Location"]
    assert where.startswith(f"https://s3.example.net/bucket/k/{image.id}.jpg?")
    for part in ("X-Amz-Signature=", "X-Amz-Expires=300", f"{image.id}.jpg", "response-content-"):
        assert part in where, (part, where)
    assert "secret" not in where


def test_what_is_nowhere_says_so(spool: Spool) -> None:
    image = put(spool, b"image").receipt
    spool.files.in_new(image.name).unlink()
    client = create_app(spool).test_client()
    answer = client.get(f"/images/{image.id}/original", headers=HTML)
    assert (answer.status_code, "nor in the bucket" in answer.text) == (404, True)


def test_an_image_set_aside_is_seen_with_the_reason(spool: Spool) -> None:
    image = put(spool, b"image").receipt
    item = spool.catalog.get(image.id)
    assert item is not None
    with spool.hold_drain_lock("a test", 0) as lock:
        Mover(spool, lock).set_aside(item, "AccessDenied <x>", spool.now())
    client = create_app(spool).test_client()
    page = Page(client.get(f"/images/{image.id}/view").text)
    assert "It was set aside and is not sent: AccessDenied <x>." in page.text
    assert ("form", {"method": "post", "action": f"/images/{image.id}/retry"}) in page.tags
    with client.get(f"/images/{image.id}/original") as answer:
        assert answer.data == b"image"


def test_the_arrivals_of_a_device_are_read_from_an_index(tmp_path: Path) -> None:
    """Not from all images: of a million, one device in a thousand has few."""
    for number, migrations in enumerate((catalog_schema.MIGRATIONS, receipts_schema.MIGRATIONS)):
        db = connect(tmp_path / f"{number}.sqlite3", migrations, full=False)
        if number:
            db.execute(receipts_schema.SEARCH_INDEXES)
        for query in (MINUTES, DAYS):
            plan = " ".join(
                str(row[-1]) for row in db.execute(f"EXPLAIN QUERY PLAN {query}", ("cam-1", "2"))
            )
            assert "INDEX images_by_device (device=? AND id>?)" in plan, plan
            assert ("COVERING" in plan) == (query is MINUTES), plan
        db.close()


@pytest.mark.parametrize("range_", Range)
def test_a_timeline_stays_inside_and_counts_what_it_draws(range_: Range) -> None:
    begins = range_.begins(NOW)
    minutes = {begins - timedelta(hours=9): 1, begins: 3, NOW - range_.span / 2: 5}
    drawn = timeline(minutes, [(NOW, 2), (begins - timedelta(days=1), 1)], NOW, range_, 60.0)
    assert (drawn.images, len(drawn.gaps), drawn.most) == (8, 1, 5)
    assert [one.ended for one in drawn.silences] == [True, False]
    for bar in (*drawn.bars, *(one.bar for one in drawn.silences)):
        assert 0 <= bar.x <= bar.x + bar.width <= WIDTH + 0.2
    assert not timeline(minutes, [], NOW, range_, 0.0).silences
    assert not timeline({}, [], NOW, range_, 60.0).bars
