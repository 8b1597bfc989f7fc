"""``headgate hold``: keep an image, or those of a device, on this machine."""

from __future__ import annotations

import click

from headgate.actions import holds
from headgate.host.exit_codes import Exit
from headgate.monitor.checks import images
from headgate.spool.site.holds import Hold, Kind
from uploader.cli import completions
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, fail_unknown, print_json, print_text
from uploader.cli.tables import aligned


@click.command(
    epilog=ending(
        'headgate hold cam-07 --reason "claim 4711"',
        "headgate hold 20261123T160405.123456Z_cam-07_0123456789abcdef",
        "headgate hold  # what is held, by whom, and why",
    )
)
@click.argument("what", metavar="[IMAGE|DEVICE]", required=False,
                shell_complete=completions.senders)  # fmt: skip
@click.option("--reason", default="", help="Reason, recorded with the user and the time.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, what: str | None, reason: str, as_json: bool) -> None:
    """Hold an image or a device: nothing of it is sent.

    Its copies here are not pruned either, until headgate release. Images that a held device sends
    are received and held. An image that a run is sending at this moment cannot be held.
    """
    if what is None and reason:
        fail("name the image or the device to hold", Exit.USAGE)
    with context.spool() as spool:
        if what is not None:
            if holds.subject_of(spool, what) is None:
                fail_unknown(spool, "image and no device", what)
            held = [holds.hold(spool, context.actor, what, reason)]
        else:
            held = spool.site.holds.all()
        counts = spool.catalog.totals().held
    if as_json:
        print_json([_fields(one) for one in held])
    elif what is not None:
        stays = "all its images stay" if held[0].subject.kind is Kind.DEVICE else "it stays"
        context.say(f"held: {held[0].subject.name}; {stays} here until headgate release")
    else:
        for line in aligned(("HELD", "KIND", "SINCE", "BY", "REASON"), map(_cells, held)):
            print_text(line)
        context.say(f"{images(counts)} held back" if held else "nothing is held")


def _fields(hold: Hold) -> dict[str, object]:
    return {
        "kind": hold.subject.kind,
        "name": hold.subject.name,
        "at": hold.at,
        "who": hold.who,
        "reason": hold.reason,
    }


def _cells(hold: Hold) -> tuple[str, ...]:
    since = f"{hold.at:%Y-%m-%d %H:%M} UTC"
    return (hold.subject.name, hold.subject.kind.value, since, hold.who, hold.reason)
