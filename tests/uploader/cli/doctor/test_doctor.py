"""``headgate doctor``: each check on both sides, and all of them on a real spool."""

# ruff: noqa: E501 (a table)

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from headgate.host.mounts import Risk, RiskKind
from headgate.spool import sqlite
from headgate.spool.disk.room import FreeSpace as Free
from headgate.spool.disk.room import admission
from headgate.spool.errors import DiskError
from headgate.spool.image.image import Item
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool
from tests.support.damage import lose
from tests.support.spooling import Clock as WallClock
from tests.support.spooling import open_spool, put, settings_for
from tests.support.wait import wait_until
from uploader.cli.commands import doctor as doctor_command
from uploader.cli.cron import crontabs, systemd_timer
from uploader.cli.cron.entry import ScheduleFault
from uploader.cli.doctor import (
    accounts,
    clear_text,
    clock,
    collect,
    database,
    destination,
    disk,
    network,
    other_ways,
    schedule,
    shared_uplink,
)
from uploader.cli.doctor.accounts import AccessEntry, Accounts
from uploader.cli.doctor.clock import Clock
from uploader.cli.doctor.destination import NotAsked
from uploader.cli.doctor.disk import DiskFacts
from uploader.cli.doctor.findings import Finding, Severity
from uploader.cli.doctor.network import Receiver
from uploader.cli.doctor.other_ways import OtherWay
from uploader.cli.doctor.schedule import Queue, Schedule
from uploader.cli.install.layout import OPTIONAL
from uploader.cli.main import headgate
from uploader.s3.capability import Capability

OK, WARNING, LOSES = Severity.OK, Severity.WARNING, Severity.LOSES

GROUP = 100
MAIL = next(one for one in OPTIONAL if one.extra == "smtp")
FOLDERS = tuple(
    AccessEntry(f"/spool{name}", 1, GROUP, 0o2770) for name in ("", "/tmp", "/new", "/state")
)
KEYS = (
    AccessEntry("/home", 1, GROUP, 0o750),
    AccessEntry("/home/.aws", 1, GROUP, 0o700),
    AccessEntry("/home/.aws/credentials", 1, GROUP, 0o600),
)
ACCOUNTS = Accounts(
    "headgate", 1, frozenset({GROUP}), "headgate-receiver", 2, frozenset({GROUP}), FOLDERS, KEYS
)
DATABASES = database.Databases((("catalog.sqlite3", ""), ("site.sqlite3", "")), (), 64 * 10**6)
DISK = DiskFacts(
    "/spool", "ext4", "/dev/sdb1", "/spool", frozenset({"rw", "relatime"}), None, "",
    admission(20_000_000, Free(10**12, 10**10, 10**6)), True, True,
    known_in="/etc/headgate/identity",
)  # fmt: skip


def with_free(size: int, inodes: int = 10**6) -> DiskFacts:
    return replace(DISK, admission=admission(20_000_000, Free(size, 10**10, inodes)))


CLOCK = Clock(True, "chronyd", 0.4, "Europe/Berlin", True)
SCHEDULE = Schedule(False, (), True, 300, 100.0, "nothing waits", False)
QUEUE = Queue(300, True, 60.0, "beat")
RECEIVER = Receiver("0.0.0.0:8080", True, True, "", False, 640, 65536, True, "auto", (), 40, "")
BUCKET = Capability(
    "pictures", "https://s3", writable=True, readable=True, tells_missing=True, echoes_sha256=True,
    refuses_wrong_sha256=True, etag_is_md5=True, refuses_wrong_md5=True, honours_if_none_match=True,
)  # fmt: skip


def shut(folder: int, mode: int) -> Accounts:
    changed = replace(FOLDERS[folder], mode=mode)
    return replace(ACCOUNTS, folders=(*FOLDERS[:folder], changed, *FOLDERS[folder + 1 :]))


def opened(*modes: int) -> Accounts:
    return replace(
        ACCOUNTS, credentials=tuple(replace(k, mode=m) for k, m in zip(KEYS, modes, strict=True))
    )


