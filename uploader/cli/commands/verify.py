"""``headgate verify``: do the files, the catalog, the receipts and the totals agree?"""

from __future__ import annotations

import click

from headgate.host.exit_codes import Exit
from headgate.host.progress import Progress
from headgate.settings.settings import Settings
from headgate.spool import sqlite
from headgate.spool.budget.uplink import Part
from headgate.spool.disk import locks
from headgate.spool.errors import DiskError, LockHeld
from headgate.spool.site.audit import Action
from headgate.spool.spool import Spool
from headgate.spool.upkeep.mover import Mover
from headgate.spool.upkeep.verify import Disagreement, disagreements, repair, repair_databases
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text

_LOCK_WAIT_SECONDS = 15.0


@click.command(
    epilog=ending(
        "headgate verify",
        "headgate verify --deep  # reads and hashes every image: may take hours",
        "headgate verify --repair  # the receiver may keep running",
        meaning={
            Exit.OK: "files, catalog, receipts and totals agree",
            Exit.ERROR: "a disagreement is left, or another error",
        },
    )
)
@click.option("--repair", "do_repair", is_flag=True, help="Repair what the files allow.")
@click.option("--deep", is_flag=True, help="Read every image and compare its SHA-256.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, do_repair: bool, deep: bool, as_json: bool) -> None:
    """Compare files, catalog, receipts and totals. Exit code 1 if any disagreement is left.

    --repair rebuilds the catalog from the files, in place; the receiver may keep running.
    """
    context.become_owner()
    notes: list[str] = []
    lost: list[Disagreement] = []
    try:
        if do_repair:
            with context.progress(as_json=as_json) as progress:
                notes, lost = _readable_databases(context.settings, progress)
        with context.spool() as spool:
            with context.progress(as_json=as_json) as progress:
                found = lost + disagreements(spool, deep=deep, progress=progress)
            if do_repair:
                said = f"{len(found)} disagreements"
                spool.site.audit.record(context.actor, Action.SPOOL_REPAIR, spool.now(), "", said)
            left = _repair(spool, found) if do_repair else found
    except (DiskError, LockHeld) as error:
        fail(str(error))
    except sqlite.Damaged as error:
        fail(f"a database of the spool is damaged ({error}); run headgate verify --repair")
    mended = [trouble for trouble in found if trouble not in left]
    if as_json:
        print_json({"notes": notes, "mended": _plain(mended), "left": _plain(left)})
    else:
        for note in notes:
            context.say(note)
        for trouble in mended:
            context.say(f"repaired: {trouble}")
        for trouble in left:
            print_text(str(trouble))
        context.say(_verdict(found, left, do_repair))
    if left:
        raise SystemExit(Exit.ERROR)


def _plain(found: list[Disagreement]) -> list[dict[str, str]]:
    return [{"kind": t.kind, "what": t.what, "detail": t.detail} for t in found]


def _verdict(found: list[Disagreement], left: list[Disagreement], repair: bool) -> str:
    if not found:
        return "files, catalog, receipts and totals agree"
    if repair:
        return f"{len(found) - len(left)} repaired, {len(left)} left"
    return f"{len(found)} disagreements; headgate verify --repair repairs what it can"


def _readable_databases(
    settings: Settings, progress: Progress
) -> tuple[list[str], list[Disagreement]]:
    """Repair what SQLite cannot rely on. The receiver may have it open, except a catalog that has
    to be rebuilt."""
    state = settings.spool.path / "state"
    if not state.exists():
        return [], []
    with locks.acquire(
        settings.spool.path / "new", state / "drain.lock", "headgate verify", _LOCK_WAIT_SECONDS
    ):
        try:
            with locks.acquire(
                settings.spool.path / "tmp", state / "receiver.lock", "headgate verify"
            ):
                return repair_databases(state, alone=True, progress=progress)
        except LockHeld:
            return repair_databases(state, alone=False, progress=progress)


def _repair(spool: Spool, found: list[Disagreement]) -> list[Disagreement]:
    with spool.hold_drain_lock("headgate verify", _LOCK_WAIT_SECONDS) as lock:
        left = repair(spool, Mover(spool, lock), found)
        left = _ledger_made_anew(spool, Part.DRAIN, left)
    with spool.uplink.hold_rest_lock("headgate verify", _LOCK_WAIT_SECONDS):
        return _ledger_made_anew(spool, Part.OTHER, left)


def _ledger_made_anew(spool: Spool, part: Part, left: list[Disagreement]) -> list[Disagreement]:
    """A ring that is damaged or missing is replaced by one that counts as spent."""
    if any(trouble.what == part for trouble in left) or not (spool.files.state / part).exists():
        spool.uplink.open_ledger(part).close()
    return [trouble for trouble in left if trouble.what != part]
