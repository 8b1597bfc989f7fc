"""What lies of S3, kills and a limit of bandwidth do to images that other programs move to S3.

A measurement, not a test of ours: what a peer loses fails nothing and is recorded for the table.
What each promises: rclone https://rclone.org/commands/rclone_move/ and
https://rclone.org/docs/#bwlimit-bandwidth-spec, s5cmd https://github.com/peak/s5cmd,
aws https://docs.aws.amazon.com/cli/latest/reference/s3/mv.html. Commands and their settings are
those of bench/send.py.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.send import contenders
from dev.s3_local.faults import Act, Fault
from tests.support.counting_proxy import counting, most_in
from tests.support.paths import ROOT
from tests.support.peer_versions import named
from tests.support.s3_server import Place, script, strict_place
from tests.support.wait import kill, spend, wait_for_exit, wait_until

Record = Callable[[str, object], None]
ROUNDS = int(os.environ.get("HEADGATE_TEST_PEERS", "0"))
FILES = 12
SIZE = 20_000
LIES = (
    Act.UNSTORED, Act.ECHO_UNSTORED, Act.ERROR_IN_200, Act.WRONG_ETAG, Act.RESET_MIDWAY,
    Act.RESET_STORED, Act.STATUS_LATE,
)  # fmt: skip
LIMIT = 200_000
PEERS = ("rclone move", "s5cmd mv", "aws s3 mv")

pytestmark = [
    pytest.mark.skipif(not ROUNDS, reason="HEADGATE_TEST_PEERS is not set: it measures peers"),
]
peers = pytest.mark.parametrize("peer", PEERS)


class Mover:
    """A folder of files, and a peer that moves them to the bucket whenever it is started."""

    def __init__(self, peer: str, place: Place, folder: Path) -> None:
        found = contenders(4).get(peer)
        if found is None:
            pytest.skip(f"{peer} is not installed (rclone: Debian; the others: make bench-ready)")
        self._place, self._folder, self._peer = place, folder, found
        folder.mkdir()
        self.files: dict[str, str] = {}
        for number in range(FILES):
            data = random.randbytes(SIZE)
            self.files[f"{number}.jpg"] = hashlib.sha256(data).hexdigest()
            (folder / f"{number}.jpg").write_bytes(data)

    def start(self, url: str = "", *more: str) -> subprocess.Popen[str]:
        url = url or self._place.url
        return subprocess.Popen(
            [*self._peer.command(self._folder, url), *more], cwd=ROOT, text=True,
            env={**os.environ, "HOME": str(self._folder.parent), **self._peer.environment(url)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self) -> int:
        """One run, as cron starts it; its exit code."""
        program = self.start()
        wait_for_exit(program, "the peer ends", 600)
        return program.returncode

    def left(self) -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in self._folder.glob("*.jpg")}  # fmt: skip

    def stored(self) -> dict[str, str]:
        return {key.rpartition("/")[2]: hashlib.sha256(self._place.read(key)).hexdigest()
                for key in self._place.names()}  # fmt: skip

    def lost(self) -> int:
        """Files that are neither here nor, with their bytes, in the bucket."""
        return len(self.files.items() - self.left().items() - self.stored().items())

    def run_again(self) -> dict[str, int]:
        """What the next run leaves of it, by its name in the table; the bucket is empty then."""
        self.run()
        found = {
            "files": len(self.files),
            "lost": self.lost(),
            "not sent by the next run": len(self.left()),
        }
        self.empty()
        return found

    def empty(self) -> None:
        for key in self._place.names():
            self._place.client.delete_object(Bucket=self._place.bucket, Key=key)


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Place]:
    with strict_place(tmp_path, bucket="bench") as place:
        yield place


@pytest.mark.parametrize("act", LIES)
@peers
def test_a_lie_or_a_fault_of_s3(
    tmp_path: Path, bucket: Place, peer: str, act: Act, record_property: Record
) -> None:
    """At every third body; then a run without faults."""
    count: Counter[str] = Counter()
    silent = 0
    for turn in range(ROUNDS):
        mover = Mover(peer, bucket, tmp_path / f"turn-{turn}")
        script(bucket, Fault(act, every=3))
        ended = mover.run()
        silent += not ended and bool(mover.lost())
        script(bucket)
        count.update(mover.run_again())
    record_property("peer", f"{named(peer)}, {act}")
    for what, number in count.items():
        record_property(what, number)
    record_property("runs that lost some and ended with 0", silent)


@peers
def test_a_kill_in_the_middle(
    tmp_path: Path, bucket: Place, peer: str, record_property: Record
) -> None:
    count: Counter[str] = Counter()
    for turn in range(ROUNDS):
        mover = Mover(peer, bucket, tmp_path / f"turn-{turn}")
        script(bucket, Fault(Act.SLOW))
        program = mover.start()
        wait_until(lambda: bucket.names() or program.poll() is not None, "some are stored")  # noqa: B023
        kill(program)
        script(bucket)
        count.update(mover.run_again())
    record_property("peer", f"{named(peer)}, SIGKILL")
    for what, number in count.items():
        record_property(what, number)


@pytest.mark.parametrize("killed", [False, True])
def test_the_limit_of_bandwidth_in_the_worst_second(
    tmp_path: Path, bucket: Place, killed: bool, record_property: Record
) -> None:
    """In one run; and in runs that are killed soon after they began to send, and started again."""
    assert bucket.strict is not None
    mover = Mover("rclone move", bucket, tmp_path / "files")
    for path in (tmp_path / "files").iterdir():
        path.write_bytes(random.randbytes(100_000))
    kills = 10 * ROUNDS if killed else 0
    with counting("127.0.0.1", bucket.strict.server.port) as proxy:
        for _ in range(kills):
            program = mover.start(proxy.url, "--bwlimit", f"{LIMIT}B")
            spend(random.uniform(0.2, 0.5))
            kill(program)
        program = mover.start(proxy.url, "--bwlimit", f"{LIMIT}B")
        wait_for_exit(program, "the peer ends", 600)
    how = ", killed and started again" if killed else ""
    record_property("peer", f"{named('rclone move')} --bwlimit{how}")
    record_property("kills", kills)
    record_property("bytes a second allowed", LIMIT)
    record_property("bytes in the worst second", most_in(proxy.arrivals, 1.0))
    record_property("bytes in all", proxy.total)
