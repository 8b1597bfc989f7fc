"""Lets the catalog keep what the site says is held."""

from __future__ import annotations

from headgate.spool.spool import Spool


def agree(spool: Spool) -> None:
    """Bring the catalog's copy of the holds up to date, after a change, and when a run begins: a
    kill in between, or a rebuilt catalog, leaves the two apart."""
    held = [(hold.subject.kind.value, hold.subject.name) for hold in spool.site.holds.all()]
    spool.catalog.holds.agree(held, spool.now())
