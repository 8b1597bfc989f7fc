"""What this gateway holds of the site's allowance of a day: more of it, or a part given back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from headgate.host import logs
from headgate.shared.connection import SharedTrouble
from headgate.shared.day_book import DayBook
from headgate.spool.budget import ledger
from headgate.spool.budget.uplink import Part
from headgate.spool.errors import DiskError
from headgate.spool.identity import identity_of
from headgate.spool.spool import Spool

_TIMEOUT_SECONDS = 1.0


def take(
    spool: Spool, book: DayBook, waiting: int, ended: Callable[[], bool] = lambda: False
) -> None:
    """Say what this gateway holds, and hold enough for this many bytes of images that wait.
    ``ended``: the spool may be closed by now. SharedTrouble, DiskError."""
    day = spool.uplink.day
    assert day is not None
    try:
        for _ in range(2):  # a book that is not known yet is told what is held, and only then gives
            use = use_of(spool)
            want = day.wanted(use.number, use.day, waiting) if waiting else 0
            with spool.site.together():
                asked = day.asks(identity_of(spool.settings.spool.path), use.number, use.day, want)
            answer = book.ask(asked)
            if ended():
                return
            with spool.site.together():
                if not day.answered(asked, answer):
                    break
    except SharedTrouble:
        if not ended():
            with spool.site.together():
                day.failed()
        raise


def give_back(spool: Spool, book: DayBook) -> None:
    """Hold no more than was used. Only under the drain lock, and with its ledger closed.
    SharedTrouble, DiskError."""
    assert spool.uplink.day is not None
    with spool.site.together():
        use = use_of(spool)
        spool.uplink.day.gives_back(use.number, use.day)
    take(spool, book, 0)


def use_of(spool: Spool) -> ledger.Use:
    """What left on the day that is charged now."""
    uplink = spool.uplink
    return ledger.read_use(
        uplink.state / Part.DRAIN, spool.settings.uplink.interval, today=uplink.today
    )


def tell(spool: Spool) -> None:
    """Say what this gateway holds, although no run is at work. Nothing to do without a shared
    allowance; that Redis is away is said elsewhere."""
    if spool.uplink.day is None:
        return
    from headgate.shared.connection import connect, disconnect
    from headgate.shared.impatient import ImpatientCaller

    url, site = spool.settings.uplink.shared, spool.settings.site.name

    def ask() -> None:
        client = connect(url, timeout_seconds=_TIMEOUT_SECONDS)
        try:
            take(spool, DayBook(client, site), 0)
        finally:
            disconnect(client)

    try:
        with closing(ImpatientCaller(4 * _TIMEOUT_SECONDS)) as caller:
            caller.call(ask)
    except (SharedTrouble, DiskError) as error:
        logs.get().warning("day.not-shared", why=str(error))
