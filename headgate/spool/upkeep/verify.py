"""verify: compare files and records, list every disagreement, and repair it on request.

The files decide. A look while the receiver and a run are at work sees images on their way, so each
finding is looked at again before it counts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from headgate.host.progress import SILENT, Progress
from headgate.settings import units
from headgate.spool import sqlite
from headgate.spool.budget import ledger
from headgate.spool.budget.uplink import Part
from headgate.spool.disk import durable, xattrs
from headgate.spool.disk.layout import read_metadata, read_reason, read_sent
from headgate.spool.errors import FileMissing
from headgate.spool.image import names
from headgate.spool.image.image import Count, Item, PruneRule, Receipt, State
from headgate.spool.image.names import Name
from headgate.spool.site.gone import Stage
from headgate.spool.spool import Spool
from headgate.spool.upkeep.mover import Mover

_PAGE = 1000


class DisagreementKind(StrEnum):
    """Every disagreement that verify knows."""

    LOST = "lost"  # it was received; its file is nowhere, and no one discarded it
    UNKNOWN = "not in the catalog"
    MISPLACED = "elsewhere than the catalog says"
    TWICE = "in two places"
    UNPROVED = "in done/ without proof"
    NO_RECEIPT = "uploaded, without its receipt"
    PRUNED = "pruned, but its receipt says local"
    LOCAL = "local, but its receipt says pruned"
    CHANGED = "not the bytes that were received"
    TOTALS = "the totals do not add up"
    FOREIGN = "not made by Headgate"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One thing that is not as it should be. ``lost`` images are the ones that matter."""

    kind: DisagreementKind
    what: str  # an id, a path below the spool, or a file of the state
    detail: str = ""
    name: Name | None = None

    def __str__(self) -> str:
        return f"{self.what}: {self.kind}" + (f" ({self.detail})" if self.detail else "")


def disagreements(
    spool: Spool,
    *,
    deep: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    progress: Progress = SILENT,
) -> list[Disagreement]:
    """Everything that is wrong; with ``deep`` every image is read and hashed as well."""
    found = list(look(spool, deep=deep, progress=progress))
    if found:
        sleep(1.0)  # what was merely on its way has arrived by then
        again = {(item.kind, item.what) for item in look(spool, deep=deep, progress=progress)}
        found = [item for item in found if (item.kind, item.what) in again]
    return found


def look(
    spool: Spool, *, deep: bool = False, progress: Progress = SILENT
) -> Iterator[Disagreement]:
    """Everything that seems wrong at first sight, images on their way included."""
    if damaged := spool.site.damaged():
        yield Disagreement(DisagreementKind.DAMAGED, "site.sqlite3", damaged)
    if damaged := spool.catalog.damaged():
        yield Disagreement(DisagreementKind.DAMAGED, "catalog.sqlite3", damaged)
        return  # what it says of the images cannot be relied on
    unread = set()  # days, of whose images nothing can be said
    days = spool.receipts.days()
    progress.begin("days of receipts: reading", len(days))
    for day in days:
        progress.step()
        if damaged := spool.receipts.damaged(day):
            unread.add(day)
            yield Disagreement(DisagreementKind.DAMAGED, spool.receipts.path(day).name, damaged)
    for part in Part:
        if (path := spool.files.state / part).exists() and (trouble := ledger.damage(path)):
            yield Disagreement(DisagreementKind.DAMAGED, str(part), trouble)
    for path in spool.files.foreign():
        yield Disagreement(DisagreementKind.FOREIGN, str(path.relative_to(spool.path)))
    yield from _files(spool, deep, unread, progress)
    yield from _rows(spool, unread)
    yield from _gone(spool)
    yield from _receipts(spool, unread, progress)
    if not unread:
        yield from _totals(spool)


def _files(
    spool: Spool, deep: bool, unread: Set[str], progress: Progress
) -> Iterator[Disagreement]:
    files = spool.files
    totals = spool.catalog.totals()
    here = totals.waiting + totals.sending + totals.held + totals.set_aside
    if not unread:
        here += spool.receipts.totals()[0]
    progress.begin("images: reading" if deep else "images: looking", here.images)
    for base in (files.new, files.done):
        for folder in files.minutes(base):
            for name in files.names_in(base / folder):
                progress.step()
                if name.day not in unread:
                    yield from _file(spool, base / folder / name.file, name, deep)
    for name in files.names_in(files.aside):
        if name.day not in unread:
            yield from _file(spool, files.aside / name.file, name, deep)


