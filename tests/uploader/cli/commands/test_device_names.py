"""Corrections of devices: gaps, labels, names, and devices that are gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headgate.actions import device_names, holds
from headgate.spool.catalog import corrections
from headgate.spool.image.image import State
from headgate.spool.site.audit import TERMINAL, Actor
from headgate.spool.site.labels import Label
from headgate.spool.spool import Spool
from tests.support.spooling import Clock, open_spool, put
from uploader.cli.main import headgate

BY = Actor("anna", TERMINAL)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = open_spool(tmp_path, Clock())
    yield opened
    opened.close()


def call(spool: Spool, *words: str, code: int = 0) -> Result:
    ran = CliRunner().invoke(headgate, ["--set", f"spool.path={spool.path}", "device", *words])
    assert ran.exit_code == code, ran.output
    return ran


def send(spool: Spool, *numbers: int, salt: str = "") -> None:
    for number in numbers:
        put(spool, f"{number}{salt}".encode(), "cam-7", sequence=number)


def missing(spool: Spool) -> tuple[tuple[int, int], ...]:
    found = spool.catalog.gaps("cam-7", 100)
    assert found is not None
    return found.gaps


def test_gaps_are_listed_and_closed_and_stay_closed(spool: Spool) -> None:
    send(spool, 10, 12, 15, 20, 30)
    assert call(spool, "gaps", "cam-7").stdout.split() == ["11", "13-14", "16-19", "21-29"]
    assert "7 missing numbers accepted" in call(spool, "gaps", "cam-7", "--accept", "13-21").stdout
    assert missing(spool) == ((11, 11), (22, 29))
    send(spool, 17)  # it comes after all, and begins no new series
    assert missing(spool) == ((11, 11), (22, 29))
    fields = json.loads(call(spool, "gaps", "cam-7", "--accept", "0-99", "--json").stdout)
    assert (fields["accepted"], fields["missing"], fields["gaps"]) == (9, 0, [])
    send(spool, 31, 33)
    assert missing(spool) == ((32, 32),)
    call(spool, "gaps", "cam-8", code=1)


def test_numbers_of_a_new_series_are_new_numbers(spool: Spool) -> None:
    send(spool, 1, 5)
    device_names.accept_gaps(spool, BY, "cam-7", 2, 4)
    send(spool, 1, salt="after a reset")
    send(spool, 2, 3, 6, salt="after a reset")
    assert missing(spool) == ((4, 5),)


def test_a_device_that_only_sent_is_renamed_with_its_statistics(spool: Spool) -> None:
    send(spool, 1, 3)
    call(spool, "label", "cam-7", "Front door")
    call(spool, "group", "cam-7", "north")
    holds.hold(spool, BY, "cam-7")
    call(spool, "rename", "cam-7", "cam-07")
    assert spool.site.labels.all() == {"cam-07": Label("Front door", "north")}
    gaps = spool.catalog.gaps("cam-07", 10)
    assert gaps is not None and gaps.gaps == ((2, 2),)
    assert spool.catalog.arrivals_of("cam-7") is None
    new = put(spool, b"new", "cam-07").receipt
    receipt = spool.receipt(new.id)
    assert receipt is not None and receipt.state is State.HELD
    call(spool, "rename", "cam-7", "cam-8", code=1)
    put(spool, b"other", "cam-9")
    assert "is another device" in call(spool, "rename", "cam-07", "cam-9", code=1).stderr
    call(spool, "rename", "cam-07", "a b", code=2)


def test_tokens_keep_their_right_under_the_new_name(spool: Spool) -> None:
    (token,) = spool.site.devices.add(["cam-7"], spool.now(), urgent=True)
    device_names.change_name(spool, BY, "cam-7", "cam-07")
    found = spool.site.devices.authenticate(token.secret, spool.now())
    assert found is not None and (found.device, found.urgent) == ("cam-07", True)
    spool.site.devices.add(["door"], spool.now(), digest=True)
    assert "device add" in call(spool, "rename", "door", "door-1", code=1).stderr


def test_a_rename_that_was_killed_is_finished_by_the_next(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_told: object) -> None:
        raise Killed

    spool.site.devices.add(["cam-7"], spool.now())
    send(spool, 1, 3)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(corrections.Corrections, "rename_device", killed)
        device_names.change_name(spool, BY, "cam-7", "cam-07")
    device_names.change_name(spool, BY, "cam-7", "cam-07")
    assert [one.name for one in spool.site.devices.all(spool.now())] == ["cam-07"]
    assert [one.device for one in spool.catalog.arrivals()] == ["cam-07"]


def test_a_removed_device_leaves_its_images_and_nothing_else(spool: Spool) -> None:
    (token,) = spool.site.devices.add(["cam-7"], spool.now())
    send(spool, 1, 3)
    device_names.label(spool, BY, "cam-7", text="Front door")
    call(spool, "remove", "cam-7")
    assert spool.site.devices.authenticate(token.secret, spool.now()) is None
    assert json.loads(call(spool, "list", "--json").stdout) == []
    assert spool.inventory().waiting.images == 2 and spool.inventory().unaccounted == 0
    send(spool, 4)
    assert [one.images for one in spool.catalog.arrivals()] == [1]
    call(spool, "remove", "cam-99", code=1)
    assert len(spool.site.audit.entries(since=spool.now() - timedelta(days=1))) == 2
