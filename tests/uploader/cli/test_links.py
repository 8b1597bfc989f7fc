"""Root's commands in a spool whose folders a less trusted user may write: no link leads anywhere.

The receiver's user can put any name into the spool's folders. So whatever root calls, the kernel
must see the spool's owner at work there; and what root alone may touch must be as it was.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.support.paths import ROOT
from uploader.cli.main import COMMANDS, headgate

GROUP, RECEIVER, UPLOADER = 61010, 61011, 61012
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")

CALLS: dict[str, tuple[str, ...]] = {
    "alert history": (),
    "alert list": (),
    "alert silence": ("all", "--for", "1h", "--reason", "a test"),
    "alert test": ("--dry-run",),
    "check": ("--machine",),
    "config check": (),
    "dashboard cloudwatch": (),
    "device add": ("cam-1",),
    "device export": (),
    "device import": ("devices.json",),
    "device list": (),
    "device revoke": ("cam-1",),
    "device rotate": ("cam-1",),
    "discard": ("20261123T160405.123456Z_cam-1_0123456789abcdef", "--reason", "a test"),
    "doctor": (),
    "drain": ("--cron",),
    "import": ("/mnt", "--device", "cam-1"),
    "intake": (),
    "limit": ("60%", "--for", "1h", "--reason", "a test"),
    "list": (),
    "pause": (),
    "plan": (),
    "resume": (),
    "retry": ("--all",),
    "spool adopt": (),
    "status": (),
    "verify": ("--repair",),
    "watch": ("--cron",),
    "worker": (),
    "audit": (),
    "token add": ("scraper",),
    "token list": (),
    "token remove": ("scraper",),
    "user add": ("anna", "--role", "admin"),
    "user list": (),
    "user password": ("anna",),
    "user remove": ("anna",),
    "user role": ("anna", "viewer"),
    "device gaps": ("cam-1",),
    "device group": ("cam-1", "north"),
    "device label": ("cam-1", "door"),
    "device remove": ("cam-1",),
    "device rename": ("cam-1", "cam-2"),
    "find": (),
    "get": ("20261123T160405.123456Z_cam-1_0123456789abcdef",),
    "hold": ("cam-1",),
    "purge": ("--device", "cam-1", "--reason", "a test", "--yes"),
    "release": ("cam-1",),
    "reupload": ("--device", "cam-1", "--yes"),
    "runs": (),
    "safe-off": (),
    "safe-on": (),
    "why": ("cam-1",),
}
ELSEWHERE = {
    "alert help", "completion", "config show", "cron install", "cron reach", "cron remove",
    "cron show", "fleet forget", "fleet status", "install", "uninstall",
}  # fmt: skip
"""Commands that open no spool, or only as their last act, to add a line to the audit log."""

PLANTS = ("site", "catalog", "empty", "dangling", "others", "state", "done", "none")

SCRIPT = """
import contextlib, importlib, json, os, shutil, signal, sys, types
from pathlib import Path
from uploader.cli.main import COMMANDS; from uploader.cli.main import headgate
from tests.support.spooling import open_spool

for module in COMMANDS.values():
    importlib.import_module(module)
import boto3, celery, uploader.cloudwatch.publish, uploader.queue.celery_app, uploader.queue.worker
import uploader.run.start, uploader.s3.client, uploader.queue.pending_jobs

uploader.queue.worker.start = lambda *told, **more: 0  # else it stays in the foreground
sys.modules["uploader.cli.commands.intake"].threading = types.SimpleNamespace(
    Event=lambda: types.SimpleNamespace(wait=lambda *told: True, is_set=lambda: True, set=print)
)

base, group, receiver, uploader, calls, plants = (
    Path(sys.argv[1]), *map(int, sys.argv[2:5]), json.loads(sys.argv[5]), json.loads(sys.argv[6])
)
spool, secret = base / "var/spool", base / "secret"
inside = os.fsencode(spool)
with contextlib.closing(open_spool(base / "warm")):
    pass
with contextlib.closing(open_spool(base)) as made:
    made.site.devices.add(["cam-1"], made.now(), urgent=False)
for path in (spool, *spool.rglob("*")):
    os.chown(path, uploader, group)
    path.chmod(0o2770 if path.is_dir() else 0o660)
good = base / "good"
os.chdir(base)
Path("devices.json").write_text(json.dumps({"devices": []}))
shutil.move(spool, good)

