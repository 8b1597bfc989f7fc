"""The way out for everything that is not an image: checks today, alerts and heartbeats to come.

A small part of the rate is theirs alone, under a lock and a ledger of their own, so that nothing
here waits for a drain, and both together never exceed the rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from headgate.settings.units import human_duration
from headgate.spool.budget.uplink import Part, Uplink
from uploader.wire.pacer import Closed, Pacer, Permitted


def permitted(uplink: Uplink, part: Part) -> Permitted:
    """What a pacer of this part may use now, and until when that is known."""
    cap = uplink.cap()
    return Permitted(cap.part(part), cap.until)


@contextmanager
def other_traffic_pacer(uplink: Uplink, who: str, wait_seconds: float) -> Iterator[Pacer]:
    """A pacer for ``who``, for as long as the context lasts.

    LockHeld if another process sends for longer than ``wait_seconds``; Closed, also out of the
    pacer itself, if nothing may leave for longer than a second: the sentence says why, and when it
    may.
    """
    with uplink.hold_rest_lock(who, wait_seconds):
        with closing(uplink.open_ledger(Part.OTHER)) as ledger:
            if ledger.blocked_seconds:
                wait = human_duration(ledger.blocked_seconds)
                raise Closed(f"the ledger counts as spent; it begins again in {wait}")
            if why := uplink.blocked_reason(Part.OTHER, ledger):
                raise Closed(str(why))
            yield Pacer(
                ledger,
                lambda: permitted(uplink, Part.OTHER),
                blocked_reason=lambda: uplink.blocked_reason(Part.OTHER, ledger),
            )
