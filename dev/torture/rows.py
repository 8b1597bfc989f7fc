"""The rows of the table: which promise, what is done to it, and which tests do it at which size.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Size(StrEnum):
    """How much of it: what CI has time for, or what is published."""

    CI = "ci"
    PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Row:
    """One campaign. ``tests``: node ids of pytest; ``sizes``: the variables that make them as long
    as that. ``also``: variables that any size needs. What the tests record (``record_property``)
    is added up, and is the table's "how often". ``peers``: node ids that do the same to what
    people use instead, which may fail in it: what they record is the table's "peers"."""

    name: str
    promise: str
    done: str
    tests: tuple[str, ...]
    sizes: Mapping[Size, Mapping[str, str]] = field(default_factory=dict)
    also: Mapping[str, str] = field(default_factory=dict)
    peers: tuple[str, ...] = ()

    def environment(self, size: Size) -> dict[str, str]:
        """The variables with which its tests run."""
        return {**self.also, **self.sizes.get(size, {})}


@dataclass(frozen=True, slots=True)
class Open:
    """A fault for which there is no campaign, and why."""

    name: str
    promise: str
    why: str


def _sized(variable: str, ci: int, published: int) -> dict[Size, dict[str, str]]:
    return {
        Size.CI: {f"HEADGATE_TEST_{variable}": str(ci)},
        Size.PUBLISHED: {f"HEADGATE_TEST_{variable}": str(published)},
    }


_SURVIVES = "An acked image survives SIGKILL of any process at any instant"
_POWER = "An acked image survives a power cut, on a disk that honours a flush"
_POWER_DRAIN = "A power cut under a run: one object each, or still here; no byte uncounted"
_CAP = "Never more than the rate in any second, nor rate x interval in any interval"
_ONE = "Every acked image ends as exactly one object with the same SHA-256, or stays visible"
_ROOM = "A full disk refuses new work, never drops old work, and recovers by itself"
_CLIENTS = "Slow, aborting and malformed clients cannot take it down"
_RECORDS = "The records stay complete, whatever is typed, killed or removed by hand"

_POWER_CUT = "tests/system/test_power_cut.py::test_every_acknowledged_image_survives_a_power_cut"
_POWER_CUT_DRAIN = (
    "tests/system/test_power_cut_drain.py"
    "::test_a_power_cut_under_a_drain_loses_nothing_and_sends_nothing_twice"
)
_DRAIN = "tests/uploader/run/test_drain.py"
_CAP_TESTS = "tests/uploader/wire/test_cap.py"
_CUTS = {"HEADGATE_TEST_POWER_CUT": "1"}
PEER_ROUNDS = {Size.CI: "3", Size.PUBLISHED: "100"}
"""HEADGATE_TEST_PEERS of each size: how often a fault meets each peer."""
_RECEIVERS, _MOVERS = "tests/peers/test_receivers.py", "tests/peers/test_movers.py"

