"""What people do to keep images here: hold an image or a device, and release it."""

from __future__ import annotations

from headgate.actions.errors import ActionRefused
from headgate.actions.images import REASON_MAX
from headgate.spool.image.image import State
from headgate.spool.image.names import device_name
from headgate.spool.site.audit import Action, Actor
from headgate.spool.site.holds import Hold, Kind, Subject
from headgate.spool.spool import Spool
from headgate.spool.upkeep import holding


def hold(spool: Spool, by: Actor, what: str, reason: str = "") -> Hold:
    """Neither send an image, or any of a device, nor prune its copy, until it is released."""
    subject = subject_of(spool, what)
    if subject is None:
        raise ActionRefused(f"there is no image and no device {what}", missing=True)
    if subject.kind is Kind.IMAGE:
        receipt = spool.receipt(subject.name)
        if receipt is not None and receipt.state is State.SENDING:
            raise ActionRefused(f"a run is sending {what}; try again when that has ended")
        if receipt is None or not receipt.local:
            raise ActionRefused(f"no copy of {what} is here any more")
    held = Hold(subject, spool.now(), by.name, " ".join(reason.split())[:REASON_MAX])
    with spool.site.together():
        spool.site.holds.add(held)
        spool.site.audit.record(by, Action.HOLD, held.at, subject.name, held.reason)
    holding.agree(spool)
    return held


def release(spool: Spool, by: Actor, what: str) -> Subject:
    """Let it go on in its order."""
    subjects = [Subject(Kind.IMAGE, what), Subject(Kind.DEVICE, device_name(what))]
    found = subject_of(spool, what)
    for subject in subjects if found is None else (found, *subjects):
        with spool.site.together():
            if not spool.site.holds.remove(subject):
                continue
            spool.site.audit.record(by, Action.RELEASE, spool.now(), subject.name)
        holding.agree(spool)
        return subject
    raise ActionRefused(f"{what} is not held; headgate hold lists what is", missing=True)


def subject_of(spool: Spool, what: str) -> Subject | None:
    """An image by its id or SHA-256, else a device that has sent or is enrolled."""
    receipt = spool.receipt(what)
    if receipt is not None:
        return Subject(Kind.IMAGE, receipt.id)
    device = device_name(what)
    return Subject(Kind.DEVICE, device) if spool.knows_device(device) else None
