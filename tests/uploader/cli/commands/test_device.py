"""``headgate device``: enrolling a fleet, listing it, changing and ending tokens."""

from __future__ import annotations

import csv
import json
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headgate.spool.catalog.device_stats import ClockReading
from headgate.spool.image.image import Metadata
from headgate.spool.spool import Spool
from tests.support.spooling import open_spool
from uploader.cli.commands.device import expanded
from uploader.cli.main import headgate


@pytest.fixture
def spool(tmp_path: Path, alone: None) -> Iterator[Spool]:
    opened = open_spool(tmp_path)
    yield opened
    opened.close()


def call(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(headgate, ("device", *arguments), prog_name="headgate")
    assert result.exit_code == code, result.output
    return result


def device_of(spool: Spool, token: str) -> str:
    found = spool.site.devices.authenticate(token, datetime.now(UTC))
    return "" if found is None else found.device


def test_a_fleet_in_one_command(spool: Spool, tmp_path: Path) -> None:
    out = tmp_path / "tokens.csv"
    ran = call("add", "cam-{001..200}", "gate", "--out", str(out))
    assert "201 tokens" in ran.stderr
    assert "hg_" not in ran.output
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["device"] for row in rows] == [f"cam-{n:03}" for n in range(1, 201)] + ["gate"]
    assert all(device_of(spool, row["token"]) == row["device"] for row in rows)


def test_without_a_file_the_tokens_are_printed(spool: Spool) -> None:
    lines = call("add", "cam-1").stdout.splitlines()
    assert lines[0] == "device,token"
    name, token = lines[1].split(",")
    assert device_of(spool, token) == name == "cam-1"
    (made,) = json.loads(call("add", "cam-2", "--json").stdout)
    assert device_of(spool, made["token"]) == made["device"] == "cam-2"


def test_what_cannot_be_enrolled_leaves_no_file_and_nobody(spool: Spool, tmp_path: Path) -> None:
    call("add", "cam-1")
    out = tmp_path / "tokens.csv"
    for names, why in ((("cam-0", "cam-1"), "enrolled already"), (("cam-0", "a/b"), "a device is")):
        ran = call("add", *names, "--out", str(out), code=1)
        assert ran.stderr.startswith("headgate: ")
        assert why in ran.stderr
        assert not out.exists()
    assert [device.name for device in spool.site.devices.all(spool.now())] == ["cam-1"]


def test_a_file_that_is_there_is_not_overwritten(spool: Spool, tmp_path: Path) -> None:
    out = tmp_path / "tokens.csv"
    out.write_text("mine")
    assert "is there already" in call("add", "cam-1", "--out", str(out), code=1).stderr
    missing = tmp_path / "no" / "tokens.csv"
    assert "cannot be made" in call("add", "cam-1", "--out", str(missing), code=1).stderr
    assert out.read_text() == "mine"
    assert spool.site.devices.all(spool.now()) == []


def test_rotate_and_revoke(spool: Spool) -> None:
    old = call("add", "cam-1", "cam-2").stdout.splitlines()[1].split(",")[1]
    new = call("rotate", "cam-1", "--overlap", "1h").stdout.splitlines()[1].split(",")[1]
    assert device_of(spool, old) == device_of(spool, new) == "cam-1"
    later = datetime.now(UTC) + timedelta(hours=2)
    assert spool.site.devices.authenticate(old, later) is None
    assert call("revoke", "cam-1").stdout == "revoked: cam-1\n"
    assert device_of(spool, old) == device_of(spool, new) == ""
    assert "cam-1: not enrolled" in call("rotate", "cam-1", code=1).stderr
    assert "cam-1: not enrolled" in call("revoke", "cam-2", "cam-1", code=1).stderr
    assert json.loads(call("revoke", "cam-2", "--json").stdout) == {"revoked": ["cam-2"]}
    call("rotate", "cam-2", "--overlap", "soon", code=2)


def send(spool: Spool, device: str, number: int, ahead: float | None) -> None:
    with spool.incoming() as incoming:
        incoming.write(b"%d" % number)
        meta = Metadata(incoming.sha256, incoming.size, "image/jpeg", sequence=number)
        clock = None if ahead is None else ClockReading(ahead, exact=True)
        spool.accept(incoming, device, meta, clock)


def test_the_list_says_who_when_how_much_and_what_is_wrong(spool: Spool) -> None:
    call("add", "cam-1", "cam-3")
    call("add", "cam-2", "--urgent")
    call("rotate", "cam-2")
    call("revoke", "cam-3")
    send(spool, "cam-1", 7, 0.2)
    send(spool, "cam-1", 9, -7200.0)
    send(spool, "cam-0", 1, None)
    lines = call("list").stdout.splitlines()
    assert lines[0].split()[:3] == ["DEVICE", "TOKEN", "LAST"]
    rows = {line.split()[0]: line for line in lines[1:]}
    assert list(rows) == ["cam-0", "cam-1", "cam-2", "cam-3"]
    assert " none " in rows["cam-0"]
    assert " valid " in rows["cam-1"]
    assert "2 h behind" in rows["cam-1"]
    assert rows["cam-1"].endswith(" 1")  # the 8 is missing
    assert "urgent x 2" in rows["cam-2"]
    assert "never" in rows["cam-2"]
    assert "revoked" in rows["cam-3"]
    known = {row["device"]: row for row in json.loads(call("list", "--json").stdout)}
    assert known["cam-1"]["seen"]["images"] == 2
    assert known["cam-1"]["seen"]["clock_offset_seconds"] == -7200.0
    assert known["cam-1"]["missing"] == 1
    assert known["cam-0"]["enrolled"] is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("cam", ["cam"]),
        ("c{8..11}", ["c8", "c9", "c10", "c11"]),
        ("c{08..11}x", ["c08x", "c09x", "c10x", "c11x"]),
        ("{1..2}-{1..2}", ["1-1", "1-2", "2-1", "2-2"]),
        ("c{a..b}", ["c{a..b}"]),  # refused as a name
    ],
)
def test_braces_as_the_shell_has_them(name: str, found: list[str]) -> None:
    assert expanded([name]) == found


@pytest.mark.parametrize("name", ["c{9..1}", "c{0..99999999}", "c{1..200}-{1..200}"])
def test_braces_that_ask_for_too_much(name: str) -> None:
    with pytest.raises(SystemExit) as ended:
        expanded([name])
    assert ended.value.code == 2