CASES: list[tuple[str, Iterable[Finding], Severity, str, str]] = [
    # what, findings, level, a part of the sentence, a part of the mending command
    ("a SQLite that comes with us", database.judge("3.54.1", sqlite.unsafe("3.54.1")), OK, "SQLite 3.54.1 opens the databases", ""),
    ("one that loses commits", database.judge("3.51.2", sqlite.unsafe("3.51.2")), LOSES, "SQLite 3.51.2 can lose", "requirements.lock"),
    ("indexes that agree", database.judge_contents(DATABASES), OK, "in 2 databases the indexes agree", ""),
    ("an index that lost rows", database.judge_contents(replace(DATABASES, checked=(("site.sqlite3", "row 7 missing from index"),))), LOSES, "site.sqlite3 is damaged: row 7 missing", "headgate verify --repair"),
    ("too large to look at", database.judge_contents(replace(DATABASES, larger=("catalog.sqlite3",))), OK, "1 of more than 64.0 MB are compared by headgate verify", ""),
    ("both fine", accounts.judge(ACCOUNTS), OK, "accessible to both users", ""),
    ("a folder shut", accounts.judge(shut(2, 0o2750)), LOSES, "headgate-receiver cannot write to /spool/new", "chmod 2770 /spool/new"),
    ("no setgid", accounts.judge(shut(1, 0o770)), LOSES, "/spool/tmp is not set-group-ID", "chmod g+s /spool/tmp"),
    ("for all to see", accounts.judge(shut(3, 0o2775)), WARNING, "every user can look into /spool/state", "chmod o= /spool/state"),
    ("not in the group", accounts.judge(replace(ACCOUNTS, receiver_groups=frozenset())), LOSES, "headgate-receiver cannot write to /spool", "usermod -aG 100 headgate-receiver"),
    ("another group", accounts.judge(replace(ACCOUNTS, folders=(*FOLDERS[:3], AccessEntry("/spool/state", 0, 0, 0o2770)))), LOSES, "headgate-receiver cannot write to /spool/state", "chgrp -R 100 /spool/state"),
    ("one user", accounts.judge(replace(ACCOUNTS, receiver_id=1)), WARNING, "both receives and sends", "headgate install"),
    ("keys for all", accounts.judge(opened(0o755, 0o755, 0o644)), WARNING, "the receiver's user headgate-receiver can read /home/.aws/credentials", "chmod 600 /home/.aws/credentials"),
    ("keys for the group", accounts.judge(opened(0o750, 0o750, 0o640)), WARNING, "can read /home", "chmod 600"),
    ("keys behind a door", accounts.judge(opened(0o750, 0o700, 0o644)), OK, "only that one has keys", ""),
    ("disk fine", disk.judge(DISK), OK, "accepts durable writes", ""),
    ("room fine", disk.judge(DISK), OK, "1.0 TB are free", ""),
    ("probe fails", disk.judge(replace(DISK, probe_fails="flushing: EIO")), LOSES, "accepts no image: flushing: EIO", "dmesg"),
    ("no attributes", disk.judge(replace(DISK, probe_fails="writing: no", no_attributes=True)), LOSES, "accepts no image", "mkfs.ext4"),
    ("memory", disk.judge(replace(DISK, risk=Risk(RiskKind.MEMORY, "/spool is on tmpfs, in memory: a power cut loses it"))), LOSES, "in memory", "mkfs.ext4 a local disk"),
    ("no journal", disk.judge(replace(DISK, risk=Risk(RiskKind.NO_JOURNAL, "/spool is on ext4 without a journal"))), LOSES, "without a journal", "tune2fs -j /dev/sdb1"),
    ("untested", disk.judge(replace(DISK, risk=Risk(RiskKind.UNTESTED, "/spool is on ntfs, where power cuts were not tested"))), WARNING, "not tested", "mkfs.ext4"),
    ("nobarrier", disk.judge(replace(DISK, options=frozenset({"rw", "nobarrier"}))), LOSES, "mounted with nobarrier", "remount,barrier=1 /spool"),
    ("barrier=0", disk.judge(replace(DISK, options=frozenset({"barrier=0"}))), LOSES, "mounted with barrier=0", "/etc/fstab"),
    ("writeback", disk.judge(replace(DISK, options=frozenset({"data=writeback"}))), OK, "data=writeback does not matter", ""),
    ("full", disk.judge(with_free(10**10 + 10**7)), LOSES, "Uploads are refused", "headgate drain --until-empty"),
    ("nearly full", disk.judge(with_free(15 * 10**9)), WARNING, "15.0 GB are free", "headgate status"),
    ("no inodes", disk.judge(with_free(10**12, 16)), LOSES, "too few inodes are left", "df -i"),
    ("few inodes", disk.judge(with_free(10**12, 9_999)), WARNING, "The disk has 9999 inodes left, and each image takes one", "mkfs.ext4 -i"),
    ("known", disk.judge(DISK), OK, "is remembered in /etc/headgate/identity", ""),
    ("known nowhere", disk.judge(replace(DISK, known_in="")), WARNING, "is remembered nowhere", "a settings file"),
    ("known on the same disk", disk.judge(replace(DISK, known_on_itself=True)), WARNING, "only on its own disk", "a settings file"),
    ("shared", disk.judge(replace(DISK, own_mount=False)), WARNING, "shares its file system", "mount a disk"),
    ("clock fine", clock.judge(CLOCK), OK, "synchronised, by chronyd", ""),
    ("zone", clock.judge(CLOCK), OK, "uses Europe/Berlin", ""),
    ("nobody keeps it", clock.judge(replace(CLOCK, synchronised=False, keeper="")), WARNING, "no time service runs", "apt-get install systemd-timesyncd"),
    ("kept in vain", clock.judge(replace(CLOCK, synchronised=False)), WARNING, "chronyd runs, but has not set it", "timedatectl set-ntp true"),
    ("a minute off", clock.judge(replace(CLOCK, s3_offset_seconds=-60.0)), WARNING, "differ by 1 min", "timedatectl"),
    ("S3 would refuse", clock.judge(replace(CLOCK, s3_offset_seconds=900.0)), WARNING, "signed with the server's time", "timedatectl"),
    ("UTC", clock.judge(replace(CLOCK, zone="UTC")), WARNING, "this machine's time zone is UTC", "timedatectl set-timezone"),
    ("runs fine", schedule.judge(SCHEDULE), OK, "every 5min", ""),
    ("no line", schedule.judge(replace(SCHEDULE, faults=(ScheduleFault("there is no line of Headgate", stopped=True),))), LOSES, "images wait until the disk is full", "headgate cron install"),
    ("another interval", schedule.judge(replace(SCHEDULE, faults=(ScheduleFault("cron starts a run every 1min"),))), WARNING, "every 1min", "headgate cron install"),
    ("no cron", schedule.judge(replace(SCHEDULE, starter_runs=False)), LOSES, "no cron runs here", "systemctl enable --now cron"),
    ("a dead timer", schedule.judge(replace(SCHEDULE, by_timer=True, starter_runs=False)), LOSES, "does not run", "systemctl enable --now headgate-drain.timer"),
    ("overdue", schedule.judge(replace(SCHEDULE, last_run_seconds=661.0)), LOSES, "and one is due every 5 min: nothing is sent.", "headgate drain"),
    ("just in time", schedule.judge(replace(SCHEDULE, last_run_seconds=659.0)), OK, "every 5min", ""),
    ("none yet", schedule.judge(replace(SCHEDULE, last_run_seconds=None)), WARNING, "none has started yet", "headgate drain"),
    ("failed", schedule.judge(replace(SCHEDULE, last_failed=True, last_outcome="no such bucket")), WARNING, "no such bucket", "headgate drain"),
    ("triggers", schedule.judge(replace(SCHEDULE, triggers=("cron, every 5min", "hand"))), OK, "cron, every 5min; hand", ""),
    ("queue fine", schedule.judge(replace(SCHEDULE, queue=QUEUE)), OK, "the last 1 min ago (beat)", ""),
    ("queue not asked yet", schedule.judge(replace(SCHEDULE, queue=replace(QUEUE, quiet_seconds=None))), OK, "due every 5min", ""),
    ("queue in time", schedule.judge(replace(SCHEDULE, queue=replace(QUEUE, quiet_seconds=660.0))), OK, "the last 11 min ago", ""),
    ("queue silent", schedule.judge(replace(SCHEDULE, queue=replace(QUEUE, quiet_seconds=661.0))), WARNING, "No message came through the queue for 11 min", "headgate-worker"),
    ("queue not installed", schedule.judge(replace(SCHEDULE, queue=replace(QUEUE, installed=False))), WARNING, "not installed", "make install EXTRAS=queue"),
    ("receiver fine", network.judge(RECEIVER), OK, "accepts images", ""),
    ("tokens", network.judge(RECEIVER), OK, "40 devices have a token", ""),
    ("silent", network.judge(replace(RECEIVER, answers=False)), LOSES, "nothing answers at 0.0.0.0:8080", "systemctl restart headgate-receiver"),
    ("taken", network.judge(replace(RECEIVER, answers=False, port_taken=True)), LOSES, "another program listens on port 8080", "ss -ltnp"),
    ("not ready", network.judge(replace(RECEIVER, ready=False, not_ready="the disk is full")), LOSES, "accepts no image now: the disk is full", "headgate status"),
    ("few files", network.judge(replace(RECEIVER, open_files=1024)), WARNING, "1,024 files open, and needs 5,120", "LimitNOFILE"),
    ("open", network.judge(replace(RECEIVER, auth="open")), WARNING, "anyone who can reach it can fill the disk", "headgate device add"),
    ("open on loopback", network.judge(replace(RECEIVER, auth="open", on_network=False)), OK, "a proxy on it would decide who may send", ""),
    ("open behind a proxy", network.judge(replace(RECEIVER, auth="open", on_network=False, behind_proxy=True)), WARNING, "come through a proxy on this machine", 'auth = "token"'),
    ("allow behind a proxy", network.judge(replace(RECEIVER, auth="open", allow=("127.0.0.0/8",), behind_proxy=True)), WARNING, "whatever receiver.allow says", "headgate device add"),
    ("open to some", network.judge(replace(RECEIVER, auth="open", allow=("10.0.0.0/8",))), WARNING, "anyone in 10.0.0.0/8", "headgate device add"),
    ("nobody enrolled", network.judge(replace(RECEIVER, tokens=0)), WARNING, "no device has a token", "headgate device add cam-01"),
    ("secrets unread", accounts.judge(replace(ACCOUNTS, secrets=(AccessEntry("/etc", 0, 0, 0o755), AccessEntry("/etc/s", 0, 0, 0o600)))), WARNING, "cannot read /etc/s", "chown"),
    ("secrets read", accounts.judge(replace(ACCOUNTS, secrets=(AccessEntry("/etc", 0, 0, 0o755), AccessEntry("/etc/s", 1, GROUP, 0o640)))), WARNING, "can read /etc/s", "chmod 600 /etc/s"),
    ("secrets told", accounts.judge(replace(ACCOUNTS, told=("alerts.smtp_url",), config=(AccessEntry("/etc/h", 0, GROUP, 0o640),))), WARNING, "can read alerts.smtp_url in /etc/h", "move it into secrets.toml"),
    ("secrets kept", accounts.judge(replace(ACCOUNTS, secrets=(AccessEntry("/etc/s", 1, 0, 0o600),))), OK, "can read no secret of alerts", ""),
    ("confined", network.judge(RECEIVER), OK, "is confined", ""),
    ("unconfined", network.judge(replace(RECEIVER, unconfined="this kernel has no Landlock")), WARNING, "no thumbnails: their decoder cannot be confined, because this kernel has no Landlock", "a kernel from 5.13 on"),
    ("loopback", network.judge(replace(RECEIVER, on_network=False, auth="open")), OK, "this machine only", ""),
    ("redis answers", shared_uplink.judge("", "2 MB"), OK, "Redis answers", ""),
    ("redis away", shared_uplink.judge("Redis: refused", "2 MB"), WARNING, "sends at its floor, 2 MB/s", "start Redis"),
    ("mail runs", other_ways.judge((OtherWay(MAIL, True, True, True),)), OK, "headgate-smtp.service runs", ""),
    ("mail not installed", other_ways.judge((OtherWay(MAIL, True, False, False),)), LOSES, "packages for mail are not installed", "make install EXTRAS=smtp"),
    ("mail stopped", other_ways.judge((OtherWay(MAIL, True, True, False),)), LOSES, "headgate-smtp.service does not run", "headgate install"),
    ("mail off", other_ways.judge((OtherWay(MAIL, False, True, True),)), WARNING, "smtp.enabled is not set", "headgate install"),
    ("bucket fine", destination.judge(BUCKET), OK, "each is confirmed by the SHA-256 that the server reports", ""),
    ("by MD5", destination.judge(replace(BUCKET, echoes_sha256=False, refuses_wrong_sha256=False)), OK, "confirmed by Content-MD5 and an ETag", ""),
    ("no put", destination.judge(Capability("b", "e", missing_rights=("s3:PutObject",))), LOSES, "s3:PutObject is missing on b", "deploy/s3/iam-policy.json"),
    ("no head", destination.judge(replace(BUCKET, missing_rights=("s3:GetObject",))), WARNING, "s3:GetObject is missing", "iam-policy.json"),
    ("no proof", destination.judge(replace(BUCKET, echoes_sha256=False, etag_is_md5=False, sentences=("Nothing is proved.",))), LOSES, "Nothing is proved.", "another server"),
    ("overwrites", destination.judge(replace(BUCKET, honours_if_none_match=False)), WARNING, "could still overwrite", "site.name"),
    ("checks nothing", destination.judge(replace(BUCKET, refuses_wrong_sha256=False, refuses_wrong_md5=False)), WARNING, "checks no digest", "AWS"),
    ("refused", destination.judge(NotAsked("bucket", "There is no such bucket.", tried=True, refused=True)), LOSES, "There is no such bucket.", "headgate config check"),
    ("unreached", destination.judge(NotAsked("bucket", "No connection.", tried=True)), WARNING, "No connection.", "headgate config check"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("findings", "level", "sentence", "mend"),
    [case[1:] for case in CASES],
    ids=[c[0] for c in CASES],
)
def test_each_check_on_both_sides(
    findings: Iterable[Finding], level: Severity, sentence: str, mend: str
) -> None:
    found = list(findings)
    (one,) = [finding for finding in found if sentence in finding.sentence]
    assert one.level is level
    assert mend in one.mend and bool(one.mend) == (level is not OK)
    if level is OK:
        assert {finding.level for finding in found} == {OK}
    else:
        assert max(found, key=lambda f: list(Severity).index(f.level)).level is level


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, alone: None) -> None:
    """No cron of this machine is asked."""
    monkeypatch.setattr(crontabs.UserTab, "read", lambda _self: b"")
    monkeypatch.setattr(crontabs, "CRON_D", tmp_path / "cron.d")
    monkeypatch.setattr(systemd_timer, "enabled", lambda root=Path("/"): False)


