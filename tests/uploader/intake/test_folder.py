"""Pictures out of folders: watched ones and cards, with a real receiver."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from headgate.host import progress
from headgate.host.progress import Silent
from headgate.intake.hand_over import HandedOver, LocalReceiver, Outcome
from headgate.settings.intake import IntakeFolder
from headgate.spool.disk import durable
from headgate.spool.errors import DiskError
from headgate.spool.image.image import Metadata
from headgate.spool.spool import Spool
from tests.support.paths import PHOTOS, ROOT
from tests.support.receiver import Receiver, environment, running
from tests.support.slept_clock import SleptClock
from tests.support.spooling import settings_for
from tests.support.wait import wait_for_exit, wait_until
from uploader.cli.main import headgate
from uploader.intake import folder as intake
from uploader.intake.devices import device_of
from uploader.intake.exif import captured_at
from uploader.intake.folder import REFUSED, Found, Watched, files, hand_over

PHOTO = (PHOTOS / "rocket.jpg").read_bytes()


def picture(number: int) -> bytes:
    return PHOTO + b"\0test %d" % number


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """Every device needs a token: what is on this machine needs none."""
    settings = {"receiver__auth": "token", "receiver__device_rate": "0"}
    with running(tmp_path_factory.mktemp("receiver"), **settings) as found:
        yield found


@pytest.fixture
def spool(receiver: Receiver) -> Iterator[Spool]:
    """The receiver's, open in another program."""
    bind = f"127.0.0.1:{receiver.port}"
    settings = settings_for(
        receiver.spool.parent, spool__path=str(receiver.spool), receiver__bind=bind
    )
    opened = Spool.open(settings, create=False, probe=False)
    yield opened
    opened.close()


