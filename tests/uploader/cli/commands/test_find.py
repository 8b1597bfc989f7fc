"""``headgate find``: what it prints for people and programs, and how it reads times."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result

from headgate.settings.instants import read_instant
from headgate.settings.units import UnitError
from headgate.spool.spool import Spool
from tests.support.spooling import Clock, open_spool, put, upload_all
from uploader.cli.main import headgate

NOW = datetime(2026, 11, 23, 16, 4, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spool]:
    opened = open_spool(tmp_path_factory.mktemp("spool"), Clock())
    for number in range(3):
        put(
            opened, str(number).encode(), sequence=number + 17,
            captured_at=f"2026-11-2{number}T10:00:00Z", tags={"site": "north"},
        )  # fmt: skip
    upload_all(opened)
    put(opened, b"other", "cam-2")
    yield opened
    opened.close()


def call(spool: Spool, *words: str) -> Result:
    return CliRunner().invoke(headgate, ["--set", f"spool.path={spool.path}", *words])


def test_a_page_is_a_table_with_a_header_and_says_how_to_go_on(spool: Spool) -> None:
    first = call(spool, "find", "--limit", "3")
    head, *rows = first.stdout.splitlines()
    assert head.split() == ["IMAGE", "STATE", "SIZE", "CAPTURED", "SEQUENCE", "KEY", "OR", "REASON"]
    assert [row.split()[1] for row in rows] == ["waiting", "uploaded", "uploaded"]
    assert rows[1].split()[4:6] == ["2026-11-22T10:00:00Z", "19"]
    more = first.stderr.removeprefix("There are more: add ").split()
    second = call(spool, "list", "--limit", "3", *more)  # the same command
    assert [row.split()[5] for row in second.stdout.splitlines()[1:]] == ["17"]
    assert second.stderr == ""


def test_programs_get_every_field_with_times_as_rfc_3339_has_them(spool: Spool) -> None:
    words = ("find", "--device", "cam-1", "--sequence", "18", "--tag", "site=north")
    (found,) = json.loads(call(spool, *words, "--json").stdout)
    assert found["captured_at"] == "2026-11-21T10:00:00Z"
    assert found["received_at"].endswith("Z") and "T" in found["received_at"]
    assert found["tags"] == {"site": "north"} and found["safe_to_erase"] is True
    (row,) = csv.DictReader(io.StringIO(call(spool, *words, "--csv").stdout))
    for name, value in row.items():
        known = found[name]
        assert value in ("", known, str(known), str(known).lower(), json.dumps(known)), name


def test_a_search_by_capture_goes_on_where_it_was(spool: Spool) -> None:
    words = ("find", "--by", "capture", "--since", "2026-11-20", "--until", "2026-11-22")
    seen = [int(row.split()[5]) for row in call(spool, *words).stdout.splitlines()[1:]]
    assert seen == [19, 18, 17]
    page = call(spool, *words, "--limit", "1").stderr.split()
    assert call(spool, *words, *page[-2:]).stdout.splitlines()[1].split()[5] == "18"
    wrong = call(spool, *words, "--cursor", "nothing")
    assert wrong.exit_code == 1 and "begin at the first page" in wrong.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--since", "soon"),
        ("--sequence", "x"),
        ("--sequence", "9-3"),
        ("--sequence", "1-"),
        ("--csv", "--json"),
        ("--state", "there"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_refused(spool: Spool, words: tuple[str, ...]) -> None:
    assert call(spool, "find", *words).exit_code == 2


def test_times_are_read_as_people_write_them() -> None:
    local = NOW.astimezone()
    midnight = datetime(local.year, local.month, local.day).astimezone()
    day = timedelta(days=1)
    assert read_instant("now", NOW) == NOW
    assert read_instant("2h", NOW) == NOW - timedelta(hours=2)
    assert read_instant("2026-11-23T16:04:05Z", NOW) == NOW
    assert read_instant("2026-11-23T17:04:05+01:00", NOW) == NOW
    assert read_instant(f"{local:%Y-%m-%d %H:%M:%S}", NOW) == NOW
    for word, ago in (("today", 0), ("yesterday", 1), (f"{local:%Y-%m-%d}", 0)):
        at = datetime(local.year, local.month, local.day - ago).astimezone()
        assert read_instant(word, NOW) == at
        assert read_instant(word, NOW, end=True) == at + day, "the day is meant with its end"
    assert read_instant("today", NOW) == midnight
    for text in ("", "soon", "2026-13-01", "2", "1e9d", "99999999999d"):
        with pytest.raises(UnitError, match="write it like"):
            read_instant(text, NOW)
