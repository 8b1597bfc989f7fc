"""``headgate device``: enrol devices, and manage their tokens."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

import click

from headgate.actions import devices
from headgate.host.exit_codes import Exit
from headgate.settings.units import UnitError, counted, human_duration, human_size, parse_duration
from headgate.spool.catalog.device_stats import Arrivals, Gaps, Unusable
from headgate.spool.site.devices import Device, DeviceTrouble, Token
from headgate.spool.site.labels import Label
from headgate.spool.spool import Spool
from uploader.cli import completions
from uploader.cli.commands import device_copies, device_names
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text
from uploader.cli.tables import aligned

_MOST = 10_000
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


@click.group(epilog=ending("headgate device add cam-07", "headgate device list"))
def command() -> None:
    """Enrol devices, and manage their tokens."""


@command.command(
    epilog=ending(
        "headgate device add cam-07",
        'headgate device add "cam-{001..200}" --out tokens.csv  # a whole fleet',
        "headgate device add gate-01 --urgent",
        "headgate device add door-01 --digest  # a camera that knows only HTTP Digest",
    )
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--urgent", is_flag=True, help="Allow these devices to mark images as urgent.")
@click.option(
    "--drain", is_flag=True, help="Allow these devices to start drains with POST /jobs/drain."
)
@click.option(
    "--forward",
    is_flag=True,
    help="Allow these to send images of other devices: they are gateways (destination.kind http).",
)
@click.option(
    "--digest",
    is_flag=True,
    help="For cameras that know only HTTP Digest. The spool then stores a secret as good as the "
    "token.",
)
@click.option(
    "--out", metavar="FILE", help="Write the tokens to a new file that only you can read."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def add(
    context: Context,
    names: tuple[str, ...],
    urgent: bool,
    drain: bool,
    forward: bool,
    digest: bool,
    out: str | None,
    as_json: bool,
) -> None:
    """Enrol devices, and print a token for each.

    Either all are enrolled or none. A token is shown only once: the spool stores just its SHA-256
    (with --digest, in addition what that login is checked by).
    A device that was revoked and is added again gets a new token.
    """
    wanted = expanded(names)
    with _Tokens(context, out, as_json) as tokens, context.spool() as spool:
        tokens.made = devices.add(
            spool,
            context.actor,
            wanted,
            urgent=urgent,
            may_drain=drain,
            may_forward=forward,
            digest=digest,
        )


@command.command(
    epilog=ending(
        "headgate device rotate cam-07  # the old token is valid for one more day",
        "headgate device rotate cam-07 --overlap 0s  # the old one was stolen",
    )
)
@click.argument(
    "names", nargs=-1, required=True, metavar="NAME...", shell_complete=completions.devices
)
@click.option(
    "--overlap",
    metavar="1d",
    default="1d",
    show_default=True,
    help="How long the old token stays valid.",
)
@click.option(
    "--out", metavar="FILE", help="Write the tokens to a new file that only you can read."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def rotate(
    context: Context, names: tuple[str, ...], overlap: str, out: str | None, as_json: bool
) -> None:
    """Give devices new tokens; the old ones stay valid for a while.

    Either all devices get a new token or none.
    """
    try:
        span = timedelta(seconds=parse_duration(overlap))
    except UnitError as error:
        fail(f"--overlap: {error}", Exit.USAGE)
    wanted = expanded(names)
    with _Tokens(context, out, as_json) as tokens, context.spool() as spool:
        tokens.made = devices.rotate(spool, context.actor, wanted, span)


@command.command(epilog=ending("headgate device revoke cam-07"))
@click.argument(
    "names", nargs=-1, required=True, metavar="NAME...", shell_complete=completions.devices
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def revoke(context: Context, names: tuple[str, ...], as_json: bool) -> None:
    """Revoke all tokens of devices at once.

    Their next request is refused; their images stay.
    """
    wanted = expanded(names)
    with context.spool() as spool:
        try:
            devices.revoke(spool, context.actor, wanted)
        except DeviceTrouble as trouble:
            fail(str(trouble), missing=trouble.missing)
    if as_json:
        print_json({"revoked": wanted})
    else:
        context.say(f"revoked: {', '.join(wanted)}")


@command.command("list", epilog=ending("headgate device list", "headgate device list --json"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_(context: Context, as_json: bool) -> None:
    """List devices, enrolled or not.

    Shows when each was last seen, how much it sent, its clock offset, how many of its sequence
    numbers are missing, and how many of its images were unusable.
    """
    with context.spool() as spool:
        rows = _rows(spool)
        now = spool.now()
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    for line in aligned(_HEAD, (_cells(row, now) for row in rows)):
        print_text(line)


for _command in (
    device_names.gaps,
    device_names.label,
    device_names.group,
    device_names.rename,
    device_names.remove,
    device_copies.export,
    device_copies.import_,
):
    command.add_command(_command)


def expanded(names: Sequence[str]) -> list[str]:
    """``cam-{001..003}`` as the shell's braces would have it, for where it is quoted or the shell
    has none."""
    found: list[str] = []
    for name in names:
        braces = _BRACES.search(name)
        if braces is None:
            found.append(name)
            continue
        first, last = int(braces[1]), int(braces[2])
        if last < first or last - first >= _MOST:
            fail(f"{name}: from low to high, and at most {_MOST:,} at once", Exit.USAGE)
        padded = braces[1].startswith("0") or braces[2].startswith("0")
        width = max(len(braces[1]), len(braces[2])) if padded else 0
        inner = [
            f"{name[: braces.start()]}{number:0{width}}{name[braces.end() :]}"
            for number in range(first, last + 1)
        ]
        found += expanded(inner)
    if len(found) > _MOST:
        fail(f"at most {counted(_MOST, 'device')} at once", Exit.USAGE)
    return found


class _Tokens:
    """New tokens on their way to the user: shown once, and unreadable afterwards.

    The file is made before anything is enrolled, so that a full disk or a wrong path loses none.
    """

    def __init__(self, context: Context, out: str | None, as_json: bool) -> None:
        self.made: list[Token] = []
        self._out, self._as_json, self._context = out, as_json, context
        self._fd = _new_file(out) if out else -1

    def __enter__(self) -> _Tokens:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None or not self.made:
            self._discard()
            if isinstance(error, DeviceTrouble):
                fail(str(error), missing=error.missing)
            return
        if self._out:
            with os.fdopen(self._fd, "w", encoding="utf-8") as file:
                file.write(self._text())
            said = (
                f"{counted(len(self.made), 'token', ('is', 'are'))} in {self._out}; keep it secret"
            )
            self._context.say(said, err=True)
        else:
            print_text(self._text(), nl=False)

    def _discard(self) -> None:
        if self._out:
            os.close(self._fd)
            Path(self._out).unlink(missing_ok=True)

    def _text(self) -> str:
        if self._as_json:
            import json

            return json.dumps([{"device": t.device, "token": t.secret} for t in self.made]) + "\n"
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("device", "token"))
        writer.writerows((token.device, token.secret) for token in self.made)
        return text.getvalue()


def _new_file(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        fail(f"{path} is there already; name a new file, or move that one away")
    except OSError as error:
        fail(f"{path} cannot be made: {error.strerror}")


@dataclass(frozen=True, slots=True)
class _Row:
    device: str
    enrolled: Device | None
    seen: Arrivals | None
    missing: int | None
    unusable: Unusable
    label: str
    group: str


def _rows(spool: Spool) -> list[_Row]:
    enrolled = {device.name: device for device in spool.site.devices.all(spool.now())}
    seen = {arrivals.device: arrivals for arrivals in spool.catalog.arrivals()}

    def missing(gaps: Gaps | None) -> int | None:
        return None if gaps is None else gaps.missing

    labels = spool.site.labels.all()
    names = sorted(enrolled.keys() | seen.keys())
    unusable = spool.catalog.unusable_of(names, spool.now())
    return [
        _Row(
            name,
            enrolled.get(name),
            seen.get(name),
            missing(spool.catalog.gaps(name, 0)),
            unusable.get(name, Unusable()),
            label=labels.get(name, Label()).label,
            group=labels.get(name, Label()).group,
        )
        for name in names
    ]


_HEAD = ("DEVICE", "TOKEN", "LAST SEEN", "IMAGES", "BYTES", "CLOCK", "MISSING", "UNUSABLE", "LABEL")


def _cells(row: _Row, now: datetime) -> tuple[str, ...]:
    seen = row.seen
    return (
        row.device,
        _token(row.enrolled),
        "never" if seen is None else f"{human_duration((now - seen.last_at).total_seconds())} ago",
        "0" if seen is None else f"{seen.images:,}",
        "0" if seen is None else human_size(seen.bytes),
        "" if seen is None else _clock(seen),
        "" if row.missing is None else f"{row.missing:,}",
        f"{row.unusable.images:,}" if row.unusable.images else "",
        " / ".join(filter(None, (row.group, row.label))),
    )


def _token(device: Device | None) -> str:
    if device is None:
        return "none"
    if device.revoked_at is not None:
        return "revoked"
    count = "" if device.tokens == 1 else f" x {device.tokens}"
    has = {
        "urgent": device.urgent,
        "drain": device.may_drain,
        "forward": device.may_forward,
        "digest": device.digest,
    }
    rights = [right for right, given in has.items() if given]
    return ("+".join(rights) or "valid") + count


def _clock(seen: Arrivals) -> str:
    offset = seen.clock_offset_seconds
    if offset is None:
        return ""
    if not seen.clock_is_off:
        return "right"
    way = "ahead" if offset > 0 else "behind"
    return f"{'' if seen.clock_exact else 'about '}{human_duration(abs(offset))} {way}"
