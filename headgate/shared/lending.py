"""How the gateways of a site lend each other the rest of one uplink, above each one's floor. Pure.

The lender is one atomic script in Redis, on Redis's clock (``lending.lua`` does what ``ask`` does
here, and a test compares the two). The borrower is a gateway, on its own boot clock. The promise:
in any second, the floors and what is lent add up to at most the site's rate. DESIGN.md has the
proof; these are its steps:

- The lender counts of each gateway the highest of its leases that have not ended, or that the
  gateway may still be using, and never lends more than the rest.
- A borrower uses a lease from the answer until ``USE_MS`` after it *asked*: a second and the errors
  of two clocks before the lender counts it as ended.
- A lender that has just started, or whose clock was stepped forward, lends nothing for one length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

MILLISECOND = 1_000_000
"""Borrowers count nanoseconds of their boot clock, the lender milliseconds of its clock."""

LENGTH_MS = 7000
"""What the lender lends for. Gateways of one site must agree on it, so it is not a setting."""
APART_MS = 1000
"""No second may hold bytes of two leases of the same bytes."""
ANSWER_MS = 250
"""An answer that took longer is not used: it would say too little about the lender's clock."""
GAP_SECONDS = 400
"""A borrower that heard nothing for longer has to watch the lender's clock again before it
borrows. Longer than the usual interval of runs."""
DRIFT_PPM = 1000
"""How fast two clocks may part: 500 ppm each, the most that Linux slews."""
UNSEEN_MS = 2 * ANSWER_MS + GAP_SECONDS * DRIFT_PPM // 1000
"""A step forward of the lender's clock that is smaller may stay unseen by every borrower."""
USE_MS = LENGTH_MS - APART_MS - UNSEEN_MS - 10
"""How long a lease is used, counted from before it was asked for; 10 ms for drift and rounding."""
SETTLED_MS = 1300
"""After a lower rate was adopted: the last second of the higher one is over. Includes the quarter
of a second after which every pacer asks for its rate again."""
LEAVING_MS = SETTLED_MS + UNSEEN_MS
ASK_EVERY_MS = 1400
"""Longer than ``SETTLED_MS``: each ask confirms the last answer."""
WANT_SECONDS = 5
"""A gateway wants what waits to be gone within this time."""
REMEMBERED_MS = 3_600_000
"""How long a gateway's floor is counted although it does not ask."""
MOST_BYTES = 10**13
"""More is not told apart: numbers stay exact in Lua, and in its JSON."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What waits at one gateway."""

    waiting_bytes: int = 0
    urgent_bytes: int = 0  # of those
    oldest_seconds: int = 0

    def wants(self, floor: int) -> tuple[int, int]:
        """Bytes a second above the floor: for urgent images, and for all."""
        urgent = -(-min(self.urgent_bytes, self.waiting_bytes) // WANT_SECONDS)
        waiting = -(-self.waiting_bytes // WANT_SECONDS)
        return max(0, urgent - floor), max(0, waiting - floor)

    def bounded(self) -> Demand:
        """With numbers that are exact everywhere."""
        waiting = min(self.waiting_bytes, MOST_BYTES)
        oldest = min(self.oldest_seconds, MOST_BYTES)
        return Demand(waiting, min(self.urgent_bytes, waiting), oldest)


def floor_of(rate: int, floor: int, gateways: int) -> int:
    """The floor of each gateway at a site's rate: less where the rate does not cover them all."""
    return min(floor, rate // gateways)


def rest_of(rate: int, floor: int, gateways: int) -> int:
    """What of a site's rate can be lent: the floors of all gateways never are."""
    return rate - gateways * floor_of(rate, floor, gateways)


def _fill(rest: int, wants: Iterable[tuple[int, int, str]]) -> dict[str, int]:
    """Water-filling: all get the same, but no one more than it wants, and what one does not want
    is for the others. ``wants``: bytes, a number that decides who gets odd bytes, name."""
    shares = {}
    ordered = sorted(wants)
    for at, (want, _, name) in enumerate(ordered):
        shares[name] = min(want, rest // (len(ordered) - at))
        rest -= shares[name]
    return shares


def divide(rest: int, demands: Mapping[str, Demand], floor: int = 0) -> dict[str, int]:
    """What each gateway should be lent of the rest, above its floor.

    By water-filling: first over what urgent images want, then over what all want; what no one
    wants goes in equal parts to those that have anything waiting, so that a lone gateway gets all.
    """
    wants = {name: demand.wants(floor) for name, demand in demands.items()}
    ages = {name: demand.oldest_seconds for name, demand in demands.items()}
    shares = _fill(rest, ((urgent, ages[name], name) for name, (urgent, _) in wants.items()))
    left = rest - sum(shares.values())
    more = _fill(
        left, ((all_ - shares[name], ages[name], name) for name, (_, all_) in wants.items())
    )
    left -= sum(more.values())
    busy = [name for name, demand in demands.items() if demand.waiting_bytes]
    extra = _fill(left, ((rest, ages[name], name) for name in busy))
    return {name: shares[name] + more[name] + extra.get(name, 0) for name in demands}


# -- the lender


class Why(StrEnum):
    """Why a lender lends nothing, beyond that there is nothing to lend."""

    LENDING = "lending"
    JUST_STARTED = "just-started"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Lent:
    """One lease as the lender counts it."""

    number: int
    rate: int  # bytes a second above the floor
    until: int  # ms of the lender's clock


@dataclass(frozen=True, slots=True)
class Ask:
    """What a gateway says when it asks. ``holder`` tells two machines apart that both say they are
    ``gateway``."""

    gateway: str
    holder: str
    rate: int  # of the whole site, as this gateway has it now
    floor: int
    gateways: int
    demand: Demand = Demand()
    server: str = ""  # of the last answer
    held: int = 0  # the lease that it has kept to for at least SETTLED_MS; 0: count on nothing
    stepped: bool = False  # it saw the lender's clock go forward by more than time did
    leaving: bool = False  # it uses no lease any more; ``held`` is the last that it used


@dataclass(frozen=True, slots=True)
class Entry:
    """What the lender knows of one gateway."""

    gateway: str
    seen: int
    rate: int
    floor: int
    gateways: int
    demand: Demand
    lent: tuple[Lent, ...] = ()

    @property
    def counted(self) -> int:
        """The most it may be using, above its floor."""
        return max((lease.rate for lease in self.lent), default=0)

    @property
    def own_floor(self) -> int:
        """What it may always use."""
        return floor_of(self.rate, self.floor, self.gateways)


@dataclass(frozen=True, slots=True)
class Book:
    """All that the lender remembers. ``server`` is the run of Redis that wrote it: another one has
    restarted, or was a replica."""

    server: str = ""
    quiet_until: int = 0
    number: int = 0
    entries: Mapping[str, Entry] = field(default_factory=dict)  # by holder


@dataclass(frozen=True, slots=True)
class Answer:
    """What the lender says. ``lent`` is in bytes a second, above the gateway's floor."""

    server: str
    now: int  # ms of its clock
    number: int
    lent: int
    why: Why = Why.LENDING
    namesake: bool = False  # another machine asks under this gateway's name
    known: int = 0  # gateways whose floors are counted
    rate: int = 0  # the site's: the lowest that any gateway has now


def ask(book: Book, now: int, server: str, asked: Ask) -> tuple[Book, Answer]:
    """What the lender answers, and remembers. ``now`` in ms of its clock, which may be stepped."""
    if book.server != server:
        book = Book(server, now + LENGTH_MS)
    entries = {holder: _aged(entry, now) for holder, entry in book.entries.items()}
    quiet_until = min(book.quiet_until, now + LENGTH_MS)
    if asked.stepped and asked.server == server:
        quiet_until = now + LENGTH_MS
        entries = {holder: replace(entry, lent=()) for holder, entry in entries.items()}
    mine = entries.get(asked.holder)
    lent = () if mine is None else mine.lent
    if asked.server == server:
        lent = _released(lent, asked, now)
    entries[asked.holder] = me = Entry(
        asked.gateway, now, asked.rate, asked.floor, asked.gateways, asked.demand.bounded(), lent
    )
    entries = {
        holder: entry
        for holder, entry in entries.items()
        if holder == asked.holder or entry.lent or not _forgotten(entry, now, asked.gateway)
    }
    rest, rate = _rest(entries.values(), now)
    number, granted, why = book.number + 1, 0, Why.LENDING
    if asked.leaving:
        why = Why.LEFT
    elif now < quiet_until:
        why = Why.JUST_STARTED
    else:
        fresh = {holder: one.demand for holder, one in entries.items() if _fresh(one, now)}
        share = divide(rest, fresh, me.own_floor)[asked.holder]
        others = sum(one.counted for holder, one in entries.items() if holder != asked.holder)
        granted = max(0, min(share, rest - others))
    if granted:
        lease = Lent(number, granted, now + LENGTH_MS)
        entries[asked.holder] = replace(me, lent=(*lent, lease))
    namesake = any(
        entry.gateway == asked.gateway and _fresh(entry, now)
        for holder, entry in entries.items()
        if holder != asked.holder
    )
    answer = Answer(server, now, number, granted, why, namesake, len(entries), rate)
    return Book(server, quiet_until, number, entries), answer


def _released(lent: tuple[Lent, ...], asked: Ask, now: int) -> tuple[Lent, ...]:
    """Without what the gateway has given up. Only leases that it knew when it said so: what it says
    may be carried out late, even after what it said later."""
    if not asked.leaving:
        return tuple(lease for lease in lent if lease.number >= asked.held)
    soon = now + LEAVING_MS
    return tuple(
        replace(lease, until=min(lease.until, soon)) if lease.number <= asked.held else lease
        for lease in lent
    )


def _aged(entry: Entry, now: int) -> Entry:
    """Without leases that have ended. Nothing lies further ahead than one length: where it seems
    to, the clock was stepped back."""
    lent = tuple(
        replace(lease, until=min(lease.until, now + LENGTH_MS))
        for lease in entry.lent
        if lease.until > now
    )
    return replace(entry, seen=min(entry.seen, now), lent=lent)


def _fresh(entry: Entry, now: int) -> bool:
    return now - entry.seen < LENGTH_MS


def _forgotten(entry: Entry, now: int, gateway: str) -> bool:
    """Whether its floor is not counted any more: silent for long, or another machine (or another
    boot of the same one) now has its name."""
    if entry.gateway == gateway:
        return not _fresh(entry, now)
    return now - entry.seen >= REMEMBERED_MS


def _rest(entries: Iterable[Entry], now: int) -> tuple[int, int]:
    """What can be lent, and the rate: the lowest of those that ask, if they do not agree. Gateways
    that were never heard have floors too, and so have more of them than the settings say."""
    entries = list(entries)
    rate = min(entry.rate for entry in entries if _fresh(entry, now))
    floors = [entry.own_floor for entry in entries]
    unheard = max(0, max(entry.gateways for entry in entries) - len(entries))
    return max(0, rate - sum(floors) - unheard * max(floors)), rate


# -- the borrower


@dataclass(frozen=True, slots=True)
class Borrower:
    """What one gateway knows, on one boot of its machine; its own clock in nanoseconds."""

    server: str = ""
    watched_from: int = 0  # since when it knows this lender's clock without a gap
    heard_at: int = 0
    ahead: int = 0  # the lender's clock is at most so far ahead of its own, as of ``heard_at``
    stepped: bool = False
    number: int = 0  # of the lease; 0: none from this lender
    lent: int = 0
    ends_at: int = 0
    rest: int = 0  # what the site could lend when it asked

    def lent_at(self, now: int, rest: int) -> int:
        """Bytes a second above the floor, now. ``rest``: what the site can lend now; where that
        is less than when the lease began (a limit, the timetable), so much less is used."""
        if now >= self.ends_at:
            return 0
        return self.lent if rest >= self.rest else self.lent * rest // self.rest

    def left(self) -> Borrower:
        """Without its lease: it sends at its floor from now on."""
        return replace(self, lent=0, ends_at=0)

    def answered(self, asked: Ask, before: int, after: int, answer: Answer) -> Borrower:
        """After an answer that came at ``after`` to what was asked at ``before``, own clock."""
        if after - before > ANSWER_MS * MILLISECOND:
            return self
        told = answer.now * MILLISECOND
        most, least = told + MILLISECOND - before, told - after
        if answer.server != self.server or after - self.heard_at > GAP_SECONDS * 10**9:
            # An older lease is used to its end: its lender still counts it.
            return replace(
                self, server=answer.server, watched_from=after, heard_at=after, ahead=most,
                stepped=False, number=0,
            )  # fmt: skip
        allowed = self.ahead + (after - self.heard_at) * DRIFT_PPM // 1_000_000
        known = replace(
            self,
            heard_at=after,
            ahead=min(allowed, most),
            stepped=self.stepped and not asked.stepped,
        )
        if least > allowed:
            # It may have counted another's lease as ended that is still used.
            return replace(known, ahead=most, stepped=True)
        if after - self.watched_from < LENGTH_MS * MILLISECOND:
            return known  # its clock may have been stepped just before it was first heard
        return replace(
            known,
            number=answer.number,
            lent=answer.lent,
            ends_at=before + USE_MS * MILLISECOND,
            rest=rest_of(asked.rate, asked.floor, asked.gateways),
        )

    def encode(self) -> dict[str, Any]:
        """For the site's memory."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def decode(cls, found: Mapping[str, Any]) -> Borrower:
        """From the site's memory."""
        return cls(**{name: found[name] for name in cls.__slots__ if name in found})
