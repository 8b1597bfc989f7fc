"""``headgate config``: show the settings in force, and check that they work."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from headgate.host.exit_codes import Exit
from headgate.settings.settings import SETTINGS, Settings
from headgate.settings.units import Percent, format_duration, human_size
from headgate.spool.errors import DiskError, LockHeld, SpoolUnsuitable
from headgate.spool.owner import opened
from headgate.spool.site.confirmation import PROOFS
from headgate.spool.spool import Spool
from uploader.cli.cron import crontabs as cron
from uploader.cli.doctor import clear_text, collect
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, print_json, print_text, styled
from uploader.http_post.probe import Receiving
from uploader.s3.capability import Capability
from uploader.s3.client import S3Sender
from uploader.s3.dialect import remember
from uploader.s3.probe import probe
from uploader.wire.errors import SendError
from uploader.wire.other_traffic import other_traffic_pacer
from uploader.wire.pacer import Closed


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
    capability: Capability | None = None
    receiving: Receiving | None = None
    try:
        with opened(settings, probe=True) as spool:
            said["notes"].append(f"the spool {settings.spool.path} accepts durable writes")
            said["warnings"] += [str(risk)] if (risk := spool.risk()) else []
            if settings.destination.kind == "http":
                receiving = _destination(spool, said)
            else:
                capability = _bucket(spool, said)
    except (SpoolUnsuitable, DiskError, LockHeld) as error:
        said["faults"].append(str(error))
    said["warnings"] += [str(fault) for fault in cron.check(settings)]
    clear = clear_text.judge(settings, capability.endpoint if capability is not None else "")
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
    if said["faults"]:
        raise SystemExit(Exit.ERROR)


def _destination(spool: Spool, said: dict[str, list[str]]) -> Receiving | None:
    found, trouble, reached = collect.destination(spool, "headgate config check")
    if found is None:
        said["faults" if reached else "warnings"].append(trouble)
        return None
    said["faults"] += found.faults
    said["warnings"] += found.warnings
    said["notes"] += found.notes
    return found


def _bucket(spool: Spool, said: dict[str, list[str]]) -> Capability | None:
    settings: Settings = spool.settings
    if not settings.s3.bucket:
        said["faults"].append("no bucket is set; set bucket under [s3]")
        return None
    try:
        with other_traffic_pacer(spool.uplink, "headgate config check", 15) as pacer:
            with closing(S3Sender(settings, pacer)) as sender:
                found = probe(sender, settings.s3.prefix)
                if found.writable:
                    remember(spool.site, settings, sender.dialect)
    except SendError as error:
        said["faults"].append(error.message)
        return None
    except Closed as closed:
        said["warnings"].append(f"the bucket was not tested: {closed}")
        return None
    said["notes" if found.usable else "faults"] += found.sentences
    if found.usable:
        said["notes"].append(f"each image is confirmed by {PROOFS[found.confirmed_by]}")
    said["faults"] += [f"the permission {right} is missing" for right in found.missing_rights]
    return found
