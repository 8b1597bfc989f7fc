"""What this machine says of itself: the I/O before the judgements."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from headgate.host import confinement, mounts, processes, set_clock, systemd, users
from headgate.host.addresses import Address, NoAnswer, address_of, request
from headgate.monitor import wording
from headgate.monitor.collect import triggers
from headgate.monitor.receiver import behind_proxy
from headgate.monitor.rules import UNCONFIRMED
from headgate.monitor.snapshot import TriggerFacts
from headgate.settings.load import SECRETS
from headgate.settings.settings import SETTINGS, Settings
from headgate.shared.connection import SharedTrouble, connect, troubles
from headgate.shared.lender import TIMEOUT_SECONDS
from headgate.spool import identity, sqlite
from headgate.spool.disk.locks import holder
from headgate.spool.errors import AttributesError, DiskError
from headgate.spool.site.site import S3_CLOCK
from headgate.spool.spool import Spool
from uploader.alerts.evaluate import at_work_now
from uploader.cli.cron import crontabs, systemd_timer
from uploader.cli.doctor.accounts import AccessEntry, Accounts
from uploader.cli.doctor.clock import Clock
from uploader.cli.doctor.database import Databases
from uploader.cli.doctor.destination import NotAsked, Seen
from uploader.cli.doctor.disk import DiskFacts
from uploader.cli.doctor.network import Receiver
from uploader.cli.doctor.other_ways import OtherWay
from uploader.cli.doctor.people import People
from uploader.cli.doctor.schedule import Queue, Schedule
from uploader.cli.install.layout import OPTIONAL
from uploader.http_post.client import HttpSender
from uploader.http_post.probe import Receiving, look
from uploader.s3.capability import Capability
from uploader.wire.errors import ErrorKind, SendError
from uploader.wire.meter import Meter
from uploader.wire.other_traffic import other_traffic_pacer
from uploader.wire.pacer import Closed

_KEEPERS = ("chronyd", "systemd-timesyn", "ntpd", "ntpsec-ntpd", "openntpd")
"""Programs that keep a clock, as /proc/<pid>/comm cuts their names."""
_LARGEST_DATABASE = 64 * 1024 * 1024
"""Bytes of a database that is checked: SQLite compares some 100 MB a second."""
_DATABASES = 8
"""The most that are checked: catalog, site and the newest days of receipts."""
_STARTING_SECONDS, _AGAIN_SECONDS = 10.0, 0.2
"""How long a receiver that runs and does not answer is waited for, because it may have been started
a moment ago; and between two looks."""


@dataclass(frozen=True, slots=True)
class Serving:
    """The receiver's process, as root or its own user may see it."""

    pid: int
    user: int
    open_files: int | None


def serving(spool: Path) -> Serving | None:
    """The one that its lock names, if it still is one."""
    found = re.search(r"pid (\d+)", holder(spool / "state" / "receiver.lock"))
    if found is None:
        return None
    folder = Path("/proc", found[1])
    try:
        if b"headgate-receiver" not in (folder / "cmdline").read_bytes():
            return None
        user = folder.stat().st_uid
    except OSError:
        return None
    limit = None
    with contextlib.suppress(OSError):
        line = re.search(r"^Max open files\s+\S+\s+(\S+)", (folder / "limits").read_text(), re.M)
        limit = resource.RLIM_INFINITY if line is None or line[1] == "unlimited" else int(line[1])
    return Serving(int(found[1]), user, limit if limit != resource.RLIM_INFINITY else 1 << 20)


def _entry(path: Path) -> AccessEntry | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return AccessEntry(str(path), seen.st_uid, seen.st_gid, seen.st_mode & 0o7777)


def _way(file: Path | None) -> tuple[AccessEntry, ...]:
    """A file and the folders on the way to it, outermost first; empty if there is none."""
    if file is None:
        return ()
    found = [_entry(path) for path in (*reversed(file.absolute().parents), file)]
    return tuple(entry for entry in found if entry) if all(found) else ()


def _name(user: int) -> str:
    return users.user_name(user) or str(user)


def accounts(settings: Settings, program: Serving | None) -> Accounts:
    """Users and modes; the receiver's user is its process's, or the one that made tmp/."""
    spool = settings.spool.path
    own = [spool, *(spool / name for name in ("tmp", "new", "done", "aside", "state"))]
    folders = tuple(entry for path in own if (entry := _entry(path)) is not None)
    uploader = folders[0].user if folders else os.geteuid()
    receiver = program.user if program is not None else None
    if receiver is None and len(folders) > 1:
        receiver = folders[1].user
    home = Path(users.home_of(uploader) or "/")
    way = [_entry(path) for path in (home, home / ".aws", home / ".aws/credentials")]
    return Accounts(
        uploader=_name(uploader),
        uploader_id=uploader,
        uploader_groups=users.groups_of(uploader),
        receiver="" if receiver is None else _name(receiver),
        receiver_id=receiver,
        receiver_groups=frozenset() if receiver is None else users.groups_of(receiver),
        folders=folders,
        credentials=tuple(entry for entry in way if entry) if all(way) else (),
        config=_way(settings.file),
        secrets=_way(settings.file.with_name(SECRETS) if settings.file else None),
        told=tuple(
            one.name
            for one in SETTINGS
            if one.secret and settings.file and settings.origin[one.name] == str(settings.file)
        ),
    )


