"""Three Headgates in a chain: a box in the field posts to the site's, which posts to the last one.

The middle one is killed again and again, its receiver and its runs, while images pass through it.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from headgate.settings.load import load
from headgate.spool.image.image import State
from headgate.spool.spool import Spool
from headgate.spool.upkeep import verify
from tests.support.environment import PYTHON_PATH, without_settings
from tests.support.images import picture
from tests.support.receiver import Receiver, enrol, metadata
from tests.support.spooling import put
from tests.support.wait import kill, wait_until

IMAGES = 60
KILLS = 5


class Gate:
    """A gateway whose runs post to the receiver of the next one."""

    def __init__(self, folder: Path, site: str, following: Receiver) -> None:
        folder.mkdir(exist_ok=True)
        token = enrol(following, site, urgent=True, forward=True)
        self.folder, self.following = folder, following
        self.config, self.token = folder / "headgate.toml", token
        self.site = site
        self.point()

    def point(self) -> None:
        """To the port that the next receiver has now."""
        self.config.write_text(
            f'[site]\nname = "{self.site}"\n[spool]\npath = "spool"\n[destination]\nkind = "http"\n'
            f'url = "{self.following.url}/images"\n[uplink]\nlink = "100MB/s"\nshare = "100%"\n'
        )

    def spool(self) -> Spool:
        return Spool.open(load(str(self.config), environment={}))

    def start(self) -> subprocess.Popen[str]:
        """A run, in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "uploader", "--config", str(self.config), "drain", "--json"],
            env={**without_settings(), "PYTHONPATH": PYTHON_PATH,
                 "HEADGATE_DESTINATION_TOKEN": self.token},
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def drain(self) -> None:
        """Runs until none waits; what waits for its next attempt is due at once."""

        def emptied() -> bool:
            with contextlib.closing(self.spool()) as spool:
                waiting = [*spool.catalog.in_state(State.WAITING, 1000),
                           *spool.catalog.in_state(State.SENDING, 1000)]  # fmt: skip
                if not waiting:
                    return True
                with spool.hold_drain_lock("test", 15):
                    spool.catalog.unclaim(waiting)
            out, err = self.start().communicate(timeout=120)
            assert out, err
            ended = json.loads(out)
            assert ended["set_aside"] == 0, (ended, err)
            return False

        wait_until(emptied, f"nothing waits at {self.site}", seconds=300)


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_arrives_twice_while_the_middle_one_is_killed(
    tmp_path: Path,
) -> None:
    chance = random.Random()
    last = Receiver(tmp_path / "last", **{"receiver.auth": "token"})
    middle = Receiver(tmp_path / "middle", **{"receiver.auth": "token"})
    for receiver in (last, middle):
        receiver.spool.parent.mkdir()
        receiver.start()
    try:
        site = Gate(tmp_path / "middle", "site-1", last)
        box = Gate(tmp_path / "box", "box-1", middle)
        with contextlib.closing(box.spool()) as spool:
            sent = {}
            for number in range(IMAGES):
                data = picture(3000) if number % 10 else picture(300_000)
                made = put(spool, data, device=f"cam-{number % 3}").receipt
                sent[made.sha256] = data
            copy = put(spool, data, device=f"cam-{number % 3}", key="again").receipt
            assert copy.sha256 in sent  # the same bytes once more: an image of its own
        for _ in range(KILLS):
            runs = [box.start(), site.start()]
            before = len(list((middle.spool).rglob("*.jpg")))
            aim = before + chance.randrange(1, 8)
            wait_until(
                lambda aim=aim, runs=runs: (
                    len(list(middle.spool.rglob("*.jpg"))) >= aim
                    or all(one.poll() is not None for one in runs)
                ),
                "some images have come, or the runs have ended",
            )
            assert middle.process is not None
            if chance.random() < 0.7:
                middle.stop(how=signal.SIGKILL)
            for one in runs:
                if chance.random() < 0.5:
                    kill(one)
                else:
                    one.communicate(timeout=120)
            if middle.process.poll() is not None:
                middle.start()
                box.point()
        box.drain()
        site.drain()
        arrived = Counter(metadata(last, path.stem).sha256 for path in last.images())
        assert arrived == Counter([*sent, copy.sha256])
        for path in last.images():
            assert path.read_bytes() == sent[metadata(last, path.stem).sha256]
        devices = {path.name.split("_")[1] for path in last.images()}
        assert devices == {"cam-0", "cam-1", "cam-2"}
        for gate in (box, site):
            with contextlib.closing(gate.spool()) as spool:
                assert spool.inventory().unaccounted == 0
                assert verify.disagreements(spool, deep=True, sleep=lambda _: None) == []
    finally:
        middle.stop()
        last.stop()
