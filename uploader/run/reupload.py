"""Sending uploaded images again: from the copies on this disk, else from where they were sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from headgate.host.progress import SILENT, Progress
from headgate.settings.units import counted
from headgate.spool.errors import LockHeld
from headgate.spool.image.image import Receipt, State
from headgate.spool.query import Query, every
from headgate.spool.site.audit import Action, Actor
from headgate.spool.spool import Spool
from headgate.spool.upkeep import reupload
from headgate.spool.upkeep.mover import Mover
from uploader.run.original import NotToBeHad, original
from uploader.run.yielded_lock import yielded_lock

_PAGE = 200


@dataclass(slots=True)
class Requeued:
    """How many images wait again, and why others do not, by their ids."""

    images: int = 0
    left: dict[str, str] = field(default_factory=dict)


def of(spool: Spool, query: Query, bucket: str = "") -> Iterator[Receipt]:
    """The uploaded images of a search, or those of them that are in one bucket."""
    query = replace(query, states=frozenset({State.UPLOADED}), oldest_first=True, limit=_PAGE)
    return (one for one in every(spool.find, query) if bucket in ("", one.bucket))


def run(
    spool: Spool, by: Actor, query: Query, bucket: str = "", progress: Progress = SILENT
) -> Requeued:
    """Put images back in the queue: runs send them within the budget. LockHeld if a run does not
    end."""
    done = Requeued()
    with yielded_lock(spool, "headgate reupload") as lock:
        Mover(spool, lock).reconcile(spool.now())
        said = ", ".join(filter(None, (query.device, bucket)))
        spool.site.audit.record(by, Action.REUPLOAD, spool.now(), query.device, f"begun: {said}")
        batch: list[Receipt] = []
        for receipt in of(spool, query, bucket):
            progress.step()
            if not receipt.local and not _bring(spool, receipt, done):
                continue
            batch.append(receipt)
            if len(batch) >= _PAGE:
                done.images += reupload.put_back(spool, batch)
                batch = []
        done.images += reupload.put_back(spool, batch)
        said = f"{counted(done.images, 'image')} put back, {len(done.left)} not"
        spool.site.audit.record(by, Action.REUPLOAD, spool.now(), query.device, said)
    return done


def _bring(spool: Spool, receipt: Receipt, done: Requeued) -> bool:
    """Whether its copy is here now."""
    admission = spool.admission()
    if not admission.accepting:
        done.left[receipt.id] = admission.sentence
        return False
    try:
        reupload.bring_copy(spool, receipt, original(spool, receipt).data)
    except (NotToBeHad, LockHeld) as error:
        done.left[receipt.id] = str(error)
        return False
    return True