def databases(spool: Spool) -> Databases:
    """The newest and smaller ones, checked while the receiver runs, as ``headgate verify`` does."""
    state = spool.files.state
    days = [spool.receipts.path(day) for day in reversed(spool.receipts.days())]
    checked: list[tuple[str, str]] = []
    larger: list[str] = []
    for path in (state / "catalog.sqlite3", state / "site.sqlite3", *days):
        try:
            is_large = path.stat().st_size > _LARGEST_DATABASE
            if is_large:
                larger.append(path.name)
            elif len(checked) < _DATABASES:
                checked.append((path.name, sqlite.damage(path)))
        except FileNotFoundError:
            continue  # a run dropped the day
    return Databases(tuple(checked), tuple(larger), _LARGEST_DATABASE)


def disk(spool: Spool) -> DiskFacts:
    """The spool's file system, after a write that is flushed and read back."""
    path = Path(os.path.realpath(spool.path))
    mount = mounts.mount_of(path)
    try:
        spool.probe()
        fails, of_attributes = "", False
    except DiskError as error:
        fails, of_attributes = str(error), isinstance(error, AttributesError)
    remembered = identity.memory(spool.settings)
    cache: bool | None = None
    with contextlib.suppress(OSError):
        block = Path(os.path.realpath(mount.source)).name
        said = Path("/sys/class/block", block, "queue/write_cache").read_text()
        cache = said.strip() == "write back"
    return DiskFacts(
        path=str(spool.path),
        kind=mount.kind or "an unknown file system",
        source=mount.source,
        mounted_at=mount.point,
        options=mount.options,
        risk=spool.risk(),
        probe_fails=fails,
        no_attributes=of_attributes,
        admission=spool.admission(),
        volatile_cache=cache,
        own_mount=mount.point not in ("", "/"),
        known_in=remembered.file,
        known_on_itself=remembered.on_its_own_disk,
    )


def _zone() -> str:
    with contextlib.suppress(OSError):
        return Path("/etc/timezone").read_text().strip()
    return os.path.realpath("/etc/localtime").partition("zoneinfo/")[2]


def clock(spool: Spool, s3_offset: float | None) -> Clock:
    """The kernel's word on the clock, and who keeps it."""
    running = processes.running_names()
    keepers = [program for program in _KEEPERS if program in running]
    keeper = keepers[0].replace("systemd-timesyn", "systemd-timesyncd") if keepers else ""
    offset = s3_offset if s3_offset is not None else spool.site.get(S3_CLOCK)
    timetable = bool(spool.uplink.timetable())
    return Clock(set_clock.synchronised(), keeper, offset, _zone(), timetable)


def in_vain_seconds(spool: Spool) -> float:
    """How long whole runs have tried and confirmed nothing of what waits."""
    now, proof, totals = spool.now(), spool.site.proof(), spool.catalog.totals()
    waits = totals.waiting.images + totals.sending.images
    stuck = proof.is_stuck(now, UNCONFIRMED.seconds(spool.settings.uplink.interval))
    return proof.failing_seconds(now) if waits and stuck else 0.0


def schedule(spool: Spool) -> Schedule:
    """What starts the runs, and the last of them."""
    by_timer = systemd_timer.enabled()
    starts = crontabs.is_running()
    if by_timer:
        starts = systemd.is_running() and systemd.is_active(systemd_timer.DRAIN)
    last = next(iter(spool.site.runs(1)), None)
    quiet = None
    if last is not None:
        since = last.ended_at or last.started_at
        quiet = 0.0 if at_work_now(spool) else max(0.0, (spool.now() - since).total_seconds())
    failed = last is not None and last.ended_at is not None and not last.success
    outcome = "" if last is None else (last.message or last.outcome or "under way")
    now = spool.now()
    known = triggers(spool)
    queue = _queue(known, now)
    told = tuple(wording.trigger(one, now) for one in known)
    settings = spool.settings
    every = settings.uplink.interval if queue is None else settings.queue.floor
    return Schedule(
        by_timer, crontabs.check(spool.settings), starts, every,
        quiet, outcome, failed, queue, told,
        in_vain_seconds(spool),
    )  # fmt: skip


def _queue(known: Sequence[TriggerFacts], now: datetime) -> Queue | None:
    one = next((one for one in known if one.kind == "queue"), None)
    if one is None or one.every_seconds is None:
        return None
    installed = importlib.util.find_spec("celery") is not None
    return Queue(one.every_seconds, installed, one.quiet_seconds(now), one.sender)