def _file(spool: Spool, path: Path, name: Name, deep: bool) -> Iterator[Disagreement]:
    def say(kind: DisagreementKind, detail: str = "") -> Disagreement:
        return Disagreement(kind, name.id, detail, name)

    item, receipt = spool.catalog.get(name.id), spool.receipts.get(name.id)
    top = path.relative_to(spool.path).parts[0]
    places = spool.files.places(name)
    if len(places) > 1:
        if path == places[0]:
            folders = [place.relative_to(spool.path).parts[0] for place in places]
            yield say(DisagreementKind.TWICE, " and ".join(folders))
        return
    if not places:
        return  # it has moved on since the folder was listed
    if top == "done":
        if receipt is None:
            proved = read_sent(path) is not None
            yield say(DisagreementKind.NO_RECEIPT if proved else DisagreementKind.UNPROVED)
        elif not receipt.local:
            yield say(DisagreementKind.LOCAL)
    elif receipt is not None:
        yield say(DisagreementKind.MISPLACED, f"in {top}/, but it is uploaded")
    elif item is None:
        yield say(DisagreementKind.UNKNOWN, f"in {top}/")
    elif (item.state is State.SET_ASIDE) != (top == "aside"):
        yield say(DisagreementKind.MISPLACED, f"in {top}/, but the catalog says {item.state}")
    known = item or receipt
    if known is not None:
        yield from _bytes(path, name, known, deep)


def _bytes(path: Path, name: Name, known: Item | Receipt, deep: bool) -> Iterator[Disagreement]:
    try:
        if deep:
            sha256, size = xattrs.hash_file(path)
            if sha256 != known.sha256:
                yield Disagreement(
                    DisagreementKind.CHANGED, name.id, f"its SHA-256 is {sha256}", name
                )
                return
        else:
            size = os.lstat(path).st_size
    except FileNotFoundError:
        return
    except OSError as error:
        yield Disagreement(DisagreementKind.CHANGED, name.id, str(error.strerror), name)
        return
    if size != known.size:
        yield Disagreement(
            DisagreementKind.CHANGED, name.id, f"{size} bytes, not {known.size}", name
        )


def _rows(spool: Spool, unread: Set[str]) -> Iterator[Disagreement]:
    after = 0
    while page := spool.catalog.after(after, _PAGE):
        for item in page:
            if item.name.day in unread or spool.files.places(item.name):
                continue
            if spool.receipts.get(item.id) is None:
                line = spool.site.gone.get(item.id)
                if line is None or line.stage is Stage.ASKED:
                    detail = f"the catalog says {item.state}; {closes(item.id)}"
                    yield Disagreement(DisagreementKind.LOST, item.id, detail, item.name)
        after = page[-1].arrival


def _gone(spool: Spool) -> Iterator[Disagreement]:
    """What is known to be lost, until a person says that this is all right."""
    for line in spool.site.gone.of(Stage.LOST):
        name = names.parse(f"{line.id}.{line.ext}") if line.is_named else None
        if name is None or not (spool.files.places(name) or spool.catalog.get(line.id)):
            yield Disagreement(
                DisagreementKind.LOST, line.id, f"{line.reason}; {closes(line.id)}", name
            )


def closes(image: str) -> str:
    """What to type once it is known what became of an image."""
    return f'when you know why: headgate discard {image} --reason "..."'


def _receipts(spool: Spool, unread: Set[str], progress: Progress) -> Iterator[Disagreement]:
    days = spool.receipts.days()
    progress.begin("days of receipts: counting", len(days))
    for day in days:
        progress.step()
        if day in unread:
            continue
        for receipt in spool.receipts.local(day):
            if not spool.files.places(receipt.name):
                yield Disagreement(DisagreementKind.PRUNED, receipt.id, "", receipt.name)
        local, pruned = spool.receipts.counted(day)
        if local + pruned != spool.receipts.day_totals(day):
            yield Disagreement(DisagreementKind.TOTALS, spool.receipts.path(day).name)


