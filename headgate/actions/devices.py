"""What people do to devices: enrol them, give them new tokens, and revoke those."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from headgate.host import logs
from headgate.settings.units import human_duration
from headgate.spool.site.audit import Action, Actor
from headgate.spool.site.devices import Token
from headgate.spool.site.enrolments import Enrolment, Taken
from headgate.spool.spool import Spool


def add(
    spool: Spool,
    by: Actor,
    wanted: Sequence[str],
    *,
    urgent: bool = False,
    may_drain: bool = False,
    may_forward: bool = False,
    digest: bool = False,
) -> list[Token]:
    """Enrol devices, all or none; their tokens. DeviceTrouble as of ``Devices.add``."""
    rights = {"urgent": urgent, "drain": may_drain, "forward": may_forward, "digest": digest}
    with spool.site.together():
        tokens = spool.site.devices.add(
            wanted,
            spool.now(),
            urgent=urgent,
            may_drain=may_drain,
            may_forward=may_forward,
            digest=digest,
        )
        detail = ", ".join(right for right, given in rights.items() if given)
        _record(spool, by, Action.DEVICE_ADD, wanted, detail)
    logs.get().info("device.added", devices=len(wanted), **rights)
    return tokens


def rotate(spool: Spool, by: Actor, wanted: Sequence[str], overlap: timedelta) -> list[Token]:
    """New tokens, all or none; the old ones end after ``overlap``."""
    lasts = human_duration(overlap.total_seconds())
    with spool.site.together():
        tokens = spool.site.devices.rotate(wanted, spool.now(), overlap)
        _record(spool, by, Action.DEVICE_ROTATE, wanted, f"the old token is valid for {lasts}")
    logs.get().info("device.rotated", devices=len(wanted), overlap=lasts)
    return tokens


def revoke(spool: Spool, by: Actor, wanted: Sequence[str]) -> None:
    """Revoke all tokens of devices at once, all or none."""
    with spool.site.together():
        spool.site.devices.revoke(wanted, spool.now())
        _record(spool, by, Action.DEVICE_REVOKE, wanted)
    logs.get().info("device.revoked", devices=len(wanted))


def take_over(spool: Spool, by: Actor, heard: Sequence[Enrolment]) -> dict[str, Taken]:
    """Let devices of another gateway send here, all or none; what became of each."""
    with spool.site.together():
        taken = spool.site.devices.take_over(heard, spool.now())
        for what in (Taken.ADDED, Taken.CHANGED, Taken.REVOKED):
            named = [name for name, became in taken.items() if became is what]
            _record(spool, by, Action.DEVICE_IMPORT, named, what)
    logs.get().info("device.imported", devices=len(taken))
    return taken


def _record(
    spool: Spool, by: Actor, action: Action, devices: Sequence[str], detail: str = ""
) -> None:
    for device in devices:
        spool.site.audit.record(by, action, spool.now(), device, detail)
