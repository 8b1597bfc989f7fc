"""The images' allowance of a day where gateways share an uplink: a floor of this gateway's own, and
what it took of the site's pool (``headgate.shared.allowance``), kept on its disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headgate.settings.settings import Settings
from headgate.settings.units import counted, human_size
from headgate.shared.allowance import Answer, Ask, Holder, Shares
from headgate.spool.budget import slots
from headgate.spool.budget.memory import Memory

_DAY = "site_day"
"""The memory of what this gateway holds of each day, and what it last heard of the pool."""
_WISH = "site_day_wish"
"""The memory of bytes that a run has to have of a day for the image that is next."""
_AHEAD_SECONDS = 10


@dataclass(frozen=True, slots=True)
class DayState:
    """What this gateway knows of the site's day, for people."""

    allowance: int  # of the whole site, in bytes
    missing: int  # gateways that have not said what they hold, so that nothing is given
    away: bool  # Redis was not reached when it was last asked

    @property
    def words(self) -> str:
        """What this gateway's part of the day depends on, to follow the number."""
        of = f"; the {human_size(self.allowance)} of the site are shared"
        if self.away:
            return f"{of}, and Redis is away: no more can be had"
        if self.missing:
            missing = counted(self.missing, "more gateway", ("has", "have"))
            return f"{of} once {missing} reported"
        return of


@dataclass(frozen=True, slots=True)
class SiteDay:
    """This gateway's part of each day, and the site's pool as it was last heard of. What changes
    what it holds belongs inside ``Site.together``."""

    settings: Settings
    memory: Memory

    @property
    def shares(self) -> Shares:
        """The images' part of a day: each gateway's floor, and the pool."""
        uplink = self.settings.uplink
        rest = slots.other_part(uplink.daily // uplink.gateways)  # what each has for the rest
        images = max(0, uplink.daily - uplink.gateways * rest)
        return Shares.of(images, self.settings.usual_rate, uplink.floor, uplink.gateways)

    def allowance(self, day: int) -> int:
        """Bytes of images that may leave here on a day; more may be had of the pool."""
        return self.shares.floor + self.holder().of(day)

    def free(self, day: int) -> int:
        """Bytes of the day's pool that may be had, as far as is known."""
        found = self._found()
        if found.get("away"):
            return 0
        return int(found["free"]) if found.get("day") == day else self.shares.pool

    def wish(self, size: int) -> None:
        """Say what the next image needs; what is asked for next covers it."""
        if self._wish() != size:
            self.memory.put(_WISH, size)

    def wanted(self, day: int, used: int, waiting: int) -> int:
        """What to hold of a day's pool, of which ``used`` left here: enough for some seconds,
        and little of what is free, for others need some, too. The floor is kept for when the pool
        is gone, or Redis."""
        uplink = self.settings.uplink
        part = self.free(day) // (4 * uplink.gateways)
        ahead = min(waiting, _AHEAD_SECONDS * self.settings.usual_rate, part)
        return used + max(ahead, self._wish())

    def enough(self, day: int, used: int, waiting: int) -> bool:
        """Whether there is no need to ask for more yet."""
        left = self.holder().of(day) - used
        need = self.wanted(day, used, waiting) - used
        return self._found().get("day") == day and left >= max(need // 2, self._wish())

    def holder(self) -> Holder:
        """What it holds of each day."""
        return Holder.decode(self._found().get("holder"))

    def asks(self, holder: str, day: int, used: int, want: int) -> Ask:
        """The question to ask now. ``used``: bytes of images that left on this day."""
        mine = self.holder().asks(day, max(0, used - self.shares.floor))
        self._put(mine)
        uplink = self.settings.uplink
        return Ask(
            uplink.gateway, holder, uplink.gateways, self.shares, mine.book, mine.left, mine.turn,
            day, mine.held, max(want, mine.of(day)),
        )  # fmt: skip

    def answered(self, asked: Ask, answer: Answer) -> bool:
        """Keep what was answered; whether to ask again, because it was by an unknown book."""
        before = self.holder()
        mine = before.answered(asked, answer)
        self._put(mine, day=asked.day, free=answer.free, missing=answer.missing, away=False)
        return mine.book != before.book

    def gives_back(self, day: int, used: int) -> None:
        """Hold no more than was used. Only while nothing is charged."""
        self._put(self.holder().gives_back(day, used))
        self.memory.put(_WISH, None)

    def failed(self) -> None:
        """Note that Redis was not reached: nothing of the pool can be had."""
        if not self._found().get("away"):
            self._put(self.holder(), away=True)

    def state(self) -> DayState:
        """What is known of the day, for people."""
        found = self._found()
        away = bool(found.get("away"))
        return DayState(self.settings.uplink.daily, found.get("missing", 0), away)

    def _wish(self) -> int:
        return int(self.memory.get(_WISH) or 0)

    def _found(self) -> dict[str, Any]:
        found: dict[str, Any] = self.memory.get(_DAY) or {}
        return found

    def _put(self, holder: Holder, **heard: Any) -> None:
        self.memory.put(_DAY, {**self._found(), "holder": holder.encode(), **heard})