def people(spool: Spool) -> People:
    """Who has a key to the page."""
    settings = spool.settings
    return People(
        settings.auth,
        users=len(spool.site.users.all()),
        scrape_tokens=len(spool.site.users.scrape_tokens()),
        devices=sum(1 for device in spool.site.devices.all(spool.now()) if device.tokens),
        on_network=not address_of(settings.receiver.bind).is_loopback,
    )


def receiver(spool: Spool, program: Serving | None) -> Receiver:
    """Whether it answers, and what its settings let in."""
    settings = spool.settings
    bind = settings.receiver.bind
    address = address_of(bind)
    alive = _alive(address.from_here, spool.settings.spool.path, program)
    status, detail = _ask(address.from_here, "/readyz") if alive == 200 else (0, "")
    devices = spool.site.devices.all(spool.now())
    return Receiver(
        bind=bind,
        answers=alive == 200,
        ready=status == 200,
        not_ready=detail or "unknown",
        port_taken=alive not in (0, 200),
        threads=settings.receiver.threads,
        open_files=None if program is None else program.open_files,
        on_network=not address.is_loopback,
        auth=settings.receiver.auth,
        allow=tuple(str(network) for network in settings.receiver.allow),
        tokens=sum(1 for device in devices if device.tokens),
        unconfined=confinement.why_not(),
        behind_proxy=behind_proxy(spool),
    )


def _alive(address: Address, spool: Path, program: Serving | None) -> int:
    """The status of the receiver's health check, or as ``_ask`` has it. The program that holds the
    receiver's lock gets some seconds to begin to listen."""
    until = time.monotonic() + _STARTING_SECONDS
    while True:
        alive, _ = _ask(address, "/healthz")
        if alive or program is None or time.monotonic() >= until or serving(spool) != program:
            return alive
        time.sleep(_AGAIN_SECONDS)


def shared_uplink(settings: Settings) -> str | None:
    """Why the Redis server of a shared uplink does not answer; "" if it does, None if none is."""
    if not settings.shares_uplink:
        return None
    try:
        client = connect(settings.uplink.shared, timeout_seconds=TIMEOUT_SECONDS)
        with troubles(client):
            client.ping()
            client.close()
    except SharedTrouble as trouble:
        return str(trouble)
    return ""


def other_ways(settings: Settings) -> tuple[OtherWay, ...]:
    """What is set, installed and running for other ways in than HTTP."""
    here = systemd.is_running()
    return tuple(
        OtherWay(
            one,
            is_wanted=bool(settings.value(one.setting)),
            is_installed=not one.package or importlib.util.find_spec(one.package) is not None,
            is_active=systemd.is_active(one.unit) if here else None,
        )
        for one in OPTIONAL
    )


def _ask(address: Address, path: str) -> tuple[int, str]:
    """Status and detail; 0 if the port is free, -1 if another program listens there."""
    try:
        status, said = request(address, "GET", path)
    except NoAnswer as error:
        return (-1 if error.listens else 0), ""
    if said is None:
        return -1, ""
    return status, str(said.get("why") or said.get("detail", ""))


def destination(spool: Spool, who: str) -> Seen:
    """What the place where images go would do with them, asked within the cap; ``who`` asks. A
    bucket gets a small test object, and what its server takes is remembered."""
    over_http = spool.settings.destination.kind == "http"
    check = "destination" if over_http else "bucket"
    if not spool.settings.goes_to:
        sentence = "No bucket is set: set it under [s3] in headgate.toml."
        return NotAsked(check, sentence, tried=True, refused=True)
    try:
        with other_traffic_pacer(spool.uplink, who, 15) as pacer:
            return _receiving(spool, pacer) if over_http else _bucket(spool, pacer)
    except SendError as error:
        refused = error.kind is ErrorKind.FATAL
        return NotAsked(check, error.message, tried=True, refused=refused)
    except (Closed, DiskError) as error:
        return NotAsked(check, f"The {check} was not tested: {error}.")


def _receiving(spool: Spool, pacer: Meter) -> Receiving:
    settings = spool.settings
    with contextlib.closing(HttpSender(settings, pacer)) as sender:
        by_status = settings.destination.proof == "status"
        return look(sender, by_status=by_status, max_image=settings.receiver.max_image)


def _bucket(spool: Spool, pacer: Meter) -> Capability:
    from uploader.s3.client import S3Sender  # imports boto3
    from uploader.s3.dialect import remember
    from uploader.s3.probe import probe

    with contextlib.closing(S3Sender(spool.settings, pacer)) as sender:
        found = probe(sender, spool.settings.s3.prefix)
        if found.writable:
            remember(spool.site, spool.settings, sender.dialect)
        return found
