"""``headgate import``: hand over the pictures of a folder, once."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import click

from headgate.host.exit_codes import Exit
from headgate.host.progress import Progress
from headgate.intake.hand_over import HandedOver, LocalReceiver, Outcome
from headgate.settings.intake import check_rule
from headgate.settings.units import UnitError, counted
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text
from uploader.intake.devices import device_of
from uploader.intake.folder import Found, files, hand_over

PATIENCE_SECONDS = 300.0
"""How long a receiver that takes nothing is asked again."""


@dataclass
class _Done:
    """Counts what became of each file."""

    counts: Counter[Outcome] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)  # the file, and why


@click.command(
    "import",
    epilog=ending(
        "headgate import /media/card --device cam-07",
        "headgate import /srv/old-pictures  # each sub-folder is a device",
        "headgate import /srv/dump --device '{device}_*.jpg'",
        exits=(Exit.OK, Exit.ERROR, Exit.USAGE),
        meaning={
            Exit.OK: "all of them are held",
            Exit.ERROR: "some are not; the lines say why, and another call goes on",
        },
    ),
)
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--device",
    "rule",
    default="",
    metavar="NAME|PATTERN",
    help="Whose they are: a name, or a pattern of file names with {device} in it "
    "(default: the first sub-folder).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, folder: Path, rule: str, as_json: bool) -> None:
    """Hand over the pictures of a card or a folder, once.

    The receiver has to run. Nothing in the folder is changed. What is held already is not sent
    again, so a call that was broken off is simply repeated. The time of capture is read from EXIF.
    """
    try:
        check_rule(rule)
    except UnitError as error:
        fail(f"--device: {error}", Exit.USAGE)
    with context.spool() as spool:
        found, unread = _found(folder)
        receiver, done = LocalReceiver(spool), _Done(failed=unread)
        stopped = ""
        with context.progress(as_json=as_json) as progress:
            total = sum(one.size for one in found)
            progress.begin(counted(len(found), "file"), total, of_bytes=True)
            for one in found:
                if stopped := _import(one, rule, receiver, done, progress):
                    break
                progress.step(one.size)
    _report(done, as_json=as_json)
    if stopped:
        fail(f"{stopped} Call it again to go on.")
    if done.failed:
        raise SystemExit(Exit.ERROR)


def _found(folder: Path) -> tuple[list[Found], list[tuple[str, str]]]:
    unread: list[tuple[str, str]] = []

    def note(error: OSError) -> None:
        unread.append((str(error.filename), f"cannot be read: {error.strerror}"))

    if not folder.is_dir():
        fail(f"{folder} is no folder that this user ({os.geteuid()}) can read", Exit.USAGE)
    return list(files(folder, note)), unread


def _import(
    found: Found, rule: str, receiver: LocalReceiver, done: _Done, progress: Progress
) -> str:
    """Hand over one file; why the others need not be tried now, empty if they may."""
    device = device_of(rule, found.relative)
    if device is None:
        done.failed.append((found.relative, "no device is known by its name or folder: --device"))
        return ""
    said = _patiently(found, device, receiver, progress)
    if said is None:
        done.failed.append((found.relative, "it was changed or removed meanwhile"))
    elif said.is_here:
        done.counts[said.outcome] += 1
    else:
        done.failed.append((found.relative, said.sentence))
    if said is not None and said.outcome is Outcome.LATER and not said.is_of_picture:
        return said.sentence
    return ""


def _patiently(
    found: Found, device: str, receiver: LocalReceiver, progress: Progress
) -> HandedOver | None:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        said = hand_over(found, device, receiver)
        if said is None or said.outcome is not Outcome.LATER or said.is_of_picture:
            return said
        if time.monotonic() + said.retry_after > until:
            return said
        progress.waits(said.sentence)
        time.sleep(said.retry_after)


def _report(done: _Done, *, as_json: bool) -> None:
    counts = {outcome.value: done.counts[outcome] for outcome in (Outcome.TAKEN, Outcome.HELD)}
    if as_json:
        failed = [{"file": file, "reason": why} for file, why in done.failed]
        print_json({**counts, "failed": failed})
        return
    for file, why in done.failed:
        print_text(f"{file}: {why}", err=True)
    print_text(
        f"{counts['taken']} taken, {counts['held']} held already, {len(done.failed)} not taken"
    )
