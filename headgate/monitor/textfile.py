"""The metrics in a file, for node_exporter's textfile collector, for sites without a scrape."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from headgate.host import logs
from headgate.monitor import receiver
from headgate.monitor.collect import snapshot
from headgate.monitor.metrics import measures, text
from headgate.spool import sqlite
from headgate.spool.disk import durable
from headgate.spool.errors import DiskError
from headgate.spool.spool import Spool


def leave_metrics(spool: Spool) -> None:
    """Write ``metrics.textfile``, whole or not at all; trouble with it ends no run.

    The collector reads files that end in ``.prom``, which the temporary one does not.
    """
    path = spool.settings.metrics.textfile
    if not path:
        return
    facts = snapshot(spool, latest=0, runs=3)
    facts = replace(facts, admission=receiver.ask(spool).admission(facts.admission))
    try:
        told = text(measures(facts, version("headgate"), sqlite.VERSION)).encode()
        durable.write_file(Path(path), told, mode=0o644)
    except DiskError as error:
        logs.get().warning("metrics.unwritten", file=path, why=str(error))
