"""How a run ended: one word for programs, and a sentence for people. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """The values are on disk, in JSON, and labels of ``headgate_runs_total``."""

    UNDER_WAY = ""
    DONE = "done"
    NOTHING_TO_DO = "nothing to do"
    NOTHING_CONFIRMED = "nothing confirmed"
    BATCH_SENT = "batch sent"
    TIME_SPENT = "time spent"
    BUDGET_SPENT = "budget spent"
    ALLOWANCE_SPENT = "daily allowance spent"
    PAUSED = "paused by the timetable"
    PAUSED_BY_HAND = "paused"
    MADE_WAY = "made way for a run started by hand"
    STOPPED = "stopped"
    UPLINK_DOWN = "uplink down"
    FAILED = "failed"
    KILLED = "killed"
    OTHER = "other"
    """Of a run that another version of Headgate noted."""

    @classmethod
    def read(cls, text: str) -> Outcome:
        """Read an outcome as the database has it."""
        try:
            return cls(text)
        except ValueError:
            return cls.OTHER


CUT_SHORT = frozenset({Outcome.STOPPED, Outcome.MADE_WAY})
"""The run was stopped before it was done: what it was asked for is still to do."""
WENT_THROUGH = frozenset({Outcome.DONE, Outcome.NOTHING_TO_DO})
"""The run came to every image that was due."""
HELD_BACK = frozenset(
    {Outcome.BUDGET_SPENT, Outcome.ALLOWANCE_SPENT, Outcome.PAUSED, Outcome.PAUSED_BY_HAND}
)
"""The cap let no more out."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why no more is sent, and when or how it goes on."""

    outcome: Outcome
    message: str = ""

    def __str__(self) -> str:
        return "; ".join(part for part in (self.outcome.value, self.message) if part)
