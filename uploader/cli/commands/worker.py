"""``headgate worker``: receive messages of the job queue, and run a drain for each."""

from __future__ import annotations

import logging

import click

from headgate.host import logs
from headgate.host.exit_codes import Exit
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail
from uploader.queue.celery_config import broker
from uploader.queue.execute import work_for

_EXTRA = "the job queue needs Celery: make install EXTRAS=queue, or pip install 'headgate[queue]'"


@click.command(
    epilog=ending(
        "headgate worker --beat  # with its own clock: nothing else has to send messages",
        "headgate worker  # another scheduler sends the messages",
        meaning={Exit.OK: "it was stopped"},
    )
)
@click.option("--beat", is_flag=True, help="Also send a message every uplink.interval.")
@click.pass_obj
def command(context: Context, beat: bool) -> None:
    """Receive messages of the job queue, and run a drain for each.

    It runs in the foreground, for systemd, until it is stopped. One Ctrl-C or SIGTERM finishes the
    uploads in progress first.
    """
    settings = context.settings
    if settings.uplink.trigger != "queue":
        fail('uplink.trigger is "cron"; set it to "queue", and queue.broker', Exit.USAGE)
    with context.spool():
        pass  # it exists, and its schema is up to date
    try:
        from uploader.queue import worker
    except ImportError as error:
        fail(f"{_EXTRA} ({error})")
    logs.configure(level=context.level(logging.INFO))
    site = settings.spool.path / "state" / "site.sqlite3"
    config = None if settings.file is None else str(settings.file.absolute())
    work = work_for(site, config, context.flags, settings.uplink.interval)
    raise SystemExit(worker.start(broker(settings), work, settings, beat=beat))
