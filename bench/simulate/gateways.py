"""Several gateways on one uplink, in simulated time: what they lend each other, by the product's
own lender and borrower (``headgate.shared.lending``). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from headgate.shared import lending
from headgate.shared.lending import MILLISECOND, Ask, Book, Borrower, Demand

_SLICES = 10
"""Parts of a second in which each gateway sends at one rate."""
_RUN_OF_REDIS = "simulated"
_ANSWER_NS = 3 * MILLISECOND


@dataclass(frozen=True, slots=True)
class Uplink:
    """One link for all, in bytes a second; ``floor`` is each gateway's own. Redis is away from
    the first second of ``away`` to the last."""

    rate: int
    floor: int
    arriving: Sequence[int]  # of each gateway
    away: tuple[int, int] = (0, 0)

    @property
    def gateways(self) -> int:
        """How many share it."""
        return len(self.arriving)


@dataclass(slots=True)
class Gateway:
    """One of them; ``stored_at`` is when it began to keep to its lease, on its boot clock."""

    name: str
    asks_at: int
    backlog: float = 0.0
    known: Borrower = field(default_factory=Borrower)
    stored_at: int = 0


@dataclass(frozen=True, slots=True)
class Moment:
    """One second of all: bytes that were sent, and the backlogs at its end."""

    at: int
    sent: int
    backlogs: tuple[int, ...]


def share(uplink: Uplink, seconds: int, chance: Callable[[], float]) -> Iterator[Moment]:
    """Each second. ``chance`` (0 to 1) spreads the gateways' asks."""
    period = lending.ASK_EVERY_MS * MILLISECOND
    gateways = [Gateway(f"gw{number}", int(chance() * period)) for number in range(uplink.gateways)]
    rest = lending.rest_of(uplink.rate, uplink.floor, uplink.gateways)
    book, step = Book(), 1000 * MILLISECOND // _SLICES
    for at in range(seconds):
        sent = 0.0
        is_away = uplink.away[0] <= at < uplink.away[1]
        for part in range(_SLICES):
            now = at * 1000 * MILLISECOND + part * step
            for gateway, arriving in zip(gateways, uplink.arriving, strict=True):
                gateway.backlog += arriving / _SLICES
                if gateway.asks_at <= now:
                    gateway.asks_at += period
                    if not is_away:
                        book = _ask(uplink, gateway, book, now)
                may = uplink.floor + gateway.known.lent_at(now, rest)
                goes = min(gateway.backlog, may / _SLICES)
                gateway.backlog -= goes
                sent += goes
        yield Moment(at, round(sent), tuple(round(one.backlog) for one in gateways))


def _ask(uplink: Uplink, gateway: Gateway, book: Book, now: int) -> Book:
    known = gateway.known
    settled = now - gateway.stored_at >= lending.SETTLED_MS * MILLISECOND
    asked = Ask(
        gateway=gateway.name,
        holder=gateway.name,
        rate=uplink.rate,
        floor=uplink.floor,
        gateways=uplink.gateways,
        demand=Demand(int(gateway.backlog)),
        server=known.server,
        held=known.number if settled else 0,
        stepped=known.stepped,
    )
    book, answer = lending.ask(book, now // MILLISECOND, _RUN_OF_REDIS, asked)
    gateway.known = known.answered(asked, now, now + _ANSWER_NS, answer)
    if gateway.known.number != known.number:
        gateway.stored_at = now
    return book
