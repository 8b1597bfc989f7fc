"""Who logs in by FTP or mail: a device with its token as password, as with Basic over HTTP."""

from __future__ import annotations

import base64

from app.admission.admission import Gate
from app.admission.auth import Caller
from app.refusals import Refused
from headgate.spool.image import names
from headgate.spool.spool import Spool


def device_of(spool: Spool, gate: Gate, peer: str, user: str, password: str | None) -> str:
    """The device that logs in from ``peer``, by the rules of HTTP's Basic; Refused if it may not.

    Where no token is needed (``receiver.auth``, ``receiver.allow``) the user is the device.
    ``password`` None: there was no login, and ``user`` is only what the sender calls itself."""
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    login = "" if password is None else f"Basic {basic}"
    sender = gate.identify(Caller(peer=peer, authorization=login))
    named = names.device_name(user)
    if not sender.device and spool.site.devices.is_named(named):
        raise Refused("unauthorized", reason=f"The device {named} needs its token as password.")
    device = sender.device or named
    if not device:
        raise Refused("unauthorized", reason="The user must be the device's name.")
    return device
