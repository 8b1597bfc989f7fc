"""The JSON documents that commands and HTTP have in common: receipts, gaps, jobs, the status. Pure.

Times are RFC 3339 in UTC, bytes are numbers.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from headgate.monitor.snapshot import Snapshot
from headgate.monitor.summary import Verdict
from headgate.settings.instants import rfc3339
from headgate.settings.settings import Settings
from headgate.spool.catalog.device_stats import Gaps
from headgate.spool.image.image import Receipt
from headgate.spool.image.names import device_shown
from headgate.spool.site.jobs import Job


def receipt_fields(receipt: Receipt) -> dict[str, object]:
    """The receipt as devices and people read it; its S3 key only once it is proved to be there."""
    fields: dict[str, object] = {
        "id": receipt.id,
        "sha256": receipt.sha256,
        "size": receipt.size,
        "device": receipt.device,
        "received_at": rfc3339(receipt.received_at),
        "state": receipt.state.value,
        "local": receipt.local,
        "safe_to_erase": receipt.safe_to_erase,
    }
    if receipt.media_type:
        fields["media_type"] = receipt.media_type
    if receipt.key_given:
        fields["idempotency_key"] = receipt.key_given
    if receipt.reason:
        fields["reason"] = receipt.reason
    if (named := device_shown(receipt.device)) != receipt.device:
        fields["device_name"] = named
    if not receipt.remarks.complete:
        fields["complete"] = False
    if warnings := receipt.warnings:
        fields["warnings"] = list(warnings)
    if receipt.safe_to_erase:
        fields["bucket"] = receipt.bucket
        fields["key"] = receipt.key
        fields["etag"] = receipt.etag
        fields["version_id"] = receipt.version_id or None
        if receipt.uploaded_at is not None:
            fields["uploaded_at"] = rfc3339(receipt.uploaded_at)
    return fields


def image_fields(receipt: Receipt) -> dict[str, object]:
    """An image for programs: all that its receipt says, by the names of HTTP as well."""
    known = asdict(receipt) | receipt_fields(receipt)
    known["warnings"] = list(receipt.warnings)
    return known


def gaps_fields(found: Gaps) -> dict[str, object]:
    """The sequence numbers that never arrived, as ranges: so that just those are sent again."""
    return {
        "device": found.device,
        "since": rfc3339(found.since),
        "first": found.first,
        "last": found.last,
        "missing": found.missing,
        "gaps": [{"first": first, "last": last} for first, last in found.gaps],
    }


def status_fields(facts: Snapshot, said: Verdict, settings: Settings) -> dict[str, Any]:
    """All of the page as one JSON document: instants in UTC, bytes as numbers."""
    fields = facts.fields()
    for word, receipts in (("latest", facts.latest), ("aside", facts.aside)):
        fields[word] = [receipt_fields(receipt) for receipt in receipts]
    plain = {key: _plain(value) for key, value in fields.items()}
    return {
        "verdict": {"level": said.level.value, "sentence": said.sentence, "remarks": said.remarks},
        **plain,
        "keep_free_bytes": facts.admission.keep_free_bytes,
        "site": settings.site.name,
        "spool": str(settings.spool.path),
        "bucket": settings.goes_to,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def job_fields(job: Job) -> dict[str, object]:
    """A job as its client reads it."""

    def instant(name: str) -> str | None:
        at = getattr(job, name)
        return None if at is None else rfc3339(at)

    return {
        "id": job.id,
        "state": job.state,
        "asked_at": instant("asked_at"),
        "asked_by": job.sender,
        "max_seconds": job.max_seconds,
        "max_bytes": job.max_bytes or None,
        "device": job.device or None,
        "started_at": instant("started_at"),
        "ended_at": instant("ended_at"),
        "run": job.run or None,
        "outcome": job.outcome or None,
        "exit_code": job.exit_code,
        "succeeded": job.succeeded,
        "images": job.images,
        "bytes": job.bytes,
        "wire_bytes": job.wire_bytes,
        "set_aside": job.set_aside,
        "deferred": job.deferred,
        "message": job.message,
    }
