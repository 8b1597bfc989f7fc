"""A limit that a person sets for a while in place of the settings' share: ``headgate limit``,
``headgate pause``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headgate.settings import units
from headgate.settings.units import Percent

LIMIT = "limit"
"""The site's memory of the one in force."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A share that a person set in place of the settings': for images only if it is 0%."""

    share: Percent
    until: datetime | None  # a pause may last until it is ended
    reason: str = ""

    @property
    def is_pause(self) -> bool:
        return not self.share.hundredths

    def holds(self, at: datetime) -> bool:
        """Whether it is in force at an instant."""
        return self.until is None or at < self.until

    @property
    def words(self) -> str:
        """Until when it holds, and why, if a person said so."""
        return end_words(self.until, self.reason)

    def encode(self) -> dict[str, str | None]:
        """The limit as text, to be kept in the site's database."""
        until = None if self.until is None else self.until.isoformat()
        return {"share": str(self.share), "until": until, "reason": self.reason}

    @classmethod
    def decode(cls, found: Any) -> Limit | None:
        """Read a limit that ``encode`` wrote; None if no limit was set."""
        if not found:
            return None
        until = found["until"] and datetime.fromisoformat(str(found["until"]))
        return cls(units.parse_percent(str(found["share"])), until, str(found["reason"]))


def end_words(until: datetime | None, reason: str) -> str:
    """Until when, and why, if a person said so."""
    end = "until headgate resume" if until is None else f"until {until:%a %d %b %H:%M} UTC"
    return f"{end}: {reason}" if reason else end
