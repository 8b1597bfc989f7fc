"""Borrowing of a shared uplink while a run goes on: a thread asks, and the pacers keep to what it
writes into the site's memory. Redis never holds a run up; a lease that is not renewed ends by
itself, and the floor holds."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from headgate.actions import controls, site_day
from headgate.host import logs
from headgate.shared import lending
from headgate.shared.connection import SharedTrouble
from headgate.shared.lender import Lender
from headgate.shared.lending import Ask, Borrower, Demand, Why
from headgate.spool.budget import ledger
from headgate.spool.budget.slots import SECOND
from headgate.spool.errors import DiskError
from headgate.spool.identity import identity_of
from headgate.spool.spool import Spool

_NAMESAKE = "another gateway asks under this one's name; give each its own uplink.gateway"

_PATIENCE_SECONDS = 1.0
_DAY_SECONDS = 20
"""After so long the day's book is asked although enough is held: it may be another one."""


@contextmanager
def kept(spool: Spool) -> Iterator[None]:
    """Borrow, and follow what other gateways set, for as long as the context lasts. Nothing to do
    where the uplink is this gateway's alone."""
    if not spool.settings.shares_uplink:
        yield
        return
    keeper = LeaseKeeper(spool)
    keeper.begin()
    try:
        yield
    finally:
        keeper.end()


class LeaseKeeper:
    """One run's borrower. All it knows is in the site's memory too, for the next run of this boot
    and for every other process of this gateway."""

    def __init__(self, spool: Spool) -> None:
        self._spool, self._uplink = spool, spool.uplink
        settings = spool.settings
        self._lender: Lender | None = None
        self._url, self._site = settings.uplink.shared, settings.site.name
        self._identity = identity_of(settings.spool.path)  # tells two of one name apart
        self._known = self._uplink.borrower()
        self._stored_at = ledger.boottime()  # when every process could see the lease that it holds
        self._trouble = ""
        self._day_asked_at = 0
        self._asked, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="lease", daemon=True)

    def begin(self) -> None:
        """Ask once, so that a run begins with what other gateways set, and then go on. Not waited
        for long: a name lookup has no timeout."""
        self._thread.start()
        self._asked.wait(_PATIENCE_SECONDS)

    def end(self) -> None:
        """Give back what is left of the lease: keep to the floor first, and say so then."""
        self._ended.set()
        self._thread.join(_PATIENCE_SECONDS)
        stuck = self._thread.is_alive()
        left = self._remember(self._known.left(), self._trouble)
        if stuck:
            return
        if left and not self._trouble:
            self._ask(leaving=True)
            self._give_back()
        if self._lender is not None:
            self._lender.close()

    def _go_on(self) -> None:
        self._ask()
        self._asked.set()
        while not self._ended.wait(lending.ASK_EVERY_MS / 1000):
            self._ask()

    def _ask(self, *, leaving: bool = False) -> None:
        try:
            if self._lender is None:
                self._lender = Lender(self._url, self._site)
            asked = self._question(leaving=leaving)
            before = ledger.boottime()
            answer, newest = self._lender.ask(asked, controls.known(self._spool))
            after = ledger.boottime()
        except SharedTrouble as trouble:
            self._failed(str(trouble))
            return
        except DiskError as error:
            self._failed(f"the disk refused: {error}")
            return
        if self._ended.is_set():  # the spool may be closed by now
            return
        controls.follow(self._spool, newest)
        found = ""
        if answer.namesake:
            found = _NAMESAKE
        elif answer.why is Why.JUST_STARTED:
            found = "Redis has just started, and lends nothing for some seconds"
        self._note(found)
        known = self._known.answered(asked, before, after, answer)
        another = known.number != self._known.number
        if self._remember(known, found) and another:
            self._stored_at = ledger.boottime()
        if not leaving:
            self._ask_for_day(asked.demand.waiting_bytes)

    def _ask_for_day(self, waiting: int) -> None:
        try:
            self._take_of_day(waiting)
        except (SharedTrouble, DiskError) as error:
            self._failed(str(error))

    def _take_of_day(self, waiting: int) -> None:
        """Hold enough of the day's allowance, where that is shared, for what is sent next."""
        day, now = self._spool.uplink.day, ledger.boottime()
        if day is None or self._lender is None:
            return
        use = site_day.use_of(self._spool)
        recently = now - self._day_asked_at < _DAY_SECONDS * SECOND
        if not (recently and day.enough(use.number, use.day, waiting)):
            self._day_asked_at = now
            site_day.take(self._spool, self._lender.days, waiting, self._ended.is_set)

    def _give_back(self) -> None:
        """Let the other gateways have what this run took of the day and did not use."""
        if self._spool.uplink.day is None or self._lender is None:
            return
        try:
            site_day.give_back(self._spool, self._lender.days)
        except (SharedTrouble, DiskError) as error:
            logs.get().warning("day.not-given-back", why=str(error))

    def _question(self, *, leaving: bool) -> Ask:
        uplink, known = self._spool.settings.uplink, self._known
        settled = ledger.boottime() - self._stored_at >= lending.SETTLED_MS * lending.MILLISECOND
        return Ask(
            gateway=uplink.gateway,
            holder=f"{self._identity}.{ledger.boot_id().hex()}",
            rate=self._uplink.site_cap().rate,
            floor=uplink.floor,
            gateways=uplink.gateways,
            demand=Demand() if leaving else self._demand(),
            server=known.server,
            held=known.number if settled or leaving else 0,
            stepped=known.stepped,
            leaving=leaving,
        )

    def _demand(self) -> Demand:
        totals, backlog = self._spool.catalog.totals(), self._spool.catalog.backlog
        waiting = totals.waiting.bytes + totals.sending.bytes
        now = self._spool.now()
        oldest = backlog.oldest_due_at(now) if waiting else None
        age = 0 if oldest is None else max(0, int((now - oldest).total_seconds()))
        return Demand(waiting, min(waiting, backlog.urgent_bytes()), age)

    def _failed(self, trouble: str) -> None:
        if self._ended.is_set():
            return
        self._day_asked_at = 0  # it is asked at once when Redis is back
        if (day := self._spool.uplink.day) is not None:
            with contextlib.suppress(DiskError), self._spool.site.together():
                day.failed()
        self._note(trouble)
        self._remember(self._known, trouble)

    def _note(self, trouble: str) -> None:
        """Log a change, once."""
        if trouble == self._trouble:
            return
        if trouble:
            logs.get().warning("uplink.not-shared", why=trouble)
        else:
            logs.get().info("uplink.shared")
        self._trouble = trouble

    def _remember(self, known: Borrower, trouble: str) -> bool:
        """Only what every process can see is held; an older lease is used to its end."""
        try:
            self._uplink.remember(known, trouble)
        except DiskError as error:
            logs.get().warning("uplink.lease-not-kept", why=str(error))
            return False
        self._known = known
        return True
