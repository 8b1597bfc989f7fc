"""Who may log in by FTP: a device with its token as password, as with Basic over HTTP."""

from __future__ import annotations

import base64

from app.admission.admission import Gate
from app.admission.auth import Caller
from app.refusals import Refused
from headgate.spool.image import names
from headgate.spool.spool import Spool


def device_of(spool: Spool, gate: Gate, peer: str, user: str, password: str) -> str:
    """The device that logs in from ``peer``, by the rules of HTTP's Basic; Refused if it may not.

    Without a token the user is the device, as ``receiver.auth`` and ``receiver.allow`` have it."""
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    sender = gate.identify(Caller(peer=peer, authorization=f"Basic {basic}"))
    named = names.device_name(user)
    if not sender.device and spool.site.devices.is_named(named):
        raise Refused("unauthorized", reason=f"The device {named} needs its token as password.")
    device = sender.device or named
    if not device:
        raise Refused("unauthorized", reason="The user must be the device's name.")
    return device
