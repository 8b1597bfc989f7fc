"""``headgate config``: show the settings in force, and check that they work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from headgate.host.exit_codes import Exit
from headgate.settings.settings import SETTINGS
from headgate.settings.units import Percent, format_duration, human_size
from headgate.spool.errors import DiskError, LockHeld, SpoolUnsuitable
from headgate.spool.owner import opened
from headgate.spool.site.confirmation import PROOFS
from uploader.cli.cron import crontabs as cron
from uploader.cli.doctor import clear_text, collect
from uploader.cli.doctor.destination import NotAsked, Seen
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, print_json, print_text, styled
from uploader.cli.tables import aligned
from uploader.http_post.probe import Receiving
from uploader.s3.capability import Capability


@click.group(epilog=ending("headgate config show", "headgate config check"))
def command() -> None:
    """Show the settings in force, or check that they work."""


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Percent | Path) else value


@command.command(
    epilog=ending(
        "headgate config show",
        "headgate --set uplink.share=10% config show  # what a flag would change",
        "headgate config show --json | jq '.\"uplink.share\"'",
    )
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with parsed values.")
@click.pass_obj
def show(context: Context, as_json: bool) -> None:
    """Print every setting: its value, and where it comes from."""
    settings = context.settings
    if as_json:
        print_json(
            {
                setting.name: {
                    "value": "(secret)" if setting.secret else _plain(settings.value(setting.name)),
                    "written": "(secret)" if setting.secret else settings.written[setting.name],
                    "unit": setting.unit,
                    "from": settings.origin[setting.name],
                }
                for setting in SETTINGS
            }
        )
        return
    for setting in SETTINGS:
        written = "(secret)" if setting.secret else repr(settings.written[setting.name])
        print_text(f"{setting.name:<24} {written:<24} {settings.origin[setting.name]}")
    interval = format_duration(settings.uplink.interval)
    print_text(
        f"\nat most {human_size(settings.usual_rate)}/s leave outside the timetable: "
        f"{human_size(settings.usual_budget)} in any {interval}"
    )


@command.command(
    epilog=ending(
        "headgate config check",
        "headgate --config /etc/headgate/headgate.toml config check",
        meaning={Exit.OK: "runs can work", Exit.ERROR: "runs cannot work; each fault says why"},
    )
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def check(context: Context, as_json: bool) -> None:
    """Check the spool, the crontab and the bucket.

    Sends a small test object to the bucket, within the cap, to find out what its server can
    confirm and which permission is missing.
    """
    settings = context.settings
    said: dict[str, list[str]] = {"faults": [], "warnings": [], "notes": []}
    seen: Seen | None = None
    try:
        with opened(settings, probe=True) as spool:
            said["notes"].append(f"the spool {settings.spool.path} accepts durable writes")
            said["warnings"] += [str(risk)] if (risk := spool.risk()) else []
            seen = collect.destination(spool, "headgate config check")
            _asked(seen, said)
    except (SpoolUnsuitable, DiskError, LockHeld) as error:
        said["faults"].append(str(error))
    said["warnings"] += [str(fault) for fault in cron.check(settings)]
    capability = seen if isinstance(seen, Capability) else None
    receiving = seen if isinstance(seen, Receiving) else None
    clear = clear_text.judge(settings, "" if capability is None else capability.endpoint)
    said["warnings"] += [f"{one.sentence}; {one.mend}" for one in clear if one.mend]
    if as_json:
        print_json({**said, "bucket": capability, "destination": receiving})
    else:
        for word, sentences in said.items():
            for sentence in sentences:
                text = f"{word[:-1]:<8} {sentence}"
                if word == "faults":
                    print_text(styled(text, fg="red"))
                else:
                    context.say(text)
        if capability is not None and capability.writable:
            rows = ((one.name, one.answer, one.consequence) for one in capability.abilities)
            for line in ("", *aligned(("ability", "answer", "what follows"), rows)):
                context.say(line)
    if said["faults"]:
        raise SystemExit(Exit.ERROR)


def _asked(seen: Seen, said: dict[str, list[str]]) -> None:
    """Say what was learned of the place where images go."""
    match seen:
        case NotAsked():
            said["faults" if seen.tried else "warnings"].append(seen.sentence)
        case Receiving():
            said["faults"] += seen.faults
            said["warnings"] += seen.warnings
            said["notes"] += seen.notes
        case Capability():
            said["notes" if seen.usable else "faults"] += seen.sentences
            if seen.usable:
                said["notes"].append(f"each image is confirmed by {PROOFS[seen.confirmed_by]}")
            said["faults"] += [
                f"the permission {right} is missing" for right in seen.missing_rights
            ]
