"""The page that finds images: the filters of ``headgate find``, page by page, without a script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from flask.testing import FlaskClient

from app import create_app
from headgate.spool.spool import Spool
from tests.support.page import Page
from tests.support.spooling import put, settings_for

COUNT = 53  # more than a page


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spool]:
    settings = settings_for(tmp_path_factory.mktemp("site"))
    with closing(Spool.open(settings)) as opened:
        for number in range(COUNT):
            put(opened, bytes([number]) * 50, "cam-a", sequence=number, tags={"site": "north"})
        put(opened, b"other", "cam-b")
        yield opened


@pytest.fixture(scope="module")
def client(spool: Spool) -> FlaskClient:
    return create_app(spool).test_client()


def rows(client: FlaskClient, query: str) -> tuple[int, Page]:
    answer = client.get(f"/find?{query}", headers={"Accept": "text/html"})
    assert answer.status_code == 200, answer.text
    page = Page(answer.text)
    return sum(tag == "tr" for tag, _ in page.tags) - any(t == "thead" for t, _ in page.tags), page


def test_each_filter_finds_what_the_command_finds(client: FlaskClient) -> None:
    for query, count in (
        ("device=cam-b", 1),
        ("sequence=17-40&device=cam-a", 24),
        ("tag=site%3Dsouth", 0),
        ("tag=site%3Dnorth,site&sequence=3", 1),
        ("state=set_aside", 0),
        ("since=1h&until=now&device=cam-b", 1),
        ("until=2000-01-01", 0),
        ("by=capture", 0),
    ):
        found, page = rows(client, query)
        assert found == count, query
        assert ("No image matches" in page.text) == (count == 0)


def test_its_pages_reach_every_image_once_and_keep_the_filters(client: FlaskClient) -> None:
    found, first = rows(client, "device=cam-a")
    assert found == 50
    (older,) = [a["href"] for tag, a in first.tags if a.get("rel") == "next"]
    assert older is not None and "device=cam-a" in older
    rest, last = rows(client, older.partition("?")[2].partition("#")[0])
    assert rest == COUNT - 50 and not [a for _, a in last.tags if a.get("rel") == "next"]
    assert any(a.get("value") == "cam-a" for _, a in last.tags)


@pytest.mark.parametrize("query", ["since=soon", "sequence=40-17", "sequence=%C2%B2", "state=no"])
def test_a_field_that_cannot_be_read_is_named_and_kept(client: FlaskClient, query: str) -> None:
    found, page = rows(client, query)
    name, _, text = query.partition("=")
    assert found == 0 and f"{name.capitalize()}: " in page.text
    assert "No image matches" not in page.text
    if name == "since":
        assert any(a.get("value") == text and a.get("aria-invalid") for _, a in page.tags)
