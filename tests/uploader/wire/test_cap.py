"""The cap as the far side sees it: whole programs, one counting proxy, and everything that may
happen to them. What a window may hold beyond the cap is what the kernel still sends: ``slack``."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import random
import re
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headgate.host.exit_codes import Exit
from headgate.spool.budget import ledger, slots
from headgate.spool.budget.uplink import Part
from headgate.spool.image.image import State
from tests.support.counting_proxy import most_in
from tests.support.gateway import Gateway, charged, counted, slack
from tests.support.paths import ROOT
from tests.support.s3_server import Place, strict_place
from tests.support.wait import kill, moments, spend, wait_until
from uploader.run.runway import AROUND_BYTES
from uploader.wire.connection import SEND_BUFFER
from uploader.wire.dialing import connect


@dataclass(frozen=True)
class Second:
    """One second of the ledger: what was charged to it, and the rate at its last charge."""

    at: int
    charged: int
    rate: int


def seconds(gateway: Gateway) -> list[Second]:
    """What the ledger of the drains holds for each second that was charged, oldest first."""
    data = (gateway.spool.files.state / Part.DRAIN).read_bytes()
    ring = struct.iter_unpack("<QQQ8x", data[4096:])
    return sorted((Second(*record) for record in ring if record[1]), key=lambda found: found.at)


def await_second(
    gateway: Gateway, drain: subprocess.Popen[str], what: str, fits: Callable[[Second], bool]
) -> Second:
    """The first second of the ledger that fits, once there is one."""
    found = wait_until(
        lambda: next(filter(fits, seconds(gateway)), None), what,
        process=drain, detail=lambda: seconds(gateway),
    )  # fmt: skip
    assert found is not None
    return found


# -- everything else that leaves, beside a drain


@pytest.mark.slow
def test_checks_beside_a_drain_keep_the_rate_together(gateway: Gateway) -> None:
    rate = 1_500_000
    images = gateway.fill(80, 50_000)
    with counted(gateway) as proxy:
        gateway.write(endpoint=proxy.url, uplink={"link": "1500kB/s", "share": "100%"})
        drain = gateway.start("drain", "--until-empty")
        checks = [gateway.start("config", "check", "--json") for _ in range(3)]
        said = [json.loads(check.communicate(timeout=120)[0]) for check in checks]
        drain.communicate(timeout=120)
    assert drain.returncode == 0
    answered = [check["bucket"] is not None for check in said]
    assert any(answered)  # without waiting for the drain to end
    assert all(
        ok or "other.lock" in str(check["faults"]) for ok, check in zip(answered, said, strict=True)
    )
    assert most_in(proxy.arrivals, 1.0) <= rate + slack(proxy.connections)
    stored = set(gateway.objects())
    assert {key for key in stored if "headgate-probe" in key}
    assert len(stored) == len(images) + 1
    assert charged(gateway) >= proxy.total


def test_a_check_whose_ledger_is_gone_says_so_and_asks_nothing(gateway: Gateway) -> None:
    (gateway.spool.files.state / Part.OTHER).unlink()
    said = gateway.json("config", "check")
    assert said["bucket"] is None
    assert any(
        "The bucket was not tested: the ledger counts as spent" in w for w in said["warnings"]
    )
    assert gateway.objects() == {}
    gateway.fill(2)
    assert gateway.json("drain")["images"] == 2  # which has its own


# -- a rate that changes under a running drain


def test_a_limit_is_followed_down_and_up_by_a_running_drain(gateway: Gateway) -> None:
    """Judged by the ledger's own seconds: once one was charged at the limit's rate, no later one
    may hold more. That the rate rose again shows in the end of what would have taken longer."""
    patience = 100
    # So many that what leaves at the first limit, while a slow machine starts the command that sets
    # the second, is little of it.
    images = gateway.fill(160, 50_000)
    with counted(gateway) as proxy:
        gateway.write(endpoint=proxy.url, uplink={"link": "2MB/s", "share": "100%"})
        gateway.json("limit", "5%", "--for", "1h", "--reason", "so that much is left")
        drain = gateway.start("drain", "--until-empty")
        await_second(gateway, drain, "a second is charged", lambda second: True)
        low = gateway.json("limit", "1%", "--for", "1h", "--reason", "backup")["rate"]
        obeys = slots.drain_part(low)
        first = await_second(
            gateway,
            drain,
            "a second is charged at the limit's rate",
            lambda second: second.rate == obeys,
        )
        second = await_second(
            gateway, drain, "a later one is charged", lambda second: second.at > first.at
        )
        lowered = time.monotonic()  # what was granted at the rate before is void by now
        await_second(gateway, drain, "another one is charged", lambda other: other.at > second.at)
        raising = time.monotonic()
        so_far = seconds(gateway)
        gateway.json("limit", "--off")
        out, err = drain.communicate(timeout=patience)
    assert drain.returncode == 0, out + err
    assert low == 20_000
    assert max(found.charged for found in so_far if found.at > first.at) <= obeys
    slowly = [a for a in proxy.arrivals if a[0] >= lowered and a[1] <= raising]
    assert most_in(slowly, 1.0) <= low + slack(proxy.connections)
    left = 160 * 50_000 - sum(found.charged for found in so_far)
    assert left > patience * low  # at the limit's rate the drain would still be at work
    assert most_in(proxy.arrivals, 1.0) <= 2_000_000 + slack(proxy.connections)
    gateway.assert_arrived(images)


# -- a day's allowance


@pytest.mark.slow
def test_a_day_carries_no_more_than_its_allowance_whatever_is_killed(gateway: Gateway) -> None:
    gateway.fill(60, 50_000)
    daily = 1_000_000
    with counted(gateway) as proxy:
        gateway.write(
            endpoint=proxy.url,
            receiver={"max_image": "64KiB"},
            uplink={"link": "1MB/s", "share": "100%", "daily": "1MB"},
        )
        for _ in range(2):
            before = charged(gateway)
            run = gateway.start("drain")
            wait_until(lambda: charged(gateway) > before, "it sends", process=run)  # noqa: B023
            spend(0.2)
            kill(run)
        first = gateway.json("drain")
        strict = gateway.json("drain", "--strict", code=Exit.BUDGET_SPENT)
        shown = gateway.json("limit")
        said = gateway.call("drain", "--until-empty").stdout
        status = gateway.call("status").stdout
    assert (first["outcome"], first["exit_code"]) == ("daily allowance spent", 0)
    assert (strict["outcome"], strict["wire_bytes"]) == ("daily allowance spent", 0)
    assert re.search(r"it begins again on \w{3} \d\d \w{3} at 00:00 local time", said)
    assert daily * 0.9 < shown["day_used"] <= shown["day_allowance"] == daily
    assert proxy.total <= daily
    assert "nothing more until midnight" in status
    totals = gateway.spool.catalog.totals()
    # Twenty are as much as a day carries; what was cut off by its end or a kill counts as sending.
    assert totals.waiting.images + totals.sending.images >= 40 and totals.set_aside.images == 0
    gateway.write()  # another day, or no bound
    gateway.json("drain")
    gateway.script.replace(())
    assert gateway.spool.catalog.totals().waiting.images == 0


def test_no_upload_starts_that_the_rest_of_the_day_does_not_cover(gateway: Gateway) -> None:
    size, daily = 50_000, 1_000_000
    gateway.fill(60, size)
    with counted(gateway) as proxy:
        gateway.write(
            endpoint=proxy.url,
            receiver={"max_image": "64KiB"},
            uplink={"link": "1MB/s", "share": "100%", "daily": "1MB", "parallel": 32},
        )
        first = gateway.json("drain")
        again = gateway.json("drain")
        status = gateway.call("status").stdout
    assert (first["outcome"], first["exit_code"]) == ("daily allowance spent", 0)
    assert "too little for the next image; it begins again on" in first["message"]
    assert first["failures"] == {} and first["attempts"] == first["images"]
    # What a day carries less what no image fits into: the next one, and what lies around it.
    assert daily - first["images"] * (size + AROUND_BYTES) < size + 2 * AROUND_BYTES
    assert first["wire_bytes"] < first["images"] * (size + AROUND_BYTES)  # none was cut off
    assert gateway.uploaded() == first["images"]
    assert not [item for item in gateway.spool.catalog.in_state(State.WAITING, 100) if item.unknown]
    assert (again["outcome"], again["wire_bytes"]) == ("daily allowance spent", 0)
    assert "nothing more until midnight" in status
    assert proxy.total <= daily


# -- stalls


def test_a_peer_that_stops_reading_leaves_little_in_the_kernel_to_be_sent_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock = connect(*server.getsockname(), timeout=60, stall=60)
        peer, _ = server.accept()
        with sock, peer:
            poll = select.poll()
            poll.register(sock, select.POLLOUT)
            while poll.poll(200):
                try:
                    sock.send(b"x" * 64 * 1024)
                except BlockingIOError:
                    break
            unsent = fcntl.ioctl(sock, 0x894B, bytes(4))  # SIOCOUTQNSD, <linux/sockios.h>
    assert 0 < struct.unpack("i", unsent)[0] <= SEND_BUFFER // 2


# -- TLS


def test_handshake_and_records_are_counted_and_charged_beforehand(tmp_path: Path) -> None:
    rate = 1_000_000
    with strict_place(
        tmp_path / "s3" if (tmp_path / "s3").mkdir() is None else tmp_path, tls=True
    ) as place:
        gateway = Gateway(tmp_path, place)
        gateway.fill(30, 50_000)
        with counted(gateway) as proxy:
            url = proxy.url.replace("http:", "https:")
            gateway.write(endpoint=url, uplink={"link": "1MB/s", "share": "100%"})
            report = gateway.json("drain", "--until-empty")
        used = charged(gateway)
        gateway.spool.close()
    assert report["images"] == 30
    assert proxy.total == report["wire_bytes"] > 30 * 50_000 + 500 * proxy.connections
    assert used >= proxy.total
    assert most_in(proxy.arrivals, 1.0) <= rate + slack(proxy.connections)


# -- a ledger that is harmed


def _delete(path: Path) -> None:
    path.unlink()


def _truncate(path: Path) -> None:
    os.truncate(path, 100)


def _flip(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(4096 + 5)
        file.write(b"\xff")


@pytest.mark.parametrize(
    "harm", [_delete, *(pytest.param(harm, marks=pytest.mark.slow) for harm in (_truncate, _flip))]
)
def test_a_ledger_harmed_under_a_running_drain_earns_nothing(
    gateway: Gateway, harm: Callable[[Path], None]
) -> None:
    rate = 500_000
    gateway.fill(150, 50_000)
    with counted(gateway) as proxy:
        gateway.write(endpoint=proxy.url, uplink={"link": "500kB/s", "share": "100%"})
        run = gateway.start("drain")
        gateway.await_uploads(1, run)
        harm(gateway.spool.files.state / Part.DRAIN)
        gateway.await_uploads(gateway.uploaded() + 10, run)  # it goes on with what it remembers
        kill(run)
        after = gateway.json("drain", "--strict", code=Exit.BUDGET_SPENT)
    assert (after["outcome"], after["wire_bytes"]) == ("budget spent", 0)
    assert most_in(proxy.arrivals, 1.0) <= rate + slack(proxy.connections)


# -- kills


def campaign(gateway: Gateway, seconds: float, seed: int, *words: str) -> dict[str, Any]:
    """Drains that are killed every 15-60 ms and restarted at once, forked from a warm program."""
    program = [sys.executable, str(ROOT / "tests/support/kill_campaign.py"), str(gateway.config)]
    ran = subprocess.run(
        [*program, str(seconds), str(seed), *words],
        env=gateway.environment(), text=True, capture_output=True, check=False,
        timeout=seconds + 250,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    said: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return said


def test_no_window_is_above_the_cap_when_runs_are_killed_every_15_to_60_ms(
    gateway: Gateway, record_property: Callable[[str, int], None]
) -> None:
    seconds = float(os.environ.get("HEADGATE_TEST_KILL_SECONDS", "5"))
    seed = random.randrange(10**6)
    rate = 2_000_000
    images = gateway.fill(60 + int(8 * seconds), 50_000)
    with counted(gateway) as proxy:
        gateway.write(endpoint=proxy.url, uplink={"link": "2MB/s", "share": "100%"})
        said = campaign(gateway, seconds, seed)
    print(f"seed {seed}: {said}")
    assert said["kills"] > 5 and said["while_sending"]  # the campaign is one
    assert most_in(proxy.arrivals, 1.0) <= rate + slack(proxy.connections), f"seed {seed}"
    assert proxy.total > 0
    span = proxy.arrivals[-1][1] - proxy.arrivals[0][0]
    assert proxy.total <= rate * (span + 1) + slack(proxy.connections), f"seed {seed}"
    assert charged(gateway) >= proxy.total
    gateway.write()
    gateway.json("drain", "--until-empty")
    gateway.assert_arrived(images)
    record_property("kills", said["kills"])
    record_property("of them while bytes left", said["while_sending"])
    record_property("images", len(images))


@pytest.mark.slow
def test_the_campaign_notices_charges_that_never_reach_the_disk(gateway: Gateway) -> None:
    """A test of the test: the mistake that it exists to find."""
    gateway.fill(40, 50_000)
    with counted(gateway) as proxy:
        gateway.write(endpoint=proxy.url, uplink={"link": "500kB/s", "share": "100%"})
        campaign(gateway, 3, random.randrange(10**6), "--charge-nothing")
    assert charged(gateway) < proxy.total


# -- clocks


FAKETIME = next(
    iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), Path("/nonexistent")
)
faked = pytest.mark.skipif(
    not FAKETIME.exists(), reason="libfaketime is not installed (Debian: libfaketime)"
)


class Faked(Gateway):
    """Its programs see the wall clock that ``set`` last said; the monotonic clocks stay true."""

    def __init__(self, root: Path, place: Place) -> None:
        super().__init__(root, place)
        self.clock = root / "clock"
        self.set("+0")

    def set(self, how: str) -> None:
        replacement = self.clock.with_suffix(".next")
        replacement.write_text(how + "\n")
        replacement.replace(self.clock)

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
            "TZ": "UTC",
        }


@pytest.fixture
def faketime(tmp_path: Path, place: Place) -> Iterator[Faked]:
    made = Faked(tmp_path, place)
    yield made
    made.spool.close()


@pytest.mark.slow
@faked
def test_a_stepped_clock_neither_widens_the_cap_nor_ends_a_run(faketime: Faked) -> None:
    rate = 1_000_000
    images = faketime.fill(90, 50_000)
    steps = itertools.cycle(["+1h", "-2d", "+400d", "-30s", "@1970-01-01 00:00:10", "+0"])
    with counted(faketime) as proxy:
        faketime.write(endpoint=proxy.url, uplink={"link": "1MB/s", "share": "100%"})
        run = faketime.start("drain", "--until-empty", "--json")
        for _ in moments(0, lambda: 0.25, enough=lambda: run.poll() is not None):
            faketime.set(next(steps))
        out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert json.loads(out)["images"] == len(images)
    assert most_in(proxy.arrivals, 1.0) <= rate + slack(proxy.connections)
    assert charged(faketime) >= proxy.total
    with_clock = ledger.damage(faketime.spool.files.state / Part.DRAIN)
    assert with_clock == ""


@pytest.mark.slow
@faked
def test_runs_in_different_years_keep_the_rate_together(faketime: Faked) -> None:
    rate = 1_000_000
    faketime.fill(100, 50_000)
    with counted(faketime) as proxy:
        faketime.write(endpoint=proxy.url, uplink={"link": "1MB/s", "share": "100%"})
        for step in ("+0", "+800d", "@1970-01-01 00:00:10", "-1d"):
            faketime.set(step)
            sent = faketime.spool.receipts.totals()[0].images
            run = faketime.start("drain")
            wait_until(lambda: faketime.uploaded() > sent or run.poll() is not None, "it sends")  # noqa: B023
            kill(run)
    assert most_in(proxy.arrivals, 1.0) <= rate + slack(proxy.connections)


@pytest.mark.slow
@faked
def test_the_timetable_is_followed_as_the_clock_on_the_wall_passes_an_hour(
    faketime: Faked,
) -> None:
    faketime.fill(200, 50_000)
    week = ["08:00-18:00 10%", "18:00-19:00 0%"]
    with counted(faketime) as proxy:
        uplink = {"link": "1MB/s", "share": "100%", "timetable": week}
        faketime.write(endpoint=proxy.url, uplink=uplink)
        faketime.set("@2026-11-23 07:30:00")
        shown = faketime.json("limit")
        run = faketime.start("drain", "--until-empty")
        faketime.await_uploads(10, run)
        faketime.set("@2026-11-23 08:00:00")
        obeys = slots.drain_part(100_000)
        first = await_second(
            faketime, run, "the day's rate holds", lambda second: second.rate == obeys
        )
        await_second(faketime, run, "two more are charged", lambda at: at.at > first.at + 1)
        so_far = seconds(faketime)
        faketime.set("@2026-11-23 18:00:00")
        out, err = run.communicate(timeout=60)
        again = faketime.json("drain", "--strict", code=Exit.BUDGET_SPENT)
    assert (shown["rate"], shown["next_rate"]) == (1_000_000, 100_000)
    assert shown["why"] == "100% of the link"
    assert shown["next_change"].startswith("2026-11-23T08:00")
    assert max(found.charged for found in so_far if found.at > first.at) <= obeys
    assert run.returncode == 0, err
    assert "paused by the timetable" in out and "Mon 23 Nov at 19:00" in out
    assert (again["outcome"], again["wire_bytes"]) == ("paused by the timetable", 0)
