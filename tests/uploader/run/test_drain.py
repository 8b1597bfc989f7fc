"""One run, from what waits to the bucket and done/, and every way in which it may end."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dev.s3_local.faults import Act, Fault
from headgate.host.exit_codes import Exit
from headgate.spool.image.image import Metadata, State
from headgate.spool.site.outcome import Outcome
from headgate.spool.upkeep import verify
from headgate.spool.upkeep.mover import Mover
from tests.support.counting_proxy import most_in
from tests.support.gateway import Gateway, counted, slack
from tests.support.spooling import images_below, put
from tests.support.wait import wait_for_exit, wait_until
from tests.support.witness import assert_true
from uploader.cli.commands import drain as drain_command
from uploader.s3.keys import described


def test_what_waits_arrives_and_lies_in_done(gateway: Gateway) -> None:
    images = gateway.fill(40)
    report = gateway.json("drain")
    assert (report["outcome"], report["images"], report["exit_code"]) == ("done", 40, 0)
    assert report["bytes"] == 80_000
    assert report["wire_bytes"] > 80_000  # headers count as well
    gateway.assert_arrived(images)
    assert gateway.json("drain")["outcome"] == "nothing to do"


def test_metadata_in_any_script_survives_to_s3_and_back(gateway: Gateway) -> None:
    for name in ("Küche 1.jpg", "é" * 255, "日本 %41 \u202e.jpg"):
        put(gateway.spool, name.encode(), file_name=name, tags={"raum": "Küche"}, sequence=7)
    gateway.json("drain")
    names = set()
    for key in gateway.objects():
        head = gateway.place.client.head_object(Bucket=gateway.bucket, Key=key)
        said = described({f"x-amz-meta-{k}": v for k, v in head["Metadata"].items()})
        names.add(said.file_name)
        assert (said.tags, said.sequence, said.device) == ({"raum": "Küche"}, 7, "cam-1")
    assert names == {"Küche 1.jpg", "é" * 255, "日本 %41 \u202e.jpg"}


def test_no_second_carries_more_than_the_rate(gateway: Gateway) -> None:
    rate = 5_000_000
    images = gateway.fill(200, 100_000)
    with counted(gateway) as proxy:
        gateway.write(endpoint=proxy.url, uplink={"link": "25MB/s", "share": "20%"})
        report = gateway.json("drain", "--until-empty")
    gateway.assert_arrived(images)
    assert proxy.total == report["wire_bytes"]
    assert most_in(proxy.arrivals, 1.0) <= rate + slack(proxy.connections)


@pytest.mark.slow
def test_killed_runs_keep_the_rate_together(gateway: Gateway) -> None:
    rate = 2_000_000
    images = gateway.fill(60, 50_000)
    with counted(gateway) as proxy:
        gateway.write(endpoint=proxy.url, uplink={"link": "2MB/s", "share": "100%"})
        for _ in range(4):
            run = gateway.start("drain")
            gateway.kill_after(run, random.randrange(1, 8))
        gateway.json("drain", "--until-empty")
    gateway.assert_arrived(images)
    assert most_in(proxy.arrivals, 1.0) <= rate + slack(proxy.connections)


def test_a_killed_run_loses_nothing_and_sends_nothing_twice(gateway: Gateway) -> None:
    images = gateway.fill(150, 20_000)
    gateway.write(uplink={"link": "2MB/s", "share": "100%"})
    for more in (0, random.randrange(1, 20), 0, random.randrange(1, 20)):
        run = gateway.start("drain")
        gateway.kill_after(run, more)
    gateway.write()
    gateway.json("drain", "--until-empty")
    gateway.assert_arrived(images)
    outcomes = {run.outcome for run in gateway.spool.site.runs(20)}
    assert outcomes <= {"killed", "done", "nothing to do"}


IMAGES = int(os.environ.get("HEADGATE_TEST_FAULT_IMAGES", "12"))


def third(act: Act, **more: Any) -> Fault:
    """Every third request."""
    return Fault(act, every=3, **more)


FAULTS = {
    "early 503": Fault(Act.STATUS, last=2),  # the whole run pauses for each
    "late 503": Fault(Act.STATUS_LATE, last=2),
    "early 500": third(Act.STATUS, status=500, code="InternalError"),
    "500 after storing": third(Act.STATUS_STORED, status=500, code="InternalError"),
    "BadDigest of good bytes": third(Act.STATUS_LATE, status=400, code="BadDigest"),
    "reset": third(Act.RESET),
    "reset midway": third(Act.RESET_MIDWAY),
    "reset after storing": third(Act.RESET_STORED),
    "200 without storing": third(Act.UNSTORED),
    "200 with an error": third(Act.ERROR_IN_200),
    "wrong checksum": third(Act.WRONG_CHECKSUM),
    "wrong etag": third(Act.WRONG_ETAG),
    "no checksum": third(Act.NO_CHECKSUM),
    "no proof": third(Act.NO_PROOF),
}


QUICK = {
    "reset after storing",
    "200 without storing",
    "500 after storing",
    "late 503",
    "wrong checksum",
}
"""Of each kind one, for every day; the others in make test-slow, and all of them in CI."""
assert set(FAULTS) > QUICK


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for name, fault in FAULTS.items()
    ],
)
def test_whatever_s3_does_each_image_ends_as_one_object(
    gateway: Gateway, fault: Fault, record_property: Callable[[str, int], None]
) -> None:
    images = gateway.fill(IMAGES)
    gateway.script.replace([fault])
    ran = gateway.call("drain", "--json")
    # Three refusals in a row end a run: by chance, where every third answer is one.
    assert ran.returncode in (Exit.OK, Exit.ERROR), ran.stderr
    first = json.loads(ran.stdout)
    held = images_below(gateway.spool.path)
    assert set(held) == set(images)
    there = {key.rpartition("/")[2].removesuffix(".jpg") for key in gateway.objects()}
    for image, places in held.items():
        receipt = gateway.spool.receipt(image)
        assert receipt is not None
        assert places == (["done"] if receipt.safe_to_erase else ["new"])
        assert image in there or not receipt.safe_to_erase  # none is called uploaded that is not
    assert_true(gateway.spool, gateway.config, images)
    for item in gateway.spool.catalog.after(0, 10 * IMAGES):
        gateway.spool.catalog.put_back(item.id)  # do not wait for the backoff
    gateway.script.replace(())
    second = gateway.json("drain")
    assert first["images"] + second["images"] == IMAGES
    gateway.assert_arrived(images)
    record_property("images", IMAGES)


class Killing:
    """Stands before the server and kills the run at a call that it did not kill one at before."""

    def __init__(self, gateway: Gateway, lose_request: bool) -> None:
        assert gateway.place.strict is not None
        self._server = gateway.place.strict.server
        self._application = self._server.application
        self._lose_request = lose_request
        self.run: subprocess.Popen[str] | None = None
        self.calls: list[tuple[str, str]] = []
        self.stored: list[str] = []

    def __enter__(self) -> Killing:
        self._server.application = self
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.application = self._application

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        call = (environ["REQUEST_METHOD"], environ["RAW_URI"])
        if self.run is None or call[0] not in ("PUT", "HEAD"):
            return self._application(environ, start)
        fresh = call not in self.calls
        self.calls.append(call)
        if fresh and self._lose_request:
            self.run.kill()
            raise ConnectionResetError
        statuses: list[str] = []
        answer = self._application(
            environ, lambda status, headers: (statuses.append(status), start(status, headers))
        )
        if call[0] == "PUT" and statuses[0].startswith("200"):
            self.stored.append(call[1])
        if fresh:
            self.run.kill()
        return answer


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["request", "response"])
def test_a_kill_at_every_call_is_settled_by_asking(gateway: Gateway, lost: str) -> None:
    images = gateway.fill(3)
    gateway.write(uplink={"parallel": 1})
    kills = 0
    with Killing(gateway, lost == "request") as killing:
        for _ in range(20):
            killing.run = gateway.start("drain")
            killing.run.communicate(timeout=60)
            if killing.run.returncode == 0:
                break
            kills += 1
        killing.run = None
    assert kills >= 3
    assert sorted(killing.stored) == sorted(set(killing.stored))  # no body arrived twice
    assert len(killing.stored) == 3
    if lost == "response":  # what had arrived was asked for, not sent again
        puts = [uri for method, uri in killing.calls if method == "PUT"]
        assert sorted(puts) == sorted(set(puts))
    gateway.assert_arrived(images)


def test_done_is_pruned_and_nothing_burnt_while_the_bucket_refuses(gateway: Gateway) -> None:
    gateway.fill(3)
    gateway.json("drain")
    waiting = gateway.fill(2)
    gateway.write(spool={"keep_done_max": "1B"})
    gateway.script.replace([Fault(Act.STATUS, status=403, code="AccessDenied")])
    gateway.json("drain", code=Exit.ERROR)
    assert images_below(gateway.spool.path) == {image: ["new"] for image in waiting}
    assert {item.attempts for item in gateway.spool.catalog.after(0, 100)} == {0}


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("AccessDenied", 403),
        pytest.param("InvalidAccessKeyId", 403, marks=pytest.mark.slow),
        pytest.param("NoSuchBucket", 404, marks=pytest.mark.slow),
    ],
)
def test_a_fatal_answer_ends_the_run_and_burns_no_attempt(
    gateway: Gateway, code: str, status: int
) -> None:
    images = gateway.fill(10)
    gateway.script.replace([Fault(Act.STATUS, status=status, code=code)])
    report = gateway.json("drain", code=Exit.ERROR)
    assert report["outcome"] == "failed"
    assert report["message"]
    items = gateway.spool.catalog.after(0, 100)
    assert len(items) == 10
    assert {(item.state, item.attempts) for item in items} == {(State.WAITING, 0)}
    assert gateway.script.seen("PUT") <= 2  # it does not try the same with every image
    gateway.script.replace(())
    gateway.json("drain")
    gateway.assert_arrived(images)


def test_a_bucket_that_is_not_there_is_named(gateway: Gateway) -> None:
    gateway.fill(1)
    gateway.write(bucket="no-such-bucket")
    ran = gateway.call("drain")
    assert ran.returncode == Exit.ERROR
    assert "no-such-bucket" in ran.stdout
    assert "Traceback" not in ran.stderr


def test_an_uplink_that_is_down_ends_the_run_with_5_after_one_probe(gateway: Gateway) -> None:
    images = gateway.fill(10)
    gateway.write(endpoint="http://127.0.0.1:9")
    report = gateway.json("drain", code=Exit.UPLINK_DOWN)
    assert report["outcome"] == "uplink down"
    assert {item.attempts for item in gateway.spool.catalog.after(0, 100)} == {0}
    gateway.write()
    gateway.json("drain")
    gateway.assert_arrived(images)


def test_an_image_that_s3_refuses_is_set_aside_and_the_run_goes_on(gateway: Gateway) -> None:
    images = gateway.fill(10)
    bad = next(iter(images))
    gateway.script.replace(
        [Fault(Act.STATUS, status=400, code="InvalidRequest", when=lambda key: bad in key)]
    )
    for _ in range(3):  # others have to be confirmed after it, and its turn may come last
        gateway.call("drain")
        listed = gateway.json("list", "--state", "set_aside")
        images.update(gateway.fill(3))
        if listed:
            break
    assert [one["id"] for one in listed] == [bad]
    assert "InvalidRequest" in listed[0]["reason"]
    gateway.script.replace(())
    said = gateway.call("retry", "--all").stdout
    assert f"{bad}: the next run sends it" in said
    assert "1 had been set aside:" in said
    assert "1: S3 refused this image's request as invalid (InvalidRequest)" in said
    gateway.json("drain")
    gateway.assert_arrived(images)


def _changed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _instead(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Something else under the image's name."""

    def act(path: Path) -> None:
        size = path.stat().st_size
        path.unlink()
        make(path)
        if path.is_file() and not path.is_symlink():
            os.truncate(path, size)

    return act


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock, contextlib.chdir(path.parent):
        sock.bind(path.name)  # a path as long as ours does not fit in its address