ROWS = (
    Row(
        "kill-receiver", _SURVIVES,
        "SIGKILL under load of eight clients: of a process that serves (one, two and four do), and "
        "of the supervisor",
        ("tests/app/server/test_kills.py",), _sized("RECEIVER_KILLS", 3, 1000),
        peers=(f"{_RECEIVERS}::test_a_kill_under_load",),
    ),
    Row(
        "kill-disk-call", _SURVIVES,
        "the end of the program before and after each disk call of an upload and of every move",
        ("tests/headgate/spool/disk/test_durable.py",),
    ),
    Row(
        "kill-system-call", _SURVIVES,
        "SIGKILL at every system call of an upload, a finish, moves and a prune (strace)",
        ("tests/system/test_system_calls.py",),
        {Size.PUBLISHED: {"HEADGATE_TEST_SYSTEM_CALLS": "1"}},
    ),
    Row(
        "histories", _SURVIVES,
        "random histories of uploads, runs, ends and disk errors at any call; one, two and four "
        "processes receive",
        ("tests/headgate/spool/test_machine.py",), _sized("HISTORIES", 15, 3000),
    ),
    Row(
        "power-ext4", _POWER, "FS_IOC_SHUTDOWN of ext4 under load of 1, 2 and 4 processes",
        (f"{_POWER_CUT}[ext4]",), _sized("POWER_CUTS", 8, 500), _CUTS,
        peers=(f"{_RECEIVERS}::test_a_power_cut_under_load",),
    ),
    Row(
        "power-xfs", _POWER, "FS_IOC_SHUTDOWN of xfs under load of 1, 2 and 4 processes",
        (f"{_POWER_CUT}[xfs]",), _sized("POWER_CUTS", 8, 500), _CUTS,
    ),
    Row(
        "power-drain-ext4", _POWER_DRAIN, "FS_IOC_SHUTDOWN of ext4 while a run sends and finishes",
        (f"{_POWER_CUT_DRAIN}[ext4]",), _sized("POWER_CUTS", 2, 500), _CUTS,
    ),
    Row(
        "power-drain-xfs", _POWER_DRAIN, "FS_IOC_SHUTDOWN of xfs while a run sends and finishes",
        (f"{_POWER_CUT_DRAIN}[xfs]",), _sized("POWER_CUTS", 2, 500), _CUTS,
    ),
    Row(
        "crash-states", _POWER,
        "what the disk may hold before each flush (subsets of what was not flushed, torn pages), "
        "from traces of accepts, moves, prunes and runs",
        ("tests/system/test_crash_states.py",), _sized("CRASH_STATES", 30, 1000),
    ),
    Row(
        "cuts", "Nothing half-written is ever picked",
        "bodies cut at every byte, by FIN and RST: forms, raw and chunked",
        ("tests/app/upload/test_cuts.py",),
    ),
    Row(
        "cap-kills", _CAP, "drains killed every 15 to 60 ms, behind a proxy that counts",
        (
            f"{_CAP_TESTS}::test_no_window_is_above_the_cap_when_runs_are_killed_every_15_to_60_ms",
            f"{_CAP_TESTS}::test_the_campaign_notices_charges_that_never_reach_the_disk",
        ),
        _sized("KILL_SECONDS", 5, 600),
        peers=(f"{_MOVERS}::test_the_limit_of_bandwidth_in_the_worst_second",),
    ),
    Row(
        "cap-clocks", _CAP, "the wall clock stepped under a running drain; runs in different years",
        (
            f"{_CAP_TESTS}::test_a_stepped_clock_neither_widens_the_cap_nor_ends_a_run",
            f"{_CAP_TESTS}::test_runs_in_different_years_keep_the_rate_together",
        ),
    ),
    Row(
        "ledger", _CAP, "the ledger deleted, cut and changed under a run; kills, reboots, clocks",
        (
            f"{_CAP_TESTS}::test_a_ledger_harmed_under_a_running_drain_earns_nothing",
            "tests/headgate/spool/budget",
        ),
    ),
    Row(
        "s3-lies", _ONE,
        "fourteen ways in which S3 fails, lies, resets, or stores and says otherwise",
        (f"{_DRAIN}::test_whatever_s3_does_each_image_ends_as_one_object",),
        _sized("FAULT_IMAGES", 12, 500),
        peers=(f"{_MOVERS}::test_a_lie_or_a_fault_of_s3",),
    ),
    Row(
        "s3-refuses", "An error that every image would get sets no image aside",
        "thirty answers of quotas, settings, proxies and login pages",
        ("tests/uploader/run/test_blame.py",), _sized("FAULT_IMAGES", 12, 500),
    ),
    Row(
        "s3-keeps-nothing", "A server that confirms images but stores none is detected in a run",
        "servers that keep nothing, or lose what they kept",
        ("tests/uploader/run/test_proof.py", "tests/uploader/run/test_prune_proof.py"),
    ),
    Row(
        "kill-s3-call", "An unknown outcome is resolved by asking S3; no body is sent twice",
        "a run killed at each of its calls, with the request or the answer lost; killed within one",
        (
            f"{_DRAIN}::test_a_kill_at_every_call_is_settled_by_asking",
            "tests/uploader/run/test_killed_in_a_request.py",
        ),
        peers=(f"{_MOVERS}::test_a_kill_in_the_middle",),
    ),
    Row(
        "networks", _ONE, "links that are slow, narrow, far, or break",
        ("tests/uploader/run/test_networks.py",),
    ),
    Row(
        "bad-files", "One bad file never stops the queue",
        "empty, shorter, longer, changed, foreign, FIFO, socket, links, folders, no names",
        (f"{_DRAIN}::test_bad_files_never_stop_the_queue", "tests/headgate/spool/test_recovery.py"),
    ),
    Row(
        "repeats", "A lost answer never makes a second image",
        "repeats, keys, two and many at once, in one process and in two",
        ("tests/headgate/spool/test_dedupe.py", "tests/headgate/spool/test_processes.py"),
    ),
    Row(
        "locks", "Overlapping runs do nothing twice, and a killed holder never blocks the next",
        "fifty at once, kill, stop, and whatever is done to the lock file",
        ("tests/headgate/spool/disk/test_locks.py",),
    ),
    Row(
        "movers", _RECORDS, "a receiver, a run, a repair and retries move images at once, killed",
        ("tests/headgate/spool/upkeep/test_movers.py",), _sized("MOVERS_SECONDS", 2, 3600),
    ),
    Row(
        "books", _RECORDS, "every command and rm by hand, in any order",
        ("tests/uploader/cli/commands/test_discard.py",), _sized("BOOKS", 4, 200),
    ),
    Row(
        "commits", "Programs that commit and checkpoint one database at once lose no row",
        "four that commit and two that checkpoint without a pause, with and without kills",
        ("tests/headgate/spool/test_commits.py",), _sized("COMMITS_SECONDS", 2, 1850),
    ),
    Row(
        "fillings", _ROOM, "a small disk filled and drained, by a user without rights; ext4, xfs",
        ("tests/system/test_fill_and_drain.py",), _sized("FILLS", 2, 100),
    ),
    Row(
        "full-disk", _ROOM, "no byte and no inode left, for the receiver, the run and its records",
        ("tests/system/test_full_disk.py", "tests/app/admission/test_room.py"),
        peers=(f"{_RECEIVERS}::test_a_full_disk",),
    ),
    Row(
        "disk-errors", "EIO, EROFS, ENOSPC: no ack, no second fsync, closed until a probe succeeds",
        "the kernel fails each disk call of a running receiver (strace), and a disk that fails",
        ("tests/system/test_disk_errors.py",), also={"HEADGATE_TEST_DISK_ERRORS": "1"},
    ),
    Row(
        "slow-clients", _CLIENTS, "a hundred each: idle, slow header, slow body, reading no answer",
        ("tests/app/upload/test_slow_clients.py",),
    ),
    Row(
        "malformed", _CLIENTS, "mutated forms and raw requests",
        ("tests/app/upload/test_malformed.py",), _sized("MALFORMED", 2000, 100_000),
    ),
    Row(
        "queue", "A message that comes twice, late or again does nothing twice, and none is lost",
        "Redis: child and worker killed, fifty duplicates, the broker stopped; SQS repeated",
        ("tests/system/test_queue_redis.py", "tests/system/test_queue_sqs.py"),
        also={"HEADGATE_TEST_QUEUE": "1"},
    ),
    Row(
        "clocks", "Clock jumps lose nothing, widen nothing, order nothing wrongly",
        "machines that boot with a wrong clock, and clocks that are set back",
        ("tests/system/test_unset_clock.py", "tests/headgate/host/test_clock.py"),
    ),
    Row(
        "secrets", "No secret is written anywhere but in its own file",
        "one of each kind planted, and searched for in logs, a crash, pages, reports and databases",
        ("tests/system/test_secrets.py",),
    ),
    Row(
        "numbers", "The numbers are true", "page, metrics and status compared with a witness",
        ("tests/system/test_numbers.py",),
    ),
)  # fmt: skip

OPEN = (
    Open(
        "block-log", _POWER,
        "a replayed block log, which alone shows a missing disk flush: not written. It needs "
        "dm-log-writes, NBD or ublk in the kernel, and the one that this was tried on was built "
        "without them; or qemu-storage-daemon with FUSE.",
    ),
    Open(
        "combined", _ONE,
        "several of these faults at once, from one seed: not written.",
    ),
    Open("memory", _SURVIVES, "a machine that runs out of memory or descriptors: not written."),
    Open(
        "redis-partition", "No message that the broker keeps is lost",
        "a broker that is there and does not answer: not written; it is stopped and started.",
    ),
)  # fmt: skip
