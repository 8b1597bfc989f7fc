"""What is called wrong: how grave it is, from which value on, in which words, what fixes it. Pure.

The alerts, the status page and ``headgate doctor`` go by this one table; a test compares the rules
for Prometheus and the alarms of CloudWatch with it. ``headgate.monitor.checks`` applies it, and
``uploader.alerts.lifecycle`` decides when a message leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from headgate.host.clock import CLOCK_OFF_SECONDS, SIGNED_ALL_THE_SAME

_MINUTE = 60
_HOUR = 3600


class Level(StrEnum):
    """Severity, from lowest to highest."""

    OK = "ok"
    NOTE = "note"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Limit:
    """A threshold with hysteresis: ``wrong`` is what it takes to call something wrong, ``still``
    the easier value at which it stays so."""

    wrong: float
    still: float

    def at(self, before: bool = False) -> float:
        """The threshold that applies; ``before``: it was already exceeded at the last check."""
        return self.still if before else self.wrong


@dataclass(frozen=True, slots=True)
class Late(Limit):
    """A threshold in intervals between runs; never less than ``least`` seconds, and ``grace``
    seconds more."""

    least: float = 0
    grace: float = 0

    def seconds(self, interval: float, before: bool = False) -> float:
        """The threshold in seconds."""
        ease = self.at(before) / self.wrong
        return ease * max(self.wrong * interval, self.least) + self.grace


RUN_LATE = Late(2, 2, grace=_MINUTE)
"""A run may find another one active and end at once; two in a row do not. The minute is for cron
and a run's own start."""
UNCONFIRMED = Late(2, 2)
"""How long whole runs have tried and confirmed nothing."""
WAITS_LONG = Late(3, 2, least=15 * _MINUTE)
"""How long an image could have been sent but was not."""
TRIED_LONG = Late(12, 8, least=_HOUR)
"""Age of an image whose attempts failed: each attempt resets the time since when it could leave."""
FULL_SECONDS = Limit(24 * _HOUR, 36 * _HOUR)
"""Until the disk has no byte or no inode left: a person who looks once a day is in time."""
FREE_INODES = Limit(10_000, 12_000)
"""Whatever the pace: a busy site uses that many in less than an hour."""
NEARLY_FULL = Limit(0.5, 0.5)
"""Of what is kept free (spool.keep_free), above the point at which uploads are refused."""
FULL = Limit(0, 0.1)
"""The same, once uploads have been refused."""
CAP_USED = Limit(0.5, 0.7)
"""Share of the cap."""
UNUSABLE, UNUSABLE_SHARE = Limit(5, 1), Limit(0.2, 0.1)
"""Images of a device in the last hour, and their share."""
REFUSED, REFUSED_SHARE = Limit(10, 3), Limit(0.1, 0.05)
"""Uploads that met one refusal lately, and their share."""
CLOCK_OFF = Limit(CLOCK_OFF_SECONDS, CLOCK_OFF_SECONDS / 2)
"""Offset of a clock, a device's or this machine's, from another one."""


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One rule, a row of the table. ``sentence`` is filled in by the check; ``limits`` is what
    that compares with. ``wait_seconds``: how long it must last before a message leaves;
    ``calm_seconds``: how long it must be over before that is said. ``causes``: alerts of which it
    is a mere consequence, so that nothing is said of it while they last. ``many``: the title where
    {n} subjects share the alert."""

    code: str
    level: Level
    title: str
    sentence: str
    fix: str  # what to type
    limits: tuple[Limit, ...] = ()
    wait_seconds: int = 0
    calm_seconds: int = 2 * _MINUTE
    causes: tuple[str, ...] = ()
    many: str = ""  # the title for more than one subject


@dataclass(frozen=True, slots=True)
class AlertCondition:
    """One thing that is wrong, in a sentence; ``subject``: the device or channel."""

    code: str
    sentence: str
    subject: str = ""


S3_CLOCK_OFF = f"This machine's clock and S3's differ by {{off}}. {SIGNED_ALL_THE_SAME}"
_CLOSED = ("receiver-silent", "disk-refuses", "disk-full")
_STOPPED = ("uplink-down", "runs-fail", "nothing-confirmed", "no-run", "queue-silent", "paused")
_BAD, _WARN = Level.BAD, Level.WARN

RULES: tuple[AlertRule, ...] = (
    AlertRule("receiver-silent", _BAD, "The receiver does not answer", "{why}",
        "systemctl restart headgate-receiver", wait_seconds=_MINUTE),
    AlertRule("disk-refuses", _BAD, "The disk refuses to write",
        "{why} Nothing is accepted until test writes succeed; acknowledged images are safe.",
        "dmesg | tail"),
    AlertRule("disk-full", _BAD, "The disk is full", "{why}", "df -h", (FULL,)),
    AlertRule("uploads-refused", _WARN, "Uploads are refused",
        "{requests} uploads were refused in the last {minutes} min, {share:.0%} of all, with "
        "{code}: GET /problems/{code} explains it, and the receiver's log shows the senders.",
        "journalctl -u headgate-receiver | grep request.refused", (REFUSED, REFUSED_SHARE),
        causes=_CLOSED,
        many="Uploads are refused for {n} reasons"),
    AlertRule("unaccounted", _BAD, "Images are unaccounted for", "{what}", "headgate verify",
        wait_seconds=3 * _MINUTE),
    AlertRule("uplink-down", _WARN, "The uplink is down",
        "The uplink is down{why}. {waiting}, safe on disk, and will be sent when it is back.",
        "headgate config check"),
    AlertRule("runs-fail", _BAD, "Runs fail", "The last run, {ago} ago, failed{why}",
        "headgate config check"),
    AlertRule("nothing-confirmed", _BAD, "Nothing is confirmed",
        "Runs have tried for {since}, but no image was confirmed in the bucket. {waiting}, safe on "
        "disk.{why}",
        "headgate config check", (UNCONFIRMED,), causes=("uplink-down", "runs-fail")),
    AlertRule("no-run", _BAD, "No run has started",
        "No run for {quiet}, and one is due every {every}: nothing is sent.",
        "headgate cron install", (RUN_LATE,)),
    AlertRule("queue-silent", _WARN, "The queue is silent",
        "No message came through the queue for {quiet}, and one is due every {every}: check the "
        "worker, the broker and the sender of the messages.{floor}",
        "systemctl status headgate-worker", (RUN_LATE,), causes=("uplink-down", "no-run")),
    AlertRule("paused", _WARN, "Uploads are paused",
        "Uploads are paused {words}. {waiting}, safe on disk.", "headgate resume"),
    AlertRule("cap-not-shared", _WARN, "The uplink is shared no longer",
        "The gateways of this site cannot lend each other the uplink: {why}. This one sends at "
        "most {rate}/s, which is always its own.",
        "headgate status", wait_seconds=_MINUTE),
    AlertRule("gateway-silent", _BAD, "A gateway is silent",
        "{name} has reported nothing to the other gateways of this site for {quiet}: see "
        "whether it runs, has power, and reaches Redis. What it has received is on its disk.",
        "headgate fleet status", wait_seconds=_MINUTE,
        many="{n} gateways are silent"),
    AlertRule("set-aside", _WARN, "Images were set aside",
        "{images} set aside and not sent, for you to retry or discard.",
        "headgate list --state set_aside"),
    AlertRule("disk-soon", _WARN, "The disk will be full",
        "At this rate the disk is full in {left}; then uploads are refused.",
        "headgate status", (FULL_SECONDS,),
        wait_seconds=10 * _MINUTE, calm_seconds=30 * _MINUTE, causes=("disk-full",)),
    AlertRule("inodes-soon", _WARN, "The disk runs out of inodes",
        "The disk has {inodes} inodes left, {pace}; without one uploads are refused.",
        "df -i", (FREE_INODES, FULL_SECONDS),
        wait_seconds=10 * _MINUTE, calm_seconds=30 * _MINUTE),
    AlertRule("backlog-old", _WARN, "Images wait too long", "{what}", "headgate status",
        (WAITS_LONG, TRIED_LONG), wait_seconds=10 * _MINUTE, calm_seconds=10 * _MINUTE,
        causes=_STOPPED),
    AlertRule("backlog-grows", _WARN, "The backlog grows",
        "For an hour more has come in than went out: {more} more are waiting than an hour ago, "
        "{bytes} in total.",
        "headgate limit", calm_seconds=10 * _MINUTE, causes=_STOPPED),
    AlertRule("cap-unused", _WARN, "The cap is not used",
        "{bytes} are waiting, but only {share:.0%} of the cap of {rate}/s was used in the last "
        "{minutes} min: the network carries no more, or something slows the runs.",
        "headgate config check", (CAP_USED,), wait_seconds=15 * _MINUTE,
        calm_seconds=15 * _MINUTE, causes=_STOPPED),
    AlertRule("device-silent", _WARN, "A device is silent",
        "{device} has sent nothing for {quiet}.", "headgate device list",
        calm_seconds=0, causes=(*_CLOSED, "uplink-down"),
        many="{n} devices are silent"),
    AlertRule("device-gaps", _WARN, "Images are missing",
        "{images} never arrived from {device}, by its sequence numbers.",
        "headgate device list", wait_seconds=10 * _MINUTE, causes=_CLOSED,
        many="{n} devices miss images"),
    AlertRule("device-unusable", _WARN, "A device sends unusable images",
        "{unusable} of the last {all} images of {device} were unusable: cut off, changed in "
        "transit, or not images. None of them is stored.",
        "headgate device list", (UNUSABLE, UNUSABLE_SHARE), calm_seconds=10 * _MINUTE,
        many="{n} devices send unusable images"),
    AlertRule("device-clock", _WARN, "A device's clock is off",
        "The clock of {device} is {off} {way}: its capture times are wrong. No order depends on "
        "them.",
        "headgate device list", (CLOCK_OFF,),
        wait_seconds=10 * _MINUTE, calm_seconds=10 * _MINUTE,
        many="The clocks of {n} devices are off"),
    AlertRule("s3-clock", _WARN, "This machine's clock is off",
        "{what}", "timedatectl", (CLOCK_OFF,)),
    AlertRule("open-network", _WARN, "Anyone may send",
        "Anyone who can reach this machine, or a proxy on it, may send images: receiver.auth is "
        "open, and receiver.allow keeps none of them out.",
        "headgate device add"),
    AlertRule("channel-fails", _WARN, "Alerts cannot be sent",
        "Alerts cannot be sent through {name}: {why}", "headgate alert test",
        causes=("uplink-down",),
        many="Alerts cannot be sent through {n} channels"),
)  # fmt: skip
"""Alerts, most serious first. Titles, waits and causes are also in docs/DESIGN.md, and a test
compares them."""
DISK_LOW = AlertRule(
    "disk-low", _WARN, "The disk is nearly full",
    "The disk is nearly full: {free} are free, and below {needed} uploads are refused.",
    "headgate status", (NEARLY_FULL,),
)  # fmt: skip
"""Not an alert, because ``disk-soon`` comes first: shown by the page, doctor and CloudWatch."""
BY_CODE: Mapping[str, AlertRule] = {rule.code: rule for rule in RULES}
