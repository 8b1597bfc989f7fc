"""An image's receipt in words: where it is, and whether the camera may erase its own copy. Pure."""

from __future__ import annotations

from datetime import UTC

from headgate.spool.image.image import Receipt, State


def in_words(receipt: Receipt, hold: str = "") -> tuple[str, ...]:
    """Sentences, the most important first. ``hold``: by whom and why it is held."""
    keep = "The camera must keep its own copy until then."
    here = "A copy is still on this machine's disk."
    match receipt.state:
        case State.UPLOADED:
            at = receipt.uploaded_at
            when = f", confirmed {at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at else ""
            where = f"It is in {receipt.bucket or 'the destination'} as {receipt.key}{when}."
            gone = "The copy on this machine's disk was deleted to make room."
            return where, "The camera may erase its own copy.", here if receipt.local else gone
        case State.SENDING:
            return "A run is sending it now, and it is safe on this machine's disk.", keep
        case State.SET_ASIDE:
            why = f"It was set aside and is not sent: {receipt.reason or 'the reason is unknown'}."
            back = f"headgate retry {receipt.id} puts it back."
            return why, back, "It is on this machine's disk."
        case State.HELD:
            why = f" ({hold})" if hold else ""
            held = f"A person holds it, or its device{why}: it is not sent until it is released."
            return held, "It is safe on this machine's disk.", keep
        case State.LOST:
            return (
                "It is lost: it was received, and neither its file nor its object is there any "
                "more.",
                *((f"{receipt.reason}.",) if receipt.reason else ()),
                "If the camera still has it, send it again.",
            )
        case State.DISCARDED:
            return (f"A person discarded it: {receipt.reason or 'no reason was given'}.",)
        case State.WAITING:
            tried = f"The last attempt failed: {receipt.reason}." if receipt.reason else ""
            waits = "It waits to be sent, and is safe on this machine's disk."
            return waits, *((tried,) if tried else ()), keep
