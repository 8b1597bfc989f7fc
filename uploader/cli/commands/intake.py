"""``headgate intake``: take pictures from folders as they come."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path

import click

from headgate.host import logs
from headgate.host.exit_codes import Exit
from headgate.intake.hand_over import LocalReceiver
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail
from uploader.intake.folder import Watched

_LOOK_SECONDS = 1.0


@click.command(
    epilog=ending(
        "headgate intake  # as systemd's headgate-intake.service does",
        "headgate --set 'intake.folders=/srv/cams' intake",
        meaning={Exit.OK: "it was stopped"},
    )
)
@click.pass_obj
def command(context: Context) -> None:
    """Take pictures from watched folders, as they come.

    It stays in the foreground, for systemd, until told to stop. A file that is quiet and whole is
    handed to the receiver, and removed once that holds it; what is refused for good goes to
    refused/ in its folder, with the reason.
    """
    settings = context.settings.intake
    if not settings.folders:
        fail("intake.folders is empty: say which folders to take pictures from", Exit.USAGE)
    for folder in settings.folders:
        if not folder.path.is_dir():
            fail(f"intake.folders: {folder.path} is no folder that this user can read")
    log = logs.get()

    def tell(event: str, path: Path, why: str) -> None:
        level = log.info if event == "intake.taken" else log.warning
        level(event, path=str(path), **({"reason": why} if why else {}))

    stop = threading.Event()
    for told in (signal.SIGTERM, signal.SIGINT):
        signal.signal(told, lambda *_: stop.set())
    with context.spool() as spool:
        logs.configure(level=context.level(logging.INFO))
        receiver = LocalReceiver(spool)
        watched = [Watched(one, receiver, settings.quiet, tell) for one in settings.folders]
        log.info("intake.started", folders=[str(one.path) for one in settings.folders])
        while not stop.wait(_LOOK_SECONDS):
            for one in watched:
                one.look(stop.is_set)
