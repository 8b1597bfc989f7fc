"""Whether the server that images are posted to would take and confirm them; nothing is posted.

A Headgate is asked what a run relies on: the handshake, with the token, and for the receipt of an
image that does not exist. Of any other server (``destination.proof`` is status) only the way there
and the credentials can be tried, because an upload would store something.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from headgate.settings.units import human_size
from headgate.spool.site.confirmation import PROOFS, ProofKind
from uploader.http_post.client import HttpSender, document


@dataclass(frozen=True, slots=True)
class Receiving:
    """What was seen of the destination. ``faults``: why no image would be confirmed there;
    ``warnings`` and ``notes`` are for people."""

    url: str
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    clock_offset_seconds: float | None = None

    @property
    def usable(self) -> bool:
        return not self.faults


def look(sender: HttpSender, *, by_status: bool, max_image: int) -> Receiving:
    """Ask; SendError if no answer came. ``max_image``: the largest that may come, in bytes."""
    seen = _any_server(sender) if by_status else _headgate(sender, max_image)
    faults, warnings, notes = seen
    return Receiving(
        sender.place, tuple(faults), tuple(warnings), tuple(notes), sender.clock_offset
    )


def _any_server(sender: HttpSender) -> tuple[list[str], list[str], list[str]]:
    answer = sender.ask("OPTIONS", sender.place, {})
    if answer.status in (401, 403, 407):
        return [sender.error(answer).message], [], []
    warning = (
        f"Each image is confirmed by {PROOFS[ProofKind.STATUS]}: a 2xx of {sender.host} counts, "
        "whatever it does with the image. No upload was tried, because it would be stored."
    )
    return [], [warning], [f"{sender.host} answers ({answer.status})."]


def _headgate(sender: HttpSender, max_image: int) -> tuple[list[str], list[str], list[str]]:
    limits = sender.ask("GET", sender.beside("limits"), {})
    said = document(limits)
    if limits.status in (401, 403, 407):
        return [sender.error(limits).message], [], []
    if "max_image" not in said or "accepting" not in said:
        fault = (
            f"{sender.host} is no Headgate ({sender.beside('limits')} answers {limits.status}): "
            'correct destination.url, or set destination.proof to "status" for a server that '
            "gives no receipts."
        )
        return [fault], [], []
    asked = sender.ask("GET", sender.beside(f"images/{secrets.token_hex(32)}"), {})
    if asked.status != 404 or document(asked).get("code") != "no_receipt":
        return [sender.error(asked).message], [], []
    device, warnings = said.get("device"), []
    if said.get("auth") == "token" and device is None:
        return [f"{sender.host} wants a token from every device: set destination.token."], [], []
    if device is not None and not device.get("forward"):
        warnings.append(
            f"All images would be the device {device.get('name')}'s at {sender.host}: enrol this "
            "gateway there with `headgate device add NAME --forward` to keep the devices' names."
        )
    if said["accepting"] is not True:
        warnings.append(f"{sender.host} takes no images now: {said.get('reason') or 'no reason'}.")
    if isinstance(said["max_image"], int) and said["max_image"] < max_image:
        warnings.append(
            f"{sender.host} refuses images above {human_size(said['max_image'])}, and up to "
            f"{human_size(max_image)} are taken here; set receiver.max_image alike."
        )
    return [], warnings, [f"each image is confirmed by {PROOFS[ProofKind.RECEIPT]}"]
