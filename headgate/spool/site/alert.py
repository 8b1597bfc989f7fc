"""What is remembered of an alert, a silence, a message on its way, a channel. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

EVERYTHING = "all"
"""What a silence names that silences every alert."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that is, or lately was, wrong. ``told``: a message said so, and none since has
    taken it back."""

    code: str
    subject: str  # a device, a channel; empty where there is but one
    sentence: str
    began_at: datetime
    good_since: datetime | None = None  # None: the last look found it
    told: bool = False
    told_at: tuple[datetime, ...] = ()  # messages of the last hour, and the last one
    reminders: int = 0
    thread: str = ""  # what its messages have in common
    received: int = 0  # images, when it began: for what happened meanwhile
    set_aside: int = 0
    fix: str = ""  # what to type

    @property
    def bad(self) -> bool:
        """Whether the last look found it."""
        return self.good_since is None

    def fields(self) -> dict[str, object]:
        """For programs: as ``headgate status``, the page and ``headgate alert list`` give it."""
        return {
            "code": self.code,
            "subject": self.subject,
            "sentence": self.sentence,
            "since": self.began_at,
            "bad": self.bad,
            "told": self.told,
            "mend": self.fix,
        }


@dataclass(frozen=True, slots=True)
class Silence:
    """Until then nothing is said of ``what``: a code, ``code:subject``, or everything."""

    what: str
    until: datetime
    reason: str = ""

    def covers(self, code: str, subject: str, now: datetime) -> bool:
        """Whether it holds for this alert now."""
        return now < self.until and self.what in (EVERYTHING, code, f"{code}:{subject}")


@dataclass(frozen=True, slots=True)
class Message:
    """What people are told, before it is known how. ``kind``: alert, reminder, recovery, test."""

    kind: str
    thread: str
    title: str
    text: str
    made_at: datetime
    about: str = ""  # the alert's code


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message on its way through one channel."""

    number: int
    channel: str
    message: Message


@dataclass(frozen=True, slots=True)
class ChannelState:
    """How it goes with one channel. ``dead``: its server said that trying again is no use."""

    name: str
    failing_since: datetime | None = None
    why: str = ""
    dead: bool = False
    attempts: int = 0  # that failed, in a row
    next_at: datetime | None = None  # not before then
    last_at: datetime | None = None  # when something was last sent