def _totals(spool: Spool) -> Iterator[Disagreement]:
    kept, counted = spool.catalog.totals(), spool.catalog.counted()
    if kept != counted:
        yield Disagreement(
            DisagreementKind.TOTALS, "catalog.sqlite3", f"{kept}, but the rows say {counted}"
        )
    unaccounted = spool.inventory().unaccounted
    if unaccounted:
        yield Disagreement(
            DisagreementKind.TOTALS,
            "received = new + done + aside + pruned + lost + discarded",
            f"{units.counted(unaccounted, 'image', ('is', 'are'))} unaccounted for",
        )


def repair(spool: Spool, mover: Mover, found: list[Disagreement]) -> list[Disagreement]:
    """Repair these from the files, the catalog in place; returns what could not be repaired.

    ``received`` never becomes less: what is missing afterwards gets a line of its own.
    """
    if any(t.kind is DisagreementKind.DAMAGED and t.what == "catalog.sqlite3" for t in found):
        return found  # nothing can be decided by it
    received = spool.catalog.totals().received
    mover.discard()
    left = []
    for trouble in found:
        if trouble.name is not None:
            if not _mend(spool, mover, trouble, trouble.name):
                left.append(trouble)
        elif trouble.kind is not DisagreementKind.TOTALS:
            left.append(trouble)
    if any(
        trouble.kind is DisagreementKind.DAMAGED and trouble.what not in set(Part)
        for trouble in left
    ):
        return left  # sums over what cannot be read would be wrong
    for day in spool.receipts.days():
        spool.receipts.settle(day)
    mover.welcome_back()
    mover.drop_rows_counted_elsewhere()
    spool.catalog.settle(_elsewhere(spool), spool.gone_from)
    missing = received - spool.catalog.totals().received
    if missing.images > 0:
        spool.site.gone.missing(Count(missing.images, max(0, missing.bytes)), spool.now())
        spool.catalog.settle(_elsewhere(spool), spool.gone_from)
        left += [line for line in _gone(spool) if line.name is None and line not in left]
    return left


def _elsewhere(spool: Spool) -> Count:
    """Images that were received and have no row in the catalog, and their bytes."""
    local, pruned = spool.receipts.totals()
    lost, discarded, purged = spool.site.gone.totals()
    return local + pruned + lost + discarded + purged + spool.site.forgotten(spool.receipts.stands)


def _mend(spool: Spool, mover: Mover, trouble: Disagreement, name: Name) -> bool:
    files, now = spool.files, spool.now()
    item = spool.catalog.get(name.id)
    match trouble.kind:
        case DisagreementKind.LOST:
            if item is not None and mover.locate(item, now) == "nowhere":
                mover.lose(item, now)
            return False  # said until someone discards it
        case DisagreementKind.PRUNED:
            spool.receipts.mark_pruned(name.day, [name.id], now, PruneRule.MISSING)
        case DisagreementKind.LOCAL:
            spool.receipts.mark_local(name.day, [name.id])
        case DisagreementKind.TWICE:
            if not _keep_one(spool, name):
                return False
        case (
            DisagreementKind.UNKNOWN
            | DisagreementKind.UNPROVED
            | DisagreementKind.NO_RECEIPT
            | DisagreementKind.MISPLACED
        ):
            pass
        case _:
            return False
    places = files.places(name)
    if not places:
        return True
    return _believe(spool, mover, places[0], name)


def _keep_one(spool: Spool, name: Name) -> bool:
    """Of one image in two places keep the one that says most: proved, then waiting, then aside.

    False, and both stay, if their bytes differ: a person has to say which is the image.
    """
    places = spool.files.places(name)
    if len({xattrs.hash_file(place)[0] for place in places}) > 1:
        return False
    done = spool.files.in_done(name)
    proved = spool.receipts.get(name.id) is not None or (done in places and read_sent(done))
    keep = done if done in places and proved else places[0]
    for place in places:
        if place != keep:
            durable.remove(place)
    return True


