"""The handshake: all that a sender needs to know to avoid refused uploads."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from app.admission import checks
from app.admission.admission import Gate
from app.admission.auth import Principal
from app.refusals import Refused
from app.upload import fields, form, stalled
from headgate.settings.instants import rfc3339
from headgate.settings.settings import Settings
from headgate.spool.catalog.catalog import Catalog
from headgate.spool.image.names import MEDIA_TYPES

CACHED_SECONDS = 60


def limits(
    gate: Gate, settings: Settings, catalog: Catalog, sender: Principal, now: datetime
) -> dict[str, Any]:
    """The document of ``GET /limits``. With a token it also says what is known of its device."""
    try:
        gate.check_open(settings.receiver.max_image)
        accepting, reason, wait = True, "", 0
    except Refused as refused:
        accepting, reason, wait = False, refused.refusal.code, refused.retry_after or 0
    known: dict[str, Any] = {
        "accepting": accepting,
        "reason": reason,
        "retry_after": wait,
        "max_image": settings.receiver.max_image,
        "max_pixels": settings.receiver.max_pixels,
        "types": sorted(MEDIA_TYPES.values()),
        "field": settings.receiver.field[0],
        "form_fields": list(fields.FIELDS),
        "headers": sorted(fields.HEADERS.values()),
        "max_parts": form.PARTS_MAX,
        "max_field_bytes": form.FIELD_BYTES_MAX,
        "max_headers": checks.MAX_HEADERS,
        "chunked": {"multipart": True, "raw": False},
        "body_seconds": stalled.seconds_for(settings.receiver.max_image),
        "min_rate": stalled.MIN_RATE,
        "device_rate": settings.receiver.device_rate,
        "device_parallel": settings.receiver.device_parallel,
        "intake": settings.receiver.intake,
        "auth": settings.receiver.auth,
        "upload_status": settings.receiver.upload_status,
        "server_time": rfc3339(now),
        "device": None,
    }
    if sender.device:
        seen = catalog.arrivals_of(sender.device)
        known["device"] = {
            "name": sender.device,
            "urgent": sender.urgent,
            "forward": sender.may_forward,
            "last_at": None if seen is None else rfc3339(seen.last_at),
            "images": 0 if seen is None else seen.images,
            "clock_offset_seconds": None if seen is None else seen.clock_offset_seconds,
        }
    return known


def cached(known: dict[str, Any]) -> str:
    """Cache-Control: for a minute, and no longer than it says to wait."""
    seconds = CACHED_SECONDS
    if not known["accepting"]:
        seconds = min(seconds, known["retry_after"])
    return f"{'private, ' if known['device'] else ''}max-age={seconds}"
