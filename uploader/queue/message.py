"""The message that asks for a drain, as any program may put it into the queue. Pure.

It is a task of Celery's protocol 2 (its documentation, "Message Protocol") in the envelope of
kombu's virtual transports. Schedulers that know nothing of Celery send this very text;
docs/QUEUE.md shows it and deploy/aws has it, and tests send both to a real worker.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from uploader.queue.celery_config import TASK

ASKED_AT = "headgate_asked_at"
"""A header: when it was asked for (RFC 3339), so that a run since then is known to have done it."""
SENDER = "headgate_sender"
"""A header: who sends it, for people."""
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


def envelope(queue: str, job: str, *, sender: str, asked_at: str, **wish: str) -> dict[str, Any]:
    """The whole message: ``wish`` is max_time, max_bytes, device, or nothing."""
    return {
        "body": json.dumps([[], wish, {}]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "task": TASK,
            "id": job,
            "lang": "py",
            SENDER: sender,
            ASKED_AT: asked_at,
        },
        "properties": {
            "correlation_id": job,
            "delivery_tag": job,
            "delivery_info": {"exchange": "", "routing_key": queue},
        },
    }


def sent_at(headers: Mapping[str, Any], now: datetime) -> datetime:
    """When the message was asked for; ``now`` if it does not say, or is unreadable."""
    try:
        at = datetime.fromisoformat(str(headers[ASKED_AT]))
    except (KeyError, ValueError):
        return now
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def sender_of(headers: Mapping[str, Any]) -> str:
    """Who sent it, in a word; "queue" if it does not say."""
    said = str(headers.get(SENDER) or "queue")
    return "".join(letter for letter in said if letter.isprintable())[:64] or "queue"


def usable_id(text: str | None) -> bool:
    """Whether this may name a job."""
    return text is not None and _ID.fullmatch(text) is not None