class Seconds:
    """A monotonic clock that is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Share:
    """A watched folder, and what was said of it."""

    def __init__(self, path: Path, spool: Spool, rule: str = "") -> None:
        self.path, self.seconds = path, Seconds()
        self.said: list[tuple[str, str, str]] = []
        self.watched = Watched(
            IntakeFolder(path, rule), LocalReceiver(spool), 5.0,
            lambda event, path, why: self.said.append((event, self.relative(path), why)),
            self.seconds,
        )  # fmt: skip

    def put(self, relative: str, data: bytes) -> Path:
        path = self.path / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def relative(self, path: Path) -> str:
        return str(path.relative_to(self.path))

    def look(self, later: float = 0.0) -> int:
        self.seconds.now += later
        return self.watched.look()

    @property
    def left(self) -> set[str]:
        return {str(one.relative_to(self.path)) for one in self.path.rglob("*") if one.is_file()}


@pytest.fixture
def share(tmp_path: Path, spool: Spool) -> Share:
    return Share(tmp_path, spool)


def held(spool: Spool, device: str) -> list[Metadata]:
    found = [one for one in spool.images(None, 1000) if one.device == device]
    paths = [spool.files.in_new(one.name) for one in found]
    return [Metadata.decode(os.getxattr(path, "user.headgate")) for path in paths]


# -- watched


def test_a_file_is_taken_once_it_is_quiet_and_then_removed(share: Share, spool: Spool) -> None:
    path = share.put("cam-w1/2026/a.jpg", picture(1))
    assert (share.look(), share.look(4.9), share.left) == (0, 0, {"cam-w1/2026/a.jpg"})
    path.write_bytes(picture(2))  # somebody wrote to it: it counts from here
    assert (share.look(1.0), share.look(4.9)) == (0, 0)
    assert (share.look(0.2), share.left) == (1, set())
    (meta,) = held(spool, "cam-w1")
    assert (meta.file_name, dict(meta.tags)) == ("a.jpg", {"folder": "cam-w1/2026"})
    assert share.said == [("intake.taken", "cam-w1/2026/a.jpg", "")]


def test_the_same_picture_again_is_removed_and_not_stored_twice(share: Share, spool: Spool) -> None:
    for _ in range(2):
        share.put("cam-w2/a.jpg", picture(3))
        share.look()
        share.look(5.0)
    assert share.left == set() and len(held(spool, "cam-w2")) == 1


def test_what_is_not_whole_waits_and_goes_aside_with_its_reason_in_the_end(
    share: Share, spool: Spool
) -> None:
    share.put("cam-w3/cut.jpg", PHOTO[:5000])
    share.put("cam-w3/text.jpg", b"no picture at all")
    share.look()
    assert share.look(5.0) == 0
    assert share.left == {"cam-w3/cut.jpg", f"{REFUSED}/text.jpg", f"{REFUSED}/text.jpg.txt"}
    assert "is none of" in (share.path / REFUSED / "text.jpg.txt").read_text()
    # The rest of it came: a camera that was slow.
    share.put("cam-w3/cut.jpg", picture(4))
    share.look(1.0)
    assert share.look(5.0) == 1
    share.put("cam-w3/cut.jpg", PHOTO[:5000])
    share.look()
    for _ in range(3):
        share.look(intake.PATIENCE_SECONDS / 3)
    assert share.left == {f"{REFUSED}/{name}{end}" for name in ("text.jpg", "cut.jpg")
                          for end in ("", ".txt")}  # fmt: skip


def test_hidden_and_unfinished_names_links_and_pipes_are_left_alone(
    share: Share, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.jpg"
    secret.write_bytes(picture(5))
    for name in (".hidden.jpg", "a.jpg.part", "b.JPG.TMP", ".folder/c.jpg"):
        share.put(f"cam-w4/{name}", picture(6))
    (share.path / "cam-w4" / "link.jpg").symlink_to(secret)
    (share.path / "cam-w5").symlink_to(secret.parent)
    os.mkfifo(share.path / "cam-w4" / "pipe.jpg")
    before = share.left
    share.look()
    assert (share.look(5.0), share.left, share.said) == (0, before, [])
    assert secret.exists()


def test_a_link_that_takes_a_files_place_is_neither_read_nor_followed(
    share: Share, spool: Spool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.jpg"
    secret.write_bytes(picture(7))
    path = share.put("cam-w6/a.jpg", picture(8))
    (found,) = files(share.path)
    path.unlink()
    path.symlink_to(secret)
    assert hand_over(found, "cam-w6", LocalReceiver(spool)) is None
    assert held(spool, "cam-w6") == [] and secret.exists()


def test_what_cannot_be_removed_is_not_handed_over_again_and_again(
    share: Share, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = intake.hand_over

    def counted(found: Found, device: str, receiver: LocalReceiver) -> HandedOver | None:
        asked.append(found.relative)
        return real(found, device, receiver)

    def refuse(_path: Path) -> bool:
        raise DiskError(PermissionError(13, "Permission denied"), "removing a.jpg")

    monkeypatch.setattr(intake, "hand_over", counted)
    monkeypatch.setattr(durable, "remove", refuse)
    share.put("cam-w8/a.jpg", picture(12))
    share.look()
    for _ in range(5):
        share.look(5.0)
    assert (asked, share.left) == (["cam-w8/a.jpg"], {"cam-w8/a.jpg"})
    assert [event for event, _, _ in share.said] == ["intake.stuck"]
    monkeypatch.undo()
    share.look(intake.PATIENCE_SECONDS)
    assert share.left == set() and len(held(spool, "cam-w8")) == 1


def test_a_refused_folder_that_is_a_link_is_not_followed(
    share: Share, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (share.path / REFUSED).symlink_to(elsewhere)
    share.put("stray.jpg", picture(13))
    share.look()
    share.look(5.0)
    assert list(elsewhere.iterdir()) == [] and (share.path / "stray.jpg").exists()
    assert [event for event, _, _ in share.said] == ["intake.stuck"]


def test_what_takes_a_files_place_while_it_is_handed_over_is_not_removed(
    share: Share, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = intake.hand_over
    path = share.put("cam-w12/a.jpg", picture(17))

    def replaced(found: Found, device: str, receiver: LocalReceiver) -> HandedOver | None:
        said = real(found, device, receiver)
        monkeypatch.setattr(intake, "hand_over", real)
        new = share.put(".new", picture(18))
        new.replace(path)
        return said

    share.look()
    monkeypatch.setattr(intake, "hand_over", replaced)
    assert share.look(5.0) == 1
    assert path.read_bytes() == picture(18)
    share.look()
    assert share.look(5.0) == 1
    assert share.left == set() and len(held(spool, "cam-w12")) == 2


def test_a_folder_that_cannot_be_read_is_told_of_once(
    share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    share.put("cam-w9/a.jpg", picture(14))
    share.put("cam-w10/a.jpg", picture(15))
    real = os.open

    def refuse(path: str | Path, *how: int, **more: int | None) -> int:
        if path == "cam-w9":
            raise PermissionError(13, "Permission denied", path)
        return real(path, *how, **more)

    monkeypatch.setattr(os, "open", refuse)
    for _ in range(3):
        share.look(5.0)
    assert share.left == {"cam-w9/a.jpg"}  # the others go on
    why = "[Errno 13] Permission denied: 'cam-w9'"
    assert [one for one in share.said if one[0] == "intake.unreadable"] == [
        ("intake.unreadable", ".", why)
    ]


def test_a_share_that_goes_away_is_told_of_and_taken_up_again(share: Share) -> None:
    away = share.path.with_name("away")
    share.path.rename(away)
    for _ in range(3):
        share.look()
    assert [event for event, _, _ in share.said] == ["intake.unreadable"]
    away.rename(share.path)
    share.put("cam-w11/a.jpg", picture(16))
    share.look()
    assert share.look(5.0) == 1


def test_a_file_of_no_known_device_goes_aside(share: Share) -> None:
    share.put("stray.jpg", picture(9))
    share.look()
    share.look(5.0)
    assert share.said == [
        ("intake.refused", "stray.jpg", "no device is known by the file's name or folder")
    ]


def test_while_the_receiver_takes_nothing_all_of_it_waits(tmp_path: Path) -> None:
    with running(tmp_path, spool__keep_free="1000TB") as full:
        bind = f"127.0.0.1:{full.port}"
        settings = settings_for(tmp_path, spool__path=str(full.spool), receiver__bind=bind)
        opened = Spool.open(settings, create=False, probe=False)
        try:
            share = Share(tmp_path / "share", opened)
            share.put("cam-1/a.jpg", picture(10))
            share.look()
            assert share.look(5.0) == 0 and share.left == {"cam-1/a.jpg"}
            assert [event for event, _, _ in share.said] == ["intake.waits"]
            assert share.look() == 0 and len(share.said) == 1  # it is not asked before its time
            full.stop()
            share.look(100_000.0)
            assert share.left == {"cam-1/a.jpg"}
            assert "does not answer" in share.said[-1][2]
        finally:
            opened.close()


@pytest.mark.parametrize(
    ("rule", "relative", "device"),
    [
        ("", "cam-7/a.jpg", "cam-7"),
        ("", "cam-7/2026/a.jpg", "cam-7"),
        ("", "a.jpg", None),
        ("", "-x/a.jpg", None),
        ("cam-9", "any/where.jpg", "cam-9"),
        ("{device}_*.jpg", "x/cam-7_1.jpg", "cam-7"),
        ("{device}_*.jpg", "cam_7_1_2.jpg", "cam"),
        ("{device}_*.jpg", "cam-7.jpg", None),
        ("*/{device}/*", "a/cam-7/b.jpg", "cam-7"),
        ("*/{device}/*", "a/b/cam-7/b.jpg", None),
        ("{device}.jp?", "cam.1.jpg", "cam.1"),
        ("({device})*", "(cam)+.jpg", "cam"),
    ],
)
def test_the_device_follows_from_a_rule(rule: str, relative: str, device: str | None) -> None:
    assert device_of(rule, relative) == device


def test_the_service_takes_what_comes_until_it_is_told_to_stop(
    tmp_path: Path, receiver: Receiver, spool: Spool
) -> None:
    path = tmp_path / "cam-w7" / "a.jpg"
    path.parent.mkdir()
    log = tmp_path / "log"
    sets = {"spool.path": str(receiver.spool), "receiver.bind": f"127.0.0.1:{receiver.port}",
            "intake.folders": str(tmp_path), "intake.quiet": "1s"}  # fmt: skip
    flags = [word for name, value in sets.items() for word in ("--set", f"{name}={value}")]
    start = "from uploader.cli.main import main; main()"
    with log.open("wb") as out:
        program = subprocess.Popen(
            [sys.executable, "-c", start, *flags, "intake"], cwd=ROOT, env=environment(),
            stdout=out, stderr=out,
        )  # fmt: skip
    wait_until(lambda: "intake.started" in log.read_text(), "it watches", process=program,
               detail=log.read_text)  # fmt: skip
    part = path.with_suffix(".part")
    part.write_bytes(picture(11))
    part.replace(path)
    wait_until(lambda: not path.exists(), "it is taken", process=program, detail=log.read_text)
    assert len(held(spool, "cam-w7")) == 1
    program.terminate()
    wait_for_exit(program, "it stops")
    assert program.returncode == 0, log.read_text()


# -- a card


def run(receiver: Receiver, *words: str, code: int = 0) -> str:
    flags = ["--set", f"spool.path={receiver.spool}",
             "--set", f"receiver.bind=127.0.0.1:{receiver.port}"]  # fmt: skip
    ran = CliRunner().invoke(headgate, [*flags, "import", *words])
    assert ran.exit_code == code, ran.output
    return ran.output


def test_a_card_is_imported_once_and_can_be_gone_on_with(
    tmp_path: Path, receiver: Receiver, spool: Spool
) -> None:
    for number in range(3):
        (tmp_path / f"IMG_{number}.JPG").write_bytes(picture(100 + number))
    said = json.loads(run(receiver, str(tmp_path), "--device", "cam-c1", "--json"))
    assert said == {"taken": 3, "held": 0, "failed": []}
    (tmp_path / "IMG_3.JPG").write_bytes(picture(103))
    assert "1 taken, 3 held already, 0 not taken" in run(
        receiver, str(tmp_path), "--device", "cam-c1"
    )
    assert len(held(spool, "cam-c1")) == 4 and len(list(tmp_path.iterdir())) == 4


def test_another_devices_same_picture_is_its_own(
    tmp_path: Path, receiver: Receiver, spool: Spool
) -> None:
    (tmp_path / "a.jpg").write_bytes(picture(110))
    for device in ("cam-c2", "cam-c3"):
        assert json.loads(run(receiver, str(tmp_path), "--device", device, "--json"))["taken"] == 1
    assert [len(held(spool, device)) for device in ("cam-c2", "cam-c3")] == [1, 1]


def test_what_is_not_taken_is_named_with_its_reason(tmp_path: Path, receiver: Receiver) -> None:
    (tmp_path / "cam-c4").mkdir()
    (tmp_path / "cam-c4" / "good.jpg").write_bytes(picture(120))
    (tmp_path / "cam-c4" / "cut.jpg").write_bytes(PHOTO[:5000])
    (tmp_path / "stray.jpg").write_bytes(picture(121))
    said = json.loads(run(receiver, str(tmp_path), "--json", code=1))
    assert (said["taken"], said["held"]) == (1, 0)
    reasons = {one["file"]: one["reason"] for one in said["failed"]}
    assert set(reasons) == {"cam-c4/cut.jpg", "stray.jpg"}
    assert "--device" in reasons["stray.jpg"]


def test_wrong_uses_are_told_in_a_sentence(tmp_path: Path, receiver: Receiver) -> None:
    assert "no folder" in run(receiver, str(tmp_path / "none"), code=2)
    assert "neither" in run(receiver, str(tmp_path), "--device", "a b", code=2)


def test_without_a_receiver_it_ends_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uploader.cli.commands import import_files

    said_meanwhile: list[str] = []

    class Shown(Silent):
        def waits(self, why: str) -> None:
            said_meanwhile.append(why)

    monkeypatch.setattr(progress, "SILENT", Shown())
    monkeypatch.setattr(import_files, "PATIENCE_SECONDS", 10.0)
    monkeypatch.setattr("uploader.cli.commands.import_files.time", SleptClock())
    with running(tmp_path) as stopped:
        pass
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "a.jpg").write_bytes(picture(130))
    said = run(stopped, str(tmp_path / "card"), "--device", "cam", code=1)
    assert "does not answer" in said and "go on" in said
    assert said_meanwhile and all("does not answer" in why for why in said_meanwhile)
    said = run(stopped, str(tmp_path / "card"), "--device", "cam", "--json", code=1)
    assert '"file": "a.jpg"' in said and "1 not taken" not in said


# -- the time of capture


def exif(**tags: str) -> io.BytesIO:
    made, found = io.BytesIO(), Image.Exif()
    numbers = {"original": 0x9003, "digitized": 0x9004, "zone": 0x9011}
    inner = found.get_ifd(0x8769)
    for word, value in tags.items():
        inner[numbers[word]] = value
    Image.new("RGB", (8, 8)).save(made, "JPEG", exif=found)
    made.seek(0)
    return made


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"original": "2026:11:23 16:04:05"}, "2026-11-23T16:04:05"),
        ({"original": "2026:11:23 16:04:05", "zone": "+01:00"}, "2026-11-23T16:04:05+01:00"),
        ({"original": "2026:11:23 16:04:05", "zone": "CET"}, "2026-11-23T16:04:05"),
        ({"digitized": "2026:11:23 16:04:05"}, "2026-11-23T16:04:05"),
        ({"original": "0000:00:00 00:00:00"}, ""),
        ({"original": "1970:01:01 00:00:00"}, ""),
        ({}, ""),
    ],
)
def test_the_time_of_capture_is_what_the_camera_wrote(tags: dict[str, str], expected: str) -> None:
    assert captured_at(exif(**tags)) == expected


@pytest.mark.parametrize("data", [b"", b"no picture", PHOTO[:700], b"II*\0\xff\xff\xff\xff" * 9])
def test_whatever_a_file_holds_its_time_is_no_error(data: bytes) -> None:
    assert captured_at(io.BytesIO(data)) == ""


def test_an_import_brings_the_time_of_capture(
    tmp_path: Path, receiver: Receiver, spool: Spool
) -> None:
    (tmp_path / "a.jpg").write_bytes(exif(original="2026:11:23 16:04:05").read())
    run(receiver, str(tmp_path), "--device", "cam-c5")
    (meta,) = held(spool, "cam-c5")
    assert meta.captured_at == "2026-11-23T16:04:05"


# -- who may hand over


def test_the_key_is_worth_a_device_name_and_nothing_that_a_proxy_passes_on(
    receiver: Receiver, spool: Spool
) -> None:
    spool.site.devices.add(["cam-k1"], datetime.now(UTC), urgent=False)
    key = {"Authorization": f"Bearer {spool.site.get('local_key')}"}
    taken = receiver.post_raw(picture(200), X_Device="cam-k1", **key)
    assert (taken.status, taken.json["device"]) == (201, "cam-k1")
    passed_on = receiver.post_raw(picture(202), X_Device="cam-k1", X_Forwarded_For="1.2.3.4", **key)
    assert passed_on.status == 401
    wrong = receiver.post_raw(picture(203), X_Device="cam-k1", Authorization="Bearer none")
    assert wrong.status == 401


def test_a_restart_makes_a_new_key_and_what_hands_over_learns_it(tmp_path: Path) -> None:
    own = tmp_path
    receiver = Receiver(own).start()
    try:
        bind = f"127.0.0.1:{receiver.port}"
        settings = settings_for(own, spool__path=str(receiver.spool), receiver__bind=bind)
        opened = Spool.open(settings, create=False, probe=False)
        try:
            first = opened.site.get("local_key")
            receiver.stop()
            receiver.flags["receiver.bind"] = bind
            receiver.start()
            assert opened.site.get("local_key") not in (None, first)
            (own / "cam-1").mkdir()
            (own / "cam-1" / "a.jpg").write_bytes(picture(210))
            (found,) = [one for one in files(own) if one.name == "a.jpg"]
            said = hand_over(found, "cam-1", LocalReceiver(opened))
            assert said is not None and said.outcome is Outcome.TAKEN
        finally:
            opened.close()
    finally:
        receiver.stop()