@contextmanager
def listening(answer: bytes) -> Iterator[int]:
    """A program on a port, that says one thing to whoever asks."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


WELL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


@pytest.mark.parametrize(
    ("answer", "level", "said"),
    [(WELL, OK, "accepts images"), (b"220 mail ESMTP\r\n", LOSES, "another program listens"), (None, LOSES, "nothing answers")],
)  # fmt: skip
def test_a_real_spool_is_looked_at_and_each_thing_wrong_with_it_is_told(
    tmp_path: Path, quiet: None, answer: bytes | None, level: Severity, said: str
) -> None:
    open_spool(tmp_path).close()
    (spool,) = (path.parent for path in tmp_path.rglob("state"))
    with listening(answer or b"") as port:
        pass
    held = listening(answer) if answer is not None else listening(b"")
    with held as port:
        if answer is None:
            port = 1  # nobody's
        (tmp_path / "headgate.toml").write_text(
            f'[spool]\npath = "{spool}"\n[receiver]\nbind = "127.0.0.1:{port}"\n'
        )
        ran = CliRunner().invoke(headgate, ["doctor", "--json"])
        text = CliRunner().invoke(headgate, ["doctor"]).output
    told = json.loads(ran.stdout)
    assert ran.exit_code == 1 and told["loses"] is True
    by_check: dict[str, list[dict[str, str]]] = {}
    for finding in told["findings"]:
        by_check.setdefault(finding["check"], []).append(finding)
        if finding["check"] != "room":  # others fill this disk between the two calls
            assert finding["sentence"] in text
        assert f"-> {finding['mend']}" in text or not finding["mend"]
    assert by_check["receiver"][0]["level"] == level
    assert said in by_check["receiver"][0]["sentence"]
    assert "No bucket is set" in by_check["bucket"][0]["sentence"]
    assert by_check["schedule"][0]["level"] == "loses"
    assert by_check["disk"][0]["level"] == "ok"
    assert re.search(r"\n\d would lose images", text)


def test_where_nothing_is_wrong_the_exit_code_is_0(
    tmp_path: Path, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_command, "_look", lambda _context: ([*clock.judge(CLOCK)], None))
    ran = CliRunner().invoke(headgate, ["doctor"])
    assert ran.exit_code == 0
    assert ran.output.endswith("nothing here would lose images\n")


def test_an_index_that_lost_rows_is_told_and_large_files_are_left_to_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(tmp_path)
    gone = [item_of(spool, put(spool, b"image %d" % number).receipt.id) for number in range(3)]
    spool.close()

    def lose_some() -> None:
        reopened = open_spool(tmp_path)
        for item in gone:
            reopened.site.gone.lose(item, reopened.now(), "a test")
        reopened.close()

    lose(spool.files.state / "site.sqlite3", lose_some, "gone_by_digest")
    spool = open_spool(tmp_path)
    try:
        found = list(database.judge_contents(collect.databases(spool)))
        assert [one.level for one in found] == [LOSES]
        assert found[0].sentence.startswith("site.sqlite3 is damaged: ")
        monkeypatch.setattr(collect, "_LARGEST_DATABASE", 1)
        seen = collect.databases(spool)
        assert (seen.checked, set(seen.larger)) == ((), {"catalog.sqlite3", "site.sqlite3"})
    finally:
        spool.close()


def item_of(spool: Spool, image: str) -> Item:
    found = spool.catalog.get(image)
    assert found is not None
    return found


def test_a_spool_that_is_not_there_is_told_in_a_sentence(tmp_path: Path, quiet: None) -> None:
    (tmp_path / "headgate.toml").write_text("")
    ran = CliRunner().invoke(headgate, ["doctor"])
    assert ran.exit_code == 1
    assert "loses    spool" in ran.output and "Traceback" not in ran.output


def test_a_run_that_takes_long_is_not_late(tmp_path: Path) -> None:
    clock = WallClock()
    spool = open_spool(tmp_path, clock)
    try:
        began = clock.at
        spool.site.save_run(Run("long", began))
        clock.advance(hours=2)
        with spool.hold_drain_lock("a run", 0):
            assert collect.schedule(spool).last_run_seconds == 0
        killed = collect.schedule(spool).last_run_seconds
        assert killed == pytest.approx(7200, abs=1)
        spool.site.save_run(Run("long", began, clock.at))
        clock.advance(minutes=3)
        assert collect.schedule(spool).last_run_seconds == pytest.approx(180, abs=1)
    finally:
        spool.close()


def test_a_disk_that_refuses_the_probe_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(tmp_path)
    try:
        assert collect.disk(spool).probe_fails == ""

        def refuse() -> None:
            raise DiskError(OSError(5, "Input/output error"), "flushing a probe to disk")

        monkeypatch.setattr(spool, "probe", refuse)
        assert "flushing a probe" in collect.disk(spool).probe_fails
    finally:
        spool.close()


def test_the_process_that_holds_the_lock_is_found_and_no_other(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    waits = ["sh", "-c", "read word", "headgate-receiver"]
    with subprocess.Popen(waits, stdin=subprocess.PIPE) as program:
        named = Path("/proc", str(program.pid), "cmdline")
        wait_until(lambda: b"headgate-receiver" in named.read_bytes(), "exec(2) is done")
        (state / "receiver.lock").write_text(f"a receiver, pid {program.pid}\n")
        found = collect.serving(tmp_path)
        (state / "receiver.lock").write_text(f"a receiver, pid {os.getpid()}\n")
        other = collect.serving(tmp_path)
        program.kill()
    assert found is not None and found.pid == program.pid and found.user == os.geteuid()
    assert found.open_files is not None and found.open_files > 100
    assert other is None


def test_a_receiver_that_was_just_started_gets_time_to_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that runs is asked again; one that is not there, or has ended meanwhile, is not."""
    program = collect.Serving(1, 2, 3)
    asked: list[str] = []
    still: list[collect.Serving | None] = [program]

    def ask(_address: object, path: str) -> tuple[int, str]:
        asked.append(path)
        return (200 if len(asked) > 2 else 0), ""

    monkeypatch.setattr(collect, "_ask", ask)
    monkeypatch.setattr(collect, "_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(collect, "serving", lambda _spool: still[0])
    spool = open_spool(tmp_path)
    try:
        assert collect.receiver(spool, program).answers
        assert asked == ["/healthz"] * 3 + ["/readyz"]
        for running, later in ((None, program), (program, None)):
            asked.clear()
            still[0] = later
            assert not collect.receiver(spool, running).answers and asked == ["/healthz"]
    finally:
        spool.close()


@pytest.mark.root
def test_mount_options_and_missing_attributes_of_real_file_systems(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    image, at = tmp_path / "disk.img", tmp_path / "disk"
    at.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-b", "4096", "-O", "^has_journal", str(image)], check=True)
    mounted = subprocess.run(
        ["mount", "-o", "loop,barrier=0", str(image), str(at)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a loop device cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        spool = open_spool(at)
        try:
            seen = collect.disk(spool)
        finally:
            spool.close()
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)
    assert seen.mounted_at == str(at) and seen.own_mount and seen.probe_fails == ""
    told = {finding.check: finding for finding in disk.judge(seen) if finding.level is LOSES}
    assert "without a journal" in told["disk"].sentence
    assert "nobarrier" in told["barriers"].sentence or "barrier=0" in told["barriers"].sentence


@pytest.mark.parametrize(
    ("name", "url", "warned"),
    [
        ("s3.endpoint_url", "http://s3.example.net:9000", True),
        ("s3.endpoint_url", "http://192.168.10.7:9000", True),
        ("s3.endpoint_url", "https://s3.example.net", False),
        ("s3.endpoint_url", "http://127.0.0.2:9000", False),
        ("s3.endpoint_url", "http://[::1]:9000", False),
        ("s3.endpoint_url", "http://localhost:9000", False),
        ("s3.endpoint_url", "http://localhost.example.net", True),
        ("s3.endpoint_url", "http://[x", False),
        ("queue.broker", "redis://:s3cr3t@redis.example.net/0", True),
        ("queue.broker", "rediss://:s3cr3t@redis.example.net/0", False),
        ("alerts.slack_webhook", "http://hooks.example.net/s3cr3t", True),
        ("alerts.heartbeat_url", "http://ping.example.net/s3cr3t", True),
        ("jobs.oidc_keys", "http://keys.example.net/jwks", True),
    ],
)
def test_what_goes_to_others_in_clear_text_is_warned_of(
    tmp_path: Path, name: str, url: str, warned: bool
) -> None:
    settings = settings_for(tmp_path, **{name.replace(".", "__"): url})
    (found,) = clear_text.judge(settings)
    assert (found.level, name in found.sentence) == (WARNING if warned else OK, warned)
    assert "s3cr3t" not in found.sentence + found.mend and bool(found.mend) == warned


def test_an_endpoint_of_the_environment_is_judged_too(tmp_path: Path) -> None:
    (found,) = clear_text.judge(settings_for(tmp_path), "http://s3.example.net/photos/")
    assert found.level is WARNING


def test_config_check_and_doctor_warn_of_clear_text(tmp_path: Path, quiet: None) -> None:
    open_spool(tmp_path, spool__path="spool").close()
    file = tmp_path / "headgate.toml"
    file.write_text('[spool]\npath = "spool"\n[s3]\nendpoint_url = "http://s3.invalid:9"\n')
    for words in (["config", "check"], ["doctor"]):
        said = CliRunner().invoke(headgate, ["--config", str(file), *words]).output
        assert "signatures of requests are sent over the network in clear text" in said, said
        assert "https:// in s3.endpoint_url" in said
