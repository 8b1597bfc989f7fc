"""``make run``: the receiver, a drain every 15 seconds, and a stand-in for S3 unless one is set."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from types import FrameType

from dev.children import BIN, Child, ChildDied, taken
from dev.children import wait_until_it_listens as wait_for
from dev.stand_in import StandIn, environment, named
from headgate.host.addresses import Address, address_of, free_port
from headgate.host.processes import end_with_parent
from headgate.settings import units
from headgate.settings.load import load
from headgate.settings.settings import Settings, SettingsError
from headgate.spool.site.outcome import Outcome
from headgate.spool.site.site import Site

PHOTOGRAPH = Path(__file__).resolve().parent.parent / "docs" / "photos" / "china.jpg"
OBJECTS = Path("var/s3")
ADDRESS = Path("var/receiver-address")  # where make demo finds the receiver of make run
DRAIN_SECONDS = 15
QUIET_CODES = (0, 75)  # done, or another run holds the lock
RECEIVER_STOP_SECONDS = 80  # longer than an upload in flight may take
STOP_SECONDS = 20


def listening_at(settings: Settings) -> Address:
    """The address at which the receiver is to listen; a port of 0 becomes a free one."""
    address = address_of(settings.receiver.bind)
    return Address(address.host, address.port or free_port())


class Schedule:
    """A drain every so often, one at a time; what it says is shown when it is news."""

    def __init__(self, environment: dict[str, str], every_seconds: int, site: Path) -> None:
        self._environment = environment
        self._site = site
        self._every = every_seconds
        self._due = time.monotonic()
        self._said = ""
        self.child: Child | None = None

    def tick(self) -> None:
        """Start what is due, and notice what has ended."""
        if self.child is not None:
            if self.child.code is None:
                return
            self.child.stop(1)
            self._tell(self.child)
            self.child = None
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._every
            command = [str(BIN / "headgate"), "drain", "--trigger", "schedule"]
            self.child = Child("drain", command, self._environment, quiet=True)

    def _tell(self, ended: Child) -> None:
        lines = list(ended.lines)
        if ended.code not in QUIET_CODES:
            lines.append(f"ended with exit code {ended.code}")
        said = "\n".join(lines)
        idle = ended.code in QUIET_CODES and last_outcome(self._site) is Outcome.NOTHING_TO_DO
        if said != self._said and not idle:
            for line in lines:
                ended.show(line.removeprefix("headgate drain: "))
        self._said = said


def last_outcome(path: Path) -> Outcome | None:
    """How the last run ended, by the site's own record; None before the first."""
    site = Site(path)
    try:
        return next((run.outcome for run in site.runs(1)), None)
    finally:
        site.close()


def greeting(settings: Settings, address: str, stand_in: StandIn | None, every: int) -> str:
    """What the newcomer needs to know, with the curl that works."""
    bucket = settings.goes_to
    if stand_in is not None:
        bucket = f"stand-in ({shortened(stand_in.folder)}, kept; name a real one in headgate.toml)"
    photograph = shortened(PHOTOGRAPH)
    return (
        f"\n  page    http://{address}/\n"
        f"  spool   {settings.spool.path}\n"
        f"  bucket  {bucket}\n"
        f"  drain   every {every} s, at most {units.format_rate(settings.usual_rate)}\n"
        f"\nPost a photograph:\n"
        f"  curl -F {settings.receiver.field[0]}=@{photograph} http://{address}/uploadImage\n"
        f"\nCtrl-C ends all of it.\n"
    )


def running_receiver() -> int:
    """The port of the receiver of this folder's ``make run`` on loopback; 0 if none takes images
    without a token."""
    try:
        host, _, port = ADDRESS.read_text().strip().rpartition(":")
        urllib.request.urlopen(f"http://{host}:{port}/images/demo", timeout=5).close()
    except urllib.error.HTTPError as answer:  # 404 to whom may ask, else 401
        return int(port) if host == "127.0.0.1" and answer.code == HTTPStatus.NOT_FOUND else 0
    except (OSError, ValueError):
        pass
    return 0


