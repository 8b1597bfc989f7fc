"""What people correct about devices: names, labels, groups, gaps, and devices that are gone."""

from __future__ import annotations

from dataclasses import replace

from headgate.actions.errors import ActionRefused
from headgate.spool.image.names import DEVICE
from headgate.spool.site.audit import Action, Actor
from headgate.spool.site.holds import Kind, Subject
from headgate.spool.site.labels import Label
from headgate.spool.spool import Spool
from headgate.spool.upkeep import holding

LABEL_MAX = 100


def label(
    spool: Spool, by: Actor, device: str, *, text: str | None = None, group: str | None = None
) -> Label:
    """Change what is given; an empty text takes it away."""
    _require_known(spool, device)
    words = {"label": text, "group": group}
    given = {key: " ".join(value.split()) for key, value in words.items() if value is not None}
    if any(len(value) > LABEL_MAX for value in given.values()):
        raise ActionRefused(f"A label has at most {LABEL_MAX} characters.", invalid=True)
    changed = replace(spool.site.labels.of(device), **given)
    said = ", ".join(f"{key}: {value or '(none)'}" for key, value in given.items())
    with spool.site.together():
        spool.site.labels.put(device, changed)
        spool.site.audit.record(by, Action.DEVICE_LABEL, spool.now(), device, said)
    return changed


def accept_gaps(spool: Spool, by: Actor, device: str, first: int, last: int) -> int:
    """Close gaps in a device's sequence numbers: those images will not come. How many were open."""
    gaps = spool.catalog.gaps(device, 0)
    if gaps is None:
        raise ActionRefused(f"{device} has sent no sequence number", missing=True)
    spool.site.audit.record(
        by, Action.DEVICE_GAPS, spool.now(), device, f"{first}-{last} will not come"
    )
    return spool.catalog.corrections.accept_gaps(device, first, last)


def change_name(spool: Spool, by: Actor, device: str, name: str) -> None:
    """Give a device another name: its tokens, label, hold and statistics are its own under it. May
    be repeated after a kill."""
    if not DEVICE.fullmatch(name):
        raise ActionRefused(
            f"{name}: a device is called by 1 to 64 letters, digits, dots, underscores or hyphens, "
            "the first a letter or digit",
            invalid=True,
        )
    _require_known(spool, device)
    devices = {one.name: one for one in spool.site.devices.all(spool.now())}
    if spool.catalog.arrivals_of(name) is not None or (name in devices and device in devices):
        raise ActionRefused(f"{name} is another device")
    if device in devices and devices[device].digest:
        raise ActionRefused(
            f"{device} logs in by HTTP Digest, whose secret contains its name: enrol {name} with "
            f"headgate device add {name} --digest, and remove {device}"
        )
    labels, holds = spool.site.labels, spool.site.holds
    with spool.site.together():
        spool.site.devices.change_name(device, name)
        if (known := labels.of(device)) != Label():
            labels.put(name, known)
            labels.put(device, Label())
        held = holds.of("", device)
        if held is not None:  # its older images stay held under the older name
            holds.add(replace(held, subject=Subject(Kind.DEVICE, name)))
        spool.site.audit.record(by, Action.DEVICE_RENAME, spool.now(), device, f"now {name}")
    holding.agree(spool)
    spool.catalog.corrections.rename_device(device, name)


def remove(spool: Spool, by: Actor, device: str) -> None:
    """Forget a device: its tokens, label and statistics. Its images stay, and so does a hold."""
    _require_known(spool, device)
    with spool.site.together():
        spool.site.devices.remove(device)
        spool.site.labels.put(device, Label())
        spool.site.audit.record(by, Action.DEVICE_REMOVE, spool.now(), device)
    spool.catalog.corrections.forget_device(device)


def _require_known(spool: Spool, device: str) -> None:
    if not spool.knows_device(device):
        raise ActionRefused(
            f"there is no device {device}; headgate device list shows all", missing=True
        )