def _believe(spool: Spool, mover: Mover, path: Path, name: Name) -> bool:
    """Make catalog and receipts say what the one place of the file says."""
    files, now = spool.files, spool.now()
    try:
        meta = read_metadata(path, name)
    except (OSError, FileMissing):
        return False
    item, receipt = spool.catalog.get(name.id), spool.receipts.get(name.id)
    line = spool.site.gone.get(name.id)
    if line is not None and line.stage is not Stage.ASKED:
        spool.site.gone.returned(name.id)  # its file is here again
    if receipt is not None:
        if path != files.in_done(name):
            mover.place(path, files.done, name)
        spool.receipts.mark_local(name.day, [name.id])
        spool.catalog.drop([name.id])
        return True
    if path == files.in_done(name):
        sent = read_sent(path)
        if sent is not None:
            known = item or Item(
                name, meta.sha256, meta.size, State.SENDING, key=meta.key, remarks=meta.remarks
            )
            spool.receipts.add([(name, known, sent, sent.uploaded_at or now)])
            spool.catalog.drop([name.id])
            return True
        mover.place(path, files.new, name)  # to be asked for, and sent if it is not there
    aside = path == files.in_aside(name)
    state = State.SET_ASIDE if aside else State.WAITING
    if item is not None:
        if aside:
            spool.catalog.put_aside(name.id, read_reason(path) or item.last_error)
        else:
            spool.catalog.put_back(name.id)
        return True
    error = read_reason(path) if aside else ("metadata lost" if meta.lost else "")
    spool.catalog.restore(name, meta, state, unknown=True, error=error, received=True)
    return True


def repair_databases(
    state: Path, *, alone: bool, progress: Progress = SILENT
) -> tuple[list[str], list[Disagreement]]:
    """Rebuild the indexes of damaged databases, and a catalog whose tables are damaged: a
    sentence for each, and what is lost for good. ``look`` names what could not be repaired.

    Only under the drain lock; ``alone`` says that the receiver's is held as well. The site and
    the receipts are the only copy of what is in them, so nothing of them is ever put aside.
    """
    notes: list[str] = []
    lost: list[Disagreement] = []
    catalog = state / "catalog.sqlite3"
    days = sorted((state / "receipts").glob("????-??-??.sqlite3"))
    progress.begin("databases: reading", len(days) + 2)
    for path in (catalog, state / "site.sqlite3", *days):
        progress.step()
        if not path.exists() or not (found := sqlite.damage(path)):
            continue
        # Of the catalog no copy is needed: the images tell what is in it.
        kept = None if path == catalog else _free_name(path)
        mended = sqlite.repair(path, kept)
        if not mended.left:
            copied = f"; the file as it was is kept as {kept.name}" if kept else ""
            notes.append(f"{path.name} was damaged ({found}): its indexes were made again{copied}")
        elif path == catalog and alone:
            notes.append(_rebuild_catalog(path, mended.left))
        else:
            notes.append(f"{path.name} is damaged ({mended.left}): {_what_to_do(path, catalog)}")
        if mended.lost and kept is not None:
            rows = units.counted(mended.lost, "row")
            rows += f" that only an index still named; {kept.name} has their names"
            lost.append(Disagreement(DisagreementKind.LOST, path.name, rows))
    return notes, lost


def _what_to_do(path: Path, catalog: Path) -> str:
    if path == catalog:
        return "stop the receiver and run headgate verify --repair, which rebuilds it"
    return "it cannot be repaired; restore it from a backup, as docs/OPERATING.md says"


def _free_name(path: Path) -> Path:
    kept = path.with_name(f"damaged-{path.name}")
    number = 1
    while kept.exists():
        number += 1
        kept = path.with_name(f"damaged-{number}-{path.name}")
    return kept


def _rebuild_catalog(path: Path, found: str) -> str:
    """Move a catalog out of the way. The images' rows come back by ``repair``."""
    for suffix in ("", "-wal", "-shm"):
        damaged = path.with_name(path.name + suffix)
        if damaged.exists():
            durable.move_over(damaged, damaged.with_name(f"damaged-{damaged.name}"))
    return f"the catalog was damaged ({found}): rebuilt from the images; the old one is kept"