def shortened(path: Path) -> str:
    """The path from here, where it is below this folder."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


class Running:
    """All programs that were started, in the order in which they end: receiver, drain,
    stand-in."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.receiver: Child | None = None
        self.schedule: Schedule | None = None
        self.stand_in: StandIn | None = None

    def start(self) -> None:
        """Start everything and say where it is; ChildDied when something does not come up."""
        address = listening_at(self.settings)
        if why := taken(address.host, address.port):
            other = Address(address.host, address.port + 1)
            raise ChildDied(
                f"port {address.port} of {address.host} cannot be had ({why}); stop what listens "
                f"there, or take another: HEADGATE_RECEIVER_BIND={other} make run"
            )
        drains = dict(os.environ)
        if not self.settings.goes_to:
            self.stand_in = StandIn(OBJECTS.absolute())
            drains = {**environment("AWS_"), **self.stand_in.variables()}
        receiver = {**os.environ, "HEADGATE_RECEIVER_BIND": str(address)}
        if self.stand_in is not None:
            receiver |= named(
                self.stand_in.endpoint
            )  # only so that the page can say where images go
        self.receiver = Child("receiver", [str(BIN / "headgate-receiver")], receiver)
        if self.stand_in is not None:
            self.stand_in.wait()
        near = address.from_here
        wait_for(self.receiver, near.host, near.port)
        if self.stand_in is not None:
            ADDRESS.write_text(str(near))
        every = min(DRAIN_SECONDS, self.settings.uplink.interval)
        print(greeting(self.settings, str(near), self.stand_in, every), flush=True)
        self.schedule = Schedule(drains, every, self.settings.spool.path / "state" / "site.sqlite3")

    def tick(self) -> None:
        """Look after everything; ChildDied when something that should run has ended."""
        if self.receiver is not None:
            self.receiver.require()
        if self.stand_in is not None:
            self.stand_in.child.require()
        if self.schedule is not None:
            self.schedule.tick()

    def children(self) -> list[tuple[Child, float]]:
        """What runs, in the order in which it ends, each with the seconds it may take."""
        drain = self.schedule.child if self.schedule else None
        stand_in = self.stand_in.child if self.stand_in else None
        found = [
            (self.receiver, RECEIVER_STOP_SECONDS),
            (drain, STOP_SECONDS),
            (stand_in, STOP_SECONDS),
        ]
        return [(child, seconds) for child, seconds in found if child is not None]

    def stop(self) -> None:
        """Stop everything: uploads in flight are finished, then the drain ends, then the
        stand-in."""
        for child, seconds in self.children():
            if child.code is None and not child.stop(seconds):
                print(f"{child.name} did not end by itself and was killed", file=sys.stderr)

    def kill(self) -> None:
        """Kill everything at once."""
        for child, _ in self.children():
            child.kill()


def main() -> int:
    end_with_parent(os.getppid())
    ending = threading.Event()
    try:
        settings = load()
    except SettingsError as error:
        for fault in error.faults:
            print(f"headgate: {fault}", file=sys.stderr)
        return 2
    running = Running(settings)

    asked_at = [math.inf]

    def end(number: int, _frame: FrameType | None) -> None:
        # A terminal that closes sends several signals at once; only a second Ctrl-C is impatience.
        if number == signal.SIGINT and time.monotonic() - asked_at[0] > 0.5:
            running.kill()
            os._exit(1)
        asked_at[0] = min(asked_at[0], time.monotonic())
        ending.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    code = 0
    try:
        running.start()
        while not ending.wait(0.2):
            running.tick()
        print("\nending (Ctrl-C again: at once)", flush=True)
    except ChildDied as died:
        if not ending.is_set():
            print(f"headgate: {died}", file=sys.stderr, flush=True)
            code = 1
    ending.set()
    running.stop()
    return code


if __name__ == "__main__":
    sys.exit(main())