def _of_another(path: Path) -> None:
    other = Metadata("f" * 64, path.stat().st_size, "image/jpeg")
    path.write_bytes(os.urandom(path.stat().st_size))
    os.setxattr(path, "user.headgate", other.encode())


BAD: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "shorter": lambda path: path.write_bytes(b"x"),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "changed": _changed,
    "another file": _instead(Path.touch),
    "another's metadata": _of_another,
    "gone": lambda path: path.unlink(),
    "a FIFO": _instead(os.mkfifo),
    "a socket": _instead(_socket),
    "a link": _instead(lambda path: path.symlink_to("/etc/hostname")),
    "a link to nowhere": _instead(lambda path: path.symlink_to("nowhere")),
    "a folder": _instead(Path.mkdir),
}


def test_bad_files_never_stop_the_queue(gateway: Gateway) -> None:
    images = gateway.fill(len(BAD) * 3)
    bad = dict(zip(list(images)[:: len(images) // len(BAD)], BAD, strict=False))
    for image, how in bad.items():
        receipt = gateway.spool.receipt(image)
        assert receipt is not None
        BAD[how](gateway.spool.files.in_new(receipt.name))
    strange = gateway.spool.files.new / receipt.name.folder
    (strange / "line\nbreak.jpg").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(strange) + b"/\xff\xfe.jpg")).write_bytes(b"x")
    report = gateway.json("drain", code=Exit.SET_ASIDE)
    assert (report["images"], report["set_aside"]) == (len(images) - len(bad), len(bad))
    reasons = {
        entry["id"]: entry["reason"]
        for state in ("set_aside", "lost")  # the file that is gone is lost
        for entry in gateway.json("list", "--state", state)
    }
    assert set(reasons) == set(bad)
    assert all(reasons.values())


def test_bounds_end_a_run_with_images_still_waiting(gateway: Gateway) -> None:
    gateway.fill(20)
    gateway.write(uplink={"batch_images": 7})
    assert gateway.json("drain")["images"] == 7
    assert gateway.json("drain", "--strict", code=Exit.STILL_WAITING)["outcome"] == "batch sent"
    gateway.write(uplink={"batch_bytes": "5kB"})
    assert gateway.json("drain")["bytes"] == 4000
    assert gateway.json("drain", "--max-bytes", "2kB")["bytes"] == 2000


def test_a_ledger_that_was_deleted_counts_as_spent(gateway: Gateway) -> None:
    gateway.fill(3)
    (gateway.spool.files.state / "ledger").unlink()
    report = gateway.json("drain", "--strict", code=Exit.BUDGET_SPENT)
    assert (report["outcome"], report["images"], report["wire_bytes"]) == ("budget spent", 0, 0)


def test_a_ledger_that_cannot_be_read_lets_nothing_leave(gateway: Gateway) -> None:
    gateway.fill(3)
    ledger = gateway.spool.files.state / "ledger"
    ledger.unlink()
    ledger.mkdir()
    ran = gateway.call("drain")
    assert (ran.returncode, "reading the ledger" in ran.stderr) == (Exit.ERROR, True)
    assert gateway.objects() == {}
    assert gateway.spool.catalog.totals().waiting.images == 3


def soon_weary(gateway: Gateway, *words: str) -> subprocess.Popen[str]:
    """A run that waits for its lock for a tenth of a second, and not for fifteen."""
    before = "import uploader.run.start as start; start.LOCK_WAIT_SECONDS = 0.1"
    return subprocess.Popen(
        [sys.executable, "-c", f"{before}; from uploader.cli.main import main; main()",
         "--config", str(gateway.config), *words],
        env=gateway.environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_second_run_says_that_the_lock_is_held(gateway: Gateway) -> None:
    gateway.fill(3)
    with gateway.spool.hold_drain_lock("somebody", 0):
        by_hand, by_cron = soon_weary(gateway, "drain"), soon_weary(gateway, "drain", "--cron")
        out, err = by_hand.communicate(timeout=120)
        assert (by_hand.returncode, "somebody" in err) == (Exit.LOCKED, True)
        out, err = by_cron.communicate(timeout=120)
        assert (by_cron.returncode, out, err) == (Exit.LOCKED, "", "")
    assert gateway.json("drain")["images"] == 3


def test_a_run_of_cron_makes_way_for_one_by_hand(gateway: Gateway) -> None:
    images = gateway.fill(200, 20_000)
    gateway.write(uplink={"link": "100kB/s", "share": "100%"})
    cron = gateway.start("drain", "--cron")
    gateway.await_run(cron)
    gateway.write()
    gateway.json("drain", "--until-empty")
    wait_for_exit(cron)
    assert cron.returncode == 0
    outcomes = [run.outcome for run in gateway.spool.site.runs(2)]
    assert outcomes == ["done", "made way for a run started by hand"]
    gateway.assert_arrived(images)


def test_ctrl_c_finishes_what_is_being_sent(gateway: Gateway) -> None:
    images = gateway.fill(200, 20_000)
    gateway.write(uplink={"link": "200kB/s", "share": "100%"})
    run = gateway.start("drain", "--until-empty")
    gateway.await_uploads(1, run)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert "stopped" in out
    assert "Traceback" not in err
    totals = gateway.spool.catalog.totals()
    assert totals.sending.images == 0
    assert 0 < totals.waiting.images < 200
    gateway.write()
    gateway.json("drain")
    gateway.assert_arrived(images)


def test_cron_prints_only_what_is_news_and_logs_the_rest(gateway: Gateway) -> None:
    log = gateway.root / "log" / "headgate.log"
    gateway.write(log={"file": "log/headgate.log"})
    gateway.fill(2)

    def said() -> str:
        ran = gateway.call("drain", "--cron")
        assert ran.stderr == ""
        return ran.stdout

    assert said() == ""
    gateway.write(log={"file": "log/headgate.log"}, endpoint="http://127.0.0.1:9")
    gateway.fill(1)
    assert "uplink down" in said()
    assert said() == ""
    log.rename(log.with_suffix(".1"))  # logrotate, without a signal
    gateway.write(log={"file": "log/headgate.log"})
    assert "done" in said()
    assert said() == ""
    lines = [json.loads(line) for path in (log.with_suffix(".1"), log)
             for line in path.read_text().splitlines()]  # fmt: skip
    assert {"run.started", "image.uploaded", "run.ended", "image.failed"} <= {
        line["event"] for line in lines
    }
    assert all(line["at"].endswith("Z") and line["run"] for line in lines)


def test_a_run_that_confirms_nothing_says_so_and_is_no_success(gateway: Gateway) -> None:
    """A server in trouble of its own; then nothing is due, and that is no good news."""
    images = gateway.fill(3)
    gateway.script.replace([Fault(Act.STATUS_LATE, status=500, code="InternalError")])
    ran = gateway.call("drain", "--cron")
    assert (ran.returncode, "nothing confirmed" in ran.stdout) == (Exit.NOTHING_CONFIRMED, True)
    assert gateway.objects() == {}
    (run,) = gateway.spool.site.runs(1)
    assert (run.attempts, run.images, run.waiting, run.success) == (3, 0, 3, False)
    assert run.message.startswith("3 attempts, and no image was confirmed: ")
    assert gateway.spool.site.last_success_at() is None
    assert gateway.spool.site.proof().fruitless_runs == 1
    again = gateway.call("drain", "--cron")
    assert (again.returncode, again.stdout) == (0, "")
    idle = gateway.spool.site.runs(1)[0]
    assert (idle.outcome, idle.success, idle.waiting) == ("nothing to do", False, 3)
    assert "3 images wait for the next attempt" in idle.message
    assert gateway.spool.site.last_success_at() is None
    gateway.script.replace(())
    gateway.call("retry", "--all")
    for image in images:
        gateway.call("retry", image)
    assert "done" in gateway.call("drain", "--cron").stdout
    assert gateway.spool.site.last_success_at() is not None
    gateway.assert_arrived(images)


def test_a_run_in_which_most_attempts_fail_says_so_and_goes_on(gateway: Gateway) -> None:
    gateway.fill(10)
    gateway.script.replace([Fault(Act.STATUS, status=500, code="InternalError", first=4)])
    report = gateway.json("drain")
    assert (report["outcome"], report["images"], report["attempts"]) == ("done", 3, 10)
    assert report["message"].startswith("7 of 10 attempts failed: ")
    assert report["success"] is True


def test_a_log_whose_disk_is_full_stops_no_image(gateway: Gateway) -> None:
    images = gateway.fill(2)
    gateway.write(log={"file": "/dev/full"})
    ran = gateway.call("drain", "--cron")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    gateway.assert_arrived(images)


def test_a_log_that_cannot_even_be_made_there_stops_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("builtins.open", full)
    with drain_command.log_to(tmp_path / "drain.log") as stream:
        assert stream is sys.stderr

    def forbidden(*_args: object, **_more: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)
    with pytest.raises(SystemExit), drain_command.log_to(tmp_path / "drain.log"):
        pass


def test_a_limit_holds_while_a_run_is_at_work_and_ends_by_itself(gateway: Gateway) -> None:
    said = gateway.json("limit", "50%", "--for", "1h", "--reason", "catch up")
    assert (said["rate"], said["reason"]) == (100_000_000, "catch up")
    assert gateway.spool.uplink.budget().rate == 100_000_000
    assert gateway.json("limit", "--off")["rate"] == 40_000_000
    gateway.json("limit", "50%", "--for", "1s", "--reason", "short")
    wait_until(lambda: gateway.json("limit")["rate"] == 40_000_000, "the limit has ended")
    for words in (["limit", "120%", "--for", "1h", "--reason", "x"], ["limit", "10%"]):
        assert gateway.call(*words).returncode == Exit.USAGE


def test_dry_run_sends_no_image(gateway: Gateway) -> None:
    gateway.fill(3)
    assert gateway.json("drain", "--dry-run")["waiting_images"] == 3
    assert set(gateway.objects()) <= {".headgate-probe"}
    assert gateway.spool.site.runs(1) == ()


@pytest.mark.parametrize(
    "flags, without, why",
    [
        (["s3.bucket=nowhere-at-all"], [], "nowhere-at-all"),
        ([], ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], "No AWS credentials were found"),
    ],
)
def test_dry_run_says_that_nothing_could_be_sent(
    gateway: Gateway, flags: list[str], without: list[str], why: str
) -> None:
    """As a run would find it: "would send" is a promise."""
    gateway.fill(2)
    environment = {k: v for k, v in gateway.environment().items() if k not in without}
    words = [word for flag in flags for word in ("--set", flag)]
    ran = subprocess.run(
        gateway.command(*words, "drain", "--dry-run"), env=environment, text=True,
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == Exit.ERROR, ran.stdout
    assert why in ran.stdout and "could not send 2 images" in ran.stdout
    assert "would send" not in ran.stdout


def test_a_device_that_is_not_known_is_an_error_and_not_nothing_to_do(gateway: Gateway) -> None:
    gateway.fill(10)
    for more in ((), ("--dry-run",)):
        ran = gateway.call("drain", "--device", "cam-one", *more)
        assert ran.returncode == Exit.USAGE
        assert "no device 'cam-one' is known; headgate device list" in ran.stderr
    waits = gateway.json("drain", "--device", "cam-1", "--dry-run")["waiting_images"]
    assert 0 < waits < 10
    assert gateway.json("drain", "--device", "cam-1")["images"] == waits
    assert gateway.json("drain", "--device", "cam-1")["outcome"] == Outcome.NOTHING_TO_DO


def test_a_pause_keeps_the_images_and_a_resume_sends_them(gateway: Gateway) -> None:
    gateway.fill(3)
    assert "uploads are paused until headgate resume" in gateway.call("pause").stdout
    run = gateway.json("drain")
    assert (run["outcome"], run["images"]) == (Outcome.PAUSED_BY_HAND, 0)
    assert gateway.json("drain", "--dry-run")["paused"]
    assert "would send nothing: uploads are paused" in gateway.call("drain", "--dry-run").stdout
    assert "resume them first" in gateway.call("limit", "50%", "--for", "1h").stderr
    assert "paused" in [alert["code"] for alert in gateway.json("alert", "list")["alerts"]]
    assert gateway.json("status")["budget"]["paused"]
    gateway.call("pause", "--for", "8h", "--reason", "work on the line")
    assert "work on the line" in gateway.call("status").stdout
    assert "go on with the next run" in gateway.call("resume").stdout
    assert gateway.json("drain")["images"] == 3
    assert gateway.call("resume").stdout == "uploads are not paused\n"
    for wrong in (("--for", "0s"), ("--for", "2")):
        assert gateway.call("pause", *wrong).returncode == Exit.USAGE


def test_a_pause_ends_a_run_that_is_at_work(gateway: Gateway) -> None:
    gateway.fill(100, size=50_000)
    process = gateway.start("--set", "uplink.link=5MB/s", "drain", "--until-empty", "--json")
    gateway.await_uploads(1, process)
    gateway.call("pause", "--reason", "stop it")
    out, _ = wait_for_exit(process, "the run ends")
    assert json.loads(out)["outcome"] == Outcome.PAUSED_BY_HAND
    assert gateway.spool.catalog.totals().waiting.images > 0
    gateway.call("resume")
    assert gateway.json("drain", "--until-empty")["exit_code"] == 0
    assert gateway.spool.inventory().unaccounted == 0


def test_status_and_verify_tell_the_truth(gateway: Gateway) -> None:
    bad = gateway.spool.catalog.get(next(iter(gateway.fill(5))))
    assert bad is not None
    with gateway.spool.hold_drain_lock("test", 0) as lock:
        Mover(gateway.spool, lock).set_aside(bad, "It was refused.", gateway.spool.now())
    gateway.json("drain")
    facts = gateway.json("status")
    assert facts["received"]["images"] == 5
    assert facts["uploaded_local"]["images"] == 4
    assert facts["set_aside"]["images"] == 1
    assert facts["unaccounted"] == 0
    assert gateway.json("verify") == {"notes": [], "mended": [], "left": []}
    text = gateway.call("status").stdout
    assert "5 images" in text
    assert "set aside  1 image" in text
    gateway.spool.site.put("x", None)
    victim = next(iter(gateway.spool.files.done.rglob("*.jpg")))
    victim.unlink()
    left = gateway.json("verify", code=Exit.ERROR)["left"]
    assert [trouble["what"] for trouble in left] == [victim.stem]
    assert len(gateway.json("verify", "--repair")["mended"]) == 1


def test_config_check_says_what_the_bucket_can_confirm(gateway: Gateway) -> None:
    said = gateway.json("config", "check")
    assert said["faults"] == []
    assert any("SHA-256" in sentence for sentence in said["notes"])
    gateway.script.replace([Fault(Act.STATUS, status=403, code="AccessDenied")])
    denied = gateway.json("config", "check", code=Exit.ERROR)
    assert any("s3:PutObject" in sentence for sentence in denied["faults"])


def test_metadata_is_kept_when_the_attributes_are_lost(gateway: Gateway) -> None:
    receipt = put(gateway.spool, b"image", file_name="Küche.jpg").receipt
    path = gateway.spool.files.in_new(receipt.name)
    os.removexattr(path, "user.headgate")
    gateway.json("drain")
    gateway.assert_arrived({receipt.id: b"image"})


def test_commands_name_every_fault_of_the_settings_at_once(gateway: Gateway) -> None:
    gateway.write(uplink={"share": "20", "order": "sideways"}, spool={"colour": "red"})
    ran = gateway.call("status")
    assert ran.returncode == Exit.USAGE
    for word in ("uplink.share", "uplink.order", "spool.colour"):
        assert word in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_spool_that_is_not_there_is_said_in_a_sentence(gateway: Gateway) -> None:
    gateway.write(spool={"path": "elsewhere"})
    for words in (["drain"], ["status"], ["verify"], ["list"], ["retry", "--all"]):
        ran = gateway.call(*words)
        assert (ran.returncode, "no spool at" in ran.stderr) == (Exit.ERROR, True)


def test_metadata_never_sets_an_image_aside(gateway: Gateway) -> None:
    with gateway.spool.incoming() as incoming:
        incoming.write(b"image")
        tags = {f"t{number}": "é" * 60 for number in range(12)}
        meta = Metadata(incoming.sha256, incoming.size, "image/jpeg", tags=tags)
        gateway.spool.accept(incoming, "cam-1", meta)
    assert gateway.json("drain")["images"] == 1


def test_copies_go_while_a_long_run_goes_on_before_the_disk_is_full(gateway: Gateway) -> None:
    """No upload is refused for the sake of copies: here the disk counts as full all the time."""
    gateway.write(spool={"keep_free": "99%"}, uplink={"link": "200kB/s", "share": "100%"})
    images = gateway.fill(150)
    report = gateway.json("drain", "--until-empty")
    assert report["images"] == len(images)
    left = images_below(gateway.spool.path)
    assert len(left) < len(images)  # the others went in the middle of this run
    assert all(places == ["done"] for places in left.values())
    assert all(gateway.spool.receipt(image).safe_to_erase for image in images)  # type: ignore[union-attr]
    assert verify.disagreements(gateway.spool, sleep=lambda _: None) == []


def test_what_left_is_in_the_flow_to_the_byte(gateway: Gateway) -> None:
    gateway.fill(20)
    report = gateway.json("drain")
    since = gateway.spool.now() - timedelta(hours=1)
    flow = gateway.spool.catalog.flow(since, 60)
    assert sum(one.sent_bytes for one in flow) == report["wire_bytes"]
    assert sum(one.uploaded.images for one in flow) == report["images"] == 20
    assert sum(one.received.bytes for one in flow) == report["bytes"]