def fresh():
    shutil.rmtree(spool, ignore_errors=True)
    shutil.copytree(good, spool)
    for path in (spool, *spool.rglob("*")):
        os.chown(path, uploader, group)
        path.chmod(0o2770 if path.is_dir() else 0o660)
    shutil.rmtree(secret, ignore_errors=True)
    secret.mkdir(mode=0o700)
    for name in ("text", "empty"):
        (secret / name).write_text("root's alone" * (name == "text"))
        (secret / name).chmod(0o600)
    shutil.copy(good / "state/site.sqlite3", secret / "database")
    (secret / "database").chmod(0o600)

def plant(what):
    state = spool / "state"
    def instead(path, target):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        path.symlink_to(secret / target)
    match what:
        case "catalog" | "site":
            instead(state / f"{what}.sqlite3", "database")
        case "others":
            for name in ("ledger", "ledger-other", "drain.lock", "receiver.lock", "other.lock",
                         "site.sqlite3-wal", "site.sqlite3-shm", "catalog.sqlite3-wal",
                         "catalog.queue"):
                instead(state / name, "text")
            instead(state / "receipts", "")
        case "dangling":
            instead(state / "site.sqlite3", "made")
        case "empty":
            instead(state / "site.sqlite3", "empty")
        case "state" | "done":
            instead(spool / what, "")

def seen():
    found = {}
    for path in (secret, *secret.rglob("*")):
        s = path.lstat()
        found[str(path)] = (s.st_mode, s.st_uid, s.st_gid, s.st_mtime_ns,
                            path.read_bytes() if path.is_file() else sorted(os.listdir(path)))
    return found

hooked = []

def watch(event, args):
    if not hooked or os.geteuid() != 0:
        return
    for arg in args:
        if isinstance(arg, (str, bytes, os.PathLike)):
            text = os.fsencode(arg)
            if text.startswith(inside) and not (event == "open" and args[2] & os.O_NOFOLLOW):
                os.write(hooked[0], f"{hooked[1]}: as root: {event} {args}\\n".encode())

sys.addaudithook(watch)
trouble = os.dup(1)
for name, more in calls.items():
    for what in plants:
        fresh()
        plant(what)
        before = seen()
        child = os.fork()
        if not child:
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            signal.alarm(60)
            hooked += [trouble, f"{name} ({what})"]
            code = 0
            try:
                headgate.main(["--config", str(base / "headgate.toml"), *name.split(), *more],
                              standalone_mode=False)
            except SystemExit as ended:
                code = ended.code or 0
            except BaseException as error:
                code = f"{type(error).__name__}: {error}"
            if what == "none" and os.geteuid() != uploader:
                os.write(trouble, f"{name}: did not become the owner ({code})\\n".encode())
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            print(f"{name} ({what}): was killed", flush=True)
        if seen() != before:
            print(f"{name} ({what}): what is root's alone was touched", flush=True)
"""


def leaves(group: click.Group, above: str = "") -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, f"{above}{name} ")
        else:
            yield above + name


def test_each_command_is_tried_here_or_opens_no_spool() -> None:
    assert set(COMMANDS) == set(headgate.list_commands(click.Context(headgate)))
    assert set(leaves(headgate)) == CALLS.keys() | ELSEWHERE


@pytest.fixture
def shared() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="headgate-links-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@needs_root
@pytest.mark.root
def test_root_touches_nothing_through_a_link_in_the_spool(shared: Path) -> None:
    (shared / "headgate.toml").write_text(
        '[spool]\npath = "var/spool"\n[s3]\nbucket = "images"\nregion = "x"\n'
        'endpoint_url = "http://127.0.0.1:9"\n[receiver]\nbind = "127.0.0.1:9"\n'
        '[alerts]\nslack_webhook = "http://127.0.0.1:9/x"\n[uplink]\ntrigger = "queue"\n'
        '[queue]\nbroker = "redis://127.0.0.1:9/0"\n[intake]\nfolders = ["/mnt"]\n'
    )
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, shared, str(GROUP), str(RECEIVER), str(UPLOADER),
         json.dumps(CALLS), json.dumps(PLANTS)],
        cwd=ROOT, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y",
             "AWS_EC2_METADATA_DISABLED": "true"},
    )  # fmt: skip
    assert (ran.stdout, ran.stderr, ran.returncode) == ("", "", 0)
