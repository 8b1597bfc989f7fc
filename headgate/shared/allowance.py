"""How the gateways of a site share one allowance of bytes a day. Pure.

Each gateway has a floor of every day, which needs no one's consent; the rest of the day is a pool,
of which gateways take parts before they charge them. The book of what they hold is kept by one
atomic script in Redis (``allowance.lua`` does what ``ask`` does here, and a test compares the two).
The promise: what all gateways may charge to one day never adds up to more than its allowance.
DESIGN.md has the proof; these are its steps:

- A book gives nothing before every gateway has said to *this* book what it holds. A book that was
  lost, restored, or copied to another server is another book, and begins without a word of anyone.
- A gateway takes nothing from a book that it has left for another one, ever again.
- Of its asks only the last one counts, at both ends: an older one that is carried out late, or
  answered late, changes nothing.
- A gateway gives back on its own disk first, and says so then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

_LEFT = 32
"""The number of books that a gateway remembers it has left."""
_DAYS = 4
"""The number of days, those named last, of which a gateway knows what it holds. A clock that is set
to a wrong day and back names three at most."""


@dataclass(frozen=True, slots=True)
class Shares:
    """A day's allowance in bytes: each gateway's floor, and the pool."""

    floor: int
    pool: int

    @classmethod
    def of(cls, allowance: int, rate: int, floor: int, gateways: int) -> Shares:
        """Each floor is as large a part of the day as the floor of the rate is of the rate."""
        own = allowance * min(floor, rate // gateways) // max(1, rate)
        return cls(own, allowance - gateways * own)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a gateway says. ``holder`` tells two spools apart that both say they are ``gateway``."""

    gateway: str
    holder: str
    gateways: int
    shares: Shares
    book: str  # that it takes from; "": none yet
    left: tuple[str, ...]  # books that it takes nothing from any more
    turn: int  # the number of this ask
    day: int
    held: Mapping[int, int]  # of each day's pool, this day's included
    want: int  # of this day's pool, in all


@dataclass(frozen=True, slots=True)
class Entry:
    """What a book knows of one gateway."""

    gateway: str
    turn: int
    told: bool = False  # it said to this book what it holds
    gateways: int = 0
    shares: Shares = Shares(0, 0)
    held: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Book:
    """``name`` is of no other book; ``server``: the run of Redis that began it."""

    name: str = ""
    server: str = ""
    entries: Mapping[str, Entry] = field(default_factory=dict)  # by holder


@dataclass(frozen=True, slots=True)
class Answer:
    """What the book says: how much of the day's pool the gateway holds now."""

    book: str
    turn: int  # the last that was carried out
    held: int
    free: int  # of the day's pool, for whoever asks first
    missing: int  # gateways that have not said to this book what they hold


def ask(book: Book, server: str, born: int, asked: Ask) -> tuple[Book, Answer]:
    """What the book answers, and what it is then. ``born`` tells books of one server apart."""
    if book.server != server or book.name in asked.left:
        book = Book(f"{server}.{born}", server)
    entries = dict(book.entries)
    mine = entries.get(asked.holder)
    current = mine is None or asked.turn > mine.turn
    if mine is None:
        mine = Entry(asked.gateway, asked.turn)
    if current:
        mine = replace(mine, turn=asked.turn)
        if asked.book == book.name:
            mine = Entry(
                asked.gateway, asked.turn, True, asked.gateways, asked.shares, dict(asked.held)
            )
    entries[asked.holder] = mine
    told = [one for one in entries.values() if one.told]
    missing = max((one.gateways for one in told), default=asked.gateways)
    missing = max(0, missing - len({one.gateway for one in told}))
    free = 0
    if not missing:
        today = [one for one in told if asked.day in one.held] or told
        extra = len({one.gateway for one in today}) - max(one.gateways for one in today)
        pool = min(one.shares.pool for one in today)
        pool -= max(0, extra) * max(one.shares.floor for one in today)
        free = max(0, pool - sum(one.held.get(asked.day, 0) for one in told))
    held = mine.held.get(asked.day, 0)
    if current and mine.told and asked.book == book.name:
        more = max(0, min(asked.want - held, free))
        held, free = held + more, free - more
        entries[asked.holder] = replace(mine, held={**mine.held, asked.day: held})
    answer = Answer(book.name, mine.turn, held, free, missing)
    return Book(book.name, book.server, entries), answer


@dataclass(frozen=True, slots=True)
class Holder:
    """What one gateway keeps on its disk. Each change of it is written before it counts."""

    book: str = ""
    left: tuple[str, ...] = ()
    turn: int = 0
    held: Mapping[int, int] = field(default_factory=dict)  # of each day's pool

    def of(self, day: int) -> int:
        """What it may charge to the day above its floor."""
        return self.held.get(day, 0)

    def asks(self, day: int, used: int) -> Holder:
        """As it is before it asks: no answer to an earlier ask counts from now on. ``used``: what
        was charged to the day above the floor, whatever this memory says."""
        return replace(self, turn=self.turn + 1, held=_of_days(self.held, day, used))

    def answered(self, asked: Ask, answer: Answer) -> Holder:
        """After an answer to ``asked``; to know a book is not yet to hold anything of it."""
        known = replace(self, turn=max(self.turn, answer.turn))
        if asked.turn != self.turn:  # the last ask said which books were left: this is none of them
            return known
        if answer.book != self.book:
            left = (*self.left, self.book) if self.book else self.left
            return replace(known, book=answer.book, left=left[-_LEFT:])
        if answer.turn != asked.turn or asked.book != answer.book:
            return known
        return replace(known, held=_of_days(self.held, asked.day, answer.held))

    def gives_back(self, day: int, used: int) -> Holder:
        """Without what it did not use of the day. Only while no one charges, and said then."""
        if self.of(day) <= used:
            return self
        return replace(self, turn=self.turn + 1, held={**self.held, day: used})

    def encode(self) -> dict[str, Any]:
        """For the site's memory."""
        held = sorted(self.held.items())
        return {"book": self.book, "left": [*self.left], "turn": self.turn, "held": held}

    @classmethod
    def decode(cls, found: Any) -> Holder:
        """From the site's memory; None: nothing yet."""
        if not found:
            return cls()
        held = {int(day): int(size) for day, size in found["held"]}
        return cls(found["book"], tuple(found["left"]), found["turn"], held)


def _of_days(held: Mapping[int, int], day: int, size: int) -> dict[int, int]:
    """The day's with at least so much, as the last one named; those named longest ago go."""
    days = {other: its for other, its in held.items() if other != day}
    days[day] = max(size, held.get(day, 0))
    return dict(list(days.items())[-_DAYS:])
