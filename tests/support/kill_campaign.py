"""Drains that are killed and started again at once, forked from a program that has imported all.

``python kill_campaign.py CONFIG SECONDS SEED [--charge-nothing]`` prints, as JSON, how many were
killed, and how many of them while bytes left. Most are killed 15 to 60 ms after they start, some so
long after their first byte.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from contextlib import closing

from headgate.settings.load import load
from headgate.spool.budget.ledger import Grant
from headgate.spool.disk import durable
from headgate.spool.spool import Spool
from tests.support.wait import moments, readable, spend
from uploader.run.bounds import RunRequest
from uploader.run.start import run
from uploader.s3 import endpoint  # boto3, before any fork
from uploader.wire.pacer import Pacer


def drain(config: str) -> None:
    """One run, as the command makes it."""
    with closing(Spool.open(load(config, environment={}), create=False, probe=False)) as spool:
        run(spool, RunRequest(trigger="cron"))


def tell_of_the_first_byte(pipe: int) -> None:
    """Write to the pipe, once, when a byte has left."""
    honest = Pacer.wrote

    def wrote(self: Pacer, grant: Grant, written: int) -> None:
        honest(self, grant, written)
        if self.sent == written:
            os.write(pipe, b"x")

    Pacer.wrote = wrote  # type: ignore[method-assign]


def charge_nothing() -> None:
    """The mistake: bytes leave before their charge is on disk."""
    durable.write_records = lambda fd, records: None  # type: ignore[assignment]


def main() -> None:
    config, seconds, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    assert endpoint.boto3
    if "--charge-nothing" in sys.argv:
        charge_nothing()
    chance = random.Random(seed)
    kills = sending = 0
    # However slow the machine: some are killed, and one of them while it was sending.
    for _ in moments(seconds, enough=lambda: kills > 5 and sending):  # noqa: B023
        began, begins = os.pipe()
        child = os.fork()
        if not child:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            tell_of_the_first_byte(begins)
            try:
                drain(config)
            finally:
                os._exit(0)
        os.close(begins)
        if "--charge-nothing" in sys.argv or kills % 20 == 5:
            readable(began, 60)
        spend(chance.uniform(0.015, 0.060))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        sending += bool(os.read(began, 1))
        os.close(began)
    print(json.dumps({"kills": kills, "while_sending": sending}))


if __name__ == "__main__":
    main()
