"""``headgate worker``: take messages of the job queue, and run a drain for each."""

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
        "headgate worker --beat  # its own clock: nothing else has to send messages",
        "headgate worker  # a schedule elsewhere sends them",
        meaning={Exit.OK: "it was told to stop"},
    )
)
@click.option("--beat", is_flag=True, help="Be the clock as well: a message each uplink.interval.")
@click.pass_obj
def command(context: Context, beat: bool) -> None:
    """Take messages of the job queue, and run a drain for each.

    It stays in the foreground, for systemd, until told to stop. Ctrl-C or SIGTERM once finishes
    what is being sent.
    """
    settings = context.settings
    if settings.uplink.trigger != "queue":
        fail('uplink.trigger is "cron"; set it to "queue", and queue.broker', Exit.USAGE)
    with context.spool():
        pass  # it is there, and its schema is up to date
    try:
        from uploader.queue import worker
    except ImportError as error:
        fail(f"{_EXTRA} ({error})")
    logs.configure(level=context.level(logging.INFO))
    site = settings.spool.path / "state" / "site.sqlite3"
    config = None if settings.file is None else str(settings.file.absolute())
    work = work_for(site, config, context.flags, settings.uplink.interval)
    raise SystemExit(worker.start(broker(settings), work, settings, beat=beat))
