"""Tokens: whose they are, until when, and what is kept of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headgate.spool import sqlite
from headgate.spool.site.devices import Devices, DeviceTrouble
from headgate.spool.site.site import MIGRATIONS, Site

NOW = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "site.sqlite3"


@pytest.fixture
def devices(path: Path) -> Iterator[Devices]:
    site = Site(path)
    yield site.devices
    site.close()


def test_a_token_is_its_devices(devices: Devices) -> None:
    first, second = devices.add(["cam-1", "cam-2"], NOW)
    assert (first.device, second.device) == ("cam-1", "cam-2")
    assert first.secret != second.secret
    found = devices.authenticate(first.secret, NOW)
    assert found is not None
    assert (found.device, found.urgent) == ("cam-1", False)
    for wrong in ("", "x", first.secret[:-1], first.secret + " ", first.secret.upper(), "ü\udc80"):
        assert devices.authenticate(wrong, NOW) is None


def test_the_right_to_mark_urgent_is_the_tokens(devices: Devices) -> None:
    (token,) = devices.add(["cam-1"], NOW, urgent=True)
    found = devices.authenticate(token.secret, NOW)
    assert found is not None
    assert found.urgent is True


def test_tokens_are_long_and_nothing_on_disk_gives_them_away(devices: Devices, path: Path) -> None:
    made = devices.add([f"cam-{n}" for n in range(20)], NOW)
    assert len({token.secret for token in made}) == 20
    for token in made:
        assert len(token.secret) >= 46  # "hg_" and 256 bits in base64
    for file in path.parent.iterdir():
        data = file.read_bytes()
        assert not any(token.secret[3:].encode() in data for token in made)


def test_all_or_none(devices: Devices) -> None:
    devices.add(["cam-1"], NOW)
    for wanted in (["cam-2", "cam-1"], ["cam-2", "../x"], ["cam-2", ""], ["cam-2", "cam-2"]):
        with pytest.raises(DeviceTrouble):
            devices.add(wanted, NOW)
    for change in (lambda: devices.rotate(["cam-1", "nobody"], NOW, DAY),
                   lambda: devices.revoke(["cam-1", "nobody"], NOW)):  # fmt: skip
        with pytest.raises(DeviceTrouble, match="nobody: not enrolled"):
            change()
    assert [(one.name, one.tokens, one.revoked_at) for one in devices.all(NOW)] == [
        ("cam-1", 1, None)
    ]


def test_what_is_enrolled_already_is_named(devices: Devices) -> None:
    devices.add(["a", "b", "c", "d", "e", "f", "g"], NOW)
    with pytest.raises(DeviceTrouble, match="a, b, c, d, e and 2 more: enrolled already"):
        devices.add(["a", "b", "c", "d", "e", "f", "g", "h"], NOW)


def test_both_tokens_are_good_while_they_overlap(devices: Devices) -> None:
    (old,) = devices.add(["cam-1"], NOW, urgent=True)
    (new,) = devices.rotate(["cam-1"], NOW, DAY)
    for when, good in ((NOW, True), (NOW + DAY - timedelta(seconds=1), True), (NOW + DAY, False)):
        assert (devices.authenticate(old.secret, when) is not None) is good
        credential = devices.authenticate(new.secret, when)
        assert credential is not None
        assert credential.urgent is True
    assert devices.all(NOW)[0].tokens == 2
    assert devices.all(NOW + DAY)[0].tokens == 1


def test_a_second_rotation_gives_the_oldest_no_more_time(devices: Devices) -> None:
    (old,) = devices.add(["cam-1"], NOW)
    devices.rotate(["cam-1"], NOW, timedelta(hours=1))
    devices.rotate(["cam-1"], NOW, DAY)
    assert devices.authenticate(old.secret, NOW + timedelta(hours=2)) is None


def test_no_overlap_ends_it_at_once(devices: Devices) -> None:
    (old,) = devices.add(["cam-1"], NOW)
    devices.rotate(["cam-1"], NOW, timedelta())
    assert devices.authenticate(old.secret, NOW) is None


def test_revoked_at_once_in_every_program(devices: Devices, path: Path) -> None:
    (old,) = devices.add(["cam-1"], NOW)
    (new,) = devices.rotate(["cam-1"], NOW, DAY)
    other = Site(path)
    other.devices.revoke(["cam-1"], NOW)
    other.close()
    assert devices.authenticate(old.secret, NOW) is None
    assert devices.authenticate(new.secret, NOW) is None
    (known,) = devices.all(NOW)
    assert (known.tokens, known.revoked_at) == (0, NOW)
    with pytest.raises(DeviceTrouble):
        devices.rotate(["cam-1"], NOW, DAY)
    (again,) = devices.add(["cam-1"], NOW)
    assert devices.authenticate(again.secret, NOW) is not None
    assert devices.authenticate(old.secret, NOW) is None
    assert devices.all(NOW)[0].revoked_at is None


def test_a_site_of_the_first_schema_gets_the_tables(path: Path) -> None:
    old = sqlite.raw(path)
    old.execute(MIGRATIONS[0])
    old.execute("PRAGMA user_version = 1")
    old.execute("INSERT INTO memory VALUES ('clock', '1')")
    old.close()
    site = Site(path)
    assert site.get("clock") == 1
    assert len(site.devices.add(["cam-1"], NOW)) == 1
    site.close()
